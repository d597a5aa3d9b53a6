//! What can go wrong with the ledger.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What went wrong.
#[derive(Debug)]
pub enum Error {
    /// The file system refused.
    Io(io::Error),
    /// The database refused.
    Database(rusqlite::Error),
    /// The database was written by a later version of Magpie.
    TooNew {
        /// The version it has.
        found: i64,
    },
    /// A journal file was written by a later version of Magpie.
    NewerJournal(PathBuf),
    /// The file is not a ledger of Magpie's.
    Foreign(PathBuf),
}

/// A result of the ledger's.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(fault) => write!(f, "ledger: {fault}"),
            Self::Database(fault) => write!(f, "ledger: {fault}"),
            Self::TooNew { found } => write!(
                f,
                "the ledger has version {found}, which is newer than this program: use a newer one"
            ),
            Self::NewerJournal(path) => write!(
                f,
                "{} was written by a newer version: start that once, so that it is shipped",
                path.display()
            ),
            Self::Foreign(path) => {
                write!(f, "{} is a database, but not a ledger of Magpie's", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(fault) => Some(fault),
            Self::Database(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(fault: io::Error) -> Self {
        Self::Io(fault)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(fault: rusqlite::Error) -> Self {
        Self::Database(fault)
    }
}
