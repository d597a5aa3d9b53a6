//! Writing records, and how far each segment is shipped.

use std::mem;
use std::ops::Range;

use rusqlite::{OptionalExtension, Statement, params};

use super::Store;
use super::facts::{Begun, number, pack};
use crate::error::Result;
use crate::record::{Bill, RequestId};
use crate::segment::Ending;

/// Rows written by one statement: past some thirty, more gain nothing.
const ROWS: usize = 32;
/// Columns of a row.
const COLUMNS: usize = 6;
/// An attempt that ended longer after its id says, or before because the clock was set back, is
/// found through the table `slow`; others by looking at everything that ended in that time.
pub(crate) const SLOW_MS: u64 = 30_000;

/// A record to be written.
pub(super) struct Row {
    key: (u64, RequestId, u16),
    series: u32,
    /// Where its blob stands in [`Store::blobs`].
    blob: Range<usize>,
}

/// An attempt under way whose segment is gone.
pub(crate) struct Kept {
    pub(crate) id: RequestId,
    pub(crate) attempt: u16,
    pub(crate) facts: Vec<u8>,
}

impl Store {
    /// Writes the record of an attempt that ended then. One that is there already stays as it is.
    pub(crate) fn put(
        &mut self,
        key: (u64, RequestId, u16),
        series: u32,
        begun: &Begun,
        ending: &Ending<'_>,
        tail: &[u8],
    ) -> Result<()> {
        let start = self.blobs.len();
        pack(begun, tail, &mut self.blobs);
        let row = Row { key, series, blob: start..self.blobs.len() };
        let currency = match ending.bill {
            Bill::Charge(amount) => self.name(amount.currency)?,
            _ => 0,
        };
        if self.careful {
            let mut statement = self.connection.prepare_cached(&self.statements.0)?;
            bind(&mut statement, 0, &row, &self.blobs)?;
            if statement.raw_execute()? == 0 {
                return Ok(());
            }
        } else {
            self.rows.push(row);
        }
        self.rollups.add(key.0, series, currency, ending);
        let (ended_ms, id, attempt) = key;
        match ended_ms.checked_sub(id.at_ms()) {
            Some(0..=SLOW_MS) => Ok(()),
            _ => self.put_slow(id, attempt, ended_ms),
        }
    }

    fn put_slow(&self, id: RequestId, attempt: u16, ended_ms: u64) -> Result<()> {
        let (high, low) = id.halves();
        let text = "INSERT OR IGNORE INTO slow (high, low, attempt, ended) VALUES (?1, ?2, ?3, ?4)";
        let values = params![high.cast_signed(), low.cast_signed(), attempt, number(ended_ms)];
        self.connection.prepare_cached(text)?.execute(values)?;
        Ok(())
    }

    /// Writes what is waiting, in the order of the table.
    pub(super) fn flush(&mut self) -> Result<()> {
        let mut rows = mem::take(&mut self.rows);
        // Each writer's are in order already, which a stable sort makes use of.
        rows.sort_by_key(|row| row.key);
        let (many, single) = rows.as_chunks::<ROWS>();
        let (many, single) = (many.iter().map(<[Row; ROWS]>::as_slice), single.chunks(1));
        for rows in many.chain(single) {
            let text = if rows.len() == 1 { &self.statements.0 } else { &self.statements.1 };
            let mut statement = self.connection.prepare_cached(text)?;
            for (index, row) in rows.iter().enumerate() {
                bind(&mut statement, index * COLUMNS, row, &self.blobs)?;
            }
            // Which ones were there is not said, so the sums cannot be right.
            self.doubled |= statement.raw_execute()? != rows.len();
        }
        self.blobs.clear();
        rows.clear();
        self.rows = rows;
        Ok(())
    }

    /// How much of a segment is shipped.
    pub(crate) fn shipped(&self, segment: &str) -> Result<u64> {
        let mut statement =
            self.connection.prepare_cached("SELECT shipped FROM segment WHERE name = ?1")?;
        let shipped = statement.query_row([segment], |row| row.get::<_, i64>(0)).optional()?;
        Ok(shipped.unwrap_or_default().cast_unsigned())
    }

    /// Notes how much of a segment is shipped.
    pub(crate) fn set_shipped(&self, segment: &str, shipped: u64) -> Result<()> {
        let text = "INSERT INTO segment (name, shipped) VALUES (?1, ?2)
            ON CONFLICT DO UPDATE SET shipped = excluded.shipped";
        self.connection.prepare_cached(text)?.execute(params![segment, number(shipped)])?;
        Ok(())
    }

    /// Forgets a segment whose file is gone.
    pub(crate) fn forget_segment(&self, segment: &str) -> Result<()> {
        self.connection
            .prepare_cached("DELETE FROM segment WHERE name = ?1")?
            .execute([segment])?;
        Ok(())
    }

    /// Forgets everything about a generation whose files are gone.
    pub(crate) fn forget_generation(&self, generation: &str) -> Result<()> {
        // Of two segments' names the one of the later generation sorts behind.
        let names = "DELETE FROM segment WHERE name >= ?1 AND name < ?1 || '~'";
        self.connection.prepare_cached(names)?.execute([generation])?;
        let openings = "DELETE FROM opening WHERE generation = ?1";
        self.connection.prepare_cached(openings)?.execute([generation])?;
        Ok(())
    }

    /// Keeps an attempt under way whose segment is about to go.
    pub(crate) fn keep_opening(&self, generation: &str, kept: &Kept) -> Result<()> {
        let (high, low) = kept.id.halves();
        let text = "INSERT OR REPLACE INTO opening (generation, high, low, attempt, facts)
            VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(text)?.execute(params![
            generation,
            high.cast_signed(),
            low.cast_signed(),
            kept.attempt,
            kept.facts,
        ])?;
        Ok(())
    }

    /// Forgets an attempt that was kept.
    pub(crate) fn drop_opening(&self, generation: &str, id: RequestId, attempt: u16) -> Result<()> {
        let (high, low) = id.halves();
        let text = "DELETE FROM opening
            WHERE generation = ?1 AND high = ?2 AND low = ?3 AND attempt = ?4";
        let values = params![generation, high.cast_signed(), low.cast_signed(), attempt];
        self.connection.prepare_cached(text)?.execute(values)?;
        Ok(())
    }

    /// The attempts that were kept.
    pub(crate) fn openings(&self, generation: &str) -> Result<Vec<Kept>> {
        let text = "SELECT high, low, attempt, facts FROM opening WHERE generation = ?1";
        let mut statement = self.connection.prepare_cached(text)?;
        let kept = statement.query_map([generation], |row| {
            let high = row.get::<_, i64>(0)?.cast_unsigned();
            let low = row.get::<_, i64>(1)?.cast_unsigned();
            Ok(Kept {
                id: RequestId::from_halves(high, low),
                attempt: row.get(2)?,
                facts: row.get(3)?,
            })
        })?;
        Ok(kept.collect::<rusqlite::Result<_>>()?)
    }
}

/// The statements that write one row and many.
pub(super) fn statements() -> (String, String) {
    let rows = |rows: usize| {
        format!(
            "INSERT OR IGNORE INTO attempt (ended, high, low, attempt, series, facts) VALUES {}",
            vec!["(?, ?, ?, ?, ?, ?)"; rows].join(", ")
        )
    };
    (rows(1), rows(ROWS))
}

fn bind(statement: &mut Statement<'_>, before: usize, row: &Row, blobs: &[u8]) -> Result<()> {
    let (ended_ms, id, attempt) = row.key;
    let (high, low) = id.halves();
    statement.raw_bind_parameter(before + 1, number(ended_ms))?;
    statement.raw_bind_parameter(before + 2, high.cast_signed())?;
    statement.raw_bind_parameter(before + 3, low.cast_signed())?;
    statement.raw_bind_parameter(before + 4, attempt)?;
    statement.raw_bind_parameter(before + 5, row.series)?;
    statement.raw_bind_parameter(before + 6, &blobs[row.blob.clone()])?;
    Ok(())
}
