//! What may be done for a share of the requests, and no more.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What one takes, in hundredths.
const ONE: u64 = 100;
/// What is saved up at the most, in hundredths.
const MOST: u64 = 10 * ONE;

/// A share of the requests, in percent. Nothing is there before requests have earned it, and ten are
/// saved up at the most.
#[derive(Debug, Default)]
pub struct Allowance(AtomicU64);

impl Allowance {
    /// Counts a request, of a hundred of which `percent` may do it.
    pub fn earn(&self, percent: u64) {
        // An update that always has a value cannot fail.
        let more = |saved: u64| Some(saved.saturating_add(percent).min(MOST));
        let _ = self.0.fetch_update(Relaxed, Relaxed, more);
    }

    /// Takes one, if there is one.
    #[must_use]
    pub fn spend(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(ONE)).is_ok()
    }
}
