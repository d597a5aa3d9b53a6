//! The numbers of what happens, from the workers that count it to the text for whoever asks.
//!
//! Each worker has a [`Shard`] of its own, in which it counts the records of its requests without a
//! lock and without memory for them. What stands rather than happens is looked at when the numbers
//! are asked for, and adding up is done then. The names and their meaning are in
//! [`metrics::catalogue`].

mod live;
mod models;
mod process;
mod series;
mod shard;
mod targets;
#[cfg(test)]
mod tests;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use console::store::now_ms;
use ledger::{Gauge, Ledger};
use metrics::{Exposition, Form};
use policy::Snapshot;
use relay::Gate;

use crate::alerts::{Alerts, Waiting};
use crate::books::Books;
use crate::limits::Connections;
use crate::log::{Backlog, RequestLog};
pub(crate) use shard::{Hub, Pooled, Shard};

/// How reading the configuration again went.
pub(crate) struct Reloads {
    applied: AtomicU64,
    refused: AtomicU64,
    succeeded: AtomicBool,
    at_ms: AtomicU64,
}

impl Reloads {
    /// The configuration of the start.
    pub(crate) fn new() -> Self {
        Self {
            applied: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            succeeded: AtomicBool::new(true),
            at_ms: AtomicU64::new(now_ms()),
        }
    }

    /// It was read again, and is used or not.
    pub(crate) fn note(&self, is_used: bool) {
        let count = if is_used { &self.applied } else { &self.refused };
        count.fetch_add(1, Relaxed);
        self.succeeded.store(is_used, Relaxed);
        if is_used {
            self.at_ms.store(now_ms(), Relaxed);
        }
    }
}

/// Everything that is told of.
pub(crate) struct Measure {
    /// What the workers count.
    pub(crate) hub: Arc<Hub>,
    /// How reading the configuration again went.
    pub(crate) reloads: Reloads,
    snapshot: Arc<ArcSwap<Snapshot>>,
    gate: Arc<Gate>,
    ledger: Option<Gauge>,
    log: Backlog,
    alerts: Arc<Waiting>,
    connections: Arc<Connections>,
    started: SystemTime,
}

impl Measure {
    /// Nothing counted yet, and everything that is looked at when somebody asks.
    pub(crate) fn new(
        snapshot: &Arc<ArcSwap<Snapshot>>,
        books: &Books,
        log: &RequestLog,
        alerts: &Alerts,
        connections: &Arc<Connections>,
    ) -> Self {
        let teams = snapshot.load().settings.metrics.teams;
        Self {
            hub: Arc::new(Hub::new(Arc::clone(snapshot), teams)),
            reloads: Reloads::new(),
            snapshot: Arc::clone(snapshot),
            gate: Arc::clone(&books.gate),
            ledger: books.ledger.as_ref().map(Ledger::gauge),
            log: log.backlog(),
            alerts: alerts.waiting(),
            connections: Arc::clone(connections),
            started: SystemTime::now(),
        }
    }

    /// All numbers as they are now.
    pub(crate) fn expose(&self, form: Form) -> String {
        let mut told = Exposition::new(form);
        told::requests(&mut told, &self.hub);
        live::tell(&mut told, self);
        process::tell(&mut told, self.started);
        told.finish()
    }
}
