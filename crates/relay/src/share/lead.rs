//! The leader: a call that goes on by itself, whoever reads its answer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;

use crate::admit::Bound;
use crate::begin::Incoming;
use crate::course::Course;
use crate::feedback::Feedback;
use crate::flight::{Ended, Head, Over};
use crate::flights::Leader;
use crate::identify::Caller;
use crate::mirror::Mirroring;
use crate::ports::{Failure, Lasting, Noting, Recorder, Unrecorded, Upstream};
use crate::record::{Outcome, Record};
use crate::reply::ReplyBody;
use crate::serve::{Context, Relay, settled};

impl<U: Upstream> Relay<U> {
    /// Starts the call in a task of its own. Its record is made there.
    pub(super) fn lead(&self, leader: Leader, incoming: Incoming<'_>, context: &mut Context) {
        let Incoming { endpoint, parts, body, .. } = incoming;
        let witness = Rc::new(Witness::new(Rc::clone(self.recorder())));
        let mut led = handed_over(context, Rc::clone(&witness) as Rc<dyn Recorder>);
        let (relay, endpoint, parts) = (self.clone(), endpoint.clone(), copied(parts));
        let (body, flight) = (body.clone(), Arc::clone(leader.flight()));
        let counted = Counted::new(&self.sharing().leading);
        self.tasks().spawn(Box::pin(Leader::drive(flight, async move {
            let _counted = counted;
            let incoming =
                Incoming { endpoint: &endpoint, parts: &parts, body: &body, forwarded: None };
            let answer = relay.failover(incoming, Course::default(), &mut led).await;
            let response = settled(answer, &mut led).await;
            write(response, leader, &witness).await;
        })));
    }
}

/// What goes with the call; behind stays a context whose record is made elsewhere.
fn handed_over(context: &mut Context, recorder: Rc<dyn Recorder>) -> Context {
    Context {
        snapshot: Arc::clone(&context.snapshot),
        language: context.language,
        shed: Rc::clone(&context.shed),
        settlement: context.settlement.take_for(recorder),
        caller: context.caller.clone(),
        mirroring: Mirroring::No,
        ..*context
    }
}

/// The head of a request, without what belongs to its connection.
fn copied(parts: &Parts) -> Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.headers = parts.headers.clone();
    copy
}

/// Passes on an answer, as it comes and as fast as it may.
async fn write<B>(response: Response<ReplyBody<B>>, leader: Leader, witness: &Witness)
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    let (parts, mut body) = response.into_parts();
    let on_its_way = body.settlement().and_then(|settlement| settlement.record());
    leader.begin(witness.head(on_its_way, &parts, body.size_hint().exact()));
    let over = loop {
        poll_fn(|cx| leader.poll_room(cx)).await;
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        match frame {
            Some(Ok(frame)) => {
                leader.write(&frame.into_data().unwrap_or_default(), witness.ended());
            }
            Some(Err(failure)) => break Over::Broken(failure.to_string().into()),
            None => break Over::Whole,
        }
    };
    let ended = witness.ended();
    let worth = over == Over::Whole && ended.is_some_and(|it| is_worth(it.outcome, parts.status));
    leader.end(over, ended, worth);
}

/// Whether an answer is worth keeping: it is whole, or the request is at fault and would be again.
fn is_worth(outcome: Outcome, status: StatusCode) -> bool {
    match outcome {
        Outcome::Complete => status.is_success(),
        Outcome::ProviderError => matches!(status.as_u16(), 400 | 413 | 415 | 422),
        _ => false,
    }
}

/// Copies, which do not keep the buffers that the headers came in.
fn compact(headers: &HeaderMap) -> HeaderMap {
    let copied = headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    let mut copy = HeaderMap::with_capacity(headers.len());
    copied.for_each(|(name, value)| {
        copy.append(name, value);
    });
    copy
}

/// A recorder beside which the leader learns what became of its request.
struct Witness {
    recorder: Rc<dyn Recorder>,
    last: RefCell<Option<Seen>>,
}

/// What of a record is passed on to those who read along.
struct Seen {
    model: Box<str>,
    route: Option<Arc<policy::Route>>,
    stream: bool,
    ended: Ended,
}

impl Seen {
    fn of(record: &Record) -> Self {
        Self {
            model: record.model.clone(),
            route: record.route.clone(),
            stream: record.stream,
            ended: Ended { outcome: record.outcome, fault: record.fault },
        }
    }
}

impl Witness {
    fn new(recorder: Rc<dyn Recorder>) -> Self {
        Self { recorder, last: RefCell::default() }
    }

    /// How the request ended, once that is recorded.
    fn ended(&self) -> Option<Ended> {
        self.last.borrow().as_ref().map(|seen| seen.ended)
    }

    /// The head of the answer; its record is still open, or was made already.
    fn head(
        &self,
        open: Option<&Record>,
        parts: &http::response::Parts,
        length: Option<u64>,
    ) -> Head {
        let is_refusal = self.ended().is_some_and(|ended| ended.outcome == Outcome::Refused);
        let (open, last) = (open.map(Seen::of), self.last.borrow());
        let seen = open.as_ref().or(last.as_ref());
        Head {
            status: parts.status,
            headers: compact(&parts.headers),
            length,
            model: seen.map(|seen| seen.model.clone()).unwrap_or_default(),
            route: seen.and_then(|seen| seen.route.clone()),
            stream: seen.is_some_and(|seen| seen.stream),
            is_refusal,
        }
    }
}

impl Recorder for Witness {
    fn open(&self, record: &Record, bound: &Bound) -> Result<(), Unrecorded> {
        self.recorder.open(record, bound)
    }

    fn record(&self, record: Box<Record>) {
        if record.is_last {
            self.last.replace(Some(Seen::of(&record)));
        }
        self.recorder.record(record);
    }

    fn feedback(&self, feedback: Feedback, caller: &Caller) -> Noting {
        self.recorder.feedback(feedback, caller)
    }

    fn lasting(&self) -> Option<Lasting> {
        self.recorder.lasting()
    }
}

/// Counts one more as long as it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
