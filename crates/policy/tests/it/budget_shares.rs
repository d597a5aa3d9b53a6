//! What one key may reserve of a budget that it shares.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;

use policy::budget::{Account, Budget, Budgets, Exhausted, KeyShare, OnExhausted, Period};

use super::budgets::budget;

const DAY: u64 = 24 * 3_600_000;
const THREADS: u64 = 200;

fn shared(nanos: u64, percent: u8) -> Budget {
    Budget { key_share: Some(percent), ..budget(nanos, Period::Day) }
}

fn names() -> (Arc<str>, Arc<str>) {
    (Arc::from("ada"), Arc::from("bob"))
}

fn share(fault: Result<(), Exhausted>) -> KeyShare {
    fault.unwrap_err().key.unwrap()
}

#[test]
fn a_key_reserves_its_share_of_what_is_not_spent_and_no_more() {
    let (ada, bob) = names();
    let account = Account::new(shared(100, 50), 0);
    account.reserve_for(Some(&ada), 30, 0).unwrap();
    let refused = account.reserve_for(Some(&ada), 21, 0);
    let told = KeyShare { percent: 50, most: 50, reserved: 30, wanted: 21 };
    assert_eq!(refused.unwrap_err().resets_at_ms, None, "it waits for its own requests");
    assert_eq!(share(refused), told);
    account.reserve_for(Some(&ada), 20, 0).unwrap();
    account.reserve_for(Some(&bob), 50, 0).unwrap();
    // Nothing is left of the whole: then that is the reason.
    assert_eq!(account.reserve_for(Some(&bob), 1, 0).unwrap_err().key, None);

    // What is given back can be reserved again.
    let _ = account.settle_for(Some(&ada), 30, 0, 0);
    account.reserve_for(Some(&ada), 30, 0).unwrap();
    let _ = account.settle_for(Some(&ada), 30, 40, 0);
    let _ = account.settle_for(Some(&ada), 20, 0, 0);
    let _ = account.settle_for(Some(&bob), 50, 0, 0);
    let fault = account.reserve_for(Some(&ada), 31, 0);
    assert_eq!(share(fault).most, 30, "half of the sixty that are left");
    assert_eq!(fault.unwrap_err().resets_at_ms, Some(DAY), "tomorrow half is more");
    assert_eq!(share(account.reserve_for(Some(&bob), 51, 0)).most, 30);
    assert_eq!(account.reserve_for(Some(&bob), 51, 0).unwrap_err().resets_at_ms, None, "never");
    account.reserve_for(Some(&ada), 30, 0).unwrap();
    assert!(account.reserve_for(Some(&ada), 0, 0).is_ok(), "what is free goes on");
}

#[test]
fn without_a_share_a_key_may_reserve_all_there_is() {
    let (ada, bob) = names();
    for budget in [budget(100, Period::Day), shared(100, 100)] {
        let account = Account::new(budget, 0);
        account.reserve_for(Some(&ada), 100, 0).unwrap();
        assert!(account.reserve_for(Some(&bob), 1, 0).is_err());
    }
    // One that only tells, tells.
    let soft = Budget { on_exhausted: OnExhausted::Alert, ..shared(100, 1) };
    assert!(Account::new(soft, 0).reserve_for(Some(&ada), 1_000, 0).is_ok());
    // A request of nobody's is not bounded.
    assert!(Account::new(shared(100, 1), 0).reserve(100, 0).is_ok());
}

/// What runs when the share is changed was not counted, or is still: neither may be mistaken for the
/// other.
#[test]
fn a_share_that_is_changed_counts_right() {
    let (ada, _) = names();
    let plain = Account::new(budget(100, Period::Day), 0);
    plain.reserve_for(Some(&ada), 40, 0).unwrap();
    let halved = plain.changed(shared(100, 50)).unwrap();
    halved.reserve_for(Some(&ada), 50, 0).unwrap();
    let _ = plain.settle_for(Some(&ada), 40, 0, 0);
    assert_eq!(share(halved.reserve_for(Some(&ada), 1, 0)).reserved, 50);
    let quartered = halved.changed(shared(100, 25)).unwrap();
    let _ = halved.settle_for(Some(&ada), 50, 0, 0);
    assert_eq!(share(quartered.reserve_for(Some(&ada), 26, 0)).reserved, 0);
    assert_eq!(quartered.standing(0).reserved, 0);
}

/// Two hundred threads of four keys: none is ever past its share, and each can come to it.
#[test]
fn a_share_holds_under_any_number_at_once() {
    const MOST: u64 = 25;
    // A quarter of it is 25, and one more than four quarters.
    let account = Account::new(shared(101, 25), 0);
    let keys: Vec<Arc<str>> = ["a", "b", "c", "d"].map(Arc::from).into();
    let held: Vec<AtomicU64> = keys.iter().map(|_| AtomicU64::new(0)).collect();
    let (start, served) = (Barrier::new(usize::try_from(THREADS).unwrap()), AtomicU64::new(0));
    let work = |thread: u64| {
        let index = usize::try_from(thread % 4).unwrap();
        let (key, mine) = (&keys[index], &held[index]);
        start.wait();
        for turn in 0..500 {
            let nanos = 1 + (thread + turn) % 7;
            if account.reserve_for(Some(key), nanos, 0).is_ok() {
                let now = mine.fetch_add(nanos, SeqCst) + nanos;
                assert!(now <= MOST, "{key} holds {now}");
                thread::yield_now();
                mine.fetch_sub(nanos, SeqCst);
                let _ = account.settle_for(Some(key), nanos, 0, 0);
                served.fetch_add(1, SeqCst);
            }
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let work = &work;
            scope.spawn(move || work(thread));
        }
    });
    assert!(served.into_inner() > 0);
    assert_eq!(account.standing(0).reserved, 0);
    for key in &keys {
        account.reserve_for(Some(key), MOST, 0).unwrap();
        assert_eq!(share(account.reserve_for(Some(key), 1, 0)).reserved, MOST);
    }
}

#[test]
fn a_share_is_a_percentage() {
    let read = |text: &str| {
        let text = format!("{{ amount: $1, period: day, key_share: {text} }}");
        let budgets = serde_saphyr::from_str::<Budgets>(&text);
        budgets.map(|budgets| budgets.0[0].key_share).map_err(|fault| fault.to_string())
    };
    for (text, percent) in [("50", 50), ("50%", 50), ("\"1 %\"", 1), ("100", 100)] {
        assert_eq!(read(text), Ok(Some(percent)), "{text}");
    }
    for text in ["0", "101", "half", "-1", "0.5", "[50]", "300%"] {
        let fault = read(text).unwrap_err();
        assert!(fault.contains("percentage"), "{text}: {fault}");
    }
    let plain: Budgets = serde_saphyr::from_str("$1/day").unwrap();
    assert_eq!(plain.0[0].key_share, None);
    assert!(!serde_json::to_string(&plain).unwrap().contains("key_share"));
}
