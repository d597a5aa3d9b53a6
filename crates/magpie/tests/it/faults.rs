//! A provider that misbehaves, over real sockets: the client is told in words that it understands,
//! and never takes a part for the whole.

use std::time::{Duration, Instant};

use testkit::{Refused, ScriptedUpstream};

use crate::client::Reply;
use crate::harness::{CHAT, Magpie, PROVIDER_KEY, Setup, chat};
use crate::raw::RawUpstream;

/// Clocks short enough to wait for.
const CLOCKS: &str = "timeouts: { connect: 300ms, first_event: 300ms, idle: 300ms, total: 1500ms }";

fn served() -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and(CLOCKS).start();
    (upstream, magpie)
}

#[test]
fn a_provider_that_is_not_there_is_an_error_at_once() {
    let magpie = Setup::of(&Refused::base_url()).start();
    let start = Instant::now();
    for stream in [false, true] {
        let reply = magpie.ask("ok", stream);
        reply.assert_error(502, "provider_unreachable");
        assert!(reply.message().contains("refused"), "{}", reply.message());
        assert_eq!(reply.header("x-magpie-provider"), Some("up"));
    }
    assert!(start.elapsed() < Duration::from_secs(1));
    let nowhere = Setup::of("http://provider.invalid/v1").start();
    nowhere.ask("ok", false).assert_error(502, "provider_unreachable");
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error_and_no_normal_end() {
    let (_upstream, magpie) = served();
    for (script, code) in [
        ("cut:3", "provider_truncated"),
        ("reset:3", "provider_truncated"),
        ("eof:3", "provider_truncated"),
        ("truncated-body", "provider_truncated"),
        ("malformed:3", "provider_malformed"),
        ("stall:3", "provider_timeout"),
        ("cut:0", "provider_truncated"),
        ("eof:0", "provider_truncated"),
        ("hang-headers", "provider_timeout"),
    ] {
        let reply = magpie.ask(script, true);
        if script == "truncated-body" {
            // Its end is missing, but it was finished: nothing is lost.
            assert!(reply.whole && !reply.text().is_empty(), "{script}: {}", reply.text());
            continue;
        }
        assert_eq!(reply.status(), 200, "{script}: {}", reply.text());
        reply.assert_broken_off(code);
        let expected = if script.ends_with(":3") { "w1 w2 w3 " } else { "" };
        assert_eq!(reply.content(), expected, "{script}");
    }
}

#[test]
fn a_stream_that_finished_without_done_passes_as_it_came() {
    let (_upstream, magpie) = served();
    let reply = magpie.ask("no-done", true);
    assert!(reply.whole && reply.is_finished() && !reply.is_done());
    assert!(reply.events().iter().all(|event| event.get("error").is_none()));
}

#[test]
fn an_error_inside_a_stream_ends_it() {
    let (_upstream, magpie) = served();
    for (script, code) in [
        ("error-event:2", "server_error"),
        ("error-event:2:baidu", "336501"),
        ("error-event:2:minimax", "1002"),
    ] {
        let reply = magpie.ask(script, true);
        reply.assert_broken_off(code);
        assert_eq!(reply.content(), "w1 w2 ", "{script}");
    }
}

#[test]
fn a_whole_answer_that_does_not_come_whole_is_an_error() {
    let (_upstream, magpie) = served();
    for (script, status, codes) in [
        ("cut:3", 502, ["provider_truncated", ""]),
        ("reset:3", 502, ["provider_truncated", "provider_no_reply"]),
        ("truncated-body", 502, ["provider_truncated", ""]),
        ("stall:3", 504, ["provider_timeout", ""]),
        ("hang", 504, ["provider_timeout", ""]),
        ("hang-headers", 504, ["provider_timeout", ""]),
        ("html:200", 502, ["provider_malformed", ""]),
        ("redirect", 502, ["provider_redirect", ""]),
    ] {
        let reply = magpie.ask(script, false);
        assert_eq!(reply.status(), status, "{script}: {}", reply.text());
        assert!(codes.contains(&&*reply.code()), "{script}: {}", reply.text());
    }
}

#[test]
fn an_answer_that_is_no_stream_is_an_error_with_a_status() {
    let (_upstream, magpie) = served();
    for (script, status, code) in [
        ("hang", 504, "provider_timeout"),
        ("json-for-stream", 502, "provider_not_streaming"),
        ("html:200", 502, "provider_malformed"),
        ("redirect:127.0.0.1:9", 502, "provider_redirect"),
    ] {
        magpie.ask(script, true).assert_error(status, code);
    }
    let page = magpie.ask("not-sse", true);
    assert!(!page.is_done() && page.text().contains("\"error\""), "{}", page.text());
}

#[test]
fn an_error_under_status_200_becomes_one() {
    let (_upstream, magpie) = served();
    for stream in [false, true] {
        magpie.ask("error200", stream).assert_error(502, "server_error");
        assert_eq!(magpie.ask("error200:minimax", stream).status(), 429);
        let baidu = magpie.ask("error200:baidu", stream);
        assert_eq!((baidu.status(), &*baidu.code()), (502, "336501"), "{}", baidu.text());
        assert!(baidu.message().contains("rpm limit"), "{}", baidu.text());
    }
}

#[test]
fn the_error_codes_of_xinghe_become_the_status_they_mean() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::empty()
        .env("XINGHE_API_KEY", "token-of-the-owner")
        .env("XINGHE_BASE_URL", &upstream.base_url())
        .start();
    let reply = magpie.post(CHAT, &chat("xinghe/error200:baidu", true));
    assert_eq!(reply.status(), 429, "{}", reply.text());
}

#[test]
fn the_errors_of_a_provider_keep_status_body_and_retry_after() {
    let (_upstream, magpie) = served();
    for status in [400, 401, 402, 403, 404, 413, 422, 429, 500, 503, 529] {
        for stream in [false, true] {
            let reply = magpie.ask(&format!("status:{status}:7"), stream);
            assert_eq!(reply.status(), status);
            assert_eq!(reply.message(), format!("scripted error {status}"));
            assert_eq!(reply.header("retry-after"), Some("7"));
            assert_eq!(reply.header("x-ratelimit-reset-requests"), Some("7s"));
            assert_eq!(reply.header("x-upstream-request-id"), Some("req_scripted"));
        }
    }
    let page = magpie.ask("html:503", false);
    assert_eq!(page.status(), 503);
    assert_eq!(page.header("content-type"), Some("application/json"));
    assert!(page.message().contains("Service Unavailable"), "{}", page.text());
}

#[test]
fn a_silent_stream_ends_when_its_clock_says_so() {
    let (upstream, magpie) = served();
    let mut wire = magpie.begin("stall:2", true);
    wire.head();
    wire.chunks_until("w2 ");
    let silent = Instant::now();
    wire.chunks_until("provider_timeout");
    let after = silent.elapsed();
    assert!((250..900).contains(&after.as_millis()), "{after:?}");
    let start = Instant::now();
    while upstream.received()[0].outcome.peer_left.is_none() {
        assert!(start.elapsed() < Duration::from_secs(1), "the provider is not let go");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn keep_alive_comments_do_not_count_as_events() {
    let upstream = RawUpstream::start(|mut peer, _| {
        peer.request();
        peer.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
        while peer.write(": keep-alive\n\n") {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let magpie = Setup::of(&upstream.base_url()).and(CLOCKS).start();
    let reply = magpie.ask("ok", true);
    reply.assert_broken_off("provider_timeout");
    assert!(reply.text().contains(": keep-alive\n\n"), "comments pass");
}

/// What a provider answered with these bytes looks like to a client.
fn answered_with(bytes: &'static [u8], stream: bool) -> Reply {
    let upstream = RawUpstream::start(move |mut peer, _| {
        peer.request();
        peer.write(bytes);
    });
    Setup::of(&upstream.base_url()).and(CLOCKS).start().ask("ok", stream)
}

#[test]
fn a_reply_that_is_no_http_is_an_error() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.7\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
    ] {
        for stream in [false, true] {
            let reply = answered_with(bytes, stream);
            assert_eq!(reply.status(), 502, "{:?}", reply.text());
            assert!(reply.code().starts_with("provider_"), "{}", reply.text());
        }
    }
    answered_with(b"", false).assert_error(502, "provider_no_reply");
    answered_with(b"HTTP/1.1 200 OK\r\ncontent-le", true).assert_error(502, "provider_truncated");
}

#[test]
fn a_provider_that_says_its_key_is_not_quoted() {
    let body: &'static str = Box::leak(
        format!(
            r#"{{"error": {{"message": "Incorrect API key: {PROVIDER_KEY}", "code": "bad"}}}}"#
        )
        .into_boxed_str(),
    );
    let upstream = RawUpstream::start(move |mut peer, _| {
        peer.request();
        let head = "HTTP/1.1 401 No\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
        peer.write(format!("{head}{body}"));
    });
    let magpie = Setup::of(&upstream.base_url()).start();
    for path in [CHAT, "/v1/images/generations"] {
        let reply = magpie.post(path, &chat("up/ok", false));
        assert_eq!(reply.status(), 401);
        assert!(reply.message().contains("Incorrect API key: ***"), "{}", reply.text());
        assert!(!reply.text().contains(PROVIDER_KEY));
    }
}
