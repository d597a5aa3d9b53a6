//! Plan, breakers, leases and retry budget together, on a time that only the test moves: requests
//! come, targets misbehave, and the attempt loop does what a relay does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use http::HeaderMap;
use policy::Plan;
use policy::health::{Cause, Lease, Standing, backoff_ms};
use policy::plan::{Facts, Failed, Picker};
use policy::scope::Operation;

use crate::plans_picked::plan;

/// A generator of numbers, the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// How a target answers an attempt: after so long, and with what failure.
type Answer = (u64, Option<Cause>);

/// What each target does at a time.
type Script = fn(target: usize, now: u64, dice: &mut Dice) -> Answer;

/// A request under way.
struct Running {
    picker: Picker,
    lease: Option<Lease>,
    target: usize,
    failure: Option<Cause>,
    came: u64,
    asked: u64,
}

/// What came of it all.
#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    attempts: u64,
    good: u64,
    /// By target.
    asked: Vec<u64>,
    /// By target, when it was asked.
    times: Vec<Vec<u64>>,
    /// When requests came that failed, and how long they took.
    bad: Vec<(u64, u64)>,
}

impl Tally {
    fn bad_between(&self, from: u64, to: u64) -> usize {
        self.bad.iter().filter(|(came, _)| (from..to).contains(came)).count()
    }
}

struct World {
    plan: Arc<Plan>,
    script: Script,
    dice: Dice,
    /// What ends when, by its place in `running`.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    running: Vec<Option<Running>>,
    /// Probes under way, by target.
    probes: Vec<u32>,
    tally: Tally,
}

impl World {
    fn new(plan: Arc<Plan>, script: Script, seed: u64) -> Self {
        let count = plan.targets().len();
        let times = vec![Vec::new(); count];
        let tally = Tally { asked: vec![0; count], times, ..Tally::default() };
        let (ends, running) = (BinaryHeap::new(), Vec::new());
        let probes = vec![0; plan.targets().len()];
        Self { plan, script, dice: Dice(seed), ends, running, probes, tally }
    }

    /// Lets so many requests a second come until then, and all of them end.
    fn run(mut self, per_second: u64, until: u64) -> Tally {
        let mut now = 0;
        while now < until {
            now += 1 + self.dice.below(2_000 / per_second);
            self.settle(now);
            self.come(now);
        }
        self.settle(u64::MAX);
        for target in self.plan.targets() {
            assert_eq!(target.live.health.in_flight(), 0, "all is given back");
            let standing = target.live.health.breaker.standing(u64::MAX / 512);
            assert!(!matches!(standing, Standing::Probing { .. }), "no slot is lost");
        }
        self.tally
    }

    fn come(&mut self, now: u64) {
        self.tally.requests += 1;
        self.plan.budget().earn();
        let picker = Picker::new(self.dice.next());
        let (came, asked) = (now, now);
        let place = self.running.len();
        let running = Running { picker, lease: None, target: 0, failure: None, came, asked };
        self.running.push(Some(running));
        self.ask(place, now);
    }

    /// Asks the next target, or gives up.
    fn ask(&mut self, place: usize, now: u64) {
        let Some(mut running) = self.running[place].take() else { return };
        let headers = HeaderMap::new();
        let facts = Facts::new(Operation::Chat, &headers);
        let Some(candidate) = self.plan.next(&mut running.picker, &facts, now) else {
            self.tally.bad.push((running.came, now - running.came));
            return;
        };
        self.tally.attempts += 1;
        self.tally.asked[candidate.target] += 1;
        self.tally.times[candidate.target].push(now);
        let (took, failure) = (self.script)(candidate.target, now, &mut self.dice);
        running.target = candidate.target;
        self.probes[candidate.target] += u32::from(candidate.lease.is_probe());
        assert!(self.probes[candidate.target] <= 1, "two probes at once");
        (running.lease, running.failure, running.asked) = (Some(candidate.lease), failure, now);
        self.running[place] = Some(running);
        self.ends.push(Reverse((now + took, place)));
    }

    /// Lets all end that ends until then.
    fn settle(&mut self, until: u64) {
        while let Some(Reverse((now, place))) = self.ends.peek().copied() {
            if now > until {
                return;
            }
            self.ends.pop();
            let Some(mut running) = self.running[place].take() else { continue };
            let Some(lease) = running.lease.take() else {
                // A wait is over.
                self.running[place] = Some(running);
                self.ask(place, now);
                continue;
            };
            self.probes[running.target] -= u32::from(lease.is_probe());
            let Some(cause) = running.failure else {
                lease.succeeded(now);
                self.tally.good += 1;
                continue;
            };
            let next = lease.failed(cause, None, now);
            let failed = Failed { next, took_ms: now - running.asked };
            if !self.plan.go_on(&mut running.picker, failed, now) {
                self.tally.bad.push((running.came, now - running.came));
                continue;
            }
            let only = self.plan.targets().len() == 1;
            let wait = if only && cause.passes() {
                running.picker.again();
                backoff_ms(running.picker.attempts(), self.dice.next(), None)
            } else {
                0
            };
            self.running[place] = Some(running);
            self.ends.push(Reverse((now + wait, place)));
        }
    }
}

const SEEDS: std::ops::Range<u64> = 0..8;
const MINUTE: u64 = 60_000;
const BROKEN: Cause = Cause::Transient;

fn three() -> Arc<Plan> {
    plan("{ balance: [a/x, b/x, c/x] }")
}

#[test]
fn of_three_targets_one_that_fails_half_the_time_is_hardly_noticed() {
    for seed in SEEDS {
        let script: Script = |target, now, dice| match target {
            0 if now > 10_000 && dice.below(2) == 0 => (50, Some(Cause::Transient)),
            _ => (200 + dice.below(200), None),
        };
        let tally = World::new(three(), script, seed).run(50, 2 * MINUTE);
        let share = tally.good as f64 / tally.requests as f64;
        assert!(share >= 0.999, "seed {seed}: {share} {:?}", tally.bad);
        let asked = tally.times[0].iter().filter(|now| **now > 15_000).count() as u64;
        assert!(asked * 10 < tally.requests, "seed {seed}: {asked} of {}", tally.requests);
        assert!(tally.attempts * 10 <= tally.requests * 12, "seed {seed}");
    }
}

#[test]
fn of_three_targets_one_that_is_slow_gets_little_to_do() {
    for seed in SEEDS {
        let script: Script = |target, _, dice| match target {
            0 => (3_000 + dice.below(2_000), None),
            _ => (300 + dice.below(200), None),
        };
        let tally = World::new(three(), script, seed).run(50, 2 * MINUTE);
        assert_eq!(tally.good, tally.requests);
        assert!(tally.asked[0] * 10 < tally.requests, "seed {seed}: {:?}", tally.asked);
        assert!(tally.asked[0] > 10, "seed {seed}: it is looked at now and then");
    }
}

#[test]
fn a_storm_of_429_fails_over_without_opening_a_breaker() {
    for seed in SEEDS {
        let script: Script = |target, now, dice| match target {
            0 if (20_000..50_000).contains(&now) => (20, Some(Cause::Throttled)),
            _ => (200 + dice.below(200), None),
        };
        let plan = plan("{ fallback: [a/x, b/x] }");
        let tally = World::new(Arc::clone(&plan), script, seed).run(50, 2 * MINUTE);
        assert_eq!(tally.good, tally.requests, "seed {seed}");
        let standing = plan.targets()[0].live.health.breaker.standing(2 * MINUTE);
        assert_eq!(standing, Standing::Closed { percent: 100 }, "it never opened");
        assert!(tally.asked[0] > tally.requests / 2, "seed {seed}: it is back at once");
    }
}

#[test]
fn while_all_are_gone_requests_are_refused_at_once_and_served_soon_after_their_return() {
    const BACK: u64 = 6 * MINUTE;
    for seed in SEEDS {
        let script: Script = |_, now, dice| match now {
            MINUTE..BACK => (1, Some(Cause::HardDown)),
            _ => (100 + dice.below(100), None),
        };
        let tally = World::new(three(), script, seed).run(50, 7 * MINUTE);
        let mut took: Vec<u64> =
            tally.bad.iter().filter(|(came, _)| *came > MINUTE).map(|(_, took)| *took).collect();
        took.sort_unstable();
        assert!(took[took.len() * 99 / 100] <= 20, "seed {seed}: refused at once");
        assert_eq!(tally.bad_between(0, MINUTE - 1), 0, "seed {seed}");
        assert_eq!(tally.bad_between(BACK + 5_000, 7 * MINUTE), 0, "seed {seed}");
        assert!(tally.attempts * 10 <= tally.requests * 12, "seed {seed}: no storm");
    }
}

#[test]
fn a_single_target_that_is_ill_is_asked_all_the_same_and_not_stormed() {
    for seed in SEEDS {
        let script: Script = |_, now, dice| match now {
            30_000..90_000 if dice.below(10) < 7 => (30, Some(Cause::Transient)),
            _ => (100 + dice.below(100), None),
        };
        let tally = World::new(plan("a/x"), script, seed).run(50, 3 * MINUTE);
        assert!(tally.attempts * 10 <= tally.requests * 12, "seed {seed}: no storm");
        // Three of ten attempts are good, and nobody is turned away without one.
        let came = tally.requests / 3;
        let bad = tally.bad_between(30_000, 90_000) as u64;
        assert!(bad < came * 8 / 10, "seed {seed}: {bad} of {came}");
        assert_eq!(tally.bad_between(100_000, 3 * MINUTE), 0, "seed {seed}");
    }
}

#[test]
fn what_fails_everywhere_and_yet_opens_no_breaker_is_not_multiplied() {
    for seed in SEEDS {
        let script: Script = |_, now, dice| match now {
            30_000.. if dice.below(100) < 20 => (20, Some(Cause::Transient)),
            _ => (100, None),
        };
        let plan = plan("{ fallback: [a/x, b/x, c/x, d/x] }");
        let tally = World::new(plan, script, seed).run(100, 3 * MINUTE);
        let late = |now: &&u64| **now > 30_000;
        let attempts = tally.times.iter().flatten().filter(late).count() as u64;
        let requests = tally.requests * 5 / 6;
        // Saved up were a hundred retries.
        assert!(attempts * 10 <= requests * 12 + 1_500, "seed {seed}: {attempts} for {requests}");
        assert!(
            tally.good * 100 > tally.requests * 90,
            "seed {seed}: {} of {} {:?}",
            tally.good,
            tally.requests,
            tally.asked
        );
    }
}

#[test]
fn a_first_tier_that_fails_now_and_then_is_hardly_noticed_before_one_that_is_well() {
    let scripts: [(u64, Script); 4] = [
        (15, |target, _, dice| (80, (target == 0 && dice.below(100) < 15).then_some(BROKEN))),
        (25, |target, _, dice| (80, (target == 0 && dice.below(100) < 25).then_some(BROKEN))),
        (33, |target, _, dice| (80, (target == 0 && dice.below(100) < 33).then_some(BROKEN))),
        (50, |target, _, dice| (80, (target == 0 && dice.below(100) < 50).then_some(BROKEN))),
    ];
    for (percent, script) in scripts {
        for rate in [5, 20, 50, 200] {
            let plan = plan("{ fallback: [a/x, b/x] }");
            let tally = World::new(plan, script, rate).run(rate, 5 * MINUTE);
            let share = tally.good as f64 / tally.requests as f64;
            assert!(share >= 0.998, "{percent} % of {rate} a second: {share}");
            let times = tally.attempts as f64 / tally.requests as f64;
            assert!(times <= 1.2, "{percent} % of {rate} a second: {times}");
        }
    }
}

#[test]
fn a_tier_that_dies_is_left_and_found_again() {
    for seed in SEEDS {
        let script: Script = |target, now, dice| match (target, now) {
            (0, 30_000..90_000) => (5, Some(Cause::HardDown)),
            (1, 45_000..60_000) => (3_000, Some(Cause::Transient)),
            _ => (100 + dice.below(100), None),
        };
        let tally =
            World::new(plan("{ fallback: [a/x, b/x, c/x] }"), script, seed).run(20, 3 * MINUTE);
        let share = tally.good as f64 / tally.requests as f64;
        assert!(share >= 0.99, "seed {seed}: {share}");
        // After the ramp, everything goes to the first tier again.
        let first = tally.asked[0] as f64 / tally.requests as f64;
        assert!(first > 0.45, "seed {seed}: {:?}", tally.asked);
    }
}
