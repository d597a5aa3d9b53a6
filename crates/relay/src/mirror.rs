//! A share of a model's requests goes to a second target as well, its shadow. Nobody gets what that
//! answers: the two answers are compared, in figures, and thrown away.
//!
//! The copy is sent once the request itself is, by a task of its own. It is asked once, charged to
//! nobody who calls, and holds nothing of the request but its body. Whoever waits for the main answer
//! waits for nothing here: what was drawn is heard on its way through, and compared when both have
//! ended.

mod hear;
mod similarity;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use policy::health::Lease;
use policy::health::mirrored::{Answer, End, Likeness, Place};
use policy::money::Money;
use policy::plan::Mirror;
use policy::units::milliseconds;
use policy::{Plan, Route, Snapshot};
use tokio::time::Instant;

use crate::admit::{Admission, Moment, admit};
use crate::begin::Incoming;
use crate::course::LOGGED_NAME;
use crate::fault::Language;
use crate::headers::IDEMPOTENCY_KEY;
use crate::identify::Caller;
use crate::intake::Endpoint;
use crate::latch::{Latch, Waiter};
use crate::ports::Upstream;
use crate::prepare::{Ask, Wish};
use crate::record::Outcome;
use crate::reply::ReplyBody;
use crate::request_id::RequestId;
use crate::serve::{Context, Relay, fault_response};
use crate::settle::Settlement;
pub(crate) use hear::Ear;
use hear::{Heard, Witness};
use similarity::similarity;

/// The two answers to a request that was mirrored. Holds figures and words of the protocol, and no
/// text of a prompt or an answer.
pub struct Comparison {
    /// When the shadow was asked.
    pub at: SystemTime,
    /// The request.
    pub id: RequestId,
    /// Its copy.
    pub mirror: RequestId,
    /// The model as the client named it.
    pub model: Box<str>,
    /// The answer that the client got.
    pub main: Half,
    /// The answer that nobody got.
    pub shadow: Half,
    /// How alike their texts are, from 0 to 1; `None` if one is not whole or cannot be read.
    pub similarity: Option<f64>,
}

/// One of two answers.
pub struct Half {
    /// Where it comes from.
    pub route: Option<Arc<Route>>,
    /// Status of the response; 0 if there was none.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// From the first call to a provider to the end.
    pub total: Duration,
    /// From there to the first event, if it was streamed.
    pub first_event: Option<Duration>,
    /// What it cost, if that is known.
    pub cost: Option<Money>,
    /// Output tokens.
    pub output_tokens: u64,
    /// Characters of its text, if that could be read.
    pub characters: Option<u64>,
    /// Why the model stopped, in the provider's word, or `other` where that is no word.
    pub finish: Option<Box<str>>,
}

impl Half {
    fn figures(&self) -> Answer {
        use Outcome::{Cancelled, ClientGone, Complete, Failed, Refused, Shed};
        use Outcome::{ProviderError, TimedOut, Truncated, Unreachable};
        let end = match self.outcome {
            Complete => End::Whole,
            ProviderError | Unreachable | Truncated | TimedOut | Failed | Refused => End::Failed,
            Cancelled | ClientGone | Shed => End::Cut,
        };
        Answer {
            end,
            total_ms: milliseconds(self.total),
            first_event_ms: self.first_event.map(milliseconds),
            cost: self.cost,
            output_tokens: self.output_tokens,
            characters: self.characters,
        }
    }
}

/// How far the mirroring of a request has come.
#[derive(Default)]
pub(crate) enum Mirroring {
    /// It is not mirrored.
    #[default]
    No,
    /// It was drawn, and is copied when it is sent.
    Drawn(Box<Drawn>),
    /// It was copied, and its own answer is heard on its way through.
    Heard(Rc<Ear>),
}

/// A request that was drawn: what its copy is made of.
pub(crate) struct Drawn {
    mirror: Arc<Mirror>,
    model: Box<str>,
    endpoint: Endpoint,
    parts: Parts,
    body: Bytes,
}

impl Drawn {
    fn new(mirror: &Arc<Mirror>, model: &str, incoming: Incoming<'_>) -> Self {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = incoming.parts.method.clone();
        parts.uri = incoming.parts.uri.clone();
        parts.headers = incoming.parts.headers.clone();
        // A provider may have both, and would give the shadow the main answer for it.
        parts.headers.remove(IDEMPOTENCY_KEY);
        Self {
            mirror: Arc::clone(mirror),
            model: model.into(),
            endpoint: incoming.endpoint.clone(),
            parts,
            body: incoming.body.clone(),
        }
    }

    fn logged_name(&self) -> Box<str> {
        self.model.chars().take(LOGGED_NAME).collect()
    }
}

impl Context {
    /// Draws whether a request that was admitted goes to the shadow of its plan as well. Embeddings
    /// do not: there is no text in their answers to compare.
    pub(crate) fn draw(&mut self, plan: &Plan, model: &str, incoming: Incoming<'_>) {
        let Some(mirror) = plan.mirror() else { return };
        let is_first = self.settlement.attempts() == 0;
        if is_first && incoming.endpoint.operation.has_choices() && mirror.is_drawn(self.random) {
            let drawn = Drawn::new(mirror, model, incoming);
            self.mirroring = Mirroring::Drawn(Box::new(drawn));
        }
    }
}

impl Mirroring {
    /// The response, heard on its way through if its request was mirrored.
    pub(crate) fn listen<B>(&mut self, response: Response<ReplyBody<B>>) -> Response<ReplyBody<B>> {
        match std::mem::take(self) {
            Self::Heard(ear) => hear::listen(ear, response),
            Self::No | Self::Drawn(_) => response,
        }
    }
}

impl<U: Upstream> Relay<U> {
    /// Copies a request that was drawn and is being sent, on a task of its own, if there is room.
    pub(crate) fn mirror(&self, context: &mut Context) {
        if !matches!(context.mirroring, Mirroring::Drawn(_)) {
            return;
        }
        let Mirroring::Drawn(drawn) = std::mem::take(&mut context.mirroring) else { return };
        let mirrored = &drawn.mirror.mirrored;
        mirrored.drawn();
        let Some(place) = drawn.mirror.room.take(drawn.body.len()) else {
            return mirrored.dropped();
        };
        let Some(id) = context.settlement.id() else { return };
        let (main, ear) = Heard::begin();
        context.settlement.witnessed(|recorder| Witness::around(recorder, &ear));
        context.mirroring = Mirroring::Heard(ear);
        let shadow = Shadow {
            relay: self.clone(),
            drawn: *drawn,
            _place: place,
            main,
            id,
            lag: context.asked - context.start,
            at: SystemTime::now(),
            start: context.asked,
            now: context.now.plus(context.asked - context.start),
            snapshot: Arc::clone(&context.snapshot),
            language: context.language,
            shed: Rc::clone(&context.shed),
        };
        self.tasks().spawn(Box::pin(shadow.run()));
    }
}

/// The copy of a request.
struct Shadow<U> {
    relay: Relay<U>,
    drawn: Drawn,
    _place: Place,
    /// The main answer.
    main: Rc<Heard>,
    /// The main request.
    id: RequestId,
    /// From its start to its first call.
    lag: Duration,
    at: SystemTime,
    /// When the main request was sent: the copy begins with that.
    start: Instant,
    now: Moment,
    snapshot: Arc<Snapshot>,
    language: Language,
    shed: Rc<Latch>,
}

impl<U: Upstream> Shadow<U> {
    async fn run(self) {
        let mirrored = &self.drawn.mirror.mirrored;
        let Some(shadow) = self.ask().await else { return mirrored.skipped() };
        if !self.main_is_over().await {
            return;
        }
        let halves = self.main.half(self.lag).zip(shadow.half(Duration::ZERO));
        let Some(((main, main_text), (shadow, shadow_text))) = halves else { return };
        let whole = main.outcome == Outcome::Complete && shadow.outcome == Outcome::Complete;
        let texts = main_text.zip(shadow_text).filter(|_| whole);
        let similarity = texts.map(|(main, shadow)| similarity(&main, &shadow));
        let finishes = main.finish.as_ref().zip(shadow.finish.as_ref());
        let same_finish = finishes.map(|(main, shadow)| main == shadow);
        let likeness = Likeness { similarity, same_finish };
        mirrored.ended(&main.figures(), &shadow.figures(), likeness);
        self.relay.recorder().compared(Box::new(Comparison {
            at: self.at,
            id: self.id,
            mirror: self.id.mirrored(),
            model: self.drawn.logged_name(),
            main,
            shadow,
            similarity,
        }));
    }

    /// Asks the shadow, and hears its answer to the end; `None` if it may not be asked. When the
    /// process stops, it is given up.
    async fn ask(&self) -> Option<Rc<Heard>> {
        let Drawn { mirror, endpoint, parts, body, .. } = &self.drawn;
        let (ask, admission) = self.admitted()?;
        let lease = Lease::begin(&mirror.target.live, false, self.now.ns / 1_000_000)?;
        let (heard, ear) = Heard::begin();
        let mut context = self.context(&ear);
        context.settlement.note(|record| record.stream = ask.stream);
        context.settlement.hold(admission);
        context.settlement.lend(lease);
        let mut shed = Waiter::new(Rc::clone(&self.shed));
        let begun = {
            let incoming = Incoming { endpoint, parts, body, forwarded: None };
            let mut beginning = pin!(self.relay.begin(incoming, ask, false, &mut context));
            poll_fn(|cx| match shed.poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => beginning.as_mut().poll(cx).map(Some),
            })
            .await
        };
        let unanswered = match begun {
            // Nobody is asked any more.
            None if context.settlement.attempts() == 0 => {
                context.settlement.retire();
                return None;
            }
            None => {
                context.settlement.close(Outcome::Shed);
                return Some(heard);
            }
            Some(Ok(answering)) => {
                let response = answering.commit(&mut context);
                drain(hear::listen(ear, response).into_body()).await;
                return Some(heard);
            }
            Some(Err(unanswered)) => unanswered,
        };
        let was_asked = unanswered.has_asked();
        if let Err(ended) = unanswered.into_answer(&mut context) {
            let _: Response<ReplyBody<U::Body>> = fault_response(ended, &mut context);
        }
        was_asked.then_some(heard)
    }

    /// What the shadow gets of the request, if the limits and budgets of model and provider have room
    /// for it. Nobody calls, so that nobody is charged.
    fn admitted(&self) -> Option<(Ask, Admission)> {
        let Drawn { mirror, model, endpoint, body, .. } = &self.drawn;
        let route = &mirror.target.route;
        let mut wish = Wish::read(body, endpoint.operation).ok()?;
        wish.check().ok()?;
        let strict = route.holders.iter().any(|holder| !holder.terms().accounts.is_empty());
        let ask = wish.ask(route, &self.snapshot, strict).ok()?;
        let nobody = Caller::default();
        let admission =
            admit(&nobody, model, route, &ask.bound, &self.snapshot, self.now, None).ok()?;
        Some((ask, admission))
    }

    /// A request of its own, tied to the main one by its id and its record.
    fn context(&self, ear: &Rc<Ear>) -> Context {
        let recorder = Witness::around(Rc::clone(self.relay.recorder()), ear);
        let (id, operation) = (self.id.mirrored(), self.drawn.endpoint.operation);
        let start_ms = self.now.ns / 1_000_000;
        let mut settlement =
            Settlement::open(id, operation, self.at, self.start, start_ms, recorder);
        settlement.note(|record| {
            record.model = self.drawn.logged_name();
            record.route = Some(Arc::clone(&self.drawn.mirror.target.route));
            record.mirror_of = Some(self.id);
        });
        Context {
            snapshot: Arc::clone(&self.snapshot),
            start: self.start,
            language: self.language,
            shed: Rc::clone(&self.shed),
            settlement,
            caller: Caller::default(),
            now: self.now,
            asked: self.start,
            waited: Duration::ZERO,
            queued: Duration::ZERO,
            later: Duration::ZERO,
            random: id.random(),
            mirroring: Mirroring::No,
        }
    }

    /// Waits for the end of the main answer; false if the process stops before.
    async fn main_is_over(&self) -> bool {
        let mut over = self.main.over();
        let mut shed = Waiter::new(Rc::clone(&self.shed));
        poll_fn(|cx| match (over.poll(cx), shed.poll(cx)) {
            (Poll::Ready(()), _) => Poll::Ready(true),
            (_, Poll::Ready(())) => Poll::Ready(false),
            _ => Poll::Pending,
        })
        .await
    }
}

/// Reads a body that nobody waits for, to its end. After each piece it is the turn of all others.
async fn drain(mut body: impl Body + Unpin) {
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let mut has_yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut has_yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
