//! What goes in comes out.

use ledger::{Amount, Bill, Closing, Line, Opening, Provenance, Tokens, Who};
use proptest::prelude::*;

use crate::world::{attempts, closing, folder, id, open, opening, options, totals};

#[test]
fn a_request_is_found_as_it_was_written() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(1)).unwrap();
    writer.closing(&closing(1)).unwrap();
    ledger.flush().unwrap();

    let reader = ledger.reader().unwrap();
    let whole = reader.request(id(1)).unwrap().unwrap();
    assert_eq!(whole.attempts, std::slice::from_ref(&whole.request.last));
    let last = &whole.request.last;
    assert_eq!(last.key, "key_a");
    assert_eq!(last.upstream_model, "gpt-5-mini");
    assert_eq!(last.ended_ms - last.at_ms, 1500);
    assert_eq!(last.first_event_us, Some(400_123));
    assert_eq!(last.events, 301);
    assert_eq!(last.formula, "1200 input × $0.25/M + 300 output × $2/M = $0.0009");
    assert_eq!(totals(&reader), (1, 1, 900_000));
    assert_eq!(reader.request(id(2)).unwrap(), None);
}

#[test]
fn a_gauge_tells_how_the_ledger_is_and_does_not_keep_it_open() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let gauge = ledger.gauge();
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(1)).unwrap();
    writer.closing(&closing(1)).unwrap();
    ledger.flush().unwrap();
    let status = gauge.status();
    assert_eq!((status.shipped, status.unshipped_bytes, status.healthy), (1, 0, true));
    assert!(status.lag < std::time::Duration::from_secs(60), "{status:?}");
    drop(writer);
    ledger.close();
    assert_eq!(gauge.status().shipped, 1, "how it was");
    let (again, recovered) = open(&options(folder.path()));
    assert_eq!(recovered.attempts, 0, "nothing was held, and nothing was left");
    again.close();
}

#[test]
fn failed_attempts_are_rows_of_their_own_and_part_of_the_sum() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(1)).unwrap();
    let failed = Closing { last_of: None, status: 502, fault: Some("unreachable"), ..closing(1) };
    writer.closing(&failed).unwrap();
    writer.opening(&Opening { attempt: 2, provider: "azure", ..opening(1) }).unwrap();
    writer.closing(&Closing { attempt: 2, last_of: Some(2), ..closing(1) }).unwrap();
    ledger.flush().unwrap();

    let reader = ledger.reader().unwrap();
    let whole = reader.request(id(1)).unwrap().unwrap();
    let providers: Vec<_> = whole.attempts.iter().map(|it| it.provider.as_str()).collect();
    assert_eq!(providers, ["openai", "azure"]);
    assert_eq!(whole.request.last.attempt, 2);
    assert_eq!(whole.request.tokens.input, 2400);
    assert_eq!(totals(&reader), (1, 2, 1_800_000));
    let page = reader.requests(&ledger::Filter::default(), None, 10).unwrap();
    assert_eq!(page.requests, [whole.request]);
}

#[test]
fn a_refusal_is_a_request_without_an_attempt_that_cost_anything() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    let opening = Opening { attempt: 0, provider: "", upstream_model: "", ..opening(1) };
    let closing = Closing {
        attempt: 0,
        last_of: Some(0),
        status: 429,
        outcome: "refused",
        fault: Some("rate_limited"),
        tokens: Tokens::default(),
        provenance: Provenance::None,
        bill: Bill::Nothing,
        lines: &[],
        ..closing(1)
    };
    writer.refusal(&opening, &closing).unwrap();
    ledger.flush().unwrap();
    let reader = ledger.reader().unwrap();
    let refused = reader.request(id(1)).unwrap().unwrap().request;
    assert_eq!((refused.last.outcome.as_str(), refused.costs.len()), ("refused", 0));
    assert_eq!(refused.last.cost, None);
    let usage = reader.usage(&ledger::Filter::default(), &[], &jiff::tz::TimeZone::UTC).unwrap();
    assert_eq!((usage[0].requests, usage[0].errors, usage[0].unpriced), (1, 1, 0));
}

#[test]
fn a_name_that_is_too_long_is_cut_between_letters() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    let long = "喜".repeat(30_000);
    writer.opening(&Opening { model: &long, ..opening(1) }).unwrap();
    writer.closing(&closing(1)).unwrap();
    ledger.flush().unwrap();
    let whole = ledger.reader().unwrap().request(id(1)).unwrap().unwrap();
    assert_eq!(whole.request.last.model, "喜".repeat(66));
}

#[test]
fn however_long_it_took_a_request_is_found_by_its_id() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for (number, took) in [(1, 29_000), (2, 31_000), (3, 7_200_000), (4, -5_000)] {
        writer.opening(&opening(number)).unwrap();
        let at_ms = opening(number).at_ms.saturating_add_signed(took);
        writer.closing(&Closing { at_ms, ..closing(number) }).unwrap();
    }
    ledger.flush().unwrap();
    let reader = ledger.reader().unwrap();
    for number in 1..=4 {
        assert_eq!(reader.request(id(number)).unwrap().unwrap().attempts.len(), 1, "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_record_comes_out_as_it_went_in(
        names in prop::array::uniform8(".{0,40}"),
        counts in prop::array::uniform10(0..=u64::MAX),
        status in 0..=u16::MAX,
        kind in 0..3_u8,
        lines in prop::collection::vec(("[a-z ]{1,12}", 0..=u64::MAX, 0..=u64::MAX), 0..6),
    ) {
        let folder = folder();
        let (ledger, _) = open(&options(folder.path()));
        let mut writer = ledger.writer().unwrap();
        let [key, user, team, org, operation, model, provider, upstream_model] = &names;
        let who = Who { key: Some(key), user: Some(user), team: Some(team), org: Some(org) };
        let opening =
            Opening { who, operation, model, provider, upstream_model, ..opening(1) };
        let lines: Vec<Line<'_>> = lines
            .iter()
            .map(|(bucket, count, rate)| Line { bucket, count: *count, nanos_per_million: *rate })
            .collect();
        let [input, cached_read, cache_write, output, reasoning, nanos, first, total, own, events] =
            counts;
        let tokens = Tokens { input, cached_read, cache_write, output, reasoning };
        let closing = Closing {
            status,
            tokens,
            fault: Some(model).filter(|fault| !fault.is_empty()).map(String::as_str),
            bill: match kind {
                0 => Bill::Nothing,
                1 => Bill::Unpriced,
                _ => Bill::Charge(Amount { nanos, currency: "CNY" }),
            },
            first_event_us: Some(first),
            total_us: total,
            overhead_us: own,
            events,
            lines: &lines,
            ..closing(1)
        };
        writer.opening(&opening).unwrap();
        writer.closing(&closing).unwrap();
        ledger.flush().unwrap();

        let found = attempts(&ledger.reader().unwrap()).remove(0);
        let back = [
            &found.key, &found.user, &found.team, &found.org, &found.operation, &found.model,
            &found.provider, &found.upstream_model,
        ];
        for (name, back) in names.iter().zip(back) {
            prop_assert_eq!(name, back);
        }
        prop_assert_eq!(found.tokens, tokens);
        prop_assert_eq!(found.status, status);
        prop_assert_eq!(&found.fault, model);
        prop_assert_eq!(found.unpriced, kind == 1);
        prop_assert_eq!(found.cost.map(|cost| cost.nanos), (kind == 2).then_some(nanos));
        prop_assert_eq!(found.first_event_us, Some(first));
        prop_assert_eq!((found.total_us, found.overhead_us, found.events), (total, own, events));
        if kind == 2 {
            prop_assert_eq!(found.formula.matches(" × ").count(), lines.len());
        }
    }
}
