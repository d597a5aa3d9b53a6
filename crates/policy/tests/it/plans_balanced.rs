//! How a balance chooses.

use std::collections::HashMap;
use std::sync::Arc;

use policy::Plan;
use policy::health::Lease;
use policy::plan::{Facts, Picker};
use proptest::prelude::*;

use crate::given::snapshot;
use crate::plans_picked::{eject, first, order, plan, with_facts};
use crate::plans_written::PROVIDERS;

/// A plan that balances over so many targets.
fn wide(count: usize, options: &str) -> Arc<Plan> {
    let targets: Vec<String> = (0..count).map(|number| format!("a/x{number}")).collect();
    plan(&format!("{{ balance: [{}]{options} }}", targets.join(", ")))
}

#[test]
fn of_two_the_better_one_is_taken() {
    let plan = wide(2, ", affinity: off");
    for target in plan.targets() {
        target.live.health.first_token.observe(100, 0);
    }
    plan.targets()[0].live.health.first_token.observe(10_000, 0);
    for random in 0..20 {
        assert_eq!(first(&plan, "k", random), 1);
    }
    // Until it has so much to do that it is no better.
    let live = &plan.targets()[1].live;
    let _held: Vec<Lease> = (0..50).map(|_| Lease::begin(live, false, 0).unwrap()).collect();
    assert_eq!(first(&plan, "k", 0), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A mean halves in a minute without news: so many minutes as halvings make it as good as the
    /// others, and one for the lots.
    #[test]
    fn one_that_was_slow_is_measured_again(
        slow in 1_000_u64..60_000,
        fast in 50_u64..1_000,
        count in 2_usize..8,
        by in prop::sample::select(vec!["latency", "fastest", "cheapest, under: 500ms"]),
        seed: u64,
    ) {
        let plan = wide(count, &format!(", affinity: off, by: {by}"));
        let told = |target: usize, ms, now| plan.targets()[target].live.health.first_token.observe(ms, now);
        (0..count).for_each(|target| told(target, if target == 0 { slow } else { fast }, 0));
        let most = u64::from((slow / fast).ilog2()) + 2;
        let back = (1..=most * 60).find(|second| {
            let now = second * 1_000;
            let random = seed.wrapping_add(*second);
            let chosen = with_facts(|_| {}, |facts| {
                plan.next(&mut Picker::new(random), facts, now).unwrap().target
            });
            if chosen != 0 {
                told(chosen, fast, now);
            }
            chosen == 0
        });
        prop_assert!(back.is_some(), "not within {} minutes", most);
    }
}

#[test]
fn two_choices_spread_over_many_and_leave_none_behind() {
    let plan = wide(100, "");
    let held: Vec<Lease> = (0..1_000)
        .map(|random| {
            with_facts(|_| {}, |facts| plan.next(&mut Picker::new(random), facts, 0).unwrap().lease)
        })
        .collect();
    let most = plan.targets().iter().map(|target| target.live.health.in_flight()).max().unwrap();
    // One choice alone would give some target more than twenty.
    assert!(most <= 14, "{most}");
    drop(held);
    assert!(plan.targets().iter().all(|target| target.live.health.in_flight() == 0));
}

#[test]
fn turns_go_round_by_weight() {
    let plan = plan("{ balance: { a/x: 3, b/x: 2, c/x: 1 }, by: round_robin }");
    let turns: Vec<usize> = (0..12).map(|random| first(&plan, "k", random)).collect();
    assert_eq!(turns[..6], turns[6..]);
    for (target, count) in [(0, 3), (1, 2), (2, 1)] {
        assert_eq!(turns[..6].iter().filter(|turn| **turn == target).count(), count, "{turns:?}");
    }
    assert!(turns.windows(3).all(|three| three != [0, 0, 0]), "evenly: {turns:?}");
    // One that is ejected loses its turns to the others.
    eject(&plan, 0, 0);
    let turns: Vec<usize> = (0..6).map(|random| first(&plan, "k", random)).collect();
    assert!(!turns.contains(&0), "{turns:?}");
}

#[test]
fn the_least_in_flight_the_fastest_and_the_cheapest_are_found() {
    let text = format!(
        "{PROVIDERS}prices:
  a/x: {{ currency: CNY, input: 7, output: 0 }}
  b/x: {{ currency: USD, input: 2, output: 0 }}
  c/x: {{ currency: CNY, input: 10, output: 0 }}
exchange: {{ USD/CNY: 7 }}
models:
  least: {{ balance: [a/x, b/x, c/x], by: in_flight }}
  fast: {{ balance: [a/x, b/x, c/x], by: fastest }}
  cheap: {{ balance: [d/x, c/x, b/x, a/x], by: cheapest }}
  under: {{ balance: [a/x, b/x, c/x], by: cheapest, under: 500ms }}
"
    );
    let snapshot = snapshot(&text);
    let name = |model: &str, random: u64| {
        let plan = snapshot.plan(model).unwrap();
        let facts = |facts: &mut Facts<'_>| facts.input_tokens = 1_000;
        plan.targets()[order(&plan, facts, random)[0]].name()
    };
    let plan = snapshot.plan("least").unwrap();
    let target = |index: usize| &plan.targets()[index].live;
    let _held = [0, 0, 2].map(|index| Lease::begin(target(index), false, 0).unwrap());
    for (index, mean) in [(0, 900), (1, 300), (2, 200)] {
        target(index).health.first_token.observe(mean, 0);
    }
    for random in 0..20 {
        assert_eq!(name("least", random), "b/x");
        assert_eq!(name("fast", random), "c/x");
        assert_eq!(name("cheap", random), "a/x");
        // Of those that answer in time, c is cheaper than b.
        assert_eq!(name("under", random), "c/x");
    }
    for _ in 0..100 {
        target(1).health.first_token.observe(5_000, 0);
        target(2).health.first_token.observe(9_000, 0);
    }
    assert_eq!(name("under", 0), "a/x", "nobody keeps it: the fastest");
}

#[test]
fn what_belongs_together_goes_to_one_target_unless_that_has_too_much_to_do() {
    let plan = wide(10, ", affinity: conversation");
    let pick = |key: Option<&'static str>, conversation: Option<u64>, random: u64| {
        with_facts(
            |facts| (facts.cache_key, facts.conversation) = (key, conversation),
            |facts| plan.next(&mut Picker::new(random), facts, 0).unwrap(),
        )
    };
    let home = pick(Some("k"), None, 0).target;
    for random in 0..20 {
        assert_eq!(
            pick(Some("k"), Some(random), random).target,
            home,
            "the cache key counts first"
        );
    }
    let talks: Vec<usize> = (0..50).map(|talk| pick(None, Some(talk), 0).target).collect();
    assert_eq!(talks, (0..50).map(|talk| pick(None, Some(talk), 9).target).collect::<Vec<_>>());
    assert!((0..10).all(|target| talks.contains(&target)), "{talks:?}");
    // A hundred at once of one conversation: nobody gets more than a quarter above the mean.
    let held: Vec<_> = (0..100).map(|random| pick(Some("k"), None, random)).collect();
    let loads: Vec<u32> =
        plan.targets().iter().map(|target| target.live.health.in_flight()).collect();
    assert!(loads.iter().all(|load| *load <= 13), "{loads:?}");
    drop(held);
    assert_eq!(pick(Some("k"), None, 3).target, home, "and back home");
}

#[test]
fn at_most_half_of_a_balance_is_ejected_where_no_tier_comes_after_it() {
    let alone = wide(10, "");
    let reached = |plan: &Plan| {
        let mut counts: HashMap<usize, u32> = HashMap::new();
        with_facts(
            |_| {},
            |facts| {
                for random in 0..500 {
                    let target = plan.next(&mut Picker::new(random), facts, 1).unwrap().target;
                    *counts.entry(target).or_default() += 1;
                }
            },
        );
        counts
    };
    for target in 0..5 {
        eject(&alone, target, 0);
    }
    assert!(reached(&alone).keys().all(|target| *target >= 5), "half of them are left alone");
    eject(&alone, 5, 0);
    assert_eq!(reached(&alone).len(), 10, "more than half: all have to bear it");
    // Where another tier can take the requests, it does.
    let tiers = plan("{ fallback: [{ balance: [a/x, b/x, c/x] }, d/x] }");
    for target in 0..2 {
        eject(&tiers, target, 0);
    }
    assert_eq!(reached(&tiers).into_keys().collect::<Vec<_>>(), [2]);
    eject(&tiers, 2, 0);
    assert_eq!(reached(&tiers).into_keys().collect::<Vec<_>>(), [3]);
}
