//! What became of the requests that were mirrored, in sums; and how many may be under way.
//!
//! Only figures come in here, never a text. The sums of a model and its shadow are kept over
//! reloads, and are looked up when a plan is made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;

use super::times::Times;
use crate::money::{Currency, Money};

/// Mirrored requests under way at once, in the whole process.
pub const MOST_AT_ONCE: usize = 64;
/// Bytes of their bodies, together.
pub const MOST_BYTES: usize = 64 << 20;

/// The room for mirrored requests, one for the process.
#[derive(Debug, Default)]
pub struct Room {
    places: AtomicUsize,
    bytes: AtomicUsize,
}

impl Room {
    /// A place for a request with a body of so many bytes, if there is room.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        let place = Place { room: Arc::clone(self), bytes };
        let places = self.places.fetch_add(1, Relaxed) + 1;
        let held = self.bytes.fetch_add(bytes, Relaxed).saturating_add(bytes);
        // One too many is dropped here, and gives back what it took.
        Some(place).filter(|_| places <= MOST_AT_ONCE && held <= MOST_BYTES)
    }
}

/// What one mirrored request takes of the [`Room`], until it is dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.places.fetch_sub(1, Relaxed);
        self.room.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// One answer of a pair, in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Answer {
    /// How it ended.
    pub end: End,
    /// From being asked to the end, in milliseconds.
    pub total_ms: u64,
    /// From being asked to the first event, in milliseconds, if it was streamed.
    pub first_event_ms: Option<u64>,
    /// What it cost, if that is known.
    pub cost: Option<Money>,
    /// Output tokens.
    pub output_tokens: u64,
    /// Characters of its text, if that could be read.
    pub characters: Option<u64>,
}

/// How one answer of a pair ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// It is whole.
    Whole,
    /// It failed.
    Failed,
    /// It was cut short by something that says nothing of it: its client left, or Magpie stopped.
    #[default]
    Cut,
}

/// What the two answers to one request have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Likeness {
    /// How alike their texts are, from 0 to 1, if both could be read.
    pub similarity: Option<f64>,
    /// Whether they ended for the same reason, if both told one.
    pub same_finish: Option<bool>,
}

/// The sums of one model and one shadow.
#[derive(Debug, Default)]
pub struct Mirrored(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    drawn: u64,
    dropped: u64,
    skipped: u64,
    ended: u64,
    compared: u64,
    similarity: Mean,
    same_finish: Mean,
    main: Answers,
    shadow: Answers,
}

#[derive(Debug, Default)]
struct Answers {
    errors: u64,
    total: Spread,
    first_event: Spread,
    output_tokens: Mean,
    characters: Mean,
    costs: BTreeMap<Currency, Mean>,
}

/// Times: their mean, and how they are spread.
#[derive(Debug, Default)]
struct Spread {
    mean: Mean,
    times: Times,
}

impl Spread {
    fn observe(&mut self, ms: u64) {
        self.mean.observe(ms as f64);
        self.times.observe(ms);
    }

    fn summary(&self) -> Option<TimesSummary> {
        let mean = self.mean.value()?;
        let [p50, p95] = [50, 95].map(|percent| self.times.percentile_ms(percent));
        Some(TimesSummary { mean, p50, p95 })
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn observe(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Mirrored {
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was drawn.
    pub fn drawn(&self) {
        self.sums().drawn += 1;
    }

    /// It was not mirrored, because there was no room.
    pub fn dropped(&self) {
        self.sums().dropped += 1;
    }

    /// It was not mirrored, because the shadow's limits, budgets or health did not let it.
    pub fn skipped(&self) {
        self.sums().skipped += 1;
    }

    /// Both answers have ended. Times, costs and likeness count where both are whole.
    pub fn ended(&self, main: &Answer, shadow: &Answer, likeness: Likeness) {
        let mut sums = self.sums();
        sums.ended += 1;
        sums.main.errors += u64::from(main.end == End::Failed);
        sums.shadow.errors += u64::from(shadow.end == End::Failed);
        if (main.end, shadow.end) != (End::Whole, End::Whole) {
            return;
        }
        sums.compared += 1;
        sums.main.observe(main);
        sums.shadow.observe(shadow);
        if let Some(similarity) = likeness.similarity {
            sums.similarity.observe(similarity);
        }
        if let Some(same) = likeness.same_finish {
            sums.same_finish.observe(f64::from(u8::from(same)));
        }
    }

    /// The sums so far.
    #[must_use]
    pub fn summary(&self) -> MirrorSummary {
        let sums = self.sums();
        MirrorSummary {
            drawn: sums.drawn,
            dropped: sums.dropped,
            skipped: sums.skipped,
            ended: sums.ended,
            compared: sums.compared,
            similarity: sums.similarity.value(),
            same_finish: sums.same_finish.value(),
            main: sums.main.summary(),
            shadow: sums.shadow.summary(),
        }
    }
}

impl Answers {
    fn observe(&mut self, answer: &Answer) {
        self.total.observe(answer.total_ms);
        if let Some(ms) = answer.first_event_ms {
            self.first_event.observe(ms);
        }
        self.output_tokens.observe(answer.output_tokens as f64);
        if let Some(characters) = answer.characters {
            self.characters.observe(characters as f64);
        }
        if let Some(cost) = answer.cost {
            self.costs.entry(cost.currency).or_default().observe(cost.nanos as f64);
        }
    }

    fn summary(&self) -> AnswersSummary {
        let costs = self.costs.iter().filter_map(|(currency, mean)| {
            // A mean of amounts is no more than the largest of them.
            let nanos = format!("{:.0}", mean.value()?).parse().ok()?;
            Some(Money { nanos, currency: *currency }.to_string())
        });
        let costs: Vec<String> = costs.collect();
        AnswersSummary {
            errors: self.errors,
            total_ms: self.total.summary(),
            first_event_ms: self.first_event.summary(),
            output_tokens: self.output_tokens.value(),
            characters: self.characters.value(),
            cost: (!costs.is_empty()).then(|| costs.join(" + ")),
        }
    }
}

/// How the answers of a model and of its shadow compare, since the process began.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MirrorSummary {
    /// Requests that were drawn to be mirrored.
    pub drawn: u64,
    /// Those of them that were not, because too many were under way.
    pub dropped: u64,
    /// Those of them that were not, because limits, budgets or the health of the shadow did not let
    /// them.
    pub skipped: u64,
    /// Those of which both answers have ended.
    pub ended: u64,
    /// Those of which both answers are whole. What follows is of these.
    pub compared: u64,
    /// The mean similarity of the texts, from 0 to 1.
    pub similarity: Option<f64>,
    /// The share of those that ended for the same reason, from 0 to 1.
    pub same_finish: Option<f64>,
    /// The answers that clients got.
    pub main: AnswersSummary,
    /// The answers that nobody got.
    pub shadow: AnswersSummary,
}

/// The answers of one side.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AnswersSummary {
    /// Answers that failed, of all that have ended.
    pub errors: u64,
    /// From being asked to the end.
    pub total_ms: Option<TimesSummary>,
    /// From being asked to the first event of a stream.
    pub first_event_ms: Option<TimesSummary>,
    /// Output tokens, on the mean.
    pub output_tokens: Option<f64>,
    /// Characters of text, on the mean.
    pub characters: Option<f64>,
    /// What one cost on the mean, where that is known: `¥0.0012`. Currencies stand beside each other.
    pub cost: Option<String>,
}

/// Times in milliseconds: the mean of all, and percentiles of the last thousand, each rounded up by a
/// quarter at the most, once there are twenty.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct TimesSummary {
    /// Their mean.
    pub mean: f64,
    /// What half of them do not exceed.
    pub p50: Option<u64>,
    /// What 95 of 100 do not exceed.
    pub p95: Option<u64>,
}
