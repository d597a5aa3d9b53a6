//! Scopes: what they allow, and when one is within another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::net::IpAddr;
use std::time::Instant;

use policy::scope::{Glob, Network, Operation, Operations, Scope};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn globs(texts: &[&str]) -> Vec<Glob> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn models(texts: &[&str]) -> Scope {
    Scope { models: Some(globs(texts)), ..Scope::default() }
}

fn addresses(allow: &[&str], deny: &[&str]) -> Scope {
    Scope { allow: networks(allow), deny: networks(deny), ..Scope::default() }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_scope_that_says_nothing_allows_everything() {
    let scope = Scope::default();
    assert!(scope.allows_model("any") && scope.allows_address(address("192.0.2.1")));
    assert!(Operation::ALL.iter().all(|operation| scope.allows_operation(*operation)));
}

#[test]
fn a_star_stands_for_any_text() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("gpt-4", &["gpt-4"], &["", "gpt-", "gpt-4o", "xgpt-4", "GPT-4"]),
        ("*", &["", "a", "a/b", "*", "\u{9e4a}\u{6865}"], &[]),
        ("gpt-*", &["gpt-", "gpt-4", "gpt-*"], &["gpt", "xgpt-4", ""]),
        ("*-mini", &["-mini", "o-mini"], &["mini", "o-mini-2"]),
        ("a*a", &["aa", "aba", "aaa"], &["a", "ab", "ba"]),
        (
            "*/ernie-*-*k",
            &["x/ernie-4-8k", "/ernie--k", "a/b/ernie-4-5-k"],
            &["x/ernie-8k", "ernie-4-8k"],
        ),
        ("a*b*c", &["abc", "aXbYc", "abbc", "abcbc"], &["ac", "acb", "ab", "bc"]),
        ("**", &["", "a"], &[]),
        ("a**b", &["ab", "axb"], &["a", "b"]),
        ("*ab*ab*", &["abab", "xabyabz"], &["ab", "aba", "abba"]),
        ("\u{9e4a}*", &["\u{9e4a}\u{6865}"], &["\u{6865}"]),
        ("a?c[d]", &["a?c[d]"], &["abc[d]", "abcd"]),
    ];
    for (pattern, fit, differ) in cases {
        let glob: Glob = pattern.parse().unwrap();
        assert!(fit.iter().all(|name| glob.matches(name)), "{pattern} has to fit {fit:?}");
        assert!(!differ.iter().any(|name| glob.matches(name)), "{pattern} fits one of {differ:?}");
    }
}

#[test]
fn a_pattern_is_of_a_sane_length_and_can_be_printed() {
    for wrong in ["", "a\nb", "a\0", "\u{7f}", &"a".repeat(257)] {
        assert!(wrong.parse::<Glob>().is_err(), "{wrong:?}");
        assert!(serde_json::from_value::<Glob>(wrong.into()).is_err(), "{wrong:?}");
    }
    let long = "*".repeat(256);
    assert_eq!(long.parse::<Glob>().unwrap().as_str(), long);
}

/// S50: a pattern that somebody made to be slow is not.
#[test]
fn no_pattern_takes_long() {
    let glob: Glob = format!("{}b", "*a".repeat(127)).parse().unwrap();
    let (name, start) = ("a".repeat(100_000), Instant::now());
    for _ in 0..100 {
        assert!(!glob.matches(&name));
    }
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn a_list_of_models_allows_those_and_an_empty_one_none() {
    let scope = models(&["chat", "gpt-*"]);
    assert!(scope.allows_model("chat") && scope.allows_model("gpt-4"));
    assert!(!scope.allows_model("chat2") && !scope.allows_model(""));
    assert!(!models(&[]).allows_model("chat") && !models(&[]).allows_model(""));
}

#[test]
fn a_set_of_operations_allows_those() {
    for operation in Operation::ALL {
        assert_eq!(operation.word().parse(), Ok(operation));
        let only =
            Scope { operations: Some([operation].into_iter().collect()), ..Scope::default() };
        for other in Operation::ALL {
            assert_eq!(only.allows_operation(other), operation == other);
        }
        let text = format!("[\"{}\"]", operation.word());
        let read: Operations = serde_json::from_str(&text).unwrap();
        assert_eq!((Some(read), serde_json::to_string(&read).unwrap()), (only.operations, text));
    }
    let none = Scope { operations: Some(Operations::default()), ..Scope::default() };
    assert!(!Operation::ALL.iter().any(|operation| none.allows_operation(*operation)));
    let wrong = "chats".parse::<Operation>().unwrap_err();
    assert!(wrong.contains("`chats` is no operation; there are chat, completion"), "{wrong}");
}

#[test]
fn an_address_is_allowed_by_the_lists_and_denied_first() {
    let scope = addresses(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"], &["10.9.0.0/16"]);
    for inside in ["10.0.0.1", "10.255.255.255", "192.0.2.7", "2001:db8::1", "::ffff:10.0.0.1"] {
        assert!(scope.allows_address(address(inside)), "{inside}");
    }
    for outside in ["10.9.0.1", "::ffff:10.9.0.1", "11.0.0.0", "192.0.2.8", "2001:db9::1", "::1"] {
        assert!(!scope.allows_address(address(outside)), "{outside}");
    }
    let denies = addresses(&[], &["::ffff:10.0.0.0/104"]);
    assert!(!denies.allows_address(address("10.1.2.3")), "an IPv4 network written as an IPv6 one");
    assert!(denies.allows_address(address("11.1.2.3")) && denies.allows_address(address("::1")));
    let v6_only = addresses(&["::/0"], &[]);
    assert!(v6_only.allows_address(address("::1")) && !v6_only.allows_address(address("1.1.1.1")));
}

#[test]
fn a_network_is_exact() {
    for (text, shown) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("fd00::/8", "fd00::/8"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
    }
    let wrongs = ["", "10.0.0", "10.0.0.0/33", "10.0.0.256", "host", "10.0.0.0/", "010.0.0.1", "*"];
    for wrong in wrongs {
        let said = wrong.parse::<Network>().unwrap_err();
        assert!(said.contains("is no network; write for example 10.0.0.0/8"), "{wrong}: {said}");
    }
    let said = "10.0.0.5/8".parse::<Network>().unwrap_err();
    assert_eq!(said, "`10.0.0.5/8` is not exact: write 10.0.0.0/8, or 10.0.0.5 for that one");
}

#[test]
fn a_scope_is_within_one_that_allows_as_much() {
    let everything = Scope::default();
    assert!(models(&["a"]).within(&everything) && !everything.within(&models(&["a"])));
    assert!(models(&["gpt-4*", "chat"]).within(&models(&["chat", "gpt-*"])));
    assert!(!models(&["gpt-*"]).within(&models(&["gpt-4*", "gpt-3*"])));
    assert!(!models(&["*"]).within(&models(&["gpt-*"])));
    assert!(models(&[]).within(&models(&[])) && !models(&["a"]).within(&models(&[])));
    assert!(
        models(&["a*b*c"]).within(&models(&["a*c"])) && models(&["**"]).within(&models(&["*"]))
    );
    assert!(!models(&["a*c"]).within(&models(&["a*b*c"])));

    let inner = addresses(&["10.1.0.0/16", "fd00::1"], &[]);
    assert!(inner.within(&addresses(&["10.0.0.0/8", "fd00::/8"], &[])));
    assert!(inner.within(&addresses(&["10.0.0.0/9", "10.128.0.0/9", "fd00::/8"], &["11.0.0.0/8"])));
    assert!(!inner.within(&addresses(&["10.0.0.0/8"], &[])));
    assert!(!inner.within(&addresses(&[], &["10.1.2.0/24"])), "denied there, allowed here");
    assert!(
        addresses(&["10.1.0.0/16"], &["10.1.2.0/24"]).within(&addresses(&[], &["10.1.2.0/24"]))
    );
    assert!(!everything.within(&addresses(&["10.0.0.0/8"], &[])));
    assert!(!everything.within(&addresses(&[], &["fd00::/8"])));
    assert!(addresses(&[], &["fd00::/8"]).within(&addresses(&[], &["fd00::1"])));
    let halves = addresses(&[], &["fd00::/9", "fd80::/9"]);
    assert!(halves.within(&addresses(&[], &["fd00::/8"])), "together they deny as much");
}

fn any_scope() -> impl Strategy<Value = Scope> {
    const PATTERNS: [&str; 10] = ["*", "a*", "*b", "a*b", "ab", "a", "*a*", "b*a", "", "a*b*"];
    const NETWORKS: [&str; 8] = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.0/9",
        "10.128.0.0/9",
        "10.0.0.1",
        "::/0",
        "fd00::/8",
        "::ffff:10.0.0.0/105",
    ];
    let some_networks = || subsequence(NETWORKS.to_vec(), 0..=4).prop_map(|some| networks(&some));
    let some_globs = subsequence(PATTERNS[..8].to_vec(), 0..=3).prop_map(|some| globs(&some));
    let some_operations = subsequence(Operation::ALL[..3].to_vec(), 0..=3);
    (
        proptest::option::of(some_globs),
        proptest::option::of(some_operations.prop_map(Operations::from)),
        some_networks(),
        some_networks(),
    )
        .prop_map(|(models, operations, allow, deny)| Scope {
            models,
            operations,
            allow,
            deny,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// S13: nobody gets by way of a new key what they do not have.
    #[test]
    fn what_is_within_allows_no_more(
        inner in any_scope(),
        outer in any_scope(),
        name in "[ab*/]{0,6}",
        from in select(vec!["10.0.0.1", "10.0.0.2", "10.200.0.1", "11.0.0.1", "fd00::1", "::1"]),
        asked in select(Operation::ALL[..4].to_vec()),
    ) {
        prop_assert!(inner.within(&inner), "{inner:?}");
        prop_assert!(inner.within(&Scope::default()));
        if inner.within(&outer) {
            prop_assert!(!inner.allows_model(&name) || outer.allows_model(&name));
            prop_assert!(!inner.allows_operation(asked) || outer.allows_operation(asked));
            let from = address(from);
            prop_assert!(!inner.allows_address(from) || outer.allows_address(from));
        }
    }

    /// Every name there is, up to six letters, decides whether a pattern covers another.
    #[test]
    fn covering_is_exact(wide in "[ab*]{1,4}", narrow in "[ab*]{1,4}") {
        let (wide, narrow): (Glob, Glob) = (wide.parse().unwrap(), narrow.parse().unwrap());
        let mut names = vec![String::new()];
        let mut all = true;
        while let Some(name) = names.pop() {
            all &= !narrow.matches(&name) || wide.matches(&name);
            if name.len() < 6 {
                names.extend(["a", "b", "c"].map(|letter| format!("{name}{letter}")));
            }
        }
        prop_assert_eq!(wide.covers(&narrow), all);
    }
}
