//! The numbers for Prometheus, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::KeySecret;

/// The numbers at `/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Let everyone who reaches the admin listener read `/metrics`. Without it they need an admin
    /// token of a role that reads everything (`auditor` will do), or the one below.
    #[schemars(extend("x-example" = false))]
    pub open: bool,
    /// A token that opens `/metrics` and nothing else, best from the environment. At least 16
    /// characters.
    #[schemars(extend("x-example" = "${MAGPIE_METRICS_TOKEN}"))]
    pub token: Option<KeySecret>,
    /// Count each team apart, with a label `team`.
    #[schemars(extend("x-example" = false))]
    pub teams: bool,
}
