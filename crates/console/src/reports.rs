//! What the API reads of the ledger.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::experiment::{Counts, Setup};

/// Whose requests, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this key's.
    pub key: Option<String>,
    /// Only this user's.
    pub user: Option<String>,
    /// Only this team's. A manager's own team always stands here.
    pub team: Option<String>,
    /// Only this org's.
    pub org: Option<String>,
    /// Only this model's, by the name that was asked for.
    pub model: Option<String>,
    /// Only this provider's.
    pub provider: Option<String>,
    /// From this time on, in Unix milliseconds.
    pub from_ms: u64,
    /// Up to but without this time, in Unix milliseconds.
    pub to_ms: u64,
}

/// What sums are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// One row for each key.
    Key,
    /// One row for each user.
    User,
    /// One row for each team.
    Team,
    /// One row for each org.
    Org,
    /// One row for each model that was asked for.
    Model,
    /// One row for each provider.
    Provider,
    /// One row for each model of a provider.
    UpstreamModel,
    /// One row for each day, in UTC.
    Day,
    /// One row for each hour.
    Hour,
    /// One row for each minute.
    Minute,
}

/// Tokens, each counted in one place only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tokens {
    /// Read, neither from nor into a cache.
    pub input: u64,
    /// Read from the provider's cache.
    pub cached_read: u64,
    /// Written into the provider's cache.
    pub cache_write: u64,
    /// Written, but for reasoning.
    pub output: u64,
    /// Written while reasoning.
    pub reasoning: u64,
}

/// A sum. What was paid in two currencies is two rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UsageRow {
    /// The id or name that it is the sum of, or the begin of the time in Unix milliseconds.
    pub group: String,
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Those whose price is not known. They are not in `cost`.
    pub unpriced: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// What it cost, as text, such as `¥1.25`.
    pub cost: Option<String>,
}

/// A request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RequestRow {
    /// Its id, as `x-request-id` told it.
    pub id: String,
    /// When it came, in Unix milliseconds.
    pub at_ms: u64,
    /// The key it was made with.
    pub key: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The team.
    pub team: Option<String>,
    /// The org.
    pub org: Option<String>,
    /// What was asked for, such as `chat`.
    pub operation: String,
    /// The model that was asked for.
    pub model: String,
    /// Who served it.
    pub provider: String,
    /// What the provider calls the model.
    pub upstream_model: String,
    /// Whether it was streamed.
    pub stream: bool,
    /// The status of the answer.
    pub status: u16,
    /// How it ended.
    pub outcome: String,
    /// What went wrong.
    pub fault: Option<String>,
    /// Tokens.
    pub tokens: Tokens,
    /// Where the counts are from: `reported`, `counted`, `estimated`, `none`.
    pub provenance: String,
    /// What it cost, as text; none if the price is not known.
    pub cost: Option<String>,
    /// How many attempts it took.
    pub attempts: u16,
    /// Microseconds to the first event of the answer.
    pub first_event_us: Option<u64>,
    /// Microseconds from begin to end.
    pub total_us: u64,
    /// Microseconds of these that were Magpie's own.
    pub overhead_us: u64,
}

/// One attempt at one provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AttemptRow {
    /// Which, from 1.
    pub attempt: u16,
    /// Who was asked.
    pub provider: String,
    /// For what.
    pub upstream_model: String,
    /// The status of the reply; 0 for none.
    pub status: u16,
    /// How it ended.
    pub outcome: String,
    /// What went wrong.
    pub fault: Option<String>,
    /// Tokens.
    pub tokens: Tokens,
    /// Where the counts are from.
    pub provenance: String,
    /// What it cost, as text.
    pub cost: Option<String>,
    /// How the cost was reckoned.
    pub formula: Option<String>,
    /// Microseconds to the first event of the reply.
    pub first_event_us: Option<u64>,
    /// Microseconds from begin to end.
    pub total_us: u64,
}

/// A request with its attempts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct RequestDetail {
    /// The request.
    #[serde(flatten)]
    pub request: RequestRow,
    /// Its attempts, in order.
    pub tries: Vec<AttemptRow>,
    /// What callers think of its answer.
    pub feedback: Vec<FeedbackRow>,
}

/// What a caller thinks of an answer: the last word for its label.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct FeedbackRow {
    /// What it is about; null if it is about the answer as a whole.
    pub label: Option<String>,
    /// How good, from 0 to 1.
    pub score: f64,
    /// In words, as the caller sent it.
    pub comment: Option<String>,
    /// When it was given, in Unix milliseconds.
    pub at_ms: u64,
}

/// The ledger, as far as the API reads it. Called on blocking threads. An error is a sentence for
/// the log of whoever runs this.
pub trait Reports: Send + Sync + 'static {
    /// Sums.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    fn usage(&self, filter: &Filter, by: By) -> Result<Vec<UsageRow>, String>;
    /// Requests, the newest first, behind an id.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    fn requests(
        &self,
        filter: &Filter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RequestRow>, String>;
    /// A request.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    fn request(&self, id: &str) -> Result<Option<RequestDetail>, String>;
    /// What the variants of the filter's model did. Takes some seconds where there are millions of
    /// requests.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    fn variants(&self, filter: &Filter, setup: &Setup) -> Result<Counts, String>;
}
