//! A histogram with linear buckets within every power of two.

use std::time::Duration;

use serde_json::{Value, json};

/// Buckets per power of two: values are kept to better than 1 in 64.
const FINE: u64 = 64;
const BUCKETS: usize = 128 + 57 * 64;

/// A histogram of times in ns.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
    sum: u128,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0, sum: 0 }
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    if value < 2 * FINE {
        return usize::try_from(value).unwrap_or(0);
    }
    let shift = 64 - 7 - u64::from(value.leading_zeros());
    let index = 2 * FINE + (shift - 1) * FINE + (value >> shift) - FINE;
    usize::try_from(index).unwrap_or(BUCKETS - 1)
}

/// The largest value of a bucket.
fn top(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * FINE {
        return index;
    }
    let shift = (index - 2 * FINE) / FINE + 1;
    let digits = u128::from((index - 2 * FINE) % FINE + FINE + 1);
    u64::try_from((digits << shift) - 1).unwrap_or(u64::MAX)
}

impl Histogram {
    /// Counts a value in ns.
    pub fn add(&mut self, nanos: u64) {
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
        self.sum += u128::from(nanos);
    }

    /// Counts a time.
    pub fn add_time(&mut self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value in ns below or at which a share of `part` of `whole` of the values lies.
    #[must_use]
    pub fn quantile(&self, part: u64, whole: u64) -> u64 {
        let rank = (u128::from(self.count) * u128::from(part)).div_ceil(u128::from(whole));
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank.max(1) {
                return top(index).min(self.max);
            }
        }
        self.max
    }

    /// The figures of interest in µs; `Null` when nothing was counted.
    #[must_use]
    pub fn to_json(&self) -> Value {
        if self.count == 0 {
            return Value::Null;
        }
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        json!({
            "count": self.count,
            "mean_us": self.sum as f64 / self.count as f64 / 1000.0,
            "p50_us": micros(self.quantile(1, 2)),
            "p90_us": micros(self.quantile(9, 10)),
            "p99_us": micros(self.quantile(99, 100)),
            "p999_us": micros(self.quantile(999, 1000)),
            "max_us": micros(self.max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..4000).chain((0..63).map(|bit| 1 << bit)).chain([u64::MAX]) {
            let index = bucket(value);
            assert!(index < BUCKETS && top(index) >= value, "{value}");
            assert!(index == 0 || top(index - 1) < value, "{value}");
            assert!(top(index) - value <= value / 64, "{value}");
        }
    }

    #[test]
    fn quantiles_are_near() {
        let mut histogram = Histogram::default();
        for value in 1..=100_000 {
            histogram.add(value);
        }
        let p99 = histogram.quantile(99, 100);
        assert!((99_000..100_700).contains(&p99), "{p99}");
        assert_eq!(histogram.quantile(1, 1), 100_000);
        assert_eq!(Histogram::default().to_json(), Value::Null);
    }
}
