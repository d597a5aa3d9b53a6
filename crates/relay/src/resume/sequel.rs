//! The attempts that go on with an answer.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::request::Parts;
use policy::health::{Cause, Next, Tally, Tick};
use policy::plan::Failed;

use super::said::{Said, is_resumable};
use super::seam::Seam;
use super::{GivenUp, Going, Gone, Sequel};
use crate::begin::Incoming;
use crate::course::{Course, Step};
use crate::fault::{Code, Fault};
use crate::intake::Endpoint;
use crate::latch::Waiter;
use crate::mirror::Mirroring;
use crate::ports::Upstream;
use crate::record::Outcome;
use crate::respond::rules;
use crate::serve::{Context, Relay};
use crate::settle::{Failing, Settlement};
use crate::tap::{Broken, Tap};

/// A request, kept with how far it has come in its plan.
pub(super) struct Request<U> {
    relay: Relay<U>,
    endpoint: Endpoint,
    parts: Parts,
    body: Bytes,
    course: Course,
    context: Context,
}

impl<U: Upstream> Request<U> {
    /// Keeps a request whose settlement has gone with its answer.
    pub(super) fn keep(
        relay: Relay<U>,
        incoming: Incoming<'_>,
        course: Course,
        context: &mut Context,
    ) -> Self {
        let context = Context {
            snapshot: Arc::clone(&context.snapshot),
            shed: Rc::clone(&context.shed),
            settlement: context.take_settlement(),
            caller: context.caller.clone(),
            // What is heard of the answer is heard of its body.
            mirroring: Mirroring::No,
            ..*context
        };
        let Incoming { endpoint, parts, body, .. } = incoming;
        let (endpoint, parts, body) = (endpoint.clone(), parts.clone(), body.clone());
        Self { relay, endpoint, parts, body, course, context }
    }

    async fn go_on(mut self: Box<Self>, broken: Broken, said: Said) -> Gone<U::Body> {
        let mut shed = Waiter::new(Rc::clone(&self.context.shed));
        self.course.go_on_with(said);
        let next = {
            let mut going = pin!(self.next(&broken));
            poll_fn(|cx| match shed.poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => going.as_mut().poll(cx).map(Some),
            })
            .await
        };
        let next = match next {
            Some(Some(tap)) => {
                self.count(|tally| &tally.resumed);
                Ok(tap)
            }
            Some(None) => {
                self.count(|tally| &tally.given_up);
                Err(self.given_up(Outcome::Refused, None))
            }
            None => {
                let fault = Fault::new(Code::ShuttingDown, "Magpie is stopping.");
                Err(self.given_up(Outcome::Shed, Some(&fault)))
            }
        };
        let said = self.course.take_said();
        Gone { sequel: self, said, next }
    }

    fn count(&self, which: impl Fn(&Tally) -> &Tick) {
        self.course.tally().map(which).into_iter().for_each(Tick::count);
    }

    /// Closes the record: what is told of it is what became of the last attempt.
    fn given_up(&mut self, outcome: Outcome, fault: Option<&Fault>) -> GivenUp {
        let mut settlement = self.context.take_settlement();
        settlement.note(|record| record.fault = fault.map(|fault| fault.code.name()));
        settlement.close(outcome);
        let event = fault.map(|fault| Bytes::from(fault.to_event(self.context.language)));
        GivenUp { settlement, event }
    }

    /// The answer of the next target that goes on; `None` if there is none.
    async fn next(&mut self, broken: &Broken) -> Option<Tap<Seam<U::Body>>> {
        let Self { relay, endpoint, parts, body, course, context } = self;
        let incoming = Incoming { endpoint, parts, body, forwarded: None };
        let (words, failing) = broke_off(context, broken);
        let failed = context.fail(&failing)?;
        course.note(words);
        if !course.resumes(failed, context.settlement.now_ms()) {
            return None;
        }
        loop {
            context.later = context.start.elapsed();
            let Ok(Step::Ask(ask)) = context.admitted(incoming, course) else { return None };
            let repeats = ask.route.provider.prefill.as_ref()?.repeats;
            let (failed, cause, words) = match relay.begin(incoming, ask, true, context).await {
                Ok(answering) => match answering.into_stream() {
                    Some((ask, begun, rest)) => {
                        context.settlement.resumes();
                        let seam = Seam::new(begun, rest, course.said()?, repeats);
                        let settlement = context.take_settlement();
                        let rules = rules(&ask, context);
                        let mut tap = Tap::new(Bytes::new(), seam, rules, settlement);
                        tap.keep_broken();
                        return Some(tap);
                    }
                    None => {
                        let (words, failing) = no_stream(context);
                        (context.fail(&failing), failing.cause, words)
                    }
                },
                Err(unanswered) => {
                    (unanswered.failed, unanswered.failing.cause, unanswered.words())
                }
            };
            // Where nobody was asked, nobody has failed.
            let failed = of_going_on(failed?, cause);
            course.note(words);
            if !course.goes_on(failed, context.settlement.now_ms()) {
                return None;
            }
        }
    }
}

impl<U: Upstream> Sequel<U::Body> for Request<U> {
    fn is_possible(&self) -> bool {
        is_resumable(&self.body)
    }

    fn give_up(&self) {
        self.count(|tally| &tally.given_up);
    }

    fn begin(
        mut self: Box<Self>,
        settlement: Settlement,
        broken: Broken,
        said: Said,
    ) -> Going<U::Body> {
        self.context.settlement = settlement;
        Box::pin(self.go_on(broken, said))
    }
}

/// The attempt whose answer broke off.
fn broke_off(context: &mut Context, broken: &Broken) -> (String, Failing) {
    let (mut status, mut target) = (0, String::new());
    context.settlement.note(|record| {
        status = record.status;
        if let Some(route) = &record.route {
            target = format!("{}/{}", route.provider.id, route.upstream_model);
        }
    });
    let Broken { outcome, fault, .. } = *broken;
    let failing = Failing { cause: Cause::Transient, wait: None, outcome, fault, status };
    (format!("{target}: broke off in the middle of the answer"), failing)
}

/// An attempt whose answer is no stream.
fn no_stream(context: &mut Context) -> (String, Failing) {
    let fault = Some(Code::NotAStream.name());
    let broken = Broken { outcome: Outcome::ProviderError, fault, event: Bytes::new() };
    broke_off(context, &broken)
}

/// What may come after an attempt to go on that failed: where the request as such was good enough for
/// a first answer, only that it goes on can be wrong with it, and another target may know how.
fn of_going_on(failed: Failed, cause: Cause) -> Failed {
    match cause {
        Cause::CallersFault => Failed { next: Next::OtherTarget, ..failed },
        _ => failed,
    }
}
