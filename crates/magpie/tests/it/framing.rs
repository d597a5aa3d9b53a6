//! HTTP/1 on the client's side, byte by byte: pipelining, keep-alive, the old versions, and
//! requests that two readers might understand differently.

use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use testkit::ScriptedUpstream;

use crate::client::request;
use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};

fn served() -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    (upstream, magpie)
}

fn post(model: &str, stream: bool) -> Vec<u8> {
    request("POST", CHAT, &[("content-type", "application/json")], chat(model, stream).as_bytes())
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let (upstream, magpie) = served();
    let mut wire = magpie.connect();
    let slow = post("up/slow:150", false);
    let all =
        [slow, post("up/events:3", true), post("echo", false), request("GET", "/health", &[], b"")];
    wire.send(&all.concat());
    assert_eq!(wire.reply().json()["model"], "slow:150");
    assert_eq!(wire.reply().content(), "w1 w2 w3 ");
    assert_eq!(wire.reply().json()["model"], "echo");
    assert_eq!(wire.reply().json()["status"], "ok");
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let (_upstream, magpie) = served();
    let bytes = post("up/ok", false);
    for size in [1, 7, 100] {
        let mut wire = magpie.connect();
        for piece in bytes.chunks(size) {
            wire.send(piece);
            if size > 1 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(wire.reply().status(), 200, "{size}");
    }
}

#[test]
fn a_connection_is_kept_and_closed_as_the_client_says() {
    let (_upstream, magpie) = served();
    let mut kept = magpie.connect();
    for _ in 0..5 {
        kept.send(&post("up/ok", false));
        let reply = kept.reply();
        assert_ne!(reply.header("connection"), Some("close"));
    }
    assert!(!kept.ends_within(Duration::from_millis(50)));
    for (model, stream) in [("up/ok", false), ("up/ok", true), ("nobody", false)] {
        let mut wire = magpie.connect();
        let body = chat(model, stream);
        wire.send(&request("POST", CHAT, &[("connection", "close")], body.as_bytes()));
        let reply = wire.reply();
        assert!(reply.whole && reply.header("connection") == Some("close"), "{model}");
        assert!(wire.ends_within(PATIENCE), "{model}");
    }
}

#[test]
fn http_1_0_gets_answers_and_streams_that_end_with_the_connection() {
    let (_upstream, magpie) = served();
    for (model, stream) in [("up/ok", false), ("up/events:20:5", true)] {
        let mut wire = magpie.connect();
        let body = chat(model, stream);
        let head = format!("POST {CHAT} HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
        wire.send(format!("{head}{body}").as_bytes());
        let head = wire.head();
        assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
        let (body, whole) = wire.body(&head, "POST");
        let text = String::from_utf8(body).unwrap();
        assert!(whole && (!stream || text.ends_with("data: [DONE]\n\n")), "{text}");
        assert!(wire.ends_within(PATIENCE));
    }
    let mut kept = magpie.connect();
    for _ in 0..2 {
        kept.send(b"GET /health HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!(kept.reply().status(), 200);
    }
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let (upstream, magpie) = served();
    let body = chat("up/ok", false);
    let length = body.len().to_string();
    let headers = [("expect", "100-continue"), ("content-length", &*length)];
    let mut wire = magpie.connect();
    wire.send(&request("POST", CHAT, &headers, b""));
    assert_eq!(wire.head().status, 100);
    assert!(upstream.received().is_empty());
    wire.send(body.as_bytes());
    assert_eq!(wire.reply().status(), 200);
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_body_reaches_nobody() {
    let (upstream, magpie) = served();
    let bytes = post("up/ok", false);
    let mut wire = magpie.connect();
    wire.send(&bytes[..bytes.len() - 5]);
    wire.stream().shutdown(Shutdown::Write).unwrap();
    let reply = wire.try_reply().map(|reply| reply.status());
    assert!(reply.is_none_or(|status| status == 400), "{reply:?}");
    assert!(upstream.received().is_empty());
    assert_eq!(magpie.get("/health").status(), 200);
}

#[test]
fn an_upgrade_is_not_taken_up() {
    let (upstream, magpie) = served();
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for path in ["/v1/realtime?model=up%2Fok", CHAT] {
        let reply = magpie.call("GET", path, &headers, "");
        assert!((400..500).contains(&reply.status()), "{path}: {}", reply.status());
    }
    let h2c =
        [("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AA")];
    assert_eq!(magpie.call("GET", "/health", &h2c, "").status(), 200);
    assert!(upstream.received().is_empty());
}

/// Requests that are no requests. None of them may be taken for two, or reach a provider.
const MALFORMED: &[(&str, &str)] = &[
    (
        "two lengths",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{\"a\":1}",
    ),
    (
        "two lengths in a list",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 6\r\n\r\n{\"a\":1}",
    ),
    ("a signed length", "POST PATH HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nabcde"),
    (
        "a negative length",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nabcde",
    ),
    (
        "a length with a letter",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5a\r\n\r\nabcde",
    ),
    ("an empty length", "POST PATH HTTP/1.1\r\nHost: localhost\r\nContent-Length: \r\n\r\nabcde"),
    (
        "a length beyond 64 bits",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\nabcde",
    ),
    (
        "a space before the colon",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "an unknown coding",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked not last",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "identity",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    ("chunks in HTTP/1.0", "POST PATH HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (
        "a folded header",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a name with a space",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nX A: b\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a zero byte in a value",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nX-A: b\0c\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a bare CR in a value",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nX-A: b\rContent-Length: 9\r\n\r\n",
    ),
    (
        "a bare LF chunk",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    ),
    (
        "a signed chunk",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    ),
    (
        "a chunk in C's hexadecimal",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    ),
    (
        "a chunk with a line",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0_2\r\n{}\r\n0\r\n\r\n",
    ),
    (
        "a chunk without a size",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\r\n{}\r\n0\r\n\r\n",
    ),
    (
        "a chunk beyond 64 bits",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n",
    ),
    (
        "a chunk longer than it says",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}{}\r\n0\r\n\r\n",
    ),
    (
        "a bare LF in an extension",
        "POST PATH HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n",
    ),
    ("no method", "PATH HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("another version", "POST PATH HTTP/1.2\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"),
    ("no HTTP", "{\"model\": \"up/ok\"}\r\n\r\n"),
    ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n"),
];

#[test]
fn what_two_readers_might_understand_differently_is_refused() {
    let (upstream, magpie) = served();
    let next = String::from_utf8(post("up/smuggled", false)).unwrap();
    for (what, bytes) in MALFORMED {
        let mut wire = magpie.connect();
        let bytes = bytes.replace("PATH", CHAT);
        wire.try_send(format!("{bytes}{next}").as_bytes());
        if let Some(reply) = wire.try_reply() {
            assert_eq!(reply.status(), 400, "{what}: {}", reply.text());
            assert!(wire.try_reply().is_none(), "{what}: it goes on");
        }
        assert!(upstream.received().is_empty(), "{what}: {:?}", upstream.received());
    }
    assert_eq!(magpie.ask("ok", false).status(), 200);
}

#[test]
fn chunks_count_more_than_a_length_and_end_the_connection() {
    let (upstream, magpie) = served();
    let body = chat("up/ok", false);
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let next = String::from_utf8(post("up/smuggled", false)).unwrap();
    for headers in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ] {
        upstream.clear();
        let mut wire = magpie.connect();
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n\r\n");
        wire.try_send(format!("{head}{chunks}{next}").as_bytes());
        let first = wire.reply();
        assert!(first.status() == 200 || first.status() == 400, "{headers}: {}", first.text());
        assert!(wire.try_reply().is_none(), "{headers}: a second request was read");
        let received = upstream.received();
        assert!(received.iter().all(|request| request.json()["model"] == "ok"), "{headers}");
        let framing = |name: &str| received.first().and_then(|request| request.header(name));
        assert_eq!(framing("transfer-encoding"), None, "{headers}");
    }
}

#[test]
fn a_body_that_was_refused_is_not_read_as_the_next_request() {
    let (upstream, magpie) = served();
    let smuggled = post("up/smuggled", false);
    for path in ["/v1/nothing/../here", "/v1/models", "/nothing"] {
        let mut wire = magpie.connect();
        wire.send(&request("POST", path, &[], &smuggled));
        assert!(wire.reply().status() >= 400, "{path}");
        // Either the connection ends here, or the next answer is to the next request.
        if wire.try_send(&request("GET", "/health", &[], b""))
            && let Some(next) = wire.try_reply()
        {
            assert_eq!(next.json()["status"], "ok", "{path}");
        }
    }
    assert!(upstream.received().is_empty());
}

#[test]
fn paths_that_two_readers_might_understand_differently_are_refused() {
    let (upstream, magpie) = served();
    for path in [
        "/v1/../v1/chat/completions",
        "/v1/files/%2e%2e/secret",
        "/v1/files/..%2fsecret",
        "/v1/files/a%00b",
        "/v1/files/a%5cb",
        "/v1/files/%zz",
        "/v1/files/./a",
    ] {
        let reply = magpie.call("POST", path, &[], &chat("up/ok", false));
        assert_eq!(reply.status(), 400, "{path}: {}", reply.text());
    }
    assert!(upstream.received().is_empty());
    let doubled = magpie.post("//v1//chat//completions", &chat("up/ok", false));
    assert_eq!(doubled.status(), 200, "clients double slashes: {}", doubled.text());
}
