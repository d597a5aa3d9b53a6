//! Where requests go: what is told of a plan, to whom, and how its targets are.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use console::store::now_ms;
use policy::Plan;
use policy::directory::{GroupConfig, KeyRecord, Kind};
use policy::health::breaker::{IN_A_ROW, OPEN_MS};
use policy::health::{Cause, Lease, THROTTLED_MS};
use serde_json::{Value, json};

use crate::harness::{ENV, Reply, Rig, snapshot};

const CONFIG: &str = "
providers:
  a: { profile: openai-compatible, base_url: 'http://a/v1', api_keys: [k1, k2], region: cn }
  b: { profile: openai-compatible, base_url: 'http://b/v1', auth: optional, region: us }
prices:
  a/x: { currency: CNY, input: 2, output: 8 }
models:
  m: { fallback: [a/x, b/y] }
  w:
    when:
      - { if: { header: { x-tier: gold } }, use: a/gold }
      - { if: { metadata: { centre: '4711' } }, use: a/centre }
      - { if: { team: red }, use: a/red }
      - { if: { key: ci }, use: a/ci }
      - { if: { input_over: 1k }, use: a/long }
      - { if: { tools: true }, use: a/tools }
      - { if: { images: true }, use: a/images }
      - { if: { operations: [embedding] }, use: a/embedding }
      - { if: { hours: '02:00-03:00' }, use: a/night }
      - { use: b/rest }
  'gpt-*': b/*
timeouts: { connect: 2s, first_event: 3s, idle: 4s, total: 5s }
";

/// A console over these plans, and the plan of `m`.
fn planned() -> (Rig, Arc<Plan>) {
    let rig = Rig::new();
    let snapshot = Arc::new(snapshot(CONFIG));
    let plan = snapshot.plan("m").unwrap();
    *rig.memory.plans.lock().unwrap() = Some(snapshot);
    rig.memory.now_ms.store(1_000_000, Relaxed);
    (rig, plan)
}

/// A key of the file.
fn file_key(name: &str, team: Option<&str>, terms: Value) -> KeyRecord {
    KeyRecord {
        id: name.into(),
        name: name.into(),
        team: team.map(str::to_owned),
        terms: serde_json::from_value(terms).unwrap(),
        ..KeyRecord::default()
    }
}

async fn explain(rig: &Rig, body: Value) -> Reply {
    rig.post("/admin/v1/explain", body).await
}

/// The targets that would be asked, in their order.
fn targets(told: &Value) -> Vec<&str> {
    let candidates = told["candidates"].as_array().unwrap();
    candidates.iter().map(|one| one["target"].as_str().unwrap()).collect()
}

/// Fails at a target of a plan until it is ejected.
fn eject(plan: &Plan, target: usize) {
    for _ in 0..IN_A_ROW {
        let lease = Lease::begin(&plan.targets()[target].live, false, 1_000_000).unwrap();
        let _ = lease.failed(Cause::Transient, None, 1_000_000);
    }
}

/// Whether a Unix time is about so long from now.
fn is_in(until: &Value, ms: u64) -> bool {
    let ahead = until.as_u64().unwrap().saturating_sub(now_ms());
    ahead <= ms && ahead + 10_000 > ms
}

#[tokio::test]
async fn a_plan_is_told_in_its_order_with_reasons_costs_and_clocks() {
    let (rig, _) = planned();
    let told = explain(&rig, json!({ "model": "m", "input_tokens": 500_000 })).await.ok().json();
    assert_eq!((&told["object"], &told["plan"]), (&json!("explanation"), &json!("m")));
    assert_eq!((&told["key"], &told["most_attempts"]), (&Value::Null, &json!(4)));
    assert_eq!(told["retries_left"], 3);
    assert_eq!(targets(&told), ["a/x", "b/y"]);
    let [first, second] = &told["candidates"].as_array().unwrap()[..] else { panic!("{told}") };
    assert_eq!((&first["why"], &second["why"]), (&json!("tier 1 of 2"), &json!("tier 2 of 2")));
    assert_eq!((&first["region"], &second["region"]), (&json!("cn"), &json!("us")));
    assert_eq!(first["input_cost"], json!({ "amount": "¥1", "currency": "CNY" }));
    assert_eq!(second["input_cost"], Value::Null, "a price that is not known is not 0");
    let clocks =
        json!({ "connect_ms": 2000, "first_event_ms": 3000, "idle_ms": 4000, "total_ms": 5000 });
    assert_eq!(first["clocks"], clocks);
    let closed = json!({ "state": "closed", "until_ms": null, "unreached": false, "percent": 100 });
    assert_eq!(first["breaker"], closed);
    assert_eq!(first["credentials"].as_array().unwrap().len(), 2);
    assert_eq!(told["skipped"], json!([]));
    let told = explain(&rig, json!({ "model": "m" })).await.ok().json();
    assert_eq!(told["candidates"][0]["input_cost"], Value::Null, "nobody said how long it is");
    let told = explain(&rig, json!({ "model": "gpt-9" })).await.ok().json();
    assert_eq!((&told["model"], &told["plan"]), (&json!("gpt-9"), &json!("gpt-*")));
    assert_eq!(targets(&told), ["b/9"]);
}

#[tokio::test]
async fn every_fact_of_a_request_counts() {
    let (rig, _) = planned();
    let red = GroupConfig::default();
    rig.memory.file.lock().unwrap().insert((Kind::Team, "red".into()), red);
    *rig.memory.file_keys.lock().unwrap() = vec![
        file_key("r", Some("red"), json!({})),
        file_key("ci", None, json!({})),
        file_key("c", None, json!({ "metadata": { "centre": "4711" } })),
    ];
    for (more, expected) in [
        (json!({}), "b/rest"),
        (json!({ "headers": { "X-Tier": "gold" } }), "a/gold"),
        (json!({ "headers": { "x-tier": "tin" } }), "b/rest"),
        (json!({ "metadata": { "centre": "4711" } }), "a/centre"),
        (json!({ "key": "c", "metadata": { "centre": "1" } }), "a/centre"),
        (json!({ "key": "r" }), "a/red"),
        (json!({ "key": "ci" }), "a/ci"),
        (json!({ "input_tokens": 1001 }), "a/long"),
        (json!({ "input_tokens": 1000 }), "b/rest"),
        (json!({ "tools": true }), "a/tools"),
        (json!({ "images": true }), "a/images"),
        (json!({ "operation": "embedding" }), "a/embedding"),
        (json!({ "at": "2026-11-22T02:30:00Z" }), "a/night"),
        (json!({ "at": "2026-11-22T02:30:00+08:00" }), "b/rest"),
    ] {
        let mut body = json!({ "model": "w", "at": "2026-11-22T12:00:00Z" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let told = explain(&rig, body).await.ok().json();
        assert_eq!(targets(&told), [expected], "{more}");
        let skipped = told["skipped"].as_array().unwrap();
        assert_eq!(skipped.len(), 9, "{more}: every other case");
        assert!(skipped.iter().all(|one| one["reason"] == "another case applies"));
        assert!(skipped.iter().all(|one| one["last_resort"] == false));
    }
}

#[tokio::test]
async fn an_ejected_target_is_told_as_such_until_it_is_due() {
    let (rig, plan) = planned();
    eject(&plan, 0);
    let told = explain(&rig, json!({ "model": "m" })).await.ok().json();
    assert_eq!(targets(&told), ["b/y"]);
    let skipped = &told["skipped"][0];
    assert_eq!((&skipped["target"], &skipped["reason"]), (&json!("a/x"), &json!("ejected")));
    assert_eq!(skipped["last_resort"], true);
    assert_eq!(
        (&skipped["breaker"]["state"], &skipped["breaker"]["percent"]),
        (&json!("open"), &json!(0))
    );
    assert!(is_in(&skipped["until_ms"], OPEN_MS), "{skipped}");
    assert_eq!(skipped["until_ms"], skipped["breaker"]["until_ms"]);

    rig.memory.now_ms.store(1_000_000 + OPEN_MS, Relaxed);
    let told = explain(&rig, json!({ "model": "m" })).await.ok().json();
    assert_eq!(targets(&told), ["a/x", "b/y"]);
    assert_eq!(told["candidates"][0]["why"], "tier 1 of 2, a probe");
    assert_eq!(told["candidates"][0]["breaker"]["state"], "due", "to ask takes no probe");

    let probe = Lease::begin(&plan.targets()[0].live, false, 1_000_000 + OPEN_MS).unwrap();
    let told = explain(&rig, json!({ "model": "m" })).await.ok().json();
    assert_eq!(told["skipped"][0]["reason"], "a probe is under way");
    assert_eq!(told["skipped"][0]["breaker"]["state"], "half_open");
    assert_eq!(told["skipped"][0]["in_flight"], 1);
    probe.succeeded(1_000_400 + OPEN_MS);
    let told = rig.get("/admin/v1/targets?model=m").await.ok().json();
    assert_eq!(told["data"][0]["first_token_ms"], 400);
    assert_eq!(told["data"][0]["breaker"]["state"], "closed");
    assert_eq!(told["data"][0]["breaker"]["percent"], 10, "not yet its whole share");
}

#[tokio::test]
async fn a_key_may_or_may_not_and_the_reason_is_told() {
    let (rig, _) = planned();
    let narrow = json!({ "models": ["gpt-*"] });
    let team: GroupConfig = serde_json::from_value(narrow.clone()).unwrap();
    rig.memory.file.lock().unwrap().insert((Kind::Team, "narrow".into()), team);
    *rig.memory.file_keys.lock().unwrap() = vec![
        file_key("any", None, json!({})),
        file_key("narrow", None, narrow),
        file_key("under", Some("narrow"), json!({})),
        file_key("off", None, json!({ "enabled": false })),
        file_key("embeds", None, json!({ "operations": ["embedding"] })),
        file_key("over", None, json!({ "expires": "2026-01-01" })),
        file_key("inside", None, json!({ "allow": ["10.0.0.0/8"] })),
    ];
    for (key, reason) in [
        ("any", Value::Null),
        ("narrow", json!("The key may not use the model `m`.")),
        ("under", json!("The team may not use the model `m`.")),
        ("off", json!("The key is disabled.")),
        ("embeds", json!("The key may not be used for `chat`.")),
        ("over", json!("The key has expired.")),
        ("inside", Value::Null),
    ] {
        let body = json!({ "model": "m", "key": key, "at": "2026-11-22T12:00:00Z" });
        let told = explain(&rig, body).await.ok().json();
        assert_eq!(told["key"]["reason"], reason, "{key}");
        assert_eq!(told["key"]["allowed"], reason.is_null(), "{key}");
        assert_eq!(targets(&told), ["a/x", "b/y"], "the plan is told all the same");
    }
    let before = json!({ "model": "m", "key": "over", "at": "2025-11-22T12:00:00Z" });
    assert_eq!(explain(&rig, before).await.ok().json()["key"]["allowed"], true);
}

#[tokio::test]
async fn a_key_of_the_store_is_known_by_id_and_name_until_it_is_revoked() {
    let (rig, _) = planned();
    let body = json!({ "name": "ci", "models": ["m"] });
    let id = rig.post("/admin/v1/keys", body).await.ok().json()["id"].as_str().unwrap().to_owned();
    let ask = async |key: &str| explain(&rig, json!({ "model": "m", "key": key })).await;
    for named in [&*id, "ci"] {
        let told = ask(named).await.ok().json();
        assert_eq!((&told["key"]["id"], &told["key"]["name"]), (&json!(id), &json!("ci")));
    }
    rig.post("/admin/v1/keys", json!({ "name": "ci" })).await.ok();
    let several = ask("ci").await.fails(422, "invalid_field");
    assert!(several.text.contains("Several keys"), "{several:?}");
    assert_eq!(ask(&id).await.ok().json()["key"]["id"], *id);
    let unknown = ask("nobody").await.fails(422, "invalid_field");
    assert_eq!(unknown.param(), "key");
    rig.post(&format!("/admin/v1/keys/{id}/revoke"), Value::Null).await.ok();
    assert_eq!(ask(&id).await, unknown);
}

#[tokio::test]
async fn a_manager_asks_for_keys_of_the_own_team() {
    let (rig, _) = planned();
    let manager = rig.token("manager").await;
    rig.team("blue").await;
    for (name, team) in [("mine", "red"), ("theirs", "blue")] {
        rig.post("/admin/v1/keys", json!({ "name": name, "team": team })).await.ok();
    }
    *rig.memory.file_keys.lock().unwrap() =
        vec![file_key("filed", Some("red"), json!({})), file_key("free", None, json!({}))];
    let ask = async |body: Value| rig.call(&manager, "POST", "/admin/v1/explain", body).await;
    for key in ["mine", "filed"] {
        let told = ask(json!({ "model": "m", "key": key })).await.ok().json();
        assert_eq!(told["key"]["team"], "red");
    }
    let unknown = ask(json!({ "model": "m", "key": "no-such-key" })).await;
    for key in ["theirs", "free"] {
        assert_eq!(ask(json!({ "model": "m", "key": key })).await, unknown, "{key}");
    }
    assert_eq!(unknown.fails(422, "invalid_field").param(), "key");
    let without = ask(json!({ "model": "m" })).await.fails(422, "invalid_field");
    assert_eq!(without.param(), "key");
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_the_field() {
    let (rig, _) = planned();
    let many: Value = (0..101).map(|number| (format!("x-{number}"), json!("v"))).collect();
    for (body, field) in [
        (json!({}), "model"),
        (json!({ "model": "m".repeat(1_025) }), "model"),
        (json!({ "model": "m", "modle": "m" }), "modle"),
        (json!({ "model": "m", "headers": { "no name": "v" } }), "headers"),
        (json!({ "model": "m", "headers": { "x-a": "line\nbreak" } }), "headers"),
        (json!({ "model": "m", "headers": many }), "headers"),
        (json!({ "model": "m", "at": "soon" }), "at"),
        (json!({ "model": "m", "operation": "feedback" }), "operation"),
    ] {
        let reply = explain(&rig, body.clone()).await.fails(422, "invalid_field");
        assert_eq!(reply.param(), field, "{body}");
    }
    let reply = explain(&rig, json!({ "model": "echi" })).await.fails(404, "model_not_found");
    assert_eq!(reply.param(), "model");
    assert!(reply.text.contains("Did you mean `echo`?"), "{reply:?}");
}

#[tokio::test]
async fn to_explain_changes_nothing() {
    let (rig, plan) = planned();
    let before = rig.get("/admin/v1/targets").await.ok().json();
    for _ in 0..50 {
        explain(&rig, json!({ "model": "m" })).await.ok();
    }
    assert_eq!(rig.get("/admin/v1/targets").await.ok().json(), before);
    assert_eq!(plan.targets()[0].live.health.in_flight(), 0);
    assert_eq!(rig.get("/admin/v1/audit").await.ok().json()["data"], json!([]), "it is no change");
}

#[tokio::test]
async fn targets_are_listed_with_their_state_on_pages() {
    let (rig, plan) = planned();
    eject(&plan, 1);
    let lease = Lease::begin(&plan.targets()[0].live, false, 1_000_000).unwrap();
    let benched = lease.credential();
    let _ = lease.failed(Cause::Throttled, None, 1_000_000);
    assert!((0..2).all(|_| plan.budget().spend(1_000_000)));
    let all = rig.get("/admin/v1/targets?limit=200").await.ok().json();
    let ids = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().unwrap();
        data.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let expected = ["default#0", "m#0", "m#1"].map(str::to_owned);
    assert!(ids(&all).starts_with(&expected), "{all}");
    assert_eq!(ids(&all).len(), 13, "{all}");
    let m = &all["data"][1];
    assert_eq!(
        (&m["model"], &m["target"], &m["retries_left"]),
        (&json!("m"), &json!("a/x"), &json!(1))
    );
    let benches = m["credentials"].as_array().unwrap();
    assert!(is_in(&benches[benched]["benched_until_ms"], THROTTLED_MS), "{m}");
    assert_eq!(benches[1 - benched]["benched_until_ms"], Value::Null);
    assert_eq!(all["data"][2]["breaker"]["state"], "open");
    for size in [1, 2, 5, 13] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = rig.get(&format!("/admin/v1/targets?limit={size}{next}")).await.ok().json();
            seen.extend(ids(&page));
            let Some(after) = page["next"].as_str() else { break };
            next = format!("&after={}", after.replace('#', "%23"));
        }
        assert_eq!(seen, ids(&all), "pages of {size}");
    }
    let of_m = rig.get("/admin/v1/targets?model=m").await.ok().json();
    assert_eq!(ids(&of_m), ["m#0", "m#1"]);
    for query in ["after=m", "after=m%23x"] {
        let reply = rig.get(&format!("/admin/v1/targets?{query}")).await;
        assert_eq!(reply.fails(422, "invalid_field").param(), "after");
    }
    let odd = rig.call(ENV, "GET", "/admin/v1/targets?limit=201", Value::Null).await;
    assert_eq!(odd.fails(422, "invalid_field").param(), "limit");
}
