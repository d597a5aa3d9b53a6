//! Requests divided by weight: each caller stays on one side, over a restart and a new order of the
//! file; weights that change move only those who have to move, and nothing that runs.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use testkit::ScriptedUpstream;

use crate::client::{Wire, request};
use crate::failover::provider;
use crate::harness::{CHAT, Magpie, Setup, chat};

/// Keys of their own, each of which asks.
const KEYS: usize = 5000;

fn key(number: usize) -> String {
    format!("a-key-for-the-split-{number:05}")
}

/// A model `chat` that is divided between two upstream models.
fn config(upstream: &ScriptedUpstream, old: u32, new: u32, keys: &[usize]) -> String {
    let mut text = format!(
        "open: true\nlog: {{ requests: false }}\nproviders:\n{}\
         models: {{ chat: {{ split: {{ up/old: {old}, up/new: {new} }} }} }}\nkeys:\n",
        provider("up", &upstream.base_url(), "")
    );
    for &number in keys {
        writeln!(text, "  - {{ name: k{number}, key: {} }}", key(number)).unwrap();
    }
    text
}

/// Where the requests of a key go now.
fn side(wire: &mut Wire, number: usize) -> String {
    let bearer = format!("Bearer {}", key(number));
    let body = chat("chat", false);
    wire.send(&request("POST", CHAT, &[("authorization", &*bearer)], body.as_bytes()));
    let reply = wire.reply();
    assert_eq!(reply.status(), 200, "{}", reply.text());
    reply.header("x-magpie-target").unwrap().to_owned()
}

/// The sides of these keys.
fn sides(magpie: &Magpie, keys: &[usize]) -> HashMap<usize, String> {
    let mut wire = magpie.connect();
    keys.iter().map(|&number| (number, side(&mut wire, number))).collect()
}

fn of_new(sides: &HashMap<usize, String>) -> usize {
    sides.values().filter(|side| *side == "up/new").count()
}

#[test]
fn a_canary_gets_its_share_of_callers_and_keeps_them() {
    let upstream = ScriptedUpstream::start();
    let all: Vec<usize> = (0..KEYS).collect();
    let magpie = Setup::file(&config(&upstream, 95, 5, &all)).start();
    let first = sides(&magpie, &all);
    let share = of_new(&first);
    eprintln!("{share} of {KEYS} callers are on the side of 5 %");
    // Four standard deviations of so many callers: 1.2 %.
    assert!((190..=310).contains(&share), "{share} of {KEYS}");
    let asked = upstream.received();
    let new = asked.iter().filter(|it| it.json()["model"] == "new").count();
    assert_eq!((asked.len(), new), (KEYS, share), "what is told is what is done");

    // Who is on the small side, and as many others.
    let some: Vec<usize> = (0..KEYS).filter(|at| first[at] == "up/new" || at % 20 == 0).collect();
    let same = |magpie: &Magpie| {
        for (number, side) in sides(magpie, &some) {
            assert_eq!(side, first[&number], "k{number} has changed sides");
        }
    };
    same(&magpie);
    // Another process, with the keys in another order.
    drop(magpie);
    let reversed: Vec<usize> = some.iter().rev().copied().collect();
    let magpie = Setup::file(&config(&upstream, 95, 5, &reversed)).start();
    same(&magpie);

    // Twice the weight: nobody who is there leaves.
    magpie.reload(&config(&upstream, 90, 10, &reversed));
    let second = sides(&magpie, &some);
    for number in &some {
        assert!(first[number] == "up/old" || second[number] == "up/new", "k{number} was moved off");
    }
    assert!(of_new(&second) > of_new(&first));
}

/// Asks until told to stop, with keys of its own, and counts by side.
fn asks(magpie: &Magpie, from: usize, over: &AtomicBool, both: &[AtomicUsize; 2]) {
    let mut wire = magpie.connect();
    let mut number = from;
    while !over.load(Ordering::Relaxed) {
        number = from + (number + 1) % 20;
        let target = side(&mut wire, number);
        assert!(target == "up/old" || target == "up/new", "{target}");
        both[usize::from(target == "up/new")].fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Streams one after the other until told to stop, each of which has to end where it began.
fn streams(magpie: &Magpie, number: usize, over: &AtomicBool, served: &AtomicUsize) {
    let bearer = format!("Bearer {}", key(number));
    while !over.load(Ordering::Relaxed) {
        let mut wire = magpie.connect();
        let body = chat("chat", true);
        wire.send(&request("POST", CHAT, &[("authorization", &*bearer)], body.as_bytes()));
        let reply = wire.reply();
        assert!(reply.whole && reply.is_done(), "{}", reply.text());
        assert_eq!(reply.content(), (1..=30).map(|at| format!("w{at} ")).collect::<String>());
        // The model that its chunks name is the one that its head told.
        let told = reply.header("x-magpie-target").unwrap().trim_start_matches("up/").to_owned();
        assert!(reply.events().iter().all(|event| event["model"] == *told), "{}", reply.text());
        served.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn weights_that_change_under_load_fail_no_request_and_move_no_stream() {
    let upstream = ScriptedUpstream::start();
    let script = serde_json::json!({ "script": "events:30:15" });
    let keys: Vec<usize> = (0..200).collect();
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let both = [AtomicUsize::new(0), AtomicUsize::new(0)];
    upstream.script("old", [script.clone()]);
    upstream.script("new", [script]);
    let magpie = Setup::file(&config(&upstream, 50, 50, &keys)).start();
    thread::scope(|scope| {
        for from in [0, 40, 80, 120] {
            let (magpie, over, both) = (&magpie, &over, &both);
            scope.spawn(move || asks(magpie, from, over, both));
        }
        for number in [160, 161, 162, 163, 164, 165] {
            let (magpie, over, served) = (&magpie, &over, &served);
            scope.spawn(move || streams(magpie, number, over, served));
        }
        let reloading = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (old, new) in [(90, 10), (0, 100), (50, 50), (100, 0), (1, 99)].repeat(4) {
                magpie.reload(&config(&upstream, old, new, &keys));
                thread::sleep(Duration::from_millis(100));
            }
        }));
        over.store(true, Ordering::Relaxed);
        reloading.unwrap();
    });
    let [old, new] = both.map(AtomicUsize::into_inner);
    eprintln!("{old} and {new} on both sides, {served:?} streams");
    assert!(old > 50 && new > 50 && served.into_inner() > 10);
}
