//! Attempt after attempt, until one is answered.
//!
//! An attempt that fails before anything of an answer has gone to the client is followed by another
//! one, if its cause, its plan and the retry budget allow that. What the client gets in the end is
//! the answer of the last.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http_body::Body;
use policy::plan::Composed;

use crate::begin::{Answering, Incoming, Unanswered};
use crate::compose::Turned;
use crate::course::{Course, Step};
use crate::intake::{self, Endpoint};
use crate::ports::{BoxError, Upstream};
use crate::serve::{Answer, Context, Relay, refused};

/// A request that no target of its plan answers.
pub(crate) enum Unserved<B> {
    /// What the client gets.
    Answer(Answer<B>),
    /// Its model is composed of others.
    Composed(Arc<Composed>),
}

impl<U: Upstream> Relay<U> {
    /// Reads the body, and answers along with another request or by itself.
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
        let incoming = Incoming { endpoint, parts, body: &body, forwarded: None };
        if let Some(wanted) = self.wanted(incoming, context).map_err(refused)? {
            // In a box, so that others do not carry the room for it.
            if let Some(answer) = Box::pin(self.shared(&wanted, incoming, context)).await {
                return answer;
            }
        }
        self.failover(incoming, Course::default(), context).await
    }

    /// Answers with the first target that does, or with what its model is composed of.
    pub(crate) async fn failover(
        &self,
        incoming: Incoming<'_>,
        mut course: Course,
        context: &mut Context,
    ) -> Answer<U::Body> {
        loop {
            let composed = match self.answering(incoming, &mut course, context).await {
                Ok(answering) => {
                    let response = answering.commit(context);
                    return Ok(self.resumable(response, incoming, course, context));
                }
                Err(Unserved::Answer(answer)) => return answer,
                Err(Unserved::Composed(composed)) => composed,
            };
            let may_turn = course.may_turn();
            match Box::pin(self.compose(incoming, &composed, may_turn, context)).await {
                Ok(answer) => return answer,
                Err(Turned(model)) => course = Course::instead(model),
            }
        }
    }

    /// For each target: route, splice, send, up to where an answer begins.
    pub(crate) async fn answering(
        &self,
        incoming: Incoming<'_>,
        course: &mut Course,
        context: &mut Context,
    ) -> Result<Answering<U::Body>, Unserved<U::Body>> {
        let mut last: Option<Unanswered<U::Body>> = None;
        loop {
            let ask = match context.admitted(incoming, course) {
                Ok(Step::Ask(ask)) => ask,
                Ok(Step::Composed(composed)) => return Err(Unserved::Composed(composed)),
                Err(fault) if context.waits(course, &fault).await => continue,
                // A provider's own words say more than that there is no other.
                Err(fault) => {
                    if course.again(last.as_ref(), true, context).await {
                        continue;
                    }
                    return Err(Unserved::Answer(match last.filter(|last| last.reply.is_ok()) {
                        Some(last) => last.into_answer(context),
                        None => Err(refused(fault)),
                    }));
                }
            };
            // What is forwarded may leave something behind, and is sent to one at a time.
            let side = match incoming.forwarded {
                None => course.side_by_side(),
                Some(_) => None,
            };
            let begun = match side {
                None => self.begin(incoming, ask, course.has_more(), context).await,
                Some(side) => {
                    Box::pin(self.side_by_side(incoming, ask, side, course, context)).await
                }
            };
            let mut unanswered = match begun {
                Ok(answering) => return Ok(answering),
                Err(unanswered) => unanswered,
            };
            let now_ms = context.settlement.now_ms();
            // Where nobody was asked, nobody has failed.
            let goes_on = unanswered.failed.is_some_and(|failed| course.goes_on(failed, now_ms));
            if !goes_on && !course.again(Some(&unanswered), false, context).await {
                if let Some(fault) = course.given_up(&unanswered, now_ms) {
                    unanswered.tell(fault);
                }
                return Err(Unserved::Answer(unanswered.into_answer(context)));
            }
            course.note(unanswered.words());
            last = Some(unanswered);
        }
    }
}
