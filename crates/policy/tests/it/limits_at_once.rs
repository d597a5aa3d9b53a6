//! Counters under many threads: nothing slips through, and next to nothing is lost.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use policy::limit::{Counter, Limit, Meter, Window};

const THREADS: u64 = 200;
const SECOND: u64 = 1_000_000_000;

fn requests(amount: u64, burst: u64) -> Counter {
    let (meter, window) = (Meter::Requests, Some(Window::Second));
    Counter::new(Limit { meter, amount, window, burst: Some(burst) })
}

/// The sum of what each of the threads returns.
fn all(work: impl Fn(u64) -> u64 + Sync) -> u64 {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS).map(|i| scope.spawn(move || work(i))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn assert_near(admitted: u64, most: u64) {
    assert!(admitted <= most, "{admitted} admitted, {most} allowed");
    assert!(admitted * 1_000 >= most * 995, "only {admitted} admitted, {most} allowed");
}

#[test]
fn requests_on_a_virtual_clock() {
    let (counter, clock) = (requests(100, 20), AtomicU64::new(0));
    let span = 60 * SECOND;
    let admitted = all(|_| {
        let mut admitted = 0;
        loop {
            let now = clock.fetch_add(100_000, SeqCst);
            if now > span {
                return admitted;
            }
            admitted += u64::from(counter.take(1, now).is_ok());
        }
    });
    assert_near(admitted, 100 * 60 + 20);
}

#[test]
fn tokens_in_bulk_on_a_virtual_clock() {
    let (amount, window) = (10_000_000, Some(Window::Minute));
    let counter =
        Counter::new(Limit { meter: Meter::Tokens, amount, window, burst: Some(100_000) });
    let (clock, span) = (AtomicU64::new(0), 600 * SECOND);
    let admitted = all(|thread| {
        let mut admitted = 0;
        loop {
            let now = clock.fetch_add(1_000_000, SeqCst);
            if now > span {
                return admitted;
            }
            // Twice as much is taken as is used.
            let used = 1 + (now / 1_000_000 * 7_919 + thread * 104_729) % 16_000;
            if counter.take(2 * used, now).is_ok() {
                counter.settle(2 * used, used, now);
                admitted += used;
            }
        }
    });
    assert_near(admitted, amount * 10 + 100_000);
}

#[test]
fn requests_on_a_real_clock() {
    let counter = requests(1_000, 200);
    let (last, start) = (AtomicU64::new(0), Instant::now());
    let elapsed = || u64::try_from(start.elapsed().as_nanos()).unwrap();
    let admitted = all(|_| {
        let mut admitted = 0;
        while start.elapsed() < Duration::from_secs(2) {
            let now = elapsed();
            if counter.take(1, now).is_ok() {
                last.fetch_max(now, SeqCst);
                admitted += 1;
            }
            thread::sleep(Duration::from_millis(5));
        }
        admitted
    });
    let most = last.into_inner() * 1_000 / SECOND + 200;
    assert!(admitted <= most, "{admitted} admitted, {most} allowed");
    // A busy machine does not always ask in time: how near it comes, the virtual clock shows.
    assert!(admitted * 100 >= most * 97, "only {admitted} admitted, {most} allowed");
}

#[test]
fn never_more_at_once_than_allowed() {
    let limit = Limit { meter: Meter::Concurrency, amount: 7, window: None, burst: None };
    let counter = Counter::new(limit);
    let (running, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let served = all(|_| {
        let mut served = 0;
        for _ in 0..500 {
            if counter.take(1, 0).is_ok() {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                thread::yield_now();
                running.fetch_sub(1, SeqCst);
                counter.settle(1, 0, 0);
                served += 1;
            }
        }
        served
    });
    assert!(served > 0 && most.into_inner() <= 7);
    assert_eq!(counter.standing(0).remaining, 7, "every place is given back");
}

#[test]
fn what_all_give_back_is_all_there_again() {
    let (amount, window) = (1_000_000, Some(Window::Minute));
    let counter = Counter::new(Limit { meter: Meter::Tokens, amount, window, burst: None });
    let taken = all(|thread| {
        let mut taken = 0;
        for n in 1..=200 {
            if counter.take(thread + n, SECOND).is_ok() {
                counter.settle(thread + n, 0, SECOND);
                taken += 1;
            }
        }
        taken
    });
    assert_eq!(taken, THREADS * 200, "all of it fits at any time");
    assert_eq!(counter.standing(SECOND).remaining, amount);
}
