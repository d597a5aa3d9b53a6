//! Any other path of the OpenAI API: forwarded as it is, streamed both ways, to the provider that
//! the header or the model names.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Wake, Poll};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use policy::{Provider, Route, Snapshot};
use std::pin::pin;
use wire::dialects::openai_responses::Ending;
use wire::multipart::{self, Rest, Search};
use wire::{Edit, Envelope, splice};

use crate::attempt::{self, Read, Verdict};
use crate::cause;
use crate::estimate;
use crate::fault::{Code, Fault};
use crate::headers::{JSON, is_event_stream, is_json};
use crate::intake::{self, Endpoint};
use crate::ports::{BoxError, Outgoing, UploadFault, Upstream};
use crate::prepare;
use crate::record::Outcome;
use crate::reply::ReplyBody;
use crate::respond::{Overhead, PROVIDER, answer, passed};
use crate::serve::{Answer, Context, Relay, call, refused, target};

/// Bytes of a form that are read in search of its model, at the most: files that speech APIs take
/// have up to 25 MB, and some clients send them first.
const FORM_SEARCH: usize = 32 << 20;

/// Where a forwarded request goes, and with which body.
struct Forwarded {
    route: Arc<Route>,
    body: Outgoing,
    model: String,
    /// It was read as JSON, whatever it is said to be.
    json: bool,
}

impl Forwarded {
    fn new(route: Arc<Route>, body: Outgoing) -> Self {
        Self { route, body, model: String::new(), json: false }
    }
}

impl<U: Upstream> Relay<U> {
    /// Forwards a request and passes the reply on as it comes.
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
        let forwarded = destination(parts, body, &context.snapshot).await.map_err(refused)?;
        let Forwarded { route, body, model, json } = forwarded;
        let bound = estimate::opaque(&body);
        context.settlement.note(|record| {
            record.model = model.as_str().into();
            record.route = Some(Arc::clone(&route));
        });
        let admitted = context.admit(&model, &route, &bound);
        admitted.map_err(|refusal| refused(refusal.into_fault()))?;
        let deadline = context.start + route.clocks.total;
        let target = target(endpoint, parts, &route).map_err(refused)?;
        let mut body = Some(body);
        // What was in memory can be sent again, an upload on its way through cannot.
        let make = || {
            let now = match &body {
                Some(Outgoing::Whole(bytes)) => Outgoing::Whole(bytes.clone()),
                _ => body.take()?,
            };
            let mut call = call(endpoint, parts, &route, target.clone(), now, 0);
            if json {
                call.headers.insert(header::CONTENT_TYPE, JSON);
            }
            Some(call)
        };
        let (response, head) = self.attempt(&route, &bound, deadline, make, context).await?;
        let (parts, body) = response.into_parts();
        if parts.status.is_success() && body.size_hint().exact() == Some(0) {
            // No server asks for the end of a body that cannot hold a byte: it is asked for here.
            attempt::read(body, &route.provider.id, deadline, parts.status).await?;
            context.close(Outcome::Complete, parts.status);
            return Ok(bodiless(&parts, &route, &head));
        }
        if parts.status.is_success() && !is_json(&parts.headers) {
            let ending = is_response_stream(endpoint, &parts.headers).then(Ending::default);
            return Ok(passed(&parts, Bytes::new(), body, &route, &head, ending, context));
        }
        let (begun, rest) =
            match attempt::read(body, &route.provider.id, deadline, parts.status).await? {
                Read::Whole(bytes) => (bytes, None),
                Read::Begun(bytes, rest) => (bytes, Some(rest)),
            };
        if !parts.status.is_success() {
            note_cause(parts.status, &begun, &route, context);
            let body = attempt::error_body(&parts, &begun, &route.provider);
            context.close(Outcome::ProviderError, parts.status);
            return Ok(answer(parts.status, &parts.headers, body, &route, &head, Some(JSON)));
        }
        if let Some(rest) = rest {
            return Ok(passed(&parts, begun, rest, &route, &head, None, context));
        }
        Ok(judged(&parts, begun, &route, &head, context))
    }
}

/// Notes why an attempt failed that was answered with an error.
fn note_cause(status: StatusCode, body: &[u8], route: &Route, context: &mut Context) {
    let cause = cause::of_reply(status, body, &route.provider);
    context.settlement.note(|record| record.cause = cause);
}

/// A JSON answer in memory: what says "error" under status 200 is made one, all else passes.
fn judged<B>(
    parts: &http::response::Parts,
    begun: Bytes,
    route: &Route,
    head: &Overhead,
    context: &mut Context,
) -> Response<ReplyBody<B>> {
    match attempt::judge_stored(&begun, &route.provider) {
        Verdict::Error(status, body) => {
            note_cause(status, &begun, route, context);
            context.close(Outcome::ProviderError, status);
            answer(status, &parts.headers, body, route, head, Some(JSON))
        }
        verdict => {
            if let Verdict::Answer(seen) = verdict {
                context.settlement.note(|record| record.usage = seen.usage);
            }
            context.close(Outcome::Complete, parts.status);
            answer(parts.status, &parts.headers, begun, route, head, None)
        }
    }
}

/// An answer without a body, such as one to HEAD, which tells the length of what is not there.
fn bodiless<B>(
    parts: &http::response::Parts,
    route: &Route,
    head: &Overhead,
) -> Response<ReplyBody<B>> {
    let mut response = answer(parts.status, &parts.headers, Bytes::new(), route, head, None);
    if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.clone());
    }
    response
}

async fn destination<B>(parts: &Parts, body: B, snapshot: &Snapshot) -> Result<Forwarded, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    if let Some(provider) = named_provider(&parts.headers, snapshot)? {
        let route = snapshot.direct(provider, "");
        let body = upload(Bytes::new(), body, snapshot.limits.upload)?;
        return Ok(Forwarded::new(route, body));
    }
    let carries_body = !matches!(parts.method, Method::GET | Method::HEAD) && !body.is_end_stream();
    if !carries_body {
        let route = snapshot.direct(only_provider(snapshot)?, "");
        return Ok(Forwarded::new(route, Outgoing::Whole(Bytes::new())));
    }
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(boundary) = kind.and_then(multipart::boundary) {
        return by_form_field(boundary, body, snapshot).await;
    }
    // What curl says of any `-d`, JSON or not, is taken for JSON if it looks like it.
    let from_curl = kind == Some("application/x-www-form-urlencoded");
    if is_json(&parts.headers) || kind.is_none() || from_curl {
        let body = intake::read(body, snapshot.limits.body).await?;
        if !from_curl || body.starts_with(b"{") {
            return by_json_field(body, snapshot);
        }
        let route = snapshot.direct(only_provider(snapshot)?, "");
        return Ok(Forwarded::new(route, Outgoing::Whole(body)));
    }
    let route = snapshot.direct(only_provider(snapshot)?, "");
    let body = upload(Bytes::new(), body, snapshot.limits.upload)?;
    Ok(Forwarded::new(route, body))
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

fn by_json_field(body: Bytes, snapshot: &Snapshot) -> Result<Forwarded, Fault> {
    let envelope = Envelope::scan(&body).map_err(|fault| prepare::malformed(&fault))?;
    let Some(model) = prepare::text_field(&envelope, "model")? else {
        let route = snapshot.direct(only_provider(snapshot)?, "");
        return Ok(Forwarded { json: true, ..Forwarded::new(route, Outgoing::Whole(body)) });
    };
    let route = routed(&model, snapshot)?;
    if model == *route.upstream_model {
        return Ok(Forwarded { route, body: Outgoing::Whole(body), model, json: true });
    }
    let spliced = splice(&envelope, &[Edit::set("model", &*route.upstream_json)]);
    Ok(Forwarded { route, body: Outgoing::Whole(spliced.into()), model, json: true })
}

fn routed(model: &str, snapshot: &Snapshot) -> Result<Arc<Route>, Fault> {
    snapshot.route(model).map_err(|unknown| prepare::unknown_model(model, &unknown))
}

/// Reads a form up to its `model` field, then streams on.
async fn by_form_field<B>(boundary: &str, body: B, snapshot: &Snapshot) -> Result<Forwarded, Fault>
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
    let Some(span) = field else {
        let route = snapshot.direct(only_provider(snapshot)?, "");
        let body = Outgoing::Stream(Box::pin(Upload::new(begun.freeze(), body, upload_limit)));
        return Ok(Forwarded::new(route, body));
    };
    let mut rest = Rest::behind("model", boundary);
    if rest.repeats(&begun[span.end..]) {
        return Err(attempt::two_models());
    }
    let model = String::from_utf8_lossy(&begun[span.clone()]).into_owned();
    let route = routed(&model, snapshot)?;
    let mut spliced = BytesMut::with_capacity(begun.len() + route.upstream_model.len());
    spliced.extend_from_slice(&begun[..span.start]);
    spliced.extend_from_slice(route.upstream_model.as_bytes());
    spliced.extend_from_slice(&begun[span.end..]);
    let upload = Upload::new(spliced.freeze(), body, upload_limit).watched(rest);
    Ok(Forwarded { route, body: Outgoing::Stream(Box::pin(upload)), model, json: false })
}

fn upload<B>(begun: Bytes, body: B, limit: usize) -> Result<Outgoing, Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    if body.is_end_stream() {
        return Ok(Outgoing::Whole(begun));
    }
    if body.size_hint().lower() > limit as u64 {
        return Err(intake::too_large(limit));
    }
    Ok(Outgoing::Stream(Box::pin(Upload::new(begun, Box::pin(body), limit))))
}

/// Whether a reply is a stream of the Responses API.
fn is_response_stream(endpoint: &Endpoint, headers: &HeaderMap) -> bool {
    endpoint.rest.trim_end_matches('/') == "/responses" && is_event_stream(headers)
}

/// A client's body on its way to a provider, with what was read of it put back in front.
struct Upload<B> {
    begun: Bytes,
    body: Pin<Box<B>>,
    left: usize,
    /// What may not name the model a second time. In a box, for few uploads have one.
    rest: Option<Box<Rest>>,
}

impl<B> Upload<B> {
    fn new(begun: Bytes, body: Pin<Box<B>>, limit: usize) -> Self {
        Self { begun, body, left: limit, rest: None }
    }

    fn watched(mut self, rest: Rest) -> Self {
        self.rest = Some(Box::new(rest));
        self
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Wake<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.begun.is_empty() {
            let begun = std::mem::take(&mut self.begun);
            return Poll::Ready(Some(Ok(Frame::data(begun))));
        }
        let frame = std::task::ready!(self.body.as_mut().poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            let size = frame.data_ref().map_or(0, Bytes::len);
            match self.left.checked_sub(size) {
                Some(left) => self.left = left,
                None => return Err(UploadFault::TooLarge.into()),
            }
            if let (Some(rest), Some(data)) = (&mut self.rest, frame.data_ref())
                && rest.repeats(data)
            {
                return Err(UploadFault::TwoModels.into());
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun.len() as u64;
        match self.body.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(begun + rest),
            None => SizeHint::default(),
        }
    }
}
