//! Token counts come out disjoint, whatever convention and nonsense they came in.

use proptest::prelude::*;
use proptest::sample::select;
use wire::Usage;
use wire::reply::glance;

/// The usage of a reply whose `usage` is this JSON text.
fn read(usage: &str) -> Option<Usage> {
    let data = format!(r#"{{"choices":[],"usage":{usage}}}"#);
    glance(data.as_bytes(), &[]).unwrap_or_else(|_| panic!("unreadable: {usage}")).usage
}

/// Input, cached read, cache write, output, reasoning.
fn buckets(usage: &str) -> [u64; 5] {
    let told = read(usage).unwrap_or_else(|| panic!("no usage in {usage}"));
    [told.input, told.cached_read, told.cache_write, told.output, told.reasoning]
}

#[test]
fn sound_is_told_apart_within_input_and_output() {
    for (details, wanted) in [
        (("20", "30"), (20, 30)),
        (("0", "0"), (0, 0)),
        (("-1", "\"7\""), (0, 0)),
        // No more of it than there is beside the cache and reasoning.
        (("900", "900"), (36, 70)),
    ] {
        let (heard, spoken) = details;
        let told = read(&format!(
            r#"{{"prompt_tokens":100,"completion_tokens":90,"prompt_tokens_details":{{"cached_tokens":64,"audio_tokens":{heard}}},"completion_tokens_details":{{"reasoning_tokens":20,"audio_tokens":{spoken}}}}}"#,
        ));
        let told = told.unwrap();
        assert_eq!((told.audio_input, told.audio_output), wanted, "{details:?}");
        assert_eq!((told.input_total(), told.output_total()), (100, 90));
    }
}

#[test]
fn every_providers_convention_becomes_the_same_buckets() {
    for (who, usage, wanted) in [
        (
            "plain",
            r#"{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}"#,
            [10, 0, 0, 4, 0],
        ),
        (
            "OpenAI, cached inside input",
            r#"{"prompt_tokens":100,"completion_tokens":30,"prompt_tokens_details":{"cached_tokens":64,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":20,"accepted_prediction_tokens":0}}"#,
            [36, 64, 0, 10, 20],
        ),
        (
            "DeepSeek hits",
            r#"{"prompt_tokens":100,"completion_tokens":5,"prompt_cache_hit_tokens":80,"prompt_cache_miss_tokens":20,"prompt_tokens_details":{"cached_tokens":80}}"#,
            [20, 80, 0, 5, 0],
        ),
        (
            "DeepSeek hits only",
            r#"{"prompt_tokens":100,"prompt_cache_hit_tokens":80}"#,
            [20, 80, 0, 0, 0],
        ),
        (
            "Moonshot",
            r#"{"prompt_tokens":50,"completion_tokens":5,"cached_tokens":19}"#,
            [31, 19, 0, 5, 0],
        ),
        (
            "Responses names",
            r#"{"input_tokens":9,"output_tokens":8,"input_tokens_details":{"cached_tokens":7},"output_tokens_details":{"reasoning_tokens":6}}"#,
            [2, 7, 0, 2, 6],
        ),
        (
            "cache writes",
            r#"{"prompt_tokens":100,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":30}}"#,
            [10, 60, 30, 1, 0],
        ),
        (
            "cache creation",
            r#"{"prompt_tokens":100,"prompt_tokens_details":{"cache_creation_input_tokens":30}}"#,
            [70, 0, 30, 0, 0],
        ),
        (
            "new-api, both spellings",
            r#"{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14,"input_tokens":0,"output_tokens":0,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":1},"input_tokens_details":null}"#,
            [7, 3, 0, 3, 1],
        ),
        (
            "both spellings the other way",
            r#"{"prompt_tokens":0,"input_tokens":10,"completion_tokens":0,"output_tokens":4}"#,
            [10, 0, 0, 4, 0],
        ),
        (
            "both spellings of writes",
            r#"{"prompt_tokens":9,"prompt_tokens_details":{"cache_write_tokens":0,"cache_creation_input_tokens":5}}"#,
            [4, 0, 5, 0, 0],
        ),
        (
            "details null",
            r#"{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":null,"completion_tokens_details":null}"#,
            [10, 0, 0, 4, 0],
        ),
        ("nothing", "{}", [0; 5]),
        ("unknown", r#"{"tokens":7,"queue_time":0.1,"cost":1e400}"#, [0; 5]),
    ] {
        assert_eq!(buckets(usage), wanted, "{who}");
    }
}

#[test]
fn parts_larger_than_their_whole_are_cut_to_it() {
    for (usage, wanted) in [
        (r#"{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":9}}"#, [0, 5, 0, 0, 0]),
        (r#"{"prompt_tokens":5,"prompt_cache_hit_tokens":18446744073709551615}"#, [0, 5, 0, 0, 0]),
        (
            r#"{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":9}}"#,
            [0, 3, 2, 0, 0],
        ),
        (
            r#"{"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":6}}"#,
            [0, 0, 0, 0, 5],
        ),
        (
            r#"{"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":6}}"#,
            [0; 5],
        ),
    ] {
        assert_eq!(buckets(usage), wanted, "{usage}");
    }
}

#[test]
fn a_count_that_is_no_whole_number_counts_as_nothing_and_hides_nothing() {
    for odd in [
        "-1",
        "-0",
        "1.5",
        "7.0",
        "1e300",
        "1e400",
        "-1e400",
        "18446744073709551616",
        "\"7\"",
        "\"\"",
        "null",
        "true",
        "[]",
        "[7]",
        "{}",
        "{\"a\":7}",
        "\"\\ud800\"",
        "123456789012345678901234567890",
    ] {
        let usage = format!(r#"{{"prompt_tokens":{odd},"completion_tokens":4}}"#);
        assert_eq!(buckets(&usage), [0, 0, 0, 4, 0], "{odd}");
        let usage = format!(
            r#"{{"prompt_tokens":6,"completion_tokens":{odd},"cached_tokens":{odd},"total_tokens":{odd}}}"#
        );
        assert_eq!(buckets(&usage), [6, 0, 0, 0, 0], "{odd}");
        let usage = format!(
            r#"{{"prompt_tokens":6,"completion_tokens":4,
            "prompt_tokens_details":{{"cached_tokens":{odd},"cache_write_tokens":1}},
            "completion_tokens_details":{{"reasoning_tokens":{odd}}}}}"#
        );
        assert_eq!(buckets(&usage), [5, 0, 1, 4, 0], "{odd}");
    }
}

#[test]
fn details_of_an_odd_form_hide_nothing() {
    for odd in ["null", "[]", "{}", "0", "-1.5", "\"none\"", "true", "{\"cached_tokens\":{}}"] {
        let usage = format!(
            r#"{{"prompt_tokens":6,"prompt_tokens_details":{odd},"completion_tokens":4,
            "completion_tokens_details":{odd},"input_tokens_details":{odd},"output_tokens_details":{odd}}}"#
        );
        assert_eq!(buckets(&usage), [6, 0, 0, 4, 0], "{odd}");
    }
}

#[test]
fn totals_add_up_and_never_overflow() {
    let most = u64::MAX;
    let usage = Usage {
        input: 1,
        cached_read: 2,
        cache_write: 3,
        output: 4,
        reasoning: 5,
        ..Usage::default()
    };
    assert_eq!((usage.input_total(), usage.output_total()), (6, 9));
    let usage = Usage {
        input: most,
        cached_read: most,
        cache_write: 1,
        output: most,
        reasoning: 1,
        ..Usage::default()
    };
    assert_eq!((usage.input_total(), usage.output_total()), (most, most));
    let usage =
        read(r#"{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615}"#);
    assert_eq!(usage.map(|usage| (usage.input_total(), usage.output_total())), Some((most, most)));
}

/// The JSON text of a count, and what it should count as.
fn count() -> impl Strategy<Value = Option<(String, u64)>> {
    let odd = select(vec!["-3", "1.5", "1e300", "1e400", "null", "\"12\"", "[]", "{}", "true"]);
    prop::option::weighted(
        0.8,
        prop_oneof![
            4 => (0_u64..50).prop_map(|number| (number.to_string(), number)),
            1 => any::<u64>().prop_map(|number| (number.to_string(), number)),
            2 => odd.prop_map(|text| (text.to_owned(), 0)),
        ],
    )
}

type Told = Option<(String, u64)>;

fn members(all: &[(&str, &Told)]) -> String {
    let written =
        |(name, told): &(&str, &Told)| told.as_ref().map(|(text, _)| format!("\"{name}\":{text}"));
    all.iter().filter_map(written).collect::<Vec<_>>().join(",")
}

fn number(told: &Told) -> u64 {
    told.as_ref().map_or(0, |(_, number)| *number)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn buckets_are_disjoint_and_sum_to_what_was_told(
        input in count(), output in count(), cached in count(), hits in count(), moonshot in count(),
        written in count(), reasoning in count(), responses_names in any::<bool>(),
    ) {
        let names = if responses_names {
            ["input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details"]
        } else {
            ["prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"]
        };
        let counts = members(&[(names[0], &input), (names[1], &output), ("prompt_cache_hit_tokens", &hits), ("cached_tokens", &moonshot)]);
        let details = members(&[("cached_tokens", &cached), ("cache_write_tokens", &written)]);
        let usage = format!(
            r#"{{{counts}{}"{}":{{{details}}},"{}":{{{}}}}}"#,
            if counts.is_empty() { "" } else { "," }, names[2], names[3], members(&[("reasoning_tokens", &reasoning)]),
        );
        let told = read(&usage).unwrap();
        let sum = u128::from(told.input) + u128::from(told.cached_read) + u128::from(told.cache_write);
        prop_assert_eq!(sum, u128::from(number(&input)), "{}", usage);
        let sum = u128::from(told.output) + u128::from(told.reasoning);
        prop_assert_eq!(sum, u128::from(number(&output)), "{}", usage);
        let largest = number(&cached).max(number(&hits)).max(number(&moonshot));
        prop_assert_eq!(told.cached_read, largest.min(number(&input)), "{}", usage);
        prop_assert_eq!(told.reasoning, number(&reasoning).min(number(&output)), "{}", usage);
        prop_assert!(told.cache_write <= number(&written));
    }

    #[test]
    fn any_json_in_any_place_is_survived(value in crate::strategies::value(), place in 0_usize..4) {
        let usage = match place {
            0 => value,
            1 => format!(r#"{{"prompt_tokens":{value},"prompt_tokens_details":{value},"cached_tokens":{value}}}"#),
            2 => format!(r#"{{"input_tokens":4,"input_tokens_details":{{"cached_tokens":{value}}}}}"#),
            _ => format!(r#"{{"completion_tokens":{value},"output_tokens_details":{{"reasoning_tokens":{value}}}}}"#),
        };
        let told = read(&usage);
        prop_assert!(told.is_some() || place == 0, "{}", usage);
        prop_assert!(told.is_none() || usage.starts_with('{'), "{}", usage);
        if let Some(told) = told {
            prop_assert!(told.input_total() <= 7 && told.output_total() <= 7, "{}", usage);
        }
    }
}
