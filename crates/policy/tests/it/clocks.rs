//! Clocks: general ones, then those of the profile, the provider and the model.

use policy::Clocks;
use std::time::Duration;

use crate::given::{provider, snapshot};

/// Seconds of connect, first event, idle and total.
fn seconds(clocks: Clocks) -> [u64; 4] {
    [clocks.connect, clocks.first_event, clocks.idle, clocks.total].map(|clock| clock.as_secs())
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    assert_eq!(seconds(Clocks::default()), [5, 120, 60, 1_800]);
    let snapshot = snapshot("providers:\n  lab: { profile: sglang }\n");
    assert_eq!(seconds(provider(&snapshot, "lab").clocks), [5, 120, 60, 1_800]);
}

#[test]
fn each_layer_replaces_only_what_it_mentions() {
    let text = "
timeouts: { connect: 1s, first_event: 2s, idle: 3s }
providers:
  lab: { profile: sglang, timeouts: { idle: 30s, total: 40s } }
  mine: { profile: ollama, timeouts: { total: 50s } }
models:
  slow: { target: lab/m, timeouts: { total: 2h } }
  \"slow-*\": { target: lab/*, timeouts: { connect: 500ms } }
";
    let snapshot = snapshot(text);
    let of = |model: &str| snapshot.route(model).unwrap().clocks;
    assert_eq!(seconds(of("lab/m")), [1, 2, 30, 40]);
    assert_eq!(seconds(of("slow")), [1, 2, 30, 7_200]);
    assert_eq!(of("slow-1").connect, Duration::from_millis(500));
    assert_eq!(seconds(of("mine/m")), [1, 300, 3, 50], "a profile comes before the general ones");
    assert_eq!(seconds(of("echo")), [1, 2, 3, 1_800]);
}

#[test]
fn a_wrong_clock_of_one_provider_is_no_problem_of_another() {
    let found = crate::given::problems(
        "providers:\n  a: { profile: sglang, timeouts: { idle: x } }\n  b: { profile: sglang, timeouts: { idle: y } }\n",
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("2:") && found[1].starts_with("3:"), "{found:?}");
}
