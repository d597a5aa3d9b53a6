//! The signal that what still runs on a connection has to end, because the process is stopping.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// Set once, for all streams of one connection. Streams that wait are woken.
#[derive(Debug, Default)]
pub struct Shed {
    set: Cell<bool>,
    /// Streams that wait, and some that have ended since.
    waiting: RefCell<Vec<Waker>>,
}

/// Wakers above which those of ended streams are cleared out.
const MANY: usize = 1024;

impl Shed {
    /// From now on, streams end with an error.
    pub fn set(&self) {
        self.set.set(true);
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Whether streams have to end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Has a waiting stream woken when it has to end.
    pub(crate) fn wake_later(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MANY {
            // Whoever still waits is woken and comes back.
            waiting.drain(..).for_each(Waker::wake);
        }
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}
