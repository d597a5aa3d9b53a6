//! Connections to providers: used again, and never at the price of a request.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use testkit::ScriptedUpstream;

use crate::harness::{Magpie, Setup};
use crate::raw::{COMPLETION, Peer, RawUpstream, ok};

/// One worker, so that there is one pool.
fn one_pool(base_url: &str) -> Magpie {
    Setup::of(base_url).and("workers: 1").start()
}

#[test]
fn requests_one_after_the_other_share_one_connection() {
    let upstream = ScriptedUpstream::start();
    let magpie = one_pool(&upstream.base_url());
    for n in 0..20 {
        assert_eq!(magpie.ask("ok", n % 2 == 0).status(), 200);
    }
    for script in ["status:429", "error200", "html:502", "big:2000000"] {
        assert!(!magpie.ask(script, false).body.is_empty());
    }
    assert_eq!(upstream.received().len(), 24);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn requests_at_once_have_connections_of_their_own_which_serve_the_next_ones() {
    let upstream = ScriptedUpstream::start();
    let magpie = one_pool(&upstream.base_url());
    for _ in 0..3 {
        let wires: Vec<_> = (0..10).map(|_| magpie.begin("slow:100", false)).collect();
        for mut wire in wires {
            assert_eq!(wire.reply().status(), 200);
        }
    }
    assert!(upstream.connections() <= 12, "{} connections for 10 at once", upstream.connections());
}

#[test]
fn connections_that_the_provider_closes_after_each_reply_cost_no_request() {
    let upstream = ScriptedUpstream::start();
    let magpie = one_pool(&upstream.base_url());
    for n in 0..50 {
        let reply = magpie.ask("close-after", n % 2 == 1);
        assert_eq!(reply.status(), 200, "{n}: {}", reply.text());
        assert!(reply.whole, "{n}");
    }
    assert_eq!(upstream.received().len(), 50, "each was sent once");
}

#[test]
fn a_stream_that_was_cut_leaves_no_connection_behind() {
    let upstream = ScriptedUpstream::start();
    let magpie = one_pool(&upstream.base_url());
    for script in ["cut:2", "eof:2", "malformed:2", "error-event:2", "truncated-body"] {
        magpie.ask(script, true);
        let after = magpie.ask("ok", false);
        assert_eq!(after.json()["object"], "chat.completion", "after {script}");
    }
}

/// Answers one request, and says so.
fn answer(peer: &mut Peer, seen: &AtomicUsize) -> bool {
    let Some((_, body)) = peer.request() else { return false };
    assert!(body.starts_with(b"{"));
    seen.fetch_add(1, Ordering::SeqCst);
    peer.write(ok(COMPLETION))
}

#[test]
fn an_idle_connection_that_the_provider_has_closed_is_not_used() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&seen);
    let upstream = RawUpstream::start(move |mut peer, _| {
        answer(&mut peer, &counting);
        thread::sleep(Duration::from_millis(30));
    });
    let magpie = one_pool(&upstream.base_url());
    for _ in 0..3 {
        assert_eq!(magpie.ask("ok", false).status(), 200);
        thread::sleep(Duration::from_millis(150));
    }
    assert_eq!((seen.load(Ordering::SeqCst), upstream.connections()), (3, 3));
}

/// Waits until something can be read, without reading it.
fn readable(stream: &TcpStream) {
    let _ = stream.peek(&mut [0]);
}

#[test]
fn a_request_that_meets_the_end_of_an_idle_connection_is_sent_on_another() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&seen);
    // Every connection answers once, and is reset in the moment the next request arrives.
    let upstream = RawUpstream::start(move |mut peer, _| {
        if answer(&mut peer, &counting) {
            readable(&peer.stream);
        }
    });
    let magpie = one_pool(&upstream.base_url());
    for n in 0..20 {
        let reply = magpie.ask("ok", false);
        assert_eq!(reply.status(), 200, "{n}: {}", reply.text());
    }
    assert_eq!(seen.load(Ordering::SeqCst), 20, "each was read once");
    assert_eq!(upstream.connections(), 20);
}

#[test]
fn a_request_that_the_provider_has_worked_on_is_not_sent_again() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let upstream = RawUpstream::start(move |mut peer, number| {
        for turn in 0.. {
            let Some((head, _)) = peer.request() else { return };
            record.lock().unwrap().push((number, head));
            if turn > 0 {
                // More than a second of work, then the end.
                thread::sleep(Duration::from_millis(1300));
                return;
            }
            peer.write(ok(COMPLETION));
        }
    });
    let magpie = one_pool(&upstream.base_url());
    assert_eq!(magpie.ask("ok", false).status(), 200);
    let start = Instant::now();
    magpie.ask("ok", false).assert_error(502, "provider_no_reply");
    assert!(start.elapsed() > Duration::from_secs(1));
    thread::sleep(Duration::from_millis(100));
    let connections: Vec<usize> = seen.lock().unwrap().iter().map(|(number, _)| *number).collect();
    assert_eq!(connections, [0, 0], "both on one connection, the second only there");
}

#[test]
fn a_request_on_a_new_connection_is_never_sent_again() {
    let upstream = RawUpstream::start(|mut peer, _| {
        peer.request();
    });
    let magpie = one_pool(&upstream.base_url());
    magpie.ask("ok", false).assert_error(502, "provider_no_reply");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_reply_before_its_request_is_not_taken_for_the_answer() {
    // The second half of the first reply is there before the second request is.
    let upstream = RawUpstream::start(|mut peer, number| {
        peer.request();
        let poison = ok(&COMPLETION.replace("raw", "poison"));
        let reply = ok(COMPLETION);
        let first = if number == 0 { reply.clone() + &poison } else { reply.clone() };
        peer.write(first);
        while peer.request().is_some() {
            peer.write(&reply);
        }
    });
    let magpie = one_pool(&upstream.base_url());
    for _ in 0..3 {
        let reply = magpie.ask("ok", false);
        assert_eq!(reply.json()["choices"][0]["message"]["content"], "raw");
        thread::sleep(Duration::from_millis(30));
    }
}
