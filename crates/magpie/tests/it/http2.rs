//! HTTP/2 on both sides.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use testkit::ScriptedUpstream;

use crate::client::events;
use crate::h2_client::{self, read_until, text};
use crate::h2_upstream::{Http2Upstream, Manner};
use crate::harness::{CHAT, Magpie, PATIENCE, PROVIDER_KEY, Setup};

#[test]
fn many_streams_share_one_connection_of_a_client() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    h2_client::run(async {
        let client = h2_client::connect(magpie.address).await;
        let start = Instant::now();
        let tasks: Vec<_> = (1..=100)
            .map(|n| {
                let client = client.clone();
                tokio::spawn(async move {
                    text(client.ask(&format!("up/events:{n}:5"), true).await).await
                })
            })
            .collect();
        for (n, task) in (1..=100).zip(tasks) {
            let text = task.await.unwrap();
            let expected: String = (1..=n).map(|i| format!("w{i} ")).collect();
            let delta = |event: &serde_json::Value| {
                event["choices"][0]["delta"]["content"].as_str().map(String::from)
            };
            assert_eq!(events(&text).iter().filter_map(delta).collect::<String>(), expected);
            assert!(text.ends_with("data: [DONE]\n\n"));
        }
        assert!(start.elapsed() < PATIENCE, "they run one after the other");
    });
}

#[test]
fn http2_gets_what_http1_gets() {
    let magpie = Setup::empty().start();
    h2_client::run(async {
        let client = h2_client::connect(magpie.address).await;
        for (method, path) in
            [("GET", "/"), ("GET", "/health"), ("GET", "/docs"), ("GET", "/openapi.json")]
        {
            let reply = client.call(method, path, "").await.unwrap();
            assert_eq!(reply.status(), 200, "{path}");
            assert_eq!(text(reply).await, magpie.get(path).text(), "{path}");
        }
        let models = client.call("GET", "/v1/models", "").await.unwrap();
        assert!(models.headers().contains_key("x-request-id"));
        assert_eq!(text(models).await, magpie.get("/v1/models").text());
        assert_eq!(client.ask("nobody", true).await.status(), 404);
        assert_eq!(client.call("GET", "/nothing", "").await.unwrap().status(), 404);
        assert_eq!(client.call("POST", "/v1/chat/completions", "{").await.unwrap().status(), 400);
    });
}

fn served(manner: Manner) -> (Http2Upstream, Magpie) {
    let upstream = Http2Upstream::start(manner);
    let base_url = format!("base_url: {}", upstream.base_url());
    let magpie = Setup::provider(&[&base_url, "http: http2"]).and("workers: 1").start();
    (upstream, magpie)
}

#[test]
fn a_refusal_in_the_middle_of_an_upload_is_an_answer_and_no_reset() {
    let magpie = Setup::empty().and("limits: { body: 64KiB }").start();
    h2_client::run(async {
        let stream = tokio::net::TcpStream::connect(magpie.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = http::Request::post(format!("http://localhost{CHAT}")).body(()).unwrap();
        let (reply, mut upload) = client.send_request(request, false).unwrap();
        let piece = bytes::Bytes::from(vec![b' '; 16 << 10]);
        for _ in 0..8 {
            upload.send_data(piece.clone(), false).unwrap();
        }
        let mut reply = reply.await.unwrap();
        assert_eq!(reply.status(), 413);
        let body = reply.body_mut().data().await.unwrap().unwrap();
        assert!(body.starts_with(b"{\"error\":"), "{body:?}");
        assert!(reply.body_mut().data().await.is_none(), "the answer ends");
        // The client, which may only hear of it now, ends its body as it would have.
        let reset = poll_fn(|cx| upload.poll_reset(cx));
        let reset = tokio::time::timeout(Duration::from_millis(300), reset).await;
        assert!(reset.is_err(), "the stream is taken back: {reset:?}");
        // One that never does is not listened to for ever.
        let mut sent = 0;
        while upload.send_data(piece.clone(), false).is_ok() {
            sent += piece.len();
            assert!(sent < 64 << 20, "all of it is read");
            upload.reserve_capacity(piece.len());
            let room = poll_fn(|cx| upload.poll_capacity(cx));
            if !matches!(tokio::time::timeout(PATIENCE, room).await, Ok(Some(Ok(_)))) {
                break;
            }
        }
        assert!(sent >= 2 << 20, "only {sent} bytes more are read");
        drop((upload, client));
        connection.abort();
    });
}

#[test]
fn a_provider_is_asked_over_http2_on_one_connection() {
    let (upstream, magpie) = served(Manner::default());
    for n in 0..20 {
        let reply = magpie.ask("events:4", n % 2 == 0);
        assert_eq!(reply.status(), 200, "{}", reply.text());
        assert!(n % 2 == 1 || reply.content() == "w1 w2 w3 w4 " && reply.is_done());
    }
    assert_eq!((upstream.connections(), upstream.requests()), (1, 20));
    let last = upstream.seen.last.lock().unwrap();
    let (head, ask) = last.as_ref().unwrap();
    assert_eq!(head.headers["authorization"], format!("Bearer {PROVIDER_KEY}"));
    assert_eq!((head.uri.path(), &ask["model"]), ("/v1/chat/completions", &"events:4".into()));
    assert!(!head.headers.contains_key("host") && !head.headers.contains_key("connection"));
}

/// Sends so many requests at once; all have to succeed.
fn at_once(magpie: &Magpie, count: usize) {
    let wires: Vec<_> = (0..count).map(|_| magpie.begin("ok", false)).collect();
    for mut wire in wires {
        let reply = wire.reply();
        assert_eq!(reply.status(), 200, "{}", reply.text());
    }
}

#[test]
fn another_connection_is_opened_before_the_limit_of_streams_is_reached() {
    let delay = Duration::from_millis(500);
    let (upstream, magpie) = served(Manner { streams: 10, delay, ..Manner::default() });
    // Once when nothing is known of the provider, and once when its limit is.
    for round in 1..=2 {
        let start = Instant::now();
        at_once(&magpie, 100);
        let connections = upstream.connections();
        assert!((10..=20).contains(&connections), "round {round}: {connections} connections");
        assert_eq!(
            upstream.seen.most.load(Ordering::SeqCst),
            100,
            "round {round}: some have waited"
        );
        assert!(start.elapsed() < PATIENCE / 2);
    }
    assert_eq!(upstream.requests(), 200);
}

#[test]
fn a_provider_that_gives_up_its_connections_in_good_order_costs_no_request() {
    let (upstream, magpie) = served(Manner { requests: 3, ..Manner::default() });
    for n in 0..40 {
        let reply = magpie.ask("events:3", n % 2 == 0);
        assert_eq!(reply.status(), 200, "{n}: {}", reply.text());
        assert!(reply.whole && (n % 2 == 1 || reply.is_done()), "{n}");
    }
    assert!(upstream.connections() >= 5, "{}", upstream.connections());
    at_once(&magpie, 30);
}

#[test]
fn a_connection_that_is_gone_between_requests_is_replaced() {
    let cut = Some(Duration::from_millis(20));
    let (upstream, magpie) = served(Manner { cut, ..Manner::default() });
    for n in 0..5 {
        let reply = magpie.ask("ok", false);
        assert_eq!(reply.status(), 200, "{n}: {}", reply.text());
        std::thread::sleep(Duration::from_millis(80));
    }
    assert_eq!(upstream.connections(), 5);
}

#[test]
fn a_stream_whose_connection_is_cut_ends_with_an_error() {
    let (cut, delay) = (Some(Duration::from_millis(150)), Duration::from_millis(10));
    let (_upstream, magpie) = served(Manner { cut, delay, ..Manner::default() });
    let reply = magpie.ask("events:1000", true);
    reply.assert_broken_off("provider_truncated");
    assert!(reply.content().starts_with("w1 w2 "));
}

#[test]
fn a_connection_that_is_dead_is_found_in_twenty_seconds() {
    let (freeze, delay) = (Some(Duration::from_millis(150)), Duration::from_millis(10));
    let (_upstream, magpie) = served(Manner { freeze, delay, ..Manner::default() });
    let start = Instant::now();
    // Its clocks would let it be silent for a minute.
    let mut wire = magpie.begin("events:1000", true);
    wire.wait_for(Duration::from_secs(25));
    let reply = wire.reply();
    reply.assert_broken_off("provider_truncated");
    assert!(reply.content().starts_with("w1 w2 "));
    assert!(start.elapsed() < Duration::from_secs(21), "{:?}", start.elapsed());
}

#[test]
fn a_client_that_leaves_resets_its_stream_alone() {
    let delay = Duration::from_millis(10);
    let (upstream, magpie) = served(Manner { delay, ..Manner::default() });
    let mut stays = magpie.begin("events:60", true);
    let mut leaves = magpie.begin("events:1000", true);
    leaves.head();
    leaves.chunks_until("w3 ");
    drop(leaves);
    let left = Instant::now();
    while upstream.seen.given_up.load(Ordering::SeqCst) == 0 {
        assert!(left.elapsed() < Duration::from_secs(1), "the stream goes on for nobody");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(stays.reply().is_done());
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn both_sides_may_speak_http2() {
    let delay = Duration::from_millis(5);
    let (_upstream, magpie) = served(Manner { delay, ..Manner::default() });
    h2_client::run(async {
        let client = h2_client::connect(magpie.address).await;
        let mut reply = client.ask("up/events:200", true).await;
        let start = Instant::now();
        read_until(&mut reply, "w2 ").await;
        assert!(start.elapsed() < Duration::from_millis(500), "events are held back");
        assert!(read_until(&mut reply, "[DONE]").await.contains("w200 "));
    });
}
