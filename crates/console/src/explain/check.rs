//! What health checks have found, in words and numbers.

use policy::Provider;
use policy::health::{CheckCounts, CheckResult, Found, Health};
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
    /// What all checks have found since the process began.
    pub counts: CheckCounts,
}

/// The last check of a provider; `None` before the first one, and where there is none.
pub(super) fn view(provider: &Provider, health: &Health, now: Now) -> Option<CheckView> {
    provider.health_check.as_ref()?;
    let (checked, counts) = health.checked(&provider.id)?;
    let status = match checked.found {
        Found::Answer(status) => Some(status),
        Found::NoAnswer | Found::Unreached => None,
    };
    let (at_ms, result) = (now.unix(checked.at_ms), checked.found.result());
    Some(CheckView { at_ms, took_ms: checked.took_ms, result, status, counts })
}
