//! Any other path of the OpenAI API: forwarded as it is, streamed both ways, to the provider that
//! the header names, or along the plan of the model.
//!
//! What is forwarded may leave something behind at a provider, such as a file, a job or a bill for
//! pictures. It goes on to another target only if the one before has certainly not begun with it.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, header, response};
use http_body::Body;
use policy::health::Cause;
use policy::plan::Plan;
use policy::{Provider, Route, Snapshot};
use wire::Envelope;
use wire::multipart::{self, Rest, Search};

use crate::attempt;
use crate::begin::Incoming;
use crate::course::Course;
use crate::fault::{Code, Fault};
use crate::headers::is_json;
use crate::intake::{self, Endpoint, Operation};
use crate::ports::{BoxError, Outgoing, Upstream};
use crate::prepare::{self, Ask, Wish};
use crate::reply::ReplyBody;
use crate::respond::{Overhead, PROVIDER, answer};
use crate::serve::{Answer, Context, Relay, refused};
use crate::settle::Failing;
use crate::upload::{Upload, Watched};

/// Bytes of a form that are read in search of its model, at the most: files that speech APIs take
/// have up to 25 MB, and some clients send them first.
const FORM_SEARCH: usize = 32 << 20;

/// A request that is forwarded.
pub(crate) struct Forwarded {
    content: Content,
    /// JSON for a plan to look at: the body, or an object without a field.
    seen: Bytes,
    /// The model, where that is not in there.
    model: String,
    /// The plan of a request that names no model.
    given: Option<Arc<Plan>>,
}

/// What is sent.
enum Content {
    /// What was read as JSON, whatever it is said to be.
    Json,
    /// What is in memory without having been read.
    Unread(Bytes),
    /// What is on its way through.
    Upload(Upload),
}

impl Forwarded {
    /// What says nothing of itself, to a provider that is known otherwise.
    fn to(provider: &Arc<Provider>, content: Content, snapshot: &Snapshot) -> Self {
        let plan = snapshot.plan_of("", snapshot.direct(provider, ""));
        let seen = Bytes::from_static(b"{}");
        Self { content, seen, model: String::new(), given: Some(Arc::new(plan)) }
    }

    /// Says what is known of it beside what its JSON says.
    pub(crate) fn tell(&self, wish: &mut Wish<'_>) {
        let bytes = match &self.content {
            Content::Json => Some(wish.body.len() as u64),
            Content::Unread(bytes) => Some(bytes.len() as u64),
            Content::Upload(upload) => {
                wish.named.clone_from(&self.model);
                upload.bytes()
            }
        };
        wish.forwarded = Some(bytes.unwrap_or(0));
    }

    /// The body of a call; `None` if it was sent before and cannot be sent again.
    pub(crate) fn body(&self, ask: &Ask) -> Option<Outgoing> {
        match &self.content {
            Content::Json => Some(Outgoing::Whole(ask.body.clone())),
            Content::Unread(bytes) => Some(Outgoing::Whole(bytes.clone())),
            Content::Upload(upload) => upload.body(&ask.route.upstream_model),
        }
    }

    /// Whether it is JSON, though its header may say something else.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.content, Content::Json)
    }

    /// Whether it may be sent elsewhere after an attempt that failed so: nothing of it was sent, the
    /// provider has certainly not begun with it, or nothing is left of it if it has.
    pub(crate) fn may_go_on(&self, operation: Operation, failing: &Failing) -> bool {
        match &self.content {
            Content::Upload(upload) => upload.is_whole(),
            Content::Json | Content::Unread(_) => leaves_nothing(operation) || is_unbegun(failing),
        }
    }
}

/// Whether an operation comes to its answer and nothing else, at next to no cost.
fn leaves_nothing(operation: Operation) -> bool {
    matches!(operation, Operation::Rerank | Operation::Moderation)
}

/// Whether a provider has certainly not begun with a request: it was not reached, or has refused it.
fn is_unbegun(failing: &Failing) -> bool {
    match failing.cause {
        Cause::HardDown
        | Cause::Throttled
        | Cause::BadCredential
        | Cause::Billing
        | Cause::ModelMissing
        | Cause::ContextTooLong
        | Cause::ContentPolicy
        | Cause::CallersFault => true,
        Cause::Transient => failing.status == StatusCode::SERVICE_UNAVAILABLE.as_u16(),
    }
}

impl<U: Upstream> Relay<U> {
    /// Forwards a request, and passes the reply on as it comes.
    pub(crate) async fn forward<B>(
        &self,
        endpoint: &Endpoint,
        parts: &Parts,
        body: B,
        context: &mut Context,
    ) -> Answer<U::Body>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let forwarded = read(parts, body, &context.snapshot).await.map_err(refused)?;
        let course = forwarded.given.as_ref().map(Course::through).unwrap_or_default();
        let body = &forwarded.seen;
        let incoming = Incoming { endpoint, parts, body, forwarded: Some(&forwarded) };
        self.failover(incoming, course, context).await
    }
}

/// An answer without a body, such as one to HEAD, which tells the length of what is not there.
pub(crate) fn bodiless<B>(
    parts: &response::Parts,
    route: &Route,
    head: &Overhead,
) -> Response<ReplyBody<B>> {
    let mut response = answer(parts.status, &parts.headers, Bytes::new(), route, head, None);
    if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.clone());
    }
    response
}

/// Reads a request as far as it has to be known where it goes.
async fn read<B>(parts: &Parts, body: B, snapshot: &Snapshot) -> Result<Forwarded, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    if let Some(provider) = named_provider(&parts.headers, snapshot)? {
        let content = upload(body, snapshot.limits.upload)?;
        return Ok(Forwarded::to(provider, content, snapshot));
    }
    let carries_body = !matches!(parts.method, Method::GET | Method::HEAD) && !body.is_end_stream();
    if !carries_body {
        let content = Content::Unread(Bytes::new());
        return Ok(Forwarded::to(only_provider(snapshot)?, content, snapshot));
    }
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(boundary) = kind.and_then(multipart::boundary) {
        return form(boundary, body, snapshot).await;
    }
    // What curl says of any `-d`, JSON or not, is taken for JSON if it looks like it.
    let from_curl = kind == Some("application/x-www-form-urlencoded");
    if is_json(&parts.headers) || kind.is_none() || from_curl {
        let body = intake::read(body, snapshot.limits.body).await?;
        if !from_curl || body.starts_with(b"{") {
            return json(body, snapshot);
        }
        return Ok(Forwarded::to(only_provider(snapshot)?, Content::Unread(body), snapshot));
    }
    let provider = only_provider(snapshot)?;
    Ok(Forwarded::to(provider, upload(body, snapshot.limits.upload)?, snapshot))
}

fn named_provider<'s>(
    headers: &HeaderMap,
    snapshot: &'s Snapshot,
) -> Result<Option<&'s Arc<Provider>>, Fault> {
    let Some(value) = headers.get(PROVIDER) else {
        return Ok(None);
    };
    let name = value.to_str().unwrap_or_default();
    let Some(provider) = snapshot.provider(name) else {
        let known: Vec<&str> = snapshot.providers.iter().map(|provider| &*provider.id).collect();
        let message = format!("There is no provider {name:?}. There are: {}.", known.join(", "));
        return Err(Fault::new(Code::UnknownProvider, message));
    };
    Ok(Some(provider))
}

fn only_provider(snapshot: &Snapshot) -> Result<&Arc<Provider>, Fault> {
    snapshot
        .only_provider()
        .ok_or_else(|| Fault::new(Code::NoProvider, "It is not said whom to ask."))
}

fn json(body: Bytes, snapshot: &Snapshot) -> Result<Forwarded, Fault> {
    let envelope = Envelope::scan(&body).map_err(|fault| prepare::malformed(&fault))?;
    if prepare::text_field(&envelope, "model")?.is_some() {
        let (content, model) = (Content::Json, String::new());
        return Ok(Forwarded { content, seen: body, model, given: None });
    }
    let forwarded = Forwarded::to(only_provider(snapshot)?, Content::Json, snapshot);
    Ok(Forwarded { seen: body, ..forwarded })
}

/// Reads a form up to its `model` field, then streams on.
async fn form<B>(boundary: &str, body: B, snapshot: &Snapshot) -> Result<Forwarded, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let upload_limit = snapshot.limits.upload;
    if body.size_hint().lower() > upload_limit as u64 {
        return Err(intake::too_large(upload_limit));
    }
    let mut body = Box::pin(body);
    let limit = snapshot.limits.upload.min(FORM_SEARCH);
    let mut begun = BytesMut::new();
    let field = loop {
        match multipart::find_field(&begun, boundary, "model") {
            Search::Found(span) => break Some(span),
            Search::Absent => break None,
            Search::NeedMore if begun.len() > limit => {
                let message = format!("No field `model` stands in the first {limit} bytes.");
                return Err(Fault::new(Code::NoProvider, message));
            }
            Search::NeedMore => {}
        }
        // An eighth more before the next search: many small pieces must not cost many searches.
        let enough = begun.len() + begun.len() / 8;
        let mut pinned = pin!(body.as_mut());
        let mut ended = false;
        while begun.len() <= enough && !ended {
            match intake::next_data(&mut pinned).await? {
                Some(data) => begun.extend_from_slice(&data),
                None => ended = true,
            }
        }
        if ended {
            break match multipart::find_field(&begun, boundary, "model") {
                Search::Found(span) => Some(span),
                Search::NeedMore | Search::Absent => None,
            };
        }
    };
    let begun = begun.freeze();
    let Some(span) = field else {
        let rest = Watched::new(body, upload_limit, None);
        let content = Content::Upload(Upload::new(begun, None, rest));
        return Ok(Forwarded::to(only_provider(snapshot)?, content, snapshot));
    };
    let mut repeats = Rest::behind("model", boundary);
    if repeats.repeats(&begun[span.end..]) {
        return Err(attempt::two_models());
    }
    let model = String::from_utf8_lossy(&begun[span.clone()]).into_owned();
    let rest = Watched::new(body, upload_limit, Some(repeats));
    let content = Content::Upload(Upload::new(begun, Some(span), rest));
    Ok(Forwarded { content, seen: Bytes::from_static(b"{}"), model, given: None })
}

/// A body that is not looked into.
fn upload<B>(body: B, limit: usize) -> Result<Content, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    if body.is_end_stream() {
        return Ok(Content::Unread(Bytes::new()));
    }
    if body.size_hint().lower() > limit as u64 {
        return Err(intake::too_large(limit));
    }
    let rest = Watched::new(Box::pin(body), limit, None);
    Ok(Content::Upload(Upload::new(Bytes::new(), None, rest)))
}
