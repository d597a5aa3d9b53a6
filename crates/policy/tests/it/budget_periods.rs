//! Calendar periods: where days, weeks and months begin, whatever the clocks do.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use policy::budget::{Period, Span};
use proptest::prelude::*;

pub(super) fn ms(text: &str) -> u64 {
    let at: Timestamp = text.parse().unwrap();
    u64::try_from(at.as_millisecond()).unwrap()
}

fn assert_span(period: Period, zone: &str, start: &str, end: &str) {
    let zone = TimeZone::get(zone).unwrap();
    let span = Span { start_ms: ms(start), end_ms: ms(end) };
    for at_ms in [span.start_ms, (span.start_ms + span.end_ms) / 2, span.end_ms - 1] {
        assert_eq!(period.span(&zone, at_ms), span, "{period} at {at_ms}");
    }
    assert_eq!(period.span(&zone, span.start_ms - 1).end_ms, span.start_ms);
    assert_eq!(period.span(&zone, span.end_ms).start_ms, span.end_ms);
}

#[test]
fn days_begin_at_midnight_where_the_zone_is() {
    let day = |zone, start, end| assert_span(Period::Day, zone, start, end);
    day("UTC", "2024-02-29T00:00Z", "2024-03-01T00:00Z");
    day("Asia/Shanghai", "2024-02-28T16:00Z", "2024-02-29T16:00Z");
    day("Asia/Kathmandu", "2023-12-31T18:15Z", "2024-01-01T18:15Z");
    // 23 and 25 hours; 24 and a half.
    day("America/New_York", "2024-03-10T05:00Z", "2024-03-11T04:00Z");
    day("America/New_York", "2024-11-03T04:00Z", "2024-11-04T05:00Z");
    day("Australia/Lord_Howe", "2024-04-06T13:00Z", "2024-04-07T13:30Z");
}

#[test]
fn days_begin_once_where_midnight_is_skipped_or_comes_twice() {
    let day = |zone, start, end| assert_span(Period::Day, zone, start, end);
    // 00:00 becomes 01:00; 24:00 becomes 23:00.
    day("America/Santiago", "2024-09-08T04:00Z", "2024-09-09T03:00Z");
    day("America/Santiago", "2024-04-06T03:00Z", "2024-04-07T04:00Z");
    // 01:00 becomes 00:00.
    day("America/Havana", "2024-11-03T04:00Z", "2024-11-04T05:00Z");
    // A whole day left out.
    day("Pacific/Apia", "2011-12-29T10:00Z", "2011-12-30T10:00Z");
    day("Pacific/Apia", "2011-12-30T10:00Z", "2011-12-31T10:00Z");
    // 00:01 becomes 23:01 of the day before, which has ended by then.
    day("America/St_Johns", "2010-11-06T02:30Z", "2010-11-07T02:30Z");
    day("America/St_Johns", "2010-11-07T02:30Z", "2010-11-08T03:30Z");
    let zone = TimeZone::get("America/St_Johns").unwrap();
    let span = Period::Day.span(&zone, ms("2010-11-07T03:00Z"));
    assert_eq!(span.end_ms, ms("2010-11-08T03:30Z"));
}

#[test]
fn weeks_begin_on_monday() {
    let week = |zone, start, end| assert_span(Period::Week, zone, start, end);
    week("UTC", "2024-12-30T00:00Z", "2025-01-06T00:00Z");
    week("Asia/Shanghai", "2024-02-25T16:00Z", "2024-03-03T16:00Z");
    week("America/New_York", "2024-03-04T05:00Z", "2024-03-11T04:00Z");
    week("America/New_York", "2024-10-28T04:00Z", "2024-11-04T05:00Z");
}

#[test]
fn months_end_on_their_last_day() {
    let month = |zone, start, end| assert_span(Period::Month, zone, start, end);
    month("UTC", "2024-02-01T00:00Z", "2024-03-01T00:00Z");
    month("UTC", "2023-02-01T00:00Z", "2023-03-01T00:00Z");
    month("UTC", "2024-12-01T00:00Z", "2025-01-01T00:00Z");
    month("Asia/Shanghai", "2024-01-31T16:00Z", "2024-02-29T16:00Z");
    month("America/New_York", "2024-03-01T05:00Z", "2024-04-01T04:00Z");
    month("America/New_York", "2024-11-01T04:00Z", "2024-12-01T05:00Z");
}

#[test]
fn there_is_a_span_at_any_time() {
    let ends = [0, 1, 253_402_207_200_000, u64::MAX / 2, u64::MAX];
    let zones = ["UTC", "Pacific/Kiritimati", "Pacific/Niue"];
    for (at_ms, zone) in ends.into_iter().flat_map(|at| zones.map(|zone| (at, zone))) {
        let zone = TimeZone::get(zone).unwrap();
        for period in [Period::Day, Period::Week, Period::Month, Period::Total] {
            let Span { start_ms, end_ms } = period.span(&zone, at_ms);
            assert!(start_ms <= at_ms && (at_ms < end_ms || end_ms == u64::MAX));
        }
    }
}

fn zones() -> impl Strategy<Value = TimeZone> {
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    assert!(names.len() > 400, "the time zones come with the program");
    prop::sample::select(names).prop_map(|name| TimeZone::get(&name).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// In every zone, one span follows the other without a gap, and is about as long as it says.
    #[test]
    fn spans_tile_time(
        zone in zones(),
        at_ms in ms("1970-03-01T00:00Z")..ms("2070-01-01T00:00Z"),
        (period, days) in prop::sample::select(vec![
            (Period::Day, 1..=1_u64), (Period::Week, 7..=7), (Period::Month, 28..=31),
        ]),
    ) {
        let mut span = period.span(&zone, at_ms);
        prop_assert!((span.start_ms..span.end_ms).contains(&at_ms));
        let (hour, day) = (3_600_000, 24 * 3_600_000);
        for _ in 0..5 {
            let length = span.end_ms - span.start_ms;
            // Zones have changed by a whole day.
            prop_assert!(length + 25 * hour >= days.start() * day);
            prop_assert!(length <= days.end() * day + 25 * hour);
            prop_assert_eq!(period.span(&zone, span.end_ms - 1), span);
            let next = period.span(&zone, span.end_ms);
            prop_assert_eq!(next.start_ms, span.end_ms);
            span = next;
        }
    }
}
