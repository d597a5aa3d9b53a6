//! Credentials take turns, and one that was throttled or refused sits on the bench for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Credentials that one provider may have.
pub const MOST_CREDENTIALS: usize = 64;

use super::window::{Range, Window};

/// Until when something is left alone, and how much it may have to do. Time is that of a monotonic
/// clock, in milliseconds.
#[derive(Debug, Default)]
pub struct Bench {
    until_ms: AtomicU64,
    /// Attempts under way with it, where their number is bounded.
    pub window: Window,
}

impl Bench {
    /// Leaves it alone until then, or longer if that was said before.
    pub fn until(&self, until_ms: u64) {
        self.until_ms.fetch_max(until_ms, Relaxed);
    }

    /// Until when it is left alone; `None` if it is not.
    #[must_use]
    pub fn benched(&self, now_ms: u64) -> Option<u64> {
        Some(self.until_ms.load(Relaxed)).filter(|until| *until > now_ms)
    }

    /// It has worked: there is no reason to leave it alone.
    pub fn clear(&self) {
        if self.until_ms.load(Relaxed) != 0 {
            self.until_ms.store(0, Relaxed);
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
    windows: Option<Range>,
}

/// A credential whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Picked {
    pub(super) credential: usize,
    /// Whether it is left alone, but so are all.
    pub(super) was_benched: bool,
}

impl Credentials {
    /// The bench of each, in the provider's order; at most 64 of them.
    #[must_use]
    pub fn new(benches: impl IntoIterator<Item = Arc<Bench>>) -> Self {
        let mut benches = benches.into_iter().take(MOST_CREDENTIALS);
        let first = benches.next().unwrap_or_default();
        Self { first, more: benches.collect(), turn: AtomicUsize::new(0), windows: None }
    }

    /// The same with windows so wide, or without any.
    #[must_use]
    pub fn within(self, windows: Option<Range>) -> Self {
        Self { windows, ..self }
    }

    /// How wide their windows may be, if they have any.
    #[must_use]
    pub fn windows(&self) -> Option<Range> {
        self.windows
    }

    /// How many there are; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.more.len() + 1
    }

    /// The one whose turn it is, of those that are not left alone and have room; if all are left
    /// alone, the one that is free soonest. Its place is to be [given back](Self::give_back). `None`
    /// if there is no room.
    pub(super) fn pick(&self, now_ms: u64) -> Option<Picked> {
        let count = self.count();
        let start = match count {
            1 => 0,
            _ => self.turn.fetch_add(1, Relaxed),
        };
        let (mut soonest, mut is_full) = ((0, u64::MAX), false);
        for step in 0..count {
            let credential = start.wrapping_add(step) % count;
            match self.get(credential).benched(now_ms) {
                None if self.enter(credential, now_ms) => {
                    return Some(Picked { credential, was_benched: false });
                }
                None => is_full = true,
                Some(until) if until < soonest.1 => soonest = (credential, until),
                Some(_) => {}
            }
        }
        let credential = soonest.0;
        let takes = !is_full && self.enter(credential, now_ms);
        takes.then_some(Picked { credential, was_benched: true })
    }

    fn enter(&self, credential: usize, now_ms: u64) -> bool {
        self.windows.is_none_or(|range| self.get(credential).window.enter(range, now_ms))
    }

    /// Gives back the place of one that was picked.
    pub(super) fn give_back(&self, credential: usize) {
        if self.windows.is_some() {
            self.get(credential).window.leave();
        }
    }

    /// Whether none has room that is not left alone, though there is one.
    #[must_use]
    pub fn are_full(&self, now_ms: u64) -> bool {
        let Some(range) = self.windows else { return false };
        let mut working = self.benches().filter(|bench| bench.benched(now_ms).is_none()).peekable();
        working.peek().is_some() && working.all(|bench| bench.window.is_full(range))
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
