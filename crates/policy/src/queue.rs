//! Requests that wait for room at the targets of their model, in an order that is fair.
//!
//! A [`FairQueue`] says who is next. A [`Line`] is one that all workers share: whoever is next is
//! woken when something becomes free, tries, and goes or stays. A [`Bell`] tells the lines of a
//! provider that something has become free there.

mod config;
mod fair;
mod line;

use std::sync::Arc;
use std::time::Duration;

pub use config::QueueConfig;
pub use fair::{FairQueue, Full, PATIENCE, Priority};
pub use line::{Bell, Line};

/// How long and how many requests may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How long one waits at the most.
    pub wait: Duration,
    /// How many wait at the most.
    pub most: usize,
}

/// The queue of a model.
#[derive(Debug)]
pub struct Queue {
    /// How long, and how many.
    pub waiting: Waiting,
    /// Who waits. Goes on over reloads.
    pub line: Arc<Line>,
}
