//! The schema of a profile. Every field but the name is optional; unknown fields are errors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A provider's built-in data.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// The provider's name in English.
    pub name: String,
    /// The provider's name in Chinese, where it has one.
    pub name_zh: Option<String>,
    /// Pages the facts below were read from.
    pub docs: Vec<String>,
    /// The day they were read, `YYYY-MM-DD`.
    pub checked: String,
    /// The OpenAI-compatible base URL, up to and excluding `/chat/completions`. `${VAR}` stands
    /// for an environment variable the owner has to set.
    pub base_url: Option<String>,
    /// The environment variables that configure it when there is no file.
    pub env: Env,
    /// How the credential is sent.
    pub auth: Auth,
    /// Which HTTP versions to speak to it.
    pub http: Http,
    /// `cn`, `intl`, `local` ...: where requests end up.
    pub region: Option<String>,
    /// What it bills in: `CNY` or `USD`.
    pub currency: Option<String>,
    /// Upstream model ids listed by `GET /v1/models`; others can be asked for all the same.
    pub models: Vec<String>,
    /// The model that `default` means when nothing else says so.
    pub default_model: Option<String>,
    /// Request headers: fixed ones, and those of the client that are let through beyond the
    /// common list.
    pub headers: Headers,
    /// Edits to every chat and completion request.
    pub request: Edits,
    /// Whether a stream can be asked for its token counts (`stream_options.include_usage`).
    pub stream_usage: StreamUsage,
    /// How it is given the beginning of an answer to go on with; absent if it cannot do that.
    pub prefill: Option<Prefill>,
    /// Places in a reply of status 200 that make it an error.
    pub errors: Vec<ErrorRule>,
    /// What its errors mean, by code, type or status, in whatever case; a key that ends in `*`
    /// stands for all that begin so. Only what the status, and what is known of every provider's
    /// codes, does not say already.
    pub causes: BTreeMap<String, Cause>,
    /// The path below the base URL that health checks ask for, where `/models` is not there, or not
    /// free.
    pub health_path: Option<String>,
    /// Clocks that differ from the defaults.
    pub timeouts: Timeouts,
    /// Oddities in a sentence each, for the docs.
    pub notes: Vec<String>,
}

/// The environment variables of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Env {
    /// Hold the credential; the first that is set counts.
    pub key: Vec<String>,
    /// Hold another base URL; the first that is set counts. `<ID>_BASE_URL` is always read first.
    pub base_url: Vec<String>,
}

/// How a credential is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// `Authorization: Bearer KEY`
    #[default]
    Bearer,
    /// The key alone in a header of this name.
    Header(String),
    /// None is needed; one that is configured is sent as a bearer token.
    Optional,
}

/// Which HTTP versions to speak to a provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Http {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; over plain TCP with prior knowledge.
    Http2,
}

/// Request headers of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    /// Sent with every request. `${VAR}` in a configured value is resolved at load.
    pub set: BTreeMap<String, String>,
    /// Names of client headers let through; a name ending in `*` stands for a prefix.
    pub forward: Vec<String>,
}

/// Edits to the top level of a JSON request body. Values are any JSON.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Edits {
    /// Fill what the client left out; never override it.
    pub defaults: BTreeMap<String, serde_json::Value>,
    /// Set whatever the client sent.
    pub force: BTreeMap<String, serde_json::Value>,
    /// Remove.
    pub drop: Vec<String>,
}

/// Whether a stream can be asked for its token counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamUsage {
    /// By `stream_options.include_usage`.
    #[default]
    OnRequest,
    /// It always tells, or refuses `stream_options`: do not ask.
    NeverAsk,
}

/// How the beginning of an answer is given to a provider, to go on with: as the last message, of the
/// role `assistant`, with these marks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prefill {
    /// Members of that message, such as `partial: true`.
    pub message: BTreeMap<String, serde_json::Value>,
    /// Members of the request, such as `continue_final_message: true`.
    pub request: BTreeMap<String, serde_json::Value>,
    /// The path of the base URL that takes them, if it is another one than usual.
    pub path: Option<String>,
    /// What it answers begins with what it was given.
    pub repeats: bool,
}

/// A place in a reply of status 200 that makes it an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// `field` or `field.inner`: it is an error if this is there and not null.
    pub path: String,
    /// The value that means "no error" all the same, such as `0`.
    #[serde(default)]
    pub ok: Option<String>,
    /// Status to answer with, by code; 502 for codes that are not listed.
    #[serde(default)]
    pub status: BTreeMap<String, u16>,
}

/// Why a provider answers with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The request itself is wrong: every provider would say so.
    CallersFault,
    /// Too much in too short a time.
    Throttled,
    /// It may work elsewhere or later.
    Transient,
    /// The key is refused.
    BadCredential,
    /// The account has no money or no quota left.
    Billing,
    /// The model is not there, or the key may not use it.
    ModelMissing,
    /// The input is longer than the model takes.
    ContextTooLong,
    /// The provider does not want to answer this.
    ContentPolicy,
    /// The provider is out of service.
    HardDown,
}

/// The four clocks of an attempt, as texts like `5s` or `2m`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Until the connection stands, TLS included. Default `5s`.
    #[schemars(example = "5s")]
    pub connect: Option<String>,
    /// To the first event of a stream; comments do not count. A reply that is not streamed may
    /// take all of `total`. Default `2m`.
    #[schemars(example = "2m")]
    pub first_event: Option<String>,
    /// Between two events of a stream; comments do not count. Default `60s`.
    #[schemars(example = "60s")]
    pub idle: Option<String>,
    /// For the whole request. Default `30m`.
    #[schemars(example = "30m")]
    pub total: Option<String>,
}
