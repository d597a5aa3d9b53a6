//! The database: SQLite, one writing connection.
//!
//! A record is one row of few columns: its key, the combination of names it belongs to, and its
//! facts packed together. What people ask for most, sums by name and time, is kept beside it, so
//! that no question has to read millions of rows. See [`schema`] for the tables.

mod facts;
mod feedback;
mod insert;
mod mark;
mod names;
mod retention;
mod rollup;
pub(crate) mod schema;

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

pub(crate) use facts::{Begun, number, unpack};
use insert::Row;
pub(crate) use insert::{Kept, SLOW_MS};
pub(crate) use mark::Mark;
pub(crate) use names::Names;
pub use retention::Retention;
use rollup::Rollups;
pub use rollup::Step;
pub(crate) use rollup::Sums;

use crate::error::Result;

/// How long to wait for another process that writes.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// The database, for writing.
pub(crate) struct Store {
    connection: Connection,
    names: Names,
    rollups: Rollups,
    rows: Vec<Row>,
    /// The blobs of `rows`, one behind the other.
    blobs: Vec<u8>,
    /// The statements that write one row and many.
    statements: (String, String),
    /// Whether rows may be there already.
    careful: bool,
    /// Whether rows were there already, and nobody was careful.
    doubled: bool,
}

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is written.
    Yes,
    /// Some of its records were there already, so nothing is written: do it again, carefully.
    Doubled,
}

impl Store {
    /// Opens the database, and makes it if it is not there. With `durable`, a commit is on the disk
    /// when it is done.
    pub(crate) fn open(path: &Path, durable: bool) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        schema::prepare(&connection, path, durable)?;
        Ok(Self {
            connection,
            names: Names::default(),
            rollups: Rollups::default(),
            rows: Vec::new(),
            blobs: Vec::new(),
            statements: insert::statements(),
            careful: false,
            doubled: false,
        })
    }

    /// Begins a batch. Everything until [`commit`](Self::commit) happens wholly or not at all.
    /// `careful` is for records that may be there already.
    pub(crate) fn begin(&mut self, careful: bool) -> Result<()> {
        self.careful = careful;
        self.doubled = false;
        // At once a writer's, because one that begins as a reader's may fail without waiting.
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<Committed> {
        self.flush()?;
        if self.doubled {
            self.rollback();
            return Ok(Committed::Doubled);
        }
        self.rollups.write(&self.connection)?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(Committed::Yes)
    }

    /// Undoes a batch, in memory too.
    pub(crate) fn rollback(&mut self) {
        self.names = Names::default();
        self.rollups = Rollups::default();
        self.rows.clear();
        self.blobs.clear();
        if !self.connection.is_autocommit() {
            // If even this fails, the next BEGIN says so.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// The number of a name; 0 for none.
    pub(crate) fn name(&mut self, text: &str) -> Result<u32> {
        self.names.name(&self.connection, text)
    }

    /// The number of a combination of names, given as it stands in the journal.
    pub(crate) fn series(&mut self, names: &[u8]) -> Result<u32> {
        self.names.series(&self.connection, names)
    }

    /// A name by its number.
    pub(crate) fn text(&self, id: u32) -> Result<String> {
        Names::text(&self.connection, id)
    }

    /// The names of a combination, in the order of its columns.
    pub(crate) fn series_names(&self, series: u32) -> Result<[String; 8]> {
        Names::of_series(&self.connection, series)
    }
}
