//! Forcing the journal to the disk, many records at a time.

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::journal::{Shared, Sync, lock};
use crate::tail::{Pending, Tail};

/// How long to wait before a disk that failed is tried again.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Ready when the records written before it was made are on the disk.
pub struct Durable(Option<(Arc<Mutex<Tail>>, u64)>);

impl Durable {
    pub(crate) fn now() -> Self {
        Self(None)
    }

    pub(crate) fn when(tail: &Arc<Mutex<Tail>>) -> Self {
        let end = lock(tail).end();
        Self(Some((Arc::clone(tail), end)))
    }
}

impl Future for Durable {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &self.0 {
            Some((tail, end)) if !lock(tail).is_synced(*end, context.waker()) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

/// Wakes the thread that syncs.
#[derive(Clone, Default)]
pub(crate) struct Bell(Arc<(Mutex<Rung>, Condvar)>);

#[derive(Clone, Copy, Default)]
struct Rung {
    work: bool,
    stop: bool,
}

impl Bell {
    pub(crate) fn ring(&self) {
        lock(&self.0.0).work = true;
        self.0.1.notify_one();
    }

    fn stop(&self) {
        lock(&self.0.0).stop = true;
        self.0.1.notify_one();
    }

    /// Waits for the bell, or for the time to pass if there is one. Says whether to go on.
    fn wait(&self, at_most: Option<Duration>) -> bool {
        let mut rung = lock(&self.0.0);
        if let Some(time) = at_most {
            let waited = self.0.1.wait_timeout_while(rung, time, |rung| !rung.stop);
            rung = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            let waited = self.0.1.wait_while(rung, |rung| !rung.work && !rung.stop);
            rung = waited.unwrap_or_else(PoisonError::into_inner);
        }
        rung.work = false;
        !rung.stop
    }
}

/// The thread that syncs.
pub(crate) struct Syncer {
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Starts it, if the journal is to be synced at all.
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<Option<Self>> {
        let every = match shared.sync {
            Sync::None => return Ok(None),
            Sync::Interval(every) => Some(every),
            Sync::Always => None,
        };
        let bell = Bell::default();
        let (shared, heard) = (Arc::clone(shared), bell.clone());
        let thread = thread::Builder::new().name("ledger-sync".into()).spawn(move || {
            while heard.wait(every) {
                if !round(&shared) {
                    heard.wait(Some(AFTER_FAILURE));
                    heard.ring();
                }
            }
            round(&shared);
        })?;
        Ok(Some(Self { bell, thread: Some(thread) }))
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.bell.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Syncs everything there is. While it does, the next records gather. Says whether all went well.
fn round(shared: &Shared) -> bool {
    let mut all_well = true;
    for tail in shared.tails() {
        let pending = lock(&tail).pending();
        let synced = match pending {
            Ok(None) => continue,
            Ok(Some(pending)) => force(shared, &pending).map(|()| pending),
            Err(fault) => Err(fault),
        };
        let Ok(synced) = synced else {
            all_well = false;
            lock(&tail).distrust();
            continue;
        };
        let waiting = lock(&tail).settled(&synced);
        waiting.into_iter().for_each(Waker::wake);
    }
    all_well
}

fn force(shared: &Shared, pending: &Pending) -> io::Result<()> {
    pending.files.iter().try_for_each(|file| file.sync_data())?;
    if pending.new_name {
        File::open(&shared.folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::record::{Bill, Closing, Opening, Provenance, RequestId, Tokens, Who};

    fn opening(number: u8) -> Opening<'static> {
        Opening {
            id: RequestId([number; 16]),
            attempt: 1,
            at_ms: 1000,
            who: Who::default(),
            operation: "chat",
            model: "smart",
            provider: "openai",
            upstream_model: "gpt",
            stream: false,
            input_estimate: 1,
            max_output: None,
            reserved: None,
        }
    }

    fn closing(number: u8) -> Closing<'static> {
        Closing {
            id: RequestId([number; 16]),
            attempt: 1,
            at_ms: 2000,
            last_of: Some(1),
            status: 200,
            outcome: "complete",
            fault: None,
            tokens: Tokens::default(),
            provenance: Provenance::None,
            bill: Bill::Nothing,
            first_event_us: None,
            total_us: 1,
            overhead_us: 1,
            events: 0,
            lines: &[],
        }
    }

    /// The disk cannot be made to fail here, so it is only said to have failed.
    #[test]
    fn after_the_disk_failed_everything_in_doubt_is_written_to_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let every = Sync::Interval(Duration::from_secs(3600));
        let (journal, _) = Journal::open(folder.path(), every, 8 << 20).unwrap();
        let shared = journal.shared();
        let mut writer = journal.writer().unwrap();
        writer.opening(&opening(1)).unwrap();
        writer.closing(&closing(1)).unwrap();
        assert!(round(&shared));
        writer.opening(&opening(2)).unwrap();
        let tail = shared.tails().remove(0);
        lock(&tail).distrust();
        assert!(!writer.healthy());
        writer.closing(&closing(2)).unwrap();
        assert!(round(&shared), "the new file is on the disk");
        assert!(writer.healthy());
        writer.opening(&opening(3)).unwrap();
        drop((writer, tail));

        let segments = shared.segments();
        assert_eq!(segments.len(), 2);
        let length = |index: usize| segments[index].path.metadata().unwrap().len();
        let one = length(0) - crate::segment::HEADER as u64;
        // Request 2 once more, and the opening of request 3.
        assert!(length(1) > one / 2 && length(1) < one, "{} {}", length(0), length(1));
        drop(journal);

        let path = folder.path().join("ledger.db");
        let mut store = crate::store::Store::open(&path, true).unwrap();
        let mut lane = crate::ship::Lane::new(shared.generation(), false);
        let passed = lane.pass(&mut store, &segments, &mut |_| ()).unwrap();
        assert_eq!((passed.attempts, passed.damaged, lane.has_open()), (3, 0, true));
        let reader = crate::Reader::open(&path).unwrap();
        let usage = reader.usage(&crate::Filter::default(), &[], &jiff::tz::TimeZone::UTC).unwrap();
        assert_eq!((usage[0].requests, usage[0].attempts), (2, 2), "none is counted twice");
    }
}
