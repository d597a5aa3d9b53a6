//! How often something took how long, in buckets of which each is twice as wide as the one before.

use crate::count::Count;

/// The most buckets of a scale.
pub const MOST_BUCKETS: usize = 17;

/// Upper bounds of buckets: a first one, and each of the others twice the one before. Whatever is
/// measured, the bucket that it falls into is known within a factor of two, and finding that is
/// counting zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// The first upper bound, in nanoseconds.
    pub first_ns: u64,
    /// How many there are, at most [`MOST_BUCKETS`]; what is longer is in a last one without a bound.
    pub buckets: usize,
}

impl Scale {
    /// The upper bounds, in nanoseconds.
    pub fn bounds(self) -> impl Iterator<Item = u64> {
        (0..self.buckets.min(MOST_BUCKETS)).map(move |number| self.first_ns << number)
    }

    /// The number of the bucket that a time falls into.
    fn bucket(self, ns: u64) -> usize {
        let firsts = ns.saturating_sub(1) / self.first_ns.max(1);
        let number = (u64::BITS - firsts.leading_zeros()) as usize;
        number.min(self.buckets).min(MOST_BUCKETS)
    }
}

/// How often something took how long. Written by one thread, like a [`Count`].
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bucket, and one for what is longer.
    counts: [Count; MOST_BUCKETS + 1],
    sum_ns: Count,
}

impl Histogram {
    /// Counts one that took this long. The scale has to be the same each time.
    pub fn observe(&self, scale: Scale, ns: u64) {
        self.counts[scale.bucket(ns)].add(1);
        self.sum_ns.add(ns);
    }
}

/// Histograms of one scale, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    counts: [u64; MOST_BUCKETS + 1],
    /// All times together, in nanoseconds.
    pub sum_ns: u64,
}

impl Total {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// For each upper bound in nanoseconds, how many took no longer.
    pub fn up_to(&self, scale: Scale) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        scale.bounds().zip(counts)
    }
}

impl<'h> FromIterator<&'h Histogram> for Total {
    fn from_iter<I: IntoIterator<Item = &'h Histogram>>(all: I) -> Self {
        let mut total = Self::default();
        for histogram in all {
            for (sum, count) in total.counts.iter_mut().zip(&histogram.counts) {
                *sum += count.get();
            }
            total.sum_ns = total.sum_ns.wrapping_add(histogram.sum_ns.get());
        }
        total
    }
}
