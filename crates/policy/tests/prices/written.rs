//! Prices of the configuration.

use std::collections::BTreeMap;

use policy::price::{Overrides, PriceConfig};
use wire::Usage;

fn overrides(yaml: &str) -> Result<Overrides, Vec<(String, String)>> {
    let prices: BTreeMap<String, PriceConfig> = serde_saphyr::from_str(yaml).unwrap();
    Overrides::read(prices.iter().map(|(name, price)| (name.as_str(), price)))
}

fn million(overrides: &Overrides, provider: &str, model: &str) -> Option<String> {
    let usage = Usage { input: 1_000_000, ..Usage::default() };
    overrides.find(provider, model).map(|price| price.charge(&usage, 0).money.to_string())
}

#[test]
fn the_pattern_that_spells_out_most_wins() {
    let overrides = overrides(
        "'*/*': { input: 1, output: 1 }
'xinghe/*': { input: 2, output: 2 }
'xinghe/ernie-*': { currency: CNY, input: '0.8', output: '3.2' }
'xinghe/ernie-4.5': { input: 4, output: 4 }
'xinghe/ernie-4.5*': { input: 5, output: 5 }",
    )
    .unwrap();
    for (provider, model, cost) in [
        ("openai", "gpt", "$1"),
        ("xinghe", "deepseek", "$2"),
        ("xinghe", "ernie-3", "¥0.8"),
        ("xinghe", "ernie-4.5", "$4"),
        ("xinghe", "ernie-4.5-turbo", "$5"),
    ] {
        assert_eq!(
            million(&overrides, provider, model).as_deref(),
            Some(cost),
            "{provider}/{model}"
        );
    }
}

#[test]
fn limits_may_be_written_without_a_price() {
    let overrides = overrides(
        "'a/b': { max_output: 100 }\n'a/*': { input: 1, output: 1, max_input: 50, max_output: 7 }",
    )
    .unwrap();
    let limits = overrides.limits("a", "b");
    assert_eq!((limits.max_input, limits.max_output), (Some(50), Some(100)));
    assert_eq!(million(&overrides, "a", "b").as_deref(), Some("$1"));
    assert_eq!(overrides.limits("x", "y").max_input, None);
}

#[test]
fn faults_are_told_by_name() {
    let rates = "input: 1, output: 1";
    let tier = |above: u32| format!("{{ above: {above}, {rates} }}");
    let hours = |hours: &str, offset: &str| {
        let windows = format!("windows: [{{ hours: '{hours}' }}]");
        format!("{rates}, off_peak: {{ {windows}, offset: '{offset}', {rates} }}")
    };
    for (price, part) in [
        (String::new(), "input"),
        (String::from("input: 1"), "both"),
        (String::from("output: 1, per_request: 1"), "both"),
        (String::from("per_request: 18447"), "18446"),
        (format!("{rates}, tiers: [{}, {}]", tier(5), tier(5)), "above 5"),
        (format!("{rates}, tiers: [{}]", tier(0)), "above 0"),
        (format!("per_request: 1, tiers: [{}]", tier(1)), "need"),
        (hours("9-10", ""), "hours"),
        (hours("09:00-24:30", ""), "hours"),
        (hours("09:00-10:00", "CST"), "UTC"),
    ] {
        let faults = overrides(&format!("'a/b': {{ {price} }}")).expect_err(&price);
        assert_eq!(faults.len(), 1, "{price}");
        assert_eq!(faults[0].0, "a/b");
        assert!(faults[0].1.contains(part), "{price}: {}", faults[0].1);
    }
    let faults = overrides("'ab': { input: 1, output: 1 }").unwrap_err();
    assert!(faults[0].1.contains("provider/model"));
}

#[test]
fn unknown_options_and_negative_amounts_are_errors() {
    for yaml in [
        "{ inputs: 1 }",
        "{ input: -1, output: 1 }",
        "{ input: 1e-12, output: 1 }",
        "{ currency: EUR }",
        "{ input: 1, output: 1, tiers: [{ above: 5 }] }",
        "{ input: 1, output: 1, off_peak: { windows: [] } }",
    ] {
        assert!(serde_saphyr::from_str::<PriceConfig>(yaml).is_err(), "{yaml}");
    }
}

#[test]
fn a_price_survives_being_written_and_read() {
    let yaml = "{ currency: CNY, input: 0.8, cached_read: '0.2', output: 3.2,
                  tiers: [{ above: 32000, input: 1, output: 4 }], max_output: 5 }";
    let config: PriceConfig = serde_saphyr::from_str(yaml).unwrap();
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<PriceConfig>(&json).unwrap(), config);
}
