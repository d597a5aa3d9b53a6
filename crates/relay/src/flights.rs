//! The answers that can be shared: those under way, and those that are kept for a while. One for the
//! process, shared by its workers.
//!
//! Locks are taken in one order: the map's, then an answer's.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use policy::key::{Digest, DigestMap};
use tokio::time::Instant;

use crate::flight::{ENTRY, Ended, Flight, Head, Over, Reader, Room};

/// What tells answers that can be shared from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// Who may share it, and under what name.
    pub(crate) key: Digest,
    /// What was asked. Another question under the same key is a mistake.
    pub(crate) question: Digest,
    /// How long the answer is kept; `None` for no longer than it is under way.
    pub(crate) keep: Option<Duration>,
    /// Bytes of all answers together.
    pub(crate) size: usize,
}

/// See the [module](self).
#[derive(Default)]
pub struct Flights {
    shelf: Mutex<Shelf>,
    room: Arc<Room>,
}

#[derive(Default)]
struct Shelf {
    by_key: DigestMap<Entry>,
    /// Those that have ended, the oldest first, and until when they are kept.
    kept: VecDeque<(Instant, Digest)>,
}

struct Entry {
    question: Digest,
    flight: Arc<Flight>,
}

/// What becomes of one who asks.
pub(crate) enum Taken {
    /// Nobody has asked before: to lead, and to read like anyone else.
    Lead(Leader, Reader),
    /// To read an answer that is there or under way.
    Join(Reader),
    /// The key belongs to another question.
    Reused,
    /// There is no room: to go alone.
    Full,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether there is such an answer; if not, there is one from now on.
    pub(crate) fn take(self: &Arc<Self>, mark: &Mark, now: Instant) -> Taken {
        let mut shelf = self.lock();
        shelf.forget_oldest(now);
        if let Some(entry) = shelf.by_key.get(&mark.key) {
            if entry.question != mark.question && entry.flight.is_open() {
                return Taken::Reused;
            }
            if let Some(reader) = entry.flight.join() {
                return Taken::Join(reader);
            }
            // Its beginning is gone, or nobody waits for it any more: another one takes its place.
        }
        if !shelf.make_room(ENTRY, mark.size, &self.room) {
            return Taken::Full;
        }
        let flight = Flight::new(mark.keep.is_some(), &self.room);
        let Some(reader) = flight.join() else { return Taken::Full };
        let entry = Entry { question: mark.question, flight: Arc::clone(&flight) };
        shelf.by_key.insert(mark.key, entry);
        drop(shelf);
        Taken::Lead(
            Leader { flights: Arc::clone(self), flight, mark: *mark, is_over: false },
            reader,
        )
    }

    /// Forgets answers whose time is over. To be called every now and then.
    pub fn sweep(&self) {
        self.lock().forget_all(Instant::now());
    }

    /// Whether so many bytes more can be held.
    fn has_room(&self, bytes: usize, size: usize) -> bool {
        self.room.held() + bytes <= size || self.lock().make_room(bytes, size, &self.room)
    }

    /// Keeps an answer that has ended, or takes it off.
    fn settle(&self, mark: &Mark, flight: &Arc<Flight>, keep: bool) {
        let mut shelf = self.lock();
        let entry = shelf.by_key.get(&mark.key);
        if !entry.is_some_and(|entry| Arc::ptr_eq(&entry.flight, flight)) {
            return;
        }
        match mark.keep.filter(|_| keep) {
            Some(time) => shelf.kept.push_back((Instant::now() + time, mark.key)),
            None => {
                shelf.by_key.remove(&mark.key);
            }
        }
    }
}

impl Shelf {
    /// Forgets the oldest of those that are kept, as far as their time is over.
    fn forget_oldest(&mut self, now: Instant) {
        while let Some((_, key)) = self.kept.pop_front_if(|(until, _)| *until <= now) {
            self.by_key.remove(&key);
        }
    }

    /// Forgets all whose time is over: after a reload some may be kept for a shorter time than those
    /// before them.
    fn forget_all(&mut self, now: Instant) {
        let Self { by_key, kept } = self;
        kept.retain(|(until, key)| {
            let stays = *until > now;
            if !stays {
                by_key.remove(key);
            }
            stays
        });
    }

    /// Makes room for so many bytes, at the cost of what was kept longest and nobody reads now.
    fn make_room(&mut self, bytes: usize, size: usize, room: &Room) -> bool {
        while room.held() + bytes > size {
            let is_unread = |(_, key): &(Instant, Digest)| {
                let entry = self.by_key.get(key);
                entry.is_none_or(|entry| Arc::strong_count(&entry.flight) == 1)
            };
            let Some(oldest) = self.kept.iter().position(is_unread) else { return false };
            if let Some((_, key)) = self.kept.remove(oldest) {
                self.by_key.remove(&key);
            }
        }
        true
    }
}

/// The one who writes an answer. If it is dropped before the end, the answer is lost.
pub(crate) struct Leader {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    mark: Mark,
    is_over: bool,
}

impl Leader {
    /// Drives a call until it has ended, or until nobody is left who wants its answer.
    pub(crate) async fn drive(flight: Arc<Flight>, call: impl Future<Output = ()>) {
        let mut call = pin!(call);
        poll_fn(|cx| match flight.poll_lost(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => call.as_mut().poll(cx),
        })
        .await;
    }

    /// What it writes.
    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Passes on the head.
    pub(crate) fn begin(&self, head: Head) {
        self.flight.begin(head);
    }

    /// Ready when more may be written.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.flight.poll_room(cx)
    }

    /// Passes on bytes, and how the answer ended, if that is known by then.
    pub(crate) fn write(&self, data: &[u8], ended: Option<Ended>) {
        let fits = self.flights.has_room(data.len(), self.mark.size);
        self.flight.write(data, ended, fits);
    }

    /// Passes on that no more will come. The answer is kept if it is `worth` that, and if that was
    /// wanted.
    pub(crate) fn end(mut self, over: Over, ended: Option<Ended>, worth: bool) {
        self.finish(over, ended, worth);
    }

    fn finish(&mut self, over: Over, ended: Option<Ended>, worth: bool) {
        self.is_over = true;
        let keep = self.flight.end(over, ended, worth && self.mark.keep.is_some());
        self.flights.settle(&self.mark, &self.flight, keep);
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.is_over {
            self.finish(Over::Lost, None, false);
        }
    }
}
