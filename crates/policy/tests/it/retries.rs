//! The retry budget, and how long to wait before a retry.

use policy::health::retry::{FIRST_WAIT_MS, LONGEST_BACKOFF_MS, SLOW_FAILURE_MS, is_fast};
use policy::health::{LONGEST_WAIT_MS, RetryBudget, backoff_ms};
use proptest::prelude::*;

/// Retries that a budget lets through, if so many requests a second come for so long and all of
/// them want one retry.
fn retries(per_second: u64, seconds: u64) -> u64 {
    let budget = RetryBudget::default();
    let mut granted = 0;
    for number in 0..per_second * seconds {
        budget.earn();
        granted += u64::from(budget.spend(number * 1_000 / per_second));
    }
    granted
}

#[test]
fn a_fifth_of_the_traffic_may_be_retried() {
    let requests = 1_000 * 60;
    let granted = retries(1_000, 60);
    assert!((requests / 5..=requests / 5 + 3).contains(&granted), "{granted}");
}

#[test]
fn three_a_second_may_be_retried_however_little_traffic_there_is() {
    assert_eq!(retries(2, 60), 120);
    // What 10 a second earn is less than the floor, and does not come on top of it.
    let granted = retries(10, 60);
    assert!((180..=186).contains(&granted), "{granted}");
}

#[test]
fn what_was_saved_is_bounded() {
    let budget = RetryBudget::default();
    for _ in 0..1_000_000 {
        budget.earn();
    }
    let granted = (0..1_000).filter(|_| budget.spend(0)).count();
    assert_eq!(granted, 100);
}

#[test]
fn slow_failures_are_not_tried_again() {
    assert!(is_fast(0) && is_fast(SLOW_FAILURE_MS));
    assert!(!is_fast(SLOW_FAILURE_MS + 1));
}

proptest! {
    #[test]
    fn a_wait_is_within_its_bounds(
        retry in 0..100_u32,
        random: u64,
        asked in prop::option::of(prop_oneof![0..1_000_000_u64, any::<u64>()]),
    ) {
        let wait = backoff_ms(retry, random, asked);
        let floor = asked.unwrap_or(0).min(LONGEST_WAIT_MS);
        prop_assert!(wait >= floor);
        prop_assert!(wait <= floor.max(LONGEST_BACKOFF_MS));
        if retry <= 1 {
            prop_assert!(wait <= floor.max(FIRST_WAIT_MS));
        }
    }

    #[test]
    fn retries_are_at_most_a_fifth_of_the_requests_or_the_floor(
        gaps in prop::collection::vec((0..50_u64, any::<bool>(), any::<bool>()), 1..2_000),
    ) {
        let budget = RetryBudget::default();
        let (mut now, mut requests, mut granted) = (0, 0_u64, 0_u64);
        for (gap, comes, retries) in gaps {
            now += gap;
            if comes {
                budget.earn();
                requests += 1;
            }
            granted += u64::from(retries && budget.spend(now));
        }
        // Both counts together bound it; a burst of each may be saved up.
        prop_assert!(granted <= requests / 5 + 3 * now / 1_000 + 3);
    }
}
