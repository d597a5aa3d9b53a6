//! The body of a response: in memory, tapped, passed through, or that of another request.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::gather::FRAME;
use crate::mirror::Ear;
use crate::pass::Pass;
use crate::ports::{Failure, Lasting};
use crate::reading::Reading;
use crate::resume::{Resumable, Sequel};
use crate::settle::Settlement;
use crate::tap::Tap;

type Polled = Option<Result<Frame<Bytes>, Failure>>;

/// The body of a response. Its end waits until the record of the request lasts, if that is asked
/// for.
pub struct ReplyBody<B> {
    inner: Inner<B>,
    /// The record is made, and what comes with it waits or has waited.
    ending: bool,
    held: Option<Box<Held>>,
    /// Who hears it on its way, if its request was mirrored.
    ear: Option<Rc<Ear>>,
}

/// The end of an answer, and what it waits for.
struct Held {
    lasting: Lasting,
    end: Polled,
}

enum Inner<B> {
    Whole(Bytes),
    Tap(Box<Tap<B>>),
    Resumable(Box<Resumable<B>>),
    Pass(Box<Pass<B>>),
    Shared(Box<Reading>),
}

impl<B> ReplyBody<B> {
    /// A body in memory.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::new(Inner::Whole(bytes.into()))
    }

    pub(crate) fn tap(tap: Tap<B>) -> Self {
        Self::new(Inner::Tap(Box::new(tap)))
    }

    /// The same; if it is a tap, the answer is gone on with elsewhere when it breaks off.
    pub(crate) fn resumable(self, resume: impl FnOnce() -> Box<dyn Sequel<B>>) -> Self
    where
        B: Body<Data = Bytes, Error = Failure> + Unpin,
    {
        match self.inner {
            Inner::Tap(tap) => Self::new(Inner::Resumable(Resumable::new(tap, resume()))),
            inner => Self { inner, ..self },
        }
    }

    pub(crate) fn pass(pass: Pass<B>) -> Self {
        Self::new(Inner::Pass(Box::new(pass)))
    }

    /// All of it, if it is in memory.
    pub(crate) fn in_memory(&self) -> Option<&Bytes> {
        match &self.inner {
            Inner::Whole(bytes) => Some(bytes),
            Inner::Tap(_) | Inner::Resumable(_) | Inner::Pass(_) | Inner::Shared(_) => None,
        }
    }

    pub(crate) fn shared(reading: Reading) -> Self {
        Self::new(Inner::Shared(Box::new(reading)))
    }

    /// The same, heard on its way.
    pub(crate) fn heard_by(mut self, ear: Rc<Ear>) -> Self {
        self.ear = Some(ear);
        self
    }

    fn new(inner: Inner<B>) -> Self {
        Self { inner, ending: false, held: None, ear: None }
    }
}

impl<B> Inner<B>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(FRAME));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Self::Tap(tap) => tap.poll_data(cx).map(|data| data.map(|data| Ok(Frame::data(data)))),
            Self::Resumable(answer) => {
                answer.poll_data(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
            }
            Self::Pass(pass) => {
                pass.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
            }
            Self::Shared(reading) => {
                reading.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
            }
        }
    }

    /// The settlement of an answer that ends with its body.
    fn settlement(&self) -> Option<&Settlement> {
        match self {
            Self::Whole(_) => None,
            Self::Tap(tap) => Some(tap.settlement()),
            Self::Resumable(answer) => answer.settlement(),
            Self::Pass(pass) => Some(pass.settlement()),
            Self::Shared(reading) => Some(reading.settlement()),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Tap(tap) => tap.is_over(),
            Self::Resumable(answer) => answer.is_over(),
            Self::Pass(pass) => pass.is_over(),
            Self::Shared(reading) => reading.is_over(),
        }
    }
}

impl<B> ReplyBody<B>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    /// The settlement of an answer that ends with its body.
    pub(crate) fn settlement(&self) -> Option<&Settlement> {
        self.inner.settlement()
    }

    /// The settlement of an answer that ends with its body; what is left of the body is given up.
    pub(crate) fn into_settlement(self) -> Option<Settlement> {
        match self.inner {
            Inner::Whole(_) => None,
            Inner::Tap(tap) => Some(tap.into_settlement()),
            Inner::Resumable(answer) => answer.into_settlement(),
            Inner::Pass(pass) => Some(pass.into_settlement()),
            Inner::Shared(reading) => Some(reading.into_settlement()),
        }
    }
}

impl<B> Body for ReplyBody<B>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let polled = ready!(self.poll_recorded(cx));
        if let Some(ear) = &self.ear
            && let Some(Ok(frame)) = &polled
            && let Some(data) = frame.data_ref()
        {
            ear.hear(data);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Shared(reading) => reading.size_hint(),
            Inner::Tap(_) | Inner::Resumable(_) | Inner::Pass(_) => SizeHint::default(),
        }
    }
}

impl<B> ReplyBody<B>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    /// The next frame; the last one once the record lasts.
    fn poll_recorded(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let body = self;
        if body.held.is_none() {
            let polled = ready!(body.inner.poll(cx));
            let ended = body.inner.settlement().filter(|settlement| settlement.is_closed());
            let lasting = match ended {
                Some(settlement) if !body.ending => {
                    body.ending = true;
                    settlement.lasting()
                }
                _ => None,
            };
            let Some(lasting) = lasting else { return Poll::Ready(polled) };
            body.held = Some(Box::new(Held { lasting, end: polled }));
        }
        if let Some(held) = &mut body.held {
            ready!(held.lasting.as_mut().poll(cx));
        }
        Poll::Ready(body.held.take().and_then(|held| held.end))
    }
}
