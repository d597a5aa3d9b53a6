//! What the options of models have come to, as the API tells it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use crate::harness::{Rig, snapshot};

const CONFIG: &str = "
providers:
  a: { profile: openai-compatible, base_url: 'http://a/v1', auth: optional }
  b: { profile: openai-compatible, base_url: 'http://b/v1', auth: optional, prefill: { message: { partial: true } } }
models:
  all: { target: a/x, fallback: [b/y], hedge: 800ms, queue: 5s, retries: 1, single_flight: true, resume: elsewhere, mirror: b/z }
  any-*: { target: a/*, queue: { most: 7 } }
  made: { cascade: [none, all] }
  none: a/x
";

#[tokio::test]
async fn each_model_is_told_with_its_options_and_what_they_came_to() {
    let rig = Rig::new();
    let snapshot = Arc::new(snapshot(CONFIG));
    *rig.memory.plans.lock().unwrap() = Some(Arc::clone(&snapshot));
    rig.memory.now_ms.store(1_000_000, Relaxed);
    let plan = snapshot.plan("all").unwrap();
    let tally = plan.tally();
    (0..4).for_each(|_| tally.beside.count());
    tally.won.count();
    tally.full.count();
    tally.replayed.count();
    tally.resumed.count();
    snapshot.plan("any-1").unwrap().tally().left.count();
    let other = snapshot.plan("any-2").unwrap();

    let list = rig.get("/admin/v1/models").await.ok().json();
    let rows = list["data"].as_array().unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["all", "any-1", "any-2", "default", "made", "none"]);
    let told = &rows[0];
    let side = json!({
        "how": "a hedge after 800 ms, for 5 % of the requests", "begun": 4, "won": 1, "withheld": 0,
    });
    let queue = json!({
        "waiting": 0, "most": 200, "wait_ms": 5000, "admitted": 0, "refused": 0, "left": 0, "full": 1,
    });
    for (name, expected) in [
        ("targets", json!(2)),
        ("retries_left", json!(3)),
        ("side_by_side", side),
        ("queue", queue),
        ("shared", json!({ "single_flight": true, "joined": 0, "replayed": 1 })),
        ("resume", json!({ "resumed": 1, "given_up": 0 })),
        ("mirror", json!("b/z")),
        ("composed", Value::Null),
    ] {
        assert_eq!(told[name], expected, "{name}");
    }
    // What a pattern fits is counted together.
    assert_eq!(other.tally().left.get(), 1);
    assert_eq!((&rows[2]["plan"], &rows[2]["queue"]["left"]), (&json!("any-*"), &json!(1)));
    assert_eq!(rows[4]["composed"], "a cascade of none, all");
    for name in ["side_by_side", "queue", "resume", "mirror"] {
        assert_eq!(rows[5][name], Value::Null, "{name}");
    }
    let page = rig.get("/admin/v1/models?limit=2&after=any-1").await.ok().json();
    assert_eq!((&page["data"][0]["id"], &page["next"]), (&json!("any-2"), &json!("default")));
}
