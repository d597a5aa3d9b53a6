//! From when on, and until when, there are which sums.

use rusqlite::{Connection, OptionalExtension, params};

use super::facts::number;
use crate::error::Result;

/// A point in time that only ever moves on, in Unix milliseconds; 0 at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Sums by minute from before are gone.
    MinutesFrom,
    /// Sums by hour from before are gone.
    HoursFrom,
    /// Sums by hour from here on are not yet made.
    HoursUntil,
    /// Sums by day from here on are not yet made.
    DaysUntil,
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Self::MinutesFrom => "minutes_from",
            Self::HoursFrom => "hours_from",
            Self::HoursUntil => "hours_until",
            Self::DaysUntil => "days_until",
        }
    }

    pub(crate) fn read(self, connection: &Connection) -> Result<u64> {
        let text = "SELECT value FROM mark WHERE name = ?1";
        let mut statement = connection.prepare_cached(text)?;
        let value = statement.query_row([self.name()], |row| row.get::<_, i64>(0)).optional()?;
        Ok(value.unwrap_or_default().max(0).cast_unsigned())
    }

    /// Moves it on.
    pub(crate) fn raise(self, connection: &Connection, ms: u64) -> Result<()> {
        let text = "INSERT INTO mark (name, value) VALUES (?1, ?2)
            ON CONFLICT DO UPDATE SET value = max(value, excluded.value)";
        connection.prepare_cached(text)?.execute(params![self.name(), number(ms)])?;
        Ok(())
    }
}
