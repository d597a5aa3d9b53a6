//! Windows: how many attempts a credential may have under way, found out by its 429s.

use std::sync::Arc;

use policy::health::{Cause, Health, Lease, Live, Range, THROTTLED_MS, Window};
use policy::plan::{Picker, Skip};
use proptest::prelude::*;

use crate::given::{problems, provider, snapshot};
use crate::plans_picked::with_facts;

const RANGE: Range = Range { from: 4, to: 256 };

fn live(keys: &[&str]) -> Arc<Live> {
    Health::default().live_within(Some(RANGE), "a", "m", keys)
}

fn begin(live: &Arc<Live>, now_ms: u64) -> Option<Lease> {
    Lease::begin(live, false, now_ms)
}

fn size(live: &Live, credential: usize) -> u32 {
    live.credentials.get(credential).window.size(RANGE)
}

/// As many as fit.
fn fill(live: &Arc<Live>, now_ms: u64) -> Vec<Lease> {
    std::iter::from_fn(|| begin(live, now_ms)).collect()
}

#[test]
fn no_more_are_let_in_than_the_window_is_wide_and_each_end_gives_its_place_back() {
    let live = live(&["k"]);
    let mut leases = fill(&live, 1);
    assert_eq!(leases.len(), 4);
    assert!(live.credentials.are_full(1));
    assert!(Lease::begin(&live, true, 1).is_none(), "not even for want of anything better");
    drop(leases.pop());
    assert_eq!(fill(&live, 2).len(), 1);
    let _ = leases.pop().unwrap().failed(Cause::Transient, None, 3);
    let again = begin(&live, 3).unwrap();
    again.succeeded(4);
    leases.pop().unwrap().succeeded(4);
    drop(leases);
    assert_eq!(live.credentials.get(0).window.in_flight(), 0);
    assert_eq!(live.health.in_flight(), 0);
}

#[test]
fn it_doubles_until_somebody_says_no_and_only_while_it_is_used_to_the_full() {
    let live = live(&["k"]);
    for _ in 0..20 {
        begin(&live, 1).unwrap().succeeded(2);
    }
    assert_eq!(size(&live, 0), 4, "one at a time says nothing of five");
    for (now, expected) in [(10, 8), (20, 16), (30, 32)] {
        fill(&live, now).into_iter().for_each(|lease| lease.succeeded(now + 5));
        assert_eq!(size(&live, 0), expected);
    }
    for now in 4..20 {
        fill(&live, now * 10).into_iter().for_each(|lease| lease.succeeded(now * 10 + 5));
    }
    assert_eq!(size(&live, 0), 256, "and no wider than it may be");
}

#[test]
fn a_429_narrows_it_once_for_all_that_were_under_way() {
    let live = live(&["k"]);
    for now in [10, 20, 30] {
        fill(&live, now).into_iter().for_each(|lease| lease.succeeded(now + 5));
    }
    let mut leases = fill(&live, 40);
    assert_eq!(leases.len(), 32);
    for _ in 0..5 {
        let _ = leases.pop().unwrap().failed(Cause::Throttled, None, 50);
    }
    assert_eq!(size(&live, 0), 22, "seven tenths of 32");
    // What was sent before says nothing of the window as it is now.
    leases.drain(..20).for_each(|lease| lease.succeeded(60));
    assert_eq!(size(&live, 0), 22);
    assert_eq!(live.credentials.all_benched(60), None, "it is not left alone for that");
    let late = begin(&live, 61).unwrap();
    let _ = late.failed(Cause::Throttled, None, 70);
    assert!(size(&live, 0) < 22, "what was sent since does");
}

#[test]
fn it_is_soon_back_where_it_was_throttled_and_goes_beyond_with_care() {
    let live = live(&["k"]);
    for now in [10, 20, 30] {
        fill(&live, now).into_iter().for_each(|lease| lease.succeeded(now + 5));
    }
    let mut leases = fill(&live, 40);
    let _ = leases.pop().unwrap().failed(Cause::Throttled, None, 50);
    drop(leases);
    assert_eq!(size(&live, 0), 22);
    fill(&live, 60).into_iter().for_each(|lease| lease.succeeded(70));
    assert_eq!(size(&live, 0), 31, "one below");
    let mut windows = 0;
    while size(&live, 0) == 31 {
        windows += 1;
        let now = 100 + windows * 10;
        fill(&live, now).into_iter().for_each(|lease| lease.succeeded(now + 5));
    }
    assert_eq!(windows, 8);
}

#[test]
fn a_time_that_the_provider_names_is_kept_and_who_refuses_the_only_call_is_left_alone() {
    let named = live(&["k"]);
    let _ = begin(&named, 1).unwrap().failed(Cause::Throttled, Some(700), 2);
    assert_eq!(named.credentials.all_benched(3), Some(702));
    let narrow = live(&["k"]);
    let beside = begin(&narrow, 10).unwrap();
    let _ = begin(&narrow, 10).unwrap().failed(Cause::Throttled, None, 11);
    drop(beside);
    assert_eq!((size(&narrow, 0), narrow.credentials.all_benched(12)), (1, None));
    let _ = begin(&narrow, 20).unwrap().failed(Cause::Throttled, None, 21);
    assert_eq!(narrow.credentials.all_benched(22), Some(21 + THROTTLED_MS));
}

#[test]
fn a_credential_that_is_full_gives_way_to_the_next_and_a_target_to_another() {
    let live = live(&["k1", "k2"]);
    let leases = fill(&live, 1);
    let of_first = leases.iter().filter(|lease| lease.credential() == 0).count();
    assert_eq!((of_first, leases.len()), (4, 8));
    let plan = snapshot(
        "providers:\n  a: { base_url: http://a/v1, auth: optional, concurrency: { from: 2, to: 9 } }\n  \
         b: { base_url: http://b/v1, auth: optional }\n\
         models: { m: { fallback: [a/x, b/x] }, alone: a/y }\n",
    );
    let ask = |model: &str, picker: &mut Picker| {
        let plan = plan.plan(model).unwrap();
        with_facts(|_| {}, |facts| plan.next(picker, facts, 1))
    };
    let asked: Vec<_> = (0..3).map(|_| ask("m", &mut Picker::new(7)).unwrap()).collect();
    assert_eq!(asked.iter().map(|one| one.target).collect::<Vec<_>>(), [0, 0, 1]);
    let held: Vec<_> = (0..2).map(|_| ask("alone", &mut Picker::new(7)).unwrap()).collect();
    let mut picker = Picker::new(7);
    assert!(ask("alone", &mut picker).is_none(), "nothing goes beyond");
    assert_eq!(picker.skipped()[0].skip, Skip::Full { in_flight: 2 });
    assert_eq!(picker.skipped()[0].skip.to_string(), "2 in flight, as many as it bears");
    drop(held);
    assert!(ask("alone", &mut Picker::new(7)).is_some());
}

#[test]
fn it_is_written_in_two_forms_and_off_by_default() {
    let text = |more: &str| {
        format!("providers:\n  p:\n    base_url: http://p/v1\n    auth: optional\n    {more}\n")
    };
    let windows = |more: &str| provider(&snapshot(&text(more)), "p").windows;
    assert_eq!(windows(""), None);
    assert_eq!(windows("concurrency: adaptive"), Some(Range { from: 16, to: 1_000 }));
    assert_eq!(windows("concurrency: { from: 4, to: 256 }"), Some(RANGE));
    assert_eq!(windows("concurrency: { to: 8 }"), Some(Range { from: 8, to: 8 }));
    for wrong in ["{ from: 0 }", "{ from: 9, to: 8 }", "{ to: 20000 }", "{ from: 70000, to: 9 }"] {
        let told = problems(&text(&format!("concurrency: {wrong}"))).join("\n");
        assert!(told.starts_with("5:18 `concurrency` goes from 1"), "{told}");
    }
    let told = problems(&text("concurrency: 20")).join("\n");
    assert!(told.contains("limits: { concurrency: 20 }"), "{told}");
    assert!(problems(&text("concurrency: manual")).join("\n").contains("`adaptive`"));
}

/// Calls that a client has under way, and how they will end.
struct Call {
    lease: Lease,
    ends_ms: u64,
    is_good: bool,
}

/// What came of a time.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    throttled: u64,
    good: u64,
}

/// A provider that bears so many calls at once and takes 200 ms for each, give or take; beyond that
/// it says no after 5 ms. Two workers want as much as they can get.
fn simulate(keys: usize, capacity: impl Fn(u64) -> usize, span: (u64, u64), seed: u64) -> Tally {
    let marks: Vec<String> = (0..keys).map(|key| key.to_string()).collect();
    let health = Health::default();
    let range = Some(Range { from: 16, to: 1_000 });
    let workers: Vec<Arc<Live>> =
        (0..2).map(|_| health.live_within(range, "a", "m", &marks)).collect();
    let (mut calls, mut dice, mut tally): (Vec<Call>, u64, Tally) =
        (Vec::new(), seed, Tally::default());
    for now in 1..span.1 {
        let counts = now >= span.0;
        let mut index = 0;
        while index < calls.len() {
            if calls[index].ends_ms > now {
                index += 1;
                continue;
            }
            let call = calls.swap_remove(index);
            match call.is_good {
                true => call.lease.succeeded(now),
                false => drop(call.lease.failed(Cause::Throttled, None, now)),
            }
            tally.good += u64::from(counts && call.is_good);
            tally.throttled += u64::from(counts && !call.is_good);
        }
        for worker in workers.iter().cycle().take(2_000) {
            let Some(lease) = Lease::begin(worker, false, now) else { break };
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at_work = calls
                .iter()
                .filter(|call| call.is_good && call.lease.credential() == lease.credential());
            let is_good = at_work.count() < capacity(now);
            let takes = if is_good { 150 + (dice >> 33) % 100 } else { 5 };
            tally.sent += u64::from(counts);
            calls.push(Call { lease, ends_ms: now + takes, is_good });
        }
    }
    tally
}

#[track_caller]
fn assert_converged(tally: &Tally, capacity: u64, seconds: u64) {
    // 200 ms each, 199.5 in the mean.
    let possible = capacity * seconds * 1_000 * 10 / 1_995;
    let share = tally.good * 1_000 / possible;
    assert!(share >= 900, "{share} per mille of what is possible: {tally:?}");
    assert!(tally.throttled * 100 < tally.sent * 2, "{tally:?}");
}

#[test]
fn what_a_provider_bears_is_found_and_used_whatever_it_is() {
    for capacity in [4, 12, 40, 200] {
        for seed in 0..4 {
            let tally = simulate(1, |_| capacity, (10_000, 40_000), seed);
            assert_converged(&tally, capacity as u64, 30);
        }
    }
}

#[test]
fn several_credentials_are_each_used_to_what_they_bear() {
    let tally = simulate(3, |_| 20, (10_000, 30_000), 5);
    assert_converged(&tally, 60, 20);
}

#[test]
fn a_capacity_that_changes_is_followed() {
    let changing = |now: u64| match now {
        ..30_000 => 60,
        30_000..70_000 => 15,
        _ => 90,
    };
    assert_converged(&simulate(1, changing, (10_000, 30_000), 6), 60, 20);
    assert_converged(&simulate(1, changing, (40_000, 70_000), 6), 15, 30);
    assert_converged(&simulate(1, changing, (100_000, 130_000), 6), 90, 30);
}

proptest! {
    /// Whatever ends in whatever order, a window keeps within its bounds and its count is right.
    #[test]
    fn a_window_keeps_its_bounds_and_its_count(
        steps in prop::collection::vec((0..4_u8, 0..50_u64), 1..300),
    ) {
        let (window, mut under_way, mut now) = (Window::default(), Vec::new(), 1);
        for (step, passed) in steps {
            now += passed;
            let before = window.size(RANGE);
            match (step, under_way.pop()) {
                (0 | 1, begun) => {
                    under_way.extend(begun);
                    let is_full = window.is_full(RANGE);
                    prop_assert_eq!(window.enter(RANGE, now), !is_full);
                    if !is_full {
                        under_way.push(now);
                    }
                }
                (2, Some(begun)) => {
                    window.succeeded(RANGE, begun);
                    window.leave();
                    prop_assert!(window.size(RANGE) - before <= 1);
                }
                (_, Some(begun)) => {
                    let _ = window.throttled(RANGE, begun, now);
                    window.leave();
                    prop_assert!(window.size(RANGE) <= before);
                }
                (_, None) => {}
            }
            prop_assert!((1..=256).contains(&window.size(RANGE)));
            prop_assert_eq!(window.in_flight() as usize, under_way.len());
        }
    }
}
