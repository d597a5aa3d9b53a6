//! The API over real sockets: routes, bad input, bounds, and what every response carries.

use std::collections::HashSet;

use serde_json::{Value, json};
use testkit::{DEFAULT_TEXT, ScriptedUpstream};

use crate::client::{Reply, request};
use crate::harness::{CHAT, Magpie, PROVIDER_KEY, Setup, chat};

fn served() -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    (upstream, magpie)
}

#[test]
fn chat_completions_and_embeddings_reach_the_provider_with_its_key() {
    let (upstream, magpie) = served();
    let whole = magpie.ask("ok", false);
    assert_eq!(whole.json()["choices"][0]["message"]["content"], DEFAULT_TEXT);
    let streamed = magpie.ask("ok", true);
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
    assert_eq!(streamed.header("cache-control"), Some("no-cache"));
    assert!(streamed.content() == DEFAULT_TEXT && streamed.is_done() && streamed.whole);
    let completion = magpie.post("/v1/completions", r#"{"model": "up/ok", "prompt": "hi"}"#);
    assert_eq!(completion.json()["choices"][0]["text"], DEFAULT_TEXT);
    let embedding = magpie.post("/v1/embeddings", r#"{"model": "up/ok", "input": ["a", "b"]}"#);
    assert_eq!(embedding.json()["data"].as_array().unwrap().len(), 2);

    let received = upstream.received();
    let paths: Vec<&str> = received.iter().map(testkit::Received::path).collect();
    assert_eq!(paths, [CHAT, CHAT, "/v1/completions", "/v1/embeddings"]);
    for request in &received {
        assert_eq!(request.header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
        assert_eq!(request.header("host"), Some(&*upstream.address().to_string()));
        assert_eq!(request.json()["model"], "ok");
    }
}

#[test]
fn credentials_cookies_and_hop_by_hop_headers_stay_on_their_side() {
    let (upstream, magpie) = served();
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer sk-of-the-client"),
        ("x-api-key", "sk-of-the-client"),
        ("cookie", "session=of-the-client"),
        ("proxy-authorization", "Basic b2Y6Y2xpZW50"),
        ("x-forwarded-for", "10.1.2.3"),
        ("connection", "keep-alive, x-secret"),
        ("x-secret", "hop"),
        ("te", "trailers"),
        ("openai-beta", "assistants=v2"),
        ("user-agent", "the-client/1.0"),
    ];
    let reply = magpie.call("POST", CHAT, &headers, &chat("up/headers", false));
    let received = &upstream.received()[0];
    for (name, value) in &received.headers {
        assert!(!value.contains("client") || name.eq_ignore_ascii_case("user-agent"), "{name}");
    }
    for gone in ["cookie", "x-secret", "te", "x-forwarded-for", "x-api-key", "connection"] {
        assert_eq!(received.header(gone), None, "{gone}");
    }
    assert_eq!(received.header("openai-beta"), Some("assistants=v2"));
    assert_eq!(received.header("user-agent"), Some("the-client/1.0"));

    for gone in ["set-cookie", "x-custom-header", "keep-alive"] {
        assert_eq!(reply.header(gone), None, "{gone}");
    }
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some("9999"));
    assert_eq!(reply.header("openai-processing-ms"), Some("42"));
    assert_eq!(reply.header("x-upstream-request-id"), Some("req_scripted"));
}

#[test]
fn a_response_says_where_it_came_from_and_what_magpie_itself_took() {
    let (_upstream, magpie) = served();
    for stream in [false, true] {
        let reply = magpie.ask("ok", stream);
        assert_eq!(reply.header("x-magpie-provider"), Some("up"));
        assert_eq!(reply.header("x-magpie-target"), Some("up/ok"));
        assert_eq!(reply.header("x-magpie-attempts"), Some("1"));
        let overhead: u64 = reply.header("x-magpie-overhead-us").unwrap().parse().unwrap();
        assert!((1..1_000_000).contains(&overhead), "{overhead}");
    }
}

#[test]
fn every_response_carries_a_request_id_of_its_own() {
    let (_upstream, magpie) = served();
    let page = [("origin", "http://localhost"), ("access-control-request-method", "POST")];
    let foreign = [("host", "evil.example")];
    let replies: Vec<(&str, Reply)> = vec![
        ("an answer", magpie.ask("ok", false)),
        ("a stream", magpie.ask("ok", true)),
        ("a provider's error", magpie.ask("status:500", false)),
        ("an unknown model", magpie.post(CHAT, &chat("nobody", false))),
        ("bad JSON", magpie.post(CHAT, "{")),
        ("the models", magpie.get("/v1/models")),
        ("a forwarded path", magpie.get("/v1/files")),
        ("an unknown path", magpie.get("/nothing")),
        ("a wrong method", magpie.call("GET", CHAT, &[], "")),
        ("a foreign host", magpie.call("GET", "/", &foreign, "")),
        ("a preflight", magpie.call("OPTIONS", CHAT, &page, "")),
        ("the welcome", magpie.get("/")),
        ("health", magpie.get("/health")),
        ("the documentation", magpie.get("/docs")),
    ];
    let mut seen = HashSet::new();
    for (what, reply) in &replies {
        let id = reply.header("x-request-id").unwrap_or_else(|| panic!("{what} has no id"));
        assert!(id.starts_with("req_") && id.len() == 36, "{what}: {id}");
        assert!(seen.insert(id.to_owned()), "{what}: {id} came twice");
    }
}

#[test]
fn models_are_listed_and_found_by_name() {
    let upstream = ScriptedUpstream::start();
    let more = "models: { mine: up/events, 'gpt-*': up/ok-* }";
    let magpie = Setup::provider(&[
        &format!("base_url: {}", upstream.base_url()),
        "models: [listed, other]",
    ]);
    let magpie = magpie.and(more).start();
    let list = magpie.get("/v1/models").json();
    let names: Vec<&str> =
        list["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(names, ["mine", "up/listed", "up/other", "echo"]);
    assert_eq!(magpie.get("/v1/models/mine").json()["owned_by"], "up");
    assert_eq!(magpie.get("/v1/models/up%2Flisted").json()["id"], "up/listed");
    magpie.get("/v1/models/minr").assert_error(404, "model_not_found");
    assert!(upstream.received().is_empty());

    for (asked, sent) in
        [("mine", "events"), ("gpt-x", "ok-x"), ("listed", "listed"), ("up/a/b", "a/b")]
    {
        upstream.clear();
        assert_eq!(magpie.post(CHAT, &chat(asked, false)).status(), 200, "{asked}");
        assert_eq!(upstream.received()[0].json()["model"], sent, "{asked}");
    }
}

#[test]
fn an_absent_model_and_default_mean_the_default() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and("models: { default: up/usual }").start();
    let messages = json!([{"role": "user", "content": "hi"}]);
    for body in [
        json!({"messages": messages}),
        json!({"model": null, "messages": messages}),
        json!({"model": "default", "messages": messages}),
    ] {
        upstream.clear();
        assert_eq!(magpie.post(CHAT, &body.to_string()).status(), 200);
        assert_eq!(upstream.received()[0].json()["model"], "usual");
    }
}

#[test]
fn bad_input_gets_an_error_that_helps_and_nothing_goes_upstream() {
    let (upstream, magpie) = served();
    let deep = format!("{{\"messages\": {}", "[".repeat(10_000));
    let cases: &[(&str, u16, &str, &str)] = &[
        ("{\n  \"model\": ,}", 400, "invalid_json", "line 2"),
        ("", 400, "invalid_json", ""),
        ("[]", 400, "invalid_json", ""),
        ("\u{feff}nothing", 400, "invalid_json", ""),
        (r#"{"model": "up/ok"}"#, 400, "invalid_field", "`messages`"),
        (r#"{"model": "up/ok", "messages": []}"#, 400, "invalid_field", "empty"),
        (r#"{"model": "up/ok", "messages": "hi"}"#, 400, "invalid_field", "array"),
        (r#"{"model": 7, "messages": [1]}"#, 400, "invalid_field", "`model`"),
        (
            r#"{"model": "up/ok", "messages": [1], "stream": "yes"}"#,
            400,
            "invalid_field",
            "`stream`",
        ),
        (r#"{"model": "a", "model": "b", "messages": [1]}"#, 400, "duplicate_field", "`model`"),
        (r#"{"model": "echi", "messages": [1]}"#, 404, "model_not_found", "`echo`"),
        (&deep, 400, "invalid_json", ""),
    ];
    for (body, status, code, words) in cases {
        let reply = magpie.post(CHAT, body);
        reply.assert_error(*status, code);
        assert!(reply.message().contains(words), "{words} is not in {}", reply.message());
    }
    let reply = magpie.post(CHAT, "{\"model\": \"up/ok\",\n \"messages\": [tru]}");
    assert!(reply.message().contains("column"), "{}", reply.message());
    let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
    magpie.call("POST", CHAT, &gzip, "x").assert_error(415, "compressed_body");
    assert!(upstream.received().is_empty());
}

#[test]
fn hints_are_chinese_for_those_who_read_chinese() {
    let magpie = Setup::empty().start();
    let headers = [("accept-language", "zh-CN,zh;q=0.9,en;q=0.8")];
    let reply = magpie.call("POST", CHAT, &headers, &chat("nobody", false));
    assert!(reply.message().contains("列出了所有模型"), "{}", reply.message());
}

/// A chat request of exactly this size.
fn sized(bytes: usize) -> String {
    let empty = r#"{"model": "up/ok", "messages": [""]}"#;
    empty.replace("[\"\"]", &format!("[\"{}\"]", "a".repeat(bytes - empty.len())))
}

fn chunked(body: &str) -> Vec<u8> {
    let headers = [("content-type", "application/json"), ("transfer-encoding", "chunked")];
    let mut out = request("POST", CHAT, &headers, b"");
    for piece in body.as_bytes().chunks(700) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

#[test]
fn a_body_may_be_as_large_as_the_limit_and_not_a_byte_larger() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and("limits: { body: 4KiB }").start();
    for size in [4095, 4096] {
        assert_eq!(magpie.post(CHAT, &sized(size)).status(), 200, "{size}");
        let mut wire = magpie.connect();
        wire.send(&chunked(&sized(size)));
        assert_eq!(wire.reply().status(), 200, "{size} in chunks");
    }
    assert_eq!(upstream.received().len(), 4);
    upstream.clear();
    for size in [4097, 40_000] {
        let announced = magpie.post(CHAT, &sized(size));
        let mut wire = magpie.connect();
        wire.try_send(&chunked(&sized(size)));
        for reply in [announced, wire.reply()] {
            reply.assert_error(413, "body_too_large");
            assert!(reply.message().contains("4096 bytes"), "{}", reply.message());
        }
    }
    assert!(upstream.received().is_empty());
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_before_it_is_sent() {
    let magpie = Setup::empty().and("limits: { body: 4KiB }").start();
    let mut wire = magpie.connect();
    let headers = [("content-length", "10000000000"), ("expect", "100-continue")];
    wire.send(&request("POST", CHAT, &headers, b""));
    let reply = wire.reply();
    assert_eq!(reply.status(), 413, "no 100 Continue for what nobody will read");
    assert!(reply.message().contains("4096 bytes"));
}

#[test]
fn headers_beyond_the_bound_are_refused_and_those_within_it_are_not() {
    let magpie = Setup::empty().start();
    let with = |name: &str, size: usize| {
        let mut wire = magpie.connect();
        wire.try_send(&request("GET", "/health", &[(name, &"h".repeat(size))], b""));
        wire.try_reply().map(|reply| reply.status())
    };
    assert_eq!(with("x-large", 24 << 10), Some(200));
    assert_eq!(with("x-large", 40 << 10), Some(431));
    assert_eq!(with("x-large", 400 << 10), Some(431));

    let many: Vec<(String, &str)> = (0..200).map(|i| (format!("x-{i}"), "h")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, *value)).collect();
    assert_eq!(magpie.call("GET", "/health", &many, "").status(), 431);
    assert_eq!(magpie.call("GET", "/health", &many[..90], "").status(), 200);
    assert_eq!(magpie.get("/health").status(), 200);
}

#[test]
fn the_echo_answers_everything_it_knows_without_a_provider() {
    let magpie = Setup::empty().start();
    let streamed = magpie.post(CHAT, &chat("echo", true));
    assert!(streamed.content() == "hi" && streamed.is_done() && streamed.is_finished());
    let completion = magpie.post("/v1/completions", r#"{"prompt": "one two"}"#);
    assert_eq!(completion.json()["choices"][0]["text"], "one two");
    let embedding = magpie.post("/v1/embeddings", r#"{"model": "echo", "input": "a"}"#).json();
    assert_eq!(embedding["data"][0]["embedding"].as_array().map(Vec::len), Some(64));
    let speech = magpie.post("/v1/audio/speech", r#"{"model": "echo", "input": "a"}"#);
    assert_eq!(
        (speech.status(), &speech.json()["error"]["code"]),
        (404, &Value::from("unsupported_operation"))
    );
}
