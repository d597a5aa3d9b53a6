//! Requests that wait for room: in turn, by priority, within bounds, and nobody else's place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::busy::Busy;
use crate::client::{Reply, Wire, request};
use crate::failover::provider;
use crate::harness::{CHAT, Magpie, PATIENCE, Setup};

/// A key of the file, which is its own name.
fn key(name: &str) -> String {
    format!("{name}-key-of-thirty-two-letters-at-least")
}

/// One provider, keys with their teams, and a model with a queue.
fn setup(busy: &Busy, more: &str, keys: &[(&str, &str)], model: &str) -> Setup {
    let mut text = String::from("workers: 2\nproviders:\n");
    text.push_str(&provider("a", &busy.base_url(), more));
    text.push_str("keys:\n");
    for (name, terms) in keys {
        text.push_str(&format!("  - {{ name: {name}, key: {}{terms} }}\n", key(name)));
    }
    text.push_str(&format!("models: {{ chat: {{ target: a/x, {model} }} }}\n"));
    Setup::file(&text).with_admin()
}

/// The request of a caller, who is named in it, too.
fn ask_of(name: &str) -> Vec<u8> {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let body = json!({ "model": "chat", "user": name, "messages": messages }).to_string();
    let bearer = format!("Bearer {}", key(name.split('/').next().unwrap()));
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    request("POST", CHAT, &headers, body.as_bytes())
}

/// Sends a request on a connection of its own, to be read later.
fn begin(magpie: &Magpie, name: &str) -> Wire {
    let mut wire = magpie.connect();
    wire.send(&ask_of(name));
    wire
}

/// The same, once the provider has it and keeps it waiting.
fn held(magpie: &Magpie, busy: &Busy, name: &str) -> Wire {
    busy.hold(true);
    let before = busy.users().len();
    let wire = begin(magpie, name);
    let start = Instant::now();
    while busy.users().len() == before {
        assert!(start.elapsed() < PATIENCE, "{name} did not arrive");
        thread::sleep(Duration::from_millis(1));
    }
    wire
}

fn ask(magpie: &Magpie, name: &str) -> Reply {
    begin(magpie, name).reply()
}

/// How many wait.
fn queued(magpie: &Magpie) -> u64 {
    magpie.admin("targets?model=chat").json()["data"][0]["queued"].as_u64().unwrap()
}

#[track_caller]
fn wait_for_queue(magpie: &Magpie, count: u64) {
    let start = Instant::now();
    while queued(magpie) != count {
        assert!(start.elapsed() < PATIENCE, "{} wait, not {count}", queued(magpie));
        thread::sleep(Duration::from_millis(2));
    }
}

/// Asserts how many were refused in the end, left, found too many others, and were admitted: as the
/// metrics tell it, and the admin API.
#[track_caller]
fn ended(magpie: &Magpie, counts: [u32; 4]) {
    let queue = magpie.admin("models").json()["data"][0]["queue"].clone();
    for (end, count) in ["refused", "left", "full", "admitted"].into_iter().zip(counts) {
        let name = format!("magpie_queue_requests_total{{model=\"chat\",end=\"{end}\"}}");
        assert_eq!(magpie.number(&name), f64::from(count), "{end}");
        assert_eq!(queue[end], count, "{queue}");
    }
}

fn queued_ms(reply: &Reply) -> Option<u64> {
    reply.header("x-magpie-queued-ms").map(|text| text.parse().unwrap())
}

#[test]
fn teams_have_equal_shares_whatever_they_offer_and_no_limit_is_gone_beyond() {
    let busy = Busy::start(Duration::from_millis(10));
    let keys = [("a", ", team: a"), ("b", ", team: b"), ("c", ", team: c")];
    let limits = "limits: { concurrency: 2 }";
    let magpie = setup(&busy, limits, &keys, "queue: { wait: 60s, most: 1000 }").start();
    let is_over = AtomicBool::new(false);
    let (magpie, is_over) = (&magpie, &is_over);
    thread::scope(|scope| {
        for (name, clients) in [("a", 2), ("b", 20), ("c", 200)] {
            for _ in 0..clients {
                scope.spawn(move || {
                    let mut wire = magpie.connect();
                    while !is_over.load(SeqCst) {
                        wire.send(&ask_of(name));
                        let reply = wire.reply();
                        assert_eq!(reply.status(), 200, "{}", reply.text());
                    }
                });
            }
        }
        wait_for_queue(magpie, 220);
        let begun = busy.users().len();
        thread::sleep(Duration::from_secs(4));
        let users = busy.users();
        is_over.store(true, SeqCst);
        let mut shares: HashMap<&str, usize> = HashMap::new();
        for user in &users[begun..] {
            *shares.entry(user).or_default() += 1;
        }
        let all: usize = shares.values().sum();
        eprintln!("{all} answered: {shares:?}");
        assert!(all > 200, "{all} are no load");
        for name in ["a", "b", "c"] {
            let per_mille = shares[name] * 1_000 / all;
            assert!((303..=363).contains(&per_mille), "{name} has {per_mille}: {shares:?}");
        }
    });
    assert_eq!(busy.most(), 2);
    assert_eq!(queued(magpie), 0);
}

#[test]
fn what_is_urgent_overtakes() {
    let busy = Busy::start(Duration::ZERO);
    let keys = [("slow", ", priority: low"), ("usual", ""), ("boss", ", team: board")];
    let setup = setup(&busy, "limits: { concurrency: 1 }", &keys, "queue: 30s");
    let magpie = setup.and("teams: { board: { priority: high } }").start();
    let mut wires = vec![held(&magpie, &busy, "usual")];
    let names = ["slow/1", "slow/2", "usual/1", "usual/2", "boss/1"];
    for (name, count) in names.iter().zip(1..) {
        wires.push(begin(&magpie, name));
        wait_for_queue(&magpie, count);
    }
    busy.hold(false);
    for mut wire in wires {
        assert_eq!(wire.reply().status(), 200);
    }
    let order = ["usual", "boss/1", "usual/1", "usual/2", "slow/1", "slow/2"];
    assert_eq!(busy.users(), order);
}

#[test]
fn a_wait_is_bounded_and_told_and_no_more_wait_than_may() {
    let busy = Busy::start(Duration::ZERO);
    let limits = "limits: { concurrency: 1 }";
    let magpie = setup(&busy, limits, &[("a", "")], "queue: { wait: 2s, most: 1 }").start();
    let mut first = held(&magpie, &busy, "a/first");
    let asked = Instant::now();
    let mut waiting = begin(&magpie, "a/second");
    wait_for_queue(&magpie, 1);
    assert_eq!(magpie.number(r#"magpie_queue_waiting_requests{model="chat"}"#), 1.0);
    let third = ask(&magpie, "a/third");
    assert!(asked.elapsed() < Duration::from_secs(2), "not at once");
    third.assert_error(429, "rate_limit_exceeded");
    assert!(third.message().contains("others wait already"), "{}", third.message());
    assert_eq!((third.header("retry-after"), queued_ms(&third)), (Some("1"), None));
    let second = waiting.reply();
    let took = asked.elapsed();
    second.assert_error(429, "rate_limit_exceeded");
    assert!(second.message().contains("The limit of provider `a`"), "{}", second.message());
    assert_eq!(second.header("retry-after"), Some("1"));
    let told = queued_ms(&second).unwrap();
    assert!((2_000..4_000).contains(&told) && took < PATIENCE / 2, "{told}, {took:?}");
    assert_eq!(queued(&magpie), 0);
    busy.hold(false);
    assert_eq!(first.reply().status(), 200);
    let log = magpie.log(3);
    let line = log.iter().find(|line| line["queued_ms"].is_u64()).unwrap();
    assert_eq!((&line["status"], &line["queued_ms"]), (&json!(429), &json!(told)));
    ended(&magpie, [1, 0, 1, 0]);
    magpie.becomes("magpie_queue_wait_seconds_count", 1.0);
    assert!(magpie.number("magpie_queue_wait_seconds_sum") >= 2.0);
    assert_eq!(busy.users(), ["a/first"]);
}

#[test]
fn time_in_the_queue_is_told_and_is_not_magpies_own() {
    let busy = Busy::start(Duration::ZERO);
    let magpie = setup(&busy, "limits: { concurrency: 1 }", &[("a", "")], "queue: 10s").start();
    let mut first = held(&magpie, &busy, "a/1");
    let mut second = begin(&magpie, "a/2");
    wait_for_queue(&magpie, 1);
    thread::sleep(Duration::from_millis(600));
    busy.hold(false);
    let second = second.reply();
    assert_eq!(second.status(), 200, "{}", second.text());
    let told = queued_ms(&second).unwrap();
    assert!(told >= 600, "{told}");
    let overhead: u64 = second.header("x-magpie-overhead-us").unwrap().parse().unwrap();
    assert!(overhead < 500_000, "{overhead}");
    assert_eq!(queued_ms(&first.reply()), None);
    let log = magpie.log(2);
    let line = log.iter().find(|line| line["queued_ms"] == told).unwrap();
    assert!(line["overhead_us"].as_u64().unwrap() < 500_000, "{line}");
}

#[test]
fn clients_that_leave_leave_no_ghosts() {
    let busy = Busy::start(Duration::ZERO);
    let magpie = setup(&busy, "limits: { concurrency: 1 }", &[("a", "")], "queue: 10s").start();
    let mut first = held(&magpie, &busy, "a/first");
    let gone: Vec<Wire> = (0..5).map(|number| begin(&magpie, &format!("a/gone{number}"))).collect();
    wait_for_queue(&magpie, 5);
    let mut stays = begin(&magpie, "a/stays");
    wait_for_queue(&magpie, 6);
    drop(gone);
    wait_for_queue(&magpie, 1);
    busy.hold(false);
    assert_eq!(first.reply().status(), 200);
    assert_eq!(stays.reply().status(), 200);
    assert_eq!(busy.users(), ["a/first", "a/stays"]);
    assert_eq!(queued(&magpie), 0);
    let lines = magpie.log(7);
    let left = lines.iter().filter(|line| line["outcome"] == "client_gone").count();
    assert_eq!(left, 5, "{lines:#?}");
    ended(&magpie, [0, 5, 0, 1]);
}

#[test]
fn a_limit_by_time_lets_the_next_one_go_when_its_time_comes() {
    let busy = Busy::start(Duration::ZERO);
    let limits = "limits: { rps: { amount: 10, burst: 1 } }";
    let magpie = setup(&busy, limits, &[("a", "")], "queue: 10s").start();
    let start = Instant::now();
    let mut wires: Vec<Wire> = (0..11).map(|_| begin(&magpie, "a")).collect();
    for wire in &mut wires {
        let reply = wire.reply();
        assert_eq!(reply.status(), 200, "{}", reply.text());
    }
    let took = start.elapsed();
    // Ten times a tenth of a second, and not ten times a whole one.
    assert!((950..2_500).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn what_a_window_or_a_bound_leaves_no_room_for_waits_too() {
    for (more, model) in [
        ("concurrency: { from: 2, to: 2 }", "queue: 20s"),
        ("timeouts: { connect: 2s }", "spill_at: 2, queue: 20s"),
    ] {
        let busy = Busy::start(Duration::from_millis(20));
        let magpie = setup(&busy, more, &[("a", "")], model).start();
        let mut wires: Vec<Wire> = (0..30).map(|_| begin(&magpie, "a")).collect();
        for wire in &mut wires {
            let reply = wire.reply();
            assert_eq!(reply.status(), 200, "{}", reply.text());
        }
        assert_eq!(busy.users().len(), 30);
        // Where requests spill is no hard bound: two workers may see the same place.
        let most = if model.starts_with("spill_at") { 4 } else { 2 };
        assert!((2..=most).contains(&busy.most()), "{} at once", busy.most());
    }
}

#[test]
fn who_may_not_use_the_model_does_not_wait_to_be_told() {
    let busy = Busy::start(Duration::ZERO);
    let keys = [("a", ""), ("b", ", models: [other]")];
    let magpie = setup(&busy, "limits: { concurrency: 1 }", &keys, "queue: 1m").start();
    let mut running = vec![held(&magpie, &busy, "a"), begin(&magpie, "a")];
    wait_for_queue(&magpie, 1);
    ask(&magpie, "b").assert_error(403, "model_not_allowed");
    assert_eq!(queued(&magpie), 1);
    busy.hold(false);
    for wire in &mut running {
        assert_eq!(wire.reply().status(), 200);
    }
}

#[test]
fn who_waits_outlasts_a_reload_and_is_told_when_the_process_stops() {
    let busy = Busy::start(Duration::ZERO);
    let setup = setup(&busy, "limits: { concurrency: 1 }", &[("a", "")], "queue: 1m");
    let mut magpie = setup.and("shutdown_grace: 300ms").start();
    let mut running = held(&magpie, &busy, "a/1");
    let mut next = begin(&magpie, "a/2");
    wait_for_queue(&magpie, 1);
    magpie.process.signal("HUP");
    let start = Instant::now();
    while magpie.reloads() == 0 {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(queued(&magpie), 1);
    busy.hold(false);
    assert_eq!(running.reply().status(), 200);
    assert_eq!(next.reply().status(), 200);
    let _longer_than_the_grace = held(&magpie, &busy, "a/3");
    let mut waiting = begin(&magpie, "a/4");
    wait_for_queue(&magpie, 1);
    magpie.process.signal("TERM");
    waiting.reply().assert_error(429, "rate_limit_exceeded");
    magpie.process.wait(PATIENCE);
    busy.hold(false);
}
