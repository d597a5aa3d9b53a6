//! Variants compared, with what callers think of their answers: from the split to `magpie ab`.

use std::fmt::Write as _;
use std::thread;

use serde_json::{Value, json};
use testkit::ScriptedUpstream;

use crate::client::{Reply, Wire, request};
use crate::failover::provider;
use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};

/// Keys that ask, and how often each does. By lot some 30 of them are on each side.
const KEYS: usize = 64;
const EACH: usize = 5;

fn key(number: usize) -> String {
    format!("a-key-for-the-experiment-{number:03}")
}

fn keys(count: usize, more: &str) -> String {
    let mut text = String::from("keys:\n");
    for number in 0..count {
        writeln!(text, "  - {{ name: k{number}, key: {}{more} }}", key(number)).unwrap();
    }
    text
}

fn send(wire: &mut Wire, number: usize, path: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {}", key(number));
    wire.send(&request("POST", path, &[("authorization", &*bearer)], body.as_bytes()));
    wire.reply()
}

fn rate(wire: &mut Wire, number: usize, id: &str, more: &Value) -> Reply {
    let mut body = json!({ "request_id": id });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    send(wire, number, "/v1/feedback", &body.to_string())
}

/// Asks the model `chat`; says the id and the target.
fn ask(wire: &mut Wire, number: usize, stream: bool) -> (String, String) {
    let reply = send(wire, number, CHAT, &chat("chat", stream));
    assert!(reply.status() == 200 && reply.whole, "{}", reply.text());
    let header = |name| reply.header(name).unwrap().to_owned();
    (header("x-request-id"), header("x-magpie-target"))
}

/// What is kept of a request's feedback.
fn kept(magpie: &Magpie, id: &str) -> Value {
    let reply = magpie.admin(&format!("requests/{id}"));
    assert_eq!(reply.status(), 200, "{}", reply.text());
    reply.json()["feedback"].clone()
}

fn ab(setup: &Setup, arguments: &[&str]) -> String {
    let output = setup.run(&[&["ab", "chat"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn compared<'v>(experiment: &'v Value, measure: &str) -> &'v Value {
    let mut all = experiment["comparisons"].as_array().unwrap().iter();
    all.find(|it| it["measure"] == measure).unwrap_or_else(|| panic!("{measure}: {experiment}"))
}

/// Every key asks, and says what it thinks: of slow answers a little less.
fn run(magpie: &Magpie) {
    thread::scope(|scope| {
        for lane in 0..8 {
            scope.spawn(move || {
                let mut wire = magpie.connect();
                for number in (lane..KEYS).step_by(8) {
                    for turn in 0..EACH {
                        let (id, target) = ask(&mut wire, number, true);
                        let liked = if target == "glm/glm-5" { 0.25 } else { 0.75 };
                        let score = liked + 0.05 * (turn % 3) as f64;
                        // At once: the request may be in the journal alone.
                        let rated = rate(&mut wire, number, &id, &json!({ "score": score }));
                        assert_eq!(rated.status(), 200, "{}", rated.text());
                    }
                }
            });
        }
    });
}

#[test]
fn a_slower_variant_that_is_liked_less_is_told_with_how_sure_that_is() {
    let upstream = ScriptedUpstream::start();
    upstream.script("qwen-max", [json!({ "script": "events:8:1" })]);
    upstream.script("glm-5", [json!({ "script": "events:8:12" })]);
    let config = [
        "log: { requests: false }\nproviders:\n",
        &provider("qwen", &upstream.base_url(), ""),
        &provider("glm", &upstream.base_url(), ""),
        "models: { chat: { split: { qwen/qwen-max: 50, glm/glm-5: 50 } } }\n\
         prices: { '*/*': { input: 1, output: 2 } }\n",
        &keys(KEYS, ""),
    ];
    let magpie = Setup::file(&config.concat()).with_admin().start();
    run(&magpie);
    let setup = &magpie.process.setup;
    let experiment: Value = serde_json::from_str(&ab(setup, &["--json", "--since", "1h"])).unwrap();

    let [fast, slow] = [&experiment["variants"][0], &experiment["variants"][1]];
    assert_eq!((&fast["name"], &slow["name"]), (&json!("qwen/qwen-max"), &json!("glm/glm-5")));
    let sum = |name: &str| fast[name].as_u64().unwrap() + slow[name].as_u64().unwrap();
    assert_eq!((sum("requests"), sum("callers"), sum("strayed")), (320, 64, 0));
    assert_eq!(experiment["warnings"], json!([]), "{experiment}");
    let total = compared(&experiment, "total");
    assert_eq!((&total["shown"], &total["over"]), (&json!(true), &json!("callers")), "{total}");
    let number = |name: &str| total[name].as_f64().unwrap();
    assert!(number("low") > 0.0 && number("low") < number("high"), "{total}");
    assert!(number("difference") > 50.0, "{total}");
    assert!(compared(&experiment, "first_token")["baseline"].is_number());
    assert!(total["words"].as_str().unwrap().starts_with("slower by "), "{total}");
    let feedback = compared(&experiment, "feedback");
    assert_eq!(feedback["shown"], true, "{feedback}");
    assert!(feedback["words"].as_str().unwrap().starts_with("rated lower by 0.5 ("), "{feedback}");
    for same in ["errors", "left", "output_tokens", "cost"] {
        assert_eq!(compared(&experiment, same)["shown"], false, "{same}: {experiment}");
    }

    let unknown = setup.run(&["ab", "chatt"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("Did you mean `chat`?"));

    // The same for people, and over the admin API.
    let table = ab(setup, &[]);
    eprintln!("{table}");
    assert!(table.contains("qwen/qwen-max (baseline)") && table.contains("slower by "), "{table}");
    assert!(table.contains("with 95 % certainty"), "{table}");
    let told = magpie.admin("experiments?model=chat").json();
    assert_eq!(told["variants"], experiment["variants"]);
    assert_eq!(told["comparisons"], experiment["comparisons"]);
}

#[test]
fn feedback_on_a_foreign_request_changes_nothing() {
    let upstream = ScriptedUpstream::start();
    let config = [
        "providers:\n",
        &provider("up", &upstream.base_url(), ""),
        "models: { chat: up/ok }\nusers: { ann: { team: red } }\nteams: { red: {}, blue: {} }\n",
        &keys(1, ", user: ann"),
        &format!("  - {{ name: k1, key: {}, team: blue }}\n", key(1)),
        &format!("  - {{ name: k2, key: {}, team: red }}\n", key(2)),
    ];
    let magpie = Setup::file(&config.concat()).with_admin().start();
    let mut wire = magpie.connect();
    let (id, _) = ask(&mut wire, 0, false);
    let score = |score: f64| json!({ "score": score, "comment": "mine" });
    assert_eq!(rate(&mut wire, 0, &id, &score(0.5)).status(), 200);
    // Another team's key is told what it would be told of an id that nothing has.
    let foreign = rate(&mut wire, 1, &id, &score(0.0));
    let unknown = format!("req_{:032x}", 0x0192_f3c8_a1b2_u128 << 80);
    let nothing = rate(&mut wire, 1, &unknown, &score(0.0));
    assert_eq!((foreign.status(), nothing.status()), (404, 404));
    assert_eq!(foreign.text().replace(&id, "ID"), nothing.text().replace(&unknown, "ID"));
    assert_eq!(foreign.json()["error"]["code"], "request_not_found");
    // One of the same team may.
    let colleague = json!({ "rating": "up", "label": "tone" });
    assert_eq!(rate(&mut wire, 2, &id, &colleague).status(), 200);
    // Nobody at all may not.
    let body = json!({ "request_id": id, "score": 0 }).to_string();
    assert_eq!(magpie.post("/v1/feedback", &body).status(), 401);
    // And the last word of its own counts.
    assert_eq!(rate(&mut wire, 0, &id, &json!({ "score": 1 })).status(), 200);
    magpie.process.signal("TERM");
    let setup = magpie.stop();
    let magpie = setup.start();
    let found = kept(&magpie, &id);
    let told: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["label"].clone(), it["score"].clone(), it["comment"].clone()))
        .collect();
    let of = |label: Value| (label, json!(1.0), Value::Null);
    assert_eq!(told, [of(Value::Null), of(json!("tone"))]);
}

#[test]
fn labels_of_a_request_have_a_bound() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    let id = magpie.ask("ok", false).header("x-request-id").unwrap().to_owned();
    let rate = |label: usize| {
        let body = json!({ "request_id": id, "score": 1, "label": format!("l{label}") });
        magpie.post("/v1/feedback", &body.to_string())
    };
    for label in 0..16 {
        assert_eq!(rate(label).status(), 200);
    }
    // Counted as far as they are in the ledger, within a second.
    let start = std::time::Instant::now();
    let mut labels = 100..;
    while rate(labels.next().unwrap()).status() != 400 {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(rate(3).status(), 200, "one that is there can change");
}

#[test]
fn what_was_confirmed_is_there_after_a_kill() {
    let upstream = ScriptedUpstream::start();
    for sync in ["none", "always"] {
        let magpie = Setup::of(&upstream.base_url())
            .and(&format!("ledger: {{ sync: {sync} }}"))
            .with_admin()
            .start();
        let id = magpie.ask("ok", false).header("x-request-id").unwrap().to_owned();
        let body =
            json!({ "request_id": id, "rating": "down", "label": "tone", "comment": "很差" });
        let reply = magpie.post("/v1/feedback", &body.to_string());
        let setup = magpie.kill();
        assert_eq!(reply.status(), 200, "{}", reply.text());
        let answer =
            json!({ "object": "feedback", "request_id": id, "score": 0.0, "label": "tone" });
        assert_eq!(reply.json(), answer);
        let magpie = setup.start();
        let found = kept(&magpie, &id);
        assert_eq!(found.as_array().unwrap().len(), 1);
        let its = |name: &str| found[0][name].clone();
        assert_eq!(
            (its("label"), its("score"), its("comment")),
            (json!("tone"), json!(0.0), json!("很差"))
        );
    }
}

#[test]
fn a_request_that_still_runs_cannot_be_rated() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    let mut wire = magpie.begin("stall:2", true);
    let head = wire.head();
    let id = head.header("x-request-id").unwrap().to_owned();
    let body = json!({ "request_id": id, "score": 1 }).to_string();
    assert_eq!(magpie.post("/v1/feedback", &body).status(), 404);
    drop(wire);
    // Once it is over it can be.
    let start = std::time::Instant::now();
    while magpie.post("/v1/feedback", &body).status() != 200 {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn where_nothing_is_recorded_nothing_can_be_rated_or_compared() {
    let upstream = ScriptedUpstream::start();
    let off = "ledger: { enabled: false }";
    let magpie = Setup::of(&upstream.base_url()).and(off).with_admin().start();
    let id = magpie.ask("ok", false).header("x-request-id").unwrap().to_owned();
    let body = json!({ "request_id": id, "score": 1 }).to_string();
    let refused = magpie.post("/v1/feedback", &body);
    assert_eq!(
        (refused.status(), &refused.json()["error"]["code"]),
        (404, &json!("request_not_found"))
    );
    assert_eq!(magpie.admin("experiments?model=chat").json()["variants"], json!([]));
    let setup = magpie.stop();
    let output = setup.run(&["ab", "chat"]);
    assert!(!output.status.success());
    for wrong in [["--since", "soon"], ["--since", "0d"], ["--alpha", "0"], ["--alpha", "1"]] {
        let output = setup.run(&[&["ab", "chat"], &wrong[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(wrong[1]), "{said}");
    }
}
