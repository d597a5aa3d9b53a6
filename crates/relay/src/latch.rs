//! A signal that is given once, to everything on a worker that waits for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// Set once, for good: "stop accepting", "end what still runs".
#[derive(Debug, Default)]
pub struct Latch {
    set: Cell<bool>,
    /// One for each [`Waiter`] that waits: as many as there are connections and streams.
    waiting: RefCell<Slab<Waker>>,
}

impl Latch {
    /// Wakes whoever waits, now and from now on.
    pub fn set(&self) {
        self.set.set(true);
        for (_, waker) in self.waiting.borrow().iter() {
            waker.wake_by_ref();
        }
    }

    /// Whether it was set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.get()
    }
}

/// A place among those that wait. Keeps its waker beside it, so that waiting again, as a stream
/// does after every event, touches nothing of the others'.
#[derive(Debug)]
pub struct Waiter {
    latch: Rc<Latch>,
    registered: Option<(usize, Waker)>,
}

impl Waiter {
    /// Waits for `latch`, from the first poll on.
    #[must_use]
    pub fn new(latch: Rc<Latch>) -> Self {
        Self { latch, registered: None }
    }

    /// Whether the latch was set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.latch.is_set()
    }

    /// Ready once the latch was set; until then the task is woken when it is.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.latch.is_set() {
            return Poll::Ready(());
        }
        let known = self.registered.as_ref();
        if !known.is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            self.leave();
            let place = self.latch.waiting.borrow_mut().insert(cx.waker().clone());
            self.registered = Some((place, cx.waker().clone()));
        }
        Poll::Pending
    }

    fn leave(&mut self) {
        if let Some((place, _)) = self.registered.take() {
            self.latch.waiting.borrow_mut().try_remove(place);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.leave();
    }
}
