//! Connections that are not in use, by origin.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use policy::{HttpVersions, Origin, Scheme};
use relay::Failure;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connect::{Connection, Connector};
use super::h1::Http1;
use super::h2::Http2;

/// How long a connection may be idle: under what servers allow theirs (60 s and more).
const IDLE: Duration = Duration::from_secs(50);
/// Idle HTTP/1.1 connections kept per origin and worker: what a burst leaves behind is not kept.
const MAX_IDLE: usize = 256;

/// The pools of one worker.
#[derive(Default)]
pub(super) struct Pools {
    by_origin: RefCell<HashMap<Arc<Origin>, Rc<Pool>>>,
}

impl Pools {
    /// The pool of an origin.
    pub(super) fn of(&self, origin: &Arc<Origin>) -> Rc<Pool> {
        if let Some(pool) = self.by_origin.borrow().get(origin) {
            return Rc::clone(pool);
        }
        let mut pools = self.by_origin.borrow_mut();
        Rc::clone(pools.entry(Arc::clone(origin)).or_default())
    }

    /// Closes what has been idle for too long, and forgets origins that nobody calls any more.
    pub(super) fn sweep(&self, now: Instant) {
        self.by_origin.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            Rc::strong_count(pool) > 1 || !pool.is_empty()
        });
    }
}

/// The connections to one origin that can take a request.
#[derive(Default)]
pub(super) struct Pool {
    /// The one used last is at the end, and used first: the others grow old together.
    http1: RefCell<Vec<(Http1, Instant)>>,
    http2: RefCell<Vec<Http2>>,
    /// The origin was last seen to speak HTTP/1.1.
    speaks_http1: Cell<bool>,
    /// One connection at a time is made while it may turn out to serve many requests.
    making: Mutex<()>,
}

impl Pool {
    /// A connection that is there already and, as far as can be seen, alive.
    pub(super) async fn idle(&self) -> Option<Connection> {
        if let Some(connection) = self.free_http2() {
            return Some(Connection::Http2(connection));
        }
        loop {
            let (mut connection, since) = self.http1.borrow_mut().pop()?;
            connection.open.rest(false);
            let alive = poll_fn(|cx| Poll::Ready(connection.is_alive(cx))).await;
            if alive && since.elapsed() < IDLE {
                return Some(Connection::Http1(connection));
            }
        }
    }

    /// Makes a connection, or takes one that another request has just made.
    pub(super) async fn connect(
        &self,
        connector: &Connector,
        origin: &Origin,
    ) -> Result<Connection, Failure> {
        if !self.speaks_http1.get() && may_speak_http2(origin) {
            let first = self.making.lock().await;
            if let Some(connection) = self.free_http2() {
                return Ok(Connection::Http2(connection));
            }
            // Whoever made the connection before may have found that each serves one request.
            if !self.speaks_http1.get() {
                return connector.connect(origin).await.map(|made| self.made(made));
            }
            drop(first);
        }
        connector.connect(origin).await.map(|made| self.made(made))
    }

    fn made(&self, connection: Connection) -> Connection {
        self.speaks_http1.set(matches!(connection, Connection::Http1(_)));
        if let Connection::Http2(connection) = &connection {
            self.http2.borrow_mut().push(connection.share());
        }
        connection
    }

    /// Takes back a connection whose exchange ended well.
    pub(super) fn put_back(&self, connection: Http1) {
        let mut idle = self.http1.borrow_mut();
        if idle.len() < MAX_IDLE {
            connection.open.rest(true);
            idle.push((connection, Instant::now()));
        }
    }

    /// Closes the idle HTTP/1.1 connections: one of them was found closed.
    pub(super) fn forget_idle(&self) {
        self.http1.borrow_mut().clear();
    }

    fn free_http2(&self) -> Option<Http2> {
        let mut connections = self.http2.borrow_mut();
        if connections.is_empty() {
            return None;
        }
        connections.retain(Http2::is_alive);
        connections.iter().find(|connection| connection.has_room()).map(Http2::share)
    }

    fn sweep(&self, now: Instant) {
        self.http1.borrow_mut().retain(|(_, since)| now - *since < IDLE);
        self.http2
            .borrow_mut()
            .retain(|connection| connection.is_alive() && !connection.is_old(now));
    }

    fn is_empty(&self) -> bool {
        self.http1.borrow().is_empty() && self.http2.borrow().is_empty()
    }
}

/// Whether a connection may turn out to serve many requests.
fn may_speak_http2(origin: &Origin) -> bool {
    match origin.http {
        HttpVersions::Http1 => false,
        HttpVersions::Http2 => true,
        HttpVersions::Auto => origin.scheme == Scheme::Https,
    }
}
