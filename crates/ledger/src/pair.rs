//! Openings find their closings.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::record::{Amount, Bill, Closing, Line, Opening, Provenance, RequestId, Tokens, Who};
use crate::segment::{self, Ending, MAX_RECORD, Record, Rest};
use crate::store::{Begun, Kept, Store};

/// How an attempt ended that was never closed, because the process died.
pub const LOST: &str = "lost";

/// What a line of a bill counts that is not of what was used, but of what was set aside for it.
pub(crate) const RESERVED: &str = "reserved";

/// An attempt that has begun and is not known to be over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    series: u32,
    at_ms: u64,
    stream: bool,
    input_estimate: u64,
    max_output: Option<u64>,
    /// Nanos, and the number of the currency's name.
    reserved: Option<(u64, u32)>,
    /// False for one that was to follow a failed attempt, and has not begun.
    begun: bool,
    /// The source it was read from.
    #[serde(skip)]
    source: u32,
    /// Whether it is kept in the database.
    #[serde(skip)]
    kept: bool,
}

/// What an attempt that was never closed probably used and costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens.
    pub tokens: Tokens,
    /// Their price, if one is known: nanos, and the currency's code.
    pub charge: Option<(u64, String)>,
    /// How the charge came about: what, how many, and nanos for a million.
    pub lines: Vec<(String, u64, u64)>,
}

impl Estimate {
    /// Its input as estimated, at the price of what was reserved: never too little.
    #[must_use]
    pub fn reserved(opening: &Opening<'_>) -> Self {
        let tokens = Tokens { input: opening.input_estimate, ..Tokens::default() };
        let charge = opening.reserved.map(|amount| (amount.nanos, amount.currency.to_owned()));
        let each = opening.reserved.and_then(|amount| amount.nanos.checked_mul(1_000_000));
        let lines = each.map(|each| (RESERVED.to_owned(), 1, each)).into_iter().collect();
        Self { tokens, charge, lines }
    }
}

/// An attempt of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(RequestId, u16);

impl Hash for Key {
    /// By the random part of the id, which is enough.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.halves().1);
    }
}

/// Openings of one generation that wait for their closings.
pub(crate) struct Pairs {
    generation: String,
    open: HashMap<Key, Open>,
}

impl Pairs {
    pub(crate) fn new(generation: String) -> Self {
        Self { generation, open: HashMap::new() }
    }

    pub(crate) fn generation(&self) -> &str {
        &self.generation
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Begins again with what the database keeps.
    pub(crate) fn load(&mut self, store: &Store) -> Result<()> {
        self.open.clear();
        for Kept { id, attempt, facts } in store.openings(&self.generation)? {
            let open: Open = postcard::from_bytes(&facts).unwrap_or_default();
            self.open.insert(Key(id, attempt), Open { kept: true, ..open });
        }
        Ok(())
    }

    /// Takes a record in. Says whether it made a row. With `is_known` it was shipped before, and
    /// only the pairing is done again.
    pub(crate) fn take(
        &mut self,
        store: &mut Store,
        record: &Record<'_>,
        source: u32,
        is_known: bool,
    ) -> Result<bool> {
        match &record.rest {
            Rest::Opening(head, names) => {
                let open = Open {
                    series: store.series(names)?,
                    at_ms: record.at_ms,
                    stream: head.stream,
                    input_estimate: head.input_estimate,
                    max_output: head.max_output,
                    reserved: match head.reserved {
                        Some(amount) => Some((amount.nanos, store.name(amount.currency)?)),
                        None => None,
                    },
                    begun: true,
                    source,
                    kept: false,
                };
                let slot = self.open.entry(Key(record.id, record.attempt)).or_default();
                *slot = Open { kept: slot.kept, ..open };
                Ok(false)
            }
            Rest::Closing(ending, tail) => {
                let open = self.close(store, record, ending, source, is_known)?;
                if !is_known {
                    let begun = Begun {
                        took_ms: record.at_ms.saturating_sub(open.at_ms),
                        stream: open.stream,
                        input_estimate: open.input_estimate,
                    };
                    let key = (record.at_ms, record.id, record.attempt);
                    store.put(key, open.series, &begun, ending, tail)?;
                }
                Ok(!is_known)
            }
            Rest::Feedback(opinion) => {
                if !is_known {
                    store.put_feedback(record.id, record.at_ms, opinion)?;
                }
                Ok(false)
            }
        }
    }

    /// Finds the opening of a closing.
    fn close(
        &mut self,
        store: &Store,
        record: &Record<'_>,
        ending: &Ending<'_>,
        source: u32,
        is_known: bool,
    ) -> Result<Open> {
        let known = self.open.remove(&Key(record.id, record.attempt));
        if known.is_some_and(|open| open.kept) {
            store.drop_opening(&self.generation, record.id, record.attempt)?;
        }
        // Without an opening it was damaged; or both were written twice, and then the row is there.
        let open = known.unwrap_or(Open { at_ms: record.id.at_ms(), ..Open::default() });
        match ending.last_of {
            None if known.is_some() || !is_known => {
                let next = Key(record.id, record.attempt.saturating_add(1));
                let to_come = Open { begun: false, source, kept: false, reserved: None, ..open };
                self.open.entry(next).or_insert(to_come);
            }
            None => {}
            Some(0 | 1) => {}
            Some(attempts) => self.expect_no_more(store, record.id, attempts)?,
        }
        Ok(open)
    }

    /// Forgets the attempts of a request that were expected and never made: of several side by
    /// side, the last to close need not be the last that began.
    fn expect_no_more(&mut self, store: &Store, id: RequestId, attempts: u16) -> Result<()> {
        for attempt in 2..=attempts.saturating_add(1) {
            let key = Key(id, attempt);
            if self.open.get(&key).is_some_and(|open| !open.begun)
                && self.open.remove(&key).is_some_and(|open| open.kept)
            {
                store.drop_opening(&self.generation, id, attempt)?;
            }
        }
        Ok(())
    }

    /// Puts the openings of a source that is about to go into the database.
    pub(crate) fn keep(&mut self, store: &Store, source: u32) -> Result<()> {
        for (&Key(id, attempt), open) in &mut self.open {
            if open.source == source && !open.kept {
                // Seven numbers and two flags cannot fail to be written.
                let facts = postcard::to_stdvec(open).unwrap_or_default();
                store.keep_opening(&self.generation, &Kept { id, attempt, facts })?;
                open.kept = true;
            }
        }
        Ok(())
    }

    /// Nobody will close what is still open: it is lost, and recorded as such. Says how many.
    pub(crate) fn give_up(
        &mut self,
        store: &mut Store,
        estimate: &mut dyn FnMut(&Opening<'_>) -> Estimate,
    ) -> Result<u64> {
        let mut open: Vec<_> = self.open.iter().map(|(key, open)| (*key, *open)).collect();
        open.sort_unstable_by_key(|(key, _)| *key);
        for request in open.chunk_by(|(one, _), (other, _)| one.0 == other.0) {
            lose_request(store, request, estimate)?;
        }
        Ok(open.len() as u64)
    }
}

/// Records what a request left open, in the order of its attempts: those that were made, or that
/// another one was to follow. The last of them stands for the request.
fn lose_request(
    store: &mut Store,
    open: &[(Key, Open)],
    estimate: &mut dyn FnMut(&Opening<'_>) -> Estimate,
) -> Result<()> {
    let Some((Key(_, last), Open { begun, .. })) = open.last() else { return Ok(()) };
    let made = open.iter().filter(|(_, open)| open.begun).count();
    // What was to follow does not, if others were under way beside it.
    let attempts = if *begun || made == 0 { *last } else { last - 1 };
    let lost = open.iter().filter(|(_, open)| open.begun || made == 0);
    let count = made.max(1);
    for (index, (key, open)) in lost.enumerate().take(count) {
        let last_of = (index + 1 == count).then_some(attempts);
        lose(store, *key, open, last_of, estimate)?;
    }
    Ok(())
}

/// Records an attempt that was never closed, as of when it began.
fn lose(
    store: &mut Store,
    Key(id, attempt): Key,
    open: &Open,
    last_of: Option<u16>,
    estimate: &mut dyn FnMut(&Opening<'_>) -> Estimate,
) -> Result<()> {
    let guess = match open.begun {
        true => guess(store, Key(id, attempt), open, estimate)?,
        false => Estimate::default(),
    };
    let lines: Vec<Line<'_>> = guess
        .lines
        .iter()
        .map(|(bucket, count, rate)| Line { bucket, count: *count, nanos_per_million: *rate })
        .collect();
    let closing = Closing {
        id,
        attempt,
        at_ms: open.at_ms,
        last_of,
        status: 0,
        outcome: LOST,
        fault: Some(LOST),
        tokens: guess.tokens,
        provenance: if open.begun { Provenance::Estimated } else { Provenance::None },
        bill: match &guess.charge {
            Some((nanos, currency)) => Bill::Charge(Amount { nanos: *nanos, currency }),
            None if open.begun => Bill::Unpriced,
            None => Bill::Nothing,
        },
        first_event_us: None,
        total_us: 0,
        overhead_us: 0,
        events: 0,
        lines: &lines,
    };
    let mut tail = vec![0; MAX_RECORD];
    let length = segment::put_ending(&mut tail, &closing).unwrap_or_default();
    tail.truncate(length);
    let Some((ending, _)) = segment::ending(&tail) else { return Ok(()) };
    let begun = Begun { took_ms: 0, stream: open.stream, input_estimate: open.input_estimate };
    store.put((open.at_ms, id, attempt), open.series, &begun, &ending, &tail)
}

/// Asks what an attempt probably used.
fn guess(
    store: &Store,
    Key(id, attempt): Key,
    open: &Open,
    estimate: &mut dyn FnMut(&Opening<'_>) -> Estimate,
) -> Result<Estimate> {
    let names = store.series_names(open.series)?;
    let [key, user, team, org, operation, model, provider, upstream_model] = &names;
    let currency = store.text(open.reserved.map_or(0, |(_, currency)| currency))?;
    let amount = |(nanos, _)| Amount { nanos, currency: &currency };
    Ok(estimate(&Opening {
        id,
        attempt,
        at_ms: open.at_ms,
        who: Who { key: filled(key), user: filled(user), team: filled(team), org: filled(org) },
        operation,
        model,
        provider,
        upstream_model,
        stream: open.stream,
        input_estimate: open.input_estimate,
        max_output: open.max_output,
        reserved: open.reserved.map(amount),
    }))
}

fn filled(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}
