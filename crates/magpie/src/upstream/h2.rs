//! Exchanges over HTTP/2: many on one connection, which is a task of its own.

use std::cell::Cell;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Parts, Scheme};
use http::{Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use relay::{Call, Failure, FailureKind, Outgoing};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, interval};

use super::NetworkBody;
use super::h1::{Chain, failure};
use super::open::Open;
use crate::local::LocalExecutor;

/// Streams on one connection, whatever more the provider allows: a lost packet holds them all up.
const MAX_STREAMS: usize = 100;
/// What one stream may send ahead of what was passed on; see the bound on buffered bytes.
const STREAM_WINDOW: u32 = 64 << 10;
/// What all streams of a connection together may send ahead.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How often a connection is asked whether it is alive, and how long it may take to say so: one that
/// is dead is found in twenty seconds.
const PING: Duration = Duration::from_secs(10);
/// How often a new connection is looked at for the provider's settings, which are on their way and
/// of which nothing tells when they are there.
const LOOK: Duration = Duration::from_millis(1);
/// How long a connection may be without a stream.
const IDLE: Duration = Duration::from_secs(50);

/// A connection; clones share it.
pub(super) struct Http2 {
    sender: SendRequest<Outgoing>,
    use_: Rc<Use>,
}

struct Use {
    streams: Cell<usize>,
    /// The most the provider allows, and we.
    allowed: Cell<usize>,
    idle_since: Cell<Instant>,
    open: Open,
}

impl Http2 {
    /// Begins to speak HTTP/2, up to the provider's word on how many streams it allows: before
    /// that, a burst would all go to one connection and wait there.
    pub(super) async fn begin<S>(stream: S, open: Open) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(0)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut connection = Box::pin(connection);
        let mut look = interval(LOOK);
        let allowed = poll_fn(|cx| {
            loop {
                if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                    return Poll::Ready(end.map(|()| 0));
                }
                match connection.current_max_send_streams().min(MAX_STREAMS) {
                    0 => std::task::ready!(look.poll_tick(cx)),
                    allowed => return Poll::Ready(Ok(allowed)),
                };
            }
        });
        let use_ = Rc::new(Use {
            streams: Cell::new(0),
            allowed: Cell::new(allowed.await?),
            idle_since: Cell::new(Instant::now()),
            open,
        });
        let told = Rc::clone(&use_);
        // It ends by itself when the provider closes it or the last sender is dropped.
        tokio::task::spawn_local(poll_fn(move |cx| {
            let end = connection.as_mut().poll(cx).map(drop);
            told.allowed.set(connection.current_max_send_streams().min(MAX_STREAMS));
            end
        }));
        Ok(Self { sender, use_ })
    }

    pub(super) fn share(&self) -> Self {
        Self { sender: self.sender.clone(), use_: Rc::clone(&self.use_) }
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether another stream fits, before the provider's own limit is reached.
    pub(super) fn has_room(&self) -> bool {
        self.use_.streams.get() < self.use_.allowed.get() && self.sender.is_ready()
    }

    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.use_.streams.get() == 0 && now - self.use_.idle_since.get() > IDLE
    }
}

/// A stream in use; gives its place back when dropped.
struct Stream(Rc<Use>);

impl Stream {
    fn open(use_: &Rc<Use>) -> Self {
        use_.streams.set(use_.streams.get() + 1);
        use_.open.rest(false);
        Self(Rc::clone(use_))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.open.rest(self.0.streams.get() == 0);
        self.0.idle_since.set(Instant::now());
    }
}

/// Sends a call and waits for the head of the reply.
pub(super) async fn send(
    mut connection: Http2,
    call: Call,
) -> Result<Response<NetworkBody>, Failure> {
    let stream = Stream::open(&connection.use_);
    let response = connection.sender.try_send_request(request(call)?).await;
    match response {
        Ok(response) => {
            let body = |incoming| Http2Body { incoming, _stream: stream };
            Ok(response.map(body).map(NetworkBody::Http2))
        }
        Err(mut fault) => {
            let unseen = fault.take_message().is_some() || is_refused(fault.error());
            Err(match unseen {
                true => Failure::new(FailureKind::Stale, Chain(fault.error())),
                false => failure(fault.error()),
            })
        }
    }
}

/// Whether the provider says that it has not looked at the call: it refuses the stream, or it had
/// said that it takes no more of them while the call was on its way (RFC 9113, sections 6.8, 8.7).
fn is_refused(fault: &hyper::Error) -> bool {
    let cause = fault.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        let gone = cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR);
        let refused = cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        cause.is_remote() && (gone || refused)
    })
}

fn request(call: Call) -> Result<Request<Outgoing>, Failure> {
    let origin = &call.provider.origin;
    let mut parts = Parts::default();
    parts.scheme = Some(match origin.scheme {
        policy::Scheme::Https => Scheme::HTTPS,
        policy::Scheme::Http | policy::Scheme::Echo => Scheme::HTTP,
    });
    parts.authority = origin.authority.parse::<Authority>().ok();
    parts.path_and_query = Some(call.target);
    let uri = Uri::from_parts(parts).map_err(|fault| Failure::new(FailureKind::Protocol, fault))?;
    let mut request = Request::new(call.body);
    *request.method_mut() = call.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = call.headers;
    request.headers_mut().remove(header::HOST);
    Ok(request)
}

/// The body of a reply, on its stream. Dropped before its end, it resets the stream.
pub(crate) struct Http2Body {
    incoming: Incoming,
    _stream: Stream,
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Pin::new(&mut self.incoming).poll_frame(cx).map(|frame| {
            frame.map(|frame| frame.map_err(|fault| Failure::new(FailureKind::Cut, Chain(&fault))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
