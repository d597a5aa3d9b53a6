//! Requests, a page at a time.

use std::collections::BTreeSet;

use ledger::{By, Closing, Cursor, Filter, Opening, Reader, RequestId, Who};
use proptest::prelude::*;

use crate::world::{NOON, closing, folder, id_at, open, opening, options};

/// Reads every page, and what is on them.
fn all(reader: &Reader, filter: &Filter, limit: usize) -> Vec<(u64, RequestId)> {
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = reader.requests(filter, after, limit).unwrap();
        assert!(page.requests.len() <= limit);
        found.extend(page.requests.iter().map(|it| (it.last.ended_ms, it.last.id)));
        let Some(next) = page.next else { return found };
        let text = next.to_string();
        assert_eq!(text.parse::<Cursor>(), Ok(next));
        after = Some(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn pages_together_hold_every_request_once_in_order(
        times in prop::collection::vec((0..50_u64, 0..90_000_u64, 0..3_usize), 0..60),
        limit in 1..20_usize,
    ) {
        let folder = folder();
        let (ledger, _) = open(&options(folder.path()));
        let mut writer = ledger.writer().unwrap();
        let mut wrote = Vec::new();
        for (number, (at, took, who)) in times.iter().enumerate() {
            let id = id_at(NOON + at, number as u64);
            let key = ["a", "b", "c"][*who];
            let who = Who { key: Some(key), ..Who::default() };
            writer.opening(&Opening { id, at_ms: NOON + at, who, ..opening(0) }).unwrap();
            let at_ms = NOON + at + took;
            writer.closing(&Closing { id, at_ms, ..closing(0) }).unwrap();
            wrote.push((at_ms, id, key));
        }
        ledger.flush().unwrap();
        wrote.sort_unstable();
        wrote.reverse();
        let reader = ledger.reader().unwrap();
        let every: Vec<_> = wrote.iter().map(|(at, id, _)| (*at, *id)).collect();
        prop_assert_eq!(all(&reader, &Filter::default(), limit), every);
        let of_a: Vec<_> =
            wrote.iter().filter(|(.., key)| *key == "a").map(|(at, id, _)| (*at, *id)).collect();
        prop_assert_eq!(all(&reader, &Filter::only(By::Key, "a"), limit), of_a);
        let (from, to) = (NOON + 10_000, NOON + 60_000);
        let between = Filter { from_ms: Some(from), to_ms: Some(to), ..Filter::default() };
        let within: Vec<_> = wrote
            .iter()
            .filter(|(at, ..)| (from..to).contains(at))
            .map(|(at, id, _)| (*at, *id))
            .collect();
        prop_assert_eq!(all(&reader, &between, limit), within);
    }
}

#[test]
fn what_comes_in_meanwhile_does_not_move_the_next_page() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    let mut write = |number| {
        writer.opening(&opening(number)).unwrap();
        writer.closing(&closing(number)).unwrap();
    };
    (0..10).for_each(&mut write);
    ledger.flush().unwrap();
    let reader = ledger.reader().unwrap();
    let first = reader.requests(&Filter::default(), None, 5).unwrap();
    (10..20).for_each(&mut write);
    ledger.flush().unwrap();
    let second = reader.requests(&Filter::default(), first.next, 100).unwrap();
    let ids: BTreeSet<_> =
        first.requests.iter().chain(&second.requests).map(|it| it.last.id).collect();
    assert_eq!((ids.len(), second.requests.len(), second.next), (10, 5, None));
}

#[test]
fn outcomes_and_failures_can_be_asked_for() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for number in 0..9 {
        writer.opening(&opening(number)).unwrap();
        let closing = closing(number);
        writer
            .closing(&match number % 3 {
                0 => closing,
                1 => Closing { status: 502, outcome: "provider_error", ..closing },
                _ => Closing { fault: Some("cut"), outcome: "truncated", ..closing },
            })
            .unwrap();
    }
    ledger.flush().unwrap();
    let reader = ledger.reader().unwrap();
    let count = |filter: Filter| all(&reader, &filter, 100).len();
    assert_eq!(count(Filter { failed: Some(true), ..Filter::default() }), 6);
    assert_eq!(count(Filter { failed: Some(false), ..Filter::default() }), 3);
    assert_eq!(count(Filter { outcome: Some("truncated".into()), ..Filter::default() }), 3);
    assert_eq!(count(Filter { outcome: Some("x' OR 1=1 --".into()), ..Filter::default() }), 0);
    assert_eq!(count(Filter::only(By::Model, "x' OR 1=1 --")), 0);
    assert_eq!(count(Filter { org: Some("acme".into()), ..Filter::only(By::Key, "key_a") }), 9);
    assert_eq!(count(Filter { org: Some("other".into()), ..Filter::only(By::Key, "key_a") }), 0);
}

#[test]
fn a_place_that_is_none_is_refused() {
    for text in ["", ".", "zz.req_0", "1a", "1.req_12", "-1.req_00000000000000000000000000000000"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
}
