//! Sums: who used how much of what, and when.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rusqlite::{params_from_iter, types::Value};
use serde::Serialize;

use super::spans::{Kept, Spans, spans};
use super::{By, Cost, Filter, Reader, Step, unsigned};
use crate::error::Result;
use crate::record::Tokens;
use crate::store::schema::SUMS;
use crate::store::{Mark, Sums, number};

/// Beyond so many look-ups it is quicker to read everything.
const MAX_LOOKUPS: u64 = 100_000;
/// Days of a question by day; the rest is left out.
const MAX_DAYS: usize = 3700;

/// Which of the sums is the cost.
const NANOS: usize = 8;

/// Sums of some records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Beginning of the span of time, if they are told apart by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// The names they are told apart by, in the order asked for, without spans of time.
    pub names: Vec<String>,
    /// Requests that ended.
    pub requests: u64,
    /// Attempts that ended.
    pub attempts: u64,
    /// Requests with a fault, or a status of 400 and above.
    pub errors: u64,
    /// Tokens of all attempts.
    pub tokens: Tokens,
    /// Costs of all attempts, one for each currency.
    pub costs: Vec<Cost>,
    /// Attempts that cost something, nobody knows how much.
    pub unpriced: u64,
    /// Requests that had a first event, and how long they took to it, added up.
    pub first_events: u64,
    /// Microseconds to the first event, added up over `first_events`.
    pub first_event_us: u64,
    /// Microseconds to the end, added up over `requests`.
    pub total_us: u64,
    /// Microseconds that were Magpie's own, added up over `requests`.
    pub overhead_us: u64,
}

/// What was spent in a span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Beginning of the span.
    pub at_ms: u64,
    /// How much.
    pub cost: Cost,
}

/// What the sums of one series and currency, in one span of time, are kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Slot {
    at_ms: u64,
    series: u32,
    currency: u32,
}

impl Reader {
    /// Sums, told apart by names and at most one span of time, in the order of time and names. A
    /// time is when an attempt ended, to the minute; a day begins at midnight in `zone`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn usage(&self, filter: &Filter, by: &[By], zone: &TimeZone) -> Result<Vec<Usage>> {
        let _one_state = self.connection.unchecked_transaction()?;
        let series = self.series_of(filter)?;
        let series = series.as_deref();
        let (from, to) = self.within(filter)?;
        let kept = self.kept()?;
        let mut sums: HashMap<Slot, Sums> = HashMap::new();
        let mut add = |at_ms, mut slot: Slot, row: Sums| {
            slot.at_ms = at_ms;
            let sums = sums.entry(slot).or_default();
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum = sum.saturating_add(value));
        };
        let time = by.iter().copied().find(|by| by.column().is_none());
        let step = match time {
            Some(By::Minute) => Step::Minute,
            Some(By::Hour) => Step::Hour,
            _ => Step::Day,
        };
        if time == Some(By::Day) {
            for day in days(from, to, zone) {
                for span in spans(day.start.max(from), day.end.min(to), step, kept) {
                    self.ask(series, &span, |slot, row| add(day.start, slot, row))?;
                }
            }
        } else {
            let floor = |at_ms: u64| at_ms / step.length_ms() * step.length_ms();
            for span in spans(from, to, step, kept) {
                self.ask(series, &span, |slot, row| {
                    add(time.map_or(0, |_| floor(slot.at_ms)), slot, row);
                })?;
            }
        }
        self.by_names(sums, by, time.is_some())
    }

    /// What one key, user, team, … has spent, told apart by spans no longer than `coarsest`, in the
    /// order of time. To restore a budget, call it after the start, when everything is recovered.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn spent(
        &self,
        by: By,
        name: &str,
        time_ms: Range<u64>,
        coarsest: Step,
    ) -> Result<Vec<Spent>> {
        let filter = Filter {
            from_ms: Some(time_ms.start),
            to_ms: Some(time_ms.end),
            ..Filter::only(by, name)
        };
        let _one_state = self.connection.unchecked_transaction()?;
        let series = self.series_of(&filter)?;
        let (from, to) = self.within(&filter)?;
        let mut sums: BTreeMap<(u64, u32), u64> = BTreeMap::new();
        for span in spans(from, to, coarsest, self.kept()?) {
            self.ask(series.as_deref(), &span, |slot, row| {
                let sum = sums.entry((slot.at_ms, slot.currency)).or_default();
                *sum = sum.saturating_add(row[NANOS]);
            })?;
        }
        let spent = sums.into_iter().filter(|(_, nanos)| *nanos > 0);
        spent
            .map(|((at_ms, currency), nanos)| {
                let currency = self.name(currency)?.as_ref().into();
                Ok(Spent { at_ms, cost: Cost { nanos, currency } })
            })
            .collect()
    }

    /// Reads the sums of some spans.
    fn ask(
        &self,
        series: Option<&[u32]>,
        (step, at): &Spans,
        mut each: impl FnMut(Slot, Sums),
    ) -> Result<()> {
        let columns = SUMS.join(", ");
        let table = step.table();
        let mut values = vec![Value::from(number(at.start)), Value::from(number(at.end))];
        let lookups = |series: &[u32]| (at.end - at.start).saturating_mul(series.len() as u64);
        let source = match series {
            None => format!("{table} WHERE at >= ?1 AND at < ?2"),
            // A key's sums are few among many: each is looked up.
            Some(series) if lookups(series) <= MAX_LOOKUPS => format!(
                "(WITH RECURSIVE span (number) AS
                    (SELECT ?1 UNION ALL SELECT number + 1 FROM span WHERE number + 1 < ?2)
                  SELECT number FROM span)
                 CROSS JOIN json_each(?3) AS wanted
                 CROSS JOIN {table} ON at = number AND series = wanted.value"
            ),
            Some(_) => format!(
                "{table} WHERE at >= ?1 AND at < ?2
                 AND series IN (SELECT value FROM json_each(?3))"
            ),
        };
        if let Some(series) = series {
            values.push(Value::from(serde_json::json!(series).to_string()));
        }
        let text = format!("SELECT at, series, currency, {columns} FROM {source}");
        let mut statement = self.connection.prepare_cached(&text)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            let at_ms = unsigned(row, 0)?.saturating_mul(step.length_ms());
            let mut sums = Sums::default();
            for (index, sum) in sums.iter_mut().enumerate() {
                *sum = unsigned(row, index + 3)?;
            }
            each(Slot { at_ms, series: row.get(1)?, currency: row.get(2)? }, sums);
        }
        Ok(())
    }

    /// Adds up what has the same names.
    fn by_names(&self, sums: HashMap<Slot, Sums>, by: &[By], has_time: bool) -> Result<Vec<Usage>> {
        let columns: Vec<&str> = by.iter().filter_map(|by| by.column()).collect();
        let mut known: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut groups: HashMap<(u64, Vec<u32>), Usage> = HashMap::new();
        for (slot, sums) in sums {
            let names = match known.get(&slot.series) {
                Some(names) => names,
                None => {
                    let names = self.names_of(slot.series, &columns)?;
                    known.entry(slot.series).or_insert(names)
                }
            };
            let usage = groups.entry((slot.at_ms, names.clone())).or_default();
            let currency = self.name(slot.currency)?;
            usage.add(&sums, &currency);
        }
        let mut rows = Vec::with_capacity(groups.len());
        for ((at_ms, names), mut usage) in groups {
            usage.at_ms = has_time.then_some(at_ms);
            for name in names {
                usage.names.push(self.name(name)?.as_ref().into());
            }
            usage.costs.sort_unstable_by(|one, other| one.currency.cmp(&other.currency));
            rows.push(usage);
        }
        rows.sort_unstable_by(|one, other| {
            (one.at_ms, &one.names).cmp(&(other.at_ms, &other.names))
        });
        Ok(rows)
    }

    /// Numbers of some names of a series.
    fn names_of(&self, series: u32, columns: &[&str]) -> Result<Vec<u32>> {
        if columns.is_empty() {
            return Ok(Vec::new());
        }
        let text = format!("SELECT {} FROM series WHERE id = ?1", columns.join(", "));
        let mut statement = self.connection.prepare_cached(&text)?;
        let names = statement.query_row([series], |row| {
            (0..columns.len()).map(|index| row.get(index)).collect::<rusqlite::Result<_>>()
        })?;
        Ok(names)
    }

    /// From when to when there are sums that a filter asks for.
    fn within(&self, filter: &Filter) -> Result<(u64, u64)> {
        let (mut first, mut last) = (u64::MAX, 0);
        for step in Step::ALL {
            // Asked for in one, both would be looked for in every row.
            let text = format!(
                "SELECT (SELECT min(at) FROM {0}), (SELECT max(at) FROM {0})",
                step.table()
            );
            let mut statement = self.connection.prepare_cached(&text)?;
            let ends: (Option<i64>, Option<i64>) =
                statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let (Some(from), Some(to)) = ends else { continue };
            let start =
                |number: i64| number.max(0).cast_unsigned().saturating_mul(step.length_ms());
            first = first.min(start(from));
            last = last.max(start(to.saturating_add(1)));
        }
        let from = filter.from_ms.unwrap_or_default().max(first);
        Ok((from, filter.to_ms.unwrap_or(u64::MAX).min(last)))
    }

    /// Which sums there are.
    fn kept(&self) -> Result<Kept> {
        let mark = |mark: Mark| mark.read(&self.connection);
        Ok(Kept {
            from: [mark(Mark::MinutesFrom)?, mark(Mark::HoursFrom)?],
            until: [mark(Mark::HoursUntil)?, mark(Mark::DaysUntil)?],
        })
    }
}

impl Usage {
    fn add(&mut self, sums: &Sums, currency: &str) {
        let [requests, attempts, errors, input, cached_read, cache_write, output, reasoning, ..] =
            *sums;
        let [.., nanos, unpriced, first_event_us, first_events, total_us, overhead_us] = *sums;
        for (sum, value) in [
            (&mut self.requests, requests),
            (&mut self.attempts, attempts),
            (&mut self.errors, errors),
            (&mut self.tokens.input, input),
            (&mut self.tokens.cached_read, cached_read),
            (&mut self.tokens.cache_write, cache_write),
            (&mut self.tokens.output, output),
            (&mut self.tokens.reasoning, reasoning),
            (&mut self.unpriced, unpriced),
            (&mut self.first_event_us, first_event_us),
            (&mut self.first_events, first_events),
            (&mut self.total_us, total_us),
            (&mut self.overhead_us, overhead_us),
        ] {
            *sum = sum.saturating_add(value);
        }
        Cost::add(&mut self.costs, nanos, currency);
    }
}

/// Days that begin at midnight in a zone, from the one of `from` to the one of `to`.
fn days(from: u64, to: u64, zone: &TimeZone) -> Vec<Range<u64>> {
    let zoned =
        |ms: u64| Some(Timestamp::from_millisecond(number(ms)).ok()?.to_zoned(zone.clone()));
    let Some(mut day) = zoned(from).and_then(|time| time.start_of_day().ok()) else {
        return Vec::new();
    };
    let mut days = Vec::new();
    let ms = |time: &jiff::Zoned| time.timestamp().as_millisecond().max(0).cast_unsigned();
    while ms(&day) < to && days.len() < MAX_DAYS {
        let Ok(next) = day.checked_add(1.day()).and_then(|next| next.start_of_day()) else { break };
        days.push(ms(&day)..ms(&next));
        day = next;
    }
    days
}
