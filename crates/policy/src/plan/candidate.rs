//! What a plan yields, and why: for the attempt loop, and for whoever asks how a request would go.

use std::fmt;

use super::compile::MOST_DEPTH;
use super::config::By;
use crate::health::Lease;

/// A target to ask, with its lease. To drop it unused says nothing of the target. Whether its caller
/// may use it is for whoever asks: each candidate has to be authorised like the first, and one that is
/// not is [set aside](super::Picker::set_aside).
#[derive(Debug)]
pub struct Candidate {
    /// Which one: an index into [`Plan::targets`](super::Plan::targets).
    pub target: usize,
    /// Why this one.
    pub why: Why,
    /// What is held while it is asked; also says with which credential.
    pub lease: Lease,
}

/// How a request would go: every candidate in its order, and what was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Indices into [`Plan::targets`](super::Plan::targets), each with its reasons.
    pub candidates: Vec<(usize, Why)>,
    /// What was looked at and passed over, in the order of looking.
    pub skipped: Vec<Skipped>,
}

/// Reasons from the root of the plan to the target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Why {
    reasons: [Reason; MOST_REASONS],
    count: u8,
}

/// One for each level and what may be said of the target itself.
const MOST_REASONS: usize = MOST_DEPTH + 3;

impl Why {
    pub(super) const NOTHING: Self = Self { reasons: [Reason::Only; MOST_REASONS], count: 0 };

    /// The same with one reason more.
    pub(super) fn and(mut self, reason: Reason) -> Self {
        if let Some(free) = self.reasons.get_mut(usize::from(self.count)) {
            *free = reason;
            self.count += 1;
        }
        self
    }

    /// The reasons, from the root on. A plan of one target needs none.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons[..usize::from(self.count)]
    }
}

impl fmt::Debug for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.reasons()).finish()
    }
}

/// Such as `tier 1 of 2, the better of two`.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reasons().is_empty() {
            return Reason::Only.fmt(f);
        }
        for (index, reason) in self.reasons().iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{reason}")?;
        }
        Ok(())
    }
}

/// Why a part of a plan was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is nothing to choose from.
    Only,
    /// A side of a split, with its weight of all weights.
    Side {
        /// Its weight.
        weight: u32,
        /// All weights.
        of: u64,
        /// Whether it is this caller's side; else nobody is known who could have one.
        sticky: bool,
        /// Whether it was drawn first; else those before it could not serve.
        is_first: bool,
    },
    /// The balance chose it.
    Balanced(By),
    /// It is the only one of a balance that could be asked.
    OnlyOneLeft,
    /// The same conversation or cache key went there before.
    Affinity,
    /// None keeps the latency objective: it comes nearest.
    NearestToObjective,
    /// A tier of a fallback, from 1, and how many there are.
    Tier(u16, u16),
    /// A case of a `when`, from 1.
    Case(u16),
    /// It was ejected, and this request finds out whether it is back.
    Probe,
    /// It is ejected or benched, but so is too much else.
    InSpite,
    /// It is asked again, with another credential or after a wait.
    Again,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => f.write_str("the only target"),
            Self::Side { weight, of, sticky, is_first } => {
                let side = match (sticky, is_first) {
                    (true, true) => "the caller's side",
                    (true, false) => "the caller's next side",
                    (false, true) => "a side",
                    (false, false) => "another side",
                };
                write!(f, "{side} ({weight} of {of})")
            }
            Self::Balanced(By::Latency) => f.write_str("the better of two"),
            Self::Balanced(By::RoundRobin) => f.write_str("its turn"),
            Self::Balanced(By::InFlight) => f.write_str("the least in flight"),
            Self::Balanced(By::Fastest) => f.write_str("the fastest"),
            Self::Balanced(By::Cheapest) => f.write_str("the cheapest"),
            Self::OnlyOneLeft => f.write_str("the only one left"),
            Self::Affinity => f.write_str("the same target as before"),
            Self::NearestToObjective => f.write_str("the nearest to the latency objective"),
            Self::Tier(tier, of) => write!(f, "tier {tier} of {of}"),
            Self::Case(case) => write!(f, "case {case}"),
            Self::Probe => f.write_str("a probe"),
            Self::InSpite => f.write_str("for want of anything better"),
            Self::Again => f.write_str("again"),
        }
    }
}

/// A target that was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Which one: an index into [`Plan::targets`](super::Plan::targets).
    pub target: usize,
    /// Why.
    pub skip: Skip,
}

/// Why a target was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The request did not fit its case, or fitted one before it. Only in an [`Explanation`].
    OtherCase,
    /// It was asked already, elsewhere in the plan.
    Tried,
    /// It is not known to take more input than the one that was asked.
    TooSmall,
    /// Its breaker is open until then.
    Ejected {
        /// In milliseconds of the monotonic clock.
        until_ms: u64,
        /// Whether it could not even be reached.
        unreached: bool,
    },
    /// Another request is finding out whether it is back.
    Probing {
        /// Whether it could not even be reached before.
        unreached: bool,
    },
    /// It is back, and not yet up to its whole share.
    SlowStart {
        /// The percent of its share that it gets now.
        percent: u64,
    },
    /// All its credentials are on the bench until then.
    Benched {
        /// In milliseconds of the monotonic clock.
        until_ms: u64,
    },
    /// No credential may have more requests in flight there.
    Full {
        /// How many there are.
        in_flight: u32,
    },
    /// So many requests are in flight there that others are preferred.
    Saturated {
        /// How many.
        in_flight: u32,
    },
}

impl Skip {
    /// Whether it is asked all the same if there is nothing better.
    #[must_use]
    pub fn is_soft(self) -> bool {
        match self {
            Self::OtherCase | Self::Tried | Self::TooSmall | Self::Full { .. } => false,
            Self::Ejected { unreached, .. } | Self::Probing { unreached } => !unreached,
            Self::SlowStart { .. } | Self::Benched { .. } | Self::Saturated { .. } => true,
        }
    }

    /// When it may be asked again, in milliseconds of the monotonic clock, as far as that is known.
    #[must_use]
    pub fn until_ms(self) -> Option<u64> {
        match self {
            Self::Ejected { until_ms, .. } | Self::Benched { until_ms } => Some(until_ms),
            Self::OtherCase
            | Self::Tried
            | Self::TooSmall
            | Self::Probing { .. }
            | Self::SlowStart { .. }
            | Self::Full { .. }
            | Self::Saturated { .. } => None,
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCase => f.write_str("another case applies"),
            Self::Tried => f.write_str("asked already"),
            Self::TooSmall => f.write_str("not known to take more input"),
            Self::Ejected { unreached: true, .. } => f.write_str("could not be reached"),
            Self::Ejected { unreached: false, .. } => f.write_str("ejected"),
            Self::Probing { .. } => f.write_str("a probe is under way"),
            Self::SlowStart { percent } => write!(f, "slow start at {percent} %"),
            Self::Benched { .. } => f.write_str("all credentials are benched"),
            Self::Full { in_flight } => write!(f, "{in_flight} in flight, as many as it bears"),
            Self::Saturated { in_flight } => write!(f, "{in_flight} in flight already"),
        }
    }
}
