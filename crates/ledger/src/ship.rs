//! From segments to the database.
//!
//! A [`Lane`] ships the segments of one generation. What a batch writes and how far that reaches
//! become true in one transaction, so a crash between any two steps neither loses nor doubles a
//! record. If a batch fails, the lane forgets everything and reads it again: the database and the
//! files are the only truth.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::journal::{DAMAGED, salt_of};
use crate::pair::{Estimate, Pairs};
use crate::record::Opening;
use crate::segment::{self, HEADER, Header, MAX_RECORD};
use crate::store::{Committed, Store};
use crate::tail::Segment;

/// Attempts of one transaction: it is short, and yet its fixed cost is spread over many.
const BATCH: u64 = 8192;
/// Bytes read at once.
const CHUNK: u64 = 256 << 10;

/// A segment that is being shipped.
struct Source {
    segment: Arc<Segment>,
    file: File,
    number: u32,
    salt: u32,
    /// How far it is read.
    position: u64,
    /// Bytes that no good record was found in.
    damaged: u64,
    finished: bool,
}

/// What was shipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Attempts written.
    pub(crate) attempts: u64,
    /// Bytes that could not be read.
    pub(crate) damaged: u64,
    /// Whether there is more.
    pub(crate) more: bool,
}

/// Ships the segments of one generation.
pub(crate) struct Lane {
    pairs: Pairs,
    sources: Vec<Source>,
    next_source: u32,
    buffer: Vec<u8>,
    /// Segments whose files are gone, still known to the database.
    gone: Vec<String>,
    is_loaded: bool,
    /// Whether records may be in the database already.
    careful: bool,
}

impl Lane {
    pub(crate) fn new(generation: String, careful: bool) -> Self {
        Self {
            pairs: Pairs::new(generation),
            sources: Vec::new(),
            next_source: 1,
            buffer: Vec::new(),
            gone: Vec::new(),
            is_loaded: false,
            careful,
        }
    }

    /// Whether an attempt has begun and is not known to be over.
    pub(crate) fn has_open(&self) -> bool {
        !self.pairs.is_empty()
    }

    /// Bytes written and not shipped.
    pub(crate) fn unshipped(&self) -> u64 {
        let unread = |source: &Source| {
            source.segment.written.load(Ordering::Acquire).saturating_sub(source.position)
        };
        self.sources.iter().map(unread).sum()
    }

    /// Ships one batch of what there is. Gives the segments that are wholly shipped, and whose
    /// files are gone, to `finished`.
    pub(crate) fn pass(
        &mut self,
        store: &mut Store,
        segments: &[Arc<Segment>],
        finished: &mut dyn FnMut(&Segment),
    ) -> Result<Passed> {
        let mut passed = self.try_batch(store, segments);
        if matches!(passed, Ok(None)) {
            self.is_loaded = false;
            let careful = std::mem::replace(&mut self.careful, true);
            passed = self.try_batch(store, segments);
            self.careful = careful;
        }
        if passed.is_err() {
            store.rollback();
            self.is_loaded = false;
        }
        let passed = passed?.unwrap_or_default();
        self.remove_finished(finished);
        Ok(passed)
    }

    /// Nobody writes to this generation any more: what is still open is lost. Says how many.
    pub(crate) fn give_up(
        &mut self,
        store: &mut Store,
        estimate: &mut dyn FnMut(&Opening<'_>) -> Estimate,
    ) -> Result<u64> {
        store.begin(true)?;
        let given_up = self.pairs.give_up(store, estimate).and_then(|lost| {
            store.forget_generation(self.pairs.generation())?;
            store.commit()?;
            Ok(lost)
        });
        if given_up.is_err() {
            store.rollback();
        }
        given_up
    }

    /// A batch in one transaction. Nothing, if it found records that were there already.
    fn try_batch(
        &mut self,
        store: &mut Store,
        segments: &[Arc<Segment>],
    ) -> Result<Option<Passed>> {
        if !self.is_loaded {
            self.sources.clear();
        }
        let known = self.sources.len();
        self.find_sources(segments)?;
        let has_work = self.sources.iter().any(Source::has_work);
        if self.is_loaded && known == self.sources.len() && !has_work {
            return Ok(Some(Passed::default()));
        }
        store.begin(self.careful)?;
        self.catch_up(store, known)?;
        for name in &self.gone {
            store.forget_segment(name)?;
        }
        let passed = self.read(store)?;
        for source in &mut self.sources {
            source.finished = source.is_at_end();
            if source.finished {
                self.pairs.keep(store, source.number)?;
            }
        }
        match store.commit()? {
            Committed::Doubled => return Ok(None),
            Committed::Yes => self.gone.clear(),
        }
        self.is_loaded = true;
        Ok(Some(passed))
    }

    /// Opens the segments that are new.
    fn find_sources(&mut self, segments: &[Arc<Segment>]) -> Result<()> {
        for segment in segments {
            if self.sources.iter().any(|source| source.segment.path == segment.path) {
                continue;
            }
            let file = match File::open(&segment.path) {
                Ok(file) => file,
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => continue,
                Err(fault) => return Err(fault.into()),
            };
            self.sources.push(Source::new(segment, file, self.next_source)?);
            self.next_source += 1;
        }
        // One writer's segments have to be read in the order they were written in.
        self.sources.sort_by(|one, other| one.segment.path.cmp(&other.segment.path));
        Ok(())
    }

    /// Pairs again what was shipped before: openings whose closings are to come.
    fn catch_up(&mut self, store: &mut Store, known: usize) -> Result<()> {
        let begins = !self.is_loaded;
        if begins {
            self.pairs.load(store)?;
        }
        let first = self.next_source - u32::try_from(self.sources.len() - known).unwrap_or(0);
        for source in &mut self.sources {
            if !begins && source.number < first {
                continue;
            }
            let shipped = store.shipped(source.segment.name())?;
            while source.position < shipped {
                let upto = shipped.min(source.position + CHUNK);
                source.fill(&mut self.buffer, upto)?;
                let is_whole = upto == shipped;
                source.records(&self.buffer, is_whole, |record, number| {
                    self.pairs.take(store, &record, number, true)
                })?;
            }
        }
        Ok(())
    }

    /// Reads on, until the batch is full.
    fn read(&mut self, store: &mut Store) -> Result<Passed> {
        let mut passed = Passed::default();
        for source in &mut self.sources {
            let before = source.position;
            let written = source.segment.written.load(Ordering::Acquire);
            while source.position < written {
                if passed.attempts >= BATCH {
                    passed.more = true;
                    break;
                }
                let upto = written.min(source.position + CHUNK);
                source.fill(&mut self.buffer, upto)?;
                let damaged = source.damaged;
                source.records(&self.buffer, upto == written, |record, number| {
                    let made = self.pairs.take(store, &record, number, false)?;
                    passed.attempts += u64::from(made);
                    Ok(made)
                })?;
                passed.damaged += source.damaged - damaged;
            }
            if source.position != before {
                store.set_shipped(source.segment.name(), source.position)?;
            }
            if passed.more {
                break;
            }
        }
        Ok(passed)
    }

    fn remove_finished(&mut self, finished: &mut dyn FnMut(&Segment)) {
        self.sources.retain(|source| {
            if !source.finished {
                return true;
            }
            let path = &source.segment.path;
            // Damage is kept for whoever wants to look into it; a torn end is nothing to look into.
            let removed = match source.damaged > MAX_RECORD as u64 {
                true => fs::rename(path, path.with_extension(DAMAGED)),
                false => fs::remove_file(path),
            };
            // A file that stays is found by the next run, which sees that it is shipped.
            if removed.is_ok() {
                self.gone.push(source.segment.name().to_owned());
            }
            finished(&source.segment);
            false
        });
    }
}

impl Source {
    fn new(segment: &Arc<Segment>, file: File, number: u32) -> Result<Self> {
        let mut start = [0; HEADER];
        let is_there = file.read_exact_at(&mut start, 0).is_ok();
        let salt = match segment::read_header(&start) {
            Header::Good(salt) => salt,
            Header::Foreign if is_there => return Err(Error::NewerJournal(segment.path.clone())),
            // What stands behind a damaged header may still be good.
            _ => salt_of(&segment.path).unwrap_or_default(),
        };
        let segment = Arc::clone(segment);
        let position = HEADER as u64;
        Ok(Self { segment, file, number, salt, position, damaged: 0, finished: false })
    }

    fn has_work(&self) -> bool {
        self.position < self.segment.written.load(Ordering::Acquire) || self.is_at_end()
    }

    /// Whether everything is read, and no more will come.
    fn is_at_end(&self) -> bool {
        // Sealed is looked at first: what was written before it was sealed is then seen.
        self.segment.sealed.load(Ordering::Acquire)
            && self.position >= self.segment.written.load(Ordering::Acquire)
    }

    /// Fills the buffer with what stands between the position and `upto`.
    fn fill(&self, buffer: &mut Vec<u8>, upto: u64) -> Result<()> {
        let length = usize::try_from(upto - self.position).unwrap_or_default();
        buffer.resize(length, 0);
        self.file.read_exact_at(buffer, self.position)?;
        Ok(())
    }

    /// Hands out the records in the buffer, and moves on. Unless it `is_whole`, a record may be cut
    /// off at the end of the buffer, and is left for the next time.
    fn records(
        &mut self,
        buffer: &[u8],
        is_whole: bool,
        mut each: impl FnMut(segment::Record<'_>, u32) -> Result<bool>,
    ) -> Result<()> {
        let end = if is_whole { buffer.len() } else { buffer.len() - MAX_RECORD };
        let mut at = 0;
        while at < end {
            match segment::take(&buffer[at..], self.salt) {
                Some((record, length)) => {
                    each(record, self.number)?;
                    at += length;
                }
                None => {
                    let next = segment::next_good(&buffer[at + 1..], self.salt);
                    let bad = next.map_or(buffer.len() - at, |next| next + 1);
                    let bad = if is_whole { bad } else { bad.min(end - at) };
                    self.damaged += bad as u64;
                    at += bad;
                }
            }
        }
        self.position += at as u64;
        Ok(())
    }
}
