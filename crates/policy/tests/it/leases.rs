//! Attempts at a target: what they hold, and what they leave behind.

use std::sync::Arc;

use policy::health::breaker::{IN_A_ROW, OPEN_MS};
use policy::health::{
    BARRED_MS, Cause, Ewma, Health, LONGEST_WAIT_MS, Lease, Live, MISSING_MS, MOST_KEPT, Next,
    Standing, THROTTLED_MS,
};

fn live(credentials: &[&str]) -> Arc<Live> {
    Health::default().live("a", "m", credentials)
}

fn standing(live: &Live, now: u64) -> Standing {
    live.health.breaker.standing(now)
}

/// Fails so often that the breaker opens.
fn fail(live: &Arc<Live>, now: u64) {
    for _ in 0..IN_A_ROW {
        let lease = Lease::begin(live, false, now).unwrap();
        assert_eq!(lease.failed(Cause::Transient, None, now), Next::OtherTarget);
    }
}

#[test]
fn what_is_under_way_is_counted_however_it_ends() {
    let live = live(&[]);
    let leases: Vec<Lease> = (0..4).map(|_| Lease::begin(&live, false, 0).unwrap()).collect();
    assert_eq!(live.health.in_flight(), 4);
    for (number, mut lease) in leases.into_iter().enumerate() {
        match number {
            0 => lease.succeeded(1),
            1 => drop(lease.failed(Cause::Throttled, None, 1)),
            2 => lease.first_token(1),
            _ => drop(lease),
        }
    }
    assert_eq!(live.health.in_flight(), 0);
}

#[test]
fn a_probe_whose_caller_leaves_gives_its_slot_back() {
    let live = live(&[]);
    fail(&live, 0);
    assert!(Lease::begin(&live, false, 1).is_none(), "it is open");
    let probe = Lease::begin(&live, false, OPEN_MS).unwrap();
    assert!(probe.is_probe());
    assert!(Lease::begin(&live, false, OPEN_MS).is_none(), "one at a time");
    drop(probe);
    assert_eq!(standing(&live, OPEN_MS), Standing::Due);
}

#[test]
fn a_probe_that_is_throttled_gives_its_slot_back() {
    let live = live(&[]);
    fail(&live, 0);
    let probe = Lease::begin(&live, false, OPEN_MS).unwrap();
    assert_eq!(probe.failed(Cause::Throttled, Some(0), OPEN_MS), Next::OtherCredential);
    assert_eq!(standing(&live, OPEN_MS), Standing::Due);
}

#[test]
fn a_target_that_throttles_all_day_is_not_ejected() {
    let live = live(&[]);
    for now in 0..10_000 {
        let _ = Lease::begin(&live, false, now).unwrap().failed(Cause::Throttled, Some(0), now);
    }
    assert_eq!(standing(&live, 10_000), Standing::Closed { percent: 100 });
}

#[test]
fn a_probe_has_succeeded_when_its_answer_begins_and_a_cut_after_that_counts() {
    let live = live(&[]);
    fail(&live, 0);
    let mut probe = Lease::begin(&live, false, OPEN_MS).unwrap();
    probe.first_token(OPEN_MS + 10);
    assert!(matches!(standing(&live, OPEN_MS + 10), Standing::Closed { .. }));
    let _ = probe.failed(Cause::Transient, None, OPEN_MS + 20);
    for _ in 1..IN_A_ROW {
        let lease = Lease::begin(&live, false, OPEN_MS + 20).unwrap();
        let _ = lease.failed(Cause::Transient, None, OPEN_MS + 20);
    }
    assert!(matches!(standing(&live, OPEN_MS + 20), Standing::Open { .. }));
}

#[test]
fn the_last_resort_passes_an_open_breaker() {
    let live = live(&[]);
    fail(&live, 0);
    let lease = Lease::begin(&live, true, 1).unwrap();
    assert!(!lease.is_probe());
    lease.succeeded(2);
    assert!(matches!(standing(&live, 2), Standing::Closed { .. }));
}

#[test]
fn credentials_take_turns_and_are_benched_one_by_one() {
    let live = live(&["first", "second", "third"]);
    let mut turns = Vec::new();
    for _ in 0..6 {
        let lease = Lease::begin(&live, false, 0).unwrap();
        turns.push(lease.credential());
        lease.succeeded(0);
    }
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    let throttled = Lease::begin(&live, false, 0).unwrap();
    assert_eq!(throttled.credential(), 0);
    let _ = throttled.failed(Cause::Throttled, Some(20_000), 0);
    let refused = Lease::begin(&live, false, 0).unwrap();
    assert_eq!(refused.credential(), 1);
    let _ = refused.failed(Cause::BadCredential, None, 0);
    for _ in 0..10 {
        assert_eq!(Lease::begin(&live, false, 19_999).unwrap().credential(), 2);
    }
    assert_eq!(live.credentials.all_benched(0), None);
    let last = Lease::begin(&live, false, 0).unwrap();
    let _ = last.failed(Cause::Billing, None, 0);
    assert_eq!(live.credentials.all_benched(0), Some(20_000));
    // For want of a better one, that which is free soonest.
    let benched = Lease::begin(&live, false, 1).unwrap();
    assert_eq!(benched.credential(), 0);
    benched.succeeded(2);
    assert_eq!(live.credentials.all_benched(2), None, "it works again");
    assert_eq!(live.credentials.get(1).benched(2), Some(BARRED_MS));
}

#[test]
fn a_provider_is_believed_for_five_minutes_at_most() {
    for (asked, expected) in [
        (None, THROTTLED_MS),
        (Some(0), 0),
        (Some(1_500), 1_500),
        (Some(1_000_000_000_000), LONGEST_WAIT_MS),
        (Some(u64::MAX), LONGEST_WAIT_MS),
    ] {
        let live = live(&[]);
        let _ = Lease::begin(&live, false, 7).unwrap().failed(Cause::Throttled, asked, 7);
        let until = live.credentials.all_benched(7).unwrap_or(7);
        assert_eq!(until - 7, expected, "{asked:?}");
    }
}

#[test]
fn every_status_has_its_cause() {
    let causes = |statuses: &[u16]| -> Vec<Option<Cause>> {
        statuses.iter().map(|status| Cause::of_status(*status)).collect()
    };
    assert!(causes(&[100, 200, 204, 304, 399]).iter().all(Option::is_none));
    for status in (500..=599).chain([408]) {
        assert_eq!(Cause::of_status(status), Some(Cause::Transient), "{status}");
    }
    assert_eq!(Cause::of_status(429), Some(Cause::Throttled));
    assert_eq!(causes(&[401, 403]), [Some(Cause::BadCredential); 2]);
    assert_eq!(Cause::of_status(402), Some(Cause::Billing));
    assert_eq!(causes(&[400, 404, 409, 413, 422]), [Some(Cause::CallersFault); 5]);
}

#[test]
fn a_target_without_the_model_is_left_for_others_and_not_held_to_be_ill() {
    let live = Health::default().live("a", "m", &["k0", "k1"]);
    for credential in 0..2 {
        let lease = Lease::begin(&live, false, 0).unwrap();
        assert_eq!(lease.credential(), credential);
        assert_eq!(lease.failed(Cause::ModelMissing, None, 0), Next::OtherCredential);
    }
    assert_eq!(live.credentials.all_benched(1), Some(MISSING_MS));
    assert!(matches!(standing(&live, 1), Standing::Closed { .. }));
    assert!(!Cause::ModelMissing.passes(), "the same request fares no better there a little later");
}

#[test]
fn every_cause_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|one| one.word()).collect();
    assert_eq!(words.len(), Cause::ALL.len());
}

#[test]
fn health_is_kept_by_provider_and_model() {
    let health = Health::default();
    let before = health.live("a", "m", &["k1"]);
    fail(&before, 0);
    // The same target of the next configuration, with one more credential.
    let after = health.live("a", "m", &["k0", "k1"]);
    assert!(Arc::ptr_eq(&before.health, &after.health));
    assert!(matches!(standing(&after, 0), Standing::Open { .. }));
    let _ = Lease::begin(&before, true, 0).unwrap().failed(Cause::Billing, None, 0);
    assert_eq!(after.credentials.get(0).benched(1), None);
    assert_eq!(after.credentials.get(1).benched(1), Some(BARRED_MS));
    let other = health.live("a", "n", &["k1"]);
    assert!(matches!(standing(&other, 0), Standing::Closed { .. }));
    assert_eq!(other.credentials.all_benched(1), None);
}

#[test]
fn what_is_kept_is_bounded_and_what_is_in_use_stays() {
    let health = Health::default();
    let held: Vec<_> =
        (0..10).map(|name| health.live("a", &format!("held-{name}"), &[""; 0])).collect();
    for name in 0..2 * MOST_KEPT {
        let _ = health.live("a", &name.to_string(), &[""; 0]);
        assert!(health.known_targets() <= MOST_KEPT);
    }
    for (name, live) in held.iter().enumerate() {
        let again = health.live("a", &format!("held-{name}"), &[""; 0]);
        assert!(Arc::ptr_eq(&live.health, &again.health));
    }
}

#[test]
fn a_mean_follows_what_it_is_told_and_forgets() {
    let mean = Ewma::default();
    assert_eq!(mean.mean_ms(0), None);
    for step in 0..100 {
        mean.observe(200, step * 1_000);
    }
    let told = |now| mean.mean_ms(now).unwrap();
    assert!((told(99_000) - 200.0).abs() < 1.0, "{}", told(99_000));
    // One slow answer is a slow answer; many at once are a slow target.
    mean.observe(2_000, 99_000);
    assert!(told(99_000) < 400.0, "{}", told(99_000));
    for _ in 0..100 {
        mean.observe(2_000, 99_000);
    }
    assert!(told(99_000) > 1_900.0, "{}", told(99_000));
    let later = told(99_000 + 60_000);
    assert!((later - told(99_000) / 2.0).abs() < 1.0, "it halves in a minute: {later}");
    // A thread whose clock is behind does no harm.
    mean.observe(2_000, 98_990);
    assert!(told(98_980) > 1_000.0);
}
