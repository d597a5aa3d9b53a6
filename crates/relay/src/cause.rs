//! Why an attempt failed, by what came back.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use policy::Provider;
use policy::health::Cause;

use crate::ports::FailureKind;

/// Of a call without a reply.
pub(crate) fn of_failure(kind: FailureKind) -> Option<Cause> {
    match kind {
        FailureKind::Dns | FailureKind::Connect | FailureKind::Tls => Some(Cause::HardDown),
        FailureKind::Stale | FailureKind::NoReply | FailureKind::Cut | FailureKind::Protocol => {
            Some(Cause::Transient)
        }
        FailureKind::Upload | FailureKind::Refused(_) => Some(Cause::CallersFault),
    }
}

/// Of an error reply.
pub(crate) fn of_reply(status: StatusCode, _body: &[u8], _provider: &Provider) -> Option<Cause> {
    Cause::of_status(status.as_u16())
}

/// How long the provider wants to be left alone.
pub(crate) fn wait(headers: &HeaderMap, _body: &[u8], _unix_ms: u64) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
