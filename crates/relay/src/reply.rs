//! The body of a response: in memory, tapped, or passed through.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::gather::FRAME;
use crate::pass::Pass;
use crate::ports::Failure;
use crate::tap::Tap;

/// The body of a response.
pub struct ReplyBody<B>(Inner<B>);

enum Inner<B> {
    Whole(Bytes),
    Tap(Box<Tap<B>>),
    Pass(Box<Pass<B>>),
}

impl<B> ReplyBody<B> {
    /// A body in memory.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Whole(bytes.into()))
    }

    pub(crate) fn tap(tap: Tap<B>) -> Self {
        Self(Inner::Tap(Box::new(tap)))
    }

    pub(crate) fn pass(pass: Pass<B>) -> Self {
        Self(Inner::Pass(Box::new(pass)))
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
        match &mut self.0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(FRAME));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Inner::Tap(tap) => tap.poll_data(cx).map(|data| data.map(|data| Ok(Frame::data(data)))),
            Inner::Pass(pass) => {
                pass.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Tap(tap) => tap.is_over(),
            Inner::Pass(pass) => pass.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Tap(_) | Inner::Pass(_) => SizeHint::default(),
        }
    }
}
