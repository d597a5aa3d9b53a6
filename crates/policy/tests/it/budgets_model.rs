//! An account against a list of all that was done to it.

use std::time::Duration;

use policy::budget::{Account, Budget, OnExhausted, Period};
use proptest::prelude::*;

use super::budgets::budget;

const DAY: u64 = 24 * 3_600_000;
const LIMIT: u64 = 1_000;

#[derive(Debug, Clone)]
enum Step {
    /// Time goes on, or back.
    Pass(i64),
    Reserve(u64),
    /// Settles an earlier one, by its place, as used so many percent.
    Settle(usize, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let day = i64::try_from(DAY).unwrap();
    let step = prop_oneof![
        2 => (0..day / 3).prop_map(Step::Pass),
        1 => (-day..0).prop_map(Step::Pass),
        1 => (0..20 * day).prop_map(Step::Pass),
        8 => (0..LIMIT / 2).prop_map(Step::Reserve),
        1 => (0..LIMIT * 2).prop_map(Step::Reserve),
        6 => (0..9_usize, 0..=100_u64).prop_map(|(which, percent)| Step::Settle(which, percent)),
        1 => (0..9_usize, 0..=300_u64).prop_map(|(which, percent)| Step::Settle(which, percent)),
    ];
    prop::collection::vec(step, 1..120)
}

fn periods() -> impl Strategy<Value = Period> {
    let rolling = |hours: u64| Period::Rolling(Duration::from_millis(hours * DAY / 24));
    prop::sample::select(vec![
        Period::Day,
        Period::Week,
        Period::Total,
        rolling(5),
        rolling(24),
        rolling(720),
    ])
}

/// All that was ever done, and the latest time told.
#[derive(Default)]
struct Oracle {
    now: u64,
    open: Vec<u64>,
    used: Vec<(u64, u64)>,
}

impl Oracle {
    /// What is spent in the period: at least, and at most, for a rolling one moves in steps.
    fn spent(&self, period: Period) -> (u64, u64) {
        let sum = |since: &dyn Fn(u64) -> bool| {
            self.used.iter().filter(|(at, _)| since(*at)).map(|(_, used)| used).sum()
        };
        // 1970 began on a Thursday.
        let week = |at: u64| (at / DAY + 3) / 7;
        let exact = match period {
            Period::Day => sum(&|at| at / DAY == self.now / DAY),
            Period::Week => sum(&|at| week(at) == week(self.now)),
            Period::Total => sum(&|_| true),
            Period::Rolling(length) => {
                let length = u64::try_from(length.as_millis()).unwrap();
                let longer = length + length.div_ceil(119);
                return (sum(&|at| at + length > self.now), sum(&|at| at + longer > self.now));
            }
            Period::Month => unreachable!(),
        };
        (exact, exact)
    }

    fn reserved(&self) -> u64 {
        self.open.iter().sum()
    }
}

fn run(budget: Budget, start: u64, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (period, hard) = (budget.period, budget.is_hard());
    let alerts = budget.alerts.clone();
    let account = Account::new(budget, start);
    let mut clock = start;
    let mut oracle = Oracle { now: start, ..Oracle::default() };
    let mut refused = None;
    for step in steps {
        match step {
            Step::Pass(time) => clock = clock.saturating_add_signed(time),
            Step::Reserve(nanos) => {
                oracle.now = oracle.now.max(clock);
                let (least, most) = oracle.spent(period);
                // What is free goes on, whatever is spent.
                let fits = |spent: u64| nanos == 0 || spent + oracle.reserved() + nanos <= LIMIT;
                match account.reserve(nanos, clock) {
                    Ok(()) => {
                        prop_assert!(fits(least) || !hard, "over");
                        oracle.open.push(nanos);
                        refused = None;
                    }
                    Err(exhausted) => {
                        prop_assert!(hard && !fits(most), "refused too early");
                        prop_assert_eq!(exhausted.reserved, oracle.reserved());
                        let possible = oracle.reserved() + nanos <= LIMIT;
                        let passes = possible && period != Period::Total;
                        prop_assert_eq!(exhausted.resets_at_ms.is_some(), passes);
                        refused = exhausted.resets_at_ms.map(|at| (at, nanos));
                    }
                }
            }
            Step::Settle(which, percent) if !oracle.open.is_empty() => {
                let reserved = oracle.open.swap_remove(which % oracle.open.len());
                let used = reserved * percent / 100;
                oracle.now = oracle.now.max(clock);
                oracle.used.push((oracle.now, used));
                for percent in account.settle(reserved, used, clock) {
                    prop_assert!(alerts.contains(&percent));
                    let (_, most) = oracle.spent(period);
                    prop_assert!(most * 100 >= LIMIT * u64::from(percent));
                }
                refused = None;
            }
            Step::Settle(..) => {}
        }
        oracle.now = oracle.now.max(clock);
        let (standing, (least, most)) = (account.standing(clock), oracle.spent(period));
        prop_assert_eq!(standing.reserved, oracle.reserved());
        prop_assert!((least..=most).contains(&standing.spent), "{:?}", standing);
    }
    // What was refused last fits when it was told to, and not before.
    if let Some((at, nanos)) = refused.filter(|(at, _)| *at > oracle.now) {
        let held = oracle.reserved() + nanos <= LIMIT;
        prop_assert!(!held || account.reserve(nanos, at - 1).is_err());
        prop_assert!(!held || account.reserve(nanos, at).is_ok());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn it_says_what_a_list_says(
        period in periods(),
        hard in prop::bool::weighted(0.8),
        start in 300 * DAY..400 * DAY,
        steps in steps(),
    ) {
        let on_exhausted = if hard { OnExhausted::Refuse } else { OnExhausted::Alert };
        let alerts = vec![50, 80, 100];
        run(Budget { on_exhausted, alerts, ..budget(LIMIT, period) }, start, steps)?;
    }

    /// Without overruns nothing can take it past its limit, at any instant.
    #[test]
    fn spent_and_reserved_stay_within_the_limit(
        period in periods(), start in 300 * DAY..400 * DAY, steps in steps(),
    ) {
        let account = Account::new(budget(LIMIT, period), start);
        let (mut clock, mut open) = (start, Vec::new());
        for step in steps {
            match step {
                Step::Pass(time) => clock = clock.saturating_add_signed(time),
                Step::Reserve(nanos) => {
                    open.extend(account.reserve(nanos, clock).is_ok().then_some(nanos));
                }
                Step::Settle(which, percent) if !open.is_empty() => {
                    let reserved = open.swap_remove(which % open.len());
                    let _ = account.settle(reserved, reserved * percent.min(100) / 100, clock);
                }
                Step::Settle(..) => {}
            }
            let standing = account.standing(clock);
            prop_assert!(standing.spent + standing.reserved <= LIMIT, "{:?}", standing);
        }
        for reserved in open {
            let _ = account.settle(reserved, 0, clock);
        }
        prop_assert_eq!(account.standing(clock).reserved, 0);
    }

    /// What the ledger restores is what was there before.
    #[test]
    fn a_restart_changes_nothing(
        period in periods(),
        start in 300 * DAY..400 * DAY,
        used in prop::collection::vec((0..40 * DAY, 0..LIMIT), 0..40),
    ) {
        let mut ledger: Vec<_> = used.into_iter().map(|(after, used)| (start + after, used)).collect();
        ledger.sort_unstable();
        let account = Account::new(budget(LIMIT, period), start);
        for (at, used) in &ledger {
            let _ = account.settle(0, *used, *at);
        }
        let now = ledger.last().map_or(start, |(at, _)| *at);
        let restored = Account::new(budget(LIMIT, period), now);
        restored.restore(ledger.into_iter().rev(), now);
        prop_assert_eq!(restored.standing(now), account.standing(now));
        prop_assert_eq!(restored.standing(now + DAY), account.standing(now + DAY));
    }
}
