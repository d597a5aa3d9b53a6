//! More clients than there is room for: told so at once, and served again when there is room.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::Wire;
use crate::harness::{Magpie, PATIENCE, Setup};

/// The least that can be configured.
const ROOM: usize = 16;

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
