//! The scripted upstream over real sockets.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

mod client;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{DEFAULT_TEXT, Options, Refused, ScriptedUpstream, digest_text};

use client::{CHAT, ask, byte, chat, connect, get, line, post, read_reply, stream_of};

#[test]
fn ok_replies_whole_and_streamed_on_one_connection() {
    let upstream = ScriptedUpstream::start();
    let mut stream = connect(&upstream);
    post(&mut stream, CHAT, &chat("ok", false));
    let whole = read_reply(&mut stream);
    assert!(whole.head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(whole.json()["choices"][0]["message"]["content"], DEFAULT_TEXT);
    assert_eq!(whole.json()["usage"]["total_tokens"], 19);

    post(&mut stream, CHAT, &chat("ok", true));
    let streamed = read_reply(&mut stream);
    assert_eq!(streamed.content(), DEFAULT_TEXT);
    assert!(streamed.done());
    let events = streamed.events();
    assert_eq!(events.len(), 1 + 8 + 1 + 1);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[9]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[10]["usage"]["completion_tokens"], 8);

    let received = upstream.received();
    assert_eq!(received.len(), 2);
    assert_eq!(upstream.connections(), 1);
    assert_eq!((received[1].connection, received[1].order), (1, 1));
    assert_eq!(received[0].header("authorization"), Some("Bearer sk"));
    assert_eq!(received[0].json()["model"], "ok");
    assert_eq!(received[1].outcome.events_sent, 12);
    assert!(received[1].outcome.finished);
    upstream.clear();
    assert!(upstream.received().is_empty());
}

#[test]
fn choices_and_usage_follow_the_request() {
    let upstream = ScriptedUpstream::start();
    let body = json!({"model": "events:2", "n": 2, "stream": true}).to_string();
    let raw = ask(&upstream, CHAT, &body);
    let events = raw.events();
    assert_eq!(events.len(), 2 * (1 + 2 + 1));
    assert!(events.iter().all(|event| event.get("usage").is_none()));
    let whole = ask(&upstream, CHAT, &json!({"model": "ok", "n": 3}).to_string());
    assert_eq!(whole.json()["choices"].as_array().unwrap().len(), 3);
    let every = stream_of(&upstream, "usage-every").events();
    assert!(every.iter().all(|event| event["usage"].is_object()));
}

#[test]
fn events_are_paced_padded_and_timed() {
    let upstream = ScriptedUpstream::start();
    let start = Instant::now();
    let raw = stream_of(&upstream, "timed:5:30:100");
    assert!(start.elapsed() >= Duration::from_millis(115));
    let stamps: Vec<u128> = raw.content().split('@').filter_map(|part| part.parse().ok()).collect();
    assert_eq!(stamps.len(), 5);
    // On a busy machine one event may be late and the next one on time: together they are paced.
    assert!(stamps[4] - stamps[0] >= 100_000_000, "{stamps:?}");
    assert!(stamps.is_sorted());
    assert_eq!(raw.content().len(), 500);
}

#[test]
fn streams_break_in_every_way() {
    let upstream = ScriptedUpstream::start();
    let raw = stream_of(&upstream, "cut:2");
    assert_eq!((raw.content().as_str(), raw.end), ("w1 w2 ", Some(ErrorKind::UnexpectedEof)));
    let raw = stream_of(&upstream, "cut:0");
    assert_eq!((raw.body.len(), raw.end), (0, Some(ErrorKind::UnexpectedEof)));
    let raw = stream_of(&upstream, "reset:2");
    assert_eq!((raw.content().as_str(), raw.end), ("w1 w2 ", Some(ErrorKind::ConnectionReset)));
    let raw = stream_of(&upstream, "eof:2");
    assert_eq!((raw.content().as_str(), raw.end, raw.done()), ("w1 w2 ", None, false));
    let raw = stream_of(&upstream, "no-done");
    assert!(raw.text().contains("\"stop\"") && !raw.done() && raw.end.is_none());
    let raw = stream_of(&upstream, "malformed:1");
    assert!(raw.text().contains("data: {\"id\":\n\n") && raw.done());
    let raw = stream_of(&upstream, "stall:1");
    assert_eq!((raw.content().as_str(), raw.end), ("w1 ", Some(ErrorKind::WouldBlock)));
    let raw = stream_of(&upstream, "error-event:1:baidu");
    assert_eq!(raw.events()[2]["error_code"], 336_501);
    let raw = stream_of(&upstream, "hang-headers");
    assert!(raw.head.contains("text/event-stream"));
    assert_eq!((raw.body.len(), raw.end), (0, Some(ErrorKind::WouldBlock)));
}

#[test]
fn replies_break_in_every_way() {
    let upstream = ScriptedUpstream::start();
    let reply = |model: &str| ask(&upstream, CHAT, &chat(model, false));
    assert_eq!(reply("truncated-body").end, Some(ErrorKind::UnexpectedEof));
    assert_eq!(reply("reset:1").end, Some(ErrorKind::ConnectionReset));
    assert_eq!(reply("hang").end, Some(ErrorKind::WouldBlock));
    let limited = reply("status:429:7");
    assert!(limited.head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"));
    assert!(limited.head.contains("retry-after: 7\r\n"));
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(reply("error200:minimax").json()["base_resp"]["status_code"], 1002);
    assert!(reply("html:503").text().contains("<h1>503 Service Unavailable</h1>"));
    assert!(reply("redirect:example.invalid").head.contains("location: http://example.invalid/v1"));
    assert_eq!(reply("big:100000").body.len(), 100_000);
    assert_eq!(reply("json-for-stream").json()["object"], "chat.completion");
    assert!(stream_of(&upstream, "not-sse").text().starts_with("<html>"));
    let start = Instant::now();
    assert_eq!(reply("slow:80").end, None);
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[test]
fn bytes_are_split_dripped_and_decorated() {
    let upstream = ScriptedUpstream::start();
    for size in [1, 3, 7] {
        let raw = stream_of(&upstream, &format!("split:{size}"));
        assert!(raw.content().contains("中文字符，🎉🦀 한국어 👩‍👩‍👧"));
        assert!(raw.done());
    }
    assert_eq!(stream_of(&upstream, "drip:0").content(), "drip drop");
    let raw = stream_of(&upstream, "crlf");
    assert!(raw.text().ends_with("data: [DONE]\r\n\r\n"));
    assert!(stream_of(&upstream, "no-space").text().starts_with("data:{"));
    assert!(stream_of(&upstream, "comments").text().starts_with(": keep-alive\n\n\ndata: {"));
}

#[test]
fn close_after_closes_silently() {
    let upstream = ScriptedUpstream::start();
    for streamed in [false, true] {
        let mut stream = connect(&upstream);
        post(&mut stream, CHAT, &chat("close-after", streamed));
        let raw = read_reply(&mut stream);
        assert!(raw.end.is_none() && !raw.head.contains("connection"));
        assert_eq!(byte(&mut stream), Err(ErrorKind::UnexpectedEof));
    }
}

#[test]
fn leaving_peers_are_noticed() {
    let upstream = ScriptedUpstream::start();
    let models = ["hang", "stall:2", "events:100:1000", "slow:5000", "flood:1000000000"];
    for model in models {
        let mut stream = connect(&upstream);
        post(&mut stream, CHAT, &chat(model, true));
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
    }
    let start = Instant::now();
    let left = || upstream.received().iter().filter(|r| r.outcome.peer_left.is_some()).count();
    while left() < models.len() {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", upstream.received());
        std::thread::sleep(Duration::from_millis(2));
    }
    for received in upstream.received() {
        let after = received.outcome.left_after.unwrap();
        assert!(after > Duration::from_millis(80) && after < Duration::from_secs(4));
        assert!(!received.outcome.finished);
    }
    assert_eq!(upstream.received()[1].outcome.events_sent, 3);
    let written = upstream.bytes_written();
    assert!(written > 100_000 && written < 100_000_000, "{written}");
}

#[test]
fn tools_json_reasoning_and_echoes() {
    let upstream = ScriptedUpstream::start();
    let events = stream_of(&upstream, "tools").events();
    let part = |e: &Value| {
        let delta = &e["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
        delta.as_str().map(str::to_owned)
    };
    let arguments: String = events.iter().filter_map(part).collect();
    let arguments: Value = serde_json::from_str(&arguments).unwrap();
    assert_eq!(arguments["city"], "北京");
    let raw = stream_of(&upstream, "reasoning");
    assert_eq!(raw.events()[1]["choices"][0]["delta"]["reasoning_content"], "Let ");
    let schema = json!({"type": "object", "properties": {"age": {"type": "integer"}}});
    let body = json!({"model": "json", "response_format": {"type": "json_schema",
        "json_schema": {"name": "x", "schema": schema}}});
    let reply = ask(&upstream, CHAT, &body.to_string()).json();
    assert_eq!(reply["choices"][0]["message"]["content"], "{\"age\":7}");
    let body = chat("digest", false);
    let reply = ask(&upstream, CHAT, &body).json();
    assert_eq!(reply["choices"][0]["message"]["content"], digest_text(body.as_bytes()));
    let reply = ask(&upstream, CHAT, &chat("echo-headers", false)).json();
    let content = reply["choices"][0]["message"]["content"].as_str().unwrap();
    let headers: Value = serde_json::from_str(content).unwrap();
    assert_eq!(headers["authorization"], "Bearer sk");
    assert!(ask(&upstream, CHAT, &chat("headers", false)).head.contains("set-cookie: __cf_bm"));
}

#[test]
fn other_endpoints_reply_sensibly() {
    let upstream = ScriptedUpstream::start();
    assert_eq!(get(&upstream, "GET", "/v1/models").json()["object"], "list");
    assert_eq!(get(&upstream, "GET", "/v1/models/org/m").json()["id"], "org/m");
    assert_eq!(get(&upstream, "DELETE", "/v1/files/file-9").json()["deleted"], true);
    assert!(get(&upstream, "GET", "/nowhere").head.starts_with("HTTP/1.1 404 "));
    let body = json!({"model": "e", "input": ["a", "b"], "encoding_format": "base64"}).to_string();
    let reply = ask(&upstream, "/v1/embeddings", &body).json();
    assert_eq!(reply["data"][1]["embedding"].as_str().unwrap().len(), 44);
    let body = json!({"model": "r", "documents": ["a", "b"], "top_n": 1}).to_string();
    let reply = ask(&upstream, "/v1/rerank", &body).json();
    assert_eq!(reply["results"].as_array().unwrap().len(), 1);
    let reply = ask(&upstream, "/v1/embeddings", &chat("status:401", false));
    assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
    let body = json!({"model": "ok", "input": "hi", "stream": true}).to_string();
    let text = ask(&upstream, "/v1/responses", &body).text();
    assert!(text.starts_with("event: response.created\ndata: {\"type\":\"response.created\""));
    assert!(text.contains("event: response.completed\n") && !text.contains("[DONE]"));
    let body = json!({"model": "ok", "prompt": "hi", "stream": true}).to_string();
    assert!(ask(&upstream, "/v1/completions", &body).text().contains("\"text\":\"This \""));
}

#[test]
fn chunked_multipart_bodies_and_expectations_are_read() {
    let upstream = ScriptedUpstream::start();
    let mut stream = connect(&upstream);
    let head = "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\nExpect: 100-continue\r\n\
                content-type: multipart/form-data; boundary=b\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(line(&mut stream).unwrap(), "HTTP/1.1 100 Continue");
    assert_eq!(line(&mut stream).unwrap(), "");
    let part =
        "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nstatus:503\r\n--b--\r\n";
    for piece in part.as_bytes().chunks(10) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
        stream.write_all(piece).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert!(read_reply(&mut stream).head.starts_with("HTTP/1.1 503 "));
    assert_eq!(upstream.received()[0].body, part.as_bytes());
}

#[test]
fn set_replies_come_in_their_order() {
    let upstream = ScriptedUpstream::start();
    let script = json!({"model": "seq", "replies": [
        {"script": "status:500"},
        {"status": 418, "headers": {"x-one": "1"}, "body": {"a": 1}},
        {"events": [{"choices": []}, ": hello", "data: raw"], "delay_ms": 1},
        {"message": {"content": "two words", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]}},
    ]});
    assert_eq!(ask(&upstream, "/__script", &script.to_string()).json()["ok"], true);
    assert!(stream_of(&upstream, "seq").head.starts_with("HTTP/1.1 500 "));
    let second = stream_of(&upstream, "seq");
    assert!(second.head.starts_with("HTTP/1.1 418 ") && second.head.contains("x-one: 1\r\n"));
    let third = stream_of(&upstream, "seq");
    let wanted = "data: {\"choices\":[]}\n\n: hello\n\ndata: raw\n\ndata: [DONE]\n\n";
    assert_eq!(third.text(), wanted);
    assert_eq!(stream_of(&upstream, "seq").content(), "two words");
    let reply = ask(&upstream, CHAT, &chat("seq", false)).json();
    let call = &reply["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["arguments"], "{\"x\":1}");
    let record = get(&upstream, "GET", "/__record").json();
    assert_eq!(record.as_array().unwrap().len(), 5);
    assert_eq!(record[0]["target"], CHAT);
}

#[test]
fn the_cheap_path_says_the_same() {
    let usual = ScriptedUpstream::start();
    let cheap = ScriptedUpstream::start_with(Options { record: false, ..Options::default() });
    for model in ["ok", "events:3", "events:3:1", "cut:1", "tools"] {
        for streamed in [false, true] {
            let body = chat(model, streamed);
            let (one, two) = (ask(&usual, CHAT, &body), ask(&cheap, CHAT, &body));
            assert_eq!((one.head, one.end), (two.head, two.end));
            if model != "events:3:1" {
                assert_eq!(one.body, two.body, "{model}");
            }
        }
    }
    let raw = stream_of(&cheap, "timed:3:5:50");
    assert_eq!((raw.content().len(), raw.done(), raw.events().len()), (150, true, 6));
    assert!(!raw.content().contains("@0000"));
    assert!(cheap.received().is_empty());
}

#[test]
fn nobody_listens_at_refused() {
    let error = TcpStream::connect(Refused::address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn tls_serves_the_same() {
    use std::sync::Arc;
    let (upstream, pem) = ScriptedUpstream::start_tls();
    assert!(upstream.base_url().starts_with("https://localhost:"));
    let mut roots = rustls::RootCertStore::empty();
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap();
    roots.add(der).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    for name in ["localhost", "127.0.0.1"] {
        let name = name.try_into().unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::new(config.clone()), name).unwrap();
        let mut tcp = connect(&upstream);
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        let body = chat("close-after", true);
        write!(stream, "POST {CHAT} HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("data: [DONE]\n\n"));
        assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
}
