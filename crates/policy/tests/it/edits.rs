//! Edits: those of a model come before those of its provider, member by member.

use policy::EditPlan;

use crate::given::snapshot;

/// A plan as text: defaults, force, drop.
fn told(plan: &EditPlan) -> (Vec<String>, Vec<String>, Vec<String>) {
    let pairs = |pairs: &[(Box<str>, Box<str>)]| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
    };
    let drop = plan.drop.iter().map(ToString::to_string).collect();
    (pairs(&plan.defaults), pairs(&plan.force), drop)
}

/// The plan for the model `m`, with these edits at its provider and its own.
fn plan(provider: &str, model: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
    let text = format!(
        "providers:\n  lab: {{ profile: sglang, request: {{ {provider} }} }}\nmodels:\n  m: {{ target: lab/x, {model} }}\n  \"w-*\": {{ target: lab/*, {model} }}\n"
    );
    let snapshot = snapshot(&text);
    let route = snapshot.route("m").unwrap();
    assert_eq!(route.edits, snapshot.route("w-1").unwrap().edits, "a wildcard has them too");
    told(&route.edits)
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn edits_of_both_are_joined() {
    let found = plan(
        "defaults: { a: 1 }, force: { b: 2 }, drop: [c]",
        "defaults: { d: 4 }, force: { e: 5 }, drop: [f]",
    );
    assert_eq!(found, (texts(&["d=4", "a=1"]), texts(&["e=5", "b=2"]), texts(&["f", "c"])));
}

#[test]
fn a_member_that_the_model_mentions_is_the_models_alone() {
    for (provider, model, expected) in [
        ("defaults: { a: 1 }", "defaults: { a: 2 }", (texts(&["a=2"]), texts(&[]), texts(&[]))),
        ("force: { a: 1 }", "defaults: { a: 2 }", (texts(&["a=2"]), texts(&[]), texts(&[]))),
        ("drop: [a]", "force: { a: 2 }", (texts(&[]), texts(&["a=2"]), texts(&[]))),
        ("defaults: { a: 1 }", "drop: [a]", (texts(&[]), texts(&[]), texts(&["a"]))),
        ("drop: [a]", "drop: [a]", (texts(&[]), texts(&[]), texts(&["a"]))),
    ] {
        assert_eq!(plan(provider, model), expected, "{provider} under {model}");
    }
}

#[test]
fn values_of_every_kind_become_json() {
    let found = plan(
        "",
        r#"force: { a: null, b: true, c: "你\n", d: [1, 2.5, { e: f }], g: {}, h: -0.5, i: "1" }"#,
    );
    let expected =
        ["a=null", "b=true", "c=\"你\\n\"", "d=[1,2.5,{\"e\":\"f\"}]", "g={}", "h=-0.5", "i=\"1\""];
    assert_eq!(found.1, texts(&expected));
}

#[test]
fn the_edits_of_a_file_replace_those_of_the_profile() {
    let of = |request: &str| {
        let text = format!("providers:\n  xinghe: {{ api_key: k{request} }}\n");
        let snapshot = snapshot(&text);
        told(&snapshot.provider("xinghe").unwrap().edits)
    };
    assert_eq!(of("").0, texts(&["temperature=0.6"]));
    assert_eq!(of(", request: { drop: [seed] }"), (texts(&[]), texts(&[]), texts(&["seed"])));
    assert_eq!(of(", request: {}"), (texts(&[]), texts(&[]), texts(&[])));
}

#[test]
fn the_default_model_has_the_edits_of_its_provider() {
    let snapshot = snapshot("providers:\n  xinghe: { api_key: k }\n");
    let route = snapshot.default_route();
    assert_eq!(told(&route.edits).0, texts(&["temperature=0.6"]));
    assert!(!route.edits.is_empty() && EditPlan::default().is_empty());
}
