//! How many connections there are, and how many of them nobody uses.

use std::cell::Cell;
use std::sync::Arc;

use crate::measure::Pooled;

/// A connection, counted as long as it lives. On the thread of its worker alone.
pub(super) struct Open {
    pooled: Arc<Pooled>,
    is_idle: Cell<bool>,
}

impl Open {
    /// A connection that was just made, for somebody who uses it.
    pub(super) fn new(pooled: &Arc<Pooled>) -> Self {
        pooled.open.add(1);
        pooled.opened.add(1);
        Self { pooled: Arc::clone(pooled), is_idle: Cell::new(false) }
    }

    /// Nobody uses it now, or somebody does.
    pub(super) fn rest(&self, is_idle: bool) {
        match (self.is_idle.replace(is_idle), is_idle) {
            (false, true) => self.pooled.idle.add(1),
            (true, false) => self.pooled.idle.sub(1),
            _ => {}
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.rest(false);
        self.pooled.open.sub(1);
    }
}
