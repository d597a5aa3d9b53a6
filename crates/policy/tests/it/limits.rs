//! Counters: what fits, when the rest will, and what is given back.

use policy::limit::{Counter, Limit, Meter, Wait, Window};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

fn counter(amount: u64, window: Window, burst: Option<u64>) -> Counter {
    Counter::new(Limit { meter: Meter::Tokens, amount, window: Some(window), burst })
}

/// How often one more fits at an instant.
fn drain(counter: &Counter, now: u64) -> u64 {
    let mut taken = 0;
    while counter.take(1, now).is_ok() {
        taken += 1;
    }
    taken
}

#[test]
fn a_burst_fits_at_once_and_the_rest_as_time_passes() {
    let counter = counter(100, Window::Second, Some(20));
    let start = 7 * DAY;
    assert_eq!(drain(&counter, start), 20);
    assert_eq!(counter.take(1, start), Err(Wait::Nanos(10_000_000)));
    assert_eq!(counter.take(1, start + 9_999_999), Err(Wait::Nanos(1)));
    assert_eq!(counter.take(1, start + 10_000_000), Ok(()));
    assert_eq!(drain(&counter, start + SECOND), 20, "a rest gives back no more than the burst");
}

#[test]
fn a_burst_is_the_amount_unless_it_is_less() {
    for (burst, capacity) in [(None, 60), (Some(60), 60), (Some(1), 1), (Some(900), 60)] {
        let counter = counter(60, Window::Minute, burst);
        assert_eq!(counter.limit().capacity(), capacity);
        assert_eq!(drain(&counter, 0), capacity, "{burst:?}");
    }
}

#[test]
fn what_is_more_than_the_burst_never_fits() {
    let tokens = counter(200_000, Window::Minute, Some(32_000));
    assert_eq!(tokens.take(32_001, DAY), Err(Wait::Never));
    assert_eq!(tokens.take(u64::MAX, DAY), Err(Wait::Never));
    assert_eq!(tokens.take(32_000, DAY), Ok(()), "a refusal takes nothing");
    let nothing = counter(0, Window::Day, None);
    assert_eq!(nothing.take(1, DAY), Err(Wait::Never));
    assert_eq!(nothing.standing(DAY).remaining, 0);
}

#[test]
fn one_a_day_is_a_day_apart() {
    let counter = counter(1, Window::Day, None);
    let start = 12_345;
    assert_eq!(counter.take(1, start), Ok(()));
    assert_eq!(counter.take(1, start + 1), Err(Wait::Nanos(DAY - 1)));
    assert_eq!(counter.take(1, start + DAY - 1), Err(Wait::Nanos(1)));
    assert_eq!(counter.take(1, start + DAY), Ok(()));
}

/// Takes `n` as often as it fits for a time, in steps, after the burst was used up.
fn rate(counter: &Counter, n: u64, span: u64, step: u64) -> u64 {
    counter.take(counter.limit().capacity(), 0).unwrap();
    let attempts = (step..=span).step_by(usize::try_from(step).unwrap());
    attempts.filter(|now| counter.take(n, *now).is_ok()).count() as u64 * n
}

#[test]
fn high_rates_lose_nothing() {
    // Of 7,000,003 a minute, one takes 8571.42 ns; of 1,999,999,999 a second, half of one.
    for (amount, window, n, span, step) in [
        (10_000_000, Window::Minute, 1, SECOND, 1_000),
        (7_000_003, Window::Minute, 1, SECOND, 1_000),
        (10_000_000, Window::Minute, 32_000, MINUTE, 1_000_000),
        (7_000_003, Window::Minute, 31_999, MINUTE, 1_000_000),
        (1_999_999_999, Window::Second, 32_000, SECOND, 1_000),
    ] {
        let counter = counter(amount, window, None);
        let most = u128::from(amount) * u128::from(span) / u128::from(window.nanos());
        let taken = u128::from(rate(&counter, n, span, step));
        let left_over = u128::from(amount % n + n);
        assert!(taken <= most + left_over, "{amount} by {n}: {taken} of {most}");
        assert!(
            taken * 1_000 >= (most - u128::from(n)) * 995,
            "{amount} by {n}: {taken} of {most}"
        );
    }
}

#[test]
fn what_was_not_used_is_given_back() {
    let counter = counter(60_000, Window::Minute, None);
    counter.take(60_000, SECOND).unwrap();
    assert_eq!(counter.standing(SECOND).remaining, 0);
    counter.settle(60_000, 1_000, SECOND);
    assert_eq!(counter.standing(SECOND).remaining, 59_000);
    counter.settle(1_000, 1_000, SECOND);
    assert_eq!(counter.standing(SECOND).remaining, 59_000);
}

#[test]
fn giving_back_makes_no_more_room_than_the_burst() {
    let counter = counter(60_000, Window::Minute, Some(10_000));
    counter.take(10_000, SECOND).unwrap();
    let later = 10 * MINUTE;
    for now in [SECOND, later, SECOND] {
        counter.settle(10_000, 0, now);
        counter.settle(u64::MAX, 0, now);
    }
    assert_eq!(counter.standing(later).remaining, 10_000);
    assert_eq!(counter.take(10_000, later), Ok(()));
    assert_eq!(counter.take(1, later), Err(Wait::Nanos(1_000_000)));
}

#[test]
fn debt_is_waited_off_by_those_who_come_later() {
    let counter = counter(60_000, Window::Minute, Some(10_000));
    counter.take(1_000, SECOND).unwrap();
    // The answer ends long after what was taken is worked off: the debt begins at its end.
    let end = MINUTE;
    counter.settle(1_000, 31_000, end);
    let standing = counter.standing(end);
    assert_eq!((standing.remaining, standing.reset_after), (0, 30 * SECOND));
    assert_eq!(counter.take(1, end), Err(Wait::Nanos(20 * SECOND + 1_000_000)));
    assert_eq!(counter.take(0, end), Err(Wait::Nanos(20 * SECOND)));
    assert_eq!(counter.take(0, end + 20 * SECOND), Ok(()));
    assert_eq!(counter.take(10_000, end + 30 * SECOND), Ok(()));
}

#[test]
fn absurd_debt_is_over_after_a_day() {
    for used in [u64::MAX, 1 << 63, 1_000_000_000_000_000_000] {
        let counter = counter(60_000, Window::Minute, None);
        counter.settle(0, used, DAY);
        counter.settle(0, used, DAY);
        assert_eq!(counter.take(0, DAY), Err(Wait::Nanos(DAY)));
        assert_eq!(counter.take(60_000, 2 * DAY + MINUTE), Ok(()));
    }
}

#[test]
fn what_runs_at_once_is_counted_up_and_down() {
    let limit = Limit { meter: Meter::Concurrency, amount: 3, window: None, burst: None };
    let counter = Counter::new(limit);
    for _ in 0..3 {
        counter.take(1, 0).unwrap();
    }
    assert_eq!(counter.take(1, DAY), Err(Wait::Release), "time alone ends nothing");
    assert_eq!(counter.take(4, DAY), Err(Wait::Never));
    counter.settle(1, 0, 0);
    assert_eq!(counter.standing(0).remaining, 1);
    assert_eq!(counter.standing(0).reset_after, 0);
    counter.take(1, 0).unwrap();
    for _ in 0..9 {
        counter.settle(1, 0, 0);
    }
    assert_eq!(drain(&counter, 0), 3, "what is given back too often makes no more room");
}

#[test]
fn time_that_goes_back_opens_nothing() {
    let counter = counter(100, Window::Second, Some(20));
    assert_eq!(drain(&counter, DAY), 20);
    for now in [DAY - 1, MINUTE, 0] {
        assert_eq!(drain(&counter, now), 0);
        assert_eq!(counter.standing(now).remaining, 0);
    }
    assert_eq!(drain(&counter, DAY + SECOND / 10), 10);
}

#[test]
fn limits_are_told_as_people_say_them() {
    let limit = |meter, window| Limit { meter, amount: 600, window, burst: Some(5) }.to_string();
    assert_eq!(limit(Meter::Requests, Some(Window::Minute)), "600 requests per minute");
    assert_eq!(limit(Meter::InputTokens, Some(Window::Day)), "600 input tokens per day");
    assert_eq!(limit(Meter::Concurrency, None), "600 requests at once");
}

/// What is done to a counter.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Take(u64),
    /// Settles an earlier one, by its place, as used so many percent.
    Settle(usize, u64),
}

fn limits() -> impl Strategy<Value = Limit> {
    let window =
        prop::sample::select(vec![Window::Second, Window::Minute, Window::Hour, Window::Day]);
    let amount = prop_oneof![1..20_u64, 1..100_000_u64, 1_000_000..20_000_000_u64];
    (amount, window, prop::option::of(1..100_000_u64)).prop_map(|(amount, window, burst)| Limit {
        meter: Meter::Tokens,
        amount,
        window: Some(window),
        burst,
    })
}

/// Steps in the measure of a limit, so that some fit and some do not.
fn steps(limit: Limit, settles: bool) -> impl Strategy<Value = (Limit, Vec<Step>)> {
    let window = limit.window.unwrap().nanos();
    let capacity = limit.capacity();
    let most = u64::try_from(u128::from(window) * u128::from(capacity) / u128::from(limit.amount))
        .unwrap()
        .max(1);
    let settle = (0..9_usize, prop_oneof![0..=100_u64, 0..=300_u64])
        .prop_map(|(which, percent)| Step::Settle(which, percent));
    let step = prop_oneof![
        3 => (0..=most / 3).prop_map(Step::Pass),
        1 => (0..=most * 2).prop_map(Step::Pass),
        5 => (1..=capacity.div_ceil(3)).prop_map(Step::Take),
        1 => (1..=capacity).prop_map(Step::Take),
        (if settles { 4 } else { 0 }) => settle,
    ];
    (Just(limit), prop::collection::vec(step, 1..80))
}

/// Whether `n` more keeps every span of time up to `now` within the rate and the burst, when each
/// of the takings is up to `slack` nanoseconds shorter or longer.
fn conforms(limit: &Limit, log: &[(u64, u64)], n: u64, now: u64, slack: u64) -> bool {
    let wide = |n: u64| u128::from(n);
    let window = wide(limit.window.unwrap().nanos());
    let mut sum = wide(n);
    let mut fits = sum <= wide(limit.capacity());
    for (count, (at, taken)) in log.iter().rev().enumerate() {
        sum += wide(*taken);
        let late = wide(slack) * (count as u128 + 2);
        let allowed = wide(limit.amount) * wide(now - at) + window * wide(limit.capacity());
        fits &= sum * window + late * wide(limit.amount) <= allowed;
    }
    fits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Against the definition: a list of all that was taken, every span of it looked at.
    #[test]
    fn every_span_of_time_keeps_the_limit(
        (limit, steps) in limits().prop_flat_map(|limit| steps(limit, false)),
        start in 0..4 * DAY,
    ) {
        let counter = Counter::new(limit);
        let (mut now, mut log) = (start, Vec::new());
        for step in steps {
            match step {
                Step::Pass(time) => now += time,
                Step::Take(n) => {
                    let standing = counter.standing(now);
                    let taken = counter.take(n, now);
                    prop_assert_eq!(taken.is_ok(), n <= standing.remaining);
                    match taken {
                        Ok(()) => {
                            prop_assert!(conforms(&limit, &log, n, now, 0), "too much at {}", now);
                            log.push((now, n));
                        }
                        Err(Wait::Nanos(wait)) => {
                            prop_assert!(!conforms(&limit, &log, n, now, 1), "refused at {}", now);
                            let again = Counter::new(limit);
                            for (at, n) in &log {
                                prop_assert!(again.take(*n, *at).is_ok());
                            }
                            prop_assert!(again.take(n, now + wait - 1).is_err());
                            prop_assert!(again.take(n, now + wait).is_ok());
                        }
                        Err(wait) => prop_assert!(false, "{:?}", wait),
                    }
                }
                Step::Settle(..) => {}
            }
        }
    }

    /// Against a bucket that leaks, kept in exact fractions of a nanosecond.
    #[test]
    fn settling_keeps_what_an_exact_bucket_keeps(
        (limit, steps) in limits().prop_flat_map(|limit| steps(limit, true)),
    ) {
        let counter = Counter::new(limit);
        let (amount, window) = (i128::from(limit.amount), i128::from(limit.window.unwrap().nanos()));
        let full = i128::from(limit.capacity()) * window;
        // By when all is worked off, in nanoseconds times the amount.
        let (mut now, mut until, mut calls) = (0_u64, 0_i128, 0_i128);
        let mut open: Vec<u64> = Vec::new();
        for step in steps {
            let at = i128::from(now) * amount;
            calls += 1;
            match step {
                Step::Pass(time) => now += time,
                Step::Take(n) => {
                    let after = until.max(at) + i128::from(n) * window;
                    match counter.take(n, now) {
                        Ok(()) => {
                            prop_assert!(after <= at + full, "too much at {}", now);
                            until = after;
                            open.push(n);
                        }
                        // Each call may have been rounded by a nanosecond.
                        Err(_) => prop_assert!(after + calls * amount > at + full),
                    }
                }
                Step::Settle(which, percent) if !open.is_empty() => {
                    let taken = open.swap_remove(which % open.len());
                    let used = taken * percent / 100;
                    let more = (i128::from(used) - i128::from(taken)) * window;
                    // No debt is longer than a day beyond the burst.
                    let most = until.max(at + full + i128::from(DAY) * amount);
                    until = (if more > 0 { until.max(at) } else { until } + more).min(most);
                    counter.settle(taken, used, now);
                }
                Step::Settle(..) => {}
            }
            let at = i128::from(now) * amount;
            let room = (full - (until - at).max(0)).max(0) / window;
            let told = i128::from(counter.standing(now).remaining);
            prop_assert!(told <= room && (room - told) * window <= calls * amount + window);
        }
    }

    #[test]
    fn no_input_makes_it_fail(
        amount in any::<u64>(), burst in any::<Option<u64>>(), windowed in any::<bool>(),
        calls in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..20),
    ) {
        let window = windowed.then_some(Window::Day);
        let counter = Counter::new(Limit { meter: Meter::Tokens, amount, window, burst });
        for (taken, used, now) in calls {
            let _ = counter.take(taken, now);
            counter.settle(taken, used, now);
            let standing = counter.standing(now);
            prop_assert!(standing.remaining <= counter.limit().capacity());
        }
    }
}
