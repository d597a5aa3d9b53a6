//! Answers that are shared, over sockets: `Idempotency-Key` and single flight, on two workers, with
//! clients that leave and processes that stop.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::ScriptedUpstream;

use crate::client::{Reply, Wire, request};
use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};
use crate::ledger::{Tokens, attempts, attempts_of, sums};
use crate::turn;

/// A chat request with an `Idempotency-Key`.
fn keyed(key: &str, model: &str, stream: bool) -> Vec<u8> {
    request("POST", CHAT, &[("idempotency-key", key)], chat(model, stream).as_bytes())
}

fn ask(magpie: &Magpie, key: &str, model: &str, stream: bool) -> Reply {
    let mut wire = magpie.connect();
    wire.send(&keyed(key, model, stream));
    wire.reply()
}

fn wait(what: &str, ready: impl Fn() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "waited for {what} in vain");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A model whose answers are shared, in front of this script.
fn sharing(script: &str, more: &str) -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let model = format!("models: {{ m: {{ target: 'up/{script}', single_flight: true }} }}\n");
    let prices = "prices: { 'up/*': { input: 1000, output: 1000 } }\n";
    let setup = Setup::of(&upstream.base_url()).and(&model).and(prices).and(more);
    let magpie = setup.with_admin().start();
    (upstream, magpie)
}

/// Clients that have asked for the model, each over a connection of its own.
fn readers(magpie: &Magpie, count: usize) -> Vec<Wire> {
    let ask = || {
        let mut wire = magpie.connect();
        wire.chat("m", true);
        wire
    };
    (0..count).map(|_| ask()).collect()
}

/// Asserts that all of it was asked and charged once, and every request is recorded.
fn assert_once(magpie: Magpie, upstream: &ScriptedUpstream, requests: usize) {
    assert_eq!(upstream.received().len(), 1, "one call");
    let found = attempts_of(&magpie, requests);
    let setup = magpie.stop();
    assert_eq!(attempts(&setup).len(), requests);
    let asked: Vec<&Value> = found.iter().filter(|it| it["attempt"] == 1).collect();
    assert_eq!(asked.len(), 1, "{found:?}");
    assert_eq!(Tokens::of(asked[0]), Tokens::billed(&upstream.received()[0]));
    for shared in found.iter().filter(|it| it["attempt"] == 0) {
        assert_eq!(
            (&shared["outcome"], &shared["provider"]),
            (&asked[0]["outcome"], &asked[0]["provider"])
        );
        assert_eq!(
            (Tokens::of(shared), &shared["cost"]),
            (Tokens::default(), &Value::Null),
            "{shared}"
        );
        assert_eq!(shared["provenance"], "none");
    }
    let sums = sums(&setup);
    assert_eq!(sums["requests"].as_u64(), Some(requests as u64), "{sums}");
}

#[test]
fn a_thousand_readers_on_two_workers_get_the_same_bytes_of_one_call() {
    let (upstream, magpie) = sharing("events:40:100:200", "workers: 2\n");
    let wires = readers(&magpie, 1000);
    let mut joined = 0;
    let mut first: Option<Vec<u8>> = None;
    for mut wire in wires {
        let reply = wire.reply();
        assert!(reply.whole && reply.is_done(), "{}", reply.text());
        joined += usize::from(reply.header("x-magpie-shared") == Some("joined"));
        let body = first.get_or_insert_with(|| reply.body.clone());
        assert!(*body == reply.body, "other bytes");
    }
    assert_eq!(joined, 999);
    let shared = magpie.log(1000).iter().filter(|line| line["shared"] == true).count();
    assert_eq!(shared, 999);
    assert_eq!(magpie.number(r#"magpie_shared_answers_total{model="m",how="joined"}"#), 999.0);
    assert_once(magpie, &upstream, 1000);
}

#[test]
fn the_others_get_all_of_it_when_the_first_client_leaves() {
    let (upstream, magpie) = sharing("events:30:40", "workers: 2\n");
    let mut first = readers(&magpie, 1).remove(0);
    first.head();
    first.chunks_until("w3 ");
    let others = readers(&magpie, 20);
    let others = others.into_iter().map(|mut wire| (wire.head(), wire)).collect::<Vec<_>>();
    drop(first);
    for (head, mut wire) in others {
        assert_eq!(head.header("x-magpie-shared"), Some("joined"));
        let (body, whole) = wire.body(&head, "POST");
        let reply = Reply { head, body, whole };
        let words: String = (1..=30).map(|number| format!("w{number} ")).collect();
        assert!(reply.is_done() && reply.content() == words, "{}", reply.content());
    }
    assert_once(magpie, &upstream, 21);
}

#[test]
fn the_provider_is_left_when_all_have_left() {
    let (upstream, magpie) = sharing("events:10000:5", "");
    let mut wires = readers(&magpie, 5);
    for wire in &mut wires {
        wire.head();
        wire.chunks_until("w3 ");
    }
    let last = wires.pop();
    drop(wires);
    thread::sleep(Duration::from_millis(200));
    let gone = || upstream.received()[0].outcome.peer_left.is_some();
    assert!(!gone(), "one still reads");
    drop(last);
    wait("the end", gone);
    assert_eq!(upstream.received().len(), 1);
    for line in magpie.log(5) {
        assert_eq!(line["outcome"], "client_gone", "{line}");
    }
}

#[test]
fn a_retry_after_a_lost_reply_gets_the_answer_and_costs_nothing() {
    for (script, stream) in [("slow:300", false), ("events:20:20", true)] {
        let upstream = ScriptedUpstream::start();
        let prices = "prices: { 'up/*': { input: 1000, output: 1000 } }";
        let setup = Setup::of(&upstream.base_url()).and("workers: 2").and(prices);
        let magpie = setup.start();
        let model = format!("up/{script}");
        // It leaves before the answer is there, and comes again, and once more after its end.
        let mut wire = magpie.connect();
        wire.send(&keyed("lost-1", &model, stream));
        wait("the call", || upstream.received().len() == 1);
        drop(wire);
        let replies = [(); 2].map(|()| ask(&magpie, "lost-1", &model, stream));
        for reply in &replies {
            assert_eq!(reply.header("idempotent-replayed"), Some("true"));
            assert!(reply.whole && reply.body == replies[0].body);
            assert_eq!(reply.header("content-length").is_some(), !stream);
            assert!(!stream || reply.is_done());
        }
        assert_once(magpie, &upstream, 3);
    }
}

#[test]
fn a_thousand_large_answers_take_no_more_memory_than_was_said() {
    let _alone = turn::alone();
    let upstream = ScriptedUpstream::start();
    let size = "idempotency: { size: 16MiB }\nledger: { enabled: false }\n";
    let magpie = Setup::of(&upstream.base_url()).and(size).and("workers: 1").start();
    let mut wire = magpie.connect();
    let mut fetch = |number: usize| {
        wire.send(&keyed(&format!("large-{number}"), "up/big:200000", false));
        let reply = wire.reply();
        assert_eq!(reply.body.len(), 200_000);
        reply.header("idempotent-replayed").is_some()
    };
    (0..50).for_each(|number| assert!(!fetch(number)));
    let resident = magpie.process.resident();
    (50..1000).for_each(|number| assert!(!fetch(number)));
    let grown = magpie.process.resident().saturating_sub(resident);
    eprintln!("a thousand answers of 200 kB: memory grew by {grown} KiB behind the first fifty");
    assert!(grown < 24 << 10, "memory grew by {grown} KiB");
    // The last of them are there, the first are forgotten.
    assert!(fetch(999) && fetch(930) && !fetch(0));
    assert_eq!(upstream.received().len(), 1001);
}

#[test]
fn what_is_kept_and_what_is_under_way_outlast_a_reload() {
    let upstream = ScriptedUpstream::start();
    let config = |more: &str| {
        format!("providers:\n  up: {{ api_key: k, base_url: '{}' }}\n{more}", upstream.base_url())
    };
    let magpie = Setup::file(&config("workers: 2\n")).start();
    let kept = ask(&magpie, "kept", "up/ok", false);
    let mut wire = magpie.connect();
    wire.send(&keyed("running", "up/events:20:30", true));
    wire.head();
    magpie.reload(&config("workers: 2\nidempotency: { keep: 1m }\n"));
    let again = ask(&magpie, "kept", "up/ok", false);
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &kept.body));
    let running = ask(&magpie, "running", "up/events:20:30", true);
    assert_eq!(running.header("idempotent-replayed"), Some("true"));
    assert!(running.is_done());
    assert_eq!(upstream.received().len(), 2);
    // Switched off, the header is the provider's alone.
    magpie.reload(&config("workers: 2\nidempotency: { enabled: false }\n"));
    assert_eq!(ask(&magpie, "kept", "up/ok", false).header("idempotent-replayed"), None);
    assert_eq!(upstream.received().len(), 3);
}

#[test]
fn shared_streams_end_with_an_error_when_the_grace_is_over() {
    let (_upstream, mut magpie) = sharing("stall:2", "workers: 2\nshutdown_grace: 500ms\n");
    let mut first = readers(&magpie, 1).remove(0);
    first.head();
    first.chunks_until("w2 ");
    let wires = readers(&magpie, 11);
    let wires = wires.into_iter().map(|mut wire| (wire.head(), wire)).collect::<Vec<_>>();
    // The worker that leads may have no connection left.
    drop(first);
    magpie.process.signal("TERM");
    for (head, mut wire) in wires {
        let (body, whole) = wire.body(&head, "POST");
        Reply { head, body, whole }.assert_broken_off("shutting_down");
    }
    assert_eq!(magpie.process.wait(PATIENCE).code(), Some(0));
    let lines = magpie.log(12);
    assert_eq!(lines.iter().filter(|line| line["outcome"] == "shed").count(), 12, "{lines:?}");
}

#[test]
fn a_call_that_nobody_reads_may_finish_when_the_process_is_stopped() {
    let upstream = ScriptedUpstream::start();
    let mut magpie = Setup::of(&upstream.base_url()).start();
    let mut wire = magpie.connect();
    wire.send(&keyed("alone", "up/slow:1000", false));
    wait("the call", || upstream.received().len() == 1);
    drop(wire);
    thread::sleep(Duration::from_millis(200));
    magpie.process.signal("TERM");
    assert_eq!(magpie.process.wait(PATIENCE).code(), Some(0));
    let line = magpie.log(1).remove(0);
    assert_eq!(
        (&line["outcome"], &line["usage"]),
        (&"complete".into(), &"reported".into()),
        "{line}"
    );
}
