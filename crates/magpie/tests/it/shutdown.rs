//! Stopping in good order: nothing new comes in, what runs may finish, and then it is over.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::ScriptedUpstream;

use crate::client::{Wire, request};
use crate::figures::bound;
use crate::h2_client;
use crate::harness::{Magpie, PATIENCE, Setup};

/// How soon after the last answer the process ends; on a busy machine most of it is waiting for
/// the processor.
const SOON: Duration = Duration::from_secs(2);

/// How long after the grace the last words may take.
fn last_words() -> Duration {
    bound(Duration::from_secs(2), Duration::from_secs(3))
}

fn served(more: &str) -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and(more).start();
    (upstream, magpie)
}

/// Sends a signal and waits until it was heard.
fn stop(magpie: &Magpie, signal: &str) {
    magpie.process.signal(signal);
    magpie.process.stderr.wait_for("the signal", |text| text.contains("stopping:").then_some(()));
}

/// Waits for the end; it has to be a good one.
fn ended(magpie: &mut Magpie, limit: Duration) -> Duration {
    let start = Instant::now();
    let status = magpie.process.wait(limit);
    assert_eq!(status.code(), Some(0));
    start.elapsed()
}

/// Streams of which each has sent something.
fn streams(magpie: &Magpie, script: &str, count: usize) -> Vec<Wire> {
    let mut wires: Vec<Wire> = (0..count).map(|_| magpie.begin(script, true)).collect();
    for wire in &mut wires {
        assert_eq!(wire.head().status, 200);
        wire.chunks_until("w1 ");
    }
    wires
}

/// The rest of a stream in chunks.
fn rest(wire: &mut Wire) -> (String, bool) {
    let mut text = String::new();
    loop {
        match wire.chunk() {
            Some(Some(chunk)) => text.push_str(&String::from_utf8_lossy(&chunk)),
            Some(None) => return (text, true),
            None => return (text, false),
        }
    }
}

#[test]
fn an_idle_process_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let (_upstream, mut magpie) = served("");
        assert_eq!(magpie.ask("ok", false).status(), 200);
        magpie.process.signal(signal);
        ended(&mut magpie, SOON);
        let line = magpie.log(1)[0].clone();
        assert_eq!(line["outcome"], "complete", "what was queued for the log is written");
    }
}

/// Sends requests on new connections until none is accepted any more, and counts the answers.
fn knock(address: SocketAddr, answered: &AtomicUsize) {
    while let Some(mut wire) = Wire::try_connect(address) {
        // Without an answer, it was closed between the kernel's accepting and the process's.
        let sent = wire.try_send(&request("GET", "/v1/models", &[], b""));
        let Some(reply) = sent.then(|| wire.try_reply()).flatten() else { return };
        assert!(reply.whole && reply.status() == 200, "{reply:?}");
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn twenty_streams_complete_while_nothing_new_is_accepted() {
    let (_upstream, mut magpie) = served("");
    let mut running = streams(&magpie, "events:60:25", 20);
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| knock(magpie.address, &answered));
        }
        thread::sleep(Duration::from_millis(150));
        stop(&magpie, "TERM");
    });
    assert!(answered.load(Ordering::SeqCst) > 10);
    assert!(TcpStream::connect(magpie.address).is_err(), "a new connection is refused");
    assert!(magpie.process.is_running(), "the streams still run");
    for wire in &mut running {
        let (text, whole) = rest(wire);
        assert!(whole && text.contains("w60 ") && text.ends_with("data: [DONE]\n\n"), "{text}");
        assert!(wire.ends_within(PATIENCE), "a connection is kept for nothing");
    }
    ended(&mut magpie, SOON);
    let lines = magpie.log(20 + answered.load(Ordering::SeqCst));
    let streams = lines.iter().filter(|line| line["stream"] == true);
    assert!(streams.clone().all(|line| line["outcome"] == "complete"));
    assert_eq!(streams.count(), 20);
}

#[test]
fn a_probe_that_was_let_in_before_is_told_that_it_is_not_ready() {
    let (_upstream, mut magpie) = served("");
    let mut probes: Vec<Wire> = (0..3).map(|_| magpie.connect()).collect();
    // The connections have been accepted, as one after them was.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(magpie.get("/health/ready").status(), 200);
    let mut running = streams(&magpie, "events:20:25", 1);
    stop(&magpie, "TERM");
    for (probe, (path, status)) in
        probes.iter_mut().zip([("/health/ready", 503), ("/health/live", 200), ("/", 200)])
    {
        probe.send(&request("GET", path, &[], b""));
        let reply = probe.reply();
        assert_eq!(reply.status(), status, "{path}");
        let expected = if path == "/health/live" { "ok" } else { "stopping" };
        assert_eq!(reply.json()["status"], expected, "{path}");
        assert!(probe.ends_within(PATIENCE), "{path}: the connection is kept");
    }
    assert!(rest(&mut running[0]).0.ends_with("data: [DONE]\n\n"));
    ended(&mut magpie, SOON);
}

#[test]
fn connections_without_a_request_do_not_hold_up_the_end() {
    let (_upstream, mut magpie) = served("");
    let silent: Vec<Wire> = (0..5).map(|_| magpie.connect()).collect();
    let mut kept = magpie.connect();
    kept.chat("echo", false);
    assert_eq!(kept.reply().status(), 200);
    thread::sleep(Duration::from_millis(50));
    stop(&magpie, "TERM");
    ended(&mut magpie, SOON + Duration::from_secs(1));
    drop(silent);
}

#[test]
fn a_whole_answer_that_is_awaited_still_comes() {
    let (_upstream, mut magpie) = served("");
    let mut waiting = magpie.begin("slow:600", false);
    let mut uploading = magpie.connect();
    uploading.send(&request("POST", "/v1/chat/completions", &[("content-length", "60")], b""));
    thread::sleep(Duration::from_millis(100));
    stop(&magpie, "TERM");
    let body = format!("{:<60}", r#"{"model": "echo", "messages": [{"role": "user"}]}"#);
    uploading.send(body.as_bytes());
    assert_eq!(uploading.reply().status(), 200, "its head had come before");
    let reply = waiting.reply();
    assert_eq!((reply.status(), reply.header("connection")), (200, Some("close")));
    ended(&mut magpie, SOON);
}

#[test]
fn streams_that_outlive_the_grace_are_told_so() {
    let (_upstream, mut magpie) = served("shutdown_grace: 400ms");
    let mut running = streams(&magpie, "events:10000:20", 5);
    running.extend(streams(&magpie, "stall:1", 5));
    let start = Instant::now();
    stop(&magpie, "TERM");
    for wire in &mut running {
        let (text, whole) = rest(wire);
        assert!(whole, "{text}");
        let last = crate::client::events(&text).pop().unwrap();
        assert_eq!(last["error"]["code"], "shutting_down", "{text}");
        assert!(!text.contains("[DONE]") && !text.contains("\"finish_reason\":\"stop\""), "{text}");
    }
    assert!(start.elapsed() > Duration::from_millis(380), "the grace was kept");
    ended(&mut magpie, last_words());
    let lines = magpie.log(10);
    assert!(lines.iter().all(|line| line["outcome"] == "shed"), "{lines:?}");
}

#[test]
fn http2_streams_complete_and_those_that_outlive_the_grace_are_told_so() {
    let (_upstream, mut magpie) = served("shutdown_grace: 1s");
    h2_client::run(async {
        let (client, connection) = h2_client::open(magpie.address).await;
        let mut short = client.ask("up/events:30:20", true).await;
        let mut paced = client.ask("up/events:10000:20", true).await;
        let mut silent = client.ask("up/stall:1", true).await;
        for reply in [&mut short, &mut paced, &mut silent] {
            h2_client::read_until(reply, "w1 ").await;
        }
        stop(&magpie, "TERM");
        let late = tokio::time::timeout(PATIENCE, client.call("GET", "/health", "")).await.unwrap();
        assert!(late.is_err() || late.unwrap().status() == 503, "nothing new is taken");
        assert!(h2_client::text(short).await.ends_with("data: [DONE]\n\n"));
        for reply in [paced, silent] {
            let text = h2_client::text(reply).await;
            let last = crate::client::events(&text).pop().unwrap();
            assert_eq!(last["error"]["code"], "shutting_down", "{text}");
            assert!(!text.contains("[DONE]"));
        }
        drop(client);
        connection.await.unwrap().unwrap();
    });
    ended(&mut magpie, last_words());
}

#[test]
fn a_second_signal_does_not_wait_for_the_grace() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let (_upstream, mut magpie) = served("");
        let mut running = streams(&magpie, "events:10000:20", 3);
        stop(&magpie, first);
        thread::sleep(Duration::from_millis(100));
        assert!(magpie.process.is_running());
        magpie.process.signal(second);
        for wire in &mut running {
            let (text, whole) = rest(wire);
            assert!(whole && text.contains("shutting_down") && !text.contains("[DONE]"), "{text}");
        }
        ended(&mut magpie, last_words());
    }
}

#[test]
fn clients_that_do_not_read_and_providers_that_do_not_answer_do_not_hold_up_the_end() {
    let (upstream, mut magpie) = served("shutdown_grace: 200ms");
    let mut stuck = magpie.begin("flood:50000000", true);
    stuck.head();
    let waiting = magpie.begin("hang", false);
    let start = Instant::now();
    while upstream.received().len() < 2 {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(2));
    }
    thread::sleep(Duration::from_millis(200));
    stop(&magpie, "TERM");
    let after = ended(&mut magpie, PATIENCE);
    let limit = Duration::from_millis(200) + last_words();
    assert!(after < limit, "ended {after:?} after the signal");
    drop((stuck, waiting));
}
