//! What is too old goes.

use super::Store;
use super::facts::number;
use super::mark::Mark;
use super::rollup::{self, Step};
use crate::error::Result;

/// Rows removed by one transaction, so that nobody waits for long.
const ROWS: u64 = 5000;
/// Pages given back to the file system at once.
const PAGES: i64 = 1000;
const DAY_MS: u64 = 86_400_000;

/// How many days things are kept; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Records of single attempts.
    pub attempts: Option<u32>,
    /// Sums by minute. They are what makes budgets exact that begin at half past an hour.
    pub minutes: Option<u32>,
    /// Sums by hour.
    pub hours: Option<u32>,
    /// Sums by day.
    pub days: Option<u32>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { attempts: Some(30), minutes: Some(40), hours: Some(400), days: None }
    }
}

impl Store {
    /// Removes what is too old, and gives its room back.
    pub(crate) fn retain(&mut self, retention: &Retention, now_ms: u64) -> Result<()> {
        let cut = |days: u32| now_ms.saturating_sub(u64::from(days) * DAY_MS);
        if let Some(days) = retention.attempts {
            self.remove("attempt", "ended", cut(days))?;
            self.remove("feedback", "ended", cut(days))?;
            // The time of an id stands in the upper 48 of its upper 64 bits.
            self.remove("slow", "high", cut(days) << 16)?;
        }
        // What is about to go has to be in the coarser sums.
        self.begin(false)?;
        let folded = rollup::fold(&self.connection, now_ms).and_then(|()| self.commit());
        if folded.is_err() {
            self.rollback();
        }
        folded?;
        let kept = [
            (Step::Minute, retention.minutes, Some(Mark::MinutesFrom)),
            (Step::Hour, retention.hours, Some(Mark::HoursFrom)),
            (Step::Day, retention.days, None),
        ];
        for (step, days, mark) in kept {
            let Some(days) = days else { continue };
            // Whole days, so that what is left can be told from what is not; and the mark first, so
            // that nobody asks for what is about to go.
            let cut = cut(days) / DAY_MS * DAY_MS;
            if let Some(mark) = mark {
                mark.raise(&self.connection, cut)?;
            }
            self.remove(step.table(), "at", cut / step.length_ms())?;
        }
        self.give_back()
    }

    /// Removes the rows of a table whose column is below `cut`, some at a time.
    fn remove(&self, table: &str, column: &str, cut: u64) -> Result<()> {
        let text = format!(
            "DELETE FROM {table} WHERE {column} < ?1 AND {column} <= coalesce(
                (SELECT {column} FROM {table} ORDER BY {column} LIMIT 1 OFFSET {ROWS}), ?1)"
        );
        let mut statement = self.connection.prepare_cached(&text)?;
        while statement.execute([number(cut)])? > 0 {}
        Ok(())
    }

    fn give_back(&self) -> Result<()> {
        loop {
            let free: i64 =
                self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
            if free < PAGES {
                return Ok(());
            }
            let text = format!("PRAGMA incremental_vacuum({PAGES})");
            let mut statement = self.connection.prepare(&text)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
    }
}
