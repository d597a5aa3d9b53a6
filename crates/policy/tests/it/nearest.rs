//! What was meant by a misspelt name.

use policy::nearest;
use proptest::prelude::*;

const NAMES: [&str; 9] = [
    "chat",
    "chat-fast",
    "gpt-4o",
    "gpt-4o-mini",
    "qwen/qwen3-max",
    "xinghe/ernie-4.5-turbo-128k",
    "ernie",
    "模型一号",
    "a",
];

fn near(wanted: &str, count: usize) -> Vec<&'static str> {
    nearest(wanted, NAMES.into_iter(), count)
}

#[test]
fn letters_that_are_wrong_missing_or_too_many_are_forgiven() {
    for (wanted, meant) in [
        ("chta", "chat"),
        ("caht", "chat"),
        ("chatt", "chat"),
        ("CHAT", "chat"),
        ("gpt4o", "gpt-4o"),
        ("gpt-4o-mimi", "gpt-4o-mini"),
        ("qwen3-maxx", "qwen/qwen3-max"),
        ("qwen3-max", "qwen/qwen3-max"),
        ("ernie-4.5-turbo-128", "xinghe/ernie-4.5-turbo-128k"),
        ("xinghe/ernie-4.5-turbo-8k", "xinghe/ernie-4.5-turbo-128k"),
        ("模型1号", "模型一号"),
    ] {
        assert_eq!(near(wanted, 3).first(), Some(&meant), "{wanted}: {:?}", near(wanted, 3));
    }
}

#[test]
fn a_part_of_a_name_finds_the_whole() {
    assert_eq!(near("4o-mini", 3), ["gpt-4o-mini"]);
    assert_eq!(near("turbo", 3), ["xinghe/ernie-4.5-turbo-128k"]);
}

#[test]
fn what_is_too_far_is_not_guessed() {
    for wanted in ["claude-opus", "zzzz", "llama3.3-70b-instruct"] {
        assert!(near(wanted, 3).is_empty(), "{wanted}: {:?}", near(wanted, 3));
    }
}

#[test]
fn the_best_come_first_and_not_too_many() {
    let names = ["aaaa", "aaab", "aabb", "abbb"];
    assert_eq!(nearest("aaaa", names.into_iter(), 2), ["aaaa", "aaab"]);
    assert_eq!(nearest("aaaa", names.into_iter(), 0), [""; 0]);
    assert_eq!(nearest("aaac", names.into_iter(), 9), ["aaaa", "aaab", "aabb"]);
}

#[test]
fn very_long_names_take_no_time() {
    let long = "x".repeat(1_000_000);
    let other = "y".repeat(1_000_000);
    let names: Vec<&str> = (0..1_000).map(|_| other.as_str()).collect();
    let start = std::time::Instant::now();
    nearest(&long[..2_000], names.iter().take(20).copied(), 3);
    assert!(start.elapsed().as_secs() < 5);
}

proptest! {
    #[test]
    fn a_name_is_always_nearest_to_itself(name in "[a-zA-Z0-9./_-]{1,40}") {
        let names = ["other-model", name.as_str(), "third"];
        let found = nearest(&name, names.into_iter(), 1);
        prop_assert_eq!(found.first().map(|found| found.to_lowercase()), Some(name.to_lowercase()));
    }

    #[test]
    fn any_texts_are_compared_without_a_fault(wanted in ".{0,80}", names in prop::collection::vec(".{0,80}", 0..6)) {
        let found = nearest(&wanted, names.iter().map(String::as_str), 3);
        prop_assert!(found.len() <= 3);
    }
}
