//! The straight line: from a request to its response, step by step.

use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, header};
use http_body::Body;
use policy::health::Cause;
use policy::plan::Failed;
use policy::{Route, Snapshot};
use tokio::time::Instant;

use crate::admit::{self, Bound, Moment, Refusal, admit, knock};
use crate::attempt::{self, Ended};
use crate::fault::{Code, Fault, Language};
use crate::feedback;
use crate::flights::Flights;
use crate::headers::{JSON, to_upstream};
use crate::identify::{Caller, Callers, Gate, identify};
use crate::intake::{self, Endpoint, Operation};
use crate::latch::Latch;
use crate::mirror::Mirroring;
use crate::models;
use crate::ports::{BoxError, Call, Outgoing, Recorder, Tasks, Unrecorded, Upstream};
use crate::queue;
use crate::record::Outcome;
use crate::reply::ReplyBody;
use crate::request_id::RequestId;
use crate::respond::{Overhead, PROVIDER, REQUEST_ID, failed, json, stamp_route};
use crate::settle::{Failing, Settlement};
use crate::share::Sharing;

/// A request that was let in, with the snapshot it keeps to its end.
pub struct Request<B> {
    /// What it is known by. When it came is in it, and all that is drawn for it follows from it.
    pub id: RequestId,
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

/// The relay of one worker. A clone is the same relay, for what runs beside a request.
pub struct Relay<U>(Rc<Inner<U>>);

impl<U> Clone for Relay<U> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

struct Inner<U> {
    upstream: Rc<U>,
    recorder: Rc<dyn Recorder>,
    callers: Callers,
    tasks: Rc<dyn Tasks>,
    sharing: Sharing,
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
    /// When the provider was asked that is asked now.
    pub(crate) asked: Instant,
    /// For how long providers were waited for that did not answer.
    pub(crate) waited: Duration,
    /// For how long it has waited for room.
    pub(crate) queued: Duration,
    /// How long after the request its next attempt is admitted, if anything was waited for.
    pub(crate) later: Duration,
    /// Random bits, for plans.
    pub(crate) random: u64,
    /// Whether it goes to a shadow as well.
    pub(crate) mirroring: Mirroring,
}

pub(crate) type Answer<B> = Result<Response<ReplyBody<B>>, Ended>;

impl<U: Upstream> Relay<U> {
    /// A relay over a network, that records to `recorder`, knows callers by `gate`, shares answers
    /// with the relays of other workers by `flights`, and has `tasks` run what outlasts a request.
    pub fn new(
        upstream: Rc<U>,
        recorder: Rc<dyn Recorder>,
        gate: Arc<Gate>,
        flights: Arc<Flights>,
        tasks: Rc<dyn Tasks>,
    ) -> Self {
        let (callers, sharing) = (Callers::new(gate), Sharing::new(flights));
        Self(Rc::new(Inner { upstream, recorder, callers, tasks, sharing }))
    }

    pub(crate) fn recorder(&self) -> &Rc<dyn Recorder> {
        &self.0.recorder
    }

    pub(crate) fn callers(&self) -> &Callers {
        &self.0.callers
    }

    pub(crate) fn sharing(&self) -> &Sharing {
        &self.0.sharing
    }

    /// How many calls are under way whose answers may be shared. They go on without the connections
    /// that they came by.
    #[must_use]
    pub fn leading(&self) -> usize {
        self.sharing().leading()
    }

    pub(crate) fn tasks(&self) -> &dyn Tasks {
        &*self.0.tasks
    }

    /// Answers one request of the API. Dropping the future, or the body of the response, cancels
    /// what is under way at the provider and records that the client is gone, unless the answer is
    /// shared. A panic on the way fails this request alone.
    pub async fn serve<B>(&self, request: Request<B>) -> Response<ReplyBody<U::Body>>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let (id, at) = (request.id, request.id.time());
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
        let Request { id: _, parts, body, snapshot, start, address, shed } = request;
        let endpoint = intake::endpoint(&parts.method, parts.uri.path());
        let operation = endpoint.as_ref().map_or(Operation::Other, |endpoint| endpoint.operation);
        let now = Moment::new(start - self.0.callers.gate.epoch, at);
        let recorder = Rc::clone(&self.0.recorder);
        let mut settlement =
            Settlement::open(id, operation, at, start, now.ns / 1_000_000, recorder);
        if parts.method != Method::POST {
            settlement.note(|record| record.may_cost = false);
        }
        let mut context = Context {
            snapshot,
            start,
            language,
            shed,
            settlement,
            caller: Caller::default(),
            now,
            asked: start,
            waited: Duration::ZERO,
            queued: Duration::ZERO,
            later: Duration::ZERO,
            random: id.random(),
            mirroring: Mirroring::No,
        };
        let answer = match endpoint.and_then(|endpoint| {
            context.identify(&parts, address, operation, &self.0.callers)?;
            Ok(endpoint)
        }) {
            Ok(endpoint) => self.dispatch(&endpoint, &parts, body, &mut context).await,
            Err(fault) => Err(refused(fault)),
        };
        let mut response = settled(answer, &mut context).await;
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id.to_header());
        queue::stamp(context.queued, headers);
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
            Operation::Feedback => {
                let answer = feedback::answer(body, &*self.0.recorder, &context.caller);
                let answer = Box::pin(answer).await.map_err(refused)?;
                context.close(Outcome::Complete, StatusCode::OK);
                Ok(json(StatusCode::OK, answer))
            }
            // In a box, so that the common operations do not carry the room for it.
            _ => Box::pin(self.forward(endpoint, parts, body, context)).await,
        }
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
        context.asked = Instant::now();
        self.mirror(context);
        let before = (context.asked - context.start).saturating_sub(context.waited);
        let response = attempt::send(&*self.0.upstream, id, due, call).await?;
        let attempts = context.settlement.attempts();
        let head = Overhead { before, since: Instant::now(), attempts };
        context.settlement.note(|record| record.overhead = before);
        if response.status().is_redirection() {
            let fault = Fault::new(Code::Redirect, format!("{id} answered with a redirect."));
            let cause = Some(Cause::Transient);
            return Err(Ended { outcome: Outcome::ProviderError, fault, cause });
        }
        Ok((response, head))
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

    /// Admits a request to a route, under the name of the model it was asked for by.
    pub(crate) fn admit(
        &mut self,
        model: &str,
        route: &Route,
        bound: &Bound,
    ) -> Result<(), Refusal> {
        self.caller.check_model(model).map_err(Refusal::Fault)?;
        self.settlement.release();
        // What was taken for an attempt before is taken anew: now, as others were admitted since.
        if self.settlement.attempts() > 0 {
            self.later = self.start.elapsed();
        }
        let now = self.now.plus(self.later);
        let counted = self.settlement.counted();
        let admission = {
            let counted = counted.as_ref().map(|counted| counted.borrow());
            let (snapshot, counted) = (&self.snapshot, counted.as_deref());
            admit(&self.caller, model, route, bound, snapshot, now, counted)?
        };
        self.settlement.hold(admission.since(self.now));
        Ok(())
    }

    /// Records the end of a request whose answer is at hand.
    pub(crate) fn close(&mut self, outcome: Outcome, status: StatusCode) {
        self.settlement.note(|record| record.status = status.as_u16());
        self.settlement.close(outcome);
    }

    /// The attempt under way has failed. Says what may come next.
    pub(crate) fn fail(&mut self, failing: &Failing) -> Option<Failed> {
        self.waited += self.asked.elapsed();
        self.settlement.fail(failing)
    }

    /// For an attempt of the same request beside the one under way.
    pub(crate) fn branch(&mut self) -> Self {
        Self {
            snapshot: Arc::clone(&self.snapshot),
            language: self.language,
            shed: Rc::clone(&self.shed),
            settlement: self.settlement.branch(),
            caller: self.caller.clone(),
            mirroring: Mirroring::No,
            ..*self
        }
    }

    /// For attempts of the same request that may turn out to be the request's.
    pub(crate) fn contender(&mut self) -> Self {
        let settlement = self.settlement.contender();
        Self { settlement, ..self.branch() }
    }

    /// The request goes on with the attempt of that branch.
    pub(crate) fn give_way(&mut self, branch: Self) {
        (self.asked, self.waited) = (branch.asked, branch.waited);
        self.settlement.give_way(branch.settlement);
    }

    /// Now, in milliseconds since 1970.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.now.plus(self.start.elapsed()).ms
    }

    /// The settlement, to travel with a body; what is left behind is closed already.
    pub(crate) fn take_settlement(&mut self) -> Settlement {
        self.settlement.take()
    }
}

/// A call to the route's provider.
pub(crate) fn call(
    endpoint: &Endpoint,
    parts: &Parts,
    route: &Route,
    target: PathAndQuery,
    body: Outgoing,
    credential: usize,
) -> Call {
    let provider = &route.provider;
    let mut headers = to_upstream(&parts.headers, provider, credential);
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

/// A refusal before any provider was asked.
pub(crate) fn refused(fault: Fault) -> Ended {
    Ended { outcome: Outcome::Refused, fault, cause: None }
}

/// The response, once its record lasts, if that is made already.
pub(crate) async fn settled<B>(answer: Answer<B>, context: &mut Context) -> Response<ReplyBody<B>> {
    let response = answer.unwrap_or_else(|ended| fault_response(ended, context));
    let response = context.mirroring.listen(response);
    if context.settlement.is_closed()
        && let Some(lasting) = context.settlement.lasting()
    {
        lasting.await;
    }
    response
}

/// The response for a fault; the record is closed with it.
pub(crate) fn fault_response<B>(ended: Ended, context: &mut Context) -> Response<ReplyBody<B>> {
    let Ended { outcome, fault, cause } = ended;
    let status = fault.code.status();
    let mut response = json(status, fault.to_json(context.language));
    fault.stamp(response.headers_mut());
    let mut route = None;
    context.settlement.note(|record| {
        record.fault = Some(fault.code.name());
        record.limited = fault.limited;
        record.cause = cause;
        route = record.route.clone();
    });
    if let Some(route) = route {
        stamp_route(response.headers_mut(), &route, context.settlement.attempts());
    }
    context.close(outcome, status);
    response
}
