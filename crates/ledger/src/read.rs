//! Questions to the ledger.
//!
//! Names in SQL are ours; whatever comes from outside is a bound parameter.

mod export;
mod feedback;
mod filter;
mod requests;
mod spans;
mod usage;
mod variants;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use crate::error::Result;
use crate::store::{BUSY, Names};

pub use export::{Format, export_usage};
pub use feedback::Rating;
pub use filter::{By, Filter};
pub use requests::{Attempt, Cost, Cursor, Page, Request, Whole};
pub use spans::Step;
pub use usage::{Spent, Usage};
pub use variants::{Measure, Measured, Moments, Target, Trial, Unit, VariantSums, Variants};

/// Reads the database, while others write to it. For one thread: whoever asks opens their own.
pub struct Reader {
    connection: Connection,
    names: RefCell<HashMap<u32, Rc<str>>>,
    series: RefCell<HashMap<u32, Rc<[Rc<str>; 8]>>>,
}

impl Reader {
    /// A reader of the database at this path.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self { connection, names: RefCell::default(), series: RefCell::default() })
    }

    /// A name by its number.
    fn name(&self, id: u32) -> Result<Rc<str>> {
        if let Some(known) = self.names.borrow().get(&id) {
            return Ok(Rc::clone(known));
        }
        let name: Rc<str> = Names::text(&self.connection, id)?.into();
        self.names.borrow_mut().insert(id, Rc::clone(&name));
        Ok(name)
    }

    /// The names of a record, in the order of the columns of `series`.
    fn series_names(&self, id: u32) -> Result<Rc<[Rc<str>; 8]>> {
        if let Some(known) = self.series.borrow().get(&id) {
            return Ok(Rc::clone(known));
        }
        let names = Rc::new(Names::of_series(&self.connection, id)?.map(Rc::from));
        self.series.borrow_mut().insert(id, Rc::clone(&names));
        Ok(names)
    }

    /// The number of a name, if it ever occurred.
    fn number_of(&self, name: &str) -> Result<Option<u32>> {
        let text = "SELECT id FROM name WHERE text = ?1";
        let mut statement = self.connection.prepare_cached(text)?;
        Ok(statement.query_row([name], |row| row.get(0)).optional()?)
    }
}

/// A number that is never negative.
fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(|number| number.max(0).cast_unsigned())
}
