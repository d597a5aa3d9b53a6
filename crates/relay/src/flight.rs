//! An answer that is written once, by a leader, and read by many.
//!
//! The leader's call is driven by a task of its own. Whoever gets the answer, the first caller too,
//! reads it here: from the beginning, and then as it comes. Readers may be on any worker; what they
//! share is behind a mutex that is held for a copy at most.
//!
//! As long as the beginning is there, the leader writes at the provider's pace, and others may join.
//! An answer that grows too large loses its beginning: nobody may join any more, and the leader
//! waits for the slowest of those who read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use policy::Route;
use slab::Slab;

use crate::record::Outcome;

#[cfg(test)]
mod tests;
mod text;

use text::Text;

/// Bytes of an answer that are kept from its beginning on. A larger one cannot be joined any more,
/// nor kept.
pub(crate) const MOST: usize = 4 << 20;
/// Bytes that the leader is ahead of the slowest reader at most, once the beginning is gone.
const AHEAD: u64 = 128 << 10;
/// Answers under way at once that nobody reads, in the whole process: their callers have left, and
/// may come again.
const MOST_UNREAD: usize = 1024;
/// What an answer is counted as in memory beside its bytes and headers.
pub(crate) const ENTRY: usize = 1 << 10;

/// What all answers take of the process.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Bytes that are held.
    held: AtomicUsize,
    /// Answers under way that nobody reads.
    unread: AtomicUsize,
}

impl Room {
    /// Bytes that are held.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts one more that nobody reads, unless there are too many.
    fn leave_unread(&self) -> bool {
        let count = |count: usize| (count < MOST_UNREAD).then_some(count + 1);
        self.unread.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
    }

    fn read_again(&self) {
        self.unread.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What stands before the bytes of an answer.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The length of the body, if that is known.
    pub(crate) length: Option<u64>,
    /// The model that was asked in the end, by its public name.
    pub(crate) model: Box<str>,
    /// Where it was asked.
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) stream: bool,
    /// No provider was asked.
    pub(crate) is_refusal: bool,
}

impl Head {
    fn held(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        headers.sum::<usize>() + self.model.len()
    }
}

/// How the leader's request was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) fault: Option<&'static str>,
}

/// That no more bytes will come, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Over {
    /// The body has ended, well or with words about why not.
    Whole,
    /// The body broke off, in these words.
    Broken(Box<str>),
    /// The leader is gone, without a word.
    Lost,
}

/// See the [module](self).
pub(crate) struct Flight {
    /// Whether it goes on though nobody reads it.
    lasts: bool,
    room: Arc<Room>,
    state: Mutex<State>,
}

struct State {
    head: Option<Arc<Head>>,
    text: Text,
    /// How it ended, once that is decided; the last bytes may still be on their way.
    ended: Option<Ended>,
    over: Option<Over>,
    /// Others may join: it is all there, as far as it has come.
    is_open: bool,
    /// It is counted among those that nobody reads.
    is_unread: bool,
    readers: Slab<Seat>,
    leader: Option<Waker>,
    /// What it is counted as in memory.
    counted: usize,
}

/// One reader.
struct Seat {
    /// Where it reads on.
    place: u64,
    waker: Option<Waker>,
}

impl State {
    /// Where the slowest reader is; where the bytes end, if there is none.
    fn slowest(&self) -> u64 {
        let places = self.readers.iter().map(|(_, seat)| seat.place);
        places.min().unwrap_or_else(|| self.text.end())
    }

    /// Lets go of what everybody has, once the beginning need not be there.
    fn trim(&mut self, room: &Room) {
        if !self.is_open {
            let bytes = self.text.let_go(self.slowest());
            self.counted -= bytes;
            room.give_back(bytes);
        }
    }

    fn count(&mut self, bytes: usize, room: &Room) {
        self.counted += bytes;
        room.take(bytes);
    }

    /// Those who wait for more.
    fn waiting(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().filter_map(|(_, seat)| seat.waker.take()).collect()
    }
}

impl Flight {
    /// An answer of which nothing is there yet. It is under way as long as somebody reads it, or, if
    /// it `lasts`, to its end.
    pub(crate) fn new(lasts: bool, room: &Arc<Room>) -> Arc<Self> {
        room.take(ENTRY);
        let state = State {
            head: None,
            text: Text::default(),
            ended: None,
            over: None,
            is_open: true,
            is_unread: false,
            readers: Slab::new(),
            leader: None,
            counted: ENTRY,
        };
        Arc::new(Self { lasts, room: Arc::clone(room), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that readers wait for, and wakes them.
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.lock();
            change(&mut state);
            state.waiting()
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether others may join.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// One more reader, from the beginning on; `None` if others may not join any more.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if !state.is_open {
            return None;
        }
        if std::mem::take(&mut state.is_unread) {
            self.room.read_again();
        }
        let seat = state.readers.insert(Seat { place: 0, waker: None });
        Some(Reader { flight: Arc::clone(self), seat })
    }

    /// The head is there.
    pub(crate) fn begin(&self, head: Head) {
        self.tell(|state| {
            state.count(head.held(), &self.room);
            state.head = Some(Arc::new(head));
        });
    }

    /// More bytes are there, and perhaps it is decided how the answer ends. `fits` says whether
    /// there is room to keep them.
    pub(crate) fn write(&self, data: &[u8], ended: Option<Ended>, fits: bool) {
        self.tell(|state| {
            if !fits || state.text.held() + data.len() > MOST {
                state.is_open = false;
            }
            state.text.push(data);
            state.count(data.len(), &self.room);
            state.ended = state.ended.or(ended);
            state.trim(&self.room);
        });
    }

    /// Nothing more will come. Says whether others may join from now on: if that is wanted, and all
    /// of it is there.
    pub(crate) fn end(&self, over: Over, ended: Option<Ended>, keep: bool) -> bool {
        let mut is_open = false;
        self.tell(|state| {
            state.ended = state.ended.or(ended);
            state.over.get_or_insert(over);
            state.text.close();
            state.is_open &= keep;
            if std::mem::take(&mut state.is_unread) {
                self.room.read_again();
            }
            state.trim(&self.room);
            is_open = state.is_open;
        });
        is_open
    }

    /// Ready when there is nobody left to lead for.
    pub(crate) fn poll_lost(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let goes_on = !state.readers.is_empty() || (self.lasts && state.is_open);
        if state.over.is_some() || goes_on {
            state.leader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.is_open = false;
        Poll::Ready(())
    }

    /// Ready when more may be written.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_open || state.text.end() - state.slowest() < AHEAD {
            return Poll::Ready(());
        }
        state.leader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// A reader has left.
    fn leave(&self, seat: usize) {
        let mut state = self.lock();
        state.readers.remove(seat);
        if state.readers.is_empty() && state.over.is_none() {
            state.is_open &= self.lasts;
            if state.is_open && !self.room.leave_unread() {
                state.is_open = false;
            }
            state.is_unread = state.is_open;
        }
        state.trim(&self.room);
        let leader = state.leader.take();
        drop(state);
        if let Some(leader) = leader {
            leader.wake();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let counted = self.lock().counted;
        self.room.give_back(counted);
    }
}

/// One who reads an answer from its beginning. Dropping it leaves.
pub(crate) struct Reader {
    flight: Arc<Flight>,
    seat: usize,
}

/// What a reader finds next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Bytes; with the last of them, how the answer ended, if that is known by then.
    Data(Bytes, Option<Ended>),
    /// No more, and how the answer ended, if that is known.
    Over(Over, Option<Ended>),
}

impl Reader {
    /// The head, or that the leader was lost before it was there.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Arc<Head>, Over>> {
        let mut state = self.flight.lock();
        if let Some(head) = &state.head {
            return Poll::Ready(Ok(Arc::clone(head)));
        }
        if let Some(over) = &state.over {
            return Poll::Ready(Err(over.clone()));
        }
        self.wait(&mut state, cx);
        Poll::Pending
    }

    /// What comes next. The last bytes of a body whose length is known wait until it is known how
    /// the answer ended: nobody asks for more behind them.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.flight.lock();
        let Some(place) = state.readers.get(self.seat).map(|seat| seat.place) else {
            return Poll::Ready(Next::Over(Over::Lost, None));
        };
        let data = state.text.from(place);
        let next = place + data.len() as u64;
        if data.is_empty() {
            if let Some(over) = &state.over {
                return Poll::Ready(Next::Over(over.clone(), state.ended));
            }
            self.wait(&mut state, cx);
            return Poll::Pending;
        }
        let length = state.head.as_ref().and_then(|head| head.length);
        if length == Some(next) && state.ended.is_none() && state.over.is_none() {
            self.wait(&mut state, cx);
            return Poll::Pending;
        }
        let ended = state.ended.filter(|_| next == state.text.end());
        if let Some(seat) = state.readers.get_mut(self.seat) {
            seat.place = next;
        }
        let mut leader = None;
        if !state.is_open {
            state.trim(&self.flight.room);
            leader = state.leader.take();
        }
        drop(state);
        if let Some(leader) = leader {
            leader.wake();
        }
        Poll::Ready(Next::Data(data, ended))
    }

    fn wait(&self, state: &mut State, cx: &mut Context<'_>) {
        if let Some(seat) = state.readers.get_mut(self.seat) {
            seat.waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.flight.leave(self.seat);
    }
}
