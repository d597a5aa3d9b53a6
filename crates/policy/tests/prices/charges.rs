//! Charges and ceilings.

use policy::money::Decimal;
use policy::price::{
    Bucket, Charge, Day, OffPeakConfig, Price, PriceConfig, TierConfig, WindowConfig,
};
use proptest::prelude::*;
use wire::Usage;

/// 2026-11-22 is a Sunday: 10:00 UTC.
const SUNDAY_MS: u64 = 1_795_341_600_000;
const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn written(yaml: &str) -> Price {
    serde_saphyr::from_str::<PriceConfig>(yaml).unwrap().price("a page", "2026-11").unwrap()
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

#[test]
fn a_charge_shows_its_formula() {
    let price = written("{ input: 0.25, output: 2 }");
    assert_eq!(
        price.charge(&usage(1200, 300), 0).formula(),
        "1200 input × $0.25/M + 300 output × $2/M = $0.0009"
    );
    assert_eq!(price.charge(&usage(0, 0), 0).formula(), "nothing = $0");
    let price = written(
        "{ currency: CNY, input: 4, cached_read: 1, cache_write: 5, output: 18, reasoning: 20,
           per_request: 0.005 }",
    );
    let all = Usage {
        input: 1,
        cached_read: 2,
        cache_write: 3,
        output: 4,
        reasoning: 5,
        ..Usage::default()
    };
    assert_eq!(
        price.charge(&all, 0).formula(),
        "1 input × ¥4/M + 2 cached read × ¥1/M + 3 cache write × ¥5/M + 4 output × ¥18/M \
         + 5 reasoning × ¥20/M + 1 request × ¥0.005 = ¥0.005193"
    );
}

#[test]
fn buckets_without_a_rate_of_their_own_cost_what_they_are_part_of() {
    let price = written("{ input: 3, output: 15 }");
    let parts = Usage {
        input: 1,
        cached_read: 10,
        cache_write: 100,
        output: 1000,
        reasoning: 10_000,
        ..Usage::default()
    };
    let whole = price.charge(&usage(111, 11_000), 0);
    assert_eq!(price.charge(&parts, 0).money, whole.money);
}

#[test]
fn a_sum_is_rounded_up_once() {
    // Each line is 0.4 billionths.
    let price = written("{ input: 0.0000004, output: 0.0000004 }");
    assert_eq!(price.charge(&usage(1, 1), 0).money.nanos, 1);
    assert_eq!(price.charge(&usage(2500, 0), 0).money.nanos, 1);
    assert_eq!(price.charge(&usage(2501, 0), 0).money.nanos, 2);
    assert_eq!(price.charge(&usage(0, 0), 0).money.nanos, 0);
}

#[test]
fn what_is_free_is_charged_at_nothing() {
    let charge = written("{ input: 0, output: 0 }").charge(&usage(7, 8), 0);
    assert_eq!(charge.formula(), "7 input × $0/M + 8 output × $0/M = $0");
}

#[test]
fn a_tier_holds_for_the_whole_request_and_counts_cached_input() {
    let price = written(
        "{ input: 1, output: 2, 
           tiers: [{ above: 32000, input: 3, output: 4 }, { above: 128000, input: 5, output: 6 }] }",
    );
    let cost = |usage: &Usage| price.charge(usage, 0).money.nanos;
    assert_eq!(cost(&usage(32_000, 0)), 32_000_000);
    assert_eq!(cost(&usage(32_001, 0)), 96_003_000);
    assert_eq!(cost(&usage(128_001, 10)), 640_005_000 + 60_000);
    let cached = Usage { input: 1, cached_read: 32_000, ..Usage::default() };
    assert_eq!(cost(&cached), 96_003_000);
    assert_eq!(cost(&usage(0, 10)), 20_000);
}

#[test]
fn off_peak_rates_hold_at_their_hours_only() {
    let price = written(
        "{ currency: CNY, input: 2, output: 8,
           off_peak: { offset: '+08:00', input: 1, output: 4, windows: [
           { days: [mon, tue, wed, thu, fri], hours: '00:00-09:00' },
           { days: [mon, tue, wed, thu, fri], hours: '12:00-14:00' },
           { days: [mon, tue, wed, thu, fri], hours: '18:00-00:00' },
           { days: [sat, sun], hours: '00:00-00:00' }] } }",
    );
    let is_off_peak =
        |at_ms| price.charge(&usage(1_000_000, 0), at_ms).money.nanos == 1_000_000_000;
    let beijing = |day: u64, hour: u64, minute: u64| {
        let monday = SUNDAY_MS + DAY_MS - 10 * HOUR_MS - 8 * HOUR_MS;
        monday + day * DAY_MS + hour * HOUR_MS + minute * 60_000
    };
    for (day, hour, minute, off_peak) in [
        (0, 0, 0, true),
        (0, 8, 59, true),
        (0, 9, 0, false),
        (0, 11, 59, false),
        (0, 12, 0, true),
        (0, 14, 0, false),
        (4, 17, 59, false),
        (4, 18, 0, true),
        (4, 23, 59, true),
        (5, 10, 0, true),
        (6, 15, 0, true),
        (7, 10, 0, false),
    ] {
        assert_eq!(is_off_peak(beijing(day, hour, minute)), off_peak, "day {day}, {hour}:{minute}");
    }
}

#[test]
fn off_peak_rates_hold_for_input_of_any_length() {
    let price = written(
        "{ input: 2, output: 2, tiers: [{ above: 1000, input: 9, output: 9 }],
           off_peak: { input: 1, output: 1, windows: [{ days: [sun], hours: '00:00-00:00' }] } }",
    );
    let cost = |input, at_ms| price.charge(&usage(input, 0), at_ms).money.nanos;
    assert_eq!(cost(2000, SUNDAY_MS), 2_000_000);
    assert_eq!(cost(2000, SUNDAY_MS + DAY_MS), 18_000_000);
}

#[test]
fn hours_may_run_into_the_next_day_and_week() {
    let price = written(
        "{ input: 2, output: 2,
           off_peak: { input: 1, output: 1, windows: [{ days: [sun], hours: '22:30-06:00' }] } }",
    );
    let is_off_peak =
        |at_ms| price.charge(&usage(1_000_000, 0), at_ms).money.nanos == 1_000_000_000;
    let sunday = SUNDAY_MS - 10 * HOUR_MS;
    assert!(!is_off_peak(sunday + 22 * HOUR_MS));
    assert!(is_off_peak(sunday + 23 * HOUR_MS));
    assert!(is_off_peak(sunday + DAY_MS + 5 * HOUR_MS));
    assert!(!is_off_peak(sunday + DAY_MS + 6 * HOUR_MS));
    assert!(!is_off_peak(sunday));
}

#[test]
fn sound_within_input_and_output_has_rates_of_its_own() {
    let usage =
        Usage { input: 50, output: 30, audio_input: 40, audio_output: 30, ..Usage::default() };
    let price = written("{ input: 1, output: 2, audio_input: 10, audio_output: 20 }");
    assert_eq!(
        price.charge(&usage, 0).formula(),
        "10 input × $1/M + 40 audio input × $10/M + 30 audio output × $20/M = $0.00101"
    );
    let price = written("{ input: 1, output: 2 }");
    assert_eq!(price.charge(&usage, 0).money.nanos, 110_000, "as input and output otherwise");
}

#[test]
fn images_and_sound_are_charged_for_where_they_are_counted() {
    let price = written(
        "{ input: 1, output: 2, audio_input: 10, audio_output: 20,
           per_image: 0.04, per_request: 0.1 }",
    );
    let counts = [(Bucket::AudioInput, 1000), (Bucket::AudioOutput, 1000), (Bucket::Image, 2)];
    assert_eq!(
        price.charge_counts(&counts, 0).formula(),
        "1000 audio input × $10/M + 1000 audio output × $20/M + 2 image × $0.04 = $0.11"
    );
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let most = decimal("18446744073.709551615");
    let config = PriceConfig {
        input: Some(most),
        output: Some(most),
        per_request: Some(decimal("18446")),
        ..PriceConfig::default()
    };
    let price = config.price("", "").unwrap();
    let all = Usage {
        input: u64::MAX,
        cached_read: u64::MAX,
        cache_write: u64::MAX,
        output: u64::MAX,
        reasoning: u64::MAX,
        audio_input: 0,
        audio_output: u64::MAX,
    };
    assert_eq!(price.charge(&all, u64::MAX).money.nanos, u64::MAX);
    assert_eq!(price.ceiling(u64::MAX, u64::MAX).nanos, u64::MAX);
    assert!(price.charge(&all, u64::MAX).formula().ends_with("= $18446744073.709551615"));
}

fn any_rate() -> impl Strategy<Value = Decimal> {
    let nanos =
        prop_oneof![Just(0), Just(u64::MAX), 0..1000_u64, 0..1_000_000_000_000_u64, any::<u64>()];
    nanos.prop_map(|nanos| Decimal { nanos })
}

fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..2000_u64, 0..2_000_000_u64, any::<u64>()]
}

fn maybe_rate() -> impl Strategy<Value = Option<Decimal>> {
    proptest::option::of(any_rate())
}

fn any_usage() -> impl Strategy<Value = Usage> {
    (any_count(), any_count(), any_count(), any_count(), any_count()).prop_map(
        |(input, cached_read, cache_write, output, reasoning)| Usage {
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_input: input / 3,
            audio_output: output / 2,
        },
    )
}

fn any_tier() -> impl Strategy<Value = TierConfig> {
    (1..2000_u64, any_rate(), maybe_rate(), maybe_rate(), any_rate(), maybe_rate()).prop_map(
        |(above, input, cached_read, cache_write, output, reasoning)| TierConfig {
            above,
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
        },
    )
}

fn any_off_peak() -> impl Strategy<Value = OffPeakConfig> {
    (any_tier(), 0..24_u32, 0..24_u32).prop_map(|(tier, from, to)| OffPeakConfig {
        windows: vec![WindowConfig {
            days: vec![Day::Mon, Day::Sun],
            hours: format!("{from:02}:00-{to:02}:00"),
        }],
        offset: String::from("+08:00"),
        input: tier.input,
        cached_read: tier.cached_read,
        cache_write: tier.cache_write,
        output: tier.output,
        reasoning: tier.reasoning,
    })
}

fn any_price() -> impl Strategy<Value = Price> {
    let tiers = proptest::collection::btree_map(1..2000_u64, any_tier(), 0..4);
    let variant = (tiers, proptest::option::of(any_off_peak()));
    let rates = (any_rate(), maybe_rate(), maybe_rate(), any_rate(), maybe_rate());
    (rates, proptest::option::of(0..18_446_u64), variant).prop_map(
        |((input, cached_read, cache_write, output, reasoning), request, (tiers, off_peak))| {
            let tiers = tiers.into_iter().map(|(above, tier)| TierConfig { above, ..tier });
            let config = PriceConfig {
                input: Some(input),
                cached_read,
                cache_write,
                output: Some(output),
                reasoning,
                per_request: request.map(|whole| Decimal { nanos: whole * 1_000_000_000 }),
                tiers: tiers.collect(),
                off_peak,
                ..PriceConfig::default()
            };
            config.price("", "").unwrap()
        },
    )
}

fn sum(charge: &Charge) -> u128 {
    let products = charge.lines.iter();
    products.fold(0_u128, |sum, line| {
        sum.saturating_add(u128::from(line.count) * u128::from(line.nanos_per_million))
    })
}

proptest! {
    /// Whatever the price, the split into buckets and the time: the law that hard budgets rest on.
    #[test]
    fn no_charge_passes_the_ceiling(
        price in any_price(), usage in any_usage(), more: [u16; 2], at_ms: u64,
    ) {
        let input = usage.input_total().saturating_add(more[0].into());
        let output = usage.output_total().saturating_add(more[1].into());
        // A total that does not fit its number has no ceiling to be held against.
        let fits = |counts: &[u64]| {
            counts.iter().map(|count| u128::from(*count)).sum::<u128>() <= u128::from(u64::MAX)
        };
        prop_assume!(fits(&[usage.input, usage.cached_read, usage.cache_write]));
        prop_assume!(fits(&[usage.output, usage.reasoning]));
        prop_assert!(price.charge(&usage, at_ms).money.nanos <= price.ceiling(input, output).nanos);
    }

    #[test]
    fn the_lines_add_up(price in any_price(), usage in any_usage(), at_ms: u64) {
        let charge = price.charge(&usage, at_ms);
        let expected = sum(&charge).div_ceil(1_000_000).min(u128::from(u64::MAX));
        prop_assert_eq!(u128::from(charge.money.nanos), expected);
        let parts = charge.formula();
        prop_assert_eq!(parts.matches(" × ").count(), charge.lines.len());
        let end = format!(" = {}", charge.money);
        prop_assert!(parts.ends_with(&end));
        let Usage { input, cached_read, cache_write, output, reasoning, .. } = usage;
        let tokens = charge.lines.iter().filter(|line| line.bucket != Bucket::Request);
        let counted: u128 = tokens.map(|line| u128::from(line.count)).sum();
        let used = [input, cached_read, cache_write, output, reasoning];
        prop_assert_eq!(counted, used.iter().map(|count| u128::from(*count)).sum::<u128>());
    }

    /// Within a tier; from one to the next, a price may fall.
    #[test]
    fn more_tokens_never_cost_less(
        rates in (any_rate(), any_rate(), any_rate(), any_rate(), any_rate()),
        usage in any_usage(),
        more in any_usage(),
    ) {
        let (input, cached_read, cache_write, output, reasoning) = rates;
        let config = PriceConfig {
            input: Some(input),
            cached_read: Some(cached_read),
            cache_write: Some(cache_write),
            output: Some(output),
            reasoning: Some(reasoning),
            ..PriceConfig::default()
        };
        let price = config.price("", "").unwrap();
        let larger = Usage {
            input: usage.input.saturating_add(more.input),
            cached_read: usage.cached_read.saturating_add(more.cached_read),
            cache_write: usage.cache_write.saturating_add(more.cache_write),
            output: usage.output.saturating_add(more.output),
            reasoning: usage.reasoning.saturating_add(more.reasoning),
            audio_input: usage.audio_input + more.audio_input,
            audio_output: usage.audio_output + more.audio_output,
        };
        prop_assert!(price.charge(&usage, 0).money.nanos <= price.charge(&larger, 0).money.nanos);
    }

    #[test]
    fn a_ceiling_never_falls(
        price in any_price(), input in any_count(), output in any_count(), more in any_count(),
    ) {
        let least = price.ceiling(input, output);
        prop_assert!(least.nanos <= price.ceiling(input.saturating_add(more), output).nanos);
        prop_assert!(least.nanos <= price.ceiling(input, output.saturating_add(more)).nanos);
    }
}
