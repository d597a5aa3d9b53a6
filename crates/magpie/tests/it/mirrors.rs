//! Requests that go to a shadow as well, over sockets: which ones, what is written down, that clients
//! meet nothing of it whatever the shadow does, and that its bounds hold.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Options, Refused, ScriptedUpstream};

use crate::client::{Wire, request};
use crate::failover::provider;
use crate::figures::{bound, percentile, within_bounds};
use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};
use crate::ledger::{attempts, attempts_of};
use crate::turn;

/// The model `chat`, whose shadow plays a script, and `plain`, the same without one.
fn config(main: &ScriptedUpstream, shadow: &str, script: &str, mirror: &str) -> String {
    [
        "providers:\n",
        &provider("up", &main.base_url(), ""),
        &provider("shadow", shadow, ""),
        "models:\n",
        &format!("  plain: {script}\n  chat: {{ target: {script}, mirror: {mirror} }}\n"),
        "prices: { '*/*': { input: 1, output: 2, max_output: 100 } }\n",
    ]
    .concat()
}

/// The sums of the model `chat`, once they are as wanted.
fn sums(magpie: &Magpie, is_it: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let list = magpie.admin("mirrors?model=chat").json();
        let row = list["data"][0].clone();
        if is_it(&row) {
            return row;
        }
        assert!(start.elapsed() < PATIENCE, "{list}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn digits(id: &str) -> u128 {
    u128::from_str_radix(id.strip_prefix("req_").unwrap(), 16).unwrap()
}

#[test]
fn a_tenth_of_the_requests_is_mirrored_by_their_ids_and_callers_pay_nothing_for_it() {
    const COUNT: usize = 5_000;
    let (main, shadow) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let config =
        config(&main, &shadow.base_url(), "up/events:2", "{ to: 'shadow/events:4', share: 10 }");
    let keys = "log: { requests: false }\nkeys: [{ name: k, key: a-key-for-the-mirror, budget: $100/day }]\n";
    let magpie = Setup::file(&(config + keys)).with_admin().start();
    let headers = [("authorization", "Bearer a-key-for-the-mirror")];
    let (mut wire, mut drawn) = (magpie.connect(), HashSet::new());
    for _ in 0..COUNT {
        wire.send(&request("POST", CHAT, &headers, chat("chat", false).as_bytes()));
        let reply = wire.reply();
        assert_eq!((reply.status(), reply.header("x-magpie-target")), (200, Some("up/events:2")));
        let id = digits(reply.header("x-request-id").unwrap());
        if policy::plan::is_drawn(1_000, u64::try_from(id & u128::from(u64::MAX)).unwrap()) {
            drawn.insert(id ^ u128::from(u64::MAX));
        }
    }
    eprintln!("{} of {COUNT} requests were mirrored at 10 %", drawn.len());
    // Five standard deviations.
    assert!(drawn.len().abs_diff(COUNT / 10) < 106, "{}", drawn.len());
    let sums = sums(&magpie, |row| row["compared"] == drawn.len());
    assert_eq!((number(&sums["drawn"]), number(&sums["dropped"])), (drawn.len() as u64, 0));
    assert_eq!(shadow.received().len(), drawn.len());
    let labels = r#"{model="chat",shadow="shadow/events:4",end="compared"}"#;
    let compared = magpie.number(&format!("magpie_mirrored_requests_total{labels}"));
    assert_eq!(compared, drawn.len() as f64);

    let found = attempts_of(&magpie, COUNT + drawn.len());
    let (copies, mains): (Vec<&Value>, Vec<&Value>) =
        found.iter().partition(|row| row["provider"] == "shadow");
    let ids: HashSet<u128> = copies.iter().map(|row| digits(row["id"].as_str().unwrap())).collect();
    assert_eq!(ids, drawn, "the id of a copy tells its request");
    assert!(copies.iter().all(|row| row["key"].as_str().is_none_or(str::is_empty)));
    assert!(copies.iter().all(|row| row["model"] == "chat" && row["outcome"] == "complete"));
    assert!(mains.iter().all(|row| row["key"] == "k"));
    let standing = magpie.admin("keys/k/standing").json();
    let cost = |row: &Value| row["cost"]["amount"].as_str().unwrap().parse::<f64>();
    let paid: f64 = mains.iter().map(|row| cost(row).unwrap()).sum();
    let spent: f64 = standing["budgets"][0]["spent"].as_str().unwrap()[1..].parse().unwrap();
    assert!((spent - paid).abs() < 1e-9 && paid > 0.0, "{spent} and {paid}");
}

#[test]
fn the_log_has_a_line_for_each_pair_and_no_word_of_it() {
    let (main, shadow) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let text = config(&main, &shadow.base_url(), "up/events:6", "'shadow/events:3'");
    let magpie = Setup::file(&text).with_admin().start();
    let body = chat("chat", true).replace("\"hi\"", "\"canary-prompt\"");
    let reply = magpie.post(CHAT, &body);
    assert!(reply.is_done() && reply.text().contains("w6 "), "{}", reply.text());
    let lines = magpie.log(3);
    let of = |message: &str, provider: &str| {
        let found = lines.iter().find(|line| {
            line["message"] == message && (provider.is_empty() || line["provider"] == provider)
        });
        found.unwrap_or_else(|| panic!("{lines:?}"))
    };
    let (request, copy, pair) = (of("request", "up"), of("request", "shadow"), of("mirror", ""));
    assert_eq!(copy["mirror_of"], request["request_id"]);
    assert_eq!(
        (&pair["request_id"], &pair["mirror_id"]),
        (&request["request_id"], &copy["request_id"])
    );
    for side in ["main", "shadow"] {
        assert_eq!(
            (&pair[side]["status"], pair[side]["outcome"].as_str()),
            (&Value::from(200), Some("complete"))
        );
        assert_eq!(pair[side]["finish_reason"], "stop");
        assert!(pair[side]["first_event_ms"].is_number() && pair[side]["cost"].is_string());
    }
    assert_eq!(
        (&pair["main"]["upstream_model"], &pair["shadow"]["upstream_model"]),
        (&"events:6".into(), &"events:3".into())
    );
    let similarity = pair["similarity"].as_f64().unwrap();
    assert!(similarity > 0.3 && similarity < 0.9, "{similarity}");
    let api = magpie.admin("mirrors").text();
    for text in [magpie.process.stderr.so_far(), api] {
        assert!(!text.contains("canary-prompt") && !text.contains("w1 w2"), "{text}");
    }
}

/// Asks a model so often, one after the other; the times, and the one answer to all of them.
fn times(wire: &mut Wire, model: &str, count: usize, stream: bool) -> (Vec<Duration>, Vec<u8>) {
    let mut times = Vec::new();
    let mut answer: Option<Vec<u8>> = None;
    for _ in 0..count {
        let start = Instant::now();
        wire.send(&request("POST", CHAT, &[], chat(model, stream).as_bytes()));
        let reply = wire.reply();
        times.push(start.elapsed());
        assert!(reply.status() == 200 && reply.whole);
        assert_eq!(answer.get_or_insert_with(|| reply.body.clone()), &reply.body, "to the byte");
    }
    (times, answer.unwrap())
}

/// What a shadow does, and its script.
const SHADOWS: [(&str, &str); 8] = [
    ("is well", "events:3"),
    ("hangs", "hang"),
    ("stalls", "stall:2"),
    ("dies", "reset:1"),
    ("fails", "status:500"),
    ("is gone", "x"),
    ("takes ten times as long", "events:30:2"),
    ("floods", "flood:100000"),
];

#[test]
fn whatever_a_shadow_does_clients_get_the_same_bytes_as_soon() {
    let _alone = turn::alone();
    let quiet = || ScriptedUpstream::start_with(Options { record: false, ..Options::default() });
    let (main, shadow) = (quiet(), quiet());
    for (name, script) in SHADOWS {
        let at = if name == "is gone" { Refused::base_url() } else { shadow.base_url() };
        let text = config(&main, &at, "up/events:3:2", &format!("'shadow/{script}'"));
        let magpie = Setup::file(&(text + "log: { requests: false }\n")).with_admin().start();
        let mut wire = magpie.connect();
        for stream in [true, false] {
            times(&mut wire, "plain", 10, stream);
            within_bounds(&format!("a shadow that {name}, streamed: {stream}"), || {
                let (alone, expected) = times(&mut wire, "plain", 100, stream);
                let (mirrored, answer) = times(&mut wire, "chat", 100, stream);
                assert_eq!(answer, expected, "to the byte");
                let [alone, mirrored] = [&alone, &mirrored].map(|times| percentile(times, 99));
                let figures = format!("p99 {alone:?} without, {mirrored:?} with");
                let slack = bound(Duration::from_millis(10), Duration::from_millis(50));
                let is_good = mirrored < alone * 3 + slack;
                if is_good { Ok(figures) } else { Err(figures) }
            });
        }
        let sums = sums(&magpie, |row| number(&row["drawn"]) >= 200);
        let [drawn, dropped, skipped, ended] =
            ["drawn", "dropped", "skipped", "ended"].map(|name| number(&sums[name]));
        eprintln!("{name}: {drawn} drawn, {dropped} dropped, {skipped} skipped, {ended} ended");
        match name {
            "hangs" | "stalls" => assert_eq!((dropped, ended), (drawn - 64, 0), "{sums}"),
            "dies" | "fails" | "is gone" => {
                assert_eq!((dropped, number(&sums["shadow"]["errors"])), (0, ended), "{sums}");
                assert!(ended > 0 && skipped > ended, "it is ejected: {sums}");
            }
            _ => {}
        }
        assert_eq!(number(&sums["main"]["errors"]), 0, "{sums}");
    }
}

#[test]
fn bodies_are_held_within_their_bound() {
    const BODY: usize = 4 << 20;
    let quiet = || ScriptedUpstream::start_with(Options { record: false, ..Options::default() });
    let (main, shadow) = (quiet(), quiet());
    let text = config(&main, &shadow.base_url(), "up/ok", "shadow/hang");
    let magpie = Setup::file(&text).with_admin().start();
    let body = chat("chat", false).replace("\"hi\"", &format!("\"{}\"", "a".repeat(BODY - 100)));
    let mut wire = magpie.connect();
    let mut ask = || {
        wire.send(&request("POST", CHAT, &[], body.as_bytes()));
        assert_eq!(wire.reply().status(), 200);
    };
    ask();
    let before = magpie.process.resident();
    (0..59).for_each(|_| ask());
    let grown = magpie.process.resident().saturating_sub(before) >> 10;
    let sums = sums(&magpie, |row| number(&row["drawn"]) == 60);
    eprintln!("60 bodies of 4 MiB: {} dropped, {grown} MiB more", sums["dropped"]);
    assert_eq!(number(&sums["dropped"]), 60 - 16, "16 of them are 64 MiB");
    assert!(grown < 250, "{grown} MiB");
}

#[test]
fn a_process_with_copies_under_way_ends_in_time_and_they_are_written_down() {
    let (main, shadow) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let text = config(&main, &shadow.base_url(), "up/ok", "shadow/hang");
    let mut magpie = Setup::file(&text).with_admin().start();
    for stream in [false, true, false, true] {
        let reply = magpie.post(CHAT, &chat("chat", stream));
        assert_eq!(reply.status(), 200);
    }
    let start = Instant::now();
    while shadow.received().len() < 4 {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    magpie.process.signal("TERM");
    assert_eq!(magpie.process.wait(Duration::from_secs(3)).code(), Some(0));
    let found = attempts(&magpie.process.setup);
    let shed = found.iter().filter(|row| row["provider"] == "shadow" && row["outcome"] == "shed");
    assert_eq!((found.len(), shed.count()), (8, 4), "{found:?}");
}

#[test]
fn a_copy_goes_on_when_its_client_has_gone_and_the_file_has_changed() {
    let (main, shadow) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let text = config(&main, &shadow.base_url(), "up/events:100:20", "'shadow/events:10:60'");
    let magpie = Setup::file(&text).with_admin().start();
    let mut wire = magpie.connect();
    wire.chat("chat", true);
    assert_eq!(wire.head().status, 200);
    wire.chunks_until("w1 ");
    drop(wire);
    let without = text.replace(", mirror: 'shadow/events:10:60'", "");
    assert_ne!(text, without);
    magpie.process.setup.replace(&without);
    magpie.process.signal("HUP");
    let sums = sums(&magpie, |row| row["ended"] == 1);
    assert_eq!((number(&sums["compared"]), number(&sums["main"]["errors"])), (0, 0));
    assert_eq!(number(&sums["shadow"]["errors"]), 0);
    assert!(magpie.reloads() > 0);
    magpie.post(CHAT, &chat("plain", false));
    magpie.post(CHAT, &chat("chat", false));
    assert_eq!(shadow.received().len(), 1, "nothing is mirrored any more");
    let found = attempts_of(&magpie, 4);
    let ended = |provider: &str, outcome: &str| {
        let mut rows = found.iter().filter(|row| row["provider"] == provider);
        rows.any(|row| row["outcome"] == outcome)
    };
    assert!(ended("up", "client_gone") && ended("shadow", "complete"), "{found:?}");
}
