//! Limits: how much per time, counted exactly by any number of threads.
//!
//! A [`Counter`] keeps one number: the time by which all that was taken is worked off at the
//! limit's rate (GCRA, the generic cell rate algorithm). In any span of time, what is taken less
//! what is given back is at most the rate times the span, plus the burst. Every rounding goes
//! against the taker and is less than a nanosecond for each call.

mod config;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) use config::{Count, tokens};
pub use config::{LimitsMap, NAMES};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// How long a counter may stay shut beyond a full burst, in nanoseconds: an absurd count from a
/// provider must not shut a key out for good.
const MOST_DEBT: u64 = 24 * 3_600 * SECOND;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meter {
    /// Requests.
    Requests,
    /// Tokens sent to the model.
    InputTokens,
    /// Tokens the model wrote.
    OutputTokens,
    /// Tokens of both kinds.
    Tokens,
    /// Requests running at once.
    Concurrency,
}

/// A span of time for which an amount is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// Twenty-four hours, whatever the calendar says.
    Day,
}

impl Window {
    /// Its length in nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Second => SECOND,
            Self::Minute => 60 * SECOND,
            Self::Hour => 3_600 * SECOND,
            Self::Day => 24 * 3_600 * SECOND,
        }
    }
}

/// An amount for each window; without a window, an amount at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// What is counted.
    pub meter: Meter,
    /// How much. At 0 nothing passes.
    pub amount: u64,
    /// For what time. None for [`Meter::Concurrency`].
    pub window: Option<Window>,
    /// How much may come at once after a rest. None, and more than `amount`, mean `amount`.
    pub burst: Option<u64>,
}

impl Limit {
    /// How much fits at once after a rest.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.burst.map_or(self.amount, |burst| burst.min(self.amount))
    }

    /// The time for which `n` is the amount, in nanoseconds rounded down, and whether it was
    /// rounded.
    fn time(&self, window: Window, n: u64) -> (u64, bool) {
        divide(n, window.nanos(), self.amount)
    }
}

/// Such as `600 requests per minute`, for people.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.meter {
            Meter::Requests | Meter::Concurrency => "requests",
            Meter::InputTokens => "input tokens",
            Meter::OutputTokens => "output tokens",
            Meter::Tokens => "tokens",
        };
        let time = match self.window {
            Some(Window::Second) => "per second",
            Some(Window::Minute) => "per minute",
            Some(Window::Hour) => "per hour",
            Some(Window::Day) => "per day",
            None => "at once",
        };
        write!(f, "{} {what} {time}", self.amount)
    }
}

/// Why something does not fit, by when it will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It fits after so many nanoseconds, if nobody else comes first.
    Nanos(u64),
    /// It fits when enough of what is running has ended.
    Release,
    /// It never fits: it is more than the burst.
    Never,
}

impl Wait {
    /// The nanoseconds, if it is known how many.
    #[must_use]
    pub fn nanos(self) -> Option<u64> {
        match self {
            Self::Nanos(nanos) => Some(nanos),
            Self::Release | Self::Never => None,
        }
    }
}

/// How a counter stands at an instant, for `x-ratelimit-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The limit's amount.
    pub limit: u64,
    /// What fits now: at most the burst.
    pub remaining: u64,
    /// Nanoseconds until all of the burst is there again. 0 for a limit without a window.
    pub reset_after: u64,
}

/// The state of one limit. Time is that of a monotonic clock, in nanoseconds from any beginning;
/// if it goes back, the counter is only stricter.
#[derive(Debug)]
pub struct Counter {
    limit: Limit,
    /// With a window, when everything taken is worked off; in the past, the counter is at rest.
    /// Without one, how much is taken.
    state: AtomicU64,
}

impl Counter {
    /// A counter at rest.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        Self { limit, state: AtomicU64::new(0) }
    }

    /// What it counts to.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Takes `n` at once, or nothing. To take 0 is to ask whether any debt beyond the burst is
    /// worked off.
    ///
    /// # Errors
    /// When `n` would fit.
    pub fn take(&self, n: u64, now_ns: u64) -> Result<(), Wait> {
        let rest = self.limit.capacity().checked_sub(n).ok_or(Wait::Never)?;
        let Some(window) = self.limit.window else {
            let entered = self.state.fetch_update(Relaxed, Relaxed, |taken| {
                (taken <= rest).then(|| taken.saturating_add(n))
            });
            return entered.map(drop).map_err(|_| Wait::Release);
        };
        // `n` fits when what is left to work off fits beside it.
        let (room, _) = self.limit.time(window, rest);
        let (time, rounded) = self.limit.time(window, n);
        let cost = time + u64::from(rounded);
        let taken = self.state.fetch_update(Relaxed, Relaxed, |until| {
            let fits = until.saturating_sub(now_ns) <= room;
            fits.then(|| until.max(now_ns).saturating_add(cost))
        });
        taken.map(drop).map_err(|until| Wait::Nanos(until.saturating_sub(now_ns) - room))
    }

    /// Sets what was used in the place of what was taken for it. The difference is given back, but
    /// never to more room than the burst; or it is taken without asking, and those who come later
    /// wait it off, a day at most. What runs at once is given back as used 0.
    pub fn settle(&self, taken: u64, used: u64, now_ns: u64) {
        let (back, more) = (taken.saturating_sub(used), used.saturating_sub(taken));
        let change = |update: &dyn Fn(u64) -> u64| {
            // An update that always has a value cannot fail.
            let _ = self.state.fetch_update(Relaxed, Relaxed, |state| Some(update(state)));
        };
        let Some(window) = self.limit.window else {
            return change(&|held| held.saturating_sub(back).saturating_add(more));
        };
        if more == 0 {
            let (time, _) = self.limit.time(window, back);
            return change(&|until| until.saturating_sub(time));
        }
        let (time, rounded) = self.limit.time(window, more);
        let debt = time.saturating_add(u64::from(rounded));
        let (burst, _) = self.limit.time(window, self.limit.capacity());
        let most = now_ns.saturating_add(burst).saturating_add(MOST_DEBT);
        change(&|until| until.max(now_ns).saturating_add(debt).min(most.max(until)));
    }

    /// How it stands at this instant.
    #[must_use]
    pub fn standing(&self, now_ns: u64) -> Standing {
        let Limit { amount, window, .. } = self.limit;
        let state = self.state.load(Relaxed);
        let (used, reset_after) = match window {
            None => (state, 0),
            Some(window) => {
                let left = state.saturating_sub(now_ns);
                let (used, rounded) = divide(left, amount, window.nanos());
                (used.saturating_add(u64::from(rounded)), left)
            }
        };
        let remaining = self.limit.capacity().saturating_sub(used);
        Standing { limit: amount, remaining, reset_after }
    }
}

/// `n` times `by`, divided by `over` (0 counts as 1): rounded down, at most `u64::MAX`, and whether
/// it was rounded.
fn divide(n: u64, by: u64, over: u64) -> (u64, bool) {
    let over = over.max(1);
    if let Some(product) = n.checked_mul(by) {
        return (product / over, product % over != 0);
    }
    let (product, over) = (u128::from(n) * u128::from(by), u128::from(over));
    (u64::try_from(product / over).unwrap_or(u64::MAX), product % over != 0)
}
