//! What has to hold of requests that ask the same: of answers that are shared, and of copies that go
//! to shadows.

use std::collections::BTreeMap;

use relay::{Outcome, Record};

use super::client::{Saw, Wish};
use super::provider::Called;
use super::{Run, Told};

pub(super) fn check(run: &Run, told: &mut Told) {
    copies(run, told);
    joined(run, told);
    once(run, told);
}

/// A copy is one call to the shadow of its model, charged to nobody.
fn copies(run: &Run, told: &mut Told) {
    let mut calls: BTreeMap<[u8; 16], Vec<&Called>> = BTreeMap::new();
    for call in run.calls.iter().filter(|call| !call.is_stale && call.target.ends_with("/s")) {
        calls.entry(call.by.to_bytes()).or_default().push(call);
    }
    for record in &run.copies {
        let main = run.requests.iter().find(|(wish, _)| Some(wish.id) == record.mirror_of);
        let calls = calls.remove(&record.id.to_bytes()).unwrap_or_default();
        let shadow =
            main.and_then(|(wish, _)| run.drawn.models.get(&wish.asked.model)?.shadow.as_ref());
        let holds = record.is_last
            && record.asked
            && record.caller.chain().levels().next().is_none()
            && main.is_some_and(|(wish, _)| wish.id.mirrored() == record.id)
            && calls.len() == 1
            && shadow == Some(&calls[0].target);
        told.that(holds, || {
            format!(
                "a copy, asked {}, last {}, {:?} {:?} {:?} of {:?}: {calls:?}",
                record.asked,
                record.is_last,
                record.outcome,
                record.fault,
                record.caller.chain().levels().count(),
                main.map(|main| &main.0)
            )
        });
    }
    told.that(calls.is_empty(), || format!("copies without a record: {calls:?}"));
}

/// A request with its records.
type Case<'r> = (&'r Wish, &'r Saw, Vec<&'r Record>);

/// Requests by what they ask.
fn groups(run: &Run) -> BTreeMap<u64, Vec<Case<'_>>> {
    let mut records: BTreeMap<[u8; 16], Vec<&Record>> = BTreeMap::new();
    for record in &run.records {
        records.entry(record.id.to_bytes()).or_default().push(record);
    }
    let mut groups: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for (wish, saw) in &run.requests {
        let records = records.remove(&wish.id.to_bytes()).unwrap_or_default();
        groups.entry(wish.asked.number).or_default().push((wish, saw, records));
    }
    groups
}

/// Whoever has another's answer has all of it, of one who is of the same tenant, and pays nothing.
fn joined(run: &Run, told: &mut Told) {
    let tenant = |wish: &Wish| {
        let key = &run.drawn.keys[wish.key];
        match (&wish.asked.idempotency, &key.team) {
            (None, Some(team)) => format!("team {team}"),
            _ => format!("key {}", key.name),
        }
    };
    for group in groups(run).values() {
        for (wish, saw, records) in group {
            let Some(last) = records.last().filter(|last| last.shared) else { continue };
            let is_free = records.len() == 1 && !last.asked && last.charge.is_none();
            told.that(is_free, || format!("{} shares, and has attempts", wish.id));
            told.that(wish.may_share(&run.drawn), || format!("{} shares", wish.id));
            let led = group.iter().filter(|(other, _, records)| {
                let leads = records.last().is_some_and(|last| !last.shared);
                leads && other.came() <= wish.came() && tenant(other) == tenant(wish)
            });
            let led: Vec<_> = led.collect();
            told.that(!led.is_empty(), || format!("{} shares with nobody", wish.id));
            let all: Vec<_> = led.iter().filter(|(_, other, _)| other.has_all).collect();
            let is_same = |saw: &Saw, other: &Saw| {
                let status = |saw: &Saw| saw.head.as_ref().map(|head| head.status);
                saw.bytes == other.bytes && status(saw) == status(other)
            };
            let is_known = !saw.has_all
                || all.len() < led.len()
                || all.iter().any(|(_, other, _)| is_same(saw, other));
            told.that(is_known, || format!("{} has an answer of its own", wish.id));
        }
    }
}

/// For one `Idempotency-Key` there is one call at a time, and none behind an answer that is whole.
fn once(run: &Run, told: &mut Told) {
    for group in groups(run).values() {
        for key in 0..run.drawn.keys.len() {
            let own = group.iter().filter(|(wish, _, records)| {
                let is_keyed = wish.asked.idempotency.is_some() && wish.may_share(&run.drawn);
                wish.key == key && is_keyed && records.iter().any(|record| record.asked)
            });
            let mut own: Vec<_> = own.collect();
            own.sort_by_key(|(wish, ..)| run.calls.iter().position(|call| call.by == wish.id));
            for pair in own.windows(2) {
                let (first, second) = (&pair[0].2, pair[1].0);
                let last = first.last().unwrap();
                let asked = run.calls.iter().find(|call| call.by == second.id).unwrap();
                let ended = pair[0].0.begins(run.beginning) + last.total;
                told.that(ended <= asked.at, || format!("{} and {} at once", last.id, second.id));
                told.that(last.outcome != Outcome::Complete, || {
                    format!("{} is answered, and {} asked again", last.id, second.id)
                });
            }
        }
    }
}
