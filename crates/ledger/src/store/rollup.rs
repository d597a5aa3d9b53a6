//! Sums by minute, hour and day.
//!
//! A batch is added up in memory and written to the minutes. When an hour is over, its minutes are
//! folded into one; when a day is over, its hours. What comes later than that is added to all of
//! them.

use std::collections::HashMap;

use rusqlite::{Connection, Statement};

use super::facts::number;
use super::mark::Mark;
use super::schema::SUMS;
use crate::error::Result;
use crate::record::Bill;
use crate::segment::Ending;

/// Tokens of one bucket, or microseconds, that one attempt adds to a sum. More than that is a
/// provider's mistake or malice, and must not make a sum run over.
const MAX_COUNT: u64 = 1 << 40;
/// Nanos that one attempt adds to a sum: about a million of the currency's units.
const MAX_NANOS: u64 = 1 << 50;

/// A span of time that sums are kept for. Spans are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Step {
    pub(crate) const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Its length in milliseconds.
    #[must_use]
    pub fn length_ms(self) -> u64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// The table of its sums.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// What is added up, in the order of [`SUMS`].
pub(crate) type Sums = [u64; SUMS.len()];

/// What is added up apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Slot {
    /// Number of the span since 1970.
    at: u64,
    series: u32,
    currency: u32,
}

/// Sums of the batch under way.
#[derive(Default)]
pub(crate) struct Rollups {
    minutes: HashMap<Slot, Sums>,
    /// How they are written, minute, hour and day.
    statements: Option<[String; 3]>,
}

impl Rollups {
    /// Adds a record that ended at `ended_ms`.
    pub(crate) fn add(&mut self, ended_ms: u64, series: u32, currency: u32, ending: &Ending<'_>) {
        let at = ended_ms / Step::Minute.length_ms();
        let sums = self.minutes.entry(Slot { at, series, currency }).or_default();
        for (sum, value) in sums.iter_mut().zip(values(ending)) {
            *sum += value;
        }
    }

    /// Writes the sums to the tables, and is empty.
    pub(crate) fn write(&mut self, connection: &Connection) -> Result<()> {
        let mut minutes: Vec<(Slot, Sums)> = self.minutes.drain().collect();
        minutes.sort_unstable_by_key(|(slot, _)| *slot);
        let Some((last, _)) = minutes.last() else { return Ok(()) };
        let now_ms = last.at * Step::Minute.length_ms();
        let until =
            [u64::MAX, Mark::HoursUntil.read(connection)?, Mark::DaysUntil.read(connection)?];
        let texts = self.statements.get_or_insert_with(|| Step::ALL.map(upsert));
        for ((step, text), until) in Step::ALL.into_iter().zip(texts).zip(until) {
            let minutes_each = step.length_ms() / Step::Minute.length_ms();
            let mut statement = connection.prepare_cached(text)?;
            for (slot, sums) in &minutes {
                if slot.at.saturating_mul(Step::Minute.length_ms()) < until {
                    let slot = Slot { at: slot.at / minutes_each, ..*slot };
                    write(&mut statement, slot, sums)?;
                }
            }
        }
        fold(connection, now_ms)
    }
}

/// Folds the minutes of hours that are over, and the hours of days that are over.
pub(super) fn fold(connection: &Connection, now_ms: u64) -> Result<()> {
    let folds =
        [(Step::Minute, Step::Hour, Mark::HoursUntil), (Step::Hour, Step::Day, Mark::DaysUntil)];
    for (fine, coarse, mark) in folds {
        let (from, to) = (mark.read(connection)?, now_ms / coarse.length_ms() * coarse.length_ms());
        if from >= to {
            continue;
        }
        let sums = SUMS.map(|sum| format!("sum({sum})")).join(", ");
        let text = format!(
            "INSERT OR REPLACE INTO {} (at, series, currency, {})
             SELECT at / {}, series, currency, {sums} FROM {} WHERE at >= ?1 AND at < ?2
             GROUP BY 1, 2, 3",
            coarse.table(),
            SUMS.join(", "),
            coarse.length_ms() / fine.length_ms(),
            fine.table(),
        );
        let bounds = [number(from / fine.length_ms()), number(to / fine.length_ms())];
        connection.prepare_cached(&text)?.execute(bounds)?;
        mark.raise(connection, to)?;
    }
    Ok(())
}

/// What one record adds.
fn values(ending: &Ending<'_>) -> Sums {
    let tokens = &ending.tokens;
    let is_last = ending.last_of.is_some();
    // Figures about requests come from the last attempt, those about use from every one.
    let last = |value: u64| if is_last { value.min(MAX_COUNT) } else { 0 };
    let (nanos, unpriced) = match ending.bill {
        Bill::Nothing => (0, 0),
        Bill::Unpriced => (0, 1),
        Bill::Charge(amount) => (amount.nanos.min(MAX_NANOS), 0),
    };
    [
        last(1),
        1,
        last(u64::from(ending.is_error())),
        tokens.input.min(MAX_COUNT),
        tokens.cached_read.min(MAX_COUNT),
        tokens.cache_write.min(MAX_COUNT),
        tokens.output.min(MAX_COUNT),
        tokens.reasoning.min(MAX_COUNT),
        nanos,
        unpriced,
        last(ending.first_event_us.unwrap_or_default()),
        last(u64::from(ending.first_event_us.is_some())),
        last(ending.total_us),
        last(ending.overhead_us),
    ]
}

fn write(statement: &mut Statement<'_>, slot: Slot, sums: &Sums) -> Result<()> {
    statement.raw_bind_parameter(1, number(slot.at))?;
    statement.raw_bind_parameter(2, slot.series)?;
    statement.raw_bind_parameter(3, slot.currency)?;
    for (index, sum) in sums.iter().enumerate() {
        statement.raw_bind_parameter(index + 4, number(*sum))?;
    }
    statement.raw_execute()?;
    Ok(())
}

fn upsert(step: Step) -> String {
    let values = SUMS.map(|_| "?").join(", ");
    let added = SUMS.map(|sum| format!("{sum} = {sum} + excluded.{sum}")).join(", ");
    format!(
        "INSERT INTO {} (at, series, currency, {}) VALUES (?, ?, ?, {values})
         ON CONFLICT DO UPDATE SET {added}",
        step.table(),
        SUMS.join(", "),
    )
}
