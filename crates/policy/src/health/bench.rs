//! Credentials take turns, and one that was throttled or refused sits on the bench for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Credentials that one provider may have.
pub const MOST_CREDENTIALS: usize = 64;

/// Until when something is left alone. Time is that of a monotonic clock, in milliseconds.
#[derive(Debug, Default)]
pub struct Bench(AtomicU64);

impl Bench {
    /// Leaves it alone until then, or longer if that was said before.
    pub fn until(&self, until_ms: u64) {
        self.0.fetch_max(until_ms, Relaxed);
    }

    /// Until when it is left alone; `None` if it is not.
    #[must_use]
    pub fn benched(&self, now_ms: u64) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|until| *until > now_ms)
    }

    /// It has worked: there is no reason to leave it alone.
    pub fn clear(&self) {
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }
}

/// The credentials of a provider, each with its bench at one target: providers count by model, and
/// a key may be good for one model and not for another. There is always one, if only to stand for
/// none.
#[derive(Debug, Default)]
pub struct Credentials {
    first: Arc<Bench>,
    more: Box<[Arc<Bench>]>,
    turn: AtomicUsize,
}

impl Credentials {
    /// The bench of each, in the provider's order; at most 64 of them.
    #[must_use]
    pub fn new(benches: impl IntoIterator<Item = Arc<Bench>>) -> Self {
        let mut benches = benches.into_iter().take(MOST_CREDENTIALS);
        let first = benches.next().unwrap_or_default();
        Self { first, more: benches.collect(), turn: AtomicUsize::new(0) }
    }

    /// How many there are; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.more.len() + 1
    }

    /// The one whose turn it is, and that is not left alone.
    ///
    /// # Errors
    /// If all are left alone: the one that is free soonest, and when.
    pub fn pick(&self, now_ms: u64) -> Result<usize, (usize, u64)> {
        let count = self.count();
        let start = match count {
            1 => 0,
            _ => self.turn.fetch_add(1, Relaxed),
        };
        let mut soonest = (0, u64::MAX);
        for step in 0..count {
            let index = start.wrapping_add(step) % count;
            match self.get(index).benched(now_ms) {
                None => return Ok(index),
                Some(until) if until < soonest.1 => soonest = (index, until),
                Some(_) => {}
            }
        }
        Err(soonest)
    }

    /// Until when all of them are left alone; `None` if one is not.
    #[must_use]
    pub fn all_benched(&self, now_ms: u64) -> Option<u64> {
        let first = self.first.benched(now_ms)?;
        self.more.iter().try_fold(first, |soonest, one| Some(soonest.min(one.benched(now_ms)?)))
    }

    /// The bench of each, in the provider's order.
    pub fn benches(&self) -> impl Iterator<Item = &Bench> {
        std::iter::once(&self.first).chain(&self.more).map(|bench| &**bench)
    }

    /// The bench of one; of the first for a number that none has.
    #[must_use]
    pub fn get(&self, index: usize) -> &Bench {
        index.checked_sub(1).and_then(|index| self.more.get(index)).unwrap_or(&self.first)
    }
}
