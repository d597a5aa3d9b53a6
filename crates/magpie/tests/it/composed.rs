//! Models made of others, over sockets and in the ledger.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::ScriptedUpstream;

use crate::failover::{ask, is_good, provider};
use crate::harness::{CHAT, Magpie, Setup, chat};
use crate::ledger::{attempts, attempts_of};

fn magpie(upstream: &ScriptedUpstream, models: &str) -> Magpie {
    let config = [
        "log: { requests: false }\nproviders:\n",
        &provider("lab", &upstream.base_url(), ""),
        "prices: { 'lab/*': { input: '1', output: '2', max_output: 1000 } }\n",
        "models:\n  fine: lab/ok\n  short: 'lab/events:1:0:1'\n  stuck: lab/hang\n",
        models,
    ];
    Setup::file(&config.concat()).with_admin().start()
}

#[test]
fn every_call_is_an_attempt_of_the_one_request_and_their_costs_add_up() {
    let upstream = ScriptedUpstream::start();
    let magpie = magpie(
        &upstream,
        "  thrifty: { cascade: [short, fine], escalate: { shorter_than: 20 } }
  wise: { panel: [fine, fine, short], judge: fine }
  picky: { panel: [fine, short], judge: { model: short, by: choose } }\n",
    );
    let mut all = 0;
    for (model, attempts) in [("thrifty", 2), ("wise", 4), ("picky", 3)] {
        for stream in [false, true] {
            let reply = ask(&magpie, model, stream);
            assert!(is_good(&reply, stream), "{model}, {stream}");
            assert_eq!(reply.header("x-magpie-attempts"), Some(&*attempts.to_string()));
            all += attempts;
        }
    }
    let found = attempts_of(&magpie, all);
    assert_eq!(found.iter().filter(|it| it["last_of"].is_u64()).count(), 6);
    let list = magpie.admin("requests?limit=100").json();
    let rows = list["data"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let of_it = found.iter().filter(|it| it["id"] == row["id"]);
        let input: u64 = of_it.filter_map(|it| it["tokens"]["input"].as_u64()).sum();
        assert_eq!(row["tokens"]["input"], json!(input), "{row}");
    }
    let told = magpie.process.setup.run(&["explain", "wise"]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.contains("a panel of fine, fine, short; fine judges"), "{text}");
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_one_whole_request_behind() {
    let upstream = ScriptedUpstream::start();
    let magpie = magpie(&upstream, "  wise: { panel: [fine, stuck], judge: fine }\n");
    let mut wire = magpie.connect();
    wire.send(&crate::client::request("POST", CHAT, &[], chat("wise", false).as_bytes()));
    while upstream.received().len() < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(100));
    drop(wire);
    let found = attempts_of(&magpie, 3);
    let last: Vec<&Value> = found.iter().filter(|it| it["last_of"].is_u64()).collect();
    assert_eq!(last.len(), 1, "{found:?}");
    assert_eq!((&last[0]["outcome"], &last[0]["last_of"]), (&json!("client_gone"), &json!(2)));
    // Nothing of it is missing at the next start.
    let setup = magpie.kill();
    let magpie = setup.start();
    assert_eq!(attempts(&magpie.process.setup).len(), 3);
    let list = magpie.admin("requests?limit=100").json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["data"][0]["attempts"], 2);
}
