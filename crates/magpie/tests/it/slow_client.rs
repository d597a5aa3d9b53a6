//! A client that does not read holds the provider back: little is buffered in between.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use testkit::ScriptedUpstream;

use crate::client::{Wire, request};
use crate::harness::{CHAT, Magpie, Setup};
use crate::turn;

/// The size of the stream.
const FLOOD: usize = 50_000_000;
/// What Magpie may hold of one stream.
const HELD: u64 = 256 << 10;
/// What its memory may grow by, whatever the allocator makes of that.
const GROWTH_KIB: u64 = 4 << 10;

/// What the kernel holds between two sockets of this machine, in both their queues, by the ports
/// of the connection.
fn queued(from: u16, to: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut queues: HashMap<(u16, u16), (u64, u64)> = HashMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port =
            |field: &str| u16::from_str_radix(field.rsplit(':').next().unwrap(), 16).unwrap();
        let (sent, received) = fields[4].split_once(':').unwrap();
        let bytes = |hex| u64::from_str_radix(hex, 16).unwrap();
        let ports = (port(fields[1]), port(fields[2]));
        queues.insert(ports, (bytes(sent), bytes(received)));
    }
    let unacknowledged = queues.get(&(from, to)).map_or(0, |queue| queue.0);
    let unread = queues.get(&(to, from)).map_or(0, |queue| queue.1);
    unacknowledged + unread
}

/// The port of Magpie's side of its only connection to a port.
fn peer_of(port: u16) -> u16 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let mut found = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let established = fields[3] == "01" && fields[1].ends_with(&local);
        established.then(|| u16::from_str_radix(fields[2].rsplit(':').next().unwrap(), 16).unwrap())
    });
    let peer = found.next().unwrap();
    assert_eq!(found.next(), None, "one connection is expected");
    peer
}

/// Waits until nothing moves any more, and returns how much the upstream's socket has taken.
fn at_rest(upstream: &ScriptedUpstream) -> u64 {
    let mut before = 0;
    for _ in 0..40 {
        // Longer than a busy machine keeps somebody waiting.
        thread::sleep(Duration::from_millis(500));
        let now = upstream.bytes_written();
        if now == before && now > 0 {
            return now;
        }
        before = now;
    }
    panic!("the upstream still writes to a client that does not read");
}

/// Asks for a large stream.
fn flood(provider: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"model": "{provider}flood:{FLOOD}", "messages": [{{"role": "user", "content": "hi"}}],
            "stream": true, "stream_options": {{"include_usage": true}}}}"#
    );
    request("POST", CHAT, &[], body.as_bytes())
}

#[test]
fn a_client_that_reads_nothing_holds_the_provider_back_and_then_gets_all_of_it() {
    let _alone = turn::alone();
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and("workers: 1").start();
    assert!(magpie.ask("ok", true).is_done());
    let (resident, before) = (magpie.process.resident(), upstream.bytes_written());

    let mut wire = magpie.connect();
    wire.send(&flood("up/"));
    let written = at_rest(&upstream) - before;
    thread::sleep(Duration::from_secs(1));
    assert_eq!(upstream.bytes_written() - before, written, "it goes on writing");
    let port = upstream.address().port();
    let first_hop = queued(port, peer_of(port));
    let second_hop = queued(magpie.address.port(), wire.port());
    let held = written.saturating_sub(first_hop + second_hop);
    let grown = magpie.process.resident().saturating_sub(resident);
    eprintln!(
        "not read: {written} bytes left the provider, {first_hop} and {second_hop} are in the \
         kernel, {held} in Magpie, whose memory grew by {grown} KiB"
    );
    assert!(second_hop > 0 && first_hop > 0, "both hops are full");
    assert!(held <= HELD, "{held} bytes are held");
    assert!(grown < GROWTH_KIB, "memory grew by {grown} KiB");

    let reply = wire.reply();
    let mut direct = Wire::connect(upstream.address());
    direct.send(&flood(""));
    assert!(reply.whole && reply.is_done() && reply.body.len() > FLOOD / 100 * 99);
    assert!(reply.body == direct.reply().body, "the stream is not intact");
    let grown = magpie.process.resident().saturating_sub(resident);
    assert!(grown < GROWTH_KIB, "memory grew by {grown} KiB in the end");
}

/// Magpie beside clients that read nothing.
fn others_are_served(magpie: &Magpie) {
    for _ in 0..10 {
        assert_eq!(magpie.ask("ok", false).status(), 200);
        assert!(magpie.ask("ok", true).is_done());
    }
}

#[test]
fn clients_that_read_nothing_hold_nobody_else_back() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    let stuck: Vec<_> = (0..10).map(|_| magpie.begin("flood:50000000", true)).collect();
    others_are_served(&magpie);
    drop(stuck);
    others_are_served(&magpie);
}
