//! How sure a difference is, however often one looks.
//!
//! A confidence interval of the usual kind holds for one look that was fixed beforehand. Whoever
//! looks every day and stops when it excludes nothing is wrong far more often than it says. A
//! confidence *sequence* holds at all looks at once: the chance that it ever misses the truth, from
//! the first look to the last, is at most alpha.
//!
//! What is computed here is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha,
//! Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences"
//! (arXiv:2103.06476, 2021), which is the normal mixture of Robbins ("Statistical methods related to
//! the law of the iterated logarithm", 1970) with estimated variances. For an estimate whose
//! variance is `v`, with the information `I = 1/v`, it is
//!
//! ```text
//! estimate ± sqrt((I + c) · ln((I + c) / (c · alpha²))) / I
//! ```
//!
//! for any `c > 0` that is fixed beforehand: estimate times information, less its expectation, moves
//! like a Brownian motion at the time `I`, and `sqrt(c/(c+I)) · exp(S²/(2(c+I)))` is a martingale,
//! which by Ville's inequality ever reaches `1/alpha` with a probability of at most `alpha`.
//!
//! The estimate is the difference of two means, and its variance the sum of theirs, so no union of
//! two intervals is taken. Time is information, not a count, because a mean over callers gets more
//! certain in two ways: by more callers, and by more requests of each.
//!
//! It is asymptotic: it holds as far as means are normal and variances known, which is why there
//! are least numbers below which nothing is told.

/// Units of information at which the sequence is tight: `c` for two sides whose requests have
/// variances that add up to 1. It is at its tightest with about a hundred requests a side, and
/// widens slowly: by a quarter at a hundred thousand.
const TIGHT_AT: f64 = 12.5;

/// Count, sum and sum of squares: mean and variance follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Moments {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Moments {
    /// The mean; 0 of nothing.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.number() }
    }

    /// The variance of one value, as a sample of others tells it; 0 of fewer than two.
    #[must_use]
    pub fn variance(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let number = self.number();
        ((self.squares - self.sum * self.sum / number) / (number - 1.0)).max(0.0)
    }

    /// The same in another unit, of which a value is `factor` times as many.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        Self { sum: self.sum * factor, squares: self.squares * factor * factor, ..*self }
    }

    /// With a 0 and a 1 more: of values between them, no few of which all agree prove that others
    /// will.
    fn widened(&self) -> Self {
        Self { count: self.count + 2, sum: self.sum + 1.0, squares: self.squares + 1.0 }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2⁵³")]
    fn number(&self) -> f64 {
        self.count as f64
    }
}

/// What is known of one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    mean: f64,
    /// The variance of the mean.
    error: f64,
    /// The variance of a single request, which does not change with time.
    spread: f64,
}

impl Side {
    /// A side by its independent units, callers or requests, and by its requests. Values that
    /// `are_shares` lie between 0 and 1.
    #[must_use]
    pub fn new(units: &Moments, requests: &Moments, are_shares: bool) -> Self {
        let widened = |moments: &Moments| if are_shares { moments.widened() } else { *moments };
        let number = units.number().max(1.0);
        Self {
            mean: units.mean(),
            error: widened(units).variance() / number,
            spread: widened(requests).variance(),
        }
    }
}

/// A difference, and between what it lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The other mean less that of the baseline.
    pub difference: f64,
    /// Not less than that.
    pub low: f64,
    /// Not more than that.
    pub high: f64,
}

impl Interval {
    /// Whether there is a difference, as far as this can be known.
    #[must_use]
    pub fn excludes_nothing(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// The difference of two sides, which lies in the interval at all looks with a probability of at
/// least `1 - alpha`; `alpha` lies between 0 and 1.
#[must_use]
pub fn difference(baseline: &Side, other: &Side, alpha: f64) -> Interval {
    let difference = other.mean - baseline.mean;
    let half = half_width(baseline.error + other.error, baseline.spread + other.spread, alpha);
    Interval { difference, low: difference - half, high: difference + half }
}

/// Half of an interval's width, by the variance of the estimate and that of two requests.
fn half_width(error: f64, spread: f64, alpha: f64) -> f64 {
    // What never varies is known.
    if error <= 0.0 || spread <= 0.0 {
        return 0.0;
    }
    let (information, prior) = (1.0 / error, TIGHT_AT / spread);
    let sum = information + prior;
    (sum * (sum / (prior * alpha * alpha)).ln()).sqrt() / information
}

#[cfg(test)]
mod tests;
