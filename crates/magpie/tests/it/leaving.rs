//! A client that leaves takes its request with it: the provider stops working for nobody.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use testkit::{Received, ScriptedUpstream};

use crate::figures::{bound, within_bounds};
use crate::h2_client;
use crate::harness::{Magpie, PATIENCE, Setup};
use crate::turn;

/// Waits until the upstream has received a request.
fn received(upstream: &ScriptedUpstream) {
    wait(|| !upstream.received().is_empty());
}

fn wait(ready: impl Fn() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How long after `left` the upstream saw that nobody listens any more.
fn seen_after(upstream: &ScriptedUpstream, left: Instant) -> Duration {
    let gone = |received: &Received| received.outcome.peer_left;
    wait(|| upstream.received().first().and_then(gone).is_some());
    upstream.received().first().and_then(gone).unwrap().saturating_duration_since(left)
}

/// Measures with a client that does something and then leaves.
fn measure(what: &str, leave: impl Fn(&Magpie, &ScriptedUpstream) -> Instant) {
    let _alone = turn::alone();
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    let limit = bound(Duration::from_millis(100), Duration::from_millis(250));
    within_bounds(what, || {
        upstream.clear();
        let left = leave(&magpie, &upstream);
        let after = seen_after(&upstream, left);
        let figures = format!("{after:?}, limit {limit:?}");
        if after < limit { Ok(figures) } else { Err(figures) }
    });
    let line = magpie.log(1)[0].clone();
    assert_eq!(line["outcome"], "client_gone", "{line}");
}

#[test]
fn leaving_in_the_middle_of_a_stream_ends_it_at_the_provider() {
    measure("left a paced stream", |magpie, _| {
        let mut wire = magpie.begin("events:10000:5", true);
        wire.head();
        wire.chunks_until("w3 ");
        drop(wire);
        Instant::now()
    });
}

#[test]
fn leaving_a_stream_that_is_silent_ends_it_at_the_provider() {
    measure("left a silent stream", |magpie, _| {
        let mut wire = magpie.begin("stall:2", true);
        wire.head();
        wire.chunks_until("w2 ");
        wire.stream().shutdown(Shutdown::Both).unwrap();
        Instant::now()
    });
}

#[test]
fn leaving_before_the_first_event_ends_the_wait_at_the_provider() {
    measure("left before the first event", |magpie, upstream| {
        let wire = magpie.begin("hang", true);
        received(upstream);
        drop(wire);
        Instant::now()
    });
}

#[test]
fn leaving_while_a_whole_answer_is_awaited_ends_the_wait_at_the_provider() {
    measure("left a whole answer", |magpie, upstream| {
        let wire = magpie.begin("hang", false);
        received(upstream);
        drop(wire);
        Instant::now()
    });
}

#[test]
fn leaving_a_flood_that_was_not_read_ends_it_at_the_provider() {
    measure("left a flood", |magpie, upstream| {
        let mut wire = magpie.begin("flood:500000000", true);
        wire.head();
        received(upstream);
        std::thread::sleep(Duration::from_millis(100));
        drop(wire);
        Instant::now()
    });
}

#[test]
fn resetting_an_http2_stream_ends_it_at_the_provider_and_no_other() {
    measure("reset an HTTP/2 stream", |magpie, upstream| {
        h2_client::run(async {
            let client = h2_client::connect(magpie.address).await;
            let mut reply = client.ask("up/events:10000:5", true).await;
            h2_client::read_until(&mut reply, "w3 ").await;
            drop(reply);
            let left = Instant::now();
            let other = client.ask("echo", false).await;
            assert_eq!(other.status(), 200);
            while upstream.received()[0].outcome.peer_left.is_none() && left.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            left
        })
    });
}

#[test]
fn giving_up_an_http2_request_ends_the_wait_at_the_provider() {
    measure("gave up an HTTP/2 request", |magpie, upstream| {
        h2_client::run(async {
            let client = h2_client::connect(magpie.address).await;
            let waiting =
                tokio::time::timeout(Duration::from_millis(150), client.ask("up/hang", false));
            assert!(waiting.await.is_err());
            let left = Instant::now();
            while upstream
                .received()
                .first()
                .is_none_or(|received| received.outcome.peer_left.is_none())
            {
                assert!(left.elapsed() < PATIENCE);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            left
        })
    });
}
