//! Each attempt of a request is written down once and paid by what its provider counted, also when
//! the process is killed between two of them; and no attempt goes where its caller may not.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Refused, ScriptedUpstream};

use crate::client::{Wire, request};
use crate::failover::{HASTY, ask, is_good, models, provider};
use crate::harness::{CHAT, Magpie, Setup, chat};
use crate::ledger::{Tokens, attempts, attempts_of, by_model};
use crate::raw::RawUpstream;

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// Attempts by their request, in order.
fn by_request(found: &[Value]) -> HashMap<&str, Vec<&Value>> {
    let mut requests: HashMap<&str, Vec<&Value>> = HashMap::new();
    for attempt in found {
        requests.entry(text(attempt, "id")).or_default().push(attempt);
    }
    for attempts in requests.values_mut() {
        attempts.sort_by_key(|attempt| attempt["attempt"].as_u64());
    }
    requests
}

/// Models and how many attempts a request for each takes; the last goes to `good`.
const PLANS: [(&str, &str, usize); 6] = [
    ("plain", "'good/events:3'", 1),
    ("busy", "{ fallback: ['bad/status:429', 'good/events:5'] }", 2),
    ("failing", "{ fallback: ['bad/status:500', 'good/events:7'] }", 2),
    ("hidden", "{ fallback: ['bad/error200', 'good/events:9'] }", 2),
    ("gone", "{ fallback: [refusing/x, 'good/events:11'] }", 2),
    ("long", "{ fallback: ['bad/status:502', refusing/y, 'bad/status:503', 'good/events:13'] }", 4),
];

#[test]
fn every_attempt_is_in_the_ledger_and_the_tokens_are_those_that_providers_counted() {
    let (bad, good) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let config = [
        "log: { requests: false }\nproviders:\n",
        &provider("bad", &bad.base_url(), HASTY),
        &provider("good", &good.base_url(), ""),
        &provider("refusing", &Refused::base_url(), ""),
        &models(PLANS.map(|(name, plan, _)| (name.to_owned(), plan.to_owned()))),
    ];
    let magpie = Setup::file(&config.concat()).with_admin().start();
    let mut told: HashMap<String, usize> = HashMap::new();
    for (model, _, count) in PLANS {
        // Who was throttled is left alone, and three retries at once are all that a model has.
        let streams = if matches!(model, "busy" | "long") { &[true][..] } else { &[false, true] };
        for &stream in streams {
            let reply = ask(&magpie, model, stream);
            assert_eq!(reply.header("x-magpie-attempts"), Some(&*count.to_string()), "{model}");
            told.insert(reply.header("x-request-id").unwrap().to_owned(), count);
        }
    }
    let all: usize = told.values().sum();
    let found = attempts_of(&magpie, all);
    let requests = by_request(&found);
    assert_eq!((found.len(), requests.len()), (all, told.len()));
    for (id, count) in &told {
        let attempts = &requests[&**id];
        let numbers: Vec<u64> = attempts.iter().filter_map(|it| it["attempt"].as_u64()).collect();
        assert_eq!(numbers, (1..=*count as u64).collect::<Vec<_>>(), "{attempts:?}");
        let (last, failed) = attempts.split_last().unwrap();
        assert_eq!((text(last, "outcome"), &last["last_of"]), ("complete", &json!(count)));
        for attempt in failed {
            assert!(attempt["last_of"].is_null(), "{attempt}");
            assert!(matches!(text(attempt, "outcome"), "provider_error" | "unreachable"));
            assert_eq!(text(attempt, "provenance"), "none", "{attempt}");
        }
    }
    let sum =
        |tokens: &mut dyn Iterator<Item = Tokens>| tokens.fold(Tokens::default(), Tokens::plus);
    let counted = sum(&mut good.received().iter().map(Tokens::billed));
    assert_eq!(sum(&mut found.iter().map(Tokens::of)), counted);
    let at = |name: &str| found.iter().filter(|it| text(it, "provider") == name).count();
    assert_eq!(at("bad"), bad.received().len());
    assert_eq!(at("good"), good.received().len());
    look_at_the_admin_api(&magpie, &told, counted);
}

/// The admin API tells the same, request by request.
fn look_at_the_admin_api(magpie: &Magpie, told: &HashMap<String, usize>, counted: Tokens) {
    let list = magpie.admin("requests?limit=100").json();
    let rows = list["data"].as_array().unwrap();
    assert_eq!(rows.len(), told.len());
    let mut tokens = Tokens::default();
    for row in rows {
        let count = told[text(row, "id")];
        assert_eq!((&row["attempts"], text(row, "outcome")), (&json!(count), "complete"), "{row}");
        tokens = tokens.plus(Tokens::of(row));
        let detail = magpie.admin(&format!("requests/{}", text(row, "id"))).json();
        let attempts = detail["tries"].as_array().unwrap_or_else(|| panic!("{detail}"));
        assert_eq!(attempts.len(), count, "{detail}");
        assert_eq!(text(attempts.last().unwrap(), "provider"), "good", "{detail}");
    }
    assert_eq!(tokens, counted);
}

/// Ways to make a model fail.
const FAULTS: [&str; 7] =
    ["status:400", "status:401", "status:429", "status:500", "error200", "cut:0", "hang"];

#[test]
fn a_caller_gets_to_no_model_by_making_another_one_fail_or_by_spending_its_budget() {
    let (bad, good) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let spent = "budget: { amount: $0.000001, period: total, on_exhausted: { downgrade: wide } }";
    let config = [
        "providers:\n",
        &provider("bad", &bad.base_url(), HASTY),
        &provider("good", &good.base_url(), ""),
        "models:\n  narrow: bad/narrow\n  wide: { fallback: ['bad/status:500', good/ok] }\n",
        "prices: { '*/*': { input: 1, output: 1, max_output: 100 }, 'good/*': { input: 0, output: 0 } }\n",
        "keys:\n",
        "  - { name: narrow, key: a-key-that-is-narrow, models: [narrow] }\n",
        &format!("  - {{ name: spent, key: a-key-that-is-spent1, models: [narrow], {spent} }}\n"),
        &format!(
            "  - {{ name: both, key: a-key-that-is-for-both, models: [narrow, wide], {spent} }}\n"
        ),
        "  - { name: wide, key: a-key-that-is-for-wide, models: [wide] }\n",
    ];
    let magpie = Setup::file(&config.concat()).start();
    let ask = |key: &str, model: &str, stream: bool| {
        let bearer = format!("Bearer {key}");
        magpie.call("POST", CHAT, &[("authorization", &bearer)], &chat(model, stream))
    };
    for fault in FAULTS {
        bad.script("narrow", [json!({ "script": fault })]);
        for stream in [false, true] {
            let reply = ask("a-key-that-is-narrow", "narrow", stream);
            let is_answer = reply.status() == 200 && (!stream || reply.is_done());
            assert!(!is_answer, "{fault}: {}", reply.text());
        }
    }
    for model in ["wide", "good/ok", "bad/narrow"] {
        ask("a-key-that-is-narrow", model, false).assert_error(403, "model_not_allowed");
    }
    let asked = bad.received().len();
    for stream in [false, true] {
        let reply = ask("a-key-that-is-spent1", "narrow", stream);
        assert!(matches!(reply.status(), 403 | 429), "{}", reply.text());
    }
    assert_eq!((bad.received().len(), good.received().len()), (asked, 0), "nobody was asked");

    // Who may use the model gets to all its targets, and by neither of their names.
    let wide = ask("a-key-that-is-for-wide", "wide", true);
    assert!(is_good(&wide, true), "{}", wide.text());
    assert_eq!(wide.header("x-magpie-target"), Some("good/ok"));
    ask("a-key-that-is-for-wide", "good/ok", false).assert_error(403, "model_not_allowed");
    assert_eq!(good.received().len(), 1);
}

/// A target that takes a moment and is busy then; keeps what it was asked for.
fn busy(asked: Arc<Mutex<Vec<String>>>) -> RawUpstream {
    RawUpstream::start(move |mut peer, number| {
        while let Some((_, body)) = peer.request() {
            let body: Value = serde_json::from_slice(&body).unwrap();
            asked.lock().unwrap().push(text(&body, "model").to_owned());
            thread::sleep(Duration::from_millis(number as u64 % 8));
            let reply = "HTTP/1.1 503 Busy\r\ncontent-type: application/json\r\ncontent-length: 35\r\n\r\n\
                         {\"error\":{\"message\":\"busy, sorry\"}}";
            if !peer.write(reply) {
                break;
            }
        }
    })
}

/// What a client knows of a request: its model, which is another for each, and the status once the
/// end of its answer has come.
struct Sent(String, Option<u16>);

/// Asks again and again until the process is dead.
fn client(magpie: &Magpie, name: &str, dead: &AtomicBool) -> Vec<Sent> {
    let (mut all, mut wire) = (Vec::new(), None);
    while !dead.load(Ordering::SeqCst) {
        let Some(mut open) = wire.take().or_else(|| Wire::try_connect(magpie.address)) else {
            break;
        };
        let model = format!("events:{}:6:0:{name}-{}", 1 + all.len() % 9, all.len());
        let stream = all.len() % 2 == 0;
        let body = chat(&format!("try-{model}"), stream);
        let reply = open
            .try_send(&request("POST", CHAT, &[], body.as_bytes()))
            .then(|| open.try_reply())
            .flatten();
        let mut ended = None;
        if let Some(reply) = reply {
            // Not each of so many failures is tried again.
            let attempts = if reply.status() == 200 { "2" } else { "1" };
            assert!(matches!(reply.status(), 200 | 503), "{}", reply.text());
            assert_eq!(reply.header("x-magpie-attempts"), Some(attempts), "{}", reply.text());
            let is_end =
                if stream && reply.status() == 200 { reply.is_done() } else { reply.whole };
            ended = is_end.then(|| reply.status());
            wire = reply.whole.then_some(open);
        }
        all.push(Sent(model, ended));
        thread::sleep(Duration::from_millis(15));
    }
    all
}

/// Serves for a while and is killed.
fn round(setup: Setup, number: u64, all: &Mutex<Vec<Sent>>) -> Setup {
    let magpie = setup.start();
    let dead = AtomicBool::new(false);
    thread::scope(|scope| {
        for client_number in 0..12 {
            let (magpie, dead) = (&magpie, &dead);
            scope.spawn(move || {
                let sent = client(magpie, &format!("{number}-{client_number}"), dead);
                all.lock().unwrap().extend(sent);
            });
        }
        thread::sleep(Duration::from_millis(400 + number * 137));
        magpie.process.signal("KILL");
        dead.store(true, Ordering::SeqCst);
    });
    magpie.kill()
}

#[test]
fn killed_between_a_failed_attempt_and_the_next_each_is_recorded_once() {
    let (asked, good) = (Arc::default(), ScriptedUpstream::start());
    let bad = busy(Arc::clone(&asked));
    let config = [
        "log: { requests: false }\nproviders:\n",
        &provider("bad", &bad.base_url(), ""),
        &provider("good", &good.base_url(), ""),
        "models: { 'try-*': { fallback: ['bad/*', 'good/*'] } }\n",
    ];
    let mut setup = Setup::file(&config.concat());
    let all = Mutex::new(Vec::new());
    for number in 0..6 {
        setup = round(setup, number, &all);
    }
    let setup = setup.start().stop();
    let (found, received) = (attempts(&setup), by_model(good.received()));
    let (sent, asked) = (all.into_inner().unwrap(), asked.lock().unwrap().clone());

    let mut once = HashSet::new();
    let (mut first, mut second): (HashMap<&str, &Value>, HashMap<&str, &Value>) =
        Default::default();
    for attempt in &found {
        let number = attempt["attempt"].as_u64().unwrap();
        assert!(once.insert((text(attempt, "id"), number)), "twice: {attempt}");
        let (of, name) = if number == 1 { (&mut first, "bad") } else { (&mut second, "good") };
        assert!(number <= 2 && text(attempt, "provider") == name, "{attempt}");
        assert!(of.insert(text(attempt, "upstream_model"), attempt).is_none(), "{attempt}");
    }
    for model in &asked {
        assert!(
            first.contains_key(&**model),
            "{model} was asked of the first, but is not recorded"
        );
    }
    for (model, received) in &received {
        let attempt = second.get(&**model).unwrap_or_else(|| panic!("no second of {model}"));
        if text(attempt, "outcome") != "lost" {
            assert_eq!(Tokens::of(attempt), Tokens::billed(received), "{attempt}");
        }
    }
    for Sent(model, status) in &sent {
        let Some(status) = status else { continue };
        let first = first[&**model];
        assert_eq!(text(first, "outcome"), "provider_error");
        match second.get(&**model) {
            Some(second) => {
                assert_eq!((text(first, "id"), status), (text(second, "id"), &200), "{first}");
                assert_eq!((&first["last_of"], &second["last_of"]), (&Value::Null, &json!(2)));
                assert_eq!(text(second, "outcome"), "complete", "{second}");
            }
            None => assert_eq!((&first["last_of"], status), (&json!(1), &503), "{first}"),
        }
    }
    let lost =
        |of: &HashMap<&str, &Value>| of.values().filter(|it| text(it, "outcome") == "lost").count();
    let ended = sent.iter().filter(|Sent(_, status)| *status == Some(200)).count();
    let (lost_first, lost_second) = (lost(&first), lost(&second));
    eprintln!(
        "{} sent, {ended} answered; lost: {lost_first} first and {lost_second} second attempts",
        sent.len()
    );
    assert!(ended > 100 && lost_second > 0 && lost_first > 0, "too little load");
    assert_eq!(sums_of(&setup), found.len() as u64);
}

/// Attempts in the sums over both providers.
fn sums_of(setup: &Setup) -> u64 {
    let output = setup.run(&["usage", "--by", "provider", "--format", "json"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| row["attempts"].as_u64().unwrap()).sum()
}
