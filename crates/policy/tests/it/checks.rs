//! Health checks: written, and what they do to a provider's targets.

use std::sync::Arc;
use std::time::Duration;

use policy::health::breaker::{IN_A_ROW, LONGEST_UNREACHED_MS, OPEN_MS};
use policy::health::{
    Cause, CheckCounts, Checked, Found, Health, HealthCheck, Lease, Live, Standing,
};

use crate::given::{problems, provider, snapshot};

const NO_KEYS: [&str; 0] = [];

fn how() -> HealthCheck {
    HealthCheck {
        target: "/v1/models".parse().unwrap(),
        every: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
    }
}

/// The health of a provider `p` with a target, and of another one.
fn two() -> (Health, Arc<Live>, Arc<Live>) {
    let health = Health::default();
    let (mine, other) = (health.live("p", "m", &NO_KEYS), health.live("pp", "m", &NO_KEYS));
    (health, mine, other)
}

fn check(health: &Health, at_ms: u64, found: Found) -> Duration {
    health.check("p", &how(), Checked { at_ms, took_ms: 0, found })
}

fn standing(live: &Live, now_ms: u64) -> Standing {
    live.health.breaker.standing(now_ms)
}

fn is_closed(live: &Live, now_ms: u64) -> bool {
    matches!(standing(live, now_ms), Standing::Closed { .. })
}

fn fail(live: &Arc<Live>, cause: Cause, times: u32, now_ms: u64) {
    for _ in 0..times {
        let lease = Lease::begin(live, false, now_ms).unwrap();
        let _ = lease.failed(cause, None, now_ms);
    }
}

#[test]
fn three_checks_in_a_row_that_do_not_reach_it_eject_all_targets_of_the_provider_and_no_others() {
    let (health, mine, other) = two();
    let second = health.live("p", "n", &NO_KEYS);
    // They are repeated soon, so that it is known soon.
    assert_eq!(check(&health, 0, Found::Unreached), Duration::from_secs(1));
    assert_eq!(check(&health, 1_000, Found::Unreached), Duration::from_secs(1));
    assert!(is_closed(&mine, 1_000));
    let next = check(&health, 2_000, Found::Unreached);
    assert_eq!(next, Duration::from_millis(LONGEST_UNREACHED_MS));
    for live in [&mine, &second] {
        assert!(matches!(standing(live, 2_000), Standing::Open { unreached: true, .. }));
        // No request becomes a probe before the next check was made.
        assert!(matches!(standing(live, 2_000 + 7_000), Standing::Open { .. }));
        assert!(Lease::begin(live, false, 9_000).is_none());
    }
    assert!(is_closed(&other, 2_000));
    // It stays so as long as the checks say so, and no longer if there are none any more.
    let _ = check(&health, 8_000, Found::Unreached);
    assert!(matches!(standing(&mine, 16_000), Standing::Open { .. }));
    assert_eq!(standing(&mine, 60_000), Standing::Due);
}

#[test]
fn an_answer_between_them_does_not_let_them() {
    let (health, mine, _) = two();
    for at in 0..10 {
        let found = if at % 3 == 2 { Found::Answer(200) } else { Found::Unreached };
        let _ = check(&health, at * 1_000, found);
    }
    assert!(is_closed(&mine, 10_000));
}

#[test]
fn once_it_is_reached_a_probe_is_due_at_once_and_others_do_not_wait_for_it() {
    let (health, mine, _) = two();
    for at in 0..3 {
        let _ = check(&health, at * 1_000, Found::Unreached);
    }
    assert_eq!(check(&health, 4_000, Found::Answer(401)), how().every);
    assert_eq!(standing(&mine, 4_000), Standing::Due);
    let probe = Lease::begin(&mine, false, 4_001).unwrap();
    assert!(probe.is_probe());
    // It is known that it can be reached: who has no other target asks it in spite of the probe.
    assert_eq!(standing(&mine, 4_001), Standing::Probing { unreached: false });
    probe.succeeded(4_100);
    assert!(is_closed(&mine, 4_100));
}

#[test]
fn an_ejection_because_requests_did_not_reach_it_ends_too() {
    let (health, mine, _) = two();
    fail(&mine, Cause::HardDown, 3, 100);
    assert!(matches!(standing(&mine, 100), Standing::Open { unreached: true, .. }));
    let _ = check(&health, 200, Found::Answer(503));
    assert!(matches!(standing(&mine, 300), Standing::Open { .. }), "it says itself that it fails");
    let _ = check(&health, 300, Found::NoAnswer);
    assert!(matches!(standing(&mine, 300), Standing::Open { .. }));
    let _ = check(&health, 400, Found::Answer(404));
    assert_eq!(standing(&mine, 400), Standing::Due);
}

#[test]
fn what_requests_have_found_out_is_not_overruled() {
    let (health, mine, _) = two();
    fail(&mine, Cause::Transient, IN_A_ROW, 100);
    let ejected = Standing::Open { until_ms: 100 + OPEN_MS, unreached: false };
    let _ = check(&health, 200, Found::Answer(200));
    assert_eq!(standing(&mine, 200), ejected, "a list of models says nothing of a model");
    for at in 0..3 {
        let _ = check(&health, 300 + at, Found::Unreached);
    }
    assert_eq!(standing(&mine, 400), ejected);
    // A probe under way decides.
    let probe = Lease::begin(&mine, false, 100 + OPEN_MS).unwrap();
    let _ = check(&health, 200 + OPEN_MS, Found::Unreached);
    assert_eq!(standing(&mine, 200 + OPEN_MS), Standing::Probing { unreached: false });
    probe.succeeded(300 + OPEN_MS);
    assert!(is_closed(&mine, 300 + OPEN_MS));
}

#[test]
fn a_target_that_answers_requests_is_not_ejected_by_checks() {
    let (health, mine, _) = two();
    let idle = health.live("p", "idle", &NO_KEYS);
    let _ = check(&health, 1_000, Found::Unreached);
    // Over connections that stand, say.
    Lease::begin(&mine, false, 1_200).unwrap().succeeded(1_500);
    let _ = check(&health, 2_000, Found::Unreached);
    let _ = check(&health, 3_000, Found::Unreached);
    assert!(is_closed(&mine, 3_000));
    assert!(!is_closed(&idle, 3_000));
}

#[test]
fn the_last_check_is_told() {
    let (health, ..) = two();
    assert_eq!(health.checked("p"), None);
    let checked = Checked { at_ms: 7, took_ms: 3, found: Found::Answer(403) };
    let _ = health.check("p", &how(), checked);
    let counts = CheckCounts { refused: 1, ..CheckCounts::default() };
    assert_eq!(health.checked("p"), Some((checked, counts)));
    let found = [Found::Answer(200), Found::Answer(404), Found::Answer(503), Found::NoAnswer];
    for found in found.into_iter().chain([Found::Unreached; 4]) {
        let _ = check(&health, 1_000, found);
    }
    let counts = CheckCounts { ok: 2, refused: 1, failing: 1, no_answer: 1, unreached: 4 };
    assert_eq!(health.checked("p").map(|(_, counts)| counts), Some(counts));
    assert_eq!(health.checked("pp"), None);
}

#[test]
fn a_check_is_written_in_three_forms_and_is_off_by_default() {
    let written = |text: &str| {
        let text = format!(
            "providers:\n  p:\n    base_url: http://p/v1\n    auth: optional\n    {text}\n"
        );
        provider(&snapshot(&text), "p").health_check.clone()
    };
    assert_eq!(written(""), None);
    assert_eq!(written("health_check: false"), None);
    assert_eq!(written("health_check: true"), Some(how()));
    let often = HealthCheck { every: Duration::from_secs(3), ..how() };
    assert_eq!(written("health_check: 3s"), Some(often));
    let all = "health_check: { path: '/health?a=b', every: 1h, timeout: 500ms }";
    let check = written(all).unwrap();
    assert_eq!(check.target, "/v1/health?a=b");
    assert_eq!(check.every, Duration::from_secs(3_600));
    assert_eq!(check.timeout, Duration::from_millis(500));
}

#[test]
fn a_check_that_cannot_be_is_a_problem_with_its_place() {
    let told = |check: &str| {
        let lines = "providers:\n  p:\n    base_url: http://p/v1\n    auth: optional\n";
        problems(&format!("{lines}    health_check: {check}\n")).join("\n")
    };
    let often = told("100ms");
    assert_eq!(often, "5:19 a health check comes every 1s to 1h | write for example 10s");
    assert!(told("2h").contains("every 1s to 1h"));
    assert!(told("soon").contains("`soon` does not begin with a number"));
    assert!(told("{ timeout: 2m }").contains("waits at most 60s"));
    assert!(told("{ path: models }").contains("`models` is no path to check"));
    assert!(told("{ path: '/a b' }").contains("`/a b` is no path to check"));
    assert!(told("{ interval: 1s }").contains("interval"));
}
