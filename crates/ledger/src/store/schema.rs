//! The tables.
//!
//! - `name`: a text that occurs in records, stored once.
//! - `series`: a combination of key, user, team, organisation, operation, model, provider and
//!   upstream model: what sums are kept for.
//! - `attempt`: an attempt, by the time it ended and its request's id as two numbers. `facts` holds
//!   the rest.
//! - `feedback`: what a caller thinks of an answer, by the time its request ended, so that it stands
//!   in the order of the attempts.
//! - `slow`: an attempt that ended long after its id says, so that it is found by its id.
//! - `opening`: an attempt under way whose segment is gone.
//! - `segment`: how much of a segment is shipped; changed in one transaction with what was shipped.
//! - `minute`, `hour`, `day`: sums of a span of time, in UTC, for a series and a currency.
//! - `mark`: from when on, and until when, there are which sums.
//!
//! An attempt's key begins with the time it ended because attempts arrive in that order: rows are
//! always added at the end. By their id, rows of long and short answers would go to a hundred
//! places. The same record has the same key, so it is never there twice. Nothing has a second
//! index: a row is written for every request, and searched for now and then.

use std::fmt::Write as _;
use std::path::Path;

use rusqlite::Connection;

use crate::error::{Error, Result};

/// "Magp", by which SQLite files of ours are known.
const APPLICATION: i64 = 0x4d61_6770;
/// The version of the tables.
pub(crate) const VERSION: i64 = 2;

/// The columns that are added up, in the order of [`Sums`](super::rollup::Sums).
pub(crate) const SUMS: [&str; 14] = [
    "requests",
    "attempts",
    "errors",
    "input",
    "cached_read",
    "cache_write",
    "output",
    "reasoning",
    "nanos",
    "unpriced",
    "first_event_us",
    "first_events",
    "total_us",
    "overhead_us",
];

const TABLES: &str = "
CREATE TABLE name (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
);
INSERT INTO name (id, text) VALUES (0, '');

CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    key INTEGER NOT NULL REFERENCES name,
    user INTEGER NOT NULL REFERENCES name,
    team INTEGER NOT NULL REFERENCES name,
    org INTEGER NOT NULL REFERENCES name,
    operation INTEGER NOT NULL REFERENCES name,
    model INTEGER NOT NULL REFERENCES name,
    provider INTEGER NOT NULL REFERENCES name,
    upstream_model INTEGER NOT NULL REFERENCES name,
    UNIQUE (key, user, team, org, operation, model, provider, upstream_model)
);

INSERT INTO series VALUES (0, 0, 0, 0, 0, 0, 0, 0, 0);

CREATE TABLE attempt (
    ended INTEGER NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    series INTEGER NOT NULL REFERENCES series,
    facts BLOB NOT NULL,
    PRIMARY KEY (ended, high, low, attempt)
) WITHOUT ROWID;

CREATE TABLE slow (
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    PRIMARY KEY (high, low, attempt)
) WITHOUT ROWID;

CREATE TABLE opening (
    generation TEXT NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    facts BLOB NOT NULL,
    PRIMARY KEY (generation, high, low, attempt)
) WITHOUT ROWID;

CREATE TABLE segment (
    name TEXT PRIMARY KEY,
    shipped INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE mark (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
";

/// What came with version 2.
const FEEDBACK: &str = "
CREATE TABLE IF NOT EXISTS feedback (
    ended INTEGER NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    label TEXT NOT NULL,
    at INTEGER NOT NULL,
    score REAL NOT NULL,
    comment TEXT,
    PRIMARY KEY (ended, high, low, label)
) WITHOUT ROWID;
";

/// Sets the connection up, and makes or checks the tables.
pub(crate) fn prepare(connection: &Connection, path: &Path, durable: bool) -> Result<()> {
    let version = number(connection, "user_version")?;
    let application = number(connection, "application_id")?;
    if version == 0 && application == 0 {
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Err(Error::Foreign(path.to_owned()));
        }
        connection.execute_batch("PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL;")?;
    } else if application != APPLICATION {
        return Err(Error::Foreign(path.to_owned()));
    } else if version > VERSION {
        return Err(Error::TooNew { found: version });
    }
    // Readers and the writer do not wait for one another. A process that dies loses nothing either
    // way; FULL is for a machine that loses its power. What numbers refer to was looked up when
    // they were made, and need not be looked up again.
    let synchronous = if durable { "FULL" } else { "NORMAL" };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {synchronous};
         PRAGMA foreign_keys = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16384;
         PRAGMA wal_autocheckpoint = 2048;
         PRAGMA journal_size_limit = 33554432;"
    ))?;
    connection.set_prepared_statement_cache_capacity(64);
    match version {
        0 => create(connection),
        1 => migrate(connection),
        _ => Ok(()),
    }
}

/// Brings the tables of version 1 up to this one. Another process may do so at the same time.
fn migrate(connection: &Connection) -> Result<()> {
    let script = format!("BEGIN IMMEDIATE;{FEEDBACK}PRAGMA user_version = {VERSION}; COMMIT;");
    let migrated = connection.execute_batch(&script);
    if migrated.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    Ok(migrated?)
}

fn create(connection: &Connection) -> Result<()> {
    let mut script = String::from("BEGIN IMMEDIATE;");
    script.push_str(TABLES);
    script.push_str(FEEDBACK);
    for table in ["minute", "hour", "day"] {
        let sums = SUMS.map(|sum| format!("{sum} INTEGER NOT NULL")).join(", ");
        let _ = write!(
            script,
            "CREATE TABLE {table} (
                at INTEGER NOT NULL, series INTEGER NOT NULL REFERENCES series,
                currency INTEGER NOT NULL REFERENCES name, {sums},
                PRIMARY KEY (at, series, currency)
            ) WITHOUT ROWID;"
        );
    }
    let _ = write!(
        script,
        "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
    );
    let made = connection.execute_batch(&script);
    if made.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    // Another process may have made them at the same time.
    match number(connection, "user_version")? == VERSION {
        true => Ok(()),
        false => Ok(made?),
    }
}

/// A number that SQLite keeps beside the tables.
pub(crate) fn number(connection: &Connection, pragma: &str) -> Result<i64> {
    Ok(connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?)
}
