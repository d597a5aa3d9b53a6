//! What the options of a model have come to since the process began: who waited, what was asked
//! beside an attempt, which answers were shared or gone on with.
//!
//! Counted where an option is used, by all workers, and kept over reloads. The admin API and the
//! metrics tell these same numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How often something has happened. Any thread may count.
#[derive(Debug, Default)]
pub struct Tick(AtomicU64);

impl Tick {
    /// Once more.
    pub fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// How often.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that waited for room, and got it.
    pub admitted: Tick,
    /// Requests that waited for room, and were refused in the end.
    pub refused: Tick,
    /// Requests whose clients left while they waited.
    pub left: Tick,
    /// Requests that were refused at once, because too many waited.
    pub full: Tick,
    /// Attempts that were begun beside another one of their request.
    pub beside: Tick,
    /// Those of them whose answer was the request's.
    pub won: Tick,
    /// Times that a target was late and no other was asked, because the share for it was used up.
    pub withheld: Tick,
    /// Answers that were given again to a request with the same `Idempotency-Key`.
    pub replayed: Tick,
    /// Answers that were shared with an identical request at the same time.
    pub joined: Tick,
    /// Answers that broke off in the middle, and were gone on with.
    pub resumed: Tick,
    /// Answers that broke off in the middle, and that nobody could go on with.
    pub given_up: Tick,
}

impl Tally {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Every one by its name, so that none is forgotten.
        let Self {
            admitted,
            refused,
            left,
            full,
            beside,
            won,
            withheld,
            replayed,
            joined,
            resumed,
            given_up,
        } = self;
        let all = [
            admitted, refused, left, full, beside, won, withheld, replayed, joined, resumed,
            given_up,
        ];
        all.into_iter().all(|tick| tick.get() == 0)
    }
}
