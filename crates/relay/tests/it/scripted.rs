//! A provider in memory: it does what its script says and remembers what it was sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body::{Body, Frame, SizeHint};
use relay::{Call, Failure, FailureKind, Outgoing, UploadFault, Upstream};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// One thing a body does.
#[derive(Debug, Clone)]
enum Step {
    Data(Bytes),
    Fail(FailureKind),
    Hang,
    Panic,
}

/// What a provider does with one call.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    delay: Duration,
    failure: Option<FailureKind>,
    panics: bool,
    is_deaf: bool,
    status: u16,
    headers: HeaderMap,
    steps: Vec<(Duration, Step)>,
    at: Duration,
    sized: bool,
}

impl Reply {
    /// A reply without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            delay: Duration::ZERO,
            failure: None,
            panics: false,
            is_deaf: false,
            status,
            headers: HeaderMap::new(),
            steps: Vec::new(),
            at: Duration::ZERO,
            sized: false,
        }
    }

    /// A JSON reply of status 200.
    pub(crate) fn json(text: impl Into<Bytes>) -> Self {
        Self::status(200).header("content-type", "application/json").data(text)
    }

    /// The head of an event stream.
    pub(crate) fn stream() -> Self {
        Self::status(200).header("content-type", "text/event-stream")
    }

    /// No reply: the call fails.
    pub(crate) fn failing(kind: FailureKind) -> Self {
        let mut reply = Self::status(0);
        reply.failure = Some(kind);
        reply
    }

    /// No reply: the call fails before a byte of its body is taken.
    pub(crate) fn unreached() -> Self {
        let mut reply = Self::failing(FailureKind::Connect);
        reply.is_deaf = true;
        reply
    }

    /// No reply: the call panics.
    pub(crate) fn panicking() -> Self {
        let mut reply = Self::status(0);
        reply.panics = true;
        reply
    }

    /// The head comes so much later.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// A header of the reply.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    /// The next bytes.
    pub(crate) fn data(mut self, bytes: impl Into<Bytes>) -> Self {
        self.steps.push((self.at, Step::Data(bytes.into())));
        self
    }

    /// What comes next comes so much later, whether anyone reads or not.
    pub(crate) fn wait(mut self, pause: Duration) -> Self {
        self.at += pause;
        self
    }

    /// The body breaks off.
    pub(crate) fn fail(mut self, kind: FailureKind) -> Self {
        self.steps.push((self.at, Step::Fail(kind)));
        self
    }

    /// Whoever reads on panics.
    pub(crate) fn panic(mut self) -> Self {
        self.steps.push((self.at, Step::Panic));
        self
    }

    /// Nothing more comes, and no end.
    pub(crate) fn hang(mut self) -> Self {
        self.steps.push((self.at, Step::Hang));
        self
    }

    /// From the call until all of it is there.
    pub(crate) fn lasts(&self) -> Duration {
        self.delay + self.at
    }

    /// The length of the body is told in advance.
    pub(crate) fn sized(mut self) -> Self {
        self.sized = true;
        self
    }
}

/// What a provider got.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) provider: String,
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) connect: Duration,
    /// Pieces the body came in, with the time of each since the call.
    pub(crate) pieces: Vec<(Duration, usize)>,
    pub(crate) told_length: Option<u64>,
}

impl Seen {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What becomes of calls and bodies.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    /// Calls under way: their head or body has not ended.
    pub(crate) open: Cell<usize>,
    /// Calls given up before their end.
    pub(crate) cancelled: Cell<usize>,
    /// Bytes that were taken out of bodies.
    pub(crate) taken: Cell<usize>,
    /// When the last call was given up.
    pub(crate) cancelled_at: Cell<Option<Instant>>,
}

/// Counts one call as long as it is under way.
struct Guard {
    fates: Rc<Fates>,
    over: bool,
}

impl Guard {
    fn new(fates: &Rc<Fates>) -> Self {
        fates.open.set(fates.open.get() + 1);
        Self { fates: Rc::clone(fates), over: false }
    }

    fn end(&mut self) {
        if !self.over {
            self.over = true;
            self.fates.open.set(self.fates.open.get() - 1);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.over {
            self.end();
            self.fates.cancelled.set(self.fates.cancelled.get() + 1);
            self.fates.cancelled_at.set(Some(Instant::now()));
        }
    }
}

/// Says what is done with a call.
type Answering = Box<dyn FnMut(&Seen) -> Reply>;

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Scripted {
    replies: RefCell<VecDeque<Reply>>,
    /// What is done with a call when there are no more replies.
    answer: RefCell<Option<Answering>>,
    seen: RefCell<Vec<Seen>>,
    pub(crate) fates: Rc<Fates>,
}

impl Scripted {
    pub(crate) fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { replies: RefCell::new(replies.into_iter().collect()), ..Self::default() }
    }

    /// Answers every further call by what it is sent.
    pub(crate) fn answer(&self, answer: impl FnMut(&Seen) -> Reply + 'static) {
        *self.answer.borrow_mut() = Some(Box::new(answer));
    }

    /// Everything it was sent.
    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// The one call it got.
    pub(crate) fn call(&self) -> Seen {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "one call");
        calls[0].clone()
    }
}

impl Upstream for Scripted {
    type Body = ScriptBody;

    async fn send(&self, call: Call) -> Result<Response<ScriptBody>, Failure> {
        let mut guard = Guard::new(&self.fates);
        let mut seen = Seen {
            provider: call.provider.id.to_string(),
            method: call.method,
            target: call.target.to_string(),
            headers: call.headers,
            body: Vec::new(),
            connect: call.connect,
            pieces: Vec::new(),
            told_length: call.body.size_hint().exact(),
        };
        let is_deaf = self.replies.borrow().front().is_some_and(|reply| reply.is_deaf);
        let taken = match is_deaf {
            true => Ok(()),
            false => collect(call.body, &mut seen).await,
        };
        let reply = self.replies.borrow_mut().pop_front();
        let reply = reply.or_else(|| self.answer.borrow_mut().as_mut().map(|answer| answer(&seen)));
        self.seen.borrow_mut().push(seen);
        let reply = reply.unwrap_or_else(|| Reply::json("{}"));
        if let Err(fault) = taken {
            guard.end();
            let refused = fault.downcast_ref::<UploadFault>().copied();
            let kind = refused.map_or(FailureKind::Upload, FailureKind::Refused);
            return Err(Failure::new(kind, fault));
        }
        if !reply.delay.is_zero() {
            sleep(reply.delay).await;
        }
        assert!(!reply.panics, "as the script says");
        if let Some(kind) = reply.failure {
            guard.end();
            return Err(Failure::new(kind, "as the script says"));
        }
        let mut response = Response::new(ScriptBody::new(&reply, guard));
        *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap();
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}

async fn collect(mut body: Outgoing, seen: &mut Seen) -> Result<(), relay::BoxError> {
    let start = Instant::now();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let data = frame?.into_data().unwrap_or_default();
        seen.pieces.push((start.elapsed(), data.len()));
        seen.body.extend_from_slice(&data);
    }
    Ok(())
}

/// A body that follows a script: each step has its time, from the moment the body was made on.
pub(crate) struct ScriptBody {
    steps: VecDeque<(Instant, Step)>,
    sleep: Option<Pin<Box<Sleep>>>,
    length: Option<u64>,
    guard: Guard,
}

impl ScriptBody {
    fn new(reply: &Reply, guard: Guard) -> Self {
        let start = Instant::now();
        let steps: VecDeque<_> =
            reply.steps.iter().map(|(at, step)| (start + *at, step.clone())).collect();
        let mut body = Self { steps, sleep: None, length: None, guard };
        body.length = reply.sized.then(|| body.left());
        if body.steps.is_empty() {
            body.guard.end();
        }
        body
    }

    /// The body of a request, from the same kind of script.
    pub(crate) fn of_client(script: &Reply) -> Self {
        Self::new(script, Guard::new(&Rc::default()))
    }

    fn left(&self) -> u64 {
        let sizes = self.steps.iter().map(|(_, step)| match step {
            Step::Data(data) => data.len(),
            Step::Fail(_) | Step::Hang | Step::Panic => 0,
        });
        sizes.sum::<usize>() as u64
    }
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let Some((due, _)) = self.steps.front() else {
            self.guard.end();
            return Poll::Ready(None);
        };
        if Instant::now() < *due {
            let mut sleep = Box::pin(sleep_until(*due));
            if sleep.as_mut().poll(cx).is_pending() {
                self.sleep = Some(sleep);
                return Poll::Pending;
            }
        }
        self.sleep = None;
        match self.steps.pop_front() {
            Some((_, Step::Data(data))) => {
                let taken = &self.guard.fates.taken;
                taken.set(taken.get() + data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some((_, Step::Fail(kind))) => {
                self.steps.clear();
                self.guard.end();
                Poll::Ready(Some(Err(Failure::new(kind, "as the script says"))))
            }
            Some((_, Step::Panic)) => panic!("as the script says"),
            Some(hang) => {
                self.steps.push_front(hang);
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(_) => SizeHint::with_exact(self.left()),
            None => SizeHint::default(),
        }
    }
}
