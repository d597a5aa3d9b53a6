//! Adaptive concurrency: how much a provider bears is found out, and not gone beyond.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::busy::Busy;
use crate::failover::{ask, provider};
use crate::harness::{Magpie, Setup};

const TAKES: Duration = Duration::from_millis(50);
const BEARS: usize = 6;
const CLIENTS: usize = 24;

/// The window of the only credential.
fn window(magpie: &Magpie) -> Value {
    magpie.admin("targets?model=chat").json()["data"][0]["credentials"][0]["window"].clone()
}

#[test]
fn what_a_provider_bears_is_found_and_the_rest_is_told_at_once_to_come_again() {
    let busy = Busy::start(TAKES);
    busy.bear(BEARS);
    let config = format!(
        "workers: 2\nlog: {{ requests: false }}\nproviders:\n{}models: {{ chat: a/x }}\n",
        provider("a", &busy.base_url(), "concurrency: adaptive")
    );
    let magpie = Setup::file(&config).with_admin().start();
    assert_eq!(window(&magpie)["size"], 16);
    let (is_over, good, own, theirs) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let throttled = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    let reply = ask(&magpie, "chat", false);
                    match (reply.status(), reply.header("x-magpie-attempts")) {
                        (200, _) => good.fetch_add(1, SeqCst),
                        (429, Some("1")) => theirs.fetch_add(1, SeqCst),
                        _ => {
                            reply.assert_error(429, "rate_limit_exceeded");
                            assert_eq!(reply.header("retry-after"), Some("1"));
                            assert!(reply.message().contains("as many as it bears"));
                            thread::sleep(Duration::from_millis(5));
                            own.fetch_add(1, SeqCst)
                        }
                    };
                }
            });
        }
        thread::sleep(Duration::from_secs(3));
        let begun = (good.load(SeqCst), busy.throttled());
        thread::sleep(Duration::from_secs(5));
        let ended = (good.load(SeqCst), busy.throttled());
        is_over.store(true, SeqCst);
        (ended.0 - begun.0, ended.1 - begun.1)
    });
    let (good, bad) = throttled;
    eprintln!("{good} answered and {bad} throttled in five seconds; {own:?} sent away at once");
    assert!(bad * 50 <= good + bad, "{bad} of {} were throttled", good + bad);
    // All that it bears would be 600.
    assert!(good >= 300, "{good} answered");
    assert_eq!(theirs.load(SeqCst), busy.throttled());
    let window = window(&magpie);
    let size = window["size"].as_u64().unwrap();
    assert!((3..=8).contains(&size), "{window}");
    assert_eq!(window["in_flight"], 0, "all is given back");
    let labels = r#"{provider="a",upstream_model="x",credential="1"}"#;
    assert_eq!(magpie.number(&format!("magpie_credential_window{labels}")), size as f64);
    assert_eq!(magpie.number(&format!("magpie_credential_in_flight{labels}")), 0.0);
}
