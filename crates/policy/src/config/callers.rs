//! Who may call, as written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use crate::directory::TermsConfig;
use crate::secret::Secret;

/// A virtual key that the file owns. Those made with `magpie keys new` or in the console live in
/// the store.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// What it is called; each name once.
    #[schemars(extend("x-example" = "ci"))]
    pub name: String,
    /// The key itself, best from the environment. At least 16 characters.
    #[schemars(extend("x-example" = "${MAGPIE_KEY_CI}"))]
    pub key: Option<KeySecret>,
    /// Or `sha256:` and the SHA-256 of the key in hexadecimal, so that the file does not hold it.
    #[schemars(extend(
        "x-example" = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "x-alternative" = true
    ))]
    pub hash: Option<String>,
    /// Whose it is.
    #[schemars(extend("x-example" = "ada"))]
    pub user: Option<String>,
    /// The team it counts for. Default: the user's.
    #[schemars(extend("x-example" = "search"))]
    pub team: Option<String>,
    /// The organisation it counts for. Default: the team's.
    #[schemars(extend("x-example" = "acme"))]
    pub org: Option<String>,
    /// What it may do.
    #[serde(flatten)]
    pub terms: TermsConfig,
}

/// An organisation.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrgConfig {
    /// What it may do.
    #[serde(flatten)]
    pub terms: TermsConfig,
}

/// A team.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeamConfig {
    /// The organisation it belongs to.
    #[schemars(extend("x-example" = "acme"))]
    pub org: Option<String>,
    /// What it may do.
    #[serde(flatten)]
    pub terms: TermsConfig,
}

/// A key in the file. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(pub Secret);

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySecret(..)")
    }
}

impl<'de> Deserialize<'de> for KeySecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Secret::new(String::deserialize(deserializer)?.trim())))
    }
}

impl JsonSchema for KeySecret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KeySecret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

/// The durable record of what happened and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// `false` keeps no record. Budgets then begin at nothing after a restart.
    #[schemars(extend("x-example" = true))]
    pub enabled: bool,
    /// When what was written is forced to the disk: `none` leaves it to the system (a crash of
    /// Magpie loses nothing, one of the machine the last seconds), `interval` every 100 ms,
    /// `always` before an answer ends.
    #[schemars(extend("x-example" = "interval"))]
    pub sync: Sync,
    /// Days that single requests are kept. Sums by hour are kept for 400 days, those by day for good.
    #[schemars(extend("x-example" = 90))]
    pub keep_days: u32,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self { enabled: true, sync: Sync::default(), keep_days: 90 }
    }
}

/// When the journal is forced to the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    /// When the system does.
    #[default]
    None,
    /// Every 100 ms.
    Interval,
    /// Before the last byte of an answer leaves.
    Always,
}

/// The admin API.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// `false` switches it off.
    #[schemars(extend("x-example" = true))]
    pub enabled: bool,
    /// Where it listens. Default `127.0.0.1:8001`. Also set by `MAGPIE_ADMIN`.
    #[schemars(extend("x-example" = "127.0.0.1:8001"))]
    pub listen: Option<super::At<String>>,
    /// Host names it may be called by, beside localhost and the address listened on.
    #[schemars(extend("x-example" = ["magpie-admin.example.com"]))]
    pub hosts: Vec<String>,
    /// HTTPS for it.
    pub tls: Option<super::At<super::TlsConfig>>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { enabled: true, listen: None, hosts: Vec::new(), tls: None }
    }
}
