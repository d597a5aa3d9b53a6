//! From a request line to an operation, and from a body to bytes.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, header};
use http_body::Body;
pub use policy::scope::Operation;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::fault::{Code, Fault};
use crate::ports::BoxError;

/// How long a client may pause inside its body.
const BODY_PAUSE: Duration = Duration::from_secs(30);

/// A path of the API, read once: what was recognised here is what is dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What it asks for.
    pub operation: Operation,
    /// What stands behind `/v1`, from its slash on, in normal form; for one model, `/models/` and
    /// its decoded name, which is never forwarded.
    pub rest: String,
}

/// Reads a path and its method.
///
/// # Errors
/// A [`Fault`] for a path with ambiguous parts (encoded slashes, dot segments, backslashes), for
/// one outside `/v1/`, and for a method that the operation does not have.
pub fn endpoint(method: &Method, path: &str) -> Result<Endpoint, Fault> {
    let path = single_slashes(path);
    if let Some(model) = path.strip_prefix("/v1/models/").filter(|model| !model.is_empty()) {
        let rest = format!("/models/{}", decoded(model));
        let allowed = [Method::GET, Method::HEAD];
        return match allowed.contains(method) {
            true => Ok(Endpoint { operation: Operation::Models, rest }),
            false => Err(wrong_method(method, &path, &allowed)),
        };
    }
    check_path(&path)?;
    let Some(rest) =
        path.strip_prefix("/v1").filter(|rest| rest.starts_with('/') && rest.len() > 1)
    else {
        return Err(Fault::new(Code::UnknownPath, format!("Nothing lives at {path}.")));
    };
    let known = rest.trim_end_matches('/');
    let operation = operation(known);
    let allowed = match operation {
        Operation::Chat | Operation::Completion | Operation::Embedding | Operation::Feedback => {
            &[Method::POST][..]
        }
        Operation::Models => &[Method::GET, Method::HEAD],
        _ => &[Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE],
    };
    if !allowed.contains(method) {
        return Err(wrong_method(method, &path, allowed));
    }
    let rest = if operation.is_forwarded() { rest } else { known };
    Ok(Endpoint { operation, rest: rest.to_owned() })
}

/// What a path behind `/v1` asks for. Only the first five are understood; the others are names for
/// what is forwarded as it is.
fn operation(known: &str) -> Operation {
    match known {
        "/chat/completions" => return Operation::Chat,
        "/completions" => return Operation::Completion,
        "/embeddings" => return Operation::Embedding,
        "/models" => return Operation::Models,
        "/feedback" => return Operation::Feedback,
        "/audio/speech" => return Operation::Speech,
        _ => {}
    }
    match known.split('/').nth(1).unwrap_or_default() {
        "responses" | "conversations" => Operation::Responses,
        "images" => Operation::Image,
        "audio" => Operation::Transcription,
        "rerank" => Operation::Rerank,
        "moderations" => Operation::Moderation,
        "files" | "uploads" => Operation::File,
        "batches" => Operation::Batch,
        "realtime" => Operation::Realtime,
        _ => Operation::Other,
    }
}

/// The fault for a method that a path does not have.
#[must_use]
pub fn wrong_method(method: &Method, path: &str, allowed: &[Method]) -> Fault {
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let names = names.join(", ");
    let fault = Fault::new(Code::WrongMethod, format!("{path} takes {names}, not {method}."));
    match HeaderValue::from_str(&names) {
        Ok(value) => fault.header(header::ALLOW, value),
        Err(_) => fault,
    }
}

/// Percent-encoding undone, for a model's name: SDKs encode its slash.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A path with doubled slashes made one: clients make them when a base URL ends in one.
fn single_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut single = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !single.ends_with('/') {
            single.push(letter);
        }
    }
    Cow::Owned(single)
}

/// Refuses what two readers of a path might understand differently.
fn check_path(path: &str) -> Result<(), Fault> {
    let invalid = |why: &str| Fault::new(Code::InvalidPath, format!("The path holds {why}."));
    if path.bytes().any(|byte| byte == b'\\' || byte < 0x21 || byte == 0x7f) {
        return Err(invalid("a backslash, a space or a control character"));
    }
    for (at, _) in path.match_indices('%') {
        match path.get(at + 1..at + 3).map(str::to_ascii_lowercase).as_deref() {
            Some("2f" | "5c" | "2e" | "00" | "25") => return Err(invalid("an encoded separator")),
            Some(hex) if hex.bytes().all(|digit| digit.is_ascii_hexdigit()) => {}
            _ => return Err(invalid("a percent sign that encodes nothing")),
        }
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(invalid("a dot segment"));
    }
    Ok(())
}

/// Refuses bodies that Magpie does not read.
///
/// # Errors
/// A [`Fault`] for a compressed body.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), Fault> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(Fault::new(
            Code::CompressedBody,
            format!("Content-Encoding {encoding:?} is not read."),
        )),
        _ => Ok(()),
    }
}

/// Reads a body whole. One that arrived in one piece is not copied.
///
/// # Errors
/// A [`Fault`] for a body over `limit` bytes (the limit is in the message), one that pauses for
/// more than 30 s, and one that breaks off.
pub(crate) async fn read<B>(body: B, limit: usize) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut body = pin!(body);
    let Some(first) = next_data(&mut body).await? else {
        return Ok(Bytes::new());
    };
    let Some(mut next) = next_data(&mut body).await? else {
        return if first.len() > limit { Err(too_large(limit)) } else { Ok(first) };
    };
    let left = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    let mut whole = BytesMut::with_capacity((first.len() + next.len() + left).min(limit));
    whole.extend_from_slice(&first);
    drop(first);
    loop {
        if whole.len() + next.len() > limit {
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&next);
        match next_data(&mut body).await? {
            Some(data) => next = data,
            None => return Ok(whole.freeze()),
        }
    }
}

/// The next piece of a body. A timer is only made when there is something to wait for.
///
/// # Errors
/// See [`read`].
pub(crate) async fn next_data<B>(body: &mut Pin<&mut B>) -> Result<Option<Bytes>, Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut pause: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        loop {
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Ok(Some(data))),
                    // Trailers of a request say nothing that passes.
                    Err(_) => {}
                },
                Poll::Ready(Some(Err(fault))) => {
                    let message = format!("The request body broke off: {}.", fault.into());
                    return Poll::Ready(Err(Fault::new(Code::BodyCut, message)));
                }
                Poll::Pending => break,
            }
        }
        let timer = pause.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + BODY_PAUSE)));
        timer.as_mut().poll(cx).map(|()| {
            let message =
                format!("No byte of the request body came for {} s.", BODY_PAUSE.as_secs());
            Err(Fault::new(Code::BodyTimeout, message))
        })
    })
    .await
}

/// The fault for a body over the limit.
pub(crate) fn too_large(limit: usize) -> Fault {
    Fault::new(Code::BodyTooLarge, format!("The request body is larger than {limit} bytes."))
}
