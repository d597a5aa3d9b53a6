//! A queue that all workers share, under a lock that is held for moments.
//!
//! Whoever is next gets a turn: it tries to be admitted, and says whether it was. Only one has a
//! turn at a time, so that what became free is for whom it is meant. A turn that succeeds is
//! followed by the next, as more may have become free; one that fails by the next sign that
//! something has ([`Line::ring`]). A sign that comes during a turn is remembered, so none is lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use super::fair::{FairQueue, Full, Priority};

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Line {
    inner: Mutex<Inner>,
    /// How many wait.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    queue: FairQueue<Option<Waker>>,
    /// Who has the turn.
    turn: Option<u64>,
    /// Something became free during the turn.
    rung: bool,
}

impl Inner {
    /// Gives the turn to whoever is next. Says whom to wake, once the lock is gone.
    fn next(&mut self) -> Option<Waker> {
        self.rung = false;
        self.turn = self.queue.head();
        self.queue.get_mut(self.turn?)?.take()
    }
}

impl Line {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in a request, if no more than `most` wait with it, and says its number. The first has
    /// the turn at once: what became free since it was refused has told nobody.
    ///
    /// # Errors
    /// [`Full`].
    pub fn join(&self, priority: Priority, tenant: &Arc<str>, most: usize) -> Result<u64, Full> {
        let mut inner = self.lock();
        let was_empty = inner.queue.is_empty();
        let number = inner.queue.push(priority, tenant, None, most)?;
        if was_empty {
            inner.turn = Some(number);
        }
        self.counted(&inner);
        Ok(number)
    }

    /// Whether it has the turn; until then `waker` is woken when it gets it.
    pub fn has_turn(&self, number: u64, waker: &Waker) -> bool {
        let mut inner = self.lock();
        if inner.turn == Some(number) {
            return true;
        }
        if let Some(known) = inner.queue.get_mut(number)
            && !known.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            *known = Some(waker.clone());
        }
        false
    }

    /// Its turn has succeeded: it goes.
    pub fn admitted(&self, number: u64) {
        self.change(|inner| {
            inner.queue.serve(number)?;
            inner.next()
        });
    }

    /// Its turn has failed: it stays where it is.
    pub fn refused(&self, number: u64) {
        self.change(|inner| {
            if inner.turn != Some(number) {
                return None;
            }
            inner.turn = None;
            if inner.rung { inner.next() } else { None }
        });
    }

    /// It does not wait any longer, whatever it was about to do. Whoever is next tries, for it may
    /// have had the turn, or been the one who knew when to try again.
    pub fn leave(&self, number: u64) {
        self.change(|inner| {
            inner.queue.remove(number)?;
            match inner.turn {
                Some(other) if other != number => None,
                _ => inner.next(),
            }
        });
    }

    /// Something may have become free: whoever is next tries.
    pub fn ring(&self) {
        self.change(|inner| {
            if inner.turn.is_some() {
                inner.rung = true;
                return None;
            }
            inner.next()
        });
    }

    /// Changes the queue, and wakes whoever has the turn by that.
    fn change(&self, change: impl FnOnce(&mut Inner) -> Option<Waker>) {
        let mut inner = self.lock();
        let woken = change(&mut inner);
        self.counted(&inner);
        drop(inner);
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    fn counted(&self, inner: &Inner) {
        self.count.store(inner.queue.len(), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the lines of models that have targets at a provider when something becomes free there.
#[derive(Debug, Default)]
pub struct Bell {
    lines: Mutex<Vec<Weak<Line>>>,
    is_heard: AtomicBool,
}

impl Bell {
    /// Lets a line hear it.
    pub(crate) fn add(&self, line: &Arc<Line>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|known| known.strong_count() > 0);
        if !lines.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(line))) {
            lines.push(Arc::downgrade(line));
        }
        self.is_heard.store(true, Relaxed);
    }

    /// Whether any model has a queue that hears it.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.is_heard.load(Relaxed)
    }

    /// Something has become free.
    pub fn ring(&self) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter().filter_map(Weak::upgrade) {
            line.ring();
        }
    }
}
