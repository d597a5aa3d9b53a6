//! Chat, completions and embeddings: attempt after attempt, until one is answered.
//!
//! An attempt that fails before anything of an answer has gone to the client is followed by another
//! one, if its cause, its plan and the retry budget allow that. What the client gets in the end is
//! the answer of the last.

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode, response};
use http_body::Body;
use policy::health::Cause;
use tokio::time::Instant;

use crate::attempt::{self, Ended, Read, Verdict};
use crate::cause::Setback;
use crate::course::Course;
use crate::fault::{Code, Fault};
use crate::headers::{JSON, is_event_stream};
use crate::hold::{self, Begun};
use crate::intake::{self, Endpoint};
use crate::ports::{BoxError, Outgoing, Upstream};
use crate::prepare::Ask;
use crate::reply::ReplyBody;
use crate::respond::{Overhead, answer, passed, tapped};
use crate::serve::{Answer, Context, Relay, call, refused, target};
use crate::settle::{Failing, Outcome};

/// An attempt without an answer.
struct Unanswered<B> {
    failing: Failing,
    /// What the client gets if no other attempt is made.
    reply: Result<Response<ReplyBody<B>>, Ended>,
}

impl<B> Unanswered<B> {
    /// No reply, or one that cannot be used.
    fn of(ended: Ended) -> Self {
        let failing = Failing {
            cause: ended.cause.unwrap_or(Cause::CallersFault),
            wait: None,
            outcome: ended.outcome,
            fault: Some(ended.fault.code.name()),
            status: 0,
        };
        Self { failing, reply: Err(ended) }
    }

    /// What the client gets.
    fn into_answer(self, context: &mut Context) -> Answer<B> {
        let reply = self.reply?;
        context.close(self.failing.outcome, reply.status());
        Ok(reply)
    }

    /// In words, for a client whose request no target could serve.
    fn words(&self, ask: &Ask) -> String {
        let (provider, model) = (&ask.route.provider.id, &ask.route.upstream_model);
        match &self.reply {
            Ok(reply) => format!("{provider}/{model}: answered with {}", reply.status()),
            Err(ended) => format!("{provider}/{model}: {}", ended.fault.message),
        }
    }
}

impl<U: Upstream> Relay<U> {
    /// Read, and for each target: route, splice, send, answer.
    pub(crate) async fn generate<B>(
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
        let mut course = Course::default();
        let mut last: Option<Unanswered<U::Body>> = None;
        loop {
            let operation = endpoint.operation;
            let ask = match context.admitted(&parts.headers, &body, operation, &mut course) {
                Ok(ask) => ask,
                // A provider's own words say more than that there is no other.
                Err(fault) => match last.filter(|last| last.reply.is_ok()) {
                    Some(last) => return last.into_answer(context),
                    None => return Err(refused(fault)),
                },
            };
            let unanswered = match self.once(endpoint, parts, &ask, &course, context).await {
                Ok(response) => return Ok(response),
                // Nobody was asked, and so nobody has failed.
                Err(Unanswered { reply: Err(ended), .. }) if ended.cause.is_none() => {
                    return Err(ended);
                }
                Err(unanswered) => unanswered,
            };
            let failed = context.fail(&unanswered.failing);
            let now_ms = context.settlement.now_ms();
            if !failed.is_some_and(|failed| course.goes_on(failed, now_ms)) {
                return unanswered.into_answer(context);
            }
            course.note(unanswered.words(&ask));
            last = Some(unanswered);
        }
    }

    /// One attempt.
    async fn once(
        &self,
        endpoint: &Endpoint,
        parts: &Parts,
        ask: &Ask,
        course: &Course,
        context: &mut Context,
    ) -> Result<Response<ReplyBody<U::Body>>, Unanswered<U::Body>> {
        let route = &ask.route;
        let due = match ask.stream {
            true => attempt::first_event(route.clocks, context.start, Instant::now()),
            false => context.start + route.clocks.total,
        };
        let target =
            target(endpoint, parts, route).map_err(|fault| Unanswered::of(refused(fault)))?;
        let credential = context.settlement.credential();
        let make = || {
            let body = Outgoing::Whole(ask.body.clone());
            Some(call(endpoint, parts, route, target.clone(), body, credential))
        };
        let sent = self.attempt(route, &ask.bound, due, make, context).await;
        let (response, head) = sent.map_err(Unanswered::of)?;
        let (parts, body) = response.into_parts();
        let streams = is_event_stream(&parts.headers) && parts.status.is_success();
        if !streams || !endpoint.operation.has_choices() {
            return self.whole(&parts, body, ask, head, context).await;
        }
        if !course.has_more() {
            return Ok(tapped(&parts, Bytes::new(), body, ask, &head, context));
        }
        self.held(&parts, body, ask, &head, context).await
    }

    /// A stream whose beginning decides whether another target is asked.
    async fn held(
        &self,
        parts: &response::Parts,
        mut body: U::Body,
        ask: &Ask,
        head: &Overhead,
        context: &mut Context,
    ) -> Result<Response<ReplyBody<U::Body>>, Unanswered<U::Body>> {
        let provider = &ask.route.provider;
        let due = attempt::first_event(ask.route.clocks, context.start, context.asked);
        match hold::begin(&mut body, provider, context.asked, due).await {
            Ok(Begun::Stream(begun)) => Ok(tapped(parts, begun, body, ask, head, context)),
            Ok(Begun::Error(data, is_openai)) => {
                let (status, shown) = attempt::error_in_reply(&data, provider, is_openai);
                Err(replied(parts, status, &data, shown, ask, head, context))
            }
            Err(ended) => Err(Unanswered::of(ended)),
        }
    }

    /// A reply that is not streamed: errors are made readable, answers pass as they are.
    async fn whole(
        &self,
        parts: &response::Parts,
        body: U::Body,
        ask: &Ask,
        head: Overhead,
        context: &mut Context,
    ) -> Result<Response<ReplyBody<U::Body>>, Unanswered<U::Body>> {
        let (route, provider) = (&ask.route, &ask.route.provider);
        let deadline = context.start + route.clocks.total;
        let read = attempt::read(body, &provider.id, deadline, parts.status).await;
        let (begun, rest) = match read.map_err(Unanswered::of)? {
            Read::Whole(bytes) => (bytes, None),
            Read::Begun(bytes, rest) => (bytes, Some(rest)),
        };
        // Waiting for the body was the provider's time.
        let head = Overhead { since: Instant::now(), ..head };
        if !parts.status.is_success() {
            let shown = attempt::error_body(parts, &begun, provider);
            return Err(replied(parts, parts.status, &begun, shown, ask, &head, context));
        }
        if let Some(rest) = rest {
            return Ok(passed(parts, begun, rest, route, &head, None, context));
        }
        match attempt::judge(&begun, provider) {
            Verdict::Error(status, shown) => {
                Err(replied(parts, status, &begun, shown, ask, &head, context))
            }
            Verdict::Unreadable => Err(Unanswered::of(unreadable(&provider.id))),
            Verdict::Answer(_) if ask.stream => Err(Unanswered::of(not_a_stream(&provider.id))),
            Verdict::Answer(seen) => {
                context.settlement.note(|record| record.usage = seen.usage);
                context.close(Outcome::Complete, parts.status);
                Ok(answer(parts.status, &parts.headers, begun, route, &head, None))
            }
        }
    }
}

/// An error that the provider sent: what it said, and what of that is shown.
fn replied<B>(
    parts: &response::Parts,
    status: StatusCode,
    said: &Bytes,
    shown: Bytes,
    ask: &Ask,
    head: &Overhead,
    context: &Context,
) -> Unanswered<B> {
    let (provider, unix_ms) = (&ask.route.provider, context.unix_ms());
    let setback = Setback::of_reply(status, &parts.headers, said, provider, unix_ms);
    let failing = Failing {
        cause: setback.map_or(Cause::CallersFault, |setback| setback.cause),
        wait: setback.and_then(|setback| setback.wait),
        outcome: Outcome::ProviderError,
        fault: None,
        status: status.as_u16(),
    };
    let reply = answer(status, &parts.headers, shown, &ask.route, head, Some(JSON));
    Unanswered { failing, reply: Ok(reply) }
}

fn unreadable(provider: &str) -> Ended {
    let message = format!("{provider} sent an answer that cannot be read.");
    let fault = Fault::new(Code::Malformed, message);
    Ended { outcome: Outcome::Truncated, fault, cause: Some(Cause::Transient) }
}

fn not_a_stream(provider: &str) -> Ended {
    let fault = Fault::new(Code::NotAStream, format!("{provider} answered without streaming."));
    Ended { outcome: Outcome::ProviderError, fault, cause: Some(Cause::CallersFault) }
}
