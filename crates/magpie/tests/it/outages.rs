//! Targets that fail under load, and come back: callers see little of it, targets are left alone and
//! found again, and nothing is multiplied.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Options, Received, ScriptedUpstream};

use crate::client::{Reply, Wire, request};
use crate::failover::{HASTY, ask, is_good, provider};
use crate::figures::{percentile, within_bounds};
use crate::harness::{CHAT, Magpie, Setup, chat};
use crate::turn;

/// How often each client asks.
const EVERY: Duration = Duration::from_millis(40);
/// Requests that save up all the retries that can be saved.
const BEFORE: usize = 520;

/// It fails twice in four times, in no order: what chance does to the share of so few says nothing of
/// what is tested here.
fn half_bad() -> Vec<Value> {
    const ORDERS: [[bool; 4]; 6] = [
        [true, true, false, false],
        [true, false, true, false],
        [true, false, false, true],
        [false, true, true, false],
        [false, true, false, true],
        [false, false, true, true],
    ];
    let mut bits: u64 = 0x9e37_79b9_7f4a_7c15;
    let order = |_| {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        ORDERS[(bits % 6) as usize]
    };
    let reply = |fails| json!({ "script": if fails { "status:500" } else { "ok" } });
    (0..1000).flat_map(order).map(reply).collect()
}

fn good() -> Vec<Value> {
    vec![json!({ "script": "ok" })]
}

/// What the clients of a model saw.
#[derive(Default)]
struct Seen {
    asked: u64,
    /// What was no good answer, in words.
    bad: Vec<String>,
}

/// A model that is asked: by so many clients, and whether every other of their requests wants a
/// stream.
#[derive(Clone, Copy)]
struct Load(&'static str, u32, bool);

/// Asks a model again and again until it is over.
fn client(magpie: &Magpie, Load(model, of, streams): Load, number: u32, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut wire = magpie.connect();
    let mut due = Instant::now() + EVERY * number / of;
    while !over.load(Ordering::SeqCst) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due = (due + EVERY).max(Instant::now());
        let stream = streams && seen.asked % 2 == 0;
        wire.chat(model, stream);
        let reply = wire.reply();
        seen.asked += 1;
        if !is_good(&reply, stream) {
            seen.bad.push(format!("{} {}", reply.status(), reply.text()));
        }
    }
    seen
}

/// Lets all models be asked while something happens, and says what their clients saw.
fn under_load(
    magpie: &Magpie,
    loads: &[Load],
    happens: impl FnOnce(),
) -> HashMap<&'static str, Seen> {
    let over = AtomicBool::new(false);
    let mut all: HashMap<&str, Seen> = HashMap::new();
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for &load in loads {
            for number in 0..load.1 {
                let over = &over;
                clients.push((load.0, scope.spawn(move || client(magpie, load, number, over))));
            }
        }
        happens();
        over.store(true, Ordering::SeqCst);
        for (model, client) in clients {
            let seen = client.join().unwrap();
            let sum = all.entry(model).or_default();
            sum.asked += seen.asked;
            sum.bad.extend(seen.bad);
        }
    });
    all
}

/// When a model was asked of an upstream.
fn times(received: &[Received], model: &str) -> Vec<Instant> {
    let of_model = received.iter().filter(|it| it.json()["model"] == model);
    of_model.map(|it| it.at).collect()
}

/// From when it went bad until it was left alone for a while.
fn until_ejected(times: &[Instant], bad: Instant) -> Duration {
    let pause = Duration::from_secs(2);
    let next = |at: usize| times.get(at + 1).is_none_or(|next| *next - times[at] > pause);
    let last = (0..times.len()).find(|at| times[*at] >= bad && next(*at));
    times[last.expect("it was asked when it was bad")] - bad
}

/// From when it was well again until it was asked.
fn until_back(times: &[Instant], well: Instant) -> Duration {
    *times.iter().find(|at| **at >= well).expect("it is asked again") - well
}

/// The upstreams of the test below. `flaky` answers with errors for a while, `gone` is not there.
struct Three {
    flaky: ScriptedUpstream,
    gone: Option<ScriptedUpstream>,
    well: [ScriptedUpstream; 2],
}

impl Three {
    fn config(&self) -> String {
        let [b, c] = &self.well;
        let gone = self.gone.as_ref().unwrap();
        [
            "log: { requests: false }\nproviders:\n",
            &provider("flaky", &self.flaky.base_url(), HASTY),
            &provider("gone", &gone.base_url(), HASTY),
            &provider("b", &b.base_url(), ""),
            &provider("c", &c.base_url(), ""),
            "models:\n",
            "  flaky-balance: { balance: [flaky/x, b/x, c/x], by: round_robin }\n",
            "  flaky-first:\n    when:\n      - { if: { header: { x-case: before } }, use: b/y }\n",
            "      - use: { fallback: [flaky/y, b/y, c/y] }\n",
            "  gone-balance: { balance: [gone/z, b/z, c/z], by: in_flight }\n",
            "  gone-first: { fallback: [gone/w, b/w, c/w] }\n",
        ]
        .concat()
    }
}

#[test]
fn one_bad_target_of_three_costs_hardly_anyone_an_answer_and_is_found_when_it_is_back() {
    let _alone = turn::alone();
    let start = ScriptedUpstream::start;
    let mut three = Three { flaky: start(), gone: Some(start()), well: [start(), start()] };
    let magpie = Setup::file(&three.config()).start();
    // Half of what the first target of a fallback is asked is more than a fifth: retries have to be
    // saved up for it.
    let mut wire = magpie.connect();
    let before =
        request("POST", CHAT, &[("x-case", "before")], chat("flaky-first", false).as_bytes());
    for _ in 0..BEFORE {
        wire.send(&before);
        assert_eq!(wire.reply().header("x-magpie-target"), Some("b/y"));
    }
    // What is in one piece can be asked for again when its upstream goes in the middle of it.
    let loads = [
        Load("flaky-balance", 7, true),
        Load("flaky-first", 2, true),
        Load("gone-balance", 5, false),
        Load("gone-first", 5, false),
    ];
    let port = three.gone.as_ref().unwrap().address().port();
    let (mut bad, mut well) = (Instant::now(), Instant::now());
    let mut asked_of_gone = Vec::new();
    let seen = under_load(&magpie, &loads, || {
        thread::sleep(Duration::from_millis(1500));
        bad = Instant::now();
        three.flaky.script("x", half_bad());
        three.flaky.script("y", half_bad());
        asked_of_gone = three.gone.take().unwrap().received();
        // Breakers are open for five seconds: the first probe comes when all is well again.
        thread::sleep(Duration::from_secs(5));
        three.flaky.script("x", good());
        three.flaky.script("y", good());
        three.gone = Some(ScriptedUpstream::start_with(Options { port, ..Options::default() }));
        well = Instant::now();
        thread::sleep(Duration::from_secs(5));
    });
    let flaky = three.flaky.received();
    let back = three.gone.take().unwrap().received();
    for (model, name) in [("flaky-balance", "x"), ("flaky-first", "y")] {
        let times = times(&flaky, name);
        let (ejected, back) = (until_ejected(&times, bad), until_back(&times, well));
        eprintln!("{model}: ejected after {ejected:?}, back after {back:?}");
        assert!(ejected < Duration::from_secs(5) && back < Duration::from_secs(5));
    }
    for (model, name) in [("gone-balance", "z"), ("gone-first", "w")] {
        assert!(!times(&asked_of_gone, name).is_empty(), "{model} was asked before it went");
        let back = until_back(&times(&back, name), well);
        eprintln!("{model}: back after {back:?}");
        assert!(back < Duration::from_secs(5));
    }
    let mut asked = 0;
    for (model, Seen { asked: count, bad }) in &seen {
        eprintln!("{model}: {count} asked, {} without a good answer", bad.len());
        assert!(*count > 300, "{model}: {count} requests are no load");
        assert!(bad.len() as u64 * 1000 <= *count, "{model}: {bad:#?}");
        asked += count;
    }
    let well: usize = three.well.iter().map(|upstream| upstream.received().len()).sum();
    // Those in front of the load were attempts as well.
    let sent = (well + flaky.len() + asked_of_gone.len() + back.len() - BEFORE) as u64;
    eprintln!("{sent} attempts were received for {asked} requests");
    assert!(sent * 10 <= asked * 12, "{sent} attempts for {asked} requests");
}

#[test]
fn a_target_that_breaks_its_streams_off_is_left_alone_though_each_began_well() {
    let (bad, well) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let config = [
        "log: { requests: false }\nproviders:\n",
        &provider("bad", &bad.base_url(), HASTY),
        &provider("well", &well.base_url(), ""),
        "models:\n  chat: { balance: ['bad/eof:3', well/a, well/b], by: round_robin }\n",
    ];
    let magpie = Setup::file(&config.concat()).start();
    let replies: Vec<Reply> = (0..60).map(|_| ask(&magpie, "chat", true)).collect();
    let broken: Vec<usize> = (0..60).filter(|at| !is_good(&replies[*at], true)).collect();
    for at in &broken {
        replies[*at].assert_broken_off("provider_truncated");
    }
    assert!((3..=10).contains(&broken.len()), "{broken:?}");
    assert!(broken.iter().all(|at| *at < 30), "{broken:?}");
}

#[test]
fn when_nobody_can_be_reached_callers_are_told_at_once_until_somebody_is_back() {
    let _alone = turn::alone();
    let gone: Vec<ScriptedUpstream> = (0..3).map(|_| ScriptedUpstream::start()).collect();
    let port = gone[1].address().port();
    let mut config = String::from("log: { requests: false }\nproviders:\n");
    for (name, upstream) in ["a", "b", "c"].iter().zip(&gone) {
        config.push_str(&provider(name, &upstream.base_url(), ""));
    }
    config.push_str("models: { chat: { fallback: [a/x, b/x, c/x] } }\n");
    drop(gone);
    let magpie = Setup::file(&config).start();
    let first = ask(&magpie, "chat", true);
    first.assert_error(503, "no_target_available");
    assert_eq!(first.header("x-magpie-attempts"), Some("3"));
    for target in ["a/x", "b/x", "c/x"] {
        assert!(first.message().contains(target), "{}", first.message());
    }
    // Retries are counted, so it takes some time until each has failed three times. Until then as
    // well it is told who was asked, and when to come again.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..15 {
                    let reply = ask(&magpie, "chat", false);
                    reply.assert_error(503, "no_target_available");
                    assert!(reply.message().contains("/x: "), "{}", reply.message());
                    assert!(reply.header("retry-after").is_some());
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    within_bounds("a refusal while nobody can be reached", || {
        let times: Vec<Duration> = (0..100).map(|_| refused_in(&magpie)).collect();
        let p99 = percentile(&times, 99);
        let figures = format!("p99 {p99:?}");
        if p99 < Duration::from_millis(20) { Ok(figures) } else { Err(figures) }
    });
    let back = ScriptedUpstream::start_with(Options { port, ..Options::default() });
    let start = Instant::now();
    while !is_good(&ask(&magpie, "chat", false), false) {
        assert!(start.elapsed() < Duration::from_secs(6), "not found again");
        thread::sleep(Duration::from_millis(20));
    }
    eprintln!("found again after {:?}", start.elapsed());
    assert!(!back.received().is_empty());
}

/// How long a refusal takes.
fn refused_in(magpie: &Magpie) -> Duration {
    let mut wire: Wire = magpie.connect();
    let start = Instant::now();
    wire.chat("chat", true);
    let reply = wire.reply();
    let took = start.elapsed();
    reply.assert_error(503, "no_target_available");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    took
}

#[test]
fn a_storm_is_not_multiplied() {
    let all: Vec<ScriptedUpstream> = (0..3).map(|_| ScriptedUpstream::start()).collect();
    let mut config = String::from("log: { requests: false }\nproviders:\n");
    for (name, upstream) in ["a", "b", "c"].iter().zip(&all) {
        config.push_str(&provider(name, &upstream.base_url(), ""));
    }
    config.push_str(
        "models:\n  first: { fallback: ['a/status:529', 'b/status:503', 'c/status:500'] }\n",
    );
    config.push_str("  turns: { balance: ['a/status:502', 'b/status:502', 'c/status:502'] }\n");
    let magpie = Setup::file(&config).start();
    let start = Instant::now();
    let loads = [Load("first", 5, true), Load("turns", 5, true)];
    let seen = under_load(&magpie, &loads, || thread::sleep(Duration::from_secs(3)));
    let (mut asked, mut failed) = (0, 0);
    for Seen { asked: count, bad } in seen.values() {
        (asked, failed) = (asked + count, failed + bad.len() as u64);
        assert!(bad.iter().all(|words| words.starts_with('5')), "{bad:#?}");
    }
    assert_eq!(failed, asked);
    assert!(asked > 300, "{asked} requests are no storm");
    let sent: usize = all.iter().map(|upstream| upstream.received().len()).sum();
    // Three a second are there for each model in any case.
    let floor = 2 * 3 * (start.elapsed().as_secs() + 2);
    eprintln!("{sent} attempts for {asked} requests in a storm");
    assert!(sent as u64 * 10 <= asked * 12 + floor * 10, "{sent} attempts for {asked} requests");
}
