//! One try at one target: send, wait under the clocks, and say what came back.

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::Body;
use policy::health::Cause;
use policy::{Clocks, Provider};
use std::future::poll_fn;
use std::pin::Pin;
use tokio::time::{Instant, timeout_at};
use wire::dialects::openai_chat::ErrorBody;
use wire::reply::{Glance, error_text, glance};

use crate::cause;
use crate::fault::{Code, Fault};
use crate::headers::is_json;
use crate::ports::{Call, Failure, FailureKind, UploadFault, Upstream};
use crate::record::Outcome;

/// Bytes of a reply that are read whole, so that errors in it are seen and its usage counted.
/// Larger ones are passed on as they come.
pub(crate) const INSPECTED: usize = 1 << 20;

/// How often a call is made if it meets idle connections that turn out to be closed.
const STALE_TRIES: usize = 3;

/// Sends a call; the head of the reply has to come before `due`. A call that met a connection the
/// provider had closed while it was idle is made again; all other calls are made once.
pub(crate) async fn send<U: Upstream>(
    upstream: &U,
    provider: &str,
    due: Instant,
    mut call: impl FnMut() -> Option<Call>,
) -> Result<Response<U::Body>, Ended> {
    let sending = async {
        let mut last = Failure::new(FailureKind::NoReply, "the connection was closed");
        for _ in 0..STALE_TRIES {
            let Some(call) = call() else { break };
            match upstream.send(call).await {
                Err(failure) if failure.kind == FailureKind::Stale => last = failure,
                sent => return sent,
            }
        }
        Err(last)
    };
    match timeout_at(due, sending).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(failure)) => Err(Ended::failed(provider, &failure)),
        Err(_) => Err(Ended::late(provider, "an answer")),
    }
}

/// When the first event of a stream is due. How long the client took to send its request is not
/// taken from the provider's time.
pub(crate) fn first_event(clocks: Clocks, start: Instant, asked: Instant) -> Instant {
    (asked + clocks.connect + clocks.first_event).min(start + clocks.total)
}

/// An attempt that ended without an answer.
pub(crate) struct Ended {
    /// For the record.
    pub(crate) outcome: Outcome,
    /// For the client.
    pub(crate) fault: Fault,
    /// Why, if the attempt failed and was not refused.
    pub(crate) cause: Option<Cause>,
}

impl Ended {
    /// The provider took too long.
    pub(crate) fn late(provider: &str, what: &str) -> Self {
        let message = format!("{provider} did not send {what} in time.");
        let fault = Fault::new(Code::Timeout, message);
        Self { outcome: Outcome::TimedOut, fault, cause: Some(Cause::Transient) }
    }

    /// The connection failed.
    pub(crate) fn failed(provider: &str, failure: &Failure) -> Self {
        let (code, outcome) = match failure.kind {
            FailureKind::Dns | FailureKind::Connect | FailureKind::Tls => {
                (Code::Unreachable, Outcome::Unreachable)
            }
            FailureKind::Stale | FailureKind::NoReply => (Code::NoReply, Outcome::Unreachable),
            FailureKind::Cut => (Code::Truncated, Outcome::Truncated),
            FailureKind::Protocol => (Code::Malformed, Outcome::Truncated),
            FailureKind::Upload => (Code::BodyCut, Outcome::Refused),
            FailureKind::Refused(UploadFault::TooLarge) => (Code::BodyTooLarge, Outcome::Refused),
            FailureKind::Refused(UploadFault::TwoModels) => {
                return Self { outcome: Outcome::Refused, fault: two_models(), cause: None };
            }
        };
        let message = format!("{provider}: {}.", failure.detail);
        let cause = Some(cause::of_failure(failure.kind));
        Self { outcome, fault: Fault::new(code, message), cause }
    }
}

/// The fault for a form that names its model twice.
pub(crate) fn two_models() -> Fault {
    let mut message = UploadFault::TwoModels.to_string();
    message.push('.');
    Fault::new(Code::DuplicateField, message).param("model")
}

/// A reply read whole, or as much of it as is inspected.
pub(crate) enum Read<B> {
    /// All of it.
    Whole(Bytes),
    /// Its beginning, and where the rest comes from.
    Begun(Bytes, B),
}

/// Reads a reply, which has to be whole before the deadline.
pub(crate) async fn read<B>(
    mut body: B,
    provider: &str,
    deadline: Instant,
    status: StatusCode,
) -> Result<Read<B>, Ended>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    // Of an error that is too large, the beginning is worth reading.
    if status.is_success() && body.size_hint().lower() > INSPECTED as u64 {
        return Ok(Read::Begun(Bytes::new(), body));
    }
    let reading = async {
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            if first.is_empty() && whole.is_empty() {
                first = data;
                continue;
            }
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
            if whole.len() > INSPECTED {
                return Ok((whole.freeze(), false));
            }
        }
        Ok::<_, Failure>((if whole.is_empty() { first } else { whole.freeze() }, true))
    };
    match timeout_at(deadline, reading).await {
        Ok(Ok((bytes, true))) => Ok(Read::Whole(bytes)),
        Ok(Ok((bytes, false))) => Ok(Read::Begun(bytes, body)),
        Ok(Err(failure)) => Err(Ended::failed(provider, &failure)),
        Err(_) => Err(Ended::late(provider, "its whole answer")),
    }
}

/// What a whole reply of status 200 turned out to be.
pub(crate) enum Verdict {
    /// An answer.
    Answer(Glance),
    /// An error after all: status and body for the client.
    Error(StatusCode, Bytes),
    /// Nothing that can be read as an answer.
    Unreadable,
}

/// Judges a JSON reply of status 200. Blanks in front are keep-alives (DeepSeek).
pub(crate) fn judge(body: &Bytes, provider: &Provider) -> Verdict {
    verdict(body, provider, |seen| seen.error)
}

/// The same for a reply of any other operation: a stored thing that holds an `error`, such as a
/// failed response or a running job, is an answer all the same.
pub(crate) fn judge_stored(body: &Bytes, provider: &Provider) -> Verdict {
    verdict(body, provider, |seen| seen.error && (seen.marked || !seen.has_identity))
}

fn verdict(body: &Bytes, provider: &Provider, is_error: impl Fn(&Glance) -> bool) -> Verdict {
    match glance(body.trim_ascii(), &provider.error_marks) {
        Err(_) => Verdict::Unreadable,
        Ok(seen) if is_error(&seen) => {
            let (status, body) = error_in_reply(body, provider, seen.error_is_openai);
            Verdict::Error(status, body)
        }
        Ok(seen) => Verdict::Answer(seen),
    }
}

/// The status and body for an error that came under status 200.
pub(crate) fn error_in_reply(
    body: &Bytes,
    provider: &Provider,
    is_openai: bool,
) -> (StatusCode, Bytes) {
    let text = error_text(body);
    let status = status_of(text.code.as_deref().unwrap_or_default(), provider);
    let body = if is_openai { cleansed(body, provider) } else { wrapped(body, status, provider) };
    (status, body)
}

/// The status of an error that came under status 200, by its code.
pub(crate) fn status_of(code: &str, provider: &Provider) -> StatusCode {
    let listed = provider.error_statuses.iter().find(|(known, _)| **known == *code);
    listed
        .and_then(|(_, status)| StatusCode::from_u16(*status).ok())
        .or_else(|| {
            code.parse().ok().filter(|status: &u16| *status >= 400).and_then(|status| {
                StatusCode::from_u16(status).ok().filter(|status| status.as_u16() < 600)
            })
        })
        .unwrap_or_else(|| Code::ErrorInReply.status())
}

/// The body of a provider's error response, for an OpenAI client: as it came if it is in that
/// dialect, else inside one that is, so that nothing it said is lost.
pub(crate) fn error_body(parts: &Parts, body: &Bytes, provider: &Provider) -> Bytes {
    let in_dialect = is_json(&parts.headers)
        && serde_json::from_slice::<serde_json::Value>(body)
            .is_ok_and(|value| value.get("error").is_some_and(serde_json::Value::is_object));
    if in_dialect { cleansed(body, provider) } else { wrapped(body, parts.status, provider) }
}

fn wrapped(body: &Bytes, status: StatusCode, provider: &Provider) -> Bytes {
    let body = cleansed(body, provider);
    let said = error_text(&body);
    let message = said.message.unwrap_or_else(|| {
        let excerpt = excerpt(&body);
        format!("{} answered with status {status}. {excerpt}", provider.id)
    });
    let text = std::str::from_utf8(&body).ok().map(str::trim);
    let json = text.filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    let error = ErrorBody {
        message: message.trim(),
        kind: "upstream_error",
        param: None,
        code: Some(said.code.as_deref().unwrap_or(Code::ErrorInReply.name())),
        upstream: json,
    };
    Bytes::from(error.to_json())
}

/// The beginning of a text that is no JSON, such as an HTML page, on one line.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(2_000)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(300).collect()
}

/// Credentials shorter than this are not looked for: they would be found in any text.
const SHORTEST_CREDENTIAL: usize = 8;

/// The body without the credential, should the provider echo it, in whatever spelling: JSON may
/// write a slash as `\/` and any letter as an escape.
fn cleansed(body: &Bytes, provider: &Provider) -> Bytes {
    let secrets = provider.secrets().map(policy::Secret::expose);
    let findable = secrets.filter(|secret| secret.len() >= SHORTEST_CREDENTIAL);
    findable.fold(body.clone(), |body, secret| without(&body, secret))
}

fn without(body: &Bytes, secret: &str) -> Bytes {
    if let Ok(mut value) = serde_json::from_slice(body) {
        return match redact(&mut value, secret) {
            true => Bytes::from(value.to_string()),
            false => body.clone(),
        };
    }
    let text = String::from_utf8_lossy(body);
    let plain = text.replace("\\/", "/");
    match plain.contains(secret) {
        true => Bytes::from(plain.replace(secret, "***")),
        false => body.clone(),
    }
}

/// Takes a secret out of every text in a JSON value. Says whether it was there.
fn redact(value: &mut serde_json::Value, secret: &str) -> bool {
    use serde_json::Value::{Array, Object, String};
    match value {
        String(text) if text.contains(secret) => {
            *text = text.replace(secret, "***");
            true
        }
        Array(items) => items.iter_mut().fold(false, |found, item| redact(item, secret) | found),
        Object(members) => {
            members.values_mut().fold(false, |found, member| redact(member, secret) | found)
        }
        _ => false,
    }
}

/// An error inside a stream, as the event that ends it; `None` if it can pass as it came.
pub(crate) fn error_event(data: &[u8], provider: &Provider, is_openai: bool) -> Option<Bytes> {
    let body = Bytes::copy_from_slice(data);
    let body = match is_openai {
        true => Some(cleansed(&body, provider)).filter(|clean| *clean != body)?,
        false => wrapped(&body, Code::ErrorInReply.status(), provider),
    };
    let mut event = BytesMut::with_capacity(body.len() + 8);
    event.extend_from_slice(b"data: ");
    event.extend(body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    event.extend_from_slice(b"\n\n");
    Some(event.freeze())
}
