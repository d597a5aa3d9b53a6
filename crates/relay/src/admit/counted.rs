//! What counts a request as such, whatever attempts are made of it.

use std::sync::Arc;

use policy::directory::Kind;
use policy::limit::{Counter, Meter};

use super::Admission;

/// The limits on requests, and on requests at once, that a request was taken from: once each, by the
/// first attempt that they count for. Dropped with the last of its attempts, it gives back what they
/// hold.
#[derive(Default)]
pub(crate) struct Counted {
    taken: Vec<(Arc<Counter>, u64)>,
    at_ns: u64,
    /// That there was a request stays counted.
    stays: bool,
}

impl Counted {
    /// Whether a limit of such a holder counts requests, and not what becomes of them.
    pub(super) fn is_counted_by(kind: Kind, meter: Meter) -> bool {
        kind != Kind::Provider && matches!(meter, Meter::Requests | Meter::Concurrency)
    }

    /// Whether the request was taken from it.
    pub(super) fn has(&self, counter: &Arc<Counter>) -> bool {
        self.taken.iter().any(|(known, _)| Arc::ptr_eq(known, counter))
    }

    /// Takes over what an attempt was the first to take.
    pub(crate) fn add(&mut self, admission: &mut Admission) {
        self.at_ns = admission.at.ns;
        self.taken.append(&mut admission.of_request);
    }

    /// The request has come so far that it stays counted when it is over.
    pub(crate) fn stays(&mut self) {
        self.stays = true;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for (counter, taken) in self.taken.drain(..) {
            let is_kept = self.stays && counter.limit().meter == Meter::Requests;
            counter.settle(taken, if is_kept { taken } else { 0 }, self.at_ns);
        }
    }
}
