//! How the answers of models and of their shadows compare, as the API tells it.

use std::sync::Arc;

use policy::health::mirrored::{Answer, End, Likeness};
use policy::money::{Currency, Money};
use serde_json::{Value, json};

use crate::harness::{Rig, snapshot};

const CONFIG: &str = "
providers:
  a: { profile: openai-compatible, base_url: 'http://a/v1', auth: optional }
models:
  m: { target: a/x, mirror: a/y }
  n: { target: a/x, mirror: { to: a/z, share: 5 } }
";

#[tokio::test]
async fn each_model_with_a_shadow_is_told_with_its_sums_and_page_by_page() {
    let rig = Rig::new();
    let snapshot = Arc::new(snapshot(CONFIG));
    *rig.memory.plans.lock().unwrap() = Some(Arc::clone(&snapshot));
    let plan = snapshot.plan("m").unwrap();
    let mirrored = &plan.mirror().unwrap().mirrored;
    (0..4).for_each(|_| mirrored.drawn());
    mirrored.dropped();
    mirrored.skipped();
    let main = Answer {
        end: End::Whole,
        total_ms: 100,
        first_event_ms: Some(2),
        cost: Some(Money { nanos: 1_500_000_000, currency: Currency::Usd }),
        output_tokens: 7,
        characters: Some(20),
    };
    let shadow = Answer { total_ms: 300, cost: None, ..main };
    let likeness = Likeness { similarity: Some(0.25), same_finish: Some(true) };
    mirrored.ended(&main, &shadow, likeness);
    mirrored.ended(&main, &Answer { end: End::Failed, ..shadow }, Likeness::default());

    let list = rig.get("/admin/v1/mirrors").await.json();
    let rows = list["data"].as_array().unwrap();
    let ids: Vec<&Value> = rows.iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, ["m>a/y", "n>a/z"]);
    let told = &rows[0];
    assert_eq!((&told["model"], &told["to"]), (&json!("m"), &json!("a/y")));
    for (name, expected) in [
        ("drawn", json!(4)),
        ("dropped", json!(1)),
        ("skipped", json!(1)),
        ("ended", json!(2)),
        ("compared", json!(1)),
        ("similarity", json!(0.25)),
        ("same_finish", json!(1.0)),
    ] {
        assert_eq!(told[name], expected, "{name}");
    }
    assert_eq!((&told["main"]["errors"], &told["shadow"]["errors"]), (&json!(0), &json!(1)));
    assert_eq!(told["main"]["cost"], "$1.5");
    assert_eq!(told["shadow"]["cost"], Value::Null);
    assert_eq!(told["shadow"]["total_ms"]["mean"], 300.0);
    assert_eq!(told["main"]["first_event_ms"]["mean"], 2.0);
    assert_eq!(told["main"]["first_event_ms"]["p95"], Value::Null, "of one there is none");
    assert_eq!(rows[1]["main"]["total_ms"], Value::Null);

    let page = rig.get("/admin/v1/mirrors?limit=1").await.json();
    assert_eq!((&page["has_more"], &page["next"]), (&json!(true), &json!("m>a/y")));
    let page = rig.get("/admin/v1/mirrors?limit=1&after=m%3Ea/y").await.json();
    assert_eq!((&page["has_more"], &page["data"][0]["id"]), (&json!(false), &json!("n>a/z")));
    let page = rig.get("/admin/v1/mirrors?model=n").await.json();
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
}
