//! Answers that are kept for those who ask again with the same `Idempotency-Key`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{At, Config};
use crate::problem::Problem;
use crate::units;

/// How long answers are kept, and in how many bytes, unless something else is said.
const KEPT: Duration = Duration::from_secs(600);
const SIZE: usize = 64 << 20;
/// The longest that answers are kept.
const MOST_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Answers that are kept for those who ask again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdempotencyConfig {
    /// `false` takes no notice of the header `Idempotency-Key`; it then only passes to the provider.
    #[schemars(extend("x-example" = true))]
    pub enabled: bool,
    /// How long an answer is kept from its end on, in the memory of this process. Default `10m`, at
    /// most `24h`.
    #[schemars(extend("x-example" = "10m"))]
    pub keep: Option<String>,
    /// Bytes of all answers that are kept, and of those under way that are shared. When they are
    /// used up, the oldest are forgotten. Default `64MiB`.
    #[schemars(extend("x-example" = "64MiB"))]
    pub size: Option<String>,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self { enabled: true, keep: None, size: None }
    }
}

/// Answers that are shared: with those who ask again, and among identical requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// How long they are kept for those who ask again, from their end on; `None` if the header means
    /// nothing.
    pub keep: Option<Duration>,
    /// Bytes of all of them, those under way too.
    pub size: usize,
    /// Whether any model shares the answers to identical requests.
    pub single_flight: bool,
}

impl Sharing {
    /// What is written, or the defaults and what is wrong with it.
    pub(crate) fn of(config: &Config, problems: &mut Vec<Problem>) -> Self {
        let At { value: written, place } = &config.idempotency;
        let single_flight = config.models.values().any(|model| model.value.single_flight);
        let mut resolved = Self { keep: Some(KEPT), size: SIZE, single_flight };
        match written.size.as_deref().map(units::size) {
            Some(Ok(size)) => resolved.size = size,
            Some(Err(message)) => problems.push(Problem { place: *place, message, hint: None }),
            None => {}
        }
        match written.keep.as_deref().map(units::duration) {
            Some(Ok(keep)) if keep > MOST_KEPT => {
                let hint = "they are in memory, and minutes are enough for who tries again";
                problems.push(Problem::new(*place, "`keep` is at most 24h", hint));
            }
            Some(Ok(keep)) => resolved.keep = Some(keep),
            Some(Err(message)) => {
                let hint = "to keep nothing, write `enabled: false`";
                problems.push(Problem::new(*place, message, hint));
            }
            None => {}
        }
        resolved.keep = resolved.keep.filter(|_| written.enabled);
        resolved
    }
}
