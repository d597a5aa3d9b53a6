//! The way out: connections to providers, one pool a worker.
//!
//! A worker's requests are answered on its own thread, and so is everything they need of the
//! network: no connection is ever shared between threads, and nothing here takes a lock.

mod connect;
mod dns;
mod driver;
mod echo;
mod eyeballs;
mod h1;
mod h2;
mod open;
mod pool;
mod post;
mod tls;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use policy::Scheme;
use relay::{Call, Failure, FailureKind, Upstream};
use tokio::time::{Instant, timeout};

use crate::measure::Pooled;
use connect::{Connection, Connector};
use pool::Pools;
pub(crate) use post::{ask_json, post_json, whole};
pub(crate) use tls::{TlsConfigs, client_config};

/// How soon after sending on a used connection its end means that the provider had closed it while
/// it was idle, and never saw the request. Longer ago, the provider may have worked on it, and
/// sending it again might be paid for twice.
const STALE: Duration = Duration::from_secs(1);

/// The network of one worker.
pub(crate) struct Network {
    pools: Pools,
    connector: Connector,
}

impl Network {
    /// A network without connections, which are counted in `pooled`. The trust anchors are shared
    /// between workers.
    pub(crate) fn new(tls: Arc<TlsConfigs>, pooled: Arc<Pooled>) -> Self {
        Self { pools: Pools::default(), connector: Connector::new(tls, pooled) }
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn sweep(&self) {
        self.pools.sweep(Instant::now());
    }

    async fn send_over_network(&self, call: Call) -> Result<Response<NetworkBody>, Failure> {
        let origin = &call.provider.origin;
        let pool = self.pools.of(origin);
        match pool.idle().await {
            Some(Connection::Http1(connection)) => {
                let sent = Instant::now();
                return h1::send(connection, call, &pool).await.map_err(|failure| {
                    if failure.kind != FailureKind::NoReply || sent.elapsed() >= STALE {
                        return failure;
                    }
                    // Its neighbours have waited longer: the next try shall not meet them.
                    pool.forget_idle();
                    Failure { kind: FailureKind::Stale, ..failure }
                });
            }
            Some(Connection::Http2(connection)) => return h2::send(connection, call).await,
            None => {}
        }
        // In a box: connecting is rare, and its many steps would make every request's future large.
        let connecting = Box::pin(pool.connect(&self.connector, origin));
        let connection = match timeout(call.connect, connecting).await {
            Ok(connection) => connection?,
            Err(_) => {
                let after = format!("no connection to {} in {:?}", origin.authority, call.connect);
                return Err(Failure::new(FailureKind::Connect, after));
            }
        };
        match connection {
            Connection::Http1(connection) => h1::send(connection, call, &pool).await,
            Connection::Http2(connection) => h2::send(connection, call).await,
        }
    }
}

impl Upstream for Network {
    type Body = NetworkBody;

    async fn send(&self, call: Call) -> Result<Response<NetworkBody>, Failure> {
        match call.provider.origin.scheme {
            Scheme::Echo => Ok(echo::answer(&call).map(NetworkBody::Echo)),
            Scheme::Http | Scheme::Https => self.send_over_network(call).await,
        }
    }
}

/// The body of a provider's reply. Dropped before its end, it cancels the call.
pub(crate) enum NetworkBody {
    /// Over HTTP/1.1.
    Http1(h1::Http1Body),
    /// Over HTTP/2.
    Http2(h2::Http2Body),
    /// Of the built-in echo.
    Echo(echo::EchoBody),
}

impl Body for NetworkBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match &mut *self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
            Self::Echo(body) => body.poll_frame(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Echo(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Echo(_) => SizeHint::default(),
        }
    }
}
