//! More clients than there is room for: told so at once, and served again when there is room.

use std::thread;
use std::time::{Duration, Instant};

use testkit::ScriptedUpstream;

use crate::client::Wire;
use crate::h2_client;
use crate::harness::{Magpie, PATIENCE, Setup};

/// Fewer than a process takes unless it is told.
const ROOM: usize = 3;

/// Connections that have been accepted, as their answers show.
fn full() -> (Magpie, Vec<Wire>) {
    let magpie = Setup::empty().and(&format!("limits: {{ connections: {ROOM} }}")).start();
    let taken = (0..ROOM).map(|_| {
        let mut wire = magpie.connect();
        wire.send(&crate::client::request("GET", "/health", &[], b""));
        assert_eq!(wire.reply().status(), 200);
        wire
    });
    let taken = taken.collect();
    (magpie, taken)
}

#[test]
fn one_connection_too_many_is_told_when_to_come_again() {
    let (magpie, mut taken) = full();
    for _ in 0..5 {
        let reply = magpie.get("/health");
        assert!(reply.whole, "the announced length is not that of {:?}", reply.text());
        reply.assert_error(503, "too_many_connections");
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(reply.header("connection"), Some("close"));
    }
    // Those who are in are not disturbed, and one who leaves makes room.
    for wire in &mut taken {
        wire.send(&crate::client::request("GET", "/health", &[], b""));
        assert_eq!(wire.reply().status(), 200);
    }
    taken.pop();
    let start = Instant::now();
    while magpie.get("/health").status() != 200 {
        assert!(start.elapsed() < PATIENCE, "no room although one has left");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_answer_to_one_too_many_has_the_length_it_announces() {
    let (magpie, _taken) = full();
    let mut wire = magpie.connect();
    let head = wire.head();
    let announced: usize = head.header("content-length").unwrap().parse().unwrap();
    let whole = wire.read_to_end();
    assert_eq!(whole.len(), announced, "{:?}", String::from_utf8_lossy(&whole));
    assert!(whole.ends_with(b"}}"));
}

#[test]
fn more_connections_than_files_are_told_to_be_fewer() {
    let magpie = Setup::empty().and("limits: { connections: 4000000000 }").start();
    let said = magpie.process.stderr.wait_for("the warning", |text| {
        text.lines().find(|line| line.contains("limits.connections")).map(String::from)
    });
    assert!(said.contains("is 4000000000, but the limit on open files"), "{said}");
    assert_eq!(magpie.get("/health").status(), 200);
}

#[test]
fn more_requests_than_may_be_under_way_are_told_when_to_come_again() {
    let upstream = ScriptedUpstream::start();
    let few = format!("workers: 1\nlimits: {{ connections: {ROOM} }}");
    let magpie = Setup::of(&upstream.base_url()).and(&few).start();
    h2_client::run(async {
        // As many as one HTTP/2 connection may ask for, over two.
        let (one, other) =
            (h2_client::connect(magpie.address).await, h2_client::connect(magpie.address).await);
        let mut running = Vec::new();
        for number in 0..256 {
            let client = if number % 2 == 0 { &one } else { &other };
            running.push(client.ask("up/stall:1", true).await);
        }
        let refused = other.ask("up/ok", false).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
        let text = h2_client::text(refused).await;
        assert!(text.contains("\"code\":\"too_many_requests_at_once\""), "{text}");
        // What is no request of the API is answered, and so is the next one when one has ended.
        assert_eq!(other.call("GET", "/health", "").await.unwrap().status(), 200);
        running.pop();
        let start = Instant::now();
        while other.ask("up/ok", false).await.status() != 200 {
            assert!(start.elapsed() < PATIENCE, "no room although one has left");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_crowd_that_is_turned_away_does_not_stop_those_who_are_in() {
    let (magpie, mut taken) = full();
    let crowd: Vec<Wire> = (0..300).map(|_| magpie.connect()).collect();
    for wire in &mut taken {
        wire.chat("echo", true);
        assert!(wire.reply().is_done());
    }
    drop(crowd);
    drop(taken);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(magpie.get("/health").status(), 200);
}
