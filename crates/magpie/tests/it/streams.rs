//! Streams pass as they are, however the provider writes them.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::ScriptedUpstream;

use crate::client::{Reply, Wire, request};
use crate::harness::{CHAT, Magpie, Setup};

fn served() -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    (upstream, magpie)
}

fn ask(address: SocketAddr, body: &Value) -> Reply {
    let mut wire = Wire::connect(address);
    wire.send(&request("POST", CHAT, &[], body.to_string().as_bytes()));
    wire.reply()
}

fn with_usage(model: &str) -> Value {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let options = json!({ "include_usage": true });
    json!({ "model": model, "messages": messages, "stream": true, "stream_options": options })
}

#[test]
fn any_way_of_writing_events_arrives_byte_for_byte() {
    let (upstream, magpie) = served();
    for script in [
        "ok",
        "crlf",
        "comments",
        "no-space",
        "split:1",
        "split:3",
        "split:1000",
        "drip:1",
        "usage-every",
        "reasoning",
        "tools",
        "events:200:0:3000",
        "events:1:0:200000",
    ] {
        let direct = ask(upstream.address(), &with_usage(script));
        let through = ask(magpie.address, &with_usage(&format!("up/{script}")));
        assert!(direct.whole && through.whole, "{script}");
        assert!(direct.is_done(), "{script}");
        assert!(direct.body == through.body, "{script}:\n{}\n{}", direct.text(), through.text());
    }
}

#[test]
fn whole_answers_arrive_byte_for_byte_too() {
    let (upstream, magpie) = served();
    for script in ["ok", "split:1", "drip:1", "big:100000", "big:3000000", "tools"] {
        let mut wire = Wire::connect(upstream.address());
        wire.chat(script, false);
        let direct = wire.reply();
        let through = magpie.ask(script, false);
        assert!(through.whole && direct.body == through.body, "{script}");
        assert_eq!(through.header("content-length"), direct.header("content-length"), "{script}");
    }
}

#[test]
fn token_counts_are_shown_to_those_who_asked_and_logged_for_all() {
    let (upstream, magpie) = served();
    let hidden = magpie.ask("ok", true);
    assert_eq!(upstream.received()[0].json()["stream_options"]["include_usage"], true);
    assert!(hidden.is_done() && hidden.is_finished());
    assert!(hidden.events().iter().all(|event| event["choices"] != json!([])), "{}", hidden.text());
    assert!(hidden.events().iter().all(|event| event["usage"].is_null()));

    let shown = ask(magpie.address, &with_usage("up/ok"));
    let last = shown.events().last().cloned().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(8)));
    for line in magpie.log(2) {
        assert_eq!((&line["input_tokens"], &line["output_tokens"]), (&json!(11), &json!(8)));
    }
}

#[test]
fn token_counts_are_not_asked_for_where_that_is_switched_off() {
    let upstream = ScriptedUpstream::start();
    let off = Setup::of(&upstream.base_url()).and("metering: { stream_usage: false }").start();
    off.ask("ok", true);
    let base_url = format!("base_url: {}", upstream.base_url());
    let never = Setup::provider(&[&base_url, "stream_usage: never_ask"]).start();
    never.ask("ok", true);
    for received in upstream.received() {
        assert_eq!(received.json().get("stream_options"), None);
    }
}

#[test]
fn what_the_client_wrote_reaches_the_provider_but_for_the_model() {
    let (upstream, magpie) = served();
    let body = "{ \"model\" : \"up/digest\",\t\"seed\": 123456789012345678901234567890,\n\
                \"temperature\": 1.10, \"x\": -0, \"messages\": [ {\"role\":\"user\",\"content\":\"\\u00e9\\/ 中\"} ] }";
    let reply = magpie.post(CHAT, body);
    assert_eq!(reply.status(), 200);
    let expected = body.replace("up/digest", "digest");
    assert_eq!(upstream.received()[0].text(), expected);
    let content = &reply.json()["choices"][0]["message"]["content"];
    assert_eq!(content, &Value::from(testkit::digest_text(expected.as_bytes())));
}

#[test]
fn many_streams_at_once_do_not_mix() {
    let (_upstream, magpie) = served();
    let wires: Vec<Wire> =
        (0..60).map(|n| magpie.begin(&format!("events:{}:3", n + 1), true)).collect();
    for (n, mut wire) in wires.into_iter().enumerate() {
        let reply = wire.reply();
        let expected: String = (1..=n + 1).map(|i| format!("w{i} ")).collect();
        assert!(reply.is_done() && reply.content() == expected, "{n}: {}", reply.content());
    }
}

#[test]
fn a_connection_takes_one_stream_after_the_other() {
    let (upstream, magpie) = served();
    let mut wire = magpie.connect();
    for n in 0..20 {
        wire.chat("up/events:5", n % 2 == 0);
        let reply = wire.reply();
        assert!(reply.whole && reply.status() == 200, "{n}");
    }
    assert_eq!(upstream.received().len(), 20);
    assert_eq!(upstream.connections(), 1, "one worker, one connection");
}
