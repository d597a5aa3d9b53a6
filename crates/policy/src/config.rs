//! The configuration as written. Every option is optional; unknown ones are errors.
//!
//! The comments here are the documentation: the JSON Schema, `magpie.example.yaml` and the
//! reference page are generated from them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use indexmap::IndexMap;
use providers::{Auth, Cause, Edits, ErrorRule, Headers, Http, Prefill, StreamUsage, Timeouts};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use crate::budget::Budgets;
use crate::directory::GroupConfig;
use crate::idempotency::IdempotencyConfig;
use crate::jwt::JwtConfig;
use crate::limit::LimitsMap;
use crate::money::Exchange;
use crate::price::PriceConfig;
use crate::problem::Place;
use crate::rules::RuleConfig;

mod callers;
mod check;
mod composed;
mod metrics;
mod mirror;
mod model;
mod tls;
mod window;

pub use callers::{AdminConfig, KeyConfig, KeySecret, LedgerConfig, OrgConfig, Sync, TeamConfig};
pub use check::HealthCheckConfig;
pub use composed::{EscalateConfig, JudgeBy, JudgeConfig};
pub use metrics::MetricsConfig;
pub use mirror::MirrorConfig;
pub use model::ModelConfig;
pub use tls::{AcmeChallenge, AcmeConfig, ClientAuth, TlsConfig};
pub use window::ConcurrencyConfig;

/// A value and where it stands in the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place; [`Place::NONE`] for a default.
    pub place: Place,
}

/// Nothing written (`openai:` with nothing behind it) is the default.
impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<Option<T>>::deserialize(deserializer)?;
        let (line, column) = (spanned.referenced.line(), spanned.referenced.column());
        Ok(Self { value: spanned.value.unwrap_or_default(), place: Place { line, column } })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// The configuration of Magpie. Without a file, every provider whose usual environment variable is
/// set is served on 127.0.0.1:8000. In any value, `${NAME}` stands for an environment variable and
/// `${NAME:-text}` gives a text for when it is not set.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Magpie configuration")]
pub struct Config {
    /// Where the API listens. An address that others can reach needs keys, `jwt`, or `open:
    /// true`. Also set by
    /// `MAGPIE_LISTEN`. Changing it takes a restart.
    #[schemars(extend("x-example" = "127.0.0.1:8000"))]
    pub listen: Option<At<String>>,
    /// Serve everyone who can reach the listener, with your providers' keys. Also set by
    /// `MAGPIE_OPEN=true`.
    #[schemars(extend("x-example" = false))]
    pub open: bool,
    /// Host names under which browsers and tools may call, beside localhost and the address
    /// listened on. A page that rebinds its own name to this machine is refused by this list.
    #[schemars(extend("x-example" = ["magpie.example.com"]))]
    pub hosts: Vec<String>,
    /// HTTPS in place of clear text, with HTTP/2 and HTTP/1.1. Changing it takes a restart; that
    /// its files change does not.
    pub tls: Option<At<TlsConfig>>,
    /// Which web pages may call the API.
    pub cors: Cors,
    /// Who hosts models. Naming any here replaces those found in the environment.
    #[schemars(extend("x-example-key" = "xinghe"))]
    pub providers: Option<IndexMap<String, At<ProviderConfig>>>,
    /// The names clients may ask for, beside `provider/model`. `default` is what an absent model
    /// or `default` means. One `*` in a name is a wildcard, and stands for the same text in the
    /// target.
    #[schemars(extend("x-example-key" = "chat"))]
    pub models: IndexMap<String, At<ModelConfig>>,
    /// Virtual keys. Once there is one, here or in the store, every call needs one, unless
    /// `open: true`.
    pub keys: Vec<At<KeyConfig>>,
    /// Users, for keys and tokens to count for.
    #[schemars(extend("x-example-key" = "ada"))]
    pub users: IndexMap<String, At<GroupConfig>>,
    /// Teams.
    #[schemars(extend("x-example-key" = "search"))]
    pub teams: IndexMap<String, At<TeamConfig>>,
    /// Organisations.
    #[schemars(extend("x-example-key" = "acme"))]
    pub orgs: IndexMap<String, At<OrgConfig>>,
    /// Issuers whose tokens (JWT) are taken in place of keys.
    pub jwt: Vec<At<JwtConfig>>,
    /// Limits on combinations: each key on each model, each address, and the like.
    pub limit_rules: Vec<At<RuleConfig>>,
    /// Prices by `provider/model`, `*` standing for any text: they come before the built-in ones.
    #[schemars(extend("x-example-key" = "xinghe/ernie-*"))]
    pub prices: IndexMap<String, At<PriceConfig>>,
    /// What one currency is worth in another, for budgets in one and prices in the other.
    #[schemars(extend("x-example" = {"USD/CNY": "7.12"}))]
    pub exchange: Exchange,
    /// The folder for what lasts: journal, ledger, keys. Also set by `MAGPIE_DATA`. Default:
    /// `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/magpie`, else `~/.local/state/magpie`. Changing it
    /// takes a restart.
    #[schemars(extend("x-example" = "/var/lib/magpie"))]
    pub data: Option<String>,
    /// The durable record of what happened and what it cost. Changing it takes a restart.
    pub ledger: LedgerConfig,
    /// The admin API. Changing it takes a restart.
    pub admin: At<AdminConfig>,
    /// The numbers for Prometheus, at `/metrics` on the admin listener. Changing it takes a restart.
    pub metrics: At<MetricsConfig>,
    /// How long to wait.
    pub timeouts: At<Timeouts>,
    /// Bounds on what a client may send.
    pub limits: At<LimitsConfig>,
    /// Answers that are kept, so that a request which is repeated with the same `Idempotency-Key` is
    /// neither sent nor charged twice.
    pub idempotency: At<IdempotencyConfig>,
    /// What is counted.
    pub metering: Metering,
    /// What is written to standard error.
    pub log: LogConfig,
    /// How long running answers may take to finish when the process is asked to stop. Default
    /// `30s`.
    #[schemars(extend("x-example" = "30s"))]
    pub shutdown_grace: Option<At<String>>,
    /// Worker threads, each with its own listener and connections. Default: one per core.
    #[schemars(extend("x-example" = 2))]
    pub workers: Option<At<usize>>,
}

/// Which web pages may call the API.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Origins let in, such as `https://app.example.com`; `*` lets every page in. Default: pages
    /// on localhost, any port.
    #[schemars(extend("x-example" = ["https://app.example.com"]))]
    pub origins: Option<Vec<At<String>>>,
    /// Methods a preflight allows. Default: GET, POST, PUT, PATCH, DELETE.
    #[schemars(extend("x-example" = ["GET", "POST"]))]
    pub methods: Option<Vec<String>>,
    /// Request headers a preflight allows. Default: those the page asks for.
    #[schemars(extend("x-example" = ["authorization", "content-type"]))]
    pub headers: Option<Vec<String>>,
}

/// A provider: a built-in profile, and what differs from it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// The built-in profile to start from (`magpie providers` lists them). Default: the one of the
    /// same name, else `openai-compatible`.
    #[schemars(extend("x-example" = "xinghe"))]
    pub profile: Option<At<String>>,
    /// The credential. Default: the profile's usual environment variable.
    #[schemars(extend("x-example" = "${XINGHE_API_KEY}"))]
    pub api_key: Option<String>,
    /// In place of `api_key`: several credentials, which take turns. One that is throttled or refused
    /// is left alone for a while. At most 64.
    #[schemars(extend("x-example" = ["${DASHSCOPE_A}", "${DASHSCOPE_B}"], "x-alternative" = true))]
    pub api_keys: Option<At<Vec<String>>>,
    /// The URL in front of `/chat/completions`.
    #[schemars(extend("x-example" = "https://aistudio.baidu.com/llm/lmapi/v3"))]
    pub base_url: Option<At<String>>,
    /// How the credential is sent: `bearer`, `optional`, or `header: NAME`.
    #[schemars(extend("x-example" = "bearer"))]
    pub auth: Option<Auth>,
    /// HTTP versions to speak: `auto`, `http1` or `http2`.
    #[schemars(extend("x-example" = "auto"))]
    pub http: Option<Http>,
    /// A file of PEM certificates to trust for this provider, beside the usual ones.
    #[schemars(extend("x-example" = "/etc/ssl/lab-ca.pem"))]
    pub ca_file: Option<String>,
    /// Request headers to set, and those of the client to let through.
    pub headers: Option<Headers>,
    /// Upstream model ids to list, in place of the profile's.
    #[schemars(extend("x-example" = ["ernie-4.5-turbo-128k"]))]
    pub models: Option<Vec<String>>,
    /// Where its requests end up, for models that may not leave a region: `cn`, `intl`, `local`,
    /// `private`, or a word of your own.
    #[schemars(extend("x-example" = "cn"))]
    pub region: Option<String>,
    /// Edits to every chat and completion request to this provider, in place of the profile's.
    pub request: Option<At<Edits>>,
    /// Whether its streams may be asked for token counts: `on_request` or `never_ask`.
    #[schemars(extend("x-example" = "on_request"))]
    pub stream_usage: Option<StreamUsage>,
    /// How it is given the beginning of an answer to go on with, in place of what the profile says:
    /// as the last message, of the role `assistant`, with these marks.
    #[schemars(extend("x-example" = {"message": {"partial": true}}))]
    pub prefill: Option<At<Prefill>>,
    /// Places in a reply of status 200 that make it an error, in place of the profile's.
    #[schemars(extend("x-example" = [{"path": "error_code"}]))]
    pub errors: Option<Vec<ErrorRule>>,
    /// What its errors mean, beside what the profile says: by code, type or status, in whatever
    /// case; `Limit.*` stands for all that begin so.
    #[schemars(extend("x-example" = {"tokens_too_long": "context_too_long"}))]
    pub causes: BTreeMap<String, Cause>,
    /// Clocks that differ from the general ones.
    pub timeouts: At<Timeouts>,
    /// Ask regularly whether it can be reached, at a path that costs nothing: `true`, how often (`10s`),
    /// or a mapping. Its targets are left alone once it cannot be reached three times in a row, and are
    /// asked again once it can. Default: not.
    #[schemars(extend("x-example" = {"path": "/models", "every": "10s", "timeout": "2s"}))]
    pub health_check: Option<At<HealthCheckConfig>>,
    /// Find out how many requests each credential may have under way at each model: `adaptive`, or
    /// `{ from: 16, to: 1000 }`. Grows while the provider bears it; a 429 takes a third of it away. What
    /// goes beyond goes to another credential or target, or waits in the model's `queue`, or is refused
    /// (429). Default: no such limit.
    #[schemars(extend("x-example" = "adaptive"))]
    pub concurrency: Option<At<ConcurrencyConfig>>,
    /// How much per time, of all callers together.
    #[schemars(extend("x-example" = {"rpm": 3000}))]
    pub limits: Option<LimitsMap>,
    /// How much money per period, of all callers together.
    #[schemars(extend("x-example" = "¥1000/month"))]
    pub budget: Option<Budgets>,
}

/// Bounds on what a client may send.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// A JSON request body. Default `20MiB`.
    #[schemars(extend("x-example" = "20MiB"))]
    pub body: Option<String>,
    /// A body that is not JSON (uploads), which is streamed. Default `200MiB`.
    #[schemars(extend("x-example" = "200MiB"))]
    pub upload: Option<String>,
    /// Client connections open at once, over all workers. Default 10000, or less where the
    /// process may open fewer files. Each worker takes as many requests at once, at least 256.
    #[schemars(extend("x-example" = 10000))]
    pub connections: Option<usize>,
}

/// What is counted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metering {
    /// Ask providers for the token counts of a stream when the client did not, and keep the extra
    /// chunk from the client.
    #[schemars(extend("x-example" = true))]
    pub stream_usage: bool,
}

impl Default for Metering {
    fn default() -> Self {
        Self { stream_usage: true }
    }
}

/// What is written to standard error.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// One line per request of the API: never a prompt, an answer or a key.
    #[schemars(extend("x-example" = true))]
    pub requests: bool,
    /// `text`, `json`, or `auto`: text on a terminal, else JSON.
    #[schemars(extend("x-example" = "auto"))]
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { requests: true, format: LogFormat::Auto }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The JSON Schema of the configuration.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}
