//! The straight line: from a request to its response, step by step.

use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Response, StatusCode, header};
use http_body::Body;
use policy::{Route, Snapshot};
use tokio::time::Instant;

use crate::admit::{self, Bound, Moment, Refusal, admit, knock};
use crate::attempt::{self, Ended, Read, Verdict};
use crate::fault::{Code, Fault, Language};
use crate::headers::{JSON, is_event_stream, to_upstream};
use crate::identify::{Caller, Callers, Gate, identify};
use crate::intake::{self, Endpoint, Operation};
use crate::latch::Latch;
use crate::models;
use crate::ports::{BoxError, Call, Outgoing, Recorder, Unrecorded, Upstream};
use crate::prepare::{self, Ask};
use crate::reply::ReplyBody;
use crate::request_id::RequestId;
use crate::respond::{
    Overhead, PROVIDER, REQUEST_ID, answer, failed, json, passed, stamp_route, tapped,
};
use crate::settle::{Outcome, Settlement};

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
    /// Where it came from, if that is an address.
    pub address: Option<IpAddr>,
    /// Set when running streams have to end, because the process is stopping.
    pub shed: Rc<Latch>,
}

/// The relay of one worker.
pub struct Relay<U> {
    upstream: U,
    recorder: Rc<dyn Recorder>,
    callers: Callers,
}

/// What is known of a request from its head on.
pub(crate) struct Context {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) start: Instant,
    pub(crate) language: Language,
    pub(crate) shed: Rc<Latch>,
    pub(crate) settlement: Settlement,
    pub(crate) caller: Caller,
    pub(crate) now: Moment,
}

pub(crate) type Answer<B> = Result<Response<ReplyBody<B>>, Ended>;

impl<U: Upstream> Relay<U> {
    /// A relay over a network, that records to `recorder` and knows callers by `gate`.
    pub fn new(upstream: U, recorder: Rc<dyn Recorder>, gate: Arc<Gate>) -> Self {
        Self { upstream, recorder, callers: Callers::new(gate) }
    }

    /// Answers one request of the API. Dropping the future, or the body of the response, cancels
    /// what is under way at the provider and records that the client is gone. A panic on the way
    /// fails this request alone.
    pub async fn serve<B>(&self, request: Request<B>) -> Response<ReplyBody<U::Body>>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let at = SystemTime::now();
        let id = RequestId::at(at);
        let language = Language::of(&request.parts.headers);
        let mut answering = pin!(self.answer(request, id, at, language));
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx)));
            // What the future held was recorded and given back while it unwound.
            polled.unwrap_or_else(|_| Poll::Ready(failed(id, language)))
        })
        .await
    }

    async fn answer<B>(
        &self,
        request: Request<B>,
        id: RequestId,
        at: SystemTime,
        language: Language,
    ) -> Response<ReplyBody<U::Body>>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let Request { parts, body, snapshot, start, address, shed } = request;
        let endpoint = intake::endpoint(&parts.method, parts.uri.path());
        let operation = endpoint.as_ref().map_or(Operation::Other, |endpoint| endpoint.operation);
        let settlement = Settlement::open(id, operation, at, start, Rc::clone(&self.recorder));
        let now = Moment::new(start - self.callers.gate.epoch, at);
        let caller = Caller::default();
        let mut context = Context { snapshot, start, language, shed, settlement, caller, now };
        let answer = match endpoint.and_then(|endpoint| {
            context.identify(&parts, address, operation, &self.callers)?;
            Ok(endpoint)
        }) {
            Ok(endpoint) => self.dispatch(&endpoint, &parts, body, &mut context).await,
            Err(fault) => Err(refused(fault)),
        };
        let mut response = answer.unwrap_or_else(|ended| fault_response(ended, &mut context));
        if context.settlement.is_closed()
            && let Some(lasting) = context.settlement.lasting()
        {
            lasting.await;
        }
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id.to_header());
        admit::stamp(&context.caller, headers, context.now);
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
                let answer = models::answer(&endpoint.rest, &context.snapshot, &context.caller);
                let answer = answer.map_err(refused)?;
                context.close(Outcome::Complete, StatusCode::OK);
                Ok(json(StatusCode::OK, answer))
            }
            // In a box, so that the common operations do not carry the room for it.
            _ => Box::pin(self.forward(endpoint, parts, body, context)).await,
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
        let ask = context.admitted(&body, endpoint.operation).map_err(refused)?;
        let due = match ask.stream {
            true => attempt::first_event(ask.route.clocks, context.start, Instant::now()),
            false => context.start + ask.route.clocks.total,
        };
        let target = target(endpoint, parts, &ask.route).map_err(refused)?;
        let make = || {
            let body = Outgoing::Whole(ask.body.clone());
            Some(call(endpoint, parts, &ask.route, target.clone(), body))
        };
        let (response, head) = self.attempt(&ask.route, &ask.bound, due, make, context).await?;
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
        bound: &Bound,
        due: Instant,
        call: impl FnMut() -> Option<Call>,
        context: &mut Context,
    ) -> Result<(Response<U::Body>, Overhead), Ended> {
        let id = &route.provider.id;
        context.settlement.ask(bound).map_err(|Unrecorded| {
            let message = "What happens cannot be recorded for now.";
            refused(Fault::new(Code::LedgerUnavailable, message))
        })?;
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
    /// Finds out who calls.
    fn identify(
        &mut self,
        parts: &Parts,
        address: Option<IpAddr>,
        operation: Operation,
        callers: &Callers,
    ) -> Result<(), Fault> {
        knock(address, &self.snapshot, self.now)?;
        let (headers, now) = (&parts.headers, self.now.ms);
        self.caller = identify(headers, address, &self.snapshot, callers, now)?;
        let caller = self.caller.clone();
        self.settlement.note(|record| record.caller = caller);
        self.caller.check(operation, now)
    }

    /// Reads a JSON request, and admits it: to the model that it names, or to the one that an
    /// exhausted budget names in its place.
    fn admitted(&mut self, body: &Bytes, operation: Operation) -> Result<Ask, Fault> {
        let mut instead: Option<Arc<str>> = None;
        loop {
            let snapshot = Arc::clone(&self.snapshot);
            let model = instead.as_deref();
            let ask = prepare::ask(body, operation, model, &snapshot, &mut self.settlement)?;
            self.settlement.note(|record| {
                record.route = Some(Arc::clone(&ask.route));
                record.stream = ask.stream;
            });
            match self.admit(&ask.model, &ask.route, &ask.bound) {
                Ok(()) => return Ok(ask),
                Err(Refusal::Fault(fault)) => return Err(fault),
                Err(Refusal::Downgrade(_, fault)) if instead.is_some() => return Err(fault),
                Err(Refusal::Downgrade(model, _)) => instead = Some(model),
            }
        }
    }

    /// Admits a request to a route, under the name of the model it was asked for by.
    pub(crate) fn admit(
        &mut self,
        model: &str,
        route: &Route,
        bound: &Bound,
    ) -> Result<(), Refusal> {
        self.caller.check_model(model).map_err(Refusal::Fault)?;
        let snapshot = &self.snapshot;
        let admission = admit(&self.caller, model, route, bound, snapshot, self.now)?;
        self.settlement.hold(admission);
        Ok(())
    }

    /// Records the end of a request whose answer is at hand.
    pub(crate) fn close(&mut self, outcome: Outcome, status: StatusCode) {
        self.settlement.note(|record| record.status = status.as_u16());
        self.settlement.close(outcome);
    }

    /// The settlement, to travel with a body; what is left behind is closed already.
    pub(crate) fn take_settlement(&mut self) -> Settlement {
        self.settlement.take()
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
    if !endpoint.operation.is_forwarded() {
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

fn unreadable(route: &Route) -> Ended {
    let message = format!("{} sent an answer that cannot be read.", route.provider.id);
    Ended { outcome: Outcome::Truncated, fault: Fault::new(Code::Malformed, message) }
}

/// A refusal before any provider was asked.
pub(crate) fn refused(fault: Fault) -> Ended {
    Ended { outcome: Outcome::Refused, fault }
}

/// The response for a fault; the record is closed with it.
fn fault_response<B>(ended: Ended, context: &mut Context) -> Response<ReplyBody<B>> {
    let Ended { outcome, fault } = ended;
    let status = fault.code.status();
    let mut response = json(status, fault.to_json(context.language));
    fault.stamp(response.headers_mut());
    let (mut route, mut asked) = (None, false);
    context.settlement.note(|record| {
        record.fault = Some(fault.code.name());
        (route, asked) = (record.route.clone(), record.asked);
    });
    if let Some(route) = route {
        stamp_route(response.headers_mut(), &route, asked);
    }
    context.close(outcome, status);
    response
}
