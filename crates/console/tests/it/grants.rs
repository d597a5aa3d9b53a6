//! Nobody gets more than who gives has.

use policy::directory::Kind;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::harness::Rig;

const MODELS: [&str; 8] = ["a", "ab", "abc", "b", "gpt-4", "gpt-4-mini", "chat", ""];
const OPERATIONS: [&str; 4] = ["chat", "embedding", "image", "models"];
const ADDRESSES: [&str; 5] = ["10.0.0.1", "10.1.2.3", "192.168.1.1", "2001:db8::1", "8.8.8.8"];

fn globs() -> impl Strategy<Value = Option<Vec<&'static str>>> {
    let glob = prop::sample::select(vec!["a", "a*", "*b*", "gpt-*", "gpt-4", "*", "chat", "b"]);
    prop::option::of(prop::collection::vec(glob, 1..3))
}

fn operations() -> impl Strategy<Value = Option<Vec<&'static str>>> {
    prop::option::of(prop::sample::subsequence(OPERATIONS.to_vec(), 1..4))
}

fn networks() -> impl Strategy<Value = Option<Vec<&'static str>>> {
    let net =
        vec!["10.0.0.0/8", "10.1.0.0/16", "10.0.0.1", "0.0.0.0/0", "2001:db8::/32", "8.8.8.8"];
    prop::option::of(prop::sample::subsequence(net, 1..4))
}

fn expiry() -> impl Strategy<Value = Option<&'static str>> {
    prop::option::of(prop::sample::select(vec!["2090-01-01", "2091-01-01", "2092-01-01"]))
}

prop_compose! {
    fn terms()(models in globs(), operations in operations(), allow in networks(),
               expires in expiry()) -> Value {
        let mut terms = json!({});
        for (name, value) in [("models", json!(models)), ("operations", json!(operations)),
                              ("allow", json!(allow)), ("expires", json!(expires))] {
            if !value.is_null() {
                terms[name] = value;
            }
        }
        terms
    }
}

/// What terms allow on their own, by trying.
fn allowed(terms: &policy::directory::TermsConfig) -> Vec<String> {
    let scope = console::terms::scope(terms.clone());
    let mut all = Vec::new();
    all.extend(MODELS.iter().filter(|m| scope.allows_model(m)).map(|m| format!("model {m}")));
    let known = |name: &&&str| {
        let operation = serde_json::from_value(json!(name)).unwrap();
        scope.allows_operation(operation)
    };
    all.extend(OPERATIONS.iter().filter(known).map(|o| format!("operation {o}")));
    let from = |address: &&&str| scope.allows_address(address.parse().unwrap());
    all.extend(ADDRESSES.iter().filter(from).map(|a| format!("address {a}")));
    let expires = terms.expires.map_or(u64::MAX, |expiry| expiry.0);
    let years = [2090, 2091, 2092, 2093].map(|year| (year, (year - 1970) * 31_557_600_000_u64));
    all.extend(years.iter().filter(|(_, at)| *at <= expires).map(|(y, _)| format!("year {y}")));
    all
}

/// What a key that was made says itself is within what the team says; what it leaves open, the
/// directory takes from the team.
fn assert_within(rig: &Rig, id: &str, said: &Value, team: &policy::directory::TermsConfig) {
    let keys = rig.memory.keys.lock().unwrap();
    let (own, team) = (allowed(&keys[id].terms), allowed(team));
    let says = |kind: &str| match kind {
        "model" => said.get("models").is_some(),
        "operation" => said.get("operations").is_some(),
        "address" => said.get("allow").is_some(),
        _ => said.get("expires").is_some(),
    };
    for grant in own.iter().filter(|grant| says(grant.split(' ').next().unwrap())) {
        assert!(team.contains(grant), "{grant} of {said} is beyond the team");
    }
}

/// Over made-up terms of a team and of keys in it, made and changed by its manager.
#[test]
fn a_key_is_within_its_team() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rig = Rig::new();
    let manager = runtime.block_on(rig.token("manager"));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let (made, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    runner
        .run(&(terms(), terms(), terms()), |(team, first, second)| {
            runtime.block_on(async {
                let clear =
                    json!({ "models": null, "operations": null, "allow": null, "expires": null });
                rig.patch("/admin/v1/teams/red", clear).await.ok();
                rig.patch("/admin/v1/teams/red", team.clone()).await.ok();
                let limits = rig.memory.groups.lock().unwrap()[&(Kind::Team, "red".into())].clone();
                let mut body = first.clone();
                body["name"] = json!("k");
                let reply = rig.call(&manager, "POST", "/admin/v1/keys", body).await;
                if !reply.status.is_success() {
                    reply.fails(403, "beyond_grant");
                    refused.set(refused.get() + 1);
                    return;
                }
                made.set(made.get() + 1);
                let id = reply.field("id");
                assert_within(&rig, &id, &first, &limits.terms);
                let path = format!("/admin/v1/keys/{id}");
                let changed = rig.call(&manager, "PATCH", &path, second.clone()).await;
                if changed.status.is_success() {
                    assert_within(&rig, &id, &second, &limits.terms);
                }
                // A rotation hands on what there is, and nothing else.
                let before = rig.memory.keys.lock().unwrap()[&id].terms.clone();
                rig.call(&manager, "POST", &format!("{path}/rotate"), json!({})).await.ok();
                assert_eq!(rig.memory.keys.lock().unwrap()[&id].terms, before);
                assert_within(&rig, &id, &Value::Null, &limits.terms);
            });
            Ok(())
        })
        .unwrap();
    assert!(made.get() > 40 && refused.get() > 40, "{made:?} made, {refused:?} refused");
}

/// The chain counts: what the org does not have, a team or a user cannot give either.
#[tokio::test]
async fn every_group_above_counts() {
    let rig = Rig::new();
    rig.post("/admin/v1/orgs", json!({ "id": "o", "name": "o", "models": ["a*"] })).await.ok();
    rig.post("/admin/v1/teams", json!({ "id": "t", "name": "t", "org": "o" })).await.ok();
    rig.post("/admin/v1/users", json!({ "id": "u", "name": "u", "team": "t" })).await.ok();
    let ask = async |models: &str| {
        rig.post("/admin/v1/keys", json!({ "name": "k", "user": "u", "models": [models] })).await
    };
    ask("ab").await.ok();
    assert_eq!(ask("b").await.fails(403, "beyond_grant").param(), "models");
    let team = json!({ "models": ["*"] });
    rig.patch("/admin/v1/teams/t", team).await.fails(403, "beyond_grant");
    let away = json!({ "name": "k", "user": "u", "team": "t" });
    rig.post("/admin/v1/keys", away).await.fails(422, "invalid_field");
    let both = json!({ "org": "o" });
    rig.patch("/admin/v1/users/u", both).await.fails(422, "invalid_field");
}

#[tokio::test]
async fn what_a_manager_cannot_set() {
    let rig = Rig::new();
    let manager = rig.token("manager").await;
    let post = async |path: &str, body: Value| rig.call(&manager, "POST", path, body).await;
    for (path, body, param) in [
        ("/admin/v1/users", json!({ "name": "u", "id": "chosen" }), "id"),
        ("/admin/v1/users", json!({ "name": "u", "org": "o" }), "org"),
        ("/admin/v1/keys", json!({ "name": "k", "org": "o" }), "org"),
        (
            "/admin/v1/keys",
            json!({ "name": "k", "budget": {
                "amount": "$1", "period": "day", "webhook": "http://169.254.169.254/",
            }}),
            "budget",
        ),
    ] {
        assert_eq!(post(path, body).await.fails(403, "field_not_allowed").param(), param);
    }
    let user = post("/admin/v1/users", json!({ "name": "u" })).await.ok().field("id");
    let path = format!("/admin/v1/users/{user}");
    for body in [json!({ "team": "blue" }), json!({ "team": null }), json!({ "org": null })] {
        rig.call(&manager, "PATCH", &path, body).await.fails(403, "field_not_allowed");
    }
}

#[tokio::test]
async fn nobody_makes_a_stronger_token() {
    let rig = Rig::new();
    rig.team("red").await;
    let admin = rig.token("admin").await;
    for (role, team, allowed) in [
        ("owner", None, false),
        ("admin", None, false),
        ("auditor", None, true),
        ("manager", Some("red"), true),
    ] {
        let body = json!({ "name": "n", "role": role, "team": team });
        let reply = rig.call(&admin, "POST", "/admin/v1/admins", body.clone()).await;
        assert_eq!(reply.status.is_success(), allowed, "{role}: {reply:?}");
        let id = rig.post("/admin/v1/admins", body).await.ok().field("id");
        let path = format!("/admin/v1/admins/{id}");
        let reply = rig.call(&admin, "DELETE", &path, Value::Null).await;
        assert_eq!(reply.status.is_success(), allowed, "{role}: {reply:?}");
    }
    for wrong in [
        json!({ "name": "n", "role": "manager" }),
        json!({ "name": "n", "role": "manager", "team": "none" }),
        json!({ "name": "n", "role": "auditor", "team": "red" }),
        json!({ "name": "n", "role": "root" }),
    ] {
        rig.post("/admin/v1/admins", wrong).await.fails(422, "invalid_field");
    }
}

/// What is above a manager's team counts, though the manager does not see it.
#[tokio::test]
async fn what_is_not_seen_counts_too() {
    let rig = Rig::new();
    let manager = rig.token("manager").await;
    rig.post("/admin/v1/orgs", json!({ "id": "o", "name": "o", "models": ["a"] })).await.ok();
    rig.patch("/admin/v1/teams/red", json!({ "org": "o" })).await.ok();
    let ask = async |model: &str| {
        let body = json!({ "name": "k", "models": [model] });
        rig.call(&manager, "POST", "/admin/v1/keys", body).await
    };
    ask("a").await.ok();
    ask("b").await.fails(403, "beyond_grant");
    rig.call(&manager, "GET", "/admin/v1/orgs/o", Value::Null).await.fails(403, "role_not_allowed");
}
