//! How long a target takes, as a distribution: counts in buckets that grow with the times, so that
//! any percentile is known to a fifth.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Buckets: four for each doubling, up to 2^20 ms, 17 minutes.
const BUCKETS: usize = 80;
/// Values from which a percentile is told.
const LEAST: u32 = 20;
/// Values that are remembered in full; then all count half.
const MOST: u32 = 1_000;

/// Times in milliseconds. Takes no room before the first of them.
#[derive(Debug, Default)]
pub struct Times(OnceLock<Box<[AtomicU32; BUCKETS]>>);

impl Times {
    /// Counts a time.
    pub fn observe(&self, ms: u64) {
        let buckets = self.0.get_or_init(|| Box::new([const { AtomicU32::new(0) }; BUCKETS]));
        let count = buckets[bucket(ms)].fetch_add(1, Relaxed);
        // The fullest bucket has a share of all; looking at one is enough to keep the sum bounded.
        if count >= MOST / 4 && total(buckets) >= MOST {
            for bucket in &**buckets {
                bucket.store(bucket.load(Relaxed) / 2, Relaxed);
            }
        }
    }

    /// The time within which 95 % of the answers began; see [`Times::percentile_ms`].
    #[must_use]
    pub fn p95_ms(&self) -> Option<u64> {
        self.percentile_ms(95)
    }

    /// The time that so many percent do not exceed, rounded up to the end of its bucket; `None`
    /// before there were twenty.
    #[must_use]
    pub fn percentile_ms(&self, percent: u32) -> Option<u64> {
        let buckets = self.0.get()?;
        let all = Some(total(buckets)).filter(|all| *all >= LEAST)?;
        let mut above = 0;
        for (index, bucket) in buckets.iter().enumerate().rev() {
            above += bucket.load(Relaxed);
            if u64::from(above) * 100 > u64::from(all) * u64::from(100 - percent) {
                return Some(end(index));
            }
        }
        None
    }
}

fn total(buckets: &[AtomicU32; BUCKETS]) -> u32 {
    buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
}

/// The bucket of a time: its doubling, and the two bits below.
fn bucket(ms: u64) -> usize {
    let ms = ms.saturating_add(1).min((1 << (BUCKETS / 4)) - 1);
    let doubling = ms.ilog2();
    let quarter =
        if doubling >= 2 { (ms >> (doubling - 2)) & 3 } else { (ms << (2 - doubling)) & 3 };
    usize::try_from(u64::from(doubling) * 4 + quarter).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The first time that is beyond a bucket, in milliseconds.
fn end(bucket: usize) -> u64 {
    let (doubling, quarter) = (bucket / 4, bucket as u64 % 4);
    ((1 << doubling) * (5 + quarter)).div_ceil(4) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_behind_its_times_and_within_a_quarter() {
        for ms in 0..200_000 {
            let end = end(bucket(ms));
            assert!(end >= ms, "{ms} ends at {end}");
            assert!(end <= ms + ms / 4 + 1, "{ms} ends at {end}");
            assert!(bucket(ms) <= bucket(ms + 1));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_95th_percentile_is_that_of_the_last_thousand() {
        let times = Times::default();
        for ms in 1..=19 {
            times.observe(ms);
        }
        assert_eq!(times.p95_ms(), None);
        let times = Times::default();
        for round in 0..10 {
            for ms in 1..=100 {
                times.observe(ms * 10);
            }
            let p95 = times.p95_ms().unwrap();
            assert!((940..=1200).contains(&p95), "{p95} in round {round}");
        }
        for _ in 0..4_000 {
            times.observe(20);
        }
        assert!(times.p95_ms().unwrap() <= 25);
    }
}
