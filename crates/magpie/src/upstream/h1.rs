//! One exchange over HTTP/1.1, driven by the task that serves the client.
//!
//! The connection is not a task of its own: whoever waits for the reply drives it. That saves a
//! wake-up for every read, lets what one read brought leave in one write, and ends the connection
//! with the client's interest in it.

use std::cell::Cell;
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use relay::{Call, Failure, FailureKind, Outgoing, UploadFault};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::NetworkBody;
use super::driver::Driver;
use super::open::Open;
use super::pool::Pool;

/// The most that is read ahead of what was passed on; see the bound on buffered bytes per stream.
const READ_AHEAD: usize = 64 << 10;
/// Bytes that are cheaper to copy than to keep a buffer for.
const FEW: usize = 2 << 10;
/// The head of a reply.
const MAX_HEADERS: usize = 200;

/// A connection.
pub(super) struct Http1 {
    sender: SendRequest<Outgoing>,
    driver: Driver,
    /// Bytes the provider has sent so far.
    received: Received,
    pub(super) open: Open,
}

impl Http1 {
    /// Begins to speak HTTP/1.1.
    pub(super) async fn begin<S>(stream: S, open: Open) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let received = Received::default();
        let (sender, connection) = Builder::new()
            .max_buf_size(READ_AHEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(Counting { stream, received: received.clone() }))
            .await?;
        Ok(Self { received, sender, driver: Driver::new(Box::pin(connection)), open })
    }

    /// Whether an idle connection is still open, as far as can be seen.
    pub(super) fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        self.driver.look(cx);
        self.driver.is_open() && self.sender.is_ready()
    }
}

/// Sends a call and waits for the head of the reply.
pub(super) async fn send(
    mut connection: Http1,
    call: Call,
    pool: &Rc<Pool>,
) -> Result<Response<NetworkBody>, Failure> {
    let reply = connection.sender.try_send_request(request(call));
    let mut reply = std::pin::pin!(reply);
    let mut broken: Option<hyper::Error> = None;
    let (received, before) = (connection.received.clone(), connection.received.get());
    let driver = &mut connection.driver;
    let response = poll_fn(|cx| {
        driver.poll(cx, |failure| {
            broken = failure.or(broken.take());
            reply.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
    })
    .await;
    match response {
        Ok(response) => {
            let pool = Rc::clone(pool);
            let body = |incoming| Http1Body { incoming, connection: Some(connection), pool };
            Ok(response.map(body).map(NetworkBody::Http1))
        }
        Err(fault) => {
            let failure = failure(broken.as_ref().unwrap_or(fault.error()));
            // With a byte of a reply the provider has shown that it saw the call.
            match failure.kind == FailureKind::NoReply && received.get() > before {
                true => Err(Failure { kind: FailureKind::Cut, ..failure }),
                false => Err(failure),
            }
        }
    }
}

/// How many bytes have come over a connection.
type Received = Rc<Cell<u64>>;

/// A stream that counts what is read from it.
struct Counting<S> {
    stream: S,
    received: Received,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        self.received.set(self.received.get() + count as u64);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn request(call: Call) -> Request<Outgoing> {
    let mut request = Request::new(call.body);
    *request.method_mut() = call.method;
    *request.uri_mut() = Uri::from(call.target);
    *request.headers_mut() = call.headers;
    if let Ok(host) = HeaderValue::from_str(&call.provider.origin.authority) {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// Why there is no reply.
pub(super) fn failure(fault: &hyper::Error) -> Failure {
    let kind = if fault.is_user() {
        let refused = fault.source().and_then(|source| source.downcast_ref::<UploadFault>());
        refused.map_or(FailureKind::Upload, |fault| FailureKind::Refused(*fault))
    } else if fault.is_parse() || fault.is_parse_too_large() {
        FailureKind::Protocol
    } else {
        FailureKind::NoReply
    };
    Failure::new(kind, Chain(fault))
}

/// An error with its causes, in one line.
pub(super) struct Chain<'e>(pub(super) &'e (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(inner) = cause {
            write!(f, ": {inner}")?;
            cause = inner.source();
        }
        Ok(())
    }
}

/// Bytes that share no memory with the buffer they were read into, if they are few. Events are:
/// with one of them still held, the connection would have to take a new buffer for the next.
fn let_go(data: Bytes) -> Bytes {
    if data.len() <= FEW { Bytes::copy_from_slice(&data) } else { data }
}

/// The body of a reply, and the connection it comes from.
pub(crate) struct Http1Body {
    incoming: Incoming,
    /// `None` once the body has ended.
    connection: Option<Http1>,
    pool: Rc<Pool>,
}

impl Http1Body {
    /// At the end of the body: keeps the connection if it can take another request.
    fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some(mut connection) = self.connection.take()
            && connection.is_alive(cx)
        {
            self.pool.put_back(connection);
        }
    }
}

impl Body for Http1Body {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let Self { incoming, connection, .. } = &mut *self;
        let mut quiet = Context::from_waker(Waker::noop());
        let frame = match connection {
            Some(connection) => {
                connection.driver.poll(cx, |_| Pin::new(&mut *incoming).poll_frame(&mut quiet))
            }
            None => Pin::new(incoming).poll_frame(&mut quiet),
        };
        match frame {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame.map_data(let_go)))),
            Poll::Ready(Some(Err(fault))) => {
                self.connection = None;
                Poll::Ready(Some(Err(Failure::new(FailureKind::Cut, Chain(&fault)))))
            }
            Poll::Ready(None) => {
                self.finish(cx);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Said only once the connection was put back: a caller that stops here would drop it.
        self.incoming.is_end_stream() && self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
