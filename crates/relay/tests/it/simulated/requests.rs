//! What has to hold of each request: between what its client saw, what its providers got, and what
//! is recorded.

use std::collections::BTreeMap;

use relay::{Outcome, Provenance, Record};
use serde_json::Value;

use super::client::{Saw, Wish};
use super::config::{CHEAP, Drawn, Model};
use super::provider::Called;
use super::saying::{Kind, pieces};
use super::{Run, Told};
use crate::world::{millis, seconds};

/// All there is of one request.
struct Case<'r> {
    wish: &'r Wish,
    saw: &'r Saw,
    records: Vec<&'r Record>,
    /// Of itself.
    calls: Vec<&'r Called>,
    model: Model,
    run: &'r Run,
    drawn: &'r Drawn,
}

pub(super) fn check(run: &Run, told: &mut Told) {
    let mut records: BTreeMap<[u8; 16], Vec<&Record>> = BTreeMap::new();
    for record in &run.records {
        records.entry(record.id.to_bytes()).or_default().push(record);
    }
    let mut calls: BTreeMap<[u8; 16], Vec<&Called>> = BTreeMap::new();
    for call in run.calls.iter().filter(|call| !call.is_stale) {
        calls.entry(call.by.to_bytes()).or_default().push(call);
    }
    for (wish, saw) in &run.requests {
        let id = wish.id.to_bytes();
        let (records, calls) = (records.remove(&id), calls.remove(&id));
        let (records, calls) = (records.unwrap_or_default(), calls.unwrap_or_default());
        let model = run.drawn.models.get(&wish.asked.model).cloned().unwrap_or_default();
        Case { wish, saw, records, calls, model, run, drawn: &run.drawn }.check(told);
    }
    told.that(records.is_empty(), || "records of requests that nobody made".into());
}

impl Case<'_> {
    fn check(&self, told: &mut Told) {
        let mut here = Told::default();
        let lasts = self.records.iter().filter(|record| record.is_last).count();
        here.that(lasts == 1, || format!("{lasts} last records"));
        let gone = self.records.iter().filter(|it| it.outcome == Outcome::ClientGone).count();
        here.that(gone == 0 || self.saw.left, || "a client is gone that is there".into());
        if let Some(last) = self.records.last() {
            here.that(last.is_last, || "a record after the last one".into());
            self.attempts(last, &mut here);
            self.bills(&mut here);
            self.ways(last, &mut here);
            self.end(last, &mut here);
            self.delays(last, &mut here);
        }
        if self.wish.asked.kind.is_forwarded() {
            self.forwarded(&mut here);
        }
        self.time(&mut here);
        let text = self.events(&mut here);
        self.text(&text, &mut here);
        if !here.0.is_empty() {
            told.0.push(format!("{}\n  {}", here.0.join("\n"), self.story()));
        }
    }

    /// Each attempt has its number, its record and its call, in this order.
    fn attempts(&self, last: &Record, here: &mut Told) {
        let asked = self.asked();
        let numbers: Vec<_> = asked.iter().map(|record| usize::from(record.attempt)).collect();
        here.that(numbers.iter().copied().eq(1..=asked.len()), || format!("attempts {numbers:?}"));
        here.that(usize::from(last.attempts) == asked.len(), || {
            format!("{} of {} attempts are told", last.attempts, asked.len())
        });
        let others = self.records.iter().filter(|record| !record.asked && !record.is_last).count();
        here.that(others == 0, || format!("{others} records of nothing"));
        let target = |record: &Record| {
            let route = record.route.as_ref().unwrap();
            format!("{}/{}", route.provider.id, route.upstream_model)
        };
        let recorded: Vec<_> = asked.iter().map(|record| target(record)).collect();
        let called: Vec<_> = self.calls.iter().map(|call| call.target.clone()).collect();
        here.that(recorded == called, || format!("recorded {recorded:?}, called {called:?}"));
        let Some(head) = &self.saw.head else { return };
        let late = self.calls.iter().filter(|call| call.tick > head.tick).count();
        // An answer that is shared goes on by itself, and its reader comes to it when it comes.
        if self.may_share() {
            return;
        }
        let told = head.attempts.map(|told| usize::from(told) + late);
        here.that(told.is_none_or(|told| told == usize::from(last.attempts)), || {
            format!("the head tells of {:?} attempts, not {}", head.attempts, last.attempts)
        });
        here.that(late == 0 || self.model.resumes, || {
            format!("{late} calls after the client had its head")
        });
    }

    /// The records of attempts, by their numbers.
    fn asked(&self) -> Vec<&Record> {
        let mut asked: Vec<_> = self.records.iter().copied().filter(|it| it.asked).collect();
        asked.sort_by_key(|record| record.attempt);
        asked
    }

    /// What providers told of their use is recorded, each with its attempt.
    fn bills(&self, here: &mut Told) {
        for (record, call) in self.asked().into_iter().zip(&self.calls) {
            if record.provenance == Provenance::Reported {
                let (output, told) = (record.usage.map(|it| it.output), call.output);
                here.that(output == told, || format!("{output:?} recorded, {told:?} told"));
            }
            let is_whole = record.outcome == Outcome::Complete && call.act.is_good();
            here.that(!is_whole || call.output.is_none() || record.charge.is_some(), || {
                format!("nothing charged for {call:?}")
            });
            let is_told = record.provenance == Provenance::Reported || call.output.is_none();
            here.that(!is_whole || is_told, || format!("not as told: {call:?}"));
            let key = call.idempotency.as_ref().filter(|_| record.attempt > 1);
            here.that(key.is_none(), || format!("{key:?} at attempt {}", record.attempt));
        }
    }

    /// Nobody is asked but for what the model's plan names and the key may use.
    fn ways(&self, last: &Record, here: &mut Told) {
        let asked = &self.wish.asked;
        let targets = self.drawn.targets(&asked.model);
        for call in &self.calls {
            here.that(targets.contains(&call.target), || format!("{} was called", call.target));
            here.that(call.has_own_credential, || format!("a strange key for {}", call.target));
            here.that(call.asks == asked.number, || format!("it asks {}", call.asks));
        }
        let models = self.drawn.keys[self.wish.key].models.as_ref();
        let may = |model: &str| models.is_none_or(|models| models.iter().any(|it| it == model));
        here.that(may(&asked.model) || self.calls.is_empty(), || "the key may not".into());
        let is_known = *last.model == *asked.model || *last.model == *CHEAP;
        here.that(is_known, || format!("recorded for {}", last.model));
        let has_answer = last.asked || last.shared;
        here.that(may(&last.model) || !has_answer, || format!("the key may not {}", last.model));
    }

    /// What may leave something behind is sent on only where nobody has begun with it.
    fn forwarded(&self, here: &mut Told) {
        let before = self.calls.split_last().map_or(&[][..], |(_, before)| before);
        let begun = before.iter().filter(|call| !call.act.is_unbegun()).count();
        here.that(self.wish.asked.kind == Kind::Rerank || begun == 0, || {
            format!("{begun} may have begun with it")
        });
    }

    /// What is recorded of the end is what the client saw of it.
    fn end(&self, last: &Record, here: &mut Told) {
        use Outcome::{
            ClientGone, Complete, ProviderError, Refused, Shed, TimedOut, Truncated, Unreachable,
        };
        let Self { saw, .. } = self;
        let outcome = last.outcome;
        let Some(head) = &saw.head else {
            let is_gone = outcome == ClientGone || self.may_share();
            here.that(saw.left && is_gone, || format!("no head, and {outcome:?}"));
            return;
        };
        // What is not understood can only be broken off.
        let is_shed = self.wish.asked.kind.is_forwarded() && outcome == Shed;
        here.that(!saw.broke || is_shed, || "the body broke off".into());
        let is_apart = self.model.is_composed || self.may_share();
        here.that(head.status.as_u16() == last.status, || {
            format!("{} for the client, {} in the record", head.status, last.status)
        });
        let text = String::from_utf8_lossy(&saw.bytes);
        let failed = matches!(outcome, ProviderError | Truncated | TimedOut | Shed);
        let holds = match (head.status.is_success(), head.streams) {
            (false, _) if saw.left && last.shared => true,
            (false, _) => failed || matches!(outcome, Refused | Unreachable),
            (true, false) if saw.left && (last.shared || self.wish.asked.kind.is_forwarded()) => {
                matches!(outcome, Complete | ClientGone)
            }
            (true, false) => outcome == Complete || is_shed,
            (true, true) if is_error(&text) => {
                // The last who was to go on with it was not there.
                failed || self.model.resumes && outcome == Unreachable
            }
            (true, true) if text.contains("[DONE]") => outcome == Complete,
            // Theirs may be whole, or have failed, before the client has read a byte.
            (true, true) if saw.left && is_apart => {
                failed || matches!(outcome, ClientGone | Complete | Unreachable)
            }
            (true, true) if saw.left => {
                outcome == ClientGone || outcome == Complete && text.contains(r#""stop""#)
            }
            (true, true) => outcome == Complete,
        };
        here.that(holds, || format!("{outcome:?} for what the client saw"));
        // Where an answer has failed, it is told who would have been asked next.
        if head.status.is_success()
            && let (Some(target), Some(route)) = (&head.target, &last.route)
            && !self.model.resumes
        {
            let recorded = format!("{}/{}", route.provider.id, route.upstream_model);
            here.that(*target == recorded, || format!("{recorded} is recorded, {target} told"));
        }
    }

    fn may_share(&self) -> bool {
        self.wish.may_share(self.drawn)
    }

    /// A request that waits for nobody's turn is sent at once, and what a provider has said is at the
    /// client: whatever else is asked beside it.
    fn delays(&self, last: &Record, here: &mut Told) {
        let Self { saw, wish, .. } = self;
        if self.may_share() {
            return;
        }
        if let Some(first) = self.calls.first() {
            let queued = self.asked().first().map_or(last.queued, |first| first.queued);
            let due = wish.begins(self.run.beginning) + queued;
            here.that(first.at <= due + millis(2), || format!("sent {:?} late", first.at - due));
        }
        let is_plain = !self.model.is_composed && wish.nap.is_zero() && saw.has_all;
        if let (Some(call), Some(ended)) = (self.calls.last(), saw.ended)
            && is_plain
            && self.calls.len() == 1
            && last.outcome == Outcome::Complete
        {
            // A provider that said [DONE] may take a second to end its stream.
            here.that(ended <= call.ends + millis(1_100), || {
                format!("it has its answer {:?} late", ended - call.ends)
            });
        }
    }

    /// Nobody waits for longer than the clock of the whole allows, but for its own naps.
    fn time(&self, here: &mut Told) {
        // A provider that said [DONE] may take a second to end its stream.
        let most = self.drawn.longest(&self.wish.asked.model) + self.wish.nap + millis(1_100);
        here.that(self.saw.took <= most, || format!("{:?} instead of {most:?}", self.saw.took));
        here.that(self.saw.took < seconds(200), || "lost".into());
    }

    /// Whole events, and nothing behind the last. Comes to what the answer says.
    fn events(&self, here: &mut Told) -> String {
        let Some(head) = &self.saw.head else { return String::new() };
        let text = String::from_utf8(self.saw.bytes.clone()).unwrap();
        if !head.streams {
            if self.saw.left && text.is_empty() {
                return text;
            }
            let value = serde_json::from_str::<Value>(text.trim());
            // What is forwarded passes as it is.
            let is_passed = self.wish.asked.kind.is_forwarded();
            here.that(value.is_ok() || is_passed, || format!("no JSON: {text}"));
            return value.map_or(String::new(), |value| Kind::text(&value));
        }
        here.that(text.is_empty() || text.ends_with("\n\n"), || format!("half an event: {text}"));
        let mut is_over = false;
        let mut says = String::new();
        for event in text.split("\n\n").filter(|event| !event.is_empty()) {
            here.that(!is_over, || format!("behind the end: {event}"));
            // Only who was to go on with an answer, and does not, says so.
            here.that(!event.contains("reasoning"), || format!("it does not go on: {event}"));
            is_over |= is_error(event) || event.contains("[DONE]");
            let data = event.strip_prefix("data: ").unwrap_or("null");
            match serde_json::from_str(data) {
                Ok(value) => says.push_str(&Kind::text(&value)),
                Err(_) => here.that(data == "[DONE]", || format!("no JSON: {event}")),
            }
        }
        says
    }

    /// What the client got is of its own request, no piece of it missing or twice; and of one call, or
    /// of several where they go on with each other.
    fn text(&self, says: &str, here: &mut Told) {
        let (pieces, rest) = match pieces(says) {
            Ok(pieces) => pieces,
            Err(words) => return here.0.push(words),
        };
        let is_whole = pieces.last().is_some_and(|last| last.is_last) && rest.is_empty();
        let is_complete = self.records.last().is_some_and(|last| last.outcome == Outcome::Complete);
        let passes = self.wish.asked.kind.is_forwarded()
            && self.calls.last().is_some_and(|call| !call.act.is_good());
        here.that(is_whole || !is_complete || !self.saw.has_all || passes, || {
            format!("not all of it: {says}")
        });
        let mut before = None;
        for (index, piece) in pieces.iter().enumerate() {
            here.that(piece.place == index, || format!("piece {index} is {piece:?}: {says}"));
            let is_end = piece.is_last == (index + 1 == pieces.len());
            here.that(is_end || !piece.is_last, || format!("behind the last piece: {says}"));
            if before != Some(piece.call) {
                self.source(piece.call, index, before, says, here);
            }
            before = Some(piece.call);
        }
        for said in self.calls.iter().filter_map(|call| call.said.as_ref()) {
            let is_so = says.starts_with(said) || !self.saw.has_all || self.model.is_composed;
            here.that(is_so, || format!("{said} was to be gone on with, of {says}"));
        }
    }

    /// From the piece of that index on, the answer is that call's.
    fn source(
        &self,
        call: usize,
        index: usize,
        before: Option<usize>,
        says: &str,
        here: &mut Told,
    ) {
        let Some(known) = self.run.calls.get(call) else {
            return here.0.push(format!("nobody's answer: {says}"));
        };
        let is_shared = self.records.last().is_some_and(|last| last.shared);
        here.that(known.by == self.wish.id || is_shared, || format!("another's answer: {says}"));
        here.that(known.asks == self.wish.asked.number, || format!("not what is asked: {says}"));
        here.that(!known.target.ends_with("/s"), || format!("the shadow's answer: {says}"));
        let told = self.saw.head.as_ref().and_then(|head| head.target.as_ref());
        match before {
            None => here.that(told.is_none_or(|told| *told == known.target), || {
                format!("{told:?} is told, {} said", known.target)
            }),
            Some(before) => here
                .that(self.model.resumes && before < call && known.said.is_some(), || {
                    format!("piece {index} is of another call: {says}")
                }),
        }
    }

    /// All of it, for whoever looks into a failure.
    fn story(&self) -> String {
        let record = |record: &&Record| {
            format!(
                "{} of {} {:?} {} {:?} {:?}{}",
                record.attempt,
                record.attempts,
                record.outcome,
                record.status,
                record.fault,
                record.cause,
                if record.is_last { ", the last" } else { "" }
            )
        };
        let records: Vec<_> = self.records.iter().map(record).collect();
        let calls: Vec<_> =
            self.calls.iter().map(|call| (&call.target, call.act, &call.said)).collect();
        let Saw { head, bytes, left, took, .. } = self.saw;
        let bytes = String::from_utf8_lossy(bytes);
        format!(
            "{:?}\n  left {left}, took {took:?}, {head:?}\n  records {records:#?}\n  calls {calls:?}\n  {bytes}",
            self.wish
        )
    }
}

fn is_error(text: &str) -> bool {
    text.contains("\"error\"") || text.contains("event: error")
}
