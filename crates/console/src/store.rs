//! The settings store: `settings.db`, by SQLite.
//!
//! One connection writes, behind a lock; a few read. Every function here blocks, so the API calls
//! them on blocking threads. Text that comes from outside reaches SQL as bound parameters only.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use policy::units::milliseconds;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use serde_json::Value;

use crate::fault::{Code, Fault};
use crate::live::{Effect, Live};

pub mod admins;
pub mod audit;
pub mod effects;
pub mod groups;
pub mod keys;
mod schema;

/// Read connections that are kept open between reads.
const IDLE_READERS: usize = 4;
/// How long a connection waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// The settings store of one Magpie.
pub struct Store {
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    path: PathBuf,
}

/// Why the store could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The file cannot be created or opened.
    File(std::io::Error),
    /// It is no database, or one that cannot be read.
    Database(rusqlite::Error),
    /// It was written by a newer Magpie.
    Newer {
        /// The version of its tables.
        found: i64,
    },
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(error) => write!(f, "the settings store cannot be opened: {error}"),
            Self::Database(error) => write!(f, "the settings store cannot be read: {error}"),
            Self::Newer { found } => {
                write!(
                    f,
                    "the settings store is of a newer Magpie (its tables are version {found})"
                )
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Store {
    /// Opens the store, and creates it if it is not there, readable by its owner only.
    ///
    /// # Errors
    /// If the file cannot be opened or is not a store this version knows.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path).map_err(OpenError::File)?;

        let mut writer = Connection::open(path)?;
        writer.busy_timeout(BUSY)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        // Losing the last change in a power cut would bring a revoked key back.
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.pragma_update(None, "foreign_keys", true)?;
        schema::migrate(&mut writer)?;
        Ok(Self {
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::with_capacity(IDLE_READERS)),
            path: path.to_owned(),
        })
    }

    /// Reads, with a connection that cannot write.
    ///
    /// # Errors
    /// What `read` returns, and [`Code::Store`].
    pub fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let idle = lock(&self.readers).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.reader()?,
        };
        let result = read(&connection);
        let mut readers = lock(&self.readers);
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        result
    }

    fn reader(&self) -> Result<Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY)?;
        Ok(connection)
    }

    /// Changes something: in one transaction, with its entries in the audit log, and then in
    /// memory. Changes reach memory in the order in which they were committed.
    ///
    /// # Errors
    /// What `change` returns, and [`Code::Store`]; nothing is changed then. A change that records
    /// nothing in the audit log is not committed.
    pub fn change<T>(
        &self,
        live: &dyn Live,
        actor: &Actor,
        change: impl FnOnce(&mut Change<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut work =
            Change { transaction, actor, at_ms: now_ms(), effects: Vec::new(), entries: 0 };
        let answer = change(&mut work)?;
        if work.entries > 0 {
            work.transaction.commit()?;
            for effect in work.effects {
                live.apply(effect);
            }
        } else if !work.effects.is_empty() {
            return Err(Fault::new(Code::Store, "A change without an entry in the audit log."));
        }
        Ok(answer)
    }
}

/// Who changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The id of the admin token, or `env` or `cli`.
    pub id: String,
    /// Its role at that time.
    pub role: crate::table::Role,
}

/// A change under way.
pub struct Change<'s> {
    transaction: Transaction<'s>,
    actor: &'s Actor,
    /// When, in Unix milliseconds: one time for the whole change.
    pub at_ms: u64,
    effects: Vec<Effect>,
    entries: usize,
}

impl Change<'_> {
    /// Who makes it.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        self.actor
    }

    /// For reading what this change has made so far.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.transaction
    }

    /// Adds an entry to the audit log, and what has to happen in memory after the commit.
    ///
    /// # Errors
    /// [`Code::Store`].
    pub fn record(
        &mut self,
        action: &'static str,
        target: &str,
        detail: &Value,
        effect: Option<Effect>,
    ) -> Result<(), Fault> {
        audit::append(&self.transaction, self.at_ms, self.actor, action, target, detail)?;
        self.entries += 1;
        self.effects.extend(effect);
        Ok(())
    }
}

/// A panic under the lock left no half of a change: the transaction was rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unix time in milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    milliseconds(since)
}

/// SQLite's integers have a sign.
pub(crate) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// And back. Nothing negative is ever written.
pub(crate) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
