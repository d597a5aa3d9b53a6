//! Races and hedges over sockets: how fast they are, that the losers are cancelled at their
//! providers, and that every attempt is in the ledger.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::ScriptedUpstream;

use crate::failover::{ask, is_good, provider};
use crate::harness::{Magpie, Setup};
use crate::ledger::attempts_of;

/// How long the slow one takes.
const SLOW: Duration = Duration::from_secs(3);
const ROUNDS: usize = 12;

fn magpie(slow: &ScriptedUpstream, good: &ScriptedUpstream, models: &str) -> Magpie {
    let config = [
        "log: { requests: false }\nproviders:\n",
        &provider("slow", &slow.base_url(), ""),
        &provider("good", &good.base_url(), ""),
        "prices: { '*/*': { input: 1, output: 2 } }\nmodels:\n",
        models,
    ];
    Setup::file(&config.concat()).with_admin().start()
}

/// Asks for a model, streamed and not, and has each answer long before the slow one's.
fn ask_all(magpie: &Magpie, model: &str) {
    for round in 0..ROUNDS {
        let stream = round % 2 == 0;
        let start = Instant::now();
        let reply = ask(magpie, model, stream);
        assert!(is_good(&reply, stream), "{model}");
        assert!(start.elapsed() < SLOW, "{model}: {:?}", start.elapsed());
        assert_eq!(reply.header("x-magpie-provider"), Some("good"));
        assert_eq!(reply.header("x-magpie-attempts"), Some("2"));
    }
}

/// Of each request, one attempt was cancelled and one is its answer.
fn check_ledger(found: &[Value]) {
    let outcomes = |name: &str, is_last: bool| {
        let of = |it: &&Value| it["outcome"] == name && it["last_of"].is_u64() == is_last;
        found.iter().filter(of).count()
    };
    assert_eq!((outcomes("cancelled", false), outcomes("complete", true)), (ROUNDS, ROUNDS));
    for attempt in found {
        let (estimated, is_slow) =
            (attempt["provenance"] == "estimated", attempt["provider"] == "slow");
        assert_eq!(estimated, is_slow, "{attempt}");
        assert!(!is_slow || attempt["tokens"]["input"].as_u64() > Some(0), "{attempt}");
    }
}

#[test]
fn the_faster_one_answers_and_the_slow_one_is_cancelled() {
    let lines = [
        ("race", "race: ['slow/slow:3000', 'good/ok']"),
        ("hedge", "hedge: { after: 80ms, at_most: 100 }, fallback: ['slow/slow:3000', 'good/ok']"),
    ];
    for (name, plan) in lines {
        let (slow, good) = (ScriptedUpstream::start(), ScriptedUpstream::start());
        let magpie = magpie(&slow, &good, &format!("  {name}: {{ {plan} }}\n"));
        ask_all(&magpie, name);
        check_ledger(&attempts_of(&magpie, ROUNDS * 2));
        assert_eq!((slow.received().len(), good.received().len()), (ROUNDS, ROUNDS));
        let deadline = Instant::now() + SLOW;
        let is_left = || slow.received().iter().all(|it| it.outcome.peer_left.is_some());
        while !is_left() {
            assert!(Instant::now() < deadline, "the slow calls were not given up");
            std::thread::sleep(Duration::from_millis(10));
        }
        let targets = magpie.admin("targets").json();
        for target in targets["data"].as_array().unwrap() {
            assert_eq!(target["in_flight"], 0, "{target}");
        }
        let rounds = ROUNDS as f64;
        for metric in ["side_by_side_attempts", "side_by_side_won"] {
            let metric = format!("magpie_{metric}_total{{model=\"{name}\"}}");
            assert_eq!(magpie.number(&metric), rounds, "{metric}");
        }
        assert_eq!(magpie.number("magpie_overtaken_attempts_total"), rounds);
        assert!(magpie.number("magpie_overtaken_cost_total") > 0.0);
        let told = magpie.admin("models").json();
        let beside = told["data"].as_array().unwrap().iter().find(|it| it["id"] == name).unwrap();
        let beside = &beside["side_by_side"];
        assert_eq!((&beside["begun"], &beside["won"]), (&json!(ROUNDS), &json!(ROUNDS)));
        let told = magpie.process.setup.run(&["explain", name]);
        let text = String::from_utf8(told.stdout).unwrap();
        assert!(text.contains(&format!("side by side: a {name}")), "{text}");
    }
}
