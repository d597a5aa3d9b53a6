//! Driving a connection from inside the task that waits for it.
//!
//! The connection and what reads from it talk to each other through channels, and each wakes the
//! other: within one task that is the task waking itself, again and again. So the connection gets
//! a waker of its own, which notes that something happened and passes it on to the task only when
//! it came from outside. A connection to which nothing happened is not polled at all.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The future that moves a connection's bytes.
pub(super) type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

/// A connection and the means to drive it.
pub(super) struct Driver {
    /// `None` once it has ended.
    connection: Option<Connection>,
    signal: Arc<Signal>,
    waker: Waker,
    /// The task that waits, as the signal has it.
    task: Waker,
    /// What waited had nothing to go on with, and nothing has happened since unless the signal says
    /// so.
    quiet: bool,
}

struct Signal {
    /// Something happened since the connection last had nothing to do.
    happened: AtomicBool,
    /// The task is polling right now and will look at `happened` itself.
    polling: AtomicBool,
    /// The task that waits.
    task: Mutex<Waker>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.happened.store(true, Ordering::Release);
        if !self.polling.load(Ordering::Acquire) {
            self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

impl Driver {
    pub(super) fn new(connection: Connection) -> Self {
        let signal = Arc::new(Signal {
            happened: AtomicBool::new(true),
            polling: AtomicBool::new(false),
            task: Mutex::new(Waker::noop().clone()),
        });
        let waker = Waker::from(Arc::clone(&signal));
        Self {
            connection: Some(connection),
            signal,
            waker,
            task: Waker::noop().clone(),
            quiet: false,
        }
    }

    /// Whether the connection has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Polls what waits for the connection, `waiting`, and the connection in turn, until neither
    /// can go on without something from outside. `waiting` is given the connection's failure, if
    /// it has just failed, and must need no waker but the connection's.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut waiting: impl FnMut(Option<hyper::Error>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.task.will_wake(cx.waker()) {
            self.task.clone_from(cx.waker());
            let mut task = self.signal.task.lock().unwrap_or_else(PoisonError::into_inner);
            task.clone_from(cx.waker());
        } else if self.quiet && !self.signal.happened.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.signal.polling.store(true, Ordering::Release);
        let result = loop {
            let failure = self.advance();
            let result = waiting(failure);
            // A connection that has ended leaves what happened last for nobody to look at.
            let more = self.is_open() && self.signal.happened.load(Ordering::Acquire);
            if result.is_ready() || !more {
                break result;
            }
        };
        self.signal.polling.store(false, Ordering::Release);
        self.quiet = result.is_pending();
        result
    }

    /// Lets the connection notice what has happened to it.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) {
        let _ = self.poll(cx, |_| Poll::<()>::Pending);
        self.quiet = false;
    }

    /// Lets the connection read and write what it can.
    fn advance(&mut self) -> Option<hyper::Error> {
        let connection = self.connection.as_mut()?;
        if !self.signal.happened.swap(false, Ordering::AcqRel) {
            return None;
        }
        match connection.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => None,
            Poll::Ready(end) => {
                self.connection = None;
                end.err()
            }
        }
    }
}
