//! What is counted of the requests that are alike: of one model, provider, operation and team.

use std::array::from_fn;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use indexmap::Equivalent;
use metrics::catalogue::{BEGIN, STEP, WHOLE};
use metrics::{Count, Histogram};
use policy::health::Cause;
use policy::money::Currency;
use relay::{Code, Outcome, Provenance, Record};

/// Classes of statuses. 0 is what a client got that was gone.
pub(super) const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Ends of requests, in the order of their type.
pub(super) const OUTCOMES: [Outcome; 10] = [
    Outcome::Complete,
    Outcome::Refused,
    Outcome::ProviderError,
    Outcome::Unreachable,
    Outcome::Truncated,
    Outcome::TimedOut,
    Outcome::ClientGone,
    Outcome::Shed,
    Outcome::Cancelled,
    Outcome::Failed,
];
/// Where token counts come from, in the order of their type.
pub(super) const PROVENANCES: [Provenance; 3] =
    [Provenance::None, Provenance::Reported, Provenance::Estimated];
/// Kinds of tokens.
pub(super) const BUCKETS: [&str; 5] =
    ["input", "cached_read", "cache_write", "output", "reasoning"];
/// Currencies, in the order of their type.
pub(super) const CURRENCIES: [Currency; 2] = [Currency::Usd, Currency::Cny];
/// Errors that providers sent and callers are to blame for, behind all codes.
pub(super) const CALLERS_ERROR: usize = Code::ALL.len();
/// Attempts that did not fail, behind all causes.
pub(super) const NO_CAUSE: usize = Cause::ALL.len();

/// What requests have to have in common to be counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) model: Arc<str>,
    pub(super) provider: Arc<str>,
    pub(super) operation: &'static str,
    /// Empty if teams are not counted apart.
    pub(super) team: Arc<str>,
}

/// The same, borrowed from a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Seen<'r> {
    pub(super) model: &'r str,
    pub(super) provider: &'r str,
    pub(super) operation: &'static str,
    pub(super) team: &'r str,
}

impl Key {
    pub(super) fn seen(&self) -> Seen<'_> {
        let Self { model, provider, operation, team } = self;
        Seen { model, provider, operation, team }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.seen().hash(state);
    }
}

impl Equivalent<Key> for Seen<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.seen()
    }
}

impl From<Seen<'_>> for Key {
    fn from(seen: Seen<'_>) -> Self {
        let Seen { model, provider, operation, team } = seen;
        Self { model: model.into(), provider: provider.into(), operation, team: team.into() }
    }
}

/// The counts of one worker. Apart from what else is in memory, so that no two workers write to
/// the same cache line.
#[repr(align(128))]
pub(super) struct Series {
    pub(super) requests: [[Count; OUTCOMES.len()]; STATUSES.len()],
    pub(super) streams: [Count; OUTCOMES.len()],
    pub(super) errors: [Count; CALLERS_ERROR + 1],
    pub(super) attempts: [Count; NO_CAUSE + 1],
    pub(super) retries: Count,
    pub(super) overtaken: Count,
    /// In billionths.
    pub(super) overtaken_cost: [Count; CURRENCIES.len()],
    pub(super) fallbacks: Count,
    pub(super) tokens: [Count; BUCKETS.len()],
    /// In billionths.
    pub(super) cost: [Count; CURRENCIES.len()],
    pub(super) metered: [Count; PROVENANCES.len()],
    pub(super) unpriced: Count,
    pub(super) whole: Histogram,
    pub(super) begin: Histogram,
    pub(super) step: Histogram,
    pub(super) queued: Histogram,
}

impl Default for Series {
    fn default() -> Self {
        fn none<const N: usize>() -> [Count; N] {
            from_fn(|_| Count::default())
        }
        Self {
            requests: from_fn(|_| none()),
            streams: none(),
            errors: none(),
            attempts: none(),
            retries: Count::default(),
            overtaken: Count::default(),
            overtaken_cost: none(),
            fallbacks: Count::default(),
            tokens: none(),
            cost: none(),
            metered: none(),
            unpriced: Count::default(),
            whole: Histogram::default(),
            begin: Histogram::default(),
            step: Histogram::default(),
            queued: Histogram::default(),
        }
    }
}

impl Series {
    /// Counts an attempt that is over.
    pub(super) fn attempt(&self, record: &Record) {
        self.attempts[record.cause.map_or(NO_CAUSE, |cause| cause as usize)].add(1);
        if record.attempt > 1 {
            self.retries.add(1);
        }
        let is_overtaken = record.outcome == Outcome::Cancelled;
        if is_overtaken {
            self.overtaken.add(1);
        }
        self.metered[record.provenance as usize].add(1);
        let usage = record.usage.unwrap_or_default();
        let wire::Usage { input, cached_read, cache_write, output, reasoning, .. } = usage;
        let used = [input, cached_read, cache_write, output, reasoning];
        for (count, used) in self.tokens.iter().zip(used) {
            count.add(used);
        }
        match &record.charge {
            Some(charge) => {
                let (currency, nanos) = (charge.money.currency as usize, charge.money.nanos);
                self.cost[currency].add(nanos);
                if is_overtaken {
                    self.overtaken_cost[currency].add(nanos);
                }
            }
            None => self.unpriced.add(u64::from(record.unpriced)),
        }
    }

    /// Counts a request that is over. `is_fallback` says that its last attempt was at another
    /// target than its first.
    pub(super) fn request(&self, record: &Record, is_fallback: bool) {
        let (outcome, class) = (record.outcome as usize, usize::from(record.status / 100));
        self.requests[class.min(STATUSES.len() - 1)][outcome].add(1);
        if let Some(error) = error(record) {
            self.errors[error].add(1);
        }
        if is_fallback && record.outcome == Outcome::Complete {
            self.fallbacks.add(1);
        }
        if !record.queued.is_zero() {
            self.queued.observe(WHOLE, nanos(record.queued));
        }
        if !record.asked {
            return;
        }
        self.whole.observe(WHOLE, nanos(record.total));
        if record.stream {
            self.streams[outcome].add(1);
            self.stream(record);
        }
    }

    fn stream(&self, record: &Record) {
        let Some(first) = record.first_event else { return };
        self.begin.observe(BEGIN, nanos(first));
        let tokens = record.usage.as_ref().map_or(0, wire::Usage::output_total);
        if record.outcome == Outcome::Complete && tokens > 1 {
            let rest = nanos(record.total.saturating_sub(first));
            self.step.observe(STEP, rest / (tokens - 1));
        }
    }
}

/// What went wrong with a request: the number of its code; `None` if nothing did, or if the client
/// has left.
fn error(record: &Record) -> Option<usize> {
    if matches!(record.outcome, Outcome::Complete | Outcome::ClientGone | Outcome::Cancelled) {
        return None;
    }
    let code = record.fault.and_then(Code::named);
    // The provider's own error, as it came.
    let of_provider = || match record.cause {
        Some(Cause::CallersFault | Cause::ContextTooLong | Cause::ContentPolicy) => CALLERS_ERROR,
        _ => Code::ErrorInReply as usize,
    };
    Some(code.map_or_else(of_provider, |code| code as usize))
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_by_number_stands_in_the_order_of_its_type() {
        fn in_order<T: Copy>(all: &[T], number: impl Fn(T) -> usize) {
            let numbers: Vec<usize> = all.iter().map(|one| number(*one)).collect();
            assert_eq!(numbers, (0..all.len()).collect::<Vec<_>>());
        }
        in_order(&OUTCOMES, |outcome| outcome as usize);
        in_order(&PROVENANCES, |provenance| provenance as usize);
        in_order(&CURRENCIES, |currency| currency as usize);
        in_order(&Code::ALL, |code| code as usize);
        in_order(&Cause::ALL, |cause| cause as usize);
    }
}
