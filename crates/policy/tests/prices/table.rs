//! The built-in table.

use std::collections::BTreeSet;
use std::time::Instant;

use policy::money::Currency;
use policy::price::PriceBook;

static TABLE: &str = include_str!("../../data/prices.tsv");

#[test]
fn every_row_can_be_read_and_the_rows_are_in_order() {
    let (sources, rows) = TABLE.split_once("\n\n").unwrap();
    let read: Vec<_> = PriceBook::builtin().rows().collect();
    assert_eq!(read.len(), rows.lines().count(), "a row does not read");
    assert!(read.windows(2).all(|pair| pair[0].0 < pair[1].0), "not sorted, or a row twice");
    for (line, (key, price)) in rows.lines().zip(&read) {
        let is_price = line.contains("\"output\"") || line.contains("\"per_request\"");
        assert_eq!(price.is_some(), is_price, "{key}");
    }
    let numbers: Vec<&str> = sources.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert!(numbers.iter().enumerate().all(|(at, number)| at.to_string() == **number));
}

#[test]
fn every_price_has_a_source_and_a_date() {
    for (key, price) in PriceBook::builtin().rows() {
        let Some(price) = price else { continue };
        let local = price.source().starts_with("nobody bills");
        assert!(price.source().starts_with("https://") || local, "{key}: {}", price.source());
        let date: Vec<&str> = price.as_of().split('-').collect();
        assert!(matches!(date.len(), 2 | 3) && date[0] >= "2026", "{key}: {}", price.as_of());
        assert!(date.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit())), "{key}");
    }
}

#[test]
fn every_row_belongs_to_a_profile() {
    let profiles = providers::builtin().unwrap();
    let known: BTreeSet<&str> = profiles.iter().map(|(id, _)| id.as_str()).collect();
    for (key, _) in PriceBook::builtin().rows() {
        let (profile, model) = key.split_once('/').unwrap();
        assert!(known.contains(profile) && !model.is_empty(), "{key}");
    }
}

#[test]
fn every_row_is_found_by_its_own_name() {
    let book = PriceBook::builtin();
    for (key, price) in book.rows() {
        let (profile, model) = key.split_once('/').unwrap();
        assert_eq!(book.find(profile, model), price, "{key}");
    }
}

#[test]
fn what_is_not_there_has_no_price() {
    let book = PriceBook::builtin();
    for (profile, model) in [
        ("openai", ""),
        ("openai", "gpt-4"),
        ("", ""),
        ("", "x"),
        ("zzz", "x"),
        ("openai", "zzz"),
        ("0", "0"),
    ] {
        let expected = book.rows().find(|(key, _)| *key == format!("{profile}/{model}"));
        assert_eq!(book.find(profile, model), expected.and_then(|row| row.1), "{profile}/{model}");
    }
    assert_eq!(book.find("openai", "no-such-model"), None);
    assert_eq!(book.limits("openai", "no-such-model"), None);
}

#[test]
fn a_local_model_of_any_name_costs_nothing() {
    let price = PriceBook::builtin().find("ollama", "llama3.2:3b").unwrap();
    assert_eq!(price.ceiling(1_000_000, 1_000_000).nanos, 0);
}

#[test]
fn chinese_providers_are_priced_in_yuan_and_others_in_dollars() {
    let book = PriceBook::builtin();
    for (profile, model, currency) in [
        ("qianfan", "ernie-4.5-turbo-128k", Currency::Cny),
        ("deepseek", "deepseek-flash", Currency::Cny),
        ("qwen", "qwen3-max", Currency::Cny),
        ("moonshot", "kimi-k2.6", Currency::Cny),
        ("openai", "gpt-4o-mini", Currency::Usd),
        ("moonshot-intl", "kimi-k2.6", Currency::Usd),
    ] {
        assert_eq!(book.find(profile, model).unwrap().currency(), currency, "{profile}/{model}");
    }
}

#[test]
fn limits_are_known_also_without_a_price() {
    let book = PriceBook::builtin();
    assert_eq!(book.find("xinghe", "ernie-4.5-turbo-vl"), None);
    assert_eq!(book.limits("xinghe", "ernie-4.5-turbo-vl").unwrap().max_output, Some(12_288));
    assert!(book.limits("openai", "gpt-4o-mini").unwrap().max_input.is_some());
}

/// The bounds are wide, for busy machines and builds that are not optimised.
#[test]
fn the_table_is_small_and_looking_up_costs_little() {
    assert!(TABLE.len() < 400_000, "{} bytes", TABLE.len());
    let begun = Instant::now();
    let found = PriceBook::builtin().find("openai", "gpt-4o-mini");
    let first = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..1000 {
        assert_eq!(PriceBook::builtin().find("openai", "gpt-4o-mini"), found);
    }
    let each = begun.elapsed() / 1000;
    println!("first look-up {first:?}, then {each:?}");
    assert!(first.as_millis() < 50 && each.as_micros() < 1000, "first {first:?}, then {each:?}");
}
