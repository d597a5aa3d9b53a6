//! Responses: an answer in memory, a tapped stream, an opaque one, and the headers on all of them.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Body;
use policy::Route;
use tokio::time::Instant;
use wire::dialects::openai_responses::Ending;

use crate::fault::{Code, Fault, Language};
use crate::headers::{JSON, to_client};
use crate::latch::Waiter;
use crate::pass::Pass;
use crate::ports::Failure;
use crate::prepare::Ask;
use crate::reply::ReplyBody;
use crate::request_id::RequestId;
use crate::serve::Context;
use crate::tap::{Rules, Tap};

pub(crate) const PROVIDER: HeaderName = HeaderName::from_static("x-magpie-provider");
const TARGET: HeaderName = HeaderName::from_static("x-magpie-target");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-magpie-attempts");
pub(crate) const OVERHEAD: HeaderName = HeaderName::from_static("x-magpie-overhead-us");
/// The id of the request, on every response.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Magpie's own share of the time to the head of a response.
pub(crate) struct Overhead {
    /// From the request to the call.
    pub(crate) before: std::time::Duration,
    /// When the head of the reply came.
    pub(crate) since: Instant,
    /// How many providers were asked.
    pub(crate) attempts: u16,
}

impl Overhead {
    fn stamp(&self, headers: &mut HeaderMap) {
        let micros = (self.before + self.since.elapsed()).as_micros();
        headers.insert(OVERHEAD, HeaderValue::from(u64::try_from(micros).unwrap_or(u64::MAX)));
    }
}

pub(crate) fn tapped<B>(
    parts: &http::response::Parts,
    begun: Bytes,
    body: B,
    ask: &Ask,
    head: &Overhead,
    context: &mut Context,
) -> Response<ReplyBody<B>>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    context.settlement.note(|record| record.status = parts.status.as_u16());
    let tap = Tap::new(begun, body, rules(ask, context), context.take_settlement());
    let body = ReplyBody::tap(tap);
    let mut response = Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = to_client(&parts.headers, &ask.route.provider);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of nginx's kind hold streams back unless told.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    stamp(headers, &ask.route, head);
    response
}

/// What the tap of an answer has to know.
pub(crate) fn rules(ask: &Ask, context: &Context) -> Rules {
    Rules {
        route: Arc::clone(&ask.route),
        clocks: ask.route.clocks,
        start: context.start,
        asked: context.asked,
        hide_usage: ask.hide_usage,
        language: context.language,
        shed: Waiter::new(Rc::clone(&context.shed)),
    }
}

/// A reply passed on as it comes.
pub(crate) fn passed<B>(
    parts: &http::response::Parts,
    begun: Bytes,
    rest: B,
    route: &Arc<Route>,
    head: &Overhead,
    ending: Option<Ending>,
    context: &mut Context,
) -> Response<ReplyBody<B>>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    context.settlement.note(|record| record.status = parts.status.as_u16());
    let settlement = context.take_settlement();
    let shed = Waiter::new(Rc::clone(&context.shed));
    let pass = Pass::new(begun, rest, route.clocks, context.start, shed, ending, settlement);
    let mut response = Response::new(ReplyBody::pass(pass));
    *response.status_mut() = parts.status;
    *response.headers_mut() = to_client(&parts.headers, &route.provider);
    if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.clone());
    }
    stamp(response.headers_mut(), route, head);
    response
}

/// A reply in memory.
pub(crate) fn answer<B>(
    status: StatusCode,
    upstream: &HeaderMap,
    body: Bytes,
    route: &Route,
    head: &Overhead,
    content_type: Option<HeaderValue>,
) -> Response<ReplyBody<B>> {
    let mut response = Response::new(ReplyBody::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = to_client(upstream, &route.provider);
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    stamp(response.headers_mut(), route, head);
    response
}

fn stamp(headers: &mut HeaderMap, route: &Route, head: &Overhead) {
    stamp_route(headers, route, head.attempts);
    head.stamp(headers);
}

/// Who was asked, on every response to a request that reached a provider, or was meant to.
pub(crate) fn stamp_route(headers: &mut HeaderMap, route: &Route, attempts: u16) {
    headers.insert(PROVIDER, route.provider.id_header.clone());
    headers.insert(TARGET, route.target_header.clone());
    stamp_attempts(headers, attempts);
}

/// How many providers were asked.
pub(crate) fn stamp_attempts(headers: &mut HeaderMap, attempts: u16) {
    let attempts = match attempts {
        0 => HeaderValue::from_static("0"),
        1 => HeaderValue::from_static("1"),
        more => HeaderValue::from(more),
    };
    headers.insert(ATTEMPTS, attempts);
}

pub(crate) fn json<B>(status: StatusCode, body: String) -> Response<ReplyBody<B>> {
    let mut response = Response::new(ReplyBody::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// The response where Magpie itself has failed.
pub(crate) fn failed<B>(id: RequestId, language: Language) -> Response<ReplyBody<B>> {
    let fault = Fault::new(Code::Internal, "Magpie failed to answer this request.");
    let mut response = json(fault.code.status(), fault.to_json(language));
    response.headers_mut().insert(REQUEST_ID, id.to_header());
    response
}
