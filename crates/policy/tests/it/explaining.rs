//! What is told of plans, callers and retries to whoever asks, without asking a provider.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use policy::UnknownModel;
use policy::directory::{Bar, Chain, Directory, GroupConfig, KeyRecord, Kind, Origin};
use policy::health::{Bench, Credentials, RetryBudget};
use policy::plan::{Facts, metadata};
use policy::scope::Operation;
use proptest::prelude::*;

use crate::given::snapshot;

/// The chain of a key in the team `search`, each with these terms.
fn chain(key: &str, team: &str) -> Chain {
    let directory = Directory::default();
    let config: GroupConfig = serde_json::from_str(team).unwrap();
    directory.put_group(Kind::Team, "search", &config, Origin::File, 0).unwrap();
    let record = KeyRecord {
        id: "key_1".into(),
        name: "ci".into(),
        team: Some("search".into()),
        terms: serde_json::from_str(key).unwrap(),
        ..KeyRecord::default()
    };
    Chain::from(&directory.put_key(&record, Origin::File, 0).unwrap())
}

#[test]
fn whoever_bars_a_call_is_named_with_the_reason() {
    let from: IpAddr = [10, 0, 0, 1].into();
    let bar = |key, team| chain(key, team).bar(Operation::Chat, Some(from), 1_000);
    assert_eq!(bar("{}", "{}"), None);
    assert_eq!(bar(r#"{"enabled": false}"#, "{}"), Some(Bar::Disabled(Kind::Key)));
    assert_eq!(bar("{}", r#"{"enabled": false}"#), Some(Bar::Disabled(Kind::Team)));
    let over = r#"{"expires": "1970-01-01T00:00:01Z"}"#;
    assert_eq!(bar("{}", over), Some(Bar::Expired(Kind::Team)));
    let later = r#"{"expires": "1970-01-01T00:00:02Z"}"#;
    assert_eq!(bar("{}", later), None);
    let embeds = r#"{"operations": ["embedding"]}"#;
    assert_eq!(bar(embeds, "{}"), Some(Bar::Operation(Kind::Key, Operation::Chat)));
    let elsewhere = r#"{"deny": ["10.0.0.0/8"]}"#;
    assert_eq!(bar(elsewhere, "{}"), Some(Bar::Address(Kind::Key, from)));
    // Nobody knows where a call comes from that is only talked about.
    assert_eq!(chain(elsewhere, "{}").bar(Operation::Chat, None, 1_000), None);
    let told = bar(embeds, "{}").unwrap().to_string();
    assert_eq!(told, "The key may not be used for `chat`");
}

#[test]
fn a_model_is_ruled_out_by_the_first_who_does_not_allow_it() {
    let chain = chain(r#"{"models": ["a*"]}"#, r#"{"models": ["*b"]}"#);
    assert_eq!(chain.bars_model("ab"), None);
    assert_eq!(chain.bars_model("ac"), Some(Kind::Team));
    assert_eq!(chain.bars_model("cb"), Some(Kind::Key));
    assert_eq!(chain.bars_model("c"), Some(Kind::Key));
}

#[test]
fn the_facts_of_a_caller_are_its_names_and_its_own_metadata_first() {
    let key = r#"{"metadata": {"tier": "gold"}}"#;
    let chain = chain(key, r#"{"metadata": {"tier": "tin", "centre": "7"}}"#);
    let headers = HeaderMap::new();
    let facts = Facts::new(Operation::Chat, &headers).by(&chain);
    assert_eq!((facts.key, facts.user), (Some("ci"), None));
    assert_eq!((facts.team, facts.org), (Some("search"), None));
    let all = metadata(&chain, [("tier", "made up"), ("mine", "1")]);
    let first = |name| all.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    assert_eq!(
        [first("tier"), first("centre"), first("mine")],
        [Some("gold"), Some("7"), Some("1")]
    );
}

#[test]
fn an_unknown_model_is_told_with_what_was_meant_and_not_at_any_length() {
    let near = |names: &[&str]| UnknownModel {
        nearest: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert_eq!(near(&[]).told("x"), "There is no model `x`.");
    assert_eq!(near(&["a", "b"]).told("c"), "There is no model `c`. Did you mean `a` or `b`?");
    assert_eq!(near(&[]).told(&"鹊".repeat(500)).chars().filter(|c| *c == '鹊').count(), 100);
}

#[test]
fn plans_are_those_of_the_file_the_default_and_what_was_asked_for() {
    let text = "providers: { up: { base_url: 'http://127.0.0.1:9/v1', api_key: k } }\n\
                models: { nick: up/b, 'gpt-*': up/* }\n";
    let snapshot = snapshot(text);
    let names = || -> Vec<String> {
        snapshot.plans().into_iter().map(|(name, _)| name.into_string()).collect()
    };
    let before = names();
    assert!(before.contains(&"nick".to_owned()) && before.contains(&"default".to_owned()));
    assert!(before.is_sorted() && before.iter().all(|name| !name.is_empty()), "{before:?}");
    for asked in ["gpt-x", "", "up/other"] {
        snapshot.plan(asked).unwrap();
    }
    let mut expected = before;
    expected.extend(["gpt-x".to_owned(), "up/other".to_owned()]);
    expected.sort();
    assert_eq!(names(), expected);
    let (_, nick) = snapshot.plans().into_iter().find(|(name, _)| &**name == "nick").unwrap();
    assert!(Arc::ptr_eq(&nick, &snapshot.plan("nick").unwrap()), "the very plan that is asked");
}

/// Whoever calls writes the name, as long as a body may be.
#[test]
fn a_name_of_any_length_is_served_and_only_a_short_one_is_remembered() {
    let text = "providers: { up: { base_url: 'http://127.0.0.1:9/v1', api_key: k } }\n";
    let snapshot = snapshot(text);
    let known = || (snapshot.plans().len(), snapshot.health().known_targets());
    let before = known();
    let name = |bytes: usize| format!("up/{}", "x".repeat(bytes - 3));
    for bytes in [1_100, 1 << 20] {
        let plan = snapshot.plan(&name(bytes)).unwrap();
        assert_eq!(plan.targets()[0].name(), name(bytes));
        assert_eq!(known(), before, "{bytes} bytes");
    }
    snapshot.plan(&name(257)).unwrap();
    assert_eq!(known(), (before.0, before.1 + 1), "how it is outlasts the plan");
    snapshot.plan(&name(256)).unwrap();
    assert_eq!(known(), (before.0 + 1, before.1 + 2));
}

#[test]
fn each_credential_has_its_bench() {
    let benches: Vec<Arc<Bench>> = (0..3).map(|_| Arc::default()).collect();
    let credentials = Credentials::new(benches.clone());
    benches[1].until(50);
    let benched: Vec<_> = credentials.benches().map(|bench| bench.benched(10)).collect();
    assert_eq!(benched, [None, Some(50), None]);
    assert_eq!(Credentials::default().benches().count(), 1);
}

proptest! {
    /// What is left is what can be taken, at once and one after the other.
    #[test]
    fn retries_that_are_left_can_be_taken(
        steps in prop::collection::vec((0..40_usize, 0..6_usize, 0..2_000_u64), 1..20),
    ) {
        let (budget, mut now_ms) = (RetryBudget::default(), 0);
        for (requests, retries, passed) in steps {
            now_ms += passed;
            (0..requests).for_each(|_| budget.earn());
            let left = budget.left(now_ms);
            let taken = (0..retries).filter(|_| budget.spend(now_ms)).count() as u64;
            prop_assert_eq!(taken, left.min(retries as u64));
            if taken == left {
                prop_assert_eq!(budget.left(now_ms), 0);
            }
        }
    }
}

#[test]
fn a_request_comes_to_the_targets_of_its_case_and_to_no_others() {
    let snapshot = snapshot(
        "providers: { a: { profile: sglang }, b: { profile: sglang } }
models:
  m: { when: [{ if: { key: ci }, use: { fallback: [a/x, b/y] } }, { use: b/z }] }
  other: { fallback: [b/x, b/y, b/z] }
",
    );
    let (plan, other) = (snapshot.plan("m").unwrap(), snapshot.plan("other").unwrap());
    let headers = HeaderMap::new();
    let nobody = Facts::new(Operation::Chat, &headers);
    let leads = |facts: &Facts<'_>| -> Vec<bool> {
        let targets = plan.targets().iter().chain(other.targets());
        targets.map(|target| plan.leads_to(&target.route, facts, 0)).collect()
    };
    // a/x, b/y, b/z of the plan itself; b/x, b/y, b/z of another.
    let ci = Facts { key: Some("ci"), ..nobody };
    assert_eq!(leads(&ci), [true, true, false, false, true, false]);
    assert_eq!(leads(&nobody), [false, false, true, false, false, true]);
}
