//! What callers think of answers.

use rusqlite::{Row, Rows, params};
use serde::Serialize;

use super::{Reader, unsigned};
use crate::error::Result;
use crate::record::RequestId;
use crate::store::number;
use crate::store::schema;

/// What a caller thinks of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rating {
    /// What it is about; empty if it is about the answer as a whole.
    pub label: String,
    /// How good, from 0 to 1.
    pub score: f64,
    /// In words, as the caller sent it.
    pub comment: Option<String>,
    /// When it was given, in Unix milliseconds.
    pub at_ms: u64,
}

/// Where an attempt stands, in the order of the tables.
pub(super) type Place = (i64, i64, i64);

impl Reader {
    /// Whether the database can have feedback: one that no newer version has opened cannot.
    pub(super) fn has_feedback(&self) -> Result<bool> {
        Ok(schema::number(&self.connection, "user_version")? >= schema::VERSION)
    }

    /// What was said of a request that ended then.
    pub(super) fn feedback_on(&self, id: RequestId, ended_ms: u64) -> Result<Vec<Rating>> {
        if !self.has_feedback()? {
            return Ok(Vec::new());
        }
        let (high, low) = id.halves();
        let text = "SELECT label, score, comment, at FROM feedback
            WHERE ended = ?1 AND high = ?2 AND low = ?3 ORDER BY label";
        let mut statement = self.connection.prepare_cached(text)?;
        let place = params![number(ended_ms), high.cast_signed(), low.cast_signed()];
        let ratings = statement.query_map(place, |row| {
            let (label, score, comment) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Rating { label, score, comment, at_ms: unsigned(row, 3)? })
        })?;
        Ok(ratings.collect::<rusqlite::Result<_>>()?)
    }
}

/// Feedback in the order of attempts, read beside them.
pub(super) struct Beside<'r> {
    rows: Rows<'r>,
    next: Option<(Place, String, f64)>,
}

impl<'r> Beside<'r> {
    /// Rows of place, label and score, in their order.
    pub(super) fn new(rows: Rows<'r>) -> Result<Self> {
        let mut beside = Self { rows, next: None };
        beside.step()?;
        Ok(beside)
    }

    fn step(&mut self) -> Result<()> {
        let taken =
            |row: &Row<'_>| Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3)?, row.get(4)?));
        self.next = self.rows.next()?.map(taken).transpose().map_err(crate::Error::Database)?;
        Ok(())
    }

    /// Hands out what stands at a place. Places come in their order; what was passed is gone.
    pub(super) fn at(&mut self, place: Place, mut each: impl FnMut(&str, f64)) -> Result<()> {
        while let Some((at, label, score)) = &self.next
            && *at <= place
        {
            if *at == place {
                each(label, *score);
            }
            self.step()?;
        }
        Ok(())
    }
}
