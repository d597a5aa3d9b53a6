//! What callers think of answers.

use rusqlite::params;

use super::Store;
use super::facts::number;
use crate::error::Result;
use crate::record::RequestId;
use crate::segment::Opinion;

impl Store {
    /// Writes feedback, in the place of what was given before for the same request and label. What
    /// is older than that changes nothing, so that the order in which workers' records arrive does
    /// not count.
    pub(crate) fn put_feedback(
        &self,
        id: RequestId,
        at_ms: u64,
        opinion: &Opinion<'_>,
    ) -> Result<()> {
        let (high, low) = id.halves();
        let text = "INSERT INTO feedback (ended, high, low, label, at, score, comment)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
            ON CONFLICT DO UPDATE
            SET at = excluded.at, score = excluded.score, comment = excluded.comment
            WHERE excluded.at >= at";
        self.connection.prepare_cached(text)?.execute(params![
            number(opinion.ended_ms),
            high.cast_signed(),
            low.cast_signed(),
            opinion.label,
            number(at_ms),
            opinion.score,
            opinion.comment,
        ])?;
        Ok(())
    }
}
