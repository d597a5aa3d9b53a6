//! The ledger as a whole: journal, database, and the thread between them.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, Result};
use crate::journal::{Journal, Shared, Sync, Writer, lock};
use crate::pair::Estimate;
use crate::read::Reader;
use crate::record::Opening;
use crate::ship::Lane;
use crate::store::{Retention, Store};

/// How often retention looks for what is too old.
const RETAIN_EVERY: Duration = Duration::from_secs(3600);

/// How the ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The folder of journal and database; made if it is not there.
    pub folder: PathBuf,
    /// When records are forced to the disk.
    pub sync: Sync,
    /// How often records are brought to the database: how old an answer of it can be.
    pub ship_every: Duration,
    /// Bytes of a journal file, after which the next one is begun.
    pub segment_bytes: u64,
    /// How long records are kept in the database.
    pub retention: Retention,
}

impl Options {
    /// The usual ones.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            sync: Sync::None,
            ship_every: Duration::from_secs(1),
            segment_bytes: 8 << 20,
            retention: Retention::default(),
        }
    }

    /// Where the database is.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.folder.join("ledger.db")
    }
}

/// What was found that runs before this one left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Attempts that were over, and are in the database now.
    pub attempts: u64,
    /// Attempts that were never closed, recorded as [`LOST`](crate::LOST).
    pub lost: u64,
    /// Bytes that could not be read: torn ends and damage.
    pub damaged_bytes: u64,
}

/// How the ledger is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Bytes that could not be written yet and are kept in memory.
    pub kept_bytes: u64,
    /// Records that could be neither written nor kept, since the start.
    pub dropped: u64,
    /// Bytes of the journal that are not in the database yet.
    pub unshipped_bytes: u64,
    /// Attempts brought to the database since the start.
    pub shipped: u64,
    /// Bytes of the journal that could not be read, since the start.
    pub damaged_bytes: u64,
    /// Whether every writer can write.
    pub healthy: bool,
    /// Time since the journal was last brought to the database whole; 0 before the first time.
    pub lag: Duration,
    /// Why nothing gets into the database, if nothing does.
    pub fault: Option<String>,
}

/// The ledger of this run of the program.
pub struct Ledger {
    journal: Option<Journal>,
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
    database: PathBuf,
}

#[derive(Default)]
struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    /// Number of the last flush that was asked for, and of the last that was done.
    asked: u64,
    done: u64,
    status: Status,
    /// When the journal was last brought to the database whole.
    caught_up: Option<Instant>,
}

/// Says how a ledger is doing, from any thread, and does not keep it open.
#[derive(Clone)]
pub struct Gauge {
    control: Arc<Control>,
    shared: Weak<Shared>,
}

impl Gauge {
    /// How the ledger is doing; once it is closed, how it was.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = lock(&self.control.state);
        let mut status = state.status.clone();
        status.lag = state.caught_up.map(|at| at.elapsed()).unwrap_or_default();
        drop(state);
        let Some(shared) = self.shared.upgrade() else { return status };
        status.dropped = shared.dropped.load(Ordering::Relaxed);
        status.healthy = true;
        for tail in shared.tails() {
            let tail = lock(&tail);
            status.healthy &= tail.healthy();
            status.kept_bytes += tail.kept() as u64;
        }
        status
    }
}

impl Ledger {
    /// Opens the ledger, and brings what dead runs left in the journal to the database. `estimate`
    /// says what attempts that were never closed are taken to have used.
    ///
    /// # Errors
    /// If the folder or the database cannot be used.
    pub fn open(
        options: &Options,
        estimate: &mut dyn FnMut(&Opening<'_>) -> Estimate,
    ) -> Result<(Self, Recovered)> {
        let folder = options.folder.join("journal");
        let (journal, left) = Journal::open(&folder, options.sync, options.segment_bytes)?;
        let database = options.database();
        let mut store = Store::open(&database, options.sync != Sync::None)?;
        let mut recovered = Recovered::default();
        for left in left {
            let mut lane = Lane::new(left.generation.clone(), true);
            loop {
                let passed = lane.pass(&mut store, &left.segments, &mut |_| ())?;
                recovered.attempts += passed.attempts;
                recovered.damaged_bytes += passed.damaged;
                if !passed.more {
                    break;
                }
            }
            recovered.lost += lane.give_up(&mut store, estimate)?;
            left.remove();
        }
        let control = Arc::new(Control::default());
        let ship = Shipping {
            lane: Lane::new(journal.shared().generation(), false),
            store,
            shared: journal.shared(),
            control: Arc::clone(&control),
            every: options.ship_every,
            retention: options.retention,
        };
        let thread = thread::Builder::new().name("ledger-ship".into()).spawn(|| ship.run())?;
        let thread = Some(thread);
        Ok((Self { journal: Some(journal), control, thread, database }, recovered))
    }

    /// A writer for one worker.
    ///
    /// # Errors
    /// If its file cannot be made.
    pub fn writer(&self) -> Result<Writer> {
        let journal = self.journal.as_ref().ok_or_else(closed)?;
        Ok(journal.writer()?)
    }

    /// Where the database is: for readers on other threads.
    #[must_use]
    pub fn database(&self) -> &std::path::Path {
        &self.database
    }

    /// A reader of the database.
    ///
    /// # Errors
    /// If the database cannot be opened.
    pub fn reader(&self) -> Result<Reader> {
        Reader::open(&self.database)
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.gauge().status()
    }

    /// What says so on other threads.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        let shared = self.journal.as_ref().map(|journal| Arc::downgrade(&journal.shared()));
        Gauge { control: Arc::clone(&self.control), shared: shared.unwrap_or_default() }
    }

    /// Brings everything written so far to the database now.
    ///
    /// # Errors
    /// If that fails; it is tried again by itself.
    pub fn flush(&self) -> Result<()> {
        self.control.flush()
    }

    /// The same for other threads.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        Flusher(Arc::clone(&self.control))
    }

    /// Brings everything to the database and ends. Writers have to be gone; what is still open is
    /// recorded as lost by the next run.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // The last writers' files are finished now, and can be shipped whole.
        self.journal = None;
        lock(&self.control.state).stop = true;
        self.control.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Brings what was written to the database at once, for whoever cannot wait a second.
#[derive(Clone)]
pub struct Flusher(Arc<Control>);

impl Flusher {
    /// Waits until everything written so far is in the database; blocks for as long as that takes,
    /// usually a few milliseconds. What many ask for at a time is done once.
    ///
    /// # Errors
    /// If it fails; it is tried again by itself.
    pub fn flush(&self) -> Result<()> {
        self.0.flush()
    }
}

impl Control {
    fn flush(&self) -> Result<()> {
        let mut state = lock(&self.state);
        state.asked += 1;
        let number = state.asked;
        self.changed.notify_all();
        let is_open = |state: &mut State| state.done < number && !state.stop;
        let waited = self.changed.wait_while(state, is_open);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        match &state.status.fault {
            Some(fault) => Err(Error::Io(std::io::Error::other(fault.clone()))),
            None => Ok(()),
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.end();
    }
}

fn closed() -> Error {
    Error::Io(std::io::Error::other("the ledger is closed"))
}

/// The thread between journal and database.
struct Shipping {
    lane: Lane,
    store: Store,
    shared: Arc<Shared>,
    control: Arc<Control>,
    every: Duration,
    retention: Retention,
}

/// Says that nothing will be shipped any more, however that came about.
struct Ended(Arc<Control>);

impl Drop for Ended {
    fn drop(&mut self) {
        lock(&self.0.state).stop = true;
        self.0.changed.notify_all();
    }
}

impl Shipping {
    fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.control));
        let mut retained: Option<Instant> = None;
        loop {
            let (stop, asked) = self.wait();
            for tail in self.shared.tails() {
                lock(&tail).retry();
            }
            let outcome = self.ship();
            self.report(&outcome, asked);
            if stop {
                break;
            }
            let is_due = retained.is_none_or(|last| last.elapsed() >= RETAIN_EVERY);
            if is_due && outcome.is_ok() {
                retained = Some(Instant::now());
                // What could not be removed now is removed an hour later.
                let _ = self.store.retain(&self.retention, now_ms());
            }
        }
        // Otherwise the next run finds what is left, and what was open.
        if !self.lane.has_open() && self.shared.segments().is_empty() {
            let forgotten = self.store.forget_generation(&self.shared.generation());
            if forgotten.is_ok() {
                self.shared.leave();
            }
        }
    }

    /// Waits until there may be something to do. Says whether it is the last time.
    fn wait(&self) -> (bool, u64) {
        let state = lock(&self.control.state);
        let idle = |state: &mut State| !state.stop && state.asked == state.done;
        let waited = self.control.changed.wait_timeout_while(state, self.every, idle);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (state.stop, state.asked)
    }

    /// Ships everything there is.
    fn ship(&mut self) -> Result<(u64, u64)> {
        let (mut attempts, mut damaged) = (0, 0);
        loop {
            let segments = self.shared.segments();
            let passed = self.lane.pass(&mut self.store, &segments, &mut |segment| {
                self.shared.remove(&segment.path);
            })?;
            attempts += passed.attempts;
            damaged += passed.damaged;
            if !passed.more {
                return Ok((attempts, damaged));
            }
        }
    }

    fn report(&self, outcome: &Result<(u64, u64)>, asked: u64) {
        let mut state = lock(&self.control.state);
        state.done = asked;
        match outcome {
            Ok((attempts, damaged)) => {
                state.status.shipped += attempts;
                state.status.damaged_bytes += damaged;
                state.status.fault = None;
                state.caught_up = Some(Instant::now());
            }
            Err(fault) => state.status.fault = Some(fault.to_string()),
        }
        state.status.unshipped_bytes = self.lane.unshipped();
        drop(state);
        self.control.changed.notify_all();
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}
