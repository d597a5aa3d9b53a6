//! Mirrors: where a share of a model's requests goes as well, which requests those are, how many of
//! them at once, and what is kept of their answers.

use std::sync::Arc;

use policy::health::Health;
use policy::health::mirrored::{Answer, End, Likeness, MOST_AT_ONCE, MOST_BYTES, Mirrored, Room};
use policy::money::{Currency, Money};
use policy::plan::{Mirror, is_drawn};
use proptest::prelude::*;

use crate::given::{problems, snapshot};
use crate::plans_written::PROVIDERS;

fn mirror(model: &str) -> Arc<Mirror> {
    let snapshot = snapshot(&format!("{PROVIDERS}models:\n  m: {model}\n"));
    Arc::clone(snapshot.plan("m").unwrap().mirror().unwrap())
}

/// How many of 100,000 requests are drawn.
fn drawn(mirror: &Mirror) -> usize {
    (0..100_000_u64).filter(|n| mirror.is_drawn(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).count()
}

#[test]
fn every_form_is_read_and_the_share_is_kept() {
    for (written, expected) in [
        ("{ target: a/x, mirror: b/y }", 100_000),
        ("{ target: a/x, mirror: { to: b/y } }", 100_000),
        ("{ target: a/x, mirror: { to: b/y, share: 100 } }", 100_000),
        ("{ target: a/x, mirror: { to: b/y, share: 5 } }", 5_000),
        ("{ target: a/x, mirror: { to: b/y, share: 12.34 } }", 12_340),
        ("{ fallback: [a/x, a/y], mirror: { to: b/y, share: 50 } }", 50_000),
        ("{ target: a/x, mirror: { to: b/y, share: 0.01 } }", 10),
    ] {
        let mirror = mirror(written);
        assert_eq!(mirror.target.name(), "b/y");
        // Five standard deviations.
        let off = drawn(&mirror).abs_diff(expected);
        assert!(off * off <= 25 * expected, "{written}: {off} off");
    }
}

#[test]
fn a_mirror_is_no_target_and_has_the_edits_and_limits_of_its_model() {
    let snapshot = snapshot(&format!(
        "{PROVIDERS}models:\n  m: {{ target: a/x, mirror: b/y, force: {{ user: lab }}, \
         limits: {{ rpm: 10 }}, timeouts: {{ total: 7s }} }}\n  plain: a/x\n",
    ));
    let plan = snapshot.plan("m").unwrap();
    assert_eq!(plan.targets().len(), 1);
    let route = &plan.mirror().unwrap().target.route;
    assert_eq!(&*route.edits.force[0].0, "user");
    assert_eq!(route.clocks.total.as_secs(), 7);
    assert_eq!(&*route.holders.last().unwrap().id, "m");
    assert!(snapshot.plan("plain").unwrap().mirror().is_none());
    assert!(snapshot.plan("b/y").unwrap().mirror().is_none());
}

#[test]
fn the_star_of_a_wildcard_is_filled_in() {
    let text = format!("{PROVIDERS}models:\n  'gpt-*': {{ target: a/x-*, mirror: b/y-* }}\n");
    let snapshot = snapshot(&text);
    let plan = snapshot.plan("gpt-4").unwrap();
    assert_eq!(plan.targets()[0].name(), "a/x-4");
    assert_eq!(plan.mirror().unwrap().target.name(), "b/y-4");
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    let wrong = |model: &str| problems(&format!("{PROVIDERS}models:\n  m: {model}\n"));
    let share =
        "`share` is 0.01 to 100 percent, in steps of 0.01 | write for example 5, 0.5 or 0.01";
    let region =
        "is not known to be in the region `cn` | mirror to another one, or set `region` of d";
    for (model, expected) in [
        ("{ target: a/x, mirror: b }", "7:29 `b` is no target | write provider/model".to_owned()),
        (
            "{ target: a/x, mirror: { share: 5 } }",
            "7:29 `` is no target | write provider/model".to_owned(),
        ),
        ("{ target: a/x, mirror: zz/y }", "7:29 there is no provider `zz` |".to_owned()),
        ("{ target: a/x, mirror: { to: b/y, share: 0 } }", format!("7:47 {share}")),
        ("{ target: a/x, mirror: { to: b/y, share: -1 } }", format!("7:47 {share}")),
        ("{ target: a/x, mirror: { to: b/y, share: 100.01 } }", format!("7:47 {share}")),
        ("{ target: a/x, mirror: { to: b/y, share: 0.001 } }", format!("7:47 {share}")),
        ("{ target: a/x, mirror: { to: b/y, share: .nan } }", format!("7:47 {share}")),
        ("{ target: c/x, mirror: d/y, region: cn }", format!("7:29 the mirror `d` {region}")),
        (
            "{ when: [{ if: { tools: true }, use: { target: c/x, region: cn } }, { use: a/x }], mirror: d/y }",
            format!("the mirror `d` {region}"),
        ),
        (
            "{ target: a/x, mirror: b/y-* }",
            "`m` and its target `y-*` must hold one * each".to_owned(),
        ),
        (
            "{ cascade: [a/x, a/y], mirror: b/y }",
            "a composed model has no targets of its own".to_owned(),
        ),
        ("{ target: a/x, mirror: { to: b/y, shere: 1 } }", "unknown option `shere`".to_owned()),
    ] {
        let told = wrong(model);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(&expected), "{model}:\n{}\n{expected}", told[0]);
    }
}

#[test]
fn what_is_known_of_a_mirror_outlasts_a_reload() {
    let text = format!("{PROVIDERS}models:\n  m: {{ target: a/x, mirror: b/y }}\n");
    let before = snapshot(&text);
    before.plan("m").unwrap().mirror().unwrap().mirrored.drawn();
    let mut after = snapshot(&text);
    after.inherit(&before);
    let (old, new) = (before.plan("m").unwrap(), after.plan("m").unwrap());
    let (old, new) = (old.mirror().unwrap(), new.mirror().unwrap());
    assert!(Arc::ptr_eq(&old.mirrored, &new.mirrored));
    assert!(Arc::ptr_eq(&old.room, &new.room));
    assert!(Arc::ptr_eq(&old.target.live.health, &new.target.live.health));
    let all = after.health().all_mirrored();
    let (model, shadow, mirrored) = &all[0];
    assert_eq!((all.len(), &**model, &**shadow), (1, "m", "b/y"));
    assert_eq!(mirrored.summary().drawn, 1);
}

#[test]
fn there_is_room_for_so_many_and_for_so_many_bytes() {
    let room = Arc::new(Room::default());
    let mut places: Vec<_> = (0..MOST_AT_ONCE).map(|_| room.take(1).unwrap()).collect();
    assert!(room.take(1).is_none());
    places.pop();
    assert!(room.take(MOST_BYTES).is_none());
    let rest = MOST_BYTES - places.len();
    places.push(room.take(rest).unwrap());
    drop(places);
    assert!(room.take(MOST_BYTES + 1).is_none());
    assert!(room.take(MOST_BYTES).is_some());
}

#[test]
fn sums_are_of_pairs_of_which_both_are_whole() {
    let mirrored = Mirrored::default();
    let whole = |ms: u64, nanos: u64| Answer {
        end: End::Whole,
        total_ms: ms,
        first_event_ms: Some(ms / 2),
        cost: Some(Money { nanos, currency: Currency::Cny }),
        output_tokens: ms,
        characters: Some(4 * ms),
    };
    let failed = Answer { end: End::Failed, total_ms: 9_999, ..Answer::default() };
    let like =
        |similarity, same| Likeness { similarity: Some(similarity), same_finish: Some(same) };
    mirrored.ended(&whole(100, 1_000_000), &whole(200, 3_000_000), like(1.0, true));
    mirrored.ended(&whole(300, 3_000_000), &whole(400, 5_000_000), like(0.5, false));
    mirrored.ended(&whole(300, 1), &failed, Likeness::default());
    mirrored.ended(&failed, &failed, Likeness::default());
    mirrored.ended(&Answer::default(), &whole(1, 1), Likeness::default());
    let summary = mirrored.summary();
    assert_eq!((summary.ended, summary.compared), (5, 2));
    assert_eq!((summary.main.errors, summary.shadow.errors), (1, 2));
    assert_eq!((summary.similarity, summary.same_finish), (Some(0.75), Some(0.5)));
    let (main, shadow) = (summary.main.total_ms.unwrap(), summary.shadow.total_ms.unwrap());
    assert_eq!(
        (main.mean.to_bits(), shadow.mean.to_bits()),
        (200_f64.to_bits(), 300_f64.to_bits())
    );
    assert_eq!(summary.main.first_event_ms.unwrap().mean.to_bits(), 100_f64.to_bits());
    assert_eq!(summary.main.characters, Some(800.0));
    assert_eq!(summary.main.cost.as_deref(), Some("¥0.002"));
    assert_eq!(summary.shadow.cost.as_deref(), Some("¥0.004"));
}

#[test]
fn sums_that_nothing_names_make_room_for_others() {
    let health = Health::default();
    for number in 0..2 * policy::health::MOST_KEPT {
        health.mirrored("m", &number.to_string()).drawn();
    }
    assert!(health.all_mirrored().len() <= policy::health::MOST_KEPT);
}

proptest! {
    #[test]
    fn the_draw_is_the_same_each_time_and_a_larger_share_draws_all_of_a_smaller(
        random in any::<u64>(), a in 1..=10_000_u16, b in 1..=10_000_u16,
    ) {
        prop_assert_eq!(is_drawn(a, random), is_drawn(a, random));
        let (small, large) = (a.min(b), a.max(b));
        prop_assert!(!is_drawn(small, random) || is_drawn(large, random));
        prop_assert!(is_drawn(10_000, random));
    }
}
