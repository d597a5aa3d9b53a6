//! Where requests go, told by a server that runs: what has happened to its targets shows.

use serde_json::{Value, json};
use testkit::ScriptedUpstream;

use crate::harness::{CHAT, Magpie, Setup, chat};

/// A model whose first target always fails, and another one behind it.
const PLAN: &str = "models: { m: { fallback: ['up/status:500', up/ok] } }";

/// The breaker of the first target opens after so many failures in a row.
const IN_A_ROW: usize = 5;

fn served() -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and(PLAN).with_admin().start();
    (upstream, magpie)
}

fn targets(magpie: &Magpie) -> Value {
    magpie.admin("targets?model=m").json()["data"].take()
}

#[test]
fn a_target_that_fails_is_told_to_be_open_and_is_passed_over() {
    let (upstream, magpie) = served();
    let before = targets(&magpie);
    assert_eq!(before[0]["target"], "up/status:500", "{before}");
    assert_eq!(before[0]["breaker"]["state"], "closed");
    assert_eq!(before[1]["first_token_ms"], Value::Null);
    let explained = magpie.admin_post("explain", &json!({ "model": "m" })).json();
    assert_eq!(explained["candidates"][0]["target"], "up/status:500", "{explained}");
    assert_eq!(upstream.received().len(), 0, "to explain asks nobody");

    for _ in 0..IN_A_ROW {
        magpie.post(CHAT, &chat("m", false));
    }
    let after = targets(&magpie);
    assert_eq!(after[0]["breaker"]["state"], "open", "{after}");
    assert_eq!(after[0]["breaker"]["unreached"], false);
    assert!(after[0]["breaker"]["until_ms"].as_u64().unwrap() > 1_600_000_000_000, "{after}");
    assert_eq!(after[1]["breaker"]["state"], "closed");
    assert!(after[1]["first_token_ms"].is_u64(), "it has answered: {after}");

    upstream.clear();
    let explained = magpie.admin_post("explain", &json!({ "model": "m" })).json();
    assert_eq!(explained["candidates"][0]["target"], "up/ok", "{explained}");
    assert_eq!(explained["candidates"].as_array().unwrap().len(), 1);
    assert_eq!(explained["skipped"][0]["target"], "up/status:500");
    assert_eq!(explained["skipped"][0]["reason"], "ejected");
    // And so it goes.
    let reply = magpie.post(CHAT, &chat("m", false));
    assert_eq!(reply.header("x-magpie-target"), Some("up/ok"));
    assert_eq!(reply.header("x-magpie-attempts"), Some("1"));
    assert_eq!(upstream.received().len(), 1);

    let nearest = magpie.admin_post("explain", &json!({ "model": "echi" }));
    nearest.assert_error(404, "model_not_found");
    assert!(nearest.message().contains("Did you mean `echo`?"), "{}", nearest.message());
}

#[test]
fn what_is_known_of_targets_outlasts_a_reload() {
    let (upstream, magpie) = served();
    for _ in 0..IN_A_ROW {
        magpie.post(CHAT, &chat("m", false));
    }
    assert_eq!(targets(&magpie)[0]["breaker"]["state"], "open");
    let key = crate::harness::PROVIDER_KEY;
    let base_url = upstream.base_url();
    let turned = "models: { m: { fallback: [up/ok, 'up/status:500'] } }";
    let provider = format!("providers: {{ up: {{ base_url: '{base_url}', api_key: {key} }} }}");
    magpie.reload(&format!("{provider}\n{turned}\n"));
    let after = targets(&magpie);
    assert_eq!(after[1]["target"], "up/status:500");
    assert_eq!(after[1]["breaker"]["state"], "open", "{after}");
}

#[test]
fn a_key_of_the_file_is_explained_with_its_team() {
    let keys = "keys: [{ name: ci, key: a-key-of-thirty-two-letters-at-least, team: search }]\n\
                teams: { search: { models: ['gpt-*'] } }";
    let magpie = Setup::of("http://127.0.0.1:9/v1").and(PLAN).and(keys).with_admin().start();
    let told = magpie.admin_post("explain", &json!({ "model": "m", "key": "ci" })).json();
    assert_eq!(told["key"]["team"], "search", "{told}");
    assert_eq!(told["key"]["reason"], "The team may not use the model `m`.");
    let key = json!({ "model": "m", "key": "a-key-of-thirty-two-letters-at-least" });
    let text = magpie.admin_post("explain", &key);
    text.assert_error(422, "invalid_field");
    assert!(!text.text().contains("thirty-two"), "what may be a key is not repeated");
}
