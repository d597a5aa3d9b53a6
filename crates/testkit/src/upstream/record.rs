//! What the upstream remembers of the requests it received.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::control::Scripted;
use super::fast::Template;

/// How far the reply to a request got.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The `data:` events handed to the socket, the role event and `[DONE]` included.
    pub events_sent: usize,
    /// The script was played to its end.
    pub finished: bool,
    /// When it was noticed that the peer had closed or reset the connection before the script
    /// was played to its end.
    pub peer_left: Option<Instant>,
    /// The time from the arrival of the whole request to `peer_left`.
    pub left_after: Option<Duration>,
}

/// One request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers in their order, names as they were written.
    pub headers: Vec<(String, String)>,
    /// The body with the chunked coding taken off.
    pub body: Bytes,
    /// The number of the connection, counted from 1.
    pub connection: u64,
    /// The number of the request over all connections, counted from 0.
    pub order: u64,
    /// When the whole request had arrived.
    pub at: Instant,
    /// How far the reply got.
    pub outcome: Outcome,
}

impl Received {
    /// The first header of this name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as JSON; `Null` when it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text, with bytes that are not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The form in which `GET /__record` shows the request.
    pub(crate) fn to_json(&self) -> Value {
        let headers: Vec<Value> =
            self.headers.iter().map(|(name, value)| json!([name, value])).collect();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        json!({
            "method": self.method,
            "target": self.target,
            "headers": headers,
            "body": self.text(),
            "body_bytes": self.body.len(),
            "connection": self.connection,
            "order": self.order,
            "events_sent": self.outcome.events_sent,
            "finished": self.outcome.finished,
            "peer_left": self.outcome.peer_left.is_some(),
            "left_after_ms": self.outcome.left_after.map(millis),
        })
    }
}

/// What all connections of one upstream share.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) record: bool,
    pub(crate) tls: bool,
    pub(crate) port: u16,
    received: Mutex<Vec<Received>>,
    next: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    scripts: Mutex<HashMap<String, Scripted>>,
    templates: Mutex<HashMap<Vec<u8>, Arc<Template>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(crate) fn new(record: bool, tls: bool, port: u16) -> Self {
        Self { record, tls, port, ..Self::default() }
    }

    /// Everything received so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        lock(&self.received).clone()
    }

    pub(crate) fn clear(&self) {
        lock(&self.received).clear();
    }

    /// Remembers a request and returns the number by which its outcome is told.
    pub(crate) fn add(&self, mut received: Received) -> u64 {
        let order = self.next.fetch_add(1, Ordering::Relaxed);
        received.order = order;
        if self.record {
            lock(&self.received).push(received);
        }
        order
    }

    /// Changes the outcome of a request, unless it was cleared away meanwhile.
    pub(crate) fn update(&self, order: u64, change: impl FnOnce(&mut Received)) {
        if self.record
            && let Some(entry) = lock(&self.received).iter_mut().rev().find(|r| r.order == order)
        {
            change(entry);
        }
    }

    pub(crate) fn scripts(&self) -> MutexGuard<'_, HashMap<String, Scripted>> {
        lock(&self.scripts)
    }

    pub(crate) fn templates(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<Template>>> {
        lock(&self.templates)
    }
}

/// The running outcome of one request. What is about to be written is noted before it is
/// written and taken back when the peer has left, so that whoever has read a reply finds it noted.
pub(crate) struct Ticket {
    pub(crate) state: Arc<State>,
    pub(crate) order: u64,
}

impl Ticket {
    /// Notes that `count` more events go to the socket.
    pub(crate) fn sends(&self, count: usize) {
        self.state.update(self.order, |entry| entry.outcome.events_sent += count);
    }

    /// Takes back that `count` events went to the socket.
    pub(crate) fn unsent(&self, count: usize) {
        self.state.update(self.order, |entry| entry.outcome.events_sent -= count);
    }

    /// Notes that the last bytes of the script go to the socket.
    pub(crate) fn finishes(&self) {
        self.state.update(self.order, |entry| entry.outcome.finished = true);
    }

    /// Notes that the peer left before the end.
    pub(crate) fn left(&self) {
        let now = Instant::now();
        self.state.update(self.order, |entry| {
            entry.outcome.finished = false;
            entry.outcome.peer_left = Some(now);
            entry.outcome.left_after = Some(now.duration_since(entry.at));
        });
    }
}
