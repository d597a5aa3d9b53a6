//! What health checks have found, in words and numbers.

use policy::Provider;
use policy::health::{Found, Health};
use schemars::JsonSchema;
use serde::Serialize;

use super::Now;

/// The last health check of a provider.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckView {
    /// When it began, in Unix milliseconds.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What it found.
    pub result: CheckResult,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
}

/// What a health check can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// The provider is there.
    Ok,
    /// It is there, and refuses the credential (401, 403). No credential is benched for that.
    Refused,
    /// It answers with an error of its own (5xx).
    Failing,
    /// It was reached, and did not answer in time, or with nothing that can be read.
    NoAnswer,
    /// It could not be reached.
    Unreached,
}

/// The last check of a provider; `None` before the first one, and where there is none.
pub(super) fn view(provider: &Provider, health: &Health, now: Now) -> Option<CheckView> {
    provider.health_check.as_ref()?;
    let checked = health.checked(&provider.id)?;
    let (result, status) = match checked.found {
        Found::Answer(status @ (401 | 403)) => (CheckResult::Refused, Some(status)),
        Found::Answer(status @ 500..) => (CheckResult::Failing, Some(status)),
        Found::Answer(status) => (CheckResult::Ok, Some(status)),
        Found::NoAnswer => (CheckResult::NoAnswer, None),
        Found::Unreached => (CheckResult::Unreached, None),
    };
    Some(CheckView { at_ms: now.unix(checked.at_ms), took_ms: checked.took_ms, result, status })
}
