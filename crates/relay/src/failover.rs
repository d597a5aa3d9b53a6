//! Chat, completions and embeddings: attempt after attempt, until one is answered.
//!
//! An attempt that fails before anything of an answer has gone to the client is followed by another
//! one, if its cause, its plan and the retry budget allow that. What the client gets in the end is
//! the answer of the last.

use bytes::Bytes;
use http::request::Parts;
use http_body::Body;

use crate::begin::{Incoming, Unanswered};
use crate::course::Course;
use crate::intake::{self, Endpoint};
use crate::ports::{BoxError, Upstream};
use crate::serve::{Answer, Context, Relay, refused};

impl<U: Upstream> Relay<U> {
    /// Reads the body, and answers.
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
        self.failover(Incoming { endpoint, parts, body: &body }, context).await
    }

    /// For each target: route, splice, send, answer.
    async fn failover(&self, incoming: Incoming<'_>, context: &mut Context) -> Answer<U::Body> {
        let mut course = Course::default();
        let mut last: Option<Unanswered<U::Body>> = None;
        loop {
            let ask = match context.admitted(incoming, &mut course) {
                Ok(ask) => ask,
                // A provider's own words say more than that there is no other.
                Err(fault) => match last.filter(|last| last.reply.is_ok()) {
                    Some(last) => return last.into_answer(context),
                    None => return Err(refused(fault)),
                },
            };
            let begun = match course.side_by_side() {
                None => self.begin(incoming, ask, course.has_more(), context).await,
                Some(side) => {
                    Box::pin(self.side_by_side(incoming, ask, side, &mut course, context)).await
                }
            };
            let unanswered = match begun {
                Ok(answering) => return Ok(answering.commit(context)),
                Err(unanswered) => unanswered,
            };
            let now_ms = context.settlement.now_ms();
            // Where nobody was asked, nobody has failed.
            if !unanswered.failed.is_some_and(|failed| course.goes_on(failed, now_ms)) {
                return unanswered.into_answer(context);
            }
            course.note(unanswered.words());
            last = Some(unanswered);
        }
    }
}
