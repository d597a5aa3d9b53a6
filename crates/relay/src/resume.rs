//! A chat answer that breaks off in the middle is gone on with by another attempt, if its model wants
//! that: the provider of that attempt is given what was said, and its stream is joined to the first.
//!
//! The client sees one answer, and nothing of the attempts that say nothing. What makes that safe:
//! what was said is known to the letter ([`said`]); a provider is only asked if it is known how it
//! takes a beginning to go on with; and where its stream does not begin as one that goes on would, it
//! has failed ([`seam`]).

pub(crate) mod said;
pub(crate) mod seam;
mod sequel;

use std::pin::Pin;
use std::task::{Context as Poller, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use policy::plan;

use crate::begin::Incoming;
use crate::course::Course;
use crate::intake::Operation;
use crate::ports::{Failure, Upstream};
use crate::reply::ReplyBody;
use crate::serve::{Context, Relay};
use crate::settle::Settlement;
use crate::tap::{Broken, Tap, joined};
use said::Said;
use seam::Seam;
use sequel::Request;

impl<U: Upstream> Relay<U> {
    /// The response, whose answer is gone on with if it breaks off, where the plan says so.
    pub(crate) fn resumable(
        &self,
        response: Response<ReplyBody<U::Body>>,
        incoming: Incoming<'_>,
        course: Course,
        context: &mut Context,
    ) -> Response<ReplyBody<U::Body>> {
        let is_wanted = course.resume() != plan::Resume::Off;
        if !is_wanted || incoming.endpoint.operation != Operation::Chat {
            return response;
        }
        let relay = self.clone();
        response.map(|body| {
            body.resumable(|| Box::new(Request::keep(relay, incoming, course, context)))
        })
    }
}

/// A request that is kept as long as its answer is under way, so that it can be asked again.
pub(crate) trait Sequel<B> {
    /// Whether its answer is of the kind that can be gone on with.
    fn is_possible(&self) -> bool;

    /// Takes note that the answer has broken off and cannot be gone on with.
    fn give_up(&self);

    /// Makes the attempt under way a failed one, and others to go on with what was said.
    fn begin(self: Box<Self>, settlement: Settlement, broken: Broken, said: Said) -> Going<B>;
}

/// Attempts to go on, under way. Dropping it cancels them.
type Going<B> = Pin<Box<dyn Future<Output = Gone<B>>>>;

/// What became of them.
pub(crate) struct Gone<B> {
    sequel: Box<dyn Sequel<B>>,
    said: Said,
    next: Result<Tap<Seam<B>>, GivenUp>,
}

/// None of them had an answer.
struct GivenUp {
    /// Closed.
    settlement: Settlement,
    /// What the client gets, if that is not the error that it would have got without them.
    event: Option<Bytes>,
}

/// An answer on its way through, with what it takes to go on with it. See the [module](self).
pub(crate) struct Resumable<B> {
    stage: Stage<B>,
    said: Said,
    /// `None` while it is asked.
    sequel: Option<Box<dyn Sequel<B>>>,
    /// Output tokens that attempts before this one have said, by their text.
    said_before: u64,
    /// How the answer broke off first.
    first: Option<Bytes>,
}

enum Stage<B> {
    First(Box<Tap<B>>),
    Between(Going<B>),
    Next(Box<Tap<Seam<B>>>),
    Over(Settlement),
}

impl<B> Resumable<B>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    pub(crate) fn new(mut tap: Box<Tap<B>>, sequel: Box<dyn Sequel<B>>) -> Box<Self> {
        tap.keep_broken();
        Box::new(Self {
            stage: Stage::First(tap),
            said: Said::default(),
            sequel: Some(sequel),
            said_before: 0,
            first: None,
        })
    }

    /// Whether nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        match &self.stage {
            Stage::First(tap) => tap.is_over(),
            Stage::Next(tap) => tap.is_over(),
            Stage::Between(_) => false,
            Stage::Over(_) => true,
        }
    }

    /// The settlement that travels with it, unless an attempt has it.
    pub(crate) fn settlement(&self) -> Option<&Settlement> {
        match &self.stage {
            Stage::First(tap) => Some(tap.settlement()),
            Stage::Next(tap) => Some(tap.settlement()),
            Stage::Between(_) => None,
            Stage::Over(settlement) => Some(settlement),
        }
    }

    /// The same, taken out; an attempt that has it is given up with it.
    pub(crate) fn into_settlement(self) -> Option<Settlement> {
        match self.stage {
            Stage::First(tap) => Some(tap.into_settlement()),
            Stage::Next(tap) => Some(tap.into_settlement()),
            Stage::Between(_) => None,
            Stage::Over(settlement) => Some(settlement),
        }
    }

    /// The next bytes for the client; `None` when the stream is over.
    pub(crate) fn poll_data(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Bytes>> {
        loop {
            let (data, broken) = match &mut self.stage {
                Stage::First(tap) => (ready!(tap.poll_data(cx)), tap.take_broken()),
                Stage::Next(tap) => (ready!(tap.poll_data(cx)), tap.take_broken()),
                Stage::Between(going) => {
                    let gone = ready!(going.as_mut().poll(cx));
                    match self.arrive(gone) {
                        Some(event) => return Poll::Ready(Some(event)),
                        None => continue,
                    }
                }
                Stage::Over(_) => return Poll::Ready(None),
            };
            if data.is_none() && broken.is_none() {
                return Poll::Ready(None);
            }
            let data = data.unwrap_or_default();
            self.said.hear(&data);
            let data = said::counted(data, self.said_before);
            let end = broken.map(|broken| self.break_off(*broken));
            let data = joined(data, end.unwrap_or_default());
            if !data.is_empty() {
                return Poll::Ready(Some(data));
            }
        }
    }

    /// The answer has broken off: it is gone on with, or what is left to say is its error.
    fn break_off(&mut self, broken: Broken) -> Bytes {
        let first = self.first.get_or_insert_with(|| broken.event.clone()).clone();
        let sequel = self.sequel.take();
        let possible = sequel.filter(|sequel| {
            let is_possible = self.said.is_known() && sequel.is_possible();
            if !is_possible {
                sequel.give_up();
            }
            is_possible
        });
        let Some(sequel) = possible else {
            let broken = Broken { event: first, ..broken };
            return match &mut self.stage {
                Stage::First(tap) => tap.end_broken(broken),
                Stage::Next(tap) => tap.end_broken(broken),
                Stage::Between(_) | Stage::Over(_) => broken.event,
            };
        };
        let settlement = match &mut self.stage {
            Stage::First(tap) => tap.take_settlement(),
            Stage::Next(tap) => tap.take_settlement(),
            Stage::Between(_) | Stage::Over(_) => return first,
        };
        self.said_before = self.said.tokens();
        let said = std::mem::take(&mut self.said);
        self.stage = Stage::Between(sequel.begin(settlement, broken, said));
        Bytes::new()
    }

    /// What there is to say after the attempts to go on: nothing, or that there is no more.
    fn arrive(&mut self, gone: Gone<B>) -> Option<Bytes> {
        self.said = gone.said;
        match gone.next {
            Ok(tap) => {
                self.sequel = Some(gone.sequel);
                self.stage = Stage::Next(Box::new(tap));
                None
            }
            Err(given_up) => {
                self.stage = Stage::Over(given_up.settlement);
                given_up.event.or(self.first.take())
            }
        }
    }
}
