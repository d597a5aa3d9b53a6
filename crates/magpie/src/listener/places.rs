//! Room for handshakes: when it is full, who has been at it longest has to go.
//!
//! Who dawdles would otherwise keep everybody else out. An honest client needs one round trip, and
//! is gone again before so many others have come.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A number of places.
pub(super) struct Places {
    count: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// In the order of coming. Who is dropped here learns it by that.
    held: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One place, until it is dropped.
struct Place<'a> {
    number: u64,
    places: &'a Places,
}

impl Places {
    /// So many places.
    pub(super) fn new(count: usize) -> Self {
        Self { count, taken: Mutex::default() }
    }

    /// Does something in a place; `None` if it had to be given up before the end.
    pub(super) async fn within<T>(&self, doing: impl Future<Output = T>) -> Option<T> {
        let (_place, given_up) = self.take();
        tokio::select! {
            biased;
            done = doing => Some(done),
            _ = given_up => None,
        }
    }

    fn take(&self) -> (Place<'_>, oneshot::Receiver<()>) {
        let (sender, given_up) = oneshot::channel();
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        if taken.held.len() >= self.count {
            taken.held.pop_first();
        }
        taken.held.insert(number, sender);
        (Place { number, places: self }, given_up)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.taken().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn who_has_been_there_longest_gives_way() {
        let places = Places::new(2);
        let dawdler = places.within(pending::<()>());
        let mut dawdler = std::pin::pin!(dawdler);
        let waiting = async {
            tokio::select! { biased; out = &mut dawdler => out, () = ready(()) => Some(()) }
        };
        assert_eq!(waiting.await, Some(()), "it has not been asked to go");
        for _ in 0..5 {
            assert_eq!(places.within(ready(7)).await, Some(7));
        }
        let (first, second) = (places.take(), places.take());
        assert_eq!(dawdler.await, None);
        assert_eq!(places.taken().held.len(), 2);
        drop((first, second));
        assert_eq!(places.taken().held.len(), 0);
    }
}
