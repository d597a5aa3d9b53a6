//! How targets are: which of them answer, how fast, and how much they have to do.
//!
//! All of it is live state, shared by every worker and kept over reloads, in atomic numbers. No
//! clock is read here: time comes in, in milliseconds of a monotonic clock. An attempt holds a
//! [`Lease`] from before it is sent until its answer has ended, and gives everything back when it
//! is dropped.

mod allowance;
mod bench;
pub mod breaker;
mod cause;
mod check;
mod codes;
mod ewma;
pub mod mirrored;
mod registry;
pub mod retry;
mod tally;
mod times;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::queue::Bell;
use bench::Picked;

pub use allowance::Allowance;
pub use bench::{Bench, Credentials, MOST_CREDENTIALS};
pub use breaker::{Breaker, Passage, Sign, Standing};
pub use cause::{BARRED_MS, Cause, LONGEST_WAIT_MS, MISSING_MS, Next, THROTTLED_MS};
pub use check::{CheckCounts, CheckResult, Checked, Found, HealthCheck};
pub use codes::Causes;
pub use ewma::Ewma;
pub use registry::{Health, MOST_KEPT};
pub use retry::{RetryBudget, backoff_ms};
pub use tally::{Tally, Tick};
pub use times::Times;
pub use window::{Range, WIDEST, Window};

/// How one target is: a provider and an upstream model, whatever plans name it.
#[derive(Debug, Default)]
pub struct TargetHealth {
    in_flight: AtomicU32,
    /// When an attempt was answered last; 0 for never.
    answered_ms: AtomicU64,
    /// Time to the first token, or to the whole of an answer that is not streamed.
    pub first_token: Ewma,
    /// The same, each by itself.
    pub times: Times,
    /// Whether it is asked at all.
    pub breaker: Breaker,
}

impl TargetHealth {
    /// Attempts under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Counts the time to a first token.
    fn took(&self, took_ms: u64, now_ms: u64) {
        self.first_token.observe(took_ms, now_ms);
        self.times.observe(took_ms);
    }

    /// Whether an attempt has been answered since then.
    fn has_answered_since(&self, since_ms: u64) -> bool {
        self.answered_ms.load(Relaxed) >= since_ms.max(1)
    }
}

/// A target as a plan holds it: how it is, and its provider's credentials.
#[derive(Debug, Default)]
pub struct Live {
    /// Shared with every plan that names the target.
    pub health: Arc<TargetHealth>,
    /// Whose turn it is.
    pub credentials: Credentials,
    /// Tells those who wait that something is free at the provider.
    pub bell: Arc<Bell>,
}

/// One attempt at a target, while it lasts. Dropped without a word it says nothing of the target:
/// the caller left.
#[derive(Debug)]
pub struct Lease {
    live: Arc<Live>,
    credential: usize,
    /// Whether the credential was on the bench when it was taken, for want of a better one.
    was_benched: bool,
    passage: Passage,
    begun_ms: u64,
    /// The same, whatever the breaker has learned meanwhile.
    asked_ms: u64,
    has_begun_to_answer: bool,
}

impl Lease {
    /// Begins an attempt. `despite` passes an open breaker; otherwise one that is due is taken as
    /// the probe, and one that is open turns the attempt away. So do credentials that have no room.
    #[must_use]
    pub fn begin(live: &Arc<Live>, despite: bool, now_ms: u64) -> Option<Self> {
        let Picked { credential, was_benched } = live.credentials.pick(now_ms)?;
        let breaker = &live.health.breaker;
        let passage = match breaker.standing(now_ms) {
            Standing::Closed { .. } => Passage::Closed,
            Standing::Due if breaker.probe(now_ms) => Passage::Probe,
            _ if despite => Passage::Despite,
            _ => {
                live.credentials.give_back(credential);
                return None;
            }
        };
        live.health.in_flight.fetch_add(1, Relaxed);
        Some(Self {
            live: Arc::clone(live),
            credential,
            was_benched,
            passage,
            begun_ms: now_ms,
            asked_ms: now_ms,
            has_begun_to_answer: false,
        })
    }

    /// The credential to ask with: its number among the provider's.
    #[must_use]
    pub fn credential(&self) -> usize {
        self.credential
    }

    /// What to ring once all is given back that the attempt held, if anybody hears it.
    #[must_use]
    pub fn bell(&self) -> Option<Arc<Bell>> {
        self.live.bell.is_heard().then(|| Arc::clone(&self.live.bell))
    }

    /// Whether this attempt decides if the target comes back.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.passage == Passage::Probe
    }

    /// When it began, in milliseconds.
    #[must_use]
    pub fn begun_ms(&self) -> u64 {
        self.begun_ms
    }

    /// Notes that the answer has begun: the first semantic event, or the head and body of an answer
    /// that is not streamed. A probe has succeeded with that, and the others need not wait until
    /// its answer has ended.
    pub fn first_token(&mut self, now_ms: u64) {
        if std::mem::replace(&mut self.has_begun_to_answer, true) {
            return;
        }
        let health = &self.live.health;
        health.took(now_ms.saturating_sub(self.begun_ms), now_ms);
        health.answered_ms.store(now_ms, Relaxed);
        if self.passage != Passage::Closed {
            health.breaker.record(Sign::Success, self.passage, self.begun_ms, now_ms);
            self.passage = Passage::Closed;
            // What it says from here on concerns the target as it is now.
            self.begun_ms = now_ms;
        }
    }

    /// Ends it well.
    pub fn succeeded(mut self, now_ms: u64) {
        self.first_token(now_ms);
        let credentials = &self.live.credentials;
        if self.was_benched {
            credentials.get(self.credential).clear();
        }
        if let Some(range) = credentials.windows() {
            credentials.get(self.credential).window.succeeded(range, self.asked_ms);
        }
        self.end(Sign::Success, now_ms);
    }

    /// Ends it before it was answered, because another one was faster. The target is known to take
    /// at least that long: a mean of those alone that won would be too good.
    pub fn overtaken(mut self, now_ms: u64) {
        if !std::mem::replace(&mut self.has_begun_to_answer, true) {
            let took_ms = now_ms.saturating_sub(self.begun_ms);
            self.live.health.took(took_ms, now_ms);
        }
    }

    /// Ends it with a failure. `retry_after_ms` is what the provider asked for, if it did; it is
    /// believed up to five minutes. Says what may come next, as long as nothing of an answer has
    /// gone to the caller.
    pub fn failed(mut self, cause: Cause, retry_after_ms: Option<u64>, now_ms: u64) -> Next {
        let bench = self.live.credentials.get(self.credential);
        let is_narrowed = cause == Cause::Throttled
            && self
                .live
                .credentials
                .windows()
                .is_some_and(|range| bench.window.throttled(range, self.asked_ms, now_ms));
        // A narrower window is what a 429 asks for, unless it names a time.
        if let Some(wait_ms) = cause.bench_ms(retry_after_ms)
            && !(is_narrowed && retry_after_ms.is_none())
        {
            bench.until(now_ms.saturating_add(wait_ms));
        }
        self.end(cause.sign(), now_ms);
        cause.next()
    }

    fn end(&mut self, sign: Sign, now_ms: u64) {
        let breaker = &self.live.health.breaker;
        breaker.record(sign, self.passage, self.begun_ms, now_ms);
        // Dropping it now gives back what it holds, and no probe.
        self.passage = Passage::Closed;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let health = &self.live.health;
        health.in_flight.fetch_sub(1, Relaxed);
        self.live.credentials.give_back(self.credential);
        if self.passage == Passage::Probe {
            health.breaker.record(Sign::Neutral, Passage::Probe, self.begun_ms, self.begun_ms);
        }
    }
}
