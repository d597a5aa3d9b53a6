//! Streams that die in the middle over real sockets, and are gone on with by another provider: one
//! answer for the client, each attempt in the ledger.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::ScriptedUpstream;

use crate::failover::{HASTY, ask, models, provider};
use crate::harness::{CHAT, Magpie, Setup, chat};
use crate::ledger::attempts_of;

/// What the first says before it dies, how it dies, and how that is recorded.
const DEATHS: [(&str, &str); 6] = [
    ("cut:3", "truncated"),
    ("reset:3", "truncated"),
    ("eof:3", "truncated"),
    ("stall:3", "timed_out"),
    ("malformed:3", "truncated"),
    ("error-event:3:baidu", "provider_error"),
];

const PREFILL: &str = "prefill: { message: { partial: true } }";

fn start(bad: &ScriptedUpstream, good: &ScriptedUpstream, resume: &str) -> Magpie {
    let plans = DEATHS.iter().enumerate().map(|(number, (death, _))| {
        let plan = format!("{{ fallback: ['bad/{death}', 'good/events:8']{resume} }}");
        (format!("m{number}"), plan)
    });
    let config = [
        "log: { requests: false }\nproviders:\n",
        &provider("bad", &bad.base_url(), HASTY),
        &provider("good", &good.base_url(), PREFILL),
        &models(plans),
    ];
    Setup::file(&config.concat()).with_admin().start()
}

#[test]
fn however_a_stream_dies_another_provider_goes_on_with_it() {
    let (bad, good) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let magpie = start(&bad, &good, ", resume: elsewhere");
    for (number, (death, _)) in DEATHS.iter().enumerate() {
        let reply = ask(&magpie, &format!("m{number}"), true);
        assert_eq!(reply.header("x-magpie-attempts"), Some("1"), "{death}: its head had left");
        assert_eq!(reply.content(), "w1 w2 w3 w4 w5 w6 w7 w8 ", "{death}: {}", reply.text());
        assert!(reply.whole && reply.is_done() && reply.is_finished(), "{death}");
        let events = reply.events();
        let models: Vec<&Value> = events.iter().map(|event| &event["model"]).collect();
        assert!(models.iter().all(|model| **model == json!(death)), "{death}: {models:?}");
        let roles = events.iter().filter(|event| event["choices"][0]["delta"]["role"].is_string());
        assert_eq!(roles.count(), 1, "{death}");
        let received = good.received();
        let body = received.last().unwrap().json();
        let last = body["messages"].as_array().unwrap().last().unwrap().clone();
        let said = json!({ "role": "assistant", "content": "w1 w2 w3 ", "partial": true });
        assert_eq!(last, said, "{death}");
    }
    let ended = "magpie_broken_answers_total";
    assert_eq!(magpie.number(ended), DEATHS.len() as f64, "each of them once");
    assert_eq!(magpie.number(&format!("{ended}{{model=\"m5\",end=\"resumed\"}}")), 1.0);
    let found = attempts_of(&magpie, 2 * DEATHS.len());
    for (death, outcome) in DEATHS {
        let of = |it: &&Value| it["provider"] == "bad" && it["upstream_model"] == death;
        let first = found.iter().find(of).unwrap_or_else(|| panic!("{death}: {found:?}"));
        assert_eq!(first["outcome"], outcome, "{first}");
        assert!(first["last_of"].is_null(), "{first}");
        let second = found.iter().find(|it| it["id"] == first["id"] && it["provider"] == "good");
        let second = second.unwrap();
        assert_eq!((&second["outcome"], &second["last_of"]), (&json!("complete"), &json!(2)));
    }
}

#[test]
fn without_the_option_or_where_nobody_can_the_client_is_told() {
    let (bad, good) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let magpie = start(&bad, &good, "");
    ask(&magpie, "m0", true).assert_broken_off("provider_truncated");
    drop(good);
    let gone = ScriptedUpstream::start();
    let magpie = start(&bad, &gone, ", resume: elsewhere");
    drop(gone);
    ask(&magpie, "m0", true).assert_broken_off("provider_truncated");
    let given_up = r#"magpie_broken_answers_total{model="m0",end="given_up"}"#;
    assert_eq!(magpie.number(given_up), 1.0);
    let told = magpie.admin("models").json();
    assert_eq!(told["data"][1]["resume"], json!({ "resumed": 0, "given_up": 1 }), "{told}");
}

#[test]
fn a_client_that_leaves_while_another_goes_on_cancels_that() {
    let (bad, good) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let config = [
        "log: { requests: false }\nproviders:\n",
        &provider("bad", &bad.base_url(), ""),
        &provider("good", &good.base_url(), PREFILL),
        "models:\n  m: { fallback: ['bad/cut:3', 'good/events:2000:10'], resume: elsewhere }\n",
    ];
    let magpie = Setup::file(&config.concat()).start();
    let mut wire = magpie.connect();
    let request = crate::client::request("POST", CHAT, &[], chat("m", true).as_bytes());
    wire.send(&request);
    wire.head();
    wire.chunks_until("w4 w5");
    drop(wire);
    let start = Instant::now();
    while good.open_connections() > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "it is still asked");
        std::thread::sleep(Duration::from_millis(10));
    }
}
