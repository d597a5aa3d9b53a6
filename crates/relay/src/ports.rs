//! The ways out: what the relay needs of the world, as traits. The binary implements them over
//! sockets, the tests over scripts.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response};
use http_body::{Body, Frame, SizeHint};
use policy::Provider;

use crate::admit::Bound;
use crate::feedback::Feedback;
use crate::identify::Caller;
use crate::mirror::Comparison;
use crate::record::Record;

/// What the body of a call fails with when the client's upload turns out, on its way through, to be
/// one that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFault {
    /// It is larger than allowed.
    TooLarge,
    /// It is a form that names its model twice.
    TwoModels,
}

impl fmt::Display for UploadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the upload is larger than allowed",
            Self::TwoModels => {
                "`model` stands twice in the form, or a part of it has a head of over 16 KiB"
            }
        })
    }
}

impl Error for UploadFault {}

/// Any error, for bodies whose errors are only looked at as text.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The network, as the relay sees it.
pub trait Upstream: 'static {
    /// The body of a reply. Dropping it before its end cancels the call.
    type Body: Body<Data = Bytes, Error = Failure> + Unpin + 'static;

    /// Sends a call and waits for the head of the reply. Dropping the future cancels the call.
    ///
    /// # Errors
    /// A [`Failure`] if no head arrives. The connect clock is kept here, the others by the relay.
    fn send(&self, call: Call) -> impl Future<Output = Result<Response<Self::Body>, Failure>>;
}

/// One request to a provider, ready to be written.
pub struct Call {
    /// Whom to call; its origin says where.
    pub provider: Arc<Provider>,
    /// The method.
    pub method: Method,
    /// Path and query as the provider has them.
    pub target: PathAndQuery,
    /// Every header but `Host` and those of framing.
    pub headers: HeaderMap,
    /// The body.
    pub body: Outgoing,
    /// How long connecting may take, TLS included.
    pub connect: Duration,
}

/// The body of a call.
pub enum Outgoing {
    /// None, or all of it in memory: may be sent again.
    Whole(Bytes),
    /// An upload on its way through: can be sent once.
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// Why a provider could not be asked, or stopped answering.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub kind: FailureKind,
    /// In detail, for the log and the caller; holds no secret.
    pub detail: String,
}

/// The kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The host name has no address.
    Dns,
    /// No connection: refused, unreachable, or the connect clock ran out.
    Connect,
    /// The TLS handshake failed, so nothing was sent.
    Tls,
    /// The provider had closed the connection while it was idle, and as far as can be known never
    /// saw the call: it may be sent again.
    Stale,
    /// The connection ended before the head of a reply.
    NoReply,
    /// The connection ended inside a reply.
    Cut,
    /// The reply is no HTTP.
    Protocol,
    /// The client's upload broke off.
    Upload,
    /// The client's upload is not allowed.
    Refused(UploadFault),
}

impl Failure {
    /// A failure with its details.
    pub fn new(kind: FailureKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for Failure {}

/// What happens cannot be recorded, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unrecorded;

/// Where records go. Must not wait for anything slower than a write to a file.
pub trait Recorder {
    /// Notes that a provider is about to be asked, so that even a process that is killed has a
    /// record of it. `bound` is what the call may use.
    ///
    /// # Errors
    /// [`Unrecorded`] if it cannot be noted; nothing is sent then.
    fn open(&self, record: &Record, bound: &Bound) -> Result<(), Unrecorded>;

    /// Takes the record of one finished request, before the last byte of its answer leaves. Must
    /// not fail: what cannot be taken now is kept, or counted.
    fn record(&self, record: Box<Record>);

    /// Takes the two answers to a request that was mirrored, once both have ended.
    fn compared(&self, _: Box<Comparison>) {}

    /// Takes what a caller thinks of an answer; ready when it is written down. Dropping the future
    /// may leave it unwritten. Where nothing is recorded, no request is known.
    fn feedback(&self, _: Feedback, _: &Caller) -> Noting {
        Box::pin(std::future::ready(Err(Unnoted::Unknown)))
    }

    /// Ready when what was recorded so far lasts even if the machine loses its power; the last byte
    /// of an answer waits for it. `None` where that was not asked for.
    fn lasting(&self) -> Option<Lasting> {
        None
    }
}

/// Why feedback was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnoted {
    /// The caller has no such request that is over: it is not there, it still runs, or it is
    /// somebody else's.
    Unknown,
    /// There are as many labels for the request as there may be.
    TooManyLabels,
    /// It cannot be written down, for now.
    Unrecorded,
}

/// See [`Recorder::feedback`].
pub type Noting = Pin<Box<dyn Future<Output = Result<(), Unnoted>>>>;

/// See [`Recorder::lasting`].
pub type Lasting = Pin<Box<dyn Future<Output = ()>>>;

/// What runs beside the requests of a worker, and outlasts the one that began it.
pub trait Tasks {
    /// Runs a task to its end. One that is dropped before gives back what it holds.
    fn spawn(&self, task: Task);
}

/// See [`Tasks`].
pub type Task = Pin<Box<dyn Future<Output = ()>>>;
