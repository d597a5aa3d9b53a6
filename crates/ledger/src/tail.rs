//! The end of one writer's journal: the file that is written to, and what could not be written yet.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use crate::journal::{Shared, Sync};
use crate::segment::{HEADER, header};

/// Bytes kept in memory for one writer while they cannot be written, or are not known to be on the
/// disk. A request in flight needs about 250, and no new one begins meanwhile.
const MAX_KEPT: usize = 16 << 20;

/// A segment file, as whoever ships it sees it.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// Good bytes in it.
    pub(crate) written: AtomicU64,
    /// Whether no more will come.
    pub(crate) sealed: AtomicBool,
}

impl Segment {
    /// A segment that a dead run left.
    pub(crate) fn left(path: &Path) -> io::Result<Self> {
        let written = AtomicU64::new(path.metadata()?.len());
        Ok(Self { path: path.to_owned(), written, sealed: AtomicBool::new(true) })
    }

    /// The name it is known by in the database.
    pub(crate) fn name(&self) -> &str {
        self.path.file_stem().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// The end of one writer's journal.
pub(crate) struct Tail {
    shared: Arc<Shared>,
    writer: u32,
    number: u32,
    segment: Arc<Segment>,
    file: Arc<File>,
    /// Good bytes in the file. What stands behind them is the rest of a failed write.
    length: u64,
    /// Whole records that could not be written.
    kept: Vec<u8>,
    failing: bool,
    /// Bytes ever written, over all segments.
    total: u64,
    /// How many of them are known to be on the disk.
    synced: u64,
    /// The others, in case the disk turns out to have lost them. Empty unless the journal is
    /// synced.
    unsynced: Vec<u8>,
    /// Finished segments that are not yet on the disk.
    finished: Vec<Arc<File>>,
    /// Whether the disk failed, and `unsynced` has to be written once more.
    suspect: bool,
    /// Whether the name of a new file is not yet on the disk.
    new_name: bool,
    /// Those who wait for the disk.
    waiting: Vec<Waker>,
}

/// What has to be forced to the disk, and how far that reaches.
pub(crate) struct Pending {
    pub(crate) files: Vec<Arc<File>>,
    /// Whether there is a file whose name has to be on the disk too.
    pub(crate) new_name: bool,
    upto: u64,
}

impl Tail {
    pub(crate) fn new(shared: Arc<Shared>, writer: u32) -> io::Result<Self> {
        let (segment, file) = create(&shared, writer, 0)?;
        Ok(Self {
            shared,
            writer,
            number: 0,
            segment,
            file,
            length: HEADER as u64,
            kept: Vec::new(),
            failing: false,
            total: 0,
            synced: 0,
            unsynced: Vec::new(),
            finished: Vec::new(),
            suspect: false,
            new_name: true,
            waiting: Vec::new(),
        })
    }

    /// Writes a record, or fails and leaves nothing behind.
    pub(crate) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.flush()?;
        if self.unsynced.len() > MAX_KEPT {
            self.failing = true;
            return Err(io::Error::other("the disk does not keep up"));
        }
        let written = self.write(record);
        self.failing = written.is_err();
        written
    }

    /// Writes a record, or keeps it in memory. Fails if there is no room for it.
    pub(crate) fn keep(&mut self, record: &[u8]) -> io::Result<()> {
        let written = self.flush().and_then(|()| self.write(record));
        self.failing = written.is_err();
        let Err(fault) = written else { return Ok(()) };
        if self.kept.len() + record.len() > MAX_KEPT {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return Err(fault);
        }
        self.kept.extend_from_slice(record);
        Ok(())
    }

    /// Whether records can be written, as far as is known.
    pub(crate) fn healthy(&self) -> bool {
        !self.failing
    }

    /// Bytes kept in memory.
    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Tries again what failed. With nothing left to write, whether it works is for the next record
    /// to find out.
    pub(crate) fn retry(&mut self) {
        if self.failing {
            self.failing = self.flush().is_err();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let kept = mem::take(&mut self.kept);
        let written = self.write(&kept);
        match written {
            Ok(()) => Ok(()),
            Err(fault) => {
                self.kept = kept;
                self.failing = true;
                Err(fault)
            }
        }
    }

    /// Writes at the end of the good bytes, over what a failed write may have left there.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length + bytes.len() as u64 > self.shared.segment_bytes
            && self.length > HEADER as u64
        {
            self.rotate()?;
        }
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        self.total += bytes.len() as u64;
        if self.shared.sync != Sync::None {
            self.unsynced.extend_from_slice(bytes);
        }
        self.segment.written.store(self.length, Ordering::Release);
        Ok(())
    }

    /// Goes on in a new segment.
    fn rotate(&mut self) -> io::Result<()> {
        let (segment, file) = create(&self.shared, self.writer, self.number + 1)?;
        self.number += 1;
        self.segment.sealed.store(true, Ordering::Release);
        self.segment = segment;
        let finished = mem::replace(&mut self.file, file);
        if self.shared.sync != Sync::None {
            self.finished.push(finished);
        }
        self.length = HEADER as u64;
        self.new_name = true;
        Ok(())
    }

    /// Where everything written or kept so far ends.
    pub(crate) fn end(&self) -> u64 {
        self.total + self.kept.len() as u64
    }

    /// Whether everything up to there is on the disk. If not, `waker` is called when it may be.
    pub(crate) fn is_synced(&mut self, end: u64, waker: &Waker) -> bool {
        let is_synced = self.synced >= end;
        if !is_synced && !self.waiting.iter().any(|known| known.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
        is_synced
    }

    /// What has to be forced to the disk now. Fails if what the disk may have lost cannot be
    /// written once more.
    pub(crate) fn pending(&mut self) -> io::Result<Option<Pending>> {
        if self.synced == self.total {
            return Ok(None);
        }
        if self.suspect {
            self.write_again()?;
        }
        let mut files = self.finished.clone();
        files.push(Arc::clone(&self.file));
        Ok(Some(Pending { files, new_name: self.new_name, upto: self.total }))
    }

    /// It is on the disk. Whoever waited is to be woken.
    pub(crate) fn settled(&mut self, pending: &Pending) -> Vec<Waker> {
        let known = usize::try_from(pending.upto - self.synced).unwrap_or(usize::MAX);
        self.unsynced.drain(..known.min(self.unsynced.len()));
        self.synced = pending.upto;
        self.finished.retain(|file| !pending.files.iter().any(|done| Arc::ptr_eq(done, file)));
        self.new_name &= !Arc::ptr_eq(&self.file, pending.files.last().unwrap_or(&self.file));
        self.failing = !self.kept.is_empty();
        mem::take(&mut self.waiting)
    }

    /// The disk failed. A file that failed once must not be trusted again: the system may have
    /// given up what it could not write, and says so only once.
    pub(crate) fn distrust(&mut self) {
        self.failing = true;
        self.suspect = true;
    }

    /// Writes what is not known to be on the disk to a new file. That a record may then be there
    /// twice is harmless.
    fn write_again(&mut self) -> io::Result<()> {
        self.rotate()?;
        self.file.write_all_at(&self.unsynced, self.length)?;
        self.length += self.unsynced.len() as u64;
        self.segment.written.store(self.length, Ordering::Release);
        self.finished.clear();
        self.suspect = false;
        Ok(())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.segment.sealed.store(true, Ordering::Release);
    }
}

fn create(shared: &Shared, writer: u32, number: u32) -> io::Result<(Arc<Segment>, Arc<File>)> {
    let path = shared.path(writer, number);
    // A file of this name can only be what an attempt to make it left when the disk was full.
    let file = File::create(&path)?;
    file.write_all_at(&header(shared.salt(writer)), 0)?;
    let segment = Arc::new(Segment {
        path,
        written: AtomicU64::new(HEADER as u64),
        sealed: AtomicBool::new(false),
    });
    shared.add(&segment);
    Ok((segment, Arc::new(file)))
}
