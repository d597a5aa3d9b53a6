//! Health under many threads: nothing is lost, and nothing is given twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use policy::health::breaker::{IN_A_ROW, OPEN_MS};
use policy::health::{Cause, Health, Lease, RetryBudget, Standing};

const THREADS: u64 = 4;
const ROUNDS: u64 = 20_000;

/// Runs the same in several threads at once.
fn at_once(work: impl Fn(u64) + Send + Sync) {
    let work = &work;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || work(thread));
        }
    });
}

#[test]
fn what_is_in_flight_comes_back_to_nothing() {
    let live = Health::default().live("a", "m", &["k1", "k2"]);
    at_once(|thread| {
        for round in 0..ROUNDS {
            let Some(mut lease) = Lease::begin(&live, round % 3 == 0, round) else { continue };
            match (round + thread) % 5 {
                0 => lease.succeeded(round),
                1 => drop(lease.failed(Cause::Transient, None, round)),
                2 => drop(lease.failed(Cause::HardDown, None, round)),
                3 => lease.first_token(round),
                _ => drop(lease),
            }
        }
    });
    assert_eq!(live.health.in_flight(), 0);
    let standing = live.health.breaker.standing(ROUNDS);
    assert!(!matches!(standing, Standing::Probing { .. }), "the slot is free: {standing:?}");
}

#[test]
fn a_due_probe_is_given_to_one_of_many() {
    for _ in 0..200 {
        let live = Health::default().live("a", "m", &["k"]);
        for _ in 0..IN_A_ROW {
            let _ = Lease::begin(&live, false, 0).unwrap().failed(Cause::Transient, None, 0);
        }
        let probes = AtomicU64::new(0);
        at_once(|_| {
            if let Some(lease) = Lease::begin(&live, false, OPEN_MS) {
                assert!(lease.is_probe());
                probes.fetch_add(1, Relaxed);
                // Held for good: the others must not get it after this one.
                std::mem::forget(lease);
            }
        });
        assert_eq!(probes.load(Relaxed), 1);
    }
}

#[test]
fn a_budget_gives_no_retry_twice() {
    let budget = RetryBudget::default();
    let granted = AtomicU64::new(0);
    at_once(|_| {
        for _ in 0..ROUNDS {
            budget.earn();
            granted.fetch_add(u64::from(budget.spend(0)), Relaxed);
        }
    });
    let requests = THREADS * ROUNDS;
    assert!(granted.load(Relaxed) <= requests / 5 + 3, "{granted:?} of {requests}");
}

#[test]
fn one_target_is_one_however_many_ask_for_it_first() {
    let health = Health::default();
    let first = Arc::clone(&health.live("a", "m", &["k"]).health);
    at_once(|_| {
        for round in 0..1_000_u64 {
            assert!(Arc::ptr_eq(&first, &health.live("a", "m", &["k"]).health));
            let other = health.live("a", &round.to_string(), &["k"]);
            assert!(Arc::ptr_eq(
                &other.health,
                &health.live("a", &round.to_string(), &["k"]).health
            ));
        }
    });
    assert_eq!(health.known_targets(), 1_001);
}
