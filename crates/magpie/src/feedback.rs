//! Feedback: finding the request that it is on, and whose that is.
//!
//! The ledger is asked before anything is written down, so that whoever may not see a request gets
//! the same answer as for one that is not there. What has just ended may still be in the journal
//! alone; then the journal is shipped at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ledger::{Attempt, Flusher, Ledger, Reader, RequestId, Whole};
use policy::directory::{Chain, Kind};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Requests that are looked for at once, by all workers; each takes a thread for some milliseconds.
const AT_ONCE: usize = 4;
/// How long feedback waits to be one of them, and to be answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// Labels that one request can have, as far as the ledger knows them, which is a second behind.
const MAX_LABELS: usize = 16;

/// Finds requests in the ledger. One for the process.
#[derive(Clone)]
pub(crate) struct Finder {
    database: PathBuf,
    flusher: Flusher,
    permits: Arc<Semaphore>,
}

/// A request that feedback can be on.
pub(crate) struct Found {
    /// When it ended.
    pub(crate) ended_ms: u64,
    whole: Whole,
}

impl Finder {
    pub(crate) fn new(ledger: &Ledger) -> Self {
        Self {
            database: ledger.database().to_owned(),
            flusher: ledger.flusher(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// A request that is over; `None` if there is none of this id.
    ///
    /// # Errors
    /// If the ledger cannot be asked, or does not answer in time.
    pub(crate) async fn find(self, id: RequestId) -> Result<Option<Found>, ()> {
        let permits = Arc::clone(&self.permits);
        let asking = async {
            let permit = permits.acquire_owned().await.map_err(|_| ())?;
            let look = move || {
                // Held until the look is over, even if nobody waits for it any more.
                let _permit = permit;
                self.look(id)
            };
            spawn_blocking(look).await.map_err(|_| ())?.map_err(|_| ())
        };
        timeout(PATIENCE, asking).await.map_err(|_| ())?
    }

    fn look(&self, id: RequestId) -> ledger::Result<Option<Found>> {
        let reader = Reader::open(&self.database)?;
        if let Some(found) = reader.request(id)?.and_then(Found::new) {
            return Ok(Some(found));
        }
        self.flusher.flush()?;
        Ok(reader.request(id)?.and_then(Found::new))
    }
}

impl Found {
    /// Nothing, as long as the request is not over.
    fn new(whole: Whole) -> Option<Self> {
        let last = &whole.request.last;
        last.last_of.is_some().then_some(Self { ended_ms: last.ended_ms, whole })
    }

    /// Whether a caller may say what it thinks: about requests of its own key, its user or its team.
    /// Of nobody's requests, everyone who is nobody may.
    pub(crate) fn is_of(&self, caller: &Chain) -> bool {
        let last: &Attempt = &self.whole.request.last;
        let levels = [(Kind::Key, &last.key), (Kind::User, &last.user), (Kind::Team, &last.team)];
        let is_nobodys = levels.iter().all(|(_, id)| id.is_empty()) && last.org.is_empty();
        let shares = |(kind, id): (Kind, &String)| {
            caller.id(kind).is_some_and(|own| !id.is_empty() && **own == **id)
        };
        match caller.levels().next() {
            None => is_nobodys,
            Some(_) => levels.into_iter().any(shares),
        }
    }

    /// Whether there is room for this label.
    pub(crate) fn has_room(&self, label: &str) -> bool {
        let given = &self.whole.feedback;
        given.len() < MAX_LABELS || given.iter().any(|rating| rating.label == label)
    }
}
