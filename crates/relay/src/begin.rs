//! One attempt, up to where its answer begins. Until then nothing has gone to the client, and any
//! other attempt may take its place; what has begun is then given to the client, or dropped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode, header, response};
use http_body::Body;
use policy::Route;
use policy::health::Cause;
use policy::health::retry::is_fast;
use policy::plan::Failed;
use tokio::time::Instant;
use wire::Usage;
use wire::dialects::openai_responses::Ending;

use crate::attempt::{self, Ended, Read, Verdict};
use crate::cause::Setback;
use crate::fault::{Code, Fault};
use crate::headers::{IDEMPOTENCY_KEY, JSON, is_event_stream, is_json};
use crate::hold::{self, Begun};
use crate::intake::Endpoint;
use crate::other::{Forwarded, bodiless};
use crate::ports::{Failure, Outgoing, Upstream};
use crate::prepare::{self, Ask, Wish};
use crate::record::Outcome;
use crate::reply::ReplyBody;
use crate::respond::{Overhead, answer, passed, stamp_attempts, tapped};
use crate::serve::{Answer, Context, Relay, call, refused};
use crate::settle::Failing;

/// A request of a client, read.
#[derive(Clone, Copy)]
pub(crate) struct Incoming<'r> {
    pub(crate) endpoint: &'r Endpoint,
    pub(crate) parts: &'r Parts,
    pub(crate) body: &'r Bytes,
    /// What it sends, if it is forwarded without being understood.
    pub(crate) forwarded: Option<&'r Forwarded>,
}

impl<'r> Incoming<'r> {
    /// It, read as far as choosing a target takes.
    pub(crate) fn wish(&self) -> Result<Wish<'r>, Fault> {
        let mut wish = Wish::read(self.body, self.endpoint.operation)?;
        if let Some(forwarded) = self.forwarded {
            forwarded.tell(&mut wish);
        }
        Ok(wish)
    }

    /// Whether another target may be asked after an attempt that failed so.
    fn may_go_on(&self, failing: &Failing) -> bool {
        let operation = self.endpoint.operation;
        self.forwarded.is_none_or(|forwarded| forwarded.may_go_on(operation, failing))
    }
}

/// An answer that has begun.
pub(crate) struct Answering<B> {
    ask: Ask,
    parts: response::Parts,
    head: Overhead,
    beginning: Beginning<B>,
}

/// How much of an answer is here.
enum Beginning<B> {
    /// A stream, from these bytes on.
    Stream(Bytes, B),
    /// All of it, with its token counts.
    Whole(Bytes, Option<Usage>),
    /// Too much to be looked into, or nothing that is understood: from these bytes on, and what tells
    /// whether it is whole.
    Opaque(Bytes, B, Option<Ending>),
    /// A head alone.
    Bodiless,
}

impl<B> Answering<B>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    /// Gives it to the client of the request whose attempt it is.
    pub(crate) fn commit(self, context: &mut Context) -> Response<ReplyBody<B>> {
        let Self { ask, parts, head, beginning } = self;
        // Others may have been asked since its head came.
        let head = Overhead { attempts: context.settlement.attempts(), ..head };
        match beginning {
            Beginning::Stream(begun, body) => tapped(&parts, begun, body, &ask, &head, context),
            Beginning::Opaque(begun, rest, ending) => {
                passed(&parts, begun, rest, &ask.route, &head, ending, context)
            }
            Beginning::Bodiless => {
                context.close(Outcome::Complete, parts.status);
                bodiless(&parts, &ask.route, &head)
            }
            Beginning::Whole(bytes, usage) => {
                context.settlement.note(|record| record.usage = usage);
                context.close(Outcome::Complete, parts.status);
                answer(parts.status, &parts.headers, bytes, &ask.route, &head, None)
            }
        }
    }

    /// What was asked, what came so far and where the rest comes from, if it is a stream.
    pub(crate) fn into_stream(self) -> Option<(Ask, Bytes, B)> {
        match self.beginning {
            Beginning::Stream(begun, body) => Some((self.ask, begun, body)),
            Beginning::Whole(..) | Beginning::Opaque(..) | Beginning::Bodiless => None,
        }
    }
}

/// An attempt without an answer.
pub(crate) struct Unanswered<B> {
    route: Arc<Route>,
    pub(crate) failing: Failing,
    /// What may come next, if a provider was asked.
    pub(crate) failed: Option<Failed>,
    /// What the client gets if no other attempt is made.
    pub(crate) reply: Result<Response<ReplyBody<B>>, Ended>,
}

impl<B> Unanswered<B> {
    /// No reply, or one that cannot be used.
    fn of(ended: Ended, route: &Arc<Route>) -> Self {
        let failing = Failing {
            cause: ended.cause.unwrap_or(Cause::CallersFault),
            wait: None,
            outcome: ended.outcome,
            fault: Some(ended.fault.code.name()),
            status: 0,
        };
        Self { route: Arc::clone(route), failing, failed: None, reply: Err(ended) }
    }

    /// Whether a provider was asked at all, and not the client's own body has failed.
    pub(crate) fn has_asked(&self) -> bool {
        let asked = |ended: &Ended| ended.cause.is_some() && ended.outcome != Outcome::Refused;
        self.reply.as_ref().err().is_none_or(asked)
    }

    /// Whether the same targets may do better a little later; and for how long the provider wants
    /// to be left alone until then, if it said so.
    pub(crate) fn passes(&self) -> Option<Option<Duration>> {
        let is_fast = self.failed.is_some_and(|failed| is_fast(failed.took_ms));
        (is_fast && self.failing.cause.passes()).then_some(self.failing.wait)
    }

    /// Has the client be told this, where no provider said anything.
    pub(crate) fn tell(&mut self, fault: Fault) {
        if let Err(ended) = &mut self.reply {
            ended.fault = fault;
        }
    }

    /// What the client gets.
    pub(crate) fn into_answer(self, context: &mut Context) -> Answer<B> {
        let mut reply = self.reply?;
        stamp_attempts(reply.headers_mut(), context.settlement.attempts());
        context.close(self.failing.outcome, reply.status());
        Ok(reply)
    }

    /// In words, for a client whose request no target could serve.
    pub(crate) fn words(&self) -> String {
        let (provider, model) = (&self.route.provider.id, &self.route.upstream_model);
        match &self.reply {
            Ok(reply) => format!("{provider}/{model}: answered with {}", reply.status()),
            Err(ended) => format!("{provider}/{model}: {}", ended.fault.message),
        }
    }
}

/// An attempt on its way.
struct Attempt<'c> {
    ask: Ask,
    /// Whether it is known what an answer to it looks like.
    is_understood: bool,
    context: &'c mut Context,
}

impl<U: Upstream> Relay<U> {
    /// One attempt, up to where its answer begins; one that fails is settled. `is_held` holds a
    /// stream back until it says something, so that another target can be asked if it does not.
    pub(crate) async fn begin(
        &self,
        incoming: Incoming<'_>,
        ask: Ask,
        is_held: bool,
        context: &mut Context,
    ) -> Result<Answering<U::Body>, Unanswered<U::Body>> {
        let begun = self.beginning(incoming, ask, is_held, context).await;
        begun.map_err(|mut unanswered| {
            if unanswered.has_asked() {
                let failed = context.fail(&unanswered.failing);
                unanswered.failed = failed.filter(|_| incoming.may_go_on(&unanswered.failing));
            }
            unanswered
        })
    }

    async fn beginning(
        &self,
        incoming: Incoming<'_>,
        ask: Ask,
        is_held: bool,
        context: &mut Context,
    ) -> Result<Answering<U::Body>, Unanswered<U::Body>> {
        let Incoming { endpoint, parts, .. } = incoming;
        let route = Arc::clone(&ask.route);
        let ended = |ended| Unanswered::of(ended, &route);
        let due = match ask.stream {
            true => attempt::first_event(route.clocks, context.start, Instant::now()),
            false => context.start + route.clocks.total,
        };
        let target = prepare::target(ask.base_path(), &endpoint.rest, parts.uri.query())
            .map_err(|fault| ended(refused(fault)))?;
        let credential = context.settlement.credential();
        // A provider that knows the key from another attempt would take this one for a misuse.
        let is_first = context.settlement.attempts() == 0 && !context.settlement.is_beside();
        let make = || {
            let body = match incoming.forwarded {
                Some(forwarded) => forwarded.body(&ask)?,
                None => Outgoing::Whole(ask.body.clone()),
            };
            let mut call = call(endpoint, parts, &route, target.clone(), body, credential);
            if !is_first {
                call.headers.remove(IDEMPOTENCY_KEY);
            }
            if incoming.forwarded.is_some_and(Forwarded::is_json) {
                call.headers.insert(header::CONTENT_TYPE, JSON);
            }
            Some(call)
        };
        let sent = self.attempt(&route, &ask.bound, due, make, context).await;
        let (response, head) = sent.map_err(ended)?;
        let (parts, body) = response.into_parts();
        let streams = is_event_stream(&parts.headers) && parts.status.is_success();
        if incoming.forwarded.is_some() {
            let attempt = Attempt { ask, is_understood: false, context };
            // In a box, so that the common operations do not carry the room for it.
            return Box::pin(attempt.forwarded(endpoint, parts, body, head)).await;
        }
        let attempt = Attempt { ask, is_understood: true, context };
        if !streams || !endpoint.operation.has_choices() {
            return attempt.whole(parts, body, head).await;
        }
        match is_held {
            true => attempt.held(parts, body, head).await,
            false => Ok(attempt.begun(parts, head, Beginning::Stream(Bytes::new(), body))),
        }
    }
}

impl Attempt<'_> {
    fn begun<B>(
        self,
        parts: response::Parts,
        head: Overhead,
        beginning: Beginning<B>,
    ) -> Answering<B> {
        Answering { ask: self.ask, parts, head, beginning }
    }

    /// A stream whose beginning decides whether another target is asked.
    async fn held<B>(
        self,
        parts: response::Parts,
        mut body: B,
        head: Overhead,
    ) -> Result<Answering<B>, Unanswered<B>>
    where
        B: Body<Data = Bytes, Error = Failure> + Unpin,
    {
        let Self { ask, context, .. } = &self;
        let provider = &ask.route.provider;
        let due = attempt::first_event(ask.route.clocks, context.start, context.asked);
        match hold::begin(&mut body, provider, context.asked, due).await {
            Ok(Begun::Stream(begun)) => Ok(self.begun(parts, head, Beginning::Stream(begun, body))),
            Ok(Begun::Error(data, is_openai)) => {
                let (status, shown) = attempt::error_in_reply(&data, provider, is_openai);
                Err(self.replied(&parts, status, &data, shown, &head))
            }
            Ok(Begun::Unreadable) => {
                Err(Unanswered::of(unreadable(&provider.id, "an event"), &ask.route))
            }
            Err(ended) => Err(Unanswered::of(ended, &ask.route)),
        }
    }

    /// A reply to what is forwarded: JSON is looked into, for errors; all else passes as it comes.
    async fn forwarded<B>(
        self,
        endpoint: &Endpoint,
        parts: response::Parts,
        body: B,
        head: Overhead,
    ) -> Result<Answering<B>, Unanswered<B>>
    where
        B: Body<Data = Bytes, Error = Failure> + Unpin,
    {
        if !parts.status.is_success() {
            return self.whole(parts, body, head).await;
        }
        if body.size_hint().exact() == Some(0) {
            // No server asks for the end of a body that cannot hold a byte: it is asked for here.
            let route = &self.ask.route;
            let deadline = self.context.start + route.clocks.total;
            let read = attempt::read(body, &route.provider.id, deadline, parts.status).await;
            return match read {
                Ok(_) => Ok(self.begun(parts, head, Beginning::Bodiless)),
                Err(ended) => Err(Unanswered::of(ended, route)),
            };
        }
        if is_json(&parts.headers) {
            return self.whole(parts, body, head).await;
        }
        let is_response = endpoint.rest.trim_end_matches('/') == "/responses";
        let ending = (is_response && is_event_stream(&parts.headers)).then(Ending::default);
        Ok(self.begun(parts, head, Beginning::Opaque(Bytes::new(), body, ending)))
    }

    /// A reply that is not streamed: errors are made readable, answers pass as they are.
    async fn whole<B>(
        self,
        parts: response::Parts,
        body: B,
        head: Overhead,
    ) -> Result<Answering<B>, Unanswered<B>>
    where
        B: Body<Data = Bytes, Error = Failure> + Unpin,
    {
        let route = Arc::clone(&self.ask.route);
        let provider = &route.provider;
        let ended = |ended| Unanswered::of(ended, &route);
        let deadline = self.context.start + route.clocks.total;
        let read = attempt::read(body, &provider.id, deadline, parts.status).await;
        let (begun, rest) = match read.map_err(ended)? {
            Read::Whole(bytes) => (bytes, None),
            Read::Begun(bytes, rest) => (bytes, Some(rest)),
        };
        // Waiting for the body was the provider's time.
        let head = Overhead { since: Instant::now(), ..head };
        if !parts.status.is_success() {
            let shown = attempt::error_body(&parts, &begun, provider);
            return Err(self.replied(&parts, parts.status, &begun, shown, &head));
        }
        if let Some(rest) = rest {
            return Ok(self.begun(parts, head, Beginning::Opaque(begun, rest, None)));
        }
        let verdict = match self.is_understood {
            true => attempt::judge(&begun, provider),
            false => attempt::judge_stored(&begun, provider),
        };
        match verdict {
            Verdict::Error(status, shown) => {
                Err(self.replied(&parts, status, &begun, shown, &head))
            }
            Verdict::Unreadable if !self.is_understood => {
                Ok(self.begun(parts, head, Beginning::Whole(begun, None)))
            }
            Verdict::Unreadable => Err(ended(unreadable(&provider.id, "an answer"))),
            Verdict::Answer(_) if self.ask.stream => Err(ended(not_a_stream(&provider.id))),
            Verdict::Answer(seen) => {
                Ok(self.begun(parts, head, Beginning::Whole(begun, seen.usage)))
            }
        }
    }

    /// An error that the provider sent: what it said, and what of that is shown.
    fn replied<B>(
        &self,
        parts: &response::Parts,
        status: StatusCode,
        said: &Bytes,
        shown: Bytes,
        head: &Overhead,
    ) -> Unanswered<B> {
        let (route, unix_ms) = (&self.ask.route, self.context.unix_ms());
        let setback = Setback::of_reply(status, &parts.headers, said, &route.provider, unix_ms);
        let failing = Failing {
            cause: setback.map_or(Cause::CallersFault, |setback| setback.cause),
            wait: setback.and_then(|setback| setback.wait),
            outcome: Outcome::ProviderError,
            fault: None,
            status: status.as_u16(),
        };
        let reply = answer(status, &parts.headers, shown, route, head, Some(JSON));
        Unanswered { route: Arc::clone(route), failing, failed: None, reply: Ok(reply) }
    }
}

fn unreadable(provider: &str, what: &str) -> Ended {
    let message = format!("{provider} sent {what} that cannot be read.");
    let fault = Fault::new(Code::Malformed, message);
    Ended { outcome: Outcome::Truncated, fault, cause: Some(Cause::Transient) }
}

fn not_a_stream(provider: &str) -> Ended {
    let fault = Fault::new(Code::NotAStream, format!("{provider} answered without streaming."));
    Ended { outcome: Outcome::ProviderError, fault, cause: Some(Cause::Transient) }
}
