//! Composed models: a cascade, or a panel. Each model in it is asked like any other, with its own
//! plan, failover and limits, as attempts of the one request; what the client gets is one of their
//! answers, or the judge's.

mod judge;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::{Response, response};
use http_body::Body;
use policy::Plan;
use policy::config::JudgeBy;
use policy::plan::{Answered, Composed, Escalate, Judge};
use wire::said::said;
use wire::sse::events;

use crate::begin::Incoming;
use crate::course::Course;
use crate::failover::Unserved;
use crate::fault::{Code, Fault};
use crate::headers::is_event_stream;
use crate::ports::{Failure, Upstream};
use crate::record::Outcome;
use crate::reply::ReplyBody;
use crate::respond::stamp_attempts;
use crate::serve::{Answer, Context, Relay, refused};
use judge::Merged;

/// Bytes of an answer that is held back to be judged.
const MOST: usize = 4 << 20;

/// A budget is used up, and wants this model asked in place of the composed one.
pub(crate) struct Turned(pub(crate) Arc<str>);

impl<U: Upstream> Relay<U> {
    /// Answers for a composed model, or says which one is to answer in its place, if it `may_turn` to
    /// another one.
    pub(crate) async fn compose(
        &self,
        incoming: Incoming<'_>,
        composed: &Composed,
        may_turn: bool,
        context: &mut Context,
    ) -> Result<Answer<U::Body>, Turned> {
        let composed = match composed {
            Composed::Cascade { steps, escalate, judge } => {
                self.cascade(incoming, steps, escalate, judge.as_ref(), context).await
            }
            Composed::Panel { members, judge, by } => {
                self.panel(incoming, members, judge, *by, context).await
            }
        };
        composed.or_else(|mut left| match left.turned.take().filter(|_| may_turn) {
            Some(model) => {
                left.retire();
                Err(Turned(model))
            }
            None => Ok(left.give(context)),
        })
    }

    /// Asks one after the other, until an answer is good enough. The last is given as it comes; if
    /// it fails, an answer that was not good enough is better than none. Without any, what is left of
    /// the last.
    async fn cascade(
        &self,
        incoming: Incoming<'_>,
        steps: &[Arc<Plan>],
        escalate: &Escalate,
        judge: Option<&Judge>,
        context: &mut Context,
    ) -> Result<Answer<U::Body>, Left<U::Body>> {
        let Some((last, early)) = steps.split_last() else { return Ok(Err(refused(nothing()))) };
        let wants_json = judge::wants_json(incoming.body);
        let mut poor: Option<Collected> = None;
        for (index, step) in early.iter().enumerate() {
            match self.collected(incoming, step, context.member(index)).await {
                Err(left) if left.is_refusal() => return Err(left),
                Err(left) => left.retire(),
                Ok(answer) => {
                    let is_good = escalate.reason(&answer.answered(wants_json)).is_none()
                        && self.passes(incoming, judge, &answer, context).await;
                    retire(poor.take());
                    if is_good {
                        return Ok(Ok(answer.give(context)));
                    }
                    poor = Some(answer);
                }
            }
        }
        let mut branch = context.member(early.len());
        let mut course = Course::through(last);
        match self.answering(incoming, &mut course, &mut branch).await {
            Ok(answering) => {
                retire(poor);
                context.give_way(branch);
                let response = answering.commit(context);
                Ok(Ok(self.resumable(response, incoming, course, context)))
            }
            Err(unserved) => match poor {
                Some(poor) => {
                    branch.settlement.retire();
                    Ok(Ok(poor.give(context)))
                }
                None => Err(Left::of(unserved, course, branch)),
            },
        }
    }

    /// Asks all at once, and has one answer made of theirs. An answer that calls tools, and one that
    /// is alone, needs no judge; if the judge fails, it is the first in the order of the file. Without
    /// any, what is left of the first.
    async fn panel(
        &self,
        incoming: Incoming<'_>,
        members: &[Arc<Plan>],
        judge: &Judge,
        by: JudgeBy,
        context: &mut Context,
    ) -> Result<Answer<U::Body>, Left<U::Body>> {
        let asked = members.iter().enumerate().map(|(index, plan)| {
            let context = context.member(index);
            Box::pin(self.collected(incoming, plan, context))
        });
        let mut good = Vec::new();
        let mut bad = Vec::new();
        let is_over = |first: &Result<_, Left<_>>| first.as_ref().is_err_and(Left::is_refusal);
        for answer in all(asked.collect(), is_over).await {
            match answer {
                Ok(answer) => good.push(answer),
                Err(left) => bad.push(left),
            }
        }
        if good.is_empty() {
            let first = (!bad.is_empty()).then(|| bad.remove(0));
            bad.into_iter().for_each(Left::retire);
            return match first {
                Some(first) => Err(first),
                None => Ok(Err(refused(nothing()))),
            };
        }
        bad.into_iter().for_each(Left::retire);
        let calls = good.iter().position(|answer| answer.heard.calls);
        let chosen = match (calls, by) {
            (Some(index), _) => index,
            (None, _) if good.len() == 1 => 0,
            (None, JudgeBy::Choose) => {
                self.chosen(incoming, judge, &good, context).await.unwrap_or(0)
            }
            (None, JudgeBy::Merge) => match self.merged(incoming, judge, &good, context).await {
                Some(Merged { answering, body, course, context: branch }) => {
                    good.into_iter().for_each(Collected::retire);
                    context.give_way(branch);
                    let (response, incoming) =
                        (answering.commit(context), Incoming { body: &body, ..incoming });
                    return Ok(Ok(self.resumable(response, incoming, course, context)));
                }
                None => 0,
            },
        };
        let chosen = good.swap_remove(chosen);
        good.into_iter().for_each(Collected::retire);
        Ok(Ok(chosen.give(context)))
    }

    /// Asks one model, and collects its answer.
    async fn collected(
        &self,
        incoming: Incoming<'_>,
        plan: &Arc<Plan>,
        mut context: Context,
    ) -> Result<Collected, Left<U::Body>> {
        let mut course = Course::through(plan);
        let response = match self.answering(incoming, &mut course, &mut context).await {
            Ok(answering) => answering.commit(&mut context),
            Err(unserved) => return Err(Left::of(unserved, course, context)),
        };
        let response = self.resumable(response, incoming, course, &mut context);
        let (head, mut body) = response.into_parts();
        let read = read(&mut body).await;
        if let Some(settlement) = body.into_settlement() {
            context.settlement = settlement;
        }
        let Some(bytes) = read else {
            return Err(Left { answer: Err(refused(too_large())), turned: None, context });
        };
        match context.settlement.ended() {
            Some(Outcome::Complete) => {
                let heard = Heard::of(&bytes, is_event_stream(&head.headers));
                Ok(Collected { head, bytes, heard, context })
            }
            _ => {
                let answer = Ok(Response::from_parts(head, ReplyBody::whole(bytes)));
                Err(Left { answer, turned: None, context })
            }
        }
    }
}

impl Context {
    /// For one model of several that may answer the request. The first counts as the request.
    fn member(&mut self, index: usize) -> Self {
        let mut member = self.contender();
        if index == 0 {
            member.settlement.count();
        }
        member
    }
}

/// What an answer says.
#[derive(Default)]
struct Heard {
    text: String,
    finish: Option<String>,
    calls: bool,
}

impl Heard {
    fn of(bytes: &[u8], is_stream: bool) -> Self {
        let mut heard = Self::default();
        if is_stream {
            events(bytes).filter_map(|event| event.data).for_each(|data| heard.hear(&data));
        } else {
            heard.hear(bytes);
        }
        heard
    }

    /// Takes in what one piece says; one that cannot be read, such as `[DONE]`, says nothing.
    fn hear(&mut self, data: &[u8]) {
        let Ok(said) = said(data.trim_ascii()) else { return };
        said.text.iter().for_each(|piece| self.text.push_str(piece));
        self.finish = said.finish.map(String::from).or(self.finish.take());
        self.calls |= said.calls;
    }
}

/// An answer that is whole, and that nobody has got yet.
struct Collected {
    head: response::Parts,
    bytes: Bytes,
    heard: Heard,
    context: Context,
}

impl Collected {
    fn answered(&self, wants_json: bool) -> Answered<'_> {
        let Heard { text, finish, calls } = &self.heard;
        Answered { text, finish: finish.as_deref(), calls: *calls, wants_json }
    }

    /// Gives it to the client.
    fn give<B>(mut self, context: &mut Context) -> Response<ReplyBody<B>> {
        context.give_way(self.context);
        stamp_attempts(&mut self.head.headers, context.settlement.attempts());
        Response::from_parts(self.head, ReplyBody::whole(self.bytes))
    }

    /// It is not wanted.
    fn retire(mut self) {
        self.context.settlement.retire();
    }
}

fn retire(answer: Option<Collected>) {
    answer.into_iter().for_each(Collected::retire);
}

/// What is left of a model that did not answer.
struct Left<B> {
    answer: Answer<B>,
    /// The model that a budget names which is used up.
    turned: Option<Arc<str>>,
    context: Context,
}

impl<B> Left<B> {
    fn of(unserved: Unserved<B>, mut course: Course, context: Context) -> Self {
        Self { answer: unserved.into_answer(), turned: course.turned(), context }
    }

    /// Whether the request was refused before any provider was asked for any model of it.
    fn is_refusal(&self) -> bool {
        self.context.settlement.attempts() == 0
    }

    /// Gives it to the client.
    fn give(self, context: &mut Context) -> Answer<B> {
        context.give_way(self.context);
        let mut response = self.answer?;
        stamp_attempts(response.headers_mut(), context.settlement.attempts());
        Ok(response)
    }

    fn retire(mut self) {
        self.context.settlement.retire();
    }
}

impl<B> Unserved<B> {
    /// What the client gets.
    fn into_answer(self) -> Answer<B> {
        match self {
            Self::Answer(answer) => answer,
            // A plan that is given is followed, whatever it is composed of.
            Self::Composed(_) => Err(refused(nothing())),
        }
    }
}

/// All of a body; `None` if that is too much.
async fn read<B>(body: &mut ReplyBody<B>) -> Option<Bytes>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        // A failure is known to its settlement.
        let Ok(frame) = frame else { break };
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        if bytes.len() > MOST {
            return None;
        }
    }
    Some(bytes.freeze())
}

/// Runs futures at once, to the end of the last, or of the first if `is_over` says so of it. What
/// they come to is in their order.
async fn all<F: Future + Unpin>(
    mut running: Vec<F>,
    is_over: impl Fn(&F::Output) -> bool,
) -> Vec<F::Output> {
    let mut ended: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (index, (future, end)) in running.iter_mut().zip(&mut ended).enumerate() {
            if end.is_none()
                && let Poll::Ready(output) = Pin::new(future).poll(cx)
            {
                let is_over = index == 0 && is_over(&output);
                *end = Some(output);
                if is_over {
                    return Poll::Ready(());
                }
            }
        }
        if ended.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ended.into_iter().flatten().collect()
}

fn nothing() -> Fault {
    Fault::new(Code::NoTarget, "There is no model to ask.")
}

fn too_large() -> Fault {
    Fault::new(Code::Malformed, "An answer of over 4 MiB cannot be judged.")
}
