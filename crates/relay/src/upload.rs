//! A client's body on its way to a provider. It is not kept, so it can be sent once; but as long as
//! nobody has taken a byte of it, another target can be asked to take it.

use std::cell::RefCell;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use wire::multipart::Rest;

use crate::ports::{BoxError, Outgoing, UploadFault};

/// An upload, as long as it is not known who takes it.
pub(crate) struct Upload(Rc<RefCell<Option<Pending>>>);

/// What is still to be sent.
struct Pending {
    /// What of it was read already.
    begun: Bytes,
    /// Where the model stands in that.
    model: Option<Range<usize>>,
    rest: Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>,
}

impl Upload {
    /// The body of a client, of which these bytes were read, with the model there.
    pub(crate) fn new<B>(begun: Bytes, model: Option<Range<usize>>, rest: Watched<B>) -> Self
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Rc::new(RefCell::new(Some(Pending { begun, model, rest: Box::pin(rest) }))))
    }

    /// Whether nothing of it was taken.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// How long it is; `None` if the client does not say.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let pending = self.0.borrow();
        let pending = pending.as_ref()?;
        Some(pending.begun.len() as u64 + pending.rest.size_hint().exact()?)
    }

    /// The body of a call that names this model; `None` if something of it was taken.
    pub(crate) fn body(&self, model: &str) -> Option<Outgoing> {
        let named = self.0.borrow().as_ref()?.model.clone();
        let length = self.bytes().map(|bytes| match named {
            Some(named) => bytes - named.len() as u64 + model.len() as u64,
            None => bytes,
        });
        let from = Rc::clone(&self.0);
        Some(Outgoing::Stream(Box::pin(Lent { from, model: model.into(), length, rest: None })))
    }
}

impl Pending {
    /// What was read already, under the name that the provider has for the model.
    fn front(&self, model: &str) -> Bytes {
        let Some(named) = self.model.clone() else { return self.begun.clone() };
        let mut front = BytesMut::with_capacity(self.begun.len() + model.len());
        front.extend_from_slice(&self.begun[..named.start]);
        front.extend_from_slice(model.as_bytes());
        front.extend_from_slice(&self.begun[named.end..]);
        front.freeze()
    }
}

/// An upload as the body of one call, which takes it with the first byte.
struct Lent {
    from: Rc<RefCell<Option<Pending>>>,
    model: Box<str>,
    /// Of the whole, if it is known.
    length: Option<u64>,
    /// What comes behind the bytes that were read already, once it is taken.
    rest: Option<Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>>,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let pending = self.from.borrow_mut().take();
        if let Some(pending) = pending {
            let front = pending.front(&self.model);
            self.rest = Some(pending.rest);
            if !front.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(front))));
            }
        }
        match &mut self.rest {
            Some(rest) => rest.as_mut().poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.rest, self.length) {
            (Some(rest), _) => rest.size_hint(),
            (None, Some(length)) => SizeHint::with_exact(length),
            (None, None) => SizeHint::default(),
        }
    }
}

/// A client's body under its bounds.
pub(crate) struct Watched<B> {
    body: Pin<Box<B>>,
    /// Bytes that may still come.
    left: usize,
    /// What may not name the model a second time. In a box, for few uploads have one.
    repeats: Option<Box<Rest>>,
}

impl<B> Watched<B> {
    /// A body of at most so many bytes, that may not name a model again where it has named one.
    pub(crate) fn new(body: Pin<Box<B>>, limit: usize, repeats: Option<Rest>) -> Self {
        Self { body, left: limit, repeats: repeats.map(Box::new) }
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.body.as_mut().poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            let size = frame.data_ref().map_or(0, Bytes::len);
            match self.left.checked_sub(size) {
                Some(left) => self.left = left,
                None => return Err(UploadFault::TooLarge.into()),
            }
            if let (Some(rest), Some(data)) = (&mut self.repeats, frame.data_ref())
                && rest.repeats(data)
            {
                return Err(UploadFault::TwoModels.into());
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest),
            None => SizeHint::default(),
        }
    }
}
