//! One account under a thousand threads: never over, and nothing stays reserved.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, ScopedJoinHandle};

use policy::budget::{Account, Period};

use super::budgets::budget;

const THREADS: usize = 1_000;
const CENT: u64 = 10_000_000;
const UNIT: u64 = 100 * CENT;

/// Runs all of the threads at once, with one that looks on. Returns what they spent.
fn spend_all(account: &Account, request: impl Fn() -> u64 + Sync) -> u64 {
    let (start, over) = (Barrier::new(THREADS + 1), AtomicBool::new(false));
    let served = AtomicU64::new(0);
    let stack = 64 * 1024;
    thread::scope(|scope| {
        let look_on = || {
            start.wait();
            loop {
                let last = over.load(SeqCst);
                let standing = account.standing(0);
                assert!(standing.spent + standing.reserved <= standing.limit, "{standing:?}");
                if last {
                    return;
                }
                thread::yield_now();
            }
        };
        let onlooker = scope.spawn(look_on);
        let work = || {
            start.wait();
            served.fetch_add(request(), SeqCst);
        };
        let spawn = |_| thread::Builder::new().stack_size(stack).spawn_scoped(scope, work).unwrap();
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        let fine = threads.into_iter().map(ScopedJoinHandle::join).all(|done| done.is_ok());
        over.store(true, SeqCst);
        assert!(fine && onlooker.join().is_ok());
    });
    served.into_inner()
}

#[test]
fn a_hundred_requests_of_a_cent_fit_into_one() {
    let account = Account::new(budget(UNIT, Period::Total), 0);
    let served = spend_all(&account, || match account.reserve(CENT, 0) {
        Ok(()) => {
            thread::yield_now();
            let _ = account.settle(CENT, CENT, 0);
            1
        }
        Err(_) => 0,
    });
    assert_eq!(served, 100);
    let standing = account.standing(0);
    assert_eq!((standing.spent, standing.reserved), (UNIT, 0));
}

/// Each reserves three cents and costs one; who is refused for the sake of those that run comes
/// again. Every seventh is broken off.
#[test]
fn nearly_all_of_the_money_is_used_when_more_is_reserved_than_spent() {
    let account = Account::new(budget(UNIT, Period::Day), 0);
    let count = AtomicU64::new(0);
    let served = spend_all(&account, || {
        loop {
            match account.reserve(3 * CENT, 0) {
                Ok(()) => {
                    thread::yield_now();
                    let broken_off = count.fetch_add(1, SeqCst).is_multiple_of(7);
                    let used = if broken_off { 0 } else { CENT };
                    let _ = account.settle(3 * CENT, used, 0);
                    return u64::from(!broken_off);
                }
                Err(exhausted) if exhausted.reserved > 0 => thread::yield_now(),
                Err(_) => return 0,
            }
        }
    });
    let standing = account.standing(0);
    assert_eq!((standing.spent, standing.reserved), (served * CENT, 0));
    assert!((95..=100).contains(&served), "{served} served");
}

#[test]
fn no_day_of_many_has_more_than_its_own() {
    let account = Account::new(budget(UNIT, Period::Day), 0);
    let clock = AtomicU64::new(0);
    let hour = || clock.fetch_add(1, SeqCst) * 3_600_000 / 500;
    let served = spend_all(&account, || {
        let mut served = 0;
        for _ in 0..50 {
            if account.reserve(CENT, hour()).is_ok() {
                thread::yield_now();
                let _ = account.settle(CENT, CENT, hour());
                served += 1;
            }
        }
        served
    });
    let days = clock.into_inner().div_ceil(500 * 24);
    assert!(served <= days * 100, "{served} in {days} days");
    assert!(served > 0);
    let standing = account.standing(0);
    assert!(standing.spent <= UNIT && standing.reserved == 0, "{standing:?}");
}
