//! Plans as written: every form is read, and what is wrong is told with its place.

use crate::given::{goes, problems, snapshot};

/// Providers without keys, each somewhere. Whoever runs `sglang` pays for no token.
pub(crate) const PROVIDERS: &str = "providers:
  a: { profile: sglang }
  b: { profile: sglang }
  c: { profile: sglang, region: cn }
  d: { profile: openai-compatible, base_url: 'http://d/v1', auth: optional, region: us }
";

/// The targets of a model.
fn targets(model: &str) -> Vec<String> {
    let snapshot = snapshot(&format!("{PROVIDERS}models:\n  m: {model}\n"));
    snapshot.plan("m").unwrap().targets().iter().map(policy::plan::Target::name).collect()
}

/// The problems of a model that stands on line 7, from column 6.
fn wrong(model: &str) -> Vec<String> {
    problems(&format!("{PROVIDERS}models:\n  m: {model}\n"))
}

#[test]
fn every_form_is_read() {
    for (model, expected) in [
        ("a/x", vec!["a/x"]),
        ("{ target: a/x }", vec!["a/x"]),
        ("{ fallback: [a/x, { balance: [b/x, c/x], by: latency }] }", vec!["a/x", "b/x", "c/x"]),
        ("{ split: { a/x: 95, b/x: 5 }, sticky: key }", vec!["a/x", "b/x"]),
        ("{ split: { a/x: 1 }, sticky: { header: X-User } }", vec!["a/x"]),
        ("{ split: [a/x, { target: b/x, weight: 3 }], sticky: user }", vec!["a/x", "b/x"]),
        ("{ split: { a/x: 90, b/x: 10 }, fallback: [c/x] }", vec!["a/x", "b/x", "c/x"]),
        ("{ target: a/x, spill_at: 4, fallback: [c/x], region: cn }", vec!["a/x", "c/x"]),
        (
            "{ when: [{ if: { input_over: 32k }, use: a/long }, { use: b/x }] }",
            vec!["a/long", "b/x"],
        ),
        ("{ balance: { a/x: 3, b/x: 1 }, by: round_robin, affinity: off }", vec!["a/x", "b/x"]),
        ("{ balance: [a/x, b/x], by: cheapest, under: 2s }", vec!["a/x", "b/x"]),
        ("{ fallback: [a/x, { balance: [a/x, b/x] }] }", vec!["a/x", "b/x"]),
        // What has no weight is not there.
        ("{ split: { a/x: 0, b/x: 1 } }", vec!["b/x"]),
        (
            "{ when: [{ if: { header: { x-tier: [gold, 'plat*'] }, metadata: { cost: 4711 }, \
             key: ci, team: [a, b], org: acme, user: ada, operations: [chat], input_up_to: 8k, \
             tools: true, images: false, hours: '22:00-06:00', days: [sat, sun], \
             zone: Asia/Shanghai }, use: a/x }, { use: { fallback: [b/x, c/x] } }] }",
            vec!["a/x", "b/x", "c/x"],
        ),
    ] {
        assert_eq!(targets(model), expected, "{model}");
    }
}

#[test]
fn block_style_is_read_as_well() {
    let snapshot = snapshot(&format!(
        "{PROVIDERS}models:
  m:
    when:
      - if:
          input_over: 32k
        use: a/long
      - use:
          fallback:
            - balance:
                b/x: 2
                c/x: 1
            - target: d/x
    limits: {{ rpm: 60 }}
"
    ));
    let plan = snapshot.plan("m").unwrap();
    assert_eq!(plan.targets().len(), 4);
    assert!(plan.targets().iter().all(|target| !target.route.holders.is_empty()));
}

#[test]
fn a_route_is_the_first_target() {
    let snapshot = snapshot(&format!(
        "{PROVIDERS}models:
  default: {{ fallback: [a/x, b/x] }}
  'gpt-*': {{ fallback: [b/gpt-*, c/*-turbo] }}
"
    ));
    assert_eq!(goes(&snapshot, ""), Ok("a/x".into()));
    assert_eq!(goes(&snapshot, "gpt-5"), Ok("b/gpt-5".into()));
    assert_eq!(goes(&snapshot, "d/y"), Ok("d/y".into()));
    let plan = snapshot.plan("gpt-5").unwrap();
    let names: Vec<String> = plan.targets().iter().map(policy::plan::Target::name).collect();
    assert_eq!(names, ["b/gpt-5", "c/5-turbo"]);
    assert_eq!(snapshot.plan("").unwrap().targets().len(), 2);
    assert_eq!(snapshot.plan("d/y").unwrap().targets().len(), 1);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (model, expected) in [
        ("{ fallback: [] }", "7:18 `fallback` names no target | list at least one"),
        (
            "{ split: {} }",
            "7:15 `split` names no target | for example { qwen/qwen-max: 95, glm/glm-5: 5 }",
        ),
        ("{ split: { a/x: 0 } }", "7:15 every weight is 0 | give one of them a weight"),
        (
            "{ split: { a/x: 1000001 } }",
            "7:22 a weight is at most 1000000 | weights count in relation to each other",
        ),
        (
            "{ target: a/x, balance: [b/x] }",
            "7:6 one of `target`, `split`, `balance` and `when` is enough | put one into the \
             other, or `fallback` beside it",
        ),
        (
            "{ target: a/x, sticky: key }",
            "7:29 `sticky` means nothing without `split` | leave it out, or add `split`",
        ),
        (
            "{ balance: [a/x], under: 2s }",
            "7:31 `under` means nothing without `by: cheapest` | leave it out, or add `by: cheapest`",
        ),
        (
            "{ fallback: [{ target: a/x, weight: 2 }] }",
            "7:42 `weight` means nothing without a part of a `split` or `balance` | leave it out, \
             or add a part of a `split` or `balance`",
        ),
        (
            "{ balance: [a/x, b/x, a/x] }",
            "7:17 part 3 stands there before | name each once, and give it a weight if it shall \
             count more",
        ),
        (
            "{ when: [{ if: { tools: true }, use: a/x }] }",
            "7:14 a request that fits no case has no target | end with a case that has `use` alone",
        ),
        (
            "{ when: [{ use: a/x }, { use: b/x }] }",
            "7:15 no case behind this one is ever reached | give it an `if`, or put it at the end",
        ),
        (
            "{ when: [{ if: {}, use: a/x }, { use: b/x }] }",
            "7:21 a condition without anything in it fits everything | for example \
             { header: { x-tier: gold }, input_over: 32k }",
        ),
        (
            "{ fallback: [c/x, d/x], region: cn }",
            "7:24 `d` is in the region `us`, outside `cn` | take it out, or set `region` of d",
        ),
        (
            "{ target: a/x, spill_at: 0 }",
            "7:31 `spill_at: 0` would never prefer it | write 1 or more",
        ),
        (
            "{ fallback: [a/x, nobody/x] }",
            "7:24 there is no provider `nobody` | name it under providers: where a file has them, only those are served",
        ),
        ("{ fallback: [a/x, { balance: [b] }] }", "7:36 `b` is no target | write provider/model"),
        (
            "{ split: { a/x: 1 }, sticky: { header: 'no header' } }",
            "7:35 `no header` is no name of a header | for example `sticky: { header: x-user }`",
        ),
    ] {
        assert_eq!(wrong(model), [expected], "{model}");
    }
}

#[test]
fn a_model_in_place_of_a_target_is_told_as_such() {
    let hint = "7:24 `m` is no target | a plan is made of targets: write those of `m` here";
    assert_eq!(wrong("{ fallback: [a/x, m] }"), [hint]);
}

#[test]
fn a_misspelt_word_is_told_with_the_right_one() {
    let found = wrong("{ fallback: [{ balance: [a/x], by: cheap }] }");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`cheap` is not a value of this option"), "{found:?}");
    let found = wrong("{ fallback: [{ blance: [a/x] }] }");
    assert!(found[0].contains("unknown option `blance` | did you mean `balance`?"), "{found:?}");
    let found = wrong("{ when: [{ if: { heeder: { a: b } }, use: a/x }, { use: a/x }] }");
    assert!(found[0].contains("did you mean `header`?"), "{found:?}");
}

#[test]
fn a_condition_that_cannot_be_is_told() {
    for (condition, message) in [
        ("{ input_over: 8k, input_up_to: 8k }", "no input is over 8000 and up to 8000 tokens"),
        ("{ hours: '25:00-26:00' }", "are no hours of a day"),
        ("{ hours: '8:00-9:00', zone: Asia/Shanghigh }", "`Asia/Shanghigh` is no time zone"),
        ("{ zone: Asia/Shanghai }", "`zone` says nothing without `hours` or `days`"),
        ("{ header: { 'a b': x } }", "`a b` is no name of a header"),
        ("{ key: [] }", "a list without texts fits nothing"),
        ("{ key: '' }", "a text is empty"),
    ] {
        let found =
            wrong(&format!("{{ when: [{{ if: {condition}, use: a/x }}, {{ use: b/x }}] }}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("7:21 ") && found[0].contains(message), "{found:?}");
        assert!(found[0].contains(" | for example { header: "), "{found:?}");
    }
}

#[test]
fn plans_are_bounded() {
    let nested = (0..5).fold("a/x".to_owned(), |inner, _| format!("{{ fallback: [{inner}] }}"));
    let found = wrong(&nested);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("a plan is at most 4 levels deep"), "{found:?}");
    let many: Vec<String> = (0..257).map(|number| format!("a/x{number}")).collect();
    let found = wrong(&format!("{{ balance: [{}] }}", many.join(", ")));
    assert!(found[0].contains("a model has at most 256 targets"), "{found:?}");
    assert_eq!(targets(&format!("{{ balance: [{}] }}", many[1..].join(", "))).len(), 256);
}

#[test]
fn prices_that_cannot_be_compared_are_told_as_a_warning() {
    let text = |exchange: &str| {
        format!(
            "{PROVIDERS}prices:
  a/x: {{ currency: CNY, input: 1, output: 2 }}
  b/x: {{ currency: USD, input: 1, output: 2 }}
models:
  m: {{ balance: [a/x, b/x, d/x], by: cheapest }}
{exchange}"
        )
    };
    let warnings = snapshot(&text("")).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("b/x has its price in USD"), "{warnings:?}");
    assert!(warnings[1].contains("no price of d/x is known"), "{warnings:?}");
    assert_eq!(snapshot(&text("exchange: { USD/CNY: 7 }\n")).warnings.len(), 1);
}
