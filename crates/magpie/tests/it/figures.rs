//! Measured times, on a machine that others use too.

use std::time::Duration;

/// How often a measurement may be repeated until it is within its bound: a busy moment of the
/// machine passes, a fault does not.
const TRIES: usize = 3;

/// The value below which `percent` of all lie.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    assert!(!times.is_empty());
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[((sorted.len() - 1) * percent).div_ceil(100)]
}

/// Repeats a measurement until it is within its bound, and fails if it never is. The measurement
/// says what it measured, well or ill.
pub(crate) fn within_bounds(what: &str, mut measure: impl FnMut() -> Result<String, String>) {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        match measure() {
            Ok(figures) => {
                eprintln!("{what}: {figures}");
                return;
            }
            Err(figures) => seen.push(figures),
        }
    }
    panic!("{what}: {}", seen.join("; "));
}

/// The bound for a build: debug builds are several times slower, and not what anyone serves with.
pub(crate) fn bound(release: Duration, debug: Duration) -> Duration {
    if cfg!(debug_assertions) { debug } else { release }
}
