//! Why an attempt failed, and when its provider may be asked again: what a choice of the next
//! target is made from. Pure: nothing here asks, waits or reads a clock.

mod wait;

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use policy::Provider;
use policy::health::Cause;
use wire::reply::{ErrorText, error_text_of};

use crate::attempt::status_of;
use crate::fault::Code;
use crate::ports::FailureKind;
use crate::record::{Outcome, Record};
use wait::wait;

/// What a failed attempt says of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setback {
    /// Why it failed.
    pub(crate) cause: Cause,
    /// How long the provider asked to be left alone, if it did: five minutes at the most.
    pub(crate) wait: Option<Duration>,
}

impl Setback {
    /// What an error reply says; `None` if it is none. See [`of_reply`].
    pub(crate) fn of_reply(
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        provider: &Provider,
        unix_ms: u64,
    ) -> Option<Self> {
        // What is no JSON says nothing.
        let body = serde_json::from_slice(body).unwrap_or_default();
        let text = error_text_of(&body);
        let cause = of_reply(status, &text, provider)?;
        Some(Self { cause, wait: wait(headers, &body, &text, unix_ms) })
    }
}

/// Why a connection failed.
pub(crate) fn of_failure(kind: FailureKind) -> Cause {
    match kind {
        FailureKind::Dns | FailureKind::Connect | FailureKind::Tls => Cause::HardDown,
        FailureKind::Stale | FailureKind::NoReply | FailureKind::Cut | FailureKind::Protocol => {
            Cause::Transient
        }
        FailureKind::Upload | FailureKind::Refused(_) => Cause::CallersFault,
    }
}

/// Why a provider answered with an error, by its words as its data explains them, else by the
/// status; `None` if it is no error. The status of an error that came under 200 is that of its
/// code, whether the caller worked it out before or not.
fn of_reply(status: StatusCode, text: &ErrorText, provider: &Provider) -> Option<Cause> {
    let code = text.code.as_deref();
    let status = match status.is_success() {
        true => status_of(code.unwrap_or_default(), provider),
        false => status,
    };
    let words: Vec<&str> = code.into_iter().chain(text.kinds.iter().map(String::as_str)).collect();
    provider.causes.of(status.as_u16(), &words, text.message.as_deref())
}

/// Why the attempt of a request failed, by how the request ended: for those whose failure nobody
/// looked at more closely, such as a stream that broke off.
pub(crate) fn of_end(record: &Record) -> Option<Cause> {
    if !record.asked {
        return None;
    }
    match record.outcome {
        Outcome::Complete
        | Outcome::Refused
        | Outcome::ClientGone
        | Outcome::Shed
        | Outcome::Cancelled
        | Outcome::Failed => None,
        Outcome::Unreachable if record.fault == Some(Code::Unreachable.name()) => {
            Some(Cause::HardDown)
        }
        Outcome::Unreachable | Outcome::Truncated | Outcome::TimedOut => Some(Cause::Transient),
        // A stream that ended with an error began with 200.
        Outcome::ProviderError => Cause::of_status(record.status).or(Some(Cause::Transient)),
    }
}
