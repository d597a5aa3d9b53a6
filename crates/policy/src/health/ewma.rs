//! A mean that forgets: an exponentially weighted moving average in one atomic number.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Time in which an old value loses most of its weight to a new one, in milliseconds.
const MEMORY_MS: f32 = 10_000.0;
/// The least weight of a new value, so that many at once count too.
const LEAST_WEIGHT: f32 = 1.0 / 16.0;
/// Without news, the mean halves in this time, in milliseconds: a target that was slow once is
/// tried again.
const HALF_LIFE_MS: f32 = 60_000.0;

/// The mean of times, in milliseconds, with more weight on the newer ones. The upper half of the
/// word is the mean as `f32`, the lower one the time of the last news.
#[derive(Debug, Default)]
pub struct Ewma(AtomicU64);

impl Ewma {
    /// Takes a new value, in milliseconds.
    pub fn observe(&self, value_ms: u64, now_ms: u64) {
        // A mean of 0 would stand for none.
        let value = approximate(value_ms).max(0.5);
        let update = |word: u64| {
            let Some((mean, passed)) = read(word, now_ms) else {
                return Some(pack(value, now_ms));
            };
            let weight = (1.0 - (-passed / MEMORY_MS).exp()).max(LEAST_WEIGHT);
            Some(pack(mean + (value - mean) * weight, now_ms))
        };
        // An update that always has a value cannot fail.
        let _ = self.0.fetch_update(Relaxed, Relaxed, update);
    }

    /// The mean, in milliseconds; `None` before the first value.
    #[must_use]
    pub fn mean_ms(&self, now_ms: u64) -> Option<f32> {
        let (mean, passed) = read(self.0.load(Relaxed), now_ms)?;
        Some(mean * (-passed / HALF_LIFE_MS).exp2())
    }
}

fn pack(mean: f32, now_ms: u64) -> u64 {
    (u64::from(mean.to_bits()) << 32) | (now_ms & u64::from(u32::MAX))
}

/// The mean, and the milliseconds since its last news.
fn read(word: u64, now_ms: u64) -> Option<(f32, f32)> {
    if word == 0 {
        return None;
    }
    let bits = u32::try_from(word >> 32).unwrap_or_default();
    let passed = now_ms.wrapping_sub(word) & u64::from(u32::MAX);
    // Another thread may be ahead: that is no time passed.
    let passed = if passed > u64::from(u32::MAX / 2) { 0 } else { passed };
    Some((f32::from_bits(bits), approximate(passed)))
}

/// As `f32`; nothing here is as long as the 4 hours beyond which that is coarser than it is.
fn approximate(ms: u64) -> f32 {
    ms as f32
}
