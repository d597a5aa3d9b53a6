//! What the API changes and reads outside its own store.

use std::sync::Arc;

use policy::Snapshot;
use policy::directory::{Chain, GroupConfig, KeyRecord, Kind};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// What has to happen in memory when a change is committed.
#[derive(Debug, Clone)]
pub enum Effect {
    /// A group is new or has changed.
    PutGroup(Kind, String, Box<GroupConfig>),
    /// A key is new or has changed.
    PutKey(Box<KeyRecord>),
    /// A group is gone, or a key is revoked.
    Remove(Kind, String),
}

/// The plans that requests go by.
pub struct Plans {
    /// The configuration that runs.
    pub snapshot: Arc<Snapshot>,
    /// Now, in milliseconds of the monotonic clock that health is counted by.
    pub now_ms: u64,
}

/// The numbers of all that runs.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Exposed {
    /// What the format of the text is called in `Content-Type`.
    #[serde(skip)]
    pub media: &'static str,
    /// The text.
    pub text: String,
}

/// The running relay, as far as the API acts on it. Called on blocking threads; none of it may
/// take longer than a moment.
pub trait Live: Send + Sync + 'static {
    /// Takes a committed change into memory. Called in the order of the commits, one at a time.
    fn apply(&self, effect: Effect);
    /// A group that stands in the configuration file; the API does not change those.
    fn file_group(&self, kind: Kind, id: &str) -> Option<GroupConfig>;
    /// All groups of a kind that stand in the configuration file, by id; none unless said otherwise.
    fn file_groups(&self, _: Kind) -> Vec<(String, GroupConfig)> {
        Vec::new()
    }
    /// All keys that stand in the configuration file, without anything of their texts; none unless
    /// said otherwise. The id of such a key is its name.
    fn file_keys(&self) -> Vec<KeyRecord> {
        Vec::new()
    }
    /// What is left of a holder's limits and budgets; `None` if there is no such holder.
    fn standing(&self, kind: Kind, id: &str) -> Option<Standing>;
    /// The plans that requests go by; none unless said otherwise.
    fn plans(&self) -> Option<Plans> {
        None
    }
    /// A key by its id, with everyone above it; none unless said otherwise.
    fn chain(&self, _: &str) -> Option<Chain> {
        None
    }
    /// The numbers of all that runs, in the format that this `Accept` asks for; none unless said
    /// otherwise.
    fn metrics(&self, _accept: &str) -> Option<Exposed> {
        None
    }
    /// What a model of a provider costs; `None` if that is not known.
    fn price(&self, provider: &str, model: &str) -> Option<Value>;
    /// The configuration file as a tree, its secrets masked: never as text, in which a secret
    /// cannot be told. What stands under a name that a secret could have is masked once more.
    fn config(&self) -> Value;
    /// Reads the configuration file again.
    ///
    /// # Errors
    /// Its problems; the running configuration stays.
    fn reload(&self) -> Result<(), Vec<String>>;
}

/// What is left of a holder's limits and budgets.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Standing {
    /// Its own limits, not those of the groups above it.
    pub limits: Vec<LimitStanding>,
    /// Its own budgets.
    pub budgets: Vec<BudgetStanding>,
}

/// What is left of a limit.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LimitStanding {
    /// The limit, as it is written in the configuration: `rpm`, `input_tpd`, `concurrency`.
    pub limit: String,
    /// How much it allows per window.
    pub amount: u64,
    /// How much can be taken now.
    pub remaining: u64,
    /// Milliseconds until all of it can be taken.
    pub reset_ms: u64,
}

/// What is left of a budget. Money is written as text, `¥12.5`, so that no digit is lost.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BudgetStanding {
    /// `day`, `week`, `month`, `total`, or a rolling time such as `30d`.
    pub period: String,
    /// The budget.
    pub amount: String,
    /// What was spent in this period.
    pub spent: String,
    /// What is set aside for requests under way.
    pub reserved: String,
    /// When the period began, in Unix milliseconds.
    pub started_ms: u64,
    /// When the next one begins, in Unix milliseconds.
    pub resets_ms: Option<u64>,
}
