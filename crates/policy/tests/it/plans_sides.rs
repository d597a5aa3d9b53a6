//! The sides of a split, as an experiment compares them.

use policy::plan::{Sides, StickyTo};

use crate::given::snapshot;
use crate::plans_written::PROVIDERS;

/// Each side's weight and targets.
type Told = Vec<(u32, Vec<String>)>;

/// The sides of a model, and what callers are to them.
fn sides(model: &str) -> Option<(StickyTo, Told)> {
    let snapshot = snapshot(&format!("{PROVIDERS}models:\n  m: {model}\n"));
    let plan = snapshot.plan("m").unwrap();
    let Sides { sticky, sides } = plan.sides()?;
    let names = |targets: Vec<usize>| targets.into_iter().map(|it| plan.targets()[it].name());
    Some((sticky, sides.into_iter().map(|it| (it.weight, names(it.targets).collect())).collect()))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_side_is_where_its_requests_go_when_all_is_well() {
    let plain = vec![(95, names(&["a/x"])), (5, names(&["b/x"]))];
    for (model, sticky, expected) in [
        ("{ split: { a/x: 95, b/x: 5 } }", StickyTo::Key, plain.clone()),
        ("{ split: { a/x: 95, b/x: 5 }, sticky: user, fallback: [c/x] }", StickyTo::User, plain.clone()),
        (
            "{ split: [{ target: a/x, weight: 95, fallback: [b/x] },
                       { target: b/x, weight: 5, fallback: [a/x] }], sticky: { header: x-account } }",
            StickyTo::Header,
            plain,
        ),
        (
            "{ when: [{ if: { team: red }, use: { split: [{ balance: [a/x, b/x] }, c/x] } },
                      { use: c/other }] }",
            StickyTo::Key,
            vec![(1, names(&["a/x", "b/x"])), (1, names(&["c/x"]))],
        ),
    ] {
        assert_eq!(sides(model), Some((sticky, expected)), "{model}");
    }
}

#[test]
fn sides_that_cannot_be_told_apart_are_none() {
    for model in [
        "a/x",
        "{ balance: [a/x, b/x] }",
        "{ split: [{ balance: [a/x, b/x] }, b/x] }",
        "{ split: [{ split: [a/x, b/x] }, c/x] }",
        "{ when: [{ if: { team: red }, use: { split: [a/x, b/x] } },
                  { use: { split: [a/y, b/y] } }] }",
    ] {
        assert_eq!(sides(model), None, "{model}");
    }
}
