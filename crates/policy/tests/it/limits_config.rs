//! Limits as written.

use policy::limit::{Limit, LimitsMap, Meter, Window};

fn limits(text: &str) -> Result<Vec<Limit>, String> {
    let read = serde_saphyr::from_str::<LimitsMap>(text);
    read.map(|limits| limits.0).map_err(|fault| fault.without_snippet().to_string())
}

fn limit(meter: Meter, window: Option<Window>, amount: u64, burst: Option<u64>) -> Limit {
    Limit { meter, amount, window, burst }
}

#[test]
fn every_name_says_what_it_counts() {
    let meters = [
        ("r", Meter::Requests),
        ("t", Meter::Tokens),
        ("input_t", Meter::InputTokens),
        ("output_t", Meter::OutputTokens),
    ];
    let windows =
        [("s", Window::Second), ("m", Window::Minute), ("h", Window::Hour), ("d", Window::Day)];
    for (what, meter) in meters {
        for (time, window) in windows {
            let expected = limit(meter, Some(window), 5, None);
            let name = format!("{what}p{time}");
            assert_eq!(limits(&format!("{name}: 5")), Ok(vec![expected]), "{name}");
            assert_eq!(expected.name(), name);
        }
    }
    let expected = limit(Meter::Concurrency, None, 5, None);
    assert_eq!(limits("concurrency: 5"), Ok(vec![expected]));
    assert_eq!(expected.name(), "concurrency");
}

#[test]
fn amounts_may_be_in_thousands_and_millions_and_have_a_burst() {
    let minute = Some(Window::Minute);
    let text =
        "tpm: 200k\nrpd: \"2M\"\ninput_tpm: { amount: 1M, burst: 50k }\nrpm: {amount: 600}\n";
    assert_eq!(
        limits(text),
        Ok(vec![
            limit(Meter::Tokens, minute, 200_000, None),
            limit(Meter::Requests, Some(Window::Day), 2_000_000, None),
            limit(Meter::InputTokens, minute, 1_000_000, Some(50_000)),
            limit(Meter::Requests, minute, 600, None),
        ])
    );
    assert_eq!(limits("{}"), Ok(vec![]));
}

#[test]
fn what_is_no_limit_is_said() {
    for (text, what) in [
        ("rpx: 5", "unknown field `rpx`"),
        ("rpm: 0", "0 lets nothing through"),
        ("rpm: 0k", "0 lets nothing through"),
        ("rpm: -5", "`-5` is no amount"),
        ("rpm: 1.5", "expected an amount such as 600, 200k or 2M"),
        ("rpm: 5x", "`5x` is no amount"),
        ("rpm: k", "`k` is no amount"),
        ("rpm: \"\"", "`` is no amount"),
        ("rpm: [5]", "expected an amount such as 600, 200k or 2M"),
        ("rpm: 99999999999999999M", "is too large an amount"),
        ("rpm: { amount: 5, burst: 6 }", "the burst 6 is more than the amount 5"),
        ("rpm: { amount: 5, burst: 0 }", "0 lets nothing through"),
        ("rpm: { burst: 6 }", "missing field `amount`"),
        ("rpm: { amount: { amount: 6 } }", "expected an amount such as 600, 200k or 2M"),
        ("rpm: { amount: 5, brust: 6 }", "unknown field `brust`"),
        ("concurrency: { amount: 5, burst: 2 }", "`concurrency` has no burst"),
        ("rpm: 5\nrpm: 6", "rpm"),
    ] {
        let fault = limits(text).unwrap_err();
        assert!(fault.contains(what), "{text}: {fault}");
    }
}

#[test]
fn a_fault_has_its_place() {
    let fault = serde_saphyr::from_str::<LimitsMap>("rpm: 5\ntpm: many\n").unwrap_err();
    assert_eq!(fault.without_snippet().location().map(|at| at.line()), Some(2));
}

#[test]
fn they_are_written_as_they_are_read() {
    let text = r#"{"tpm":200000,"rps":{"amount":100,"burst":20},"concurrency":8}"#;
    let limits: LimitsMap = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&limits).unwrap(), text);
    assert!(serde_json::from_str::<LimitsMap>(r#"{"rpm":5,"rpm":6}"#).is_err());
}

#[test]
fn the_schema_names_them_all() {
    let schema = schemars::schema_for!(LimitsMap).to_value();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(properties.len(), 17);
    assert_eq!(properties["input_tpm"]["description"], "Input tokens per minute.");
    assert_eq!(properties["concurrency"]["description"], "Requests at once.");
    assert_eq!(properties["rps"]["x-example"], 600);
    for name in properties.keys() {
        assert_eq!(limits(&format!("{name}: 5")).unwrap()[0].name(), name);
    }
}
