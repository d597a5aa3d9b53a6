//! What has to hold of each request: between what its client saw, what its providers got, and what
//! is recorded.

use std::collections::BTreeMap;

use relay::{Outcome, Record};
use serde_json::Value;

use super::client::{Saw, Wish};
use super::config::{CHEAP, Drawn};
use super::provider::Called;
use super::{Run, Told};
use crate::world::{millis, seconds};

/// All there is of one request.
struct Case<'r> {
    wish: &'r Wish,
    saw: &'r Saw,
    records: Vec<&'r Record>,
    calls: Vec<(usize, &'r Called)>,
    drawn: &'r Drawn,
}

pub(super) fn check(run: &Run, told: &mut Told) {
    let mut records: BTreeMap<[u8; 16], Vec<&Record>> = BTreeMap::new();
    for record in &run.records {
        records.entry(record.id.to_bytes()).or_default().push(record);
    }
    for (wish, saw) in &run.requests {
        let records = records.remove(&wish.id.to_bytes()).unwrap_or_default();
        let calls = run.calls.iter().enumerate();
        let calls = calls.filter(|(_, call)| call.request == wish.number).collect();
        Case { wish, saw, records, calls, drawn: &run.drawn }.check(told);
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
            self.ways(last, &mut here);
            self.end(last, &mut here);
        }
        self.time(&mut here);
        let text = self.events(&mut here);
        self.text(&text, &mut here);
        if !here.0.is_empty() {
            told.0.push(format!("{}\n  {}", here.0.join("\n"), self.story()));
        }
    }

    /// Each attempt has its number, its record and its call.
    fn attempts(&self, last: &Record, here: &mut Told) {
        let asked: Vec<_> = self.records.iter().filter(|record| record.asked).collect();
        let mut numbers: Vec<_> = asked.iter().map(|record| usize::from(record.attempt)).collect();
        numbers.sort_unstable();
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
        let mut recorded: Vec<_> = asked.iter().map(|record| target(record)).collect();
        let calls = self.calls.iter().filter(|(_, call)| !call.is_stale);
        let mut called: Vec<_> = calls.map(|(_, call)| call.target.clone()).collect();
        recorded.sort_unstable();
        called.sort_unstable();
        here.that(recorded == called, || format!("recorded {recorded:?}, called {called:?}"));
        if let Some(head) = &self.saw.head {
            here.that(head.attempts.is_none_or(|told| told == last.attempts), || {
                format!("the head tells of {:?} attempts, not {}", head.attempts, last.attempts)
            });
            let late = self.calls.iter().filter(|(_, call)| call.tick > head.tick).count();
            here.that(late == 0, || format!("{late} calls after the client had its head"));
        }
    }

    /// Nobody is asked but for what the model's plan names and the key may use.
    fn ways(&self, last: &Record, here: &mut Told) {
        let targets = self.drawn.targets(&self.wish.model);
        for (_, call) in &self.calls {
            here.that(targets.contains(&call.target), || format!("{} was called", call.target));
            here.that(call.has_own_credential, || format!("a strange key for {}", call.target));
        }
        let models = self.drawn.keys[self.wish.key].models.as_ref();
        let may = |model: &str| models.is_none_or(|models| models.iter().any(|it| it == model));
        here.that(may(&self.wish.model) || self.calls.is_empty(), || "the key may not".into());
        let is_known = *last.model == *self.wish.model || *last.model == *CHEAP;
        here.that(is_known, || format!("recorded for {}", last.model));
        here.that(may(&last.model) || !last.asked, || format!("the key may not {}", last.model));
    }

    /// What is recorded of the end is what the client saw of it.
    fn end(&self, last: &Record, here: &mut Told) {
        use Outcome::{
            ClientGone, Complete, ProviderError, Refused, Shed, TimedOut, Truncated, Unreachable,
        };
        let Self { saw, .. } = self;
        let outcome = last.outcome;
        let Some(head) = &saw.head else {
            here.that(saw.left && outcome == ClientGone, || format!("no head, and {outcome:?}"));
            return;
        };
        here.that(!saw.broke, || "the body broke off".into());
        here.that(head.status.as_u16() == last.status, || {
            format!("{} for the client, {} in the record", head.status, last.status)
        });
        let text = String::from_utf8_lossy(&saw.bytes);
        let failed = matches!(outcome, ProviderError | Truncated | TimedOut | Shed);
        let holds = match (head.status.is_success(), head.streams) {
            (false, _) => failed || matches!(outcome, Refused | Unreachable),
            (true, false) => outcome == Complete,
            (true, true) if is_error(&text) => failed,
            (true, true) if text.contains("[DONE]") => outcome == Complete,
            // Theirs may be whole, or have failed, before the client has read a byte.
            (true, true) if saw.left && self.is_composed() => {
                failed || matches!(outcome, ClientGone | Complete)
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
        {
            let recorded = format!("{}/{}", route.provider.id, route.upstream_model);
            here.that(*target == recorded, || format!("{recorded} is recorded, {target} told"));
        }
    }

    fn is_composed(&self) -> bool {
        self.drawn.models.get(&self.wish.model).is_some_and(|model| model.is_composed)
    }

    /// Nobody waits for longer than the clock of the whole allows, but for its own naps.
    fn time(&self, here: &mut Told) {
        // A provider that said [DONE] may take a second to end its stream.
        let most = self.drawn.longest(&self.wish.model) + self.wish.nap + millis(1_100);
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
            here.that(value.is_ok(), || format!("no JSON: {text}"));
            return value.map_or(String::new(), |value| content(&value, "message"));
        }
        here.that(text.is_empty() || text.ends_with("\n\n"), || format!("half an event: {text}"));
        let mut is_over = false;
        let mut says = String::new();
        for event in text.split("\n\n").filter(|event| !event.is_empty()) {
            here.that(!is_over, || format!("behind the end: {event}"));
            is_over |= is_error(event) || event.contains("[DONE]");
            let data = event.strip_prefix("data: ").unwrap_or("null");
            match serde_json::from_str(data) {
                Ok(value) => says.push_str(&content(&value, "delta")),
                Err(_) => here.that(data == "[DONE]", || format!("no JSON: {event}")),
            }
        }
        says
    }

    /// What the client got is of one call of its own request, no piece of it missing or twice.
    fn text(&self, says: &str, here: &mut Told) {
        let pieces: Vec<&str> =
            says.split('<').skip(1).map(|it| it.trim_end_matches('>')).collect();
        let is_whole = pieces.last().is_some_and(|last| last.ends_with('$'));
        let is_complete = self.records.last().is_some_and(|last| last.outcome == Outcome::Complete);
        here.that(is_whole || !is_complete || self.saw.left, || format!("not all of it: {says}"));
        let Some(first) = pieces.first() else { return };
        let call = first.split('.').next().unwrap();
        for (index, piece) in pieces.iter().enumerate() {
            let is_it = piece.trim_end_matches('$') == format!("{call}.{index}");
            here.that(is_it, || format!("piece {index} is {piece}: {says}"));
        }
        let known = self.calls.iter().find(|(number, _)| number.to_string() == call);
        here.that(known.is_some(), || format!("somebody else's answer: {says}"));
        if let (Some((_, call)), Some(target)) =
            (known, self.saw.head.as_ref().and_then(|head| head.target.as_ref()))
        {
            here.that(call.target == *target, || format!("{target} is told, {} said", call.target));
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
        let calls: Vec<_> = self.calls.iter().map(|(_, call)| (&call.target, call.act)).collect();
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

fn content(value: &Value, whose: &str) -> String {
    value["choices"][0][whose]["content"].as_str().unwrap_or_default().to_owned()
}
