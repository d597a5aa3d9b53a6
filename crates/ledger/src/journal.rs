//! The journal: where a request is written down before anyone can forget it.
//!
//! Each worker has a [`Writer`] of its own, with segment files of its own, so that writing a record
//! is one `write` to the page cache and waits for nobody. Files of one run of the program share a
//! generation, which is locked while the program runs: what a dead one left is claimed by the next.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::record::{Closing, Feedback, Opening};
use crate::segment::{MAX_RECORD, put_closing, put_feedback, put_opening};
use crate::sync::{Durable, Syncer};
use crate::tail::{Segment, Tail};

/// When what was written is forced to the disk. Whatever is chosen, nothing is lost when the
/// process dies; the choice is about a machine that loses its power.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sync {
    /// When the operating system sees fit.
    #[default]
    None,
    /// Every so often.
    Interval(Duration),
    /// Before an answer ends: many records at a time, see [`Writer::durable`].
    Always,
}

/// Ending of a segment's name.
const SEGMENT: &str = "seg";
/// Ending of a damaged segment's name, once everything that can be read of it is shipped.
pub(crate) const DAMAGED: &str = "damaged";
const LOCK: &str = "lock";

/// The journal of this run of the program.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    syncer: Option<Syncer>,
}

/// What the writers, the shipping thread and the syncing thread share.
pub(crate) struct Shared {
    pub(crate) folder: PathBuf,
    generation: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) sync: Sync,
    next_writer: AtomicU32,
    /// Segments that are not wholly shipped, oldest first for each writer.
    segments: Mutex<Vec<Arc<Segment>>>,
    tails: Mutex<Vec<Arc<Mutex<Tail>>>>,
    /// Records that could be neither written nor kept.
    pub(crate) dropped: AtomicU64,
    /// Held as long as the journal is.
    _lock: File,
}

/// Files of a run of the program that is over, claimed by this one.
pub(crate) struct Left {
    pub(crate) generation: String,
    pub(crate) segments: Vec<Arc<Segment>>,
    lock: PathBuf,
    /// Held until everything is shipped.
    _claim: File,
}

impl Journal {
    /// Opens the journal in a folder, which is made if it is not there, and claims what dead runs
    /// left in it.
    ///
    /// # Errors
    /// If the folder cannot be made, read or locked.
    pub(crate) fn open(
        folder: &Path,
        sync: Sync,
        segment_bytes: u64,
    ) -> io::Result<(Self, Vec<Left>)> {
        fs::create_dir_all(folder)?;
        // Claiming and being claimed must not cross.
        let door = File::create(folder.join(LOCK))?;
        door.lock()?;
        let left = claim(folder)?;
        let (generation, lock) = begin(folder)?;
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            generation,
            segment_bytes,
            sync,
            next_writer: AtomicU32::new(0),
            segments: Mutex::default(),
            tails: Mutex::default(),
            dropped: AtomicU64::new(0),
            _lock: lock,
        });
        let syncer = Syncer::start(&shared)?;
        Ok((Self { shared, syncer }, left))
    }

    /// A writer for one worker, with a segment file of its own.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(crate) fn writer(&self) -> io::Result<Writer> {
        let number = self.shared.next_writer.fetch_add(1, Ordering::Relaxed);
        let tail = Arc::new(Mutex::new(Tail::new(Arc::clone(&self.shared), number)?));
        lock(&self.shared.tails).push(Arc::clone(&tail));
        let wake = self.syncer.as_ref().filter(|_| self.shared.sync == Sync::Always);
        Ok(Writer {
            tail,
            salt: self.shared.salt(number),
            buffer: vec![0; 2 * MAX_RECORD].into(),
            wake: wake.map(Syncer::bell),
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

/// Writes the records of one worker. Opening and closing of a request go to the same writer.
pub struct Writer {
    tail: Arc<Mutex<Tail>>,
    salt: u32,
    buffer: Box<[u8]>,
    wake: Option<crate::sync::Bell>,
}

impl Writer {
    /// Writes that an attempt is about to be sent. After an error nothing is written, and the
    /// attempt must not be made: nobody would know of it.
    ///
    /// # Errors
    /// If it cannot be written, for instance because the disk is full. The next call tries again.
    pub fn opening(&mut self, opening: &Opening<'_>) -> io::Result<()> {
        let length = put_opening(&mut self.buffer, self.salt, opening).ok_or_else(too_long)?;
        lock(&self.tail).append(&self.buffer[..length])?;
        self.ring();
        Ok(())
    }

    /// Writes that an attempt is over; called before the last byte of the answer leaves. What
    /// cannot be written is kept in memory, and written as soon as that is possible.
    ///
    /// # Errors
    /// If it can be neither written nor kept; then it is lost, and counted as such.
    pub fn closing(&mut self, closing: &Closing<'_>) -> io::Result<()> {
        let length = put_closing(&mut self.buffer, self.salt, closing).ok_or_else(too_long)?;
        self.keep(length)
    }

    /// Writes a request for which nothing was sent, in one go: a refusal, or one that was answered
    /// along with another. It is not kept if it cannot be written, for it cost nothing, and the
    /// memory is for what did.
    ///
    /// # Errors
    /// If it cannot be written; then it is not recorded.
    pub fn refusal(&mut self, opening: &Opening<'_>, closing: &Closing<'_>) -> io::Result<()> {
        let first = put_opening(&mut self.buffer, self.salt, opening).ok_or_else(too_long)?;
        let rest = &mut self.buffer[first..];
        let second = put_closing(rest, self.salt, closing).ok_or_else(too_long)?;
        lock(&self.tail).append(&self.buffer[..first + second])?;
        self.ring();
        Ok(())
    }

    /// Writes what a caller thinks of an answer; called before that is confirmed. It is not kept if
    /// it cannot be written: who is told so sends it again.
    ///
    /// # Errors
    /// If it cannot be written; then it is not recorded.
    pub fn feedback(&mut self, feedback: &Feedback<'_>) -> io::Result<()> {
        let length = put_feedback(&mut self.buffer, self.salt, feedback).ok_or_else(too_long)?;
        lock(&self.tail).append(&self.buffer[..length])?;
        self.ring();
        Ok(())
    }

    /// Whether records can be written. If not, metered requests should be refused until it is.
    #[must_use]
    pub fn healthy(&self) -> bool {
        lock(&self.tail).healthy()
    }

    /// Ready when everything written so far is on the disk. At once, unless the journal is
    /// [`Sync::Always`].
    #[must_use]
    pub fn durable(&self) -> Durable {
        match self.wake {
            Some(_) => Durable::when(&self.tail),
            None => Durable::now(),
        }
    }

    fn keep(&mut self, length: usize) -> io::Result<()> {
        lock(&self.tail).keep(&self.buffer[..length])?;
        self.ring();
        Ok(())
    }

    fn ring(&self) {
        if let Some(bell) = &self.wake {
            bell.ring();
        }
    }
}

impl Drop for Journal {
    /// What can still be written is, and the last files are finished.
    fn drop(&mut self) {
        for tail in self.shared.tails() {
            lock(&tail).retry();
        }
        self.syncer = None;
        lock(&self.shared.tails).clear();
    }
}

impl Drop for Writer {
    /// What is still kept gets a last chance; the shipping thread goes on trying.
    fn drop(&mut self) {
        lock(&self.tail).retry();
    }
}

impl Shared {
    pub(crate) fn salt(&self, writer: u32) -> u32 {
        salt(self.generation, writer)
    }

    /// The generation's name, with which its segments' names begin.
    pub(crate) fn generation(&self) -> String {
        format!("{:016x}", self.generation)
    }

    /// The path of a writer's n-th segment.
    pub(crate) fn path(&self, writer: u32, number: u32) -> PathBuf {
        let name = format!("{:016x}-{writer:04}-{number:08}.{SEGMENT}", self.generation);
        self.folder.join(name)
    }

    pub(crate) fn add(&self, segment: &Arc<Segment>) {
        lock(&self.segments).push(Arc::clone(segment));
    }

    /// Segments that are not wholly shipped.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        lock(&self.segments).clone()
    }

    /// Everything is shipped: nothing is left to be claimed.
    pub(crate) fn leave(&self) {
        // If it stays, the next run claims it and finds nothing.
        let _ = fs::remove_file(self.folder.join(format!("{}.{LOCK}", self.generation())));
    }

    /// Forgets a segment that is wholly shipped.
    pub(crate) fn remove(&self, path: &Path) {
        lock(&self.segments).retain(|segment| segment.path != path);
    }

    pub(crate) fn tails(&self) -> Vec<Arc<Mutex<Tail>>> {
        lock(&self.tails).clone()
    }
}

impl Left {
    /// Everything is shipped: the generation is gone.
    pub(crate) fn remove(self) {
        // If it stays it is claimed again, and found to be empty.
        let _ = fs::remove_file(&self.lock);
    }
}

/// Locks, whoever panicked while holding it: every state behind these locks is whole at all times.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the record is too long")
}

/// A number that no other writer's records are summed up with.
fn salt(generation: u64, writer: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(writer);
    hasher.update(&generation.to_le_bytes());
    hasher.finalize()
}

/// The salt of a segment, by its name.
pub(crate) fn salt_of(path: &Path) -> Option<u32> {
    let mut parts = path.file_stem()?.to_str()?.split('-');
    let generation = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some(salt(generation, parts.next()?.parse().ok()?))
}

/// A generation of this run's own, and its lock.
fn begin(folder: &Path) -> io::Result<(u64, File)> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut generation = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2);
    loop {
        match File::create_new(folder.join(format!("{generation:016x}.{LOCK}"))) {
            Ok(file) => return file.lock().map(|()| (generation, file)),
            Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => generation += 1,
            Err(fault) => return Err(fault),
        }
    }
}

/// Takes over the generations that nobody holds.
fn claim(folder: &Path) -> io::Result<Vec<Left>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        files.insert(entry?.path());
    }
    let generations: BTreeSet<&str> = files.iter().filter_map(|path| generation(path)).collect();
    let mut left = Vec::new();
    for name in generations {
        let path = folder.join(format!("{name}.{LOCK}"));
        let claim = File::options().create(true).truncate(false).write(true).open(&path)?;
        match claim.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(fault)) => return Err(fault),
        }
        let segments = files
            .iter()
            .filter(|path| generation(path) == Some(name) && has_ending(path, SEGMENT))
            .map(|path| Segment::left(path).map(Arc::new))
            .collect::<io::Result<_>>()?;
        left.push(Left { generation: name.to_owned(), segments, lock: path, _claim: claim });
    }
    Ok(left)
}

/// The generation that a file belongs to.
fn generation(path: &Path) -> Option<&str> {
    let is_ours = has_ending(path, SEGMENT) || has_ending(path, LOCK);
    let name = path.file_stem()?.to_str()?.get(..16)?;
    (is_ours && name.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(name)
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}
