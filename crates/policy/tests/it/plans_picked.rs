//! What a plan picks: pure, so every choice is a property of plan, facts, health and random bits.

use std::sync::Arc;

use http::HeaderMap;
use policy::Plan;
use policy::health::breaker::{IN_A_ROW, OPEN_MS, RAMP_MS, UNREACHED_IN_A_ROW, UNREACHED_OPEN_MS};
use policy::health::{Cause, Lease, Next};
use policy::plan::{Facts, Failed, Picker, Reason, Skip};
use policy::scope::Operation;
use proptest::prelude::*;

use crate::given::snapshot;
use crate::plans_written::PROVIDERS;

/// The plan of a model.
pub(crate) fn plan(model: &str) -> Arc<Plan> {
    snapshot(&format!("{PROVIDERS}models:\n  m: {model}\n")).plan("m").unwrap()
}

/// Does something with a request of which little is known.
pub(crate) fn with_facts<T>(
    change: impl FnOnce(&mut Facts<'_>),
    then: impl FnOnce(&Facts<'_>) -> T,
) -> T {
    let headers = HeaderMap::new();
    let mut facts = Facts::new(Operation::Chat, &headers);
    change(&mut facts);
    then(&facts)
}

/// The first target for a caller.
pub(crate) fn first(plan: &Plan, key: &str, random: u64) -> usize {
    let headers = HeaderMap::new();
    let facts = Facts { key: Some(key), ..Facts::new(Operation::Chat, &headers) };
    plan.next(&mut Picker::new(random), &facts, 0).unwrap().target
}

/// All targets in the order in which they would be asked.
pub(crate) fn order(plan: &Plan, change: impl FnOnce(&mut Facts<'_>), random: u64) -> Vec<usize> {
    with_facts(change, |facts| {
        let explained = plan.explain(facts, random, 0);
        explained.candidates.into_iter().map(|(target, _)| target).collect()
    })
}

/// Fails at a target so often that it is ejected.
pub(crate) fn eject(plan: &Plan, target: usize, now: u64) {
    for _ in 0..IN_A_ROW {
        let lease = Lease::begin(&plan.targets()[target].live, false, now).unwrap();
        let _ = lease.failed(Cause::Transient, None, now);
    }
}

fn unplug(plan: &Plan, target: usize, now: u64) {
    for _ in 0..UNREACHED_IN_A_ROW {
        let lease = Lease::begin(&plan.targets()[target].live, false, now).unwrap();
        assert_eq!(lease.failed(Cause::HardDown, None, now), Next::OtherTarget);
    }
}

#[test]
fn a_split_is_within_half_a_percent_of_its_weights() {
    for (weights, text) in [
        (vec![95.0, 5.0], "{ a/x: 95, b/x: 5 }"),
        (vec![50.0, 50.0], "{ a/x: 1, b/x: 1 }"),
        (vec![60.0, 30.0, 10.0], "{ a/x: 6, b/x: 3, c/x: 1 }"),
    ] {
        let plan = plan(&format!("{{ split: {text} }}"));
        let mut counts = vec![0.0_f64; weights.len()];
        for number in 0..100_000 {
            counts[first(&plan, &format!("key-{number}"), number)] += 0.001;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            assert!((count - weight).abs() < 0.5, "{text}: {counts:?}");
        }
    }
}

#[test]
fn without_a_caller_a_split_goes_by_the_random_bits() {
    let plan = plan("{ split: { a/x: 9, b/x: 1 } }");
    let others = (0..10_000).filter(|random| order(&plan, |_| {}, *random)[0] == 1).count();
    assert!((900..=1_100).contains(&others), "{others}");
}

#[test]
fn a_caller_stays_on_a_side_and_moves_only_for_its_weight() {
    let before = plan("{ split: { a/x: 90, b/x: 10 } }");
    let after = plan("{ split: { b/x: 20, a/x: 80 } }");
    let without = plan("{ split: { a/x: 90, c/x: 5 } }");
    let name = |plan: &Plan, target: usize| plan.targets()[target].name();
    for number in 0..2_000_u64 {
        let key = format!("key-{number}");
        let side = name(&before, first(&before, &key, number));
        for random in 0..3 {
            assert_eq!(name(&before, first(&before, &key, random)), side);
        }
        // Whoever was on the side that grows stays there.
        if side == "b/x" {
            assert_eq!(name(&after, first(&after, &key, 0)), "b/x");
        }
        // Whoever was on a side that stays as it is moves only to a new one.
        if side == "a/x" {
            assert_ne!(name(&without, first(&without, &key, 0)), "b/x");
        }
    }
}

#[test]
fn a_user_or_a_header_can_make_a_caller() {
    let mut headers = HeaderMap::new();
    headers.insert("x-user", "u-17".parse().unwrap());
    for (sticky, facts) in [
        ("{ header: X-User }", Facts::new(Operation::Chat, &headers)),
        ("user", Facts { user: Some("u-17"), ..Facts::new(Operation::Chat, &headers) }),
    ] {
        let plan = plan(&format!("{{ split: {{ a/x: 1, b/x: 1 }}, sticky: {sticky} }}"));
        let sides: Vec<usize> = (0..50)
            .map(|random| {
                let key = random.to_string();
                let facts = Facts { key: Some(&key), ..facts };
                plan.next(&mut Picker::new(random), &facts, 0).unwrap().target
            })
            .collect();
        assert!(sides.iter().all(|side| *side == sides[0]), "{sticky}: {sides:?}");
    }
}

#[test]
fn a_fallback_is_asked_in_its_order_and_each_target_once() {
    let plan = plan("{ fallback: [b/x, { balance: [a/x, b/x, c/x] }, a/x] }");
    for random in 0..50 {
        let order = order(&plan, |_| {}, random);
        assert_eq!(order[0], 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2], "{order:?}");
    }
}

#[test]
fn a_case_is_chosen_by_the_request_and_others_are_not_asked() {
    let plan = plan(
        "{ when: [
      { if: { input_over: 32k }, use: a/long },
      { if: { header: { x-tier: 'gold*' } }, use: b/x },
      { if: { team: [search, ads], tools: true }, use: c/x },
      { if: { metadata: { plan: pro } }, use: d/x },
      { if: { hours: '22:00-06:00', days: [fri], zone: Asia/Shanghai }, use: a/night },
      { use: b/rest }] }",
    );
    let mut headers = HeaderMap::new();
    let plain = Facts::new(Operation::Chat, &headers);
    let name = |facts: &Facts<'_>| {
        let explained = plan.explain(facts, 0, 0);
        assert_eq!(explained.candidates.len(), 1, "one case, and no other");
        assert_eq!(explained.skipped.len(), 5);
        assert!(explained.skipped.iter().all(|skipped| skipped.skip == Skip::OtherCase));
        plan.targets()[explained.candidates[0].0].name()
    };
    // 2026-11-20 was a Friday: 22:30 in Shanghai, and 05:59 the next morning.
    let friday = 1_795_185_000_000;
    assert_eq!(name(&plain), "b/rest");
    assert_eq!(name(&Facts { input_tokens: 32_000, ..plain }), "b/rest");
    assert_eq!(name(&Facts { input_tokens: 32_001, ..plain }), "a/long");
    assert_eq!(name(&Facts { team: Some("ads"), ..plain }), "b/rest");
    assert_eq!(name(&Facts { team: Some("ads"), has_tools: true, ..plain }), "c/x");
    assert_eq!(name(&Facts { metadata: &[("plan", "free"), ("plan", "pro")], ..plain }), "b/rest");
    assert_eq!(name(&Facts { metadata: &[("plan", "pro")], ..plain }), "d/x");
    assert_eq!(name(&Facts { unix_ms: friday, ..plain }), "a/night");
    assert_eq!(name(&Facts { unix_ms: friday + 7 * 3_600_000 + 1_799_999, ..plain }), "a/night");
    assert_eq!(name(&Facts { unix_ms: friday + 7 * 3_600_000 + 1_800_000, ..plain }), "b/rest");
    headers.insert("x-tier", "goldfish".parse().unwrap());
    assert_eq!(name(&Facts::new(Operation::Chat, &headers)), "b/x");
    let needs = plan.needs();
    assert!(needs.tokens && needs.content && needs.metadata && !needs.conversation);
}

#[test]
fn private_targets_come_first_and_spill_when_they_are_full() {
    let plan = plan("{ fallback: [{ target: a/x, spill_at: 2 }, c/x] }");
    let pick = || with_facts(|_| {}, |facts| plan.next(&mut Picker::new(0), facts, 0).unwrap());
    let held = [pick(), pick(), pick()];
    assert_eq!(held.iter().map(|one| one.target).collect::<Vec<_>>(), [0, 0, 1]);
    // Where the public one fails, the private one is asked all the same.
    with_facts(
        |_| {},
        |facts| {
            let mut picker = Picker::new(0);
            assert_eq!(plan.next(&mut picker, facts, 0).unwrap().target, 1);
            assert_eq!(plan.next(&mut picker, facts, 0).unwrap().target, 0);
            assert!(plan.next(&mut picker, facts, 0).is_none());
        },
    );
    drop(held);
    assert_eq!(pick().target, 0);
}

#[test]
fn what_is_ejected_is_passed_over_and_comes_back_slowly() {
    let plan = plan("{ fallback: [a/x, b/x] }");
    eject(&plan, 0, 0);
    with_facts(
        |_| {},
        |facts| {
            let mut picker = Picker::new(0);
            assert_eq!(plan.next(&mut picker, facts, 1).unwrap().target, 1);
            let skip = Skip::Ejected { until_ms: OPEN_MS, unreached: false };
            assert_eq!(picker.skipped()[0].skip, skip);
            assert_eq!(picker.retry_after_ms(1), Some(OPEN_MS - 1));
            // The ejected one is no better than a failure.
            assert!(plan.next(&mut picker, facts, 1).is_none());
            // One request finds out whether it is back; the others go on elsewhere.
            let probe = plan.next(&mut Picker::new(0), facts, OPEN_MS).unwrap();
            assert_eq!((probe.target, probe.why.reasons().last()), (0, Some(&Reason::Probe)));
            assert_eq!(plan.next(&mut Picker::new(0), facts, OPEN_MS).unwrap().target, 1);
            probe.lease.succeeded(OPEN_MS);
            let share = |now: u64| {
                let picks = (0..1_000).filter(|random| {
                    plan.next(&mut Picker::new(*random), facts, now).unwrap().target == 0
                });
                picks.count()
            };
            assert!((60..140).contains(&share(OPEN_MS)), "{}", share(OPEN_MS));
            assert!((440..560).contains(&share(OPEN_MS + RAMP_MS / 2)));
            assert_eq!(share(OPEN_MS + RAMP_MS), 1_000);
        },
    );
}

#[test]
fn the_last_target_is_never_ejected_unless_it_cannot_be_reached() {
    for model in ["a/x", "{ fallback: [a/x, b/x] }", "{ balance: [a/x, b/x, c/x] }"] {
        let plan = plan(model);
        for target in 0..plan.targets().len() {
            eject(&plan, target, 0);
        }
        with_facts(
            |_| {},
            |facts| {
                let candidate = plan.next(&mut Picker::new(0), facts, 1).unwrap();
                assert!(candidate.why.reasons().contains(&Reason::InSpite), "{:?}", candidate.why);
            },
        );
    }
    let plan = plan("{ fallback: [a/x, b/x] }");
    unplug(&plan, 0, 0);
    unplug(&plan, 1, 0);
    with_facts(
        |_| {},
        |facts| {
            let mut picker = Picker::new(0);
            assert!(plan.next(&mut picker, facts, 1).is_none(), "refused at once");
            assert_eq!(picker.retry_after_ms(1), Some(UNREACHED_OPEN_MS - 1));
            assert!(plan.next(&mut Picker::new(0), facts, UNREACHED_OPEN_MS).is_some());
        },
    );
}

#[test]
fn an_input_that_is_too_long_goes_only_where_more_is_known_to_fit() {
    let text = format!(
        "{PROVIDERS}prices:
  a/x: {{ input: 1, output: 1, max_input: 8000 }}
  b/x: {{ input: 1, output: 1, max_input: 8000 }}
  c/x: {{ input: 1, output: 1, max_input: 32000 }}
models:
  m: {{ fallback: [a/x, b/x, d/x, c/x] }}
"
    );
    let plan = snapshot(&text).plan("m").unwrap();
    with_facts(
        |_| {},
        |facts| {
            let mut picker = Picker::new(0);
            let candidate = plan.next(&mut picker, facts, 0).unwrap();
            let next = candidate.lease.failed(Cause::ContextTooLong, None, 5);
            assert!(plan.go_on(&mut picker, Failed { next, took_ms: 5 }, 5));
            assert_eq!(plan.next(&mut picker, facts, 5).unwrap().target, 3);
            let skips: Vec<Skip> = picker.skipped().iter().map(|skipped| skipped.skip).collect();
            assert_eq!(skips, [Skip::TooSmall, Skip::TooSmall]);
        },
    );
}

#[test]
fn an_attempt_loop_goes_on_as_long_as_it_may() {
    let plan = plan("{ fallback: [a/x, b/x, c/x, d/x, a/y, b/y] }");
    with_facts(
        |_| {},
        |facts| {
            let go_on = |cause: Cause, took_ms: u64| {
                let mut picker = Picker::new(0);
                let candidate = plan.next(&mut picker, facts, 0).unwrap();
                let next = candidate.lease.failed(cause, None, 0);
                plan.go_on(&mut picker, Failed { next, took_ms }, 0)
            };
            assert!(!go_on(Cause::CallersFault, 1), "the caller gets the error");
            assert!(!go_on(Cause::ContentPolicy, 1));
            assert!(!go_on(Cause::Transient, 20_000), "slow failures are not tried again");
            // The floor of the budget is three a second.
            assert!((0..3).all(|_| go_on(Cause::Transient, 1)));
            assert!(!go_on(Cause::Transient, 1));
            // Whatever the budget says, a request is tried four times at most.
            let mut picker = Picker::new(0);
            let attempts = std::iter::from_fn(|| plan.next(&mut picker, facts, 600_000)).count();
            assert_eq!(attempts, 4);
        },
    );
}

#[test]
fn what_the_caller_may_not_use_is_no_attempt() {
    let plan = plan("{ fallback: [a/1, a/2, a/3, a/4, a/5, b/x, c/x] }");
    eject(&plan, 5, 0);
    eject(&plan, 6, 0);
    with_facts(
        |_| {},
        |facts| {
            let mut picker = Picker::new(0);
            let mut seen = Vec::new();
            while let Some(candidate) = plan.next(&mut picker, facts, 1) {
                seen.push(candidate.target);
                if plan.targets()[candidate.target].name().starts_with('a') {
                    drop(candidate);
                    picker.set_aside();
                }
            }
            // What is ejected is asked, since nothing better could be.
            assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
            assert_eq!(picker.attempts(), 2);
        },
    );
}

#[test]
fn the_same_target_is_asked_again_when_that_is_wished() {
    let plan = plan("a/x");
    with_facts(
        |_| {},
        |facts| {
            let mut picker = Picker::new(0);
            assert!(plan.next(&mut picker, facts, 0).is_some());
            assert!(plan.next(&mut picker, facts, 0).is_none());
            picker.again();
            let again = plan.next(&mut picker, facts, 0).unwrap();
            assert_eq!(again.why.reasons(), [Reason::Again]);
            assert_eq!(again.why.to_string(), "again");
        },
    );
}

#[test]
fn reasons_read_from_the_root_to_the_target() {
    let plan = plan("{ split: [{ balance: [a/x, b/x] }], fallback: [c/x] }");
    with_facts(
        |facts| facts.key = Some("k"),
        |facts| {
            let told: Vec<String> = plan
                .explain(facts, 0, 0)
                .candidates
                .iter()
                .map(|(_, why)| why.to_string())
                .collect();
            assert_eq!(
                told,
                [
                    "tier 1 of 2, the caller's side (1 of 1), the better of two",
                    "tier 1 of 2, the caller's side (1 of 1), the only one left",
                    "tier 2 of 2",
                ]
            );
        },
    );
}

#[test]
fn the_side_of_a_caller_is_told_from_those_that_come_after_it() {
    let plan = plan("{ split: [{ target: a/x, fallback: [b/x] }, c/x] }");
    let reasons = |key: Option<&'static str>| {
        with_facts(
            |facts| facts.key = key,
            |facts| {
                let told = plan.explain(facts, 7, 0).candidates;
                let own = told.iter().map(|(_, why)| why.to_string());
                own.filter(|why| why.contains("next") || why.contains("another")).count()
            },
        )
    };
    // Behind one's own side there is the other one, be it of one target or two.
    for key in [Some("a"), Some("b"), Some("c"), Some("d"), None] {
        assert!((1..=2).contains(&reasons(key)), "{key:?}");
    }
}

#[test]
fn what_is_known_of_a_target_outlasts_a_reload() {
    let text = |models: &str| format!("{PROVIDERS}models:\n{models}");
    let before = snapshot(&text("  m: { fallback: [a/x, b/x] }\n"));
    eject(&before.plan("m").unwrap(), 0, 0);
    let mut after = snapshot(&text("  default: a/x\n  n: { balance: [c/x, a/x] }\n"));
    after.inherit(&before);
    for (model, target) in [("n", 1), ("a/x", 0), ("default", 0)] {
        let plan = after.plan(model).unwrap();
        let standing = plan.targets()[target].live.health.breaker.standing(1);
        assert!(matches!(standing, policy::health::Standing::Open { .. }), "{model}: {standing:?}");
    }
}

/// Any plan of up to four levels over some targets.
fn plans() -> impl Strategy<Value = String> {
    let leaf = ("[abcd]", 0..6_u8).prop_map(|(id, number)| format!("{id}/x{number}"));
    leaf.prop_recursive(4, 24, 4, |inner| {
        let parts = prop::collection::vec(inner, 1..4);
        (parts, 0..8_u8).prop_map(|(mut parts, kind)| {
            // Equal parts beside each other are refused.
            parts.sort();
            parts.dedup();
            let list = parts.join(", ");
            match kind {
                0 | 1 => format!("{{ fallback: [{list}] }}"),
                2 => format!("{{ split: [{list}] }}"),
                3 => format!("{{ balance: [{list}] }}"),
                4 => format!("{{ balance: [{list}], by: round_robin }}"),
                5 => format!("{{ balance: [{list}], by: in_flight, affinity: conversation }}"),
                6 => format!("{{ balance: [{list}], by: cheapest, under: 1s }}"),
                _ => format!("{{ when: [{{ if: {{ tools: true }}, use: {} }}, {{ use: {{ fallback: [{list}] }} }}] }}", parts[0]),
            }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_plan_yields_each_target_at_most_once_and_one_if_there_is_any(
        text in plans(),
        random: u64,
        ejected: u32,
        facts in (any::<bool>(), prop::option::of(any::<u64>())),
    ) {
        // Depth beyond the bound is refused, which is another test.
        let Ok(snapshot) = crate::given::resolved(&format!("{PROVIDERS}models:\n  m: {text}\n"), &[])
        else {
            return Ok(());
        };
        let plan = snapshot.plan("m").unwrap();
        for target in (0..plan.targets().len()).filter(|target| ejected & (1 << (target % 32)) != 0) {
            eject(&plan, target, 0);
        }
        let headers = HeaderMap::new();
        let mut asked = Facts::new(Operation::Chat, &headers);
        (asked.has_tools, asked.conversation) = facts;
        let explained = plan.explain(&asked, random, 1);
        let mut seen: Vec<usize> = explained.candidates.iter().map(|(target, _)| *target).collect();
        prop_assert!(!seen.is_empty(), "{}", text);
        // What is told is what happens, turns aside.
        let mut picker = Picker::new(random);
        let candidate = plan.next(&mut picker, &asked, 1).unwrap();
        prop_assert_eq!(candidate.target, seen[0]);
        prop_assert_eq!(candidate.why, explained.candidates[0].1);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), count, "{}", text);
        // Nobody is asked who is ejected, if somebody is not.
        let is_well = |target: &usize| ejected & (1 << (target % 32)) == 0;
        let passed = explained.candidates.iter().any(|(_, why)| why.reasons().contains(&Reason::InSpite));
        prop_assert!(passed || seen.iter().all(is_well), "{}", text);
    }
}
