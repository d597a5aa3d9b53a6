//! What a client still sends of a body that nobody reads, because its request is answered already.
//!
//! HTTP/2 takes a stream back when its body is given up, and clients such as curl before 8.0 throw
//! the answer away with it. So the rest is read and forgotten for a while. HTTP/1.1 needs none of
//! this: there the connection is closed behind the answer.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// How long a client may take to see that it is answered.
const WHILE: Duration = Duration::from_secs(5);
/// What it may send until then.
const MOST: usize = 4 << 20;

/// The body of a request, of which what is left can be had once it is given up.
pub(crate) struct Upload {
    body: Option<Incoming>,
    left: Option<Rc<Unread>>,
}

/// What is left of a body.
#[derive(Default)]
pub(crate) struct Unread(Cell<Option<Incoming>>);

impl Upload {
    /// A body to be read, and where what is left of it will be, if that matters.
    pub(crate) fn new(parts: &Parts, body: Incoming) -> (Self, Option<Rc<Unread>>) {
        let matters = parts.version == Version::HTTP_2 && !body.is_end_stream();
        let left = matters.then(Rc::<Unread>::default);
        (Self { body: Some(body), left: left.clone() }, left)
    }
}

impl Unread {
    /// Reads what there is, if its request has been given up before its end.
    pub(crate) fn forget(&self) {
        if let Some(body) = self.0.take() {
            tokio::task::spawn_local(timeout(WHILE, drain(body)));
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut room = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        let count = frame.data_ref().map_or(0, Bytes::len);
        match room.checked_sub(count) {
            Some(rest) => room = rest,
            None => return,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(left) = &self.left {
            left.0.set(self.body.take().filter(|body| !body.is_end_stream()));
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
