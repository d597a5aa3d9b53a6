//! How many attempts a credential may have under way at a target, found out by its 429s.
//!
//! A window grows while it is used to the full, and a 429 narrows it to seven tenths (additive
//! increase, multiplicative decrease). Plain AIMD would spend most of its time well below what the
//! provider bears, and a small window would be throttled every few calls; so a window remembers
//! where it was throttled last. It is back below that mark at once, stays there for a while, and
//! goes beyond it with care. It never waits and knows no clock: times come in, in milliseconds.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The widest window.
pub const WIDEST: u16 = 10_000;
/// What a 429 leaves of a window, in tenths.
const LEFT_TENTHS: u32 = 7;
/// Windows of successes for which it stays at the mark before it goes beyond.
const HELD_WINDOWS: u32 = 8;
/// The least successes for that: one call in so many may be throttled for the sake of knowing.
const HELD_LEAST: u32 = 128;
/// 429s within this time, in milliseconds, speak of one event: the mark is where it began. A limit by the minute throttles everything for a while, and says nothing
/// of how much may be under way.
const EVENT_MS: u64 = 1_000;

/// Where windows begin, and how wide they may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// At the beginning.
    pub from: u16,
    /// At most.
    pub to: u16,
}

/// The window of one credential at one target. See the [module](self).
#[derive(Debug, Default)]
pub struct Window {
    in_flight: AtomicU32,
    /// A packed [`State`].
    state: AtomicU64,
    /// When it was narrowed last; 0 for never.
    narrowed_ms: AtomicU64,
    /// When the mark was set; 0 for never.
    marked_ms: AtomicU64,
    /// When it was full last.
    full_ms: AtomicU64,
}

/// Packed as: 16 bits size, 16 bits mark, 32 bits successes.
#[derive(Debug, Clone, Copy)]
struct State {
    size: u32,
    /// Where it was throttled last; 0 if it never was.
    mark: u32,
    /// Successes since it had this size.
    successes: u32,
}

impl State {
    /// A word of 0 is a window that has not begun.
    fn unpack(word: u64, range: Range) -> Self {
        let part = |shift: u32| u32::from((word >> shift & 0xffff) as u16);
        let (from, to) = (u32::from(range.from), u32::from(range.to));
        let size = if word == 0 { from } else { part(0) };
        let successes = u32::try_from(word >> 32).unwrap_or(0);
        Self { size: size.clamp(1, to.max(1)), mark: part(16), successes }
    }

    fn pack(self) -> u64 {
        u64::from(self.successes) << 32 | u64::from(self.mark) << 16 | u64::from(self.size)
    }

    /// Successes at this size after which it grows by one.
    fn needed(self) -> u32 {
        match self {
            // Nobody has said no yet: it doubles with each window.
            Self { mark: 0, .. } => 1,
            // That much was borne a moment ago.
            Self { size, mark, .. } if size + 1 < mark => 1,
            Self { size, mark, .. } if size <= mark + 1 => (HELD_WINDOWS * size).max(HELD_LEAST),
            Self { size, .. } => size,
        }
    }

    fn after_success(self, range: Range) -> Self {
        let successes = self.successes.saturating_add(1);
        match successes >= self.needed() && self.size < u32::from(range.to) {
            true => Self { size: self.size + 1, successes: 0, ..self },
            false => Self { successes, ..self },
        }
    }
}

impl Window {
    /// Attempts under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// How many there may be.
    #[must_use]
    pub fn size(&self, range: Range) -> u32 {
        State::unpack(self.state.load(Relaxed), range).size
    }

    /// Whether one more would be too many.
    #[must_use]
    pub fn is_full(&self, range: Range) -> bool {
        self.in_flight() >= self.size(range)
    }

    /// Takes a place, if there is one. Whoever gets it has to [leave](Self::leave).
    #[must_use]
    pub fn enter(&self, range: Range, now_ms: u64) -> bool {
        let size = self.size(range);
        let one_more = |count: u32| (count < size).then_some(count + 1);
        let entered = self.in_flight.fetch_update(Relaxed, Relaxed, one_more);
        if entered.is_ok_and(|before| before + 1 < size) {
            return true;
        }
        self.full_ms.fetch_max(now_ms, Relaxed);
        entered.is_ok()
    }

    /// Gives a place back.
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// An attempt, begun then, went well. That says something if the window was full since, and has
    /// not been narrowed since.
    pub fn succeeded(&self, range: Range, begun_ms: u64) {
        if begun_ms <= self.narrowed_ms.load(Relaxed) || self.full_ms.load(Relaxed) < begun_ms {
            return;
        }
        let grow = |word| Some(State::unpack(word, range).after_success(range).pack());
        // An update that always has a value cannot fail.
        let _ = self.state.fetch_update(Relaxed, Relaxed, grow);
    }

    /// An attempt, begun then, was throttled. Narrows the window, once for all that were under way
    /// then. Says whether that is an answer to it: not if there was only one.
    pub fn throttled(&self, range: Range, begun_ms: u64, now_ms: u64) -> bool {
        let now_ms = now_ms.max(1);
        let later = |narrowed: u64| (narrowed == 0 || begun_ms > narrowed).then_some(now_ms);
        if self.narrowed_ms.fetch_update(Relaxed, Relaxed, later).is_err() {
            return true;
        }
        let marked_ms = self.marked_ms.load(Relaxed);
        let is_new = marked_ms == 0 || now_ms.saturating_sub(marked_ms) >= EVENT_MS;
        if is_new {
            self.marked_ms.store(now_ms, Relaxed);
        }
        let flight = self.in_flight().max(1);
        let narrowed = |word| {
            let state = State::unpack(word, range);
            let borne = state.size.min(flight);
            let mark = if is_new || state.mark == 0 { borne } else { state.mark };
            let size = (borne * LEFT_TENTHS / 10).max(1);
            Some(State { size, mark, successes: 0 }.pack())
        };
        // An update that always has a value cannot fail.
        let word = self.state.fetch_update(Relaxed, Relaxed, narrowed).unwrap_or_default();
        State::unpack(word, range).size.min(flight) > 1
    }
}
