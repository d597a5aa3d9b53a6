//! When something is asked again: a budget, so that retries cannot multiply a storm, and a wait.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::cause::LONGEST_WAIT_MS;
use crate::limit::{Counter, Limit, Meter, Window};

/// Retries that requests earn, in thousandths: one for five requests.
const EARNED: u64 = 200;
/// The most that is saved up, in thousandths of a retry: what 500 requests earn.
const MOST_SAVED: u64 = 100 * RETRY;
const RETRY: u64 = 1_000;
/// Retries a second that are there without any traffic to earn them.
pub const FLOOR_PER_SECOND: u64 = 3;
/// What may be owed, in thousandths: retries of the floor are paid from what is earned after them,
/// so that the two do not add up.
const MOST_OWED: u64 = FLOOR_PER_SECOND * RETRY;

/// The first wait is at most this long, in milliseconds; each further one twice as long.
pub const FIRST_WAIT_MS: u64 = 250;
/// The longest wait that is not asked for, in milliseconds.
pub const LONGEST_BACKOFF_MS: u64 = 10_000;

/// The longest wait that a client is held for, in milliseconds, though the provider asked for it.
pub const LONGEST_HELD_MS: u64 = 30_000;
/// How often a model may have its plan gone through again.
pub const MOST_RETRIES: u32 = 5;
/// Attempts of one request, the first one included.
pub const MOST_ATTEMPTS: u32 = 4;
/// A failure that took longer than this, in milliseconds, is not tried again: its caller has waited
/// long enough, and a target that is slow to fail is short of room.
pub const SLOW_FAILURE_MS: u64 = 10_000;

/// Retries as a share of traffic: 20 % of the requests, or three a second where that is more. A
/// request earns a fifth of a retry, and at most a hundred are saved up.
#[derive(Debug)]
pub struct RetryBudget {
    /// Thousandths of a retry, above the most that may be owed.
    earned: AtomicU64,
    /// What is there in any case. Every retry is counted here.
    floor: Counter,
}

impl Default for RetryBudget {
    fn default() -> Self {
        // One a second, by a clock that runs as fast as the floor is high: a third of a second is no
        // whole number of nanoseconds.
        let floor = Limit {
            meter: Meter::Requests,
            amount: 60,
            window: Some(Window::Minute),
            burst: Some(FLOOR_PER_SECOND),
        };
        Self { earned: AtomicU64::new(MOST_OWED), floor: Counter::new(floor) }
    }
}

impl RetryBudget {
    /// Counts a request that came, once, however often it is tried.
    pub fn earn(&self) {
        // An update that always has a value cannot fail.
        let more = |saved: u64| Some(saved.saturating_add(EARNED).min(MOST_OWED + MOST_SAVED));
        let _ = self.earned.fetch_update(Relaxed, Relaxed, more);
    }

    /// How many retries could be taken now, one after the other.
    #[must_use]
    pub fn left(&self, now_ms: u64) -> u64 {
        let saved = self.earned.load(Relaxed).saturating_sub(MOST_OWED) / RETRY;
        // What the floor pays for is owed by what is earned, so the two do not add up.
        saved.max(self.floor.standing(floor_ns(now_ms)).remaining)
    }

    /// Takes one retry, if there is one.
    #[must_use]
    pub fn spend(&self, now_ms: u64) -> bool {
        let from_floor = self.floor.take(1, floor_ns(now_ms)).is_ok();
        let spend = |saved: u64| match saved.checked_sub(RETRY) {
            Some(rest) if rest >= MOST_OWED => Some(rest),
            rest => from_floor.then_some(rest.unwrap_or(0)),
        };
        self.earned.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }
}

/// The time by which the floor counts.
fn floor_ns(now_ms: u64) -> u64 {
    now_ms.saturating_mul(1_000_000 * FLOOR_PER_SECOND)
}

/// How long to wait before the `retry`-th retry (from 1), in milliseconds: any time up to a bound
/// that doubles each time (full jitter), but at least as long as the provider asked for, which is
/// believed up to five minutes.
#[must_use]
pub fn backoff_ms(retry: u32, random: u64, retry_after_ms: Option<u64>) -> u64 {
    let doubled = FIRST_WAIT_MS.saturating_mul(1 << retry.saturating_sub(1).min(16));
    let most = doubled.min(LONGEST_BACKOFF_MS);
    let wait = random % (most + 1);
    wait.max(retry_after_ms.unwrap_or(0).min(LONGEST_WAIT_MS))
}

/// Whether a failure came fast enough to be tried again.
#[must_use]
pub fn is_fast(took_ms: u64) -> bool {
    took_ms <= SLOW_FAILURE_MS
}
