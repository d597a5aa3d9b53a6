//! One line a request on standard error, for machines or for people.

use serde_json::Value;
use testkit::{Refused, ScriptedUpstream};

use crate::harness::{CHAT, Setup, chat};

#[test]
fn every_request_of_the_api_leaves_one_line_of_json() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and("models: { nick: up/ok }").start();
    let reply = magpie.post(CHAT, &chat("nick", false));
    let line = magpie.log(1)[0].clone();
    assert_eq!(line["request_id"], reply.header("x-request-id").unwrap());
    for (field, value) in [
        ("message", Value::from("request")),
        ("operation", "chat".into()),
        ("model", "nick".into()),
        ("provider", "up".into()),
        ("upstream_model", "ok".into()),
        ("status", 200.into()),
        ("outcome", "complete".into()),
        ("stream", false.into()),
        ("input_tokens", 11.into()),
        ("cached_tokens", 3.into()),
        ("output_tokens", 8.into()),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "{time}");
    assert!(line["total_ms"].is_u64() && line["overhead_us"].as_u64().unwrap() > 0, "{line}");

    magpie.ask("events:3:40", true);
    let line = magpie.log(2)[1].clone();
    assert_eq!((&line["stream"], &line["outcome"]), (&true.into(), &"complete".into()));
    assert!(line["events"].as_u64().unwrap() >= 3 && line["first_event_ms"].is_u64(), "{line}");
    assert!(line["total_ms"].as_u64().unwrap() >= 80, "{line}");
}

#[test]
fn the_line_says_how_a_request_ended() {
    let upstream = ScriptedUpstream::start();
    let clocks = "timeouts: { connect: 200ms, first_event: 200ms, idle: 200ms, total: 1s }";
    let magpie = Setup::of(&upstream.base_url()).and(clocks).start();
    let refused = |body: &str| magpie.post(CHAT, body);
    refused("{");
    refused(&chat("nobody", false));
    magpie.get("/v1/nothing/%2e");
    for (script, stream) in [
        ("status:429", false),
        ("error200", true),
        ("cut:1", true),
        ("stall:1", true),
        ("malformed:1", true),
        ("hang", false),
    ] {
        magpie.ask(script, stream);
    }
    let lines = magpie.log(9);
    assert_eq!(lines.len(), 9);
    let ends: Vec<(u64, &str, &str)> = lines
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or_default();
            (line["status"].as_u64().unwrap(), text("outcome"), text("error"))
        })
        .collect();
    assert_eq!(
        ends,
        [
            (400, "refused", "invalid_json"),
            (404, "refused", "model_not_found"),
            (400, "refused", "invalid_path"),
            (429, "provider_error", ""),
            (502, "provider_error", ""),
            (200, "truncated", "provider_truncated"),
            (200, "timed_out", "provider_timeout"),
            (200, "truncated", "provider_malformed"),
            (504, "timed_out", "provider_timeout"),
        ]
    );
    let nowhere = Setup::of(&Refused::base_url()).start();
    nowhere.ask("ok", false);
    assert_eq!(nowhere.log(1)[0]["outcome"], "unreachable");
}

#[test]
fn who_is_turned_away_at_the_door_leaves_a_line_too() {
    let magpie = Setup::empty().start();
    let foreign = [
        (CHAT, "origin", "https://elsewhere.example", "origin_not_allowed"),
        ("/v1/models", "host", "elsewhere.example", "host_not_allowed"),
        ("/docs", "host", "elsewhere.example", "host_not_allowed"),
    ];
    for (number, (path, header, value, error)) in foreign.into_iter().enumerate() {
        let reply = magpie.call("GET", path, &[(header, value)], "");
        reply.assert_error(403, error);
        let line = magpie.log(number + 1)[number].clone();
        assert_eq!(line["request_id"], reply.header("x-request-id").unwrap());
        assert_eq!((&line["status"], &line["outcome"]), (&403.into(), &"refused".into()));
        assert_eq!(line["error"], error, "{line}");
    }
}

#[test]
fn for_people_the_line_is_text() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and("log: { format: text }").start();
    let reply = magpie.ask("ok", true);
    let id = reply.header("x-request-id").unwrap().to_owned();
    let line = magpie.process.stderr.wait_for("the line", |text| {
        text.lines().find(|line| line.contains(&id)).map(String::from)
    });
    assert!(!line.starts_with('{'), "{line}");
    for words in ["200", "chat", "up/ok", "complete in ", "first event", "11 + 8 tokens"] {
        assert!(line.contains(words), "{words}: {line}");
    }
}

#[test]
fn the_log_of_requests_can_be_switched_off() {
    let magpie = Setup::empty().and("log: { requests: false }").start();
    magpie.post(CHAT, &chat("echo", false));
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert_eq!(magpie.process.stderr.so_far(), "");
}

#[test]
fn a_model_name_cannot_forge_a_line() {
    let magpie = Setup::of(&Refused::base_url()).start();
    let name = "up/x\",\"status\":200}\n{\"forged\":true";
    magpie.post(CHAT, &chat(name, false)).assert_error(502, "provider_unreachable");
    let lines = magpie.log(1);
    assert_eq!((lines.len(), &lines[0]["model"]), (1, &Value::from(name)));
    assert_eq!(lines[0]["status"], 502);
    assert_eq!(magpie.process.stderr.so_far().lines().count(), 1);
}
