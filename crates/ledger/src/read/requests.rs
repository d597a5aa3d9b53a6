//! Single requests and their attempts.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use rusqlite::Row;
use serde::{Serialize, Serializer};

use super::{Filter, Rating, Reader, unsigned};
use crate::error::Result;
use crate::record::{Amount, Bill, NotAnId, Provenance, RequestId, Tokens, decimal, formula};
use crate::segment::{Ending, lines};
use crate::store::{SLOW_MS, number, unpack};

/// Records looked at for one page; a page that is not full then goes on in the next.
const MAX_LOOKED_AT: usize = 200_000;

/// An amount of money.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// 1e-9 of the currency's unit.
    pub nanos: u64,
    /// The currency's code.
    pub currency: String,
}

impl Cost {
    /// Adds to the amount of the same currency.
    pub(super) fn add(costs: &mut Vec<Self>, nanos: u64, currency: &str) {
        if nanos == 0 && currency.is_empty() {
            return;
        }
        match costs.iter_mut().find(|cost| cost.currency == currency) {
            Some(cost) => cost.nanos = cost.nanos.saturating_add(nanos),
            None => costs.push(Self { nanos, currency: currency.to_owned() }),
        }
    }
}

impl Serialize for Cost {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            amount: String,
            currency: &'a str,
        }
        Shown { amount: decimal(self.nanos), currency: &self.currency }.serialize(serializer)
    }
}

/// One attempt, as it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The request.
    pub id: RequestId,
    /// Which attempt of it, from 1; 0 if it was refused before any, or answered along with another
    /// request.
    pub attempt: u16,
    /// When it began.
    pub at_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// The key.
    pub key: String,
    /// The user.
    pub user: String,
    /// The team.
    pub team: String,
    /// The organisation.
    pub org: String,
    /// What was asked for.
    pub operation: String,
    /// The model as the client named it.
    pub model: String,
    /// The provider.
    pub provider: String,
    /// The provider's name for the model.
    pub upstream_model: String,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// How many attempts there were, if it was the last.
    pub last_of: Option<u16>,
    /// Status of the response; 0 if there was none.
    pub status: u16,
    /// How it ended.
    pub outcome: String,
    /// The fault; empty if there was none.
    pub fault: String,
    /// What was used.
    pub tokens: Tokens,
    /// Who says so.
    pub provenance: Provenance,
    /// What it costs.
    pub cost: Option<Cost>,
    /// Whether it costs something, nobody knows how much.
    pub unpriced: bool,
    /// How the cost came about; empty if it costs nothing.
    pub formula: String,
    /// Microseconds to the first event.
    pub first_event_us: Option<u64>,
    /// Microseconds to the end.
    pub total_us: u64,
    /// Microseconds that were Magpie's own.
    pub overhead_us: u64,
    /// Events that carried something.
    pub events: u64,
    /// Input tokens, as they were estimated.
    pub input_estimate: u64,
}

/// One request: its last attempt, and what all of them cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The last attempt, which is how the request ended.
    pub last: Attempt,
    /// Tokens of all attempts.
    pub tokens: Tokens,
    /// Costs of all attempts, one for each currency.
    pub costs: Vec<Cost>,
}

/// One request with its attempts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Whole {
    /// The request.
    pub request: Request,
    /// Its attempts, in their order.
    pub attempts: Vec<Attempt>,
    /// What callers think of its answer, by label.
    pub feedback: Vec<Rating>,
}

/// A place between requests, in the order in which they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    ended_ms: u64,
    id: RequestId,
}

impl Cursor {
    /// Behind the request that ended with this attempt.
    #[must_use]
    pub fn behind(last: &Attempt) -> Self {
        Self { ended_ms: last.ended_ms, id: last.id }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.ended_ms, self.id)
    }
}

impl FromStr for Cursor {
    type Err = NotAnId;

    fn from_str(text: &str) -> std::result::Result<Self, NotAnId> {
        let (ended, id) = text.split_once('.').ok_or(NotAnId)?;
        let ended_ms = u64::from_str_radix(ended, 16).map_err(|_| NotAnId)?;
        Ok(Self { ended_ms, id: id.parse()? })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A page of requests, the last ended first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The requests. There may be fewer than asked for, and still be more behind them.
    pub requests: Vec<Request>,
    /// Where the next page begins; `None` if there is no more.
    pub next: Option<Cursor>,
}

/// The columns of a row, in the order in which they are read.
const COLUMNS: &str = "ended, high, low, attempt, series, facts";

impl Reader {
    /// Requests that are over, the last ended first, up to `limit` of them, that come behind
    /// `after`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn requests(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        let mut page = Page::default();
        let Some(wanted) = Wanted::new(self, filter)? else { return Ok(page) };
        let first = Cursor { ended_ms: wanted.until, id: RequestId([0; 16]) };
        let after = after.map_or(first, |after| after.min(first));
        let (high, low) = after.id.halves();
        let text = format!(
            "SELECT {COLUMNS} FROM attempt
             WHERE (ended, high, low) < (?1, ?2, ?3) AND ended >= ?4
             ORDER BY ended DESC, high DESC, low DESC, attempt DESC"
        );
        let mut statement = self.connection.prepare_cached(&text)?;
        let from = number(wanted.from);
        let values = [number(after.ended_ms), high.cast_signed(), low.cast_signed(), from];
        let mut rows = statement.query(values)?;
        let (mut looked_at, mut last) = (0, None);
        while let Some(row) = rows.next()? {
            if page.requests.len() >= limit || looked_at >= MAX_LOOKED_AT {
                page.next = last;
                break;
            }
            looked_at += 1;
            last = Some(Cursor { ended_ms: unsigned(row, 0)?, id: id(row)? });
            if let Some(attempt) = wanted.take(self, row, true)? {
                page.requests.push(self.request_of(attempt)?);
            }
        }
        Ok(page)
    }

    /// One request with its attempts, if it is there.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn request(&self, id: RequestId) -> Result<Option<Whole>> {
        let attempts = self.attempts_of(id)?;
        // Of several side by side, the one that answered need not be the one that began last.
        let answered = attempts.iter().rfind(|attempt| attempt.last_of.is_some());
        let Some(last) = answered.or(attempts.last()) else { return Ok(None) };
        let feedback = self.feedback_on(id, last.ended_ms)?;
        Ok(Some(Whole { request: sum_up(last.clone(), &attempts), attempts, feedback }))
    }

    /// Hands out every attempt that a filter lets through, in the order in which they ended. Says
    /// how many.
    ///
    /// # Errors
    /// If the database cannot be read, and what `each` fails with.
    pub fn attempts(
        &self,
        filter: &Filter,
        mut each: impl FnMut(&Attempt) -> Result<()>,
    ) -> Result<u64> {
        let Some(wanted) = Wanted::new(self, filter)? else { return Ok(0) };
        let text = format!(
            "SELECT {COLUMNS} FROM attempt WHERE ended >= ?1 AND ended < ?2
             ORDER BY ended, high, low, attempt"
        );
        let mut statement = self.connection.prepare_cached(&text)?;
        let mut rows = statement.query([number(wanted.from), number(wanted.until)])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            if let Some(attempt) = wanted.take(self, row, false)? {
                each(&attempt)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// The attempts of a request: those that ended soon after it came in, and slow ones.
    fn attempts_of(&self, id: RequestId) -> Result<Vec<Attempt>> {
        let text = format!(
            "SELECT {COLUMNS} FROM attempt
             WHERE ended BETWEEN ?1 AND ?2 AND high = ?3 AND low = ?4
             UNION ALL
             SELECT a.ended, a.high, a.low, a.attempt, a.series, a.facts
             FROM slow CROSS JOIN attempt AS a USING (ended, high, low, attempt)
             WHERE slow.high = ?3 AND slow.low = ?4
             ORDER BY attempt"
        );
        let mut statement = self.connection.prepare_cached(&text)?;
        let (high, low) = id.halves();
        let (from, to) = (id.at_ms(), id.at_ms().saturating_add(SLOW_MS));
        let values = [number(from), number(to), high.cast_signed(), low.cast_signed()];
        let mut rows = statement.query(values)?;
        let mut attempts = Vec::new();
        while let Some(row) = rows.next()? {
            attempts.extend(self.attempt(row, |_| true)?);
        }
        Ok(attempts)
    }

    fn request_of(&self, last: Attempt) -> Result<Request> {
        match last.last_of {
            Some(attempts) if attempts > last.attempt.min(1) => {
                Ok(sum_up(last.clone(), &self.attempts_of(last.id)?))
            }
            _ => Ok(sum_up(last.clone(), &[last])),
        }
    }

    /// A row, taken apart, if it is wanted.
    fn attempt(
        &self,
        row: &Row<'_>,
        is_wanted: impl Fn(&Ending<'_>) -> bool,
    ) -> Result<Option<Attempt>> {
        let blob = row.get_ref(5)?.as_blob().map_err(rusqlite::Error::from)?;
        let Some((begun, ending, bill)) = unpack(blob) else { return Ok(None) };
        if !is_wanted(&ending) {
            return Ok(None);
        }
        let names = self.series_names(row.get(4)?)?;
        let [key, user, team, org, operation, model, provider, upstream_model] =
            names.each_ref().map(ToString::to_string);
        let ended_ms = unsigned(row, 0)?;
        let charge = match ending.bill {
            Bill::Charge(amount) => Some(amount),
            _ => None,
        };
        let cost =
            |amount: Amount<'_>| Cost { nanos: amount.nanos, currency: amount.currency.to_owned() };
        Ok(Some(Attempt {
            id: id(row)?,
            attempt: row.get(3)?,
            at_ms: ended_ms.saturating_sub(begun.took_ms),
            ended_ms,
            key,
            user,
            team,
            org,
            operation,
            model,
            provider,
            upstream_model,
            stream: begun.stream,
            last_of: ending.last_of,
            status: ending.status,
            outcome: ending.outcome.to_owned(),
            fault: ending.fault.unwrap_or_default().to_owned(),
            tokens: ending.tokens,
            provenance: ending.provenance,
            formula: charge.map(|total| formula(&lines(bill), total)).unwrap_or_default(),
            cost: charge.map(cost),
            unpriced: ending.bill == Bill::Unpriced,
            first_event_us: ending.first_event_us,
            total_us: ending.total_us,
            overhead_us: ending.overhead_us,
            events: ending.events,
            input_estimate: begun.input_estimate,
        }))
    }
}

/// A filter, ready to be held against rows.
struct Wanted<'a> {
    from: u64,
    until: u64,
    series: Option<HashSet<u32>>,
    outcome: Option<&'a str>,
    failed: Option<bool>,
}

impl<'a> Wanted<'a> {
    /// Nothing, if the filter lets nothing through.
    fn new(reader: &Reader, filter: &'a Filter) -> Result<Option<Self>> {
        let series: Option<HashSet<u32>> =
            reader.series_of(filter)?.map(|series| series.into_iter().collect());
        if series.as_ref().is_some_and(HashSet::is_empty) {
            return Ok(None);
        }
        Ok(Some(Self {
            from: filter.from_ms.unwrap_or_default(),
            until: filter.to_ms.unwrap_or(u64::MAX),
            series,
            outcome: filter.outcome.as_deref(),
            failed: filter.failed,
        }))
    }

    /// The attempt of a row, if it is wanted.
    fn take(&self, reader: &Reader, row: &Row<'_>, last_only: bool) -> Result<Option<Attempt>> {
        if let Some(series) = &self.series
            && !series.contains(&row.get(4)?)
        {
            return Ok(None);
        }
        reader.attempt(row, |ending| {
            (ending.last_of.is_some() || !last_only)
                && self.outcome.is_none_or(|outcome| outcome == ending.outcome)
                && self.failed.is_none_or(|failed| failed == ending.is_error())
        })
    }
}

fn sum_up(last: Attempt, attempts: &[Attempt]) -> Request {
    let mut request = Request { last, tokens: Tokens::default(), costs: Vec::new() };
    for attempt in attempts {
        request.tokens = request.tokens.plus(&attempt.tokens);
        if let Some(cost) = &attempt.cost {
            Cost::add(&mut request.costs, cost.nanos, &cost.currency);
        }
    }
    request
}

fn id(row: &Row<'_>) -> Result<RequestId> {
    let (high, low) = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
    Ok(RequestId::from_halves(high.cast_unsigned(), low.cast_unsigned()))
}
