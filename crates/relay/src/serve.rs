//! The straight line: from a request to its response, step by step.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Body;
use policy::{Route, Snapshot};
use tokio::time::Instant;
use wire::dialects::openai_responses::Ending;

use crate::attempt::{self, Ended, Read, Verdict};
use crate::fault::{Code, Fault, Language};
use crate::headers::{JSON, is_event_stream, to_client, to_upstream};
use crate::intake::{self, Endpoint, Operation};
use crate::latch::{Latch, Waiter};
use crate::models;
use crate::pass::Pass;
use crate::ports::{BoxError, Call, Failure, Outgoing, Recorder, Upstream};
use crate::prepare::{self, Ask};
use crate::reply::ReplyBody;
use crate::request_id::RequestId;
use crate::settle::{Outcome, Settlement};
use crate::tap::{Rules, Tap};

pub(crate) const PROVIDER: HeaderName = HeaderName::from_static("x-magpie-provider");
const TARGET: HeaderName = HeaderName::from_static("x-magpie-target");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-magpie-attempts");
const OVERHEAD: HeaderName = HeaderName::from_static("x-magpie-overhead-us");
/// The id of the request, on every response.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request that was let in, with the snapshot it keeps to its end.
pub struct Request<B> {
    /// Its head.
    pub parts: Parts,
    /// Its body.
    pub body: B,
    /// The configuration it began with.
    pub snapshot: Arc<Snapshot>,
    /// When it came.
    pub start: Instant,
    /// Set when running streams have to end, because the process is stopping.
    pub shed: Rc<Latch>,
}

/// The relay of one worker.
pub struct Relay<U> {
    upstream: U,
    recorder: Rc<dyn Recorder>,
}

/// What is known of a request from its head on.
pub(crate) struct Context {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) start: Instant,
    pub(crate) language: Language,
    pub(crate) shed: Rc<Latch>,
    pub(crate) settlement: Settlement,
}

pub(crate) type Answer<B> = Result<Response<ReplyBody<B>>, Ended>;

impl<U: Upstream> Relay<U> {
    /// A relay over a network, that records to `recorder`.
    pub fn new(upstream: U, recorder: Rc<dyn Recorder>) -> Self {
        Self { upstream, recorder }
    }

    /// Answers one request of the API. Dropping the future, or the body of the response, cancels
    /// what is under way at the provider and records that the client is gone.
    pub async fn serve<B>(&self, request: Request<B>) -> Response<ReplyBody<U::Body>>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let Request { parts, body, snapshot, start, shed } = request;
        let id = RequestId::new();
        let language = Language::of(&parts.headers);
        let endpoint = intake::endpoint(&parts.method, parts.uri.path());
        let operation = endpoint.as_ref().map_or(Operation::Other, |endpoint| endpoint.operation);
        let settlement = Settlement::open(id, operation, start, Rc::clone(&self.recorder));
        let mut context = Context { snapshot, start, language, shed, settlement };
        let answer = match endpoint {
            Ok(endpoint) => self.dispatch(&endpoint, &parts, body, &mut context).await,
            Err(fault) => Err(refused(fault)),
        };
        let mut response = answer.unwrap_or_else(|ended| fault_response(ended, &mut context));
        response.headers_mut().insert(REQUEST_ID, id.to_header());
        response
    }

    async fn dispatch<B>(
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
        if parts
            .headers
            .get(header::UPGRADE)
            .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        {
            return Err(refused(Fault::new(Code::WebSocket, "WebSocket is not spoken here.")));
        }
        intake::check_encoding(&parts.headers).map_err(refused)?;
        match endpoint.operation {
            Operation::Chat | Operation::Completion | Operation::Embedding => {
                self.generate(endpoint, parts, body, context).await
            }
            // One model is looked up here and nowhere else: its decoded name is no path.
            Operation::Models
                if !parts.headers.contains_key(PROVIDER)
                    || models::name(&endpoint.rest).is_some() =>
            {
                let answer = models::answer(&endpoint.rest, &context.snapshot).map_err(refused)?;
                context.close(Outcome::Complete, StatusCode::OK);
                Ok(json(StatusCode::OK, answer))
            }
            // In a box, so that the common operations do not carry the room for it.
            Operation::Models | Operation::Other => {
                Box::pin(self.forward(endpoint, parts, body, context)).await
            }
        }
    }

    /// Chat, completions, embeddings: read, route, splice, send, answer.
    async fn generate<B>(
        &self,
        endpoint: &Endpoint,
        parts: &Parts,
        body: B,
        context: &mut Context,
    ) -> Answer<U::Body>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let body = intake::read(body, context.snapshot.limits.body).await.map_err(refused)?;
        let snapshot = Arc::clone(&context.snapshot);
        let ask = prepare::ask(&body, endpoint.operation, &snapshot, &mut context.settlement);
        let ask = ask.map_err(refused)?;
        context.settlement.note(|record| {
            record.route = Some(Arc::clone(&ask.route));
            record.stream = ask.stream;
        });
        let due = match ask.stream {
            true => attempt::first_event(ask.route.clocks, context.start, Instant::now()),
            false => context.start + ask.route.clocks.total,
        };
        let target = target(endpoint, parts, &ask.route).map_err(refused)?;
        let make = || {
            let body = Outgoing::Whole(ask.body.clone());
            Some(call(endpoint, parts, &ask.route, target.clone(), body))
        };
        let (response, head) = self.attempt(&ask.route, due, make, context).await?;
        let streams = is_event_stream(response.headers()) && response.status().is_success();
        if streams && endpoint.operation.has_choices() {
            return Ok(tapped(response, &ask, &head, context));
        }
        self.whole(response, &ask.route, ask.stream, head, context).await
    }

    /// Sends a call, and says when the head of its reply came.
    pub(crate) async fn attempt(
        &self,
        route: &Route,
        due: Instant,
        call: impl FnMut() -> Option<Call>,
        context: &mut Context,
    ) -> Result<(Response<U::Body>, Overhead), Ended> {
        let id = &route.provider.id;
        let before = context.start.elapsed();
        let response = attempt::send(&self.upstream, id, due, call).await?;
        let head = Overhead { before, since: Instant::now() };
        context.settlement.note(|record| record.overhead = before);
        if response.status().is_redirection() {
            let fault = Fault::new(Code::Redirect, format!("{id} answered with a redirect."));
            return Err(Ended { outcome: Outcome::ProviderError, fault });
        }
        Ok((response, head))
    }

    /// A reply that is not streamed: errors are made readable, answers pass as they are.
    async fn whole(
        &self,
        response: Response<U::Body>,
        route: &Arc<Route>,
        wants_stream: bool,
        head: Overhead,
        context: &mut Context,
    ) -> Answer<U::Body> {
        let (parts, body) = response.into_parts();
        let provider = &route.provider;
        let deadline = context.start + route.clocks.total;
        let (begun, rest) = match attempt::read(body, &provider.id, deadline, parts.status).await? {
            Read::Whole(bytes) => (bytes, None),
            Read::Begun(bytes, rest) => (bytes, Some(rest)),
        };
        // Waiting for the body was the provider's time.
        let head = Overhead { since: Instant::now(), ..head };
        if !parts.status.is_success() {
            let body = attempt::error_body(&parts, &begun, provider);
            context.close(Outcome::ProviderError, parts.status);
            return Ok(answer(parts.status, &parts.headers, body, route, &head, Some(JSON)));
        }
        if let Some(rest) = rest {
            return Ok(passed(&parts, begun, rest, route, &head, None, context));
        }
        match attempt::judge(&begun, provider) {
            Verdict::Error(status, body) => {
                context.close(Outcome::ProviderError, status);
                Ok(answer(status, &parts.headers, body, route, &head, Some(JSON)))
            }
            Verdict::Unreadable => Err(unreadable(route)),
            Verdict::Answer(_) if wants_stream => {
                let message = format!("{} answered without streaming.", provider.id);
                let fault = Fault::new(Code::NotAStream, message);
                Err(Ended { outcome: Outcome::ProviderError, fault })
            }
            Verdict::Answer(seen) => {
                context.settlement.note(|record| record.usage = seen.usage);
                context.close(Outcome::Complete, parts.status);
                Ok(answer(parts.status, &parts.headers, begun, route, &head, None))
            }
        }
    }
}

impl Context {
    /// Records the end of a request whose answer is at hand.
    pub(crate) fn close(&mut self, outcome: Outcome, status: StatusCode) {
        self.settlement.note(|record| record.status = status.as_u16());
        self.settlement.close(outcome);
    }

    /// The settlement, to travel with a body; what is left behind is closed already.
    fn take_settlement(&mut self) -> Settlement {
        self.settlement.take()
    }
}

/// Magpie's own share of the time to the head of a response.
pub(crate) struct Overhead {
    /// From the request to the call.
    before: std::time::Duration,
    /// When the head of the reply came.
    since: Instant,
}

impl Overhead {
    fn stamp(&self, headers: &mut HeaderMap) {
        let micros = (self.before + self.since.elapsed()).as_micros();
        headers.insert(OVERHEAD, HeaderValue::from(u64::try_from(micros).unwrap_or(u64::MAX)));
    }
}

/// Path and query of a call.
pub(crate) fn target(
    endpoint: &Endpoint,
    parts: &Parts,
    route: &Route,
) -> Result<PathAndQuery, Fault> {
    prepare::target(&route.provider.base_path, &endpoint.rest, parts.uri.query())
}

/// A call to the route's provider.
pub(crate) fn call(
    endpoint: &Endpoint,
    parts: &Parts,
    route: &Route,
    target: PathAndQuery,
    body: Outgoing,
) -> Call {
    let provider = &route.provider;
    let mut headers = to_upstream(&parts.headers, provider);
    if endpoint.operation != Operation::Other {
        headers.insert(header::CONTENT_TYPE, JSON);
    }
    Call {
        provider: Arc::clone(provider),
        method: parts.method.clone(),
        target,
        headers,
        body,
        connect: route.clocks.connect,
    }
}

fn tapped<B>(
    response: Response<B>,
    ask: &Ask,
    head: &Overhead,
    context: &mut Context,
) -> Response<ReplyBody<B>>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    let (parts, body) = response.into_parts();
    context.settlement.note(|record| record.status = parts.status.as_u16());
    let rules = Rules {
        route: Arc::clone(&ask.route),
        clocks: ask.route.clocks,
        start: context.start,
        asked: context.start + head.before,
        hide_usage: ask.hide_usage,
        language: context.language,
        shed: Waiter::new(Rc::clone(&context.shed)),
    };
    let body = ReplyBody::tap(Tap::new(body, rules, context.take_settlement()));
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
    stamp_route(headers, route);
    head.stamp(headers);
}

/// Who was asked, on every response to a request that reached a provider, or was meant to.
fn stamp_route(headers: &mut HeaderMap, route: &Route) {
    headers.insert(PROVIDER, route.provider.id_header.clone());
    headers.insert(TARGET, route.target_header.clone());
    headers.insert(ATTEMPTS, HeaderValue::from_static("1"));
}

fn unreadable(route: &Route) -> Ended {
    let message = format!("{} sent an answer that cannot be read.", route.provider.id);
    Ended { outcome: Outcome::Truncated, fault: Fault::new(Code::Malformed, message) }
}

/// A refusal before any provider was asked.
pub(crate) fn refused(fault: Fault) -> Ended {
    Ended { outcome: Outcome::Refused, fault }
}

fn json<B>(status: StatusCode, body: String) -> Response<ReplyBody<B>> {
    let mut response = Response::new(ReplyBody::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// The response for a fault; the record is closed with it.
fn fault_response<B>(ended: Ended, context: &mut Context) -> Response<ReplyBody<B>> {
    let Ended { outcome, fault } = ended;
    let status = fault.code.status();
    let mut response = json(status, fault.to_json(context.language));
    fault.stamp(response.headers_mut());
    let mut route = None;
    context.settlement.note(|record| {
        record.fault = Some(fault.code.name());
        route = record.route.clone();
    });
    if let Some(route) = route {
        stamp_route(response.headers_mut(), &route);
    }
    context.close(outcome, status);
    response
}
