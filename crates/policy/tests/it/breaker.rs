//! The breaker: closed, open, half-open, and what each attempt says of its target.

use policy::health::breaker::{
    FORGOTTEN_MS, IN_A_ROW, LEAST_VOLUME, LONGEST_OPEN_MS, LONGEST_UNREACHED_MS, MANY_IN_A_ROW,
    OPEN_MS, RAMP_MS, UNREACHED_IN_A_ROW, UNREACHED_OPEN_MS, WINDOW_MS,
};
use policy::health::{Breaker, Passage, Sign, Standing};
use proptest::collection::vec;
use proptest::prelude::*;

fn closed(breaker: &Breaker, now: u64) -> bool {
    matches!(breaker.standing(now), Standing::Closed { .. })
}

/// A breaker that opened at this time, for the first time.
fn opened(now: u64) -> Breaker {
    let breaker = Breaker::default();
    for _ in 0..IN_A_ROW {
        breaker.record(Sign::Failure, Passage::Closed, now, now);
    }
    assert_eq!(breaker.standing(now), Standing::Open { until_ms: now + OPEN_MS, unreached: false });
    breaker
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_them_does_not_let_them() {
    let breaker = Breaker::default();
    for _ in 0..IN_A_ROW - 1 {
        breaker.record(Sign::Failure, Passage::Closed, 0, 0);
    }
    breaker.record(Sign::Success, Passage::Closed, 0, 0);
    for _ in 0..IN_A_ROW - 1 {
        breaker.record(Sign::Failure, Passage::Closed, 0, WINDOW_MS);
    }
    assert!(closed(&breaker, WINDOW_MS));
    breaker.record(Sign::Failure, Passage::Closed, 0, WINDOW_MS);
    assert!(!closed(&breaker, WINDOW_MS));
}

#[test]
fn a_share_of_failures_opens_it_when_it_is_more_than_chance() {
    let until_open = |signs: &[Sign]| {
        let breaker = Breaker::default();
        (0..1_000_u64).zip(signs.iter().cycle()).find_map(|(now, sign)| {
            breaker.record(*sign, Passage::Closed, now, now);
            (!closed(&breaker, now)).then_some(now + 1)
        })
    };
    let (good, bad) = (Sign::Success, Sign::Failure);
    assert_eq!(until_open(&[good, bad]), Some(LEAST_VOLUME));
    assert_eq!(until_open(&[good, bad, bad, bad]), Some(LEAST_VOLUME));
    assert_eq!(until_open(&[good, good, bad]), Some(24));
    assert_eq!(until_open(&[good, good, good, bad]), Some(224));
    assert_eq!(until_open(&[good, good, good, good, bad]), None);
}

#[test]
fn half_of_the_answers_bad_after_good_times_opens_it_within_five_seconds() {
    // Seventeen attempts a second.
    let breaker = Breaker::default();
    let mut now = 0;
    for _ in 0..1_000 {
        now += 59;
        breaker.record(Sign::Success, Passage::Closed, now, now);
    }
    let begin = now;
    let mut is_bad = false;
    while closed(&breaker, now) {
        now += 59;
        is_bad = !is_bad;
        let sign = if is_bad { Sign::Failure } else { Sign::Success };
        breaker.record(sign, Passage::Closed, now, now);
    }
    assert!(now - begin <= 5_000, "{}", now - begin);
}

#[test]
fn one_failure_in_ten_does_not_open_it() {
    let breaker = Breaker::default();
    for count in 0..10_000_u64 {
        let sign = if count % 10 == 9 { Sign::Failure } else { Sign::Success };
        breaker.record(sign, Passage::Closed, count, count);
        assert!(closed(&breaker, count));
    }
}

#[test]
fn one_failure_in_six_does_not_open_it_by_a_streak_and_the_end_of_all_does_at_once() {
    let breaker = Breaker::default();
    let mut word = 1_u64;
    for now in 0..100_000_u64 {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let sign = if (word >> 33).is_multiple_of(6) { Sign::Failure } else { Sign::Success };
        breaker.record(sign, Passage::Closed, now, now);
        assert!(closed(&breaker, now), "after {now}");
    }
    for _ in 0..MANY_IN_A_ROW {
        breaker.record(Sign::Failure, Passage::Closed, 100_000, 100_000);
    }
    assert!(!closed(&breaker, 100_000));
}

#[test]
fn what_is_throttled_says_nothing() {
    let breaker = Breaker::default();
    for now in 0..1_000 {
        breaker.record(Sign::Neutral, Passage::Closed, now, now);
    }
    assert_eq!(breaker.standing(1_000), Standing::Closed { percent: 100 });
}

#[test]
fn what_cannot_be_reached_is_left_alone_sooner_and_shorter() {
    let breaker = Breaker::default();
    for _ in 0..UNREACHED_IN_A_ROW {
        breaker.record(Sign::Unreached, Passage::Closed, 0, 0);
    }
    let mut now = 0;
    let mut longest = 0;
    for _ in 0..10 {
        let Standing::Open { until_ms, unreached: true } = breaker.standing(now) else {
            panic!("{:?}", breaker.standing(now));
        };
        longest = longest.max(until_ms - now);
        now = until_ms;
        assert!(breaker.probe(now));
        breaker.record(Sign::Unreached, Passage::Probe, now, now);
    }
    assert_eq!(longest, LONGEST_UNREACHED_MS);
    const { assert!(UNREACHED_OPEN_MS < LONGEST_UNREACHED_MS) };
}

#[test]
fn one_probe_at_a_time_and_it_decides() {
    let breaker = opened(0);
    assert!(!breaker.probe(OPEN_MS - 1), "not before its time");
    assert_eq!(breaker.standing(OPEN_MS), Standing::Due);
    assert!(breaker.probe(OPEN_MS));
    assert!(!breaker.probe(OPEN_MS), "there is one slot");
    assert_eq!(breaker.standing(OPEN_MS), Standing::Probing { unreached: false });
    breaker.record(Sign::Failure, Passage::Probe, OPEN_MS, OPEN_MS);
    let until_ms = OPEN_MS + 2 * OPEN_MS;
    assert_eq!(breaker.standing(OPEN_MS), Standing::Open { until_ms, unreached: false });
    assert!(breaker.probe(until_ms));
    breaker.record(Sign::Success, Passage::Probe, until_ms, until_ms);
    assert!(closed(&breaker, until_ms));
}

#[test]
fn a_probe_that_says_nothing_gives_its_slot_back() {
    let breaker = opened(0);
    assert!(breaker.probe(OPEN_MS));
    breaker.record(Sign::Neutral, Passage::Probe, OPEN_MS, OPEN_MS);
    assert_eq!(breaker.standing(OPEN_MS), Standing::Due);
    assert!(breaker.probe(OPEN_MS));
}

#[test]
fn open_time_doubles_up_to_its_bound_and_is_forgotten_after_long_health() {
    let breaker = opened(0);
    let mut now = 0;
    let mut before = 0;
    for _ in 0..12 {
        let Standing::Open { until_ms, .. } = breaker.standing(now) else { panic!() };
        let open = until_ms - now;
        assert!(open >= before && open <= LONGEST_OPEN_MS);
        (before, now) = (open, until_ms);
        assert!(breaker.probe(now));
        breaker.record(Sign::Failure, Passage::Probe, now, now);
    }
    assert_eq!(before, LONGEST_OPEN_MS);
    now += LONGEST_OPEN_MS;
    assert!(breaker.probe(now));
    breaker.record(Sign::Success, Passage::Probe, now, now);
    now += FORGOTTEN_MS;
    for _ in 0..IN_A_ROW {
        breaker.record(Sign::Failure, Passage::Closed, now, now);
    }
    let until_ms = now + OPEN_MS;
    assert_eq!(breaker.standing(now), Standing::Open { until_ms, unreached: false });
}

#[test]
fn a_target_that_comes_back_starts_slowly() {
    let breaker = opened(0);
    assert!(breaker.probe(OPEN_MS));
    breaker.record(Sign::Success, Passage::Probe, OPEN_MS, OPEN_MS);
    let percent = |after: u64| match breaker.standing(OPEN_MS + after) {
        Standing::Closed { percent } => percent,
        other => panic!("{other:?}"),
    };
    assert_eq!(percent(0), 10);
    assert_eq!(percent(RAMP_MS / 2), 50);
    assert_eq!(percent(RAMP_MS), 100);
    assert!((0..RAMP_MS).all(|after| percent(after) <= percent(after + 1)));
}

#[test]
fn what_was_asked_before_it_came_back_does_not_open_it_again() {
    let breaker = opened(0);
    assert!(breaker.probe(OPEN_MS));
    breaker.record(Sign::Success, Passage::Probe, OPEN_MS, OPEN_MS);
    for _ in 0..100 {
        breaker.record(Sign::Failure, Passage::Closed, OPEN_MS - 1, OPEN_MS + 1);
    }
    assert!(closed(&breaker, OPEN_MS + 1));
}

#[test]
fn a_success_in_spite_of_it_closes_it() {
    let breaker = opened(0);
    breaker.record(Sign::Failure, Passage::Despite, 1, 2);
    assert_eq!(breaker.standing(2), Standing::Open { until_ms: OPEN_MS, unreached: false });
    breaker.record(Sign::Success, Passage::Despite, 1, 3);
    assert!(closed(&breaker, 3));
}

#[test]
fn a_probe_from_before_has_no_say_in_the_one_that_is_under_way() {
    let breaker = opened(0);
    assert!(breaker.probe(OPEN_MS));
    // One that passed in spite of it closes it; it opens again, and the next probe begins.
    breaker.record(Sign::Success, Passage::Despite, OPEN_MS, OPEN_MS + 1);
    for _ in 0..IN_A_ROW {
        breaker.record(Sign::Failure, Passage::Closed, OPEN_MS + 1, OPEN_MS + 1);
    }
    let later = OPEN_MS + 1 + 2 * OPEN_MS;
    assert!(breaker.probe(later));
    for sign in [Sign::Failure, Sign::Unreached, Sign::Neutral] {
        breaker.record(sign, Passage::Probe, OPEN_MS, later + 1);
        assert_eq!(breaker.standing(later + 1), Standing::Probing { unreached: false });
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Try(u8),
    Stray(u8),
}

fn sign(number: u8) -> Sign {
    match number % 4 {
        0 => Sign::Success,
        1 => Sign::Failure,
        2 => Sign::Unreached,
        _ => Sign::Neutral,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn it_never_lets_two_probes_in_and_never_stays_open_for_good(
        steps in vec(
            prop_oneof![
                (1..20_000_u64).prop_map(Step::Wait),
                any::<u8>().prop_map(Step::Try),
                any::<u8>().prop_map(Step::Stray),
            ],
            1..200,
        ),
    ) {
        let breaker = Breaker::default();
        let (mut now, mut probing, mut since) = (0, false, 0);
        for step in steps {
            match step {
                Step::Wait(ms) => now += ms,
                // A probe that is under way ends; else an attempt comes, and may become one.
                Step::Try(number) if probing => {
                    breaker.record(sign(number), Passage::Probe, since, now);
                    probing = false;
                }
                Step::Try(number) => match breaker.standing(now) {
                    Standing::Closed { percent } => {
                        prop_assert!((10..=100).contains(&percent));
                        breaker.record(sign(number), Passage::Closed, now, now);
                    }
                    Standing::Due => {
                        prop_assert!(breaker.probe(now));
                        (probing, since) = (true, now);
                    }
                    Standing::Open { until_ms, .. } => {
                        prop_assert!(until_ms > now && until_ms - now <= LONGEST_OPEN_MS);
                    }
                    Standing::Probing { .. } => prop_assert!(false, "nobody is probing"),
                },
                // Attempts from before end at any time.
                Step::Stray(number) => {
                    breaker.record(sign(number), Passage::Closed, now.saturating_sub(5_000), now);
                }
            }
            prop_assert!(!(probing && breaker.probe(now)), "a second probe");
            let is_probing = matches!(breaker.standing(now), Standing::Probing { .. });
            prop_assert_eq!(is_probing, probing);
        }
        if probing {
            breaker.record(Sign::Neutral, Passage::Probe, since, now);
        }
        now += LONGEST_OPEN_MS;
        if !closed(&breaker, now) {
            prop_assert!(breaker.probe(now));
            breaker.record(Sign::Success, Passage::Probe, now, now);
        }
        prop_assert!(closed(&breaker, now));
    }
}
