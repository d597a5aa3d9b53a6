//! Budgets as written.

use std::time::Duration;

use policy::budget::{Budget, Budgets, OnExhausted, Period};
use policy::money::{Currency, Money};

fn budgets(text: &str) -> Result<Vec<Budget>, String> {
    let read = serde_saphyr::from_str::<Budgets>(text);
    read.map(|budgets| budgets.0).map_err(|fault| fault.without_snippet().to_string())
}

fn one(text: &str) -> Budget {
    let [budget] = <[Budget; 1]>::try_from(budgets(text).unwrap()).unwrap();
    budget
}

fn yuan(cents: u64) -> Money {
    Money { nanos: cents * 10_000_000, currency: Currency::Cny }
}

#[test]
fn the_short_form_is_an_amount_and_a_period() {
    let budget = one("¥50/day");
    assert_eq!((budget.amount, budget.period), (yuan(5_000), Period::Day));
    assert_eq!(budget.zone.iana_name(), Some("UTC"));
    assert_eq!(budget.on_exhausted, OnExhausted::Refuse);
    assert!(budget.alerts.is_empty() && budget.webhook.is_none() && budget.unpriced.is_none());
    assert_eq!(one("50 CNY / 30d").period, Period::Rolling(Duration::from_secs(30 * 86_400)));
    assert_eq!(one("$1.5/total").amount.currency, Currency::Usd);
}

#[test]
fn the_long_form_has_it_all() {
    let text = "
amount: ¥50
period: week
zone: asia/shanghai
on_exhausted: { downgrade: chat-small }
alerts: [80, 50, 80]
webhook: https://hooks.example.com/x?y=z
unpriced: ¥0.05
";
    let budget = one(text);
    assert_eq!((budget.amount, budget.period), (yuan(5_000), Period::Week));
    assert_eq!(budget.zone.iana_name(), Some("Asia/Shanghai"));
    assert_eq!(budget.on_exhausted, OnExhausted::Downgrade("chat-small".into()));
    assert_eq!(budget.alerts, [50, 80]);
    assert_eq!(budget.webhook.as_deref(), Some("https://hooks.example.com/x?y=z"));
    assert_eq!(budget.unpriced, Some(yuan(5)));
    let alert = one("amount: ¥1\nperiod: month\non_exhausted: alert\n");
    assert_eq!(alert.on_exhausted, OnExhausted::Alert);
}

#[test]
fn several_stand_in_a_list() {
    let list = budgets("- ¥50/day\n- { amount: ¥900, period: month }\n").unwrap();
    let periods: Vec<_> = list.iter().map(|budget| budget.period).collect();
    assert_eq!(periods, [Period::Day, Period::Month]);
    assert_eq!(budgets("[]"), Ok(vec![]));
}

#[test]
fn what_is_no_budget_is_said() {
    for (text, what) in [
        ("¥50", "write for example ¥50/day"),
        ("50/day", "no amount of money"),
        ("¥50/year", "`year` is no period"),
        ("¥50/0d", "out of range"),
        ("¥50/59s", "out of range"),
        ("¥50/9999999999999999d", "out of range"),
        ("{ amount: ¥50 }", "missing field `period`"),
        ("{ period: day }", "missing field `amount`"),
        ("{ amount: ¥50, period: day, zone: Asia/Atlantis }", "`Asia/Atlantis` is no time zone"),
        ("{ amount: ¥50, period: day, alerts: [0] }", "1 percent or more"),
        ("{ amount: ¥50, period: day, webhook: example.com }", "no http or https URL"),
        ("{ amount: ¥50, period: day, webhook: \"file:///etc\" }", "no http or https URL"),
        ("{ amount: ¥50, period: day, unpriced: $1 }", "in the currency of `amount`"),
        ("{ amount: ¥50, period: day, on_exhausted: stop }", "stop"),
        ("{ amount: ¥50, period: day, amounts: 5 }", "amounts"),
        ("[[¥50/day]]", "a list in a list"),
        ("- ¥50/day\n-\n", "nothing stands here"),
        ("5", "expected a budget such as ¥50/day"),
    ] {
        let fault = budgets(text).unwrap_err();
        assert!(fault.contains(what), "{text}: {fault}");
    }
}

#[test]
fn they_are_written_as_they_are_read() {
    let text = concat!(
        r#"[{"amount":"¥50","period":"30d","zone":"Asia/Shanghai","#,
        r#""on_exhausted":{"downgrade":"small"},"alerts":[50],"#,
        r#""webhook":"http://127.0.0.1/","unpriced":"¥0.05"},"#,
        r#"{"amount":"$1","period":"90m","zone":"UTC","on_exhausted":"refuse"}]"#,
    );
    let read: Budgets = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
}

#[test]
fn the_schema_takes_either_form() {
    let schema = schemars::schema_for!(Budgets).to_value();
    assert_eq!(schema["anyOf"][0]["type"], "string");
    let budget = &schema["$defs"]["Budget"];
    assert_eq!(budget["required"], serde_json::json!(["amount", "period"]));
    for (name, property) in budget["properties"].as_object().unwrap() {
        assert!(property["description"].is_string() && !property["x-example"].is_null(), "{name}");
    }
}
