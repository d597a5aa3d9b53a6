//! The ledger as a file for other programs.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Attempt, By, Cost, Filter, Reader, Usage};
use crate::error::Result;
use crate::record::decimal;
use crate::store::number;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a line of names, as RFC 4180 has it.
    Csv,
    /// One JSON object on each line.
    JsonLines,
}

const ATTEMPT: &str = "id,attempt,last_of,at,ended,key,user,team,org,operation,model,provider,\
upstream_model,stream,status,outcome,fault,input,cached_read,cache_write,output,reasoning,\
provenance,cost,currency,unpriced,formula,first_event_us,total_us,overhead_us,events";

const USAGE: &str = "requests,attempts,errors,input,cached_read,cache_write,output,reasoning,\
cost,currency,unpriced,first_event_us,first_events,total_us,overhead_us";

impl Reader {
    /// Writes every attempt that a filter lets through, oldest first. Says how many.
    ///
    /// # Errors
    /// If the database cannot be read, or the file not written.
    pub fn export(&self, filter: &Filter, format: Format, out: &mut dyn Write) -> Result<u64> {
        if format == Format::Csv {
            writeln!(out, "{ATTEMPT}")?;
        }
        self.attempts(filter, |attempt| match format {
            Format::Csv => csv(out, &attempt_cells(attempt)),
            Format::JsonLines => json(out, attempt),
        })
    }
}

/// Writes sums as [`Reader::usage`] gives them for the same `by`. In CSV, sums in several
/// currencies take several lines, of which only the first has counts.
///
/// # Errors
/// If the file cannot be written.
pub fn export_usage(rows: &[Usage], by: &[By], format: Format, out: &mut dyn Write) -> Result<()> {
    if format == Format::JsonLines {
        return rows.iter().try_for_each(|usage| json(out, &named(usage, by)));
    }
    let time = by.iter().find(|by| by.column().is_none()).map(|_| "at");
    let names = by.iter().filter_map(|by| by.column());
    let names: Vec<&str> = time.into_iter().chain(names).collect();
    let comma = if names.is_empty() { "" } else { "," };
    writeln!(out, "{}{comma}{USAGE}", names.join(","))?;
    for usage in rows {
        let none = [Cost::default()];
        let costs = if usage.costs.is_empty() { &none[..] } else { &usage.costs };
        for (index, cost) in costs.iter().enumerate() {
            csv(out, &usage_cells(usage, cost, index == 0))?;
        }
    }
    Ok(())
}

fn attempt_cells(attempt: &Attempt) -> Vec<String> {
    let tokens = &attempt.tokens;
    let cost = attempt.cost.clone();
    let optional = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
    vec![
        attempt.id.to_string(),
        attempt.attempt.to_string(),
        optional(attempt.last_of.map(u64::from)),
        time(attempt.at_ms),
        time(attempt.ended_ms),
        text(&attempt.key),
        text(&attempt.user),
        text(&attempt.team),
        text(&attempt.org),
        text(&attempt.operation),
        text(&attempt.model),
        text(&attempt.provider),
        text(&attempt.upstream_model),
        attempt.stream.to_string(),
        attempt.status.to_string(),
        text(&attempt.outcome),
        text(&attempt.fault),
        tokens.input.to_string(),
        tokens.cached_read.to_string(),
        tokens.cache_write.to_string(),
        tokens.output.to_string(),
        tokens.reasoning.to_string(),
        attempt.provenance.word().to_owned(),
        cost.as_ref().map(|cost| decimal(cost.nanos)).unwrap_or_default(),
        cost.map(|cost| text(&cost.currency)).unwrap_or_default(),
        attempt.unpriced.to_string(),
        text(&attempt.formula),
        optional(attempt.first_event_us),
        attempt.total_us.to_string(),
        attempt.overhead_us.to_string(),
        attempt.events.to_string(),
    ]
}

fn usage_cells(usage: &Usage, cost: &Cost, with_counts: bool) -> Vec<String> {
    let count = |number: u64| if with_counts { number } else { 0 }.to_string();
    let mut cells: Vec<String> = usage.at_ms.map(time).into_iter().collect();
    cells.extend(usage.names.iter().map(|name| text(name)));
    let tokens = &usage.tokens;
    cells.extend(
        [
            usage.requests,
            usage.attempts,
            usage.errors,
            tokens.input,
            tokens.cached_read,
            tokens.cache_write,
            tokens.output,
            tokens.reasoning,
        ]
        .map(count),
    );
    cells.extend([decimal(cost.nanos), text(&cost.currency)]);
    cells.extend(
        [
            usage.unpriced,
            usage.first_event_us,
            usage.first_events,
            usage.total_us,
            usage.overhead_us,
        ]
        .map(count),
    );
    cells
}

/// Sums with their names by what they are names of.
fn named(usage: &Usage, by: &[By]) -> Value {
    let mut object = Map::new();
    let columns = by.iter().filter_map(|by| by.column());
    for (column, name) in columns.zip(&usage.names) {
        object.insert(column.to_owned(), Value::from(name.as_str()));
    }
    if let Ok(Value::Object(rest)) = serde_json::to_value(usage) {
        object.extend(rest.into_iter().filter(|(field, _)| field != "names"));
    }
    Value::Object(object)
}

/// A time, readable by programs and people.
fn time(ms: u64) -> String {
    Timestamp::from_millisecond(number(ms)).map(|time| time.to_string()).unwrap_or_default()
}

/// A text that a spreadsheet takes for a text: names may come from clients, and a cell that begins
/// like a formula is computed.
fn text(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

fn csv(out: &mut dyn Write, cells: &[String]) -> Result<()> {
    for (index, cell) in cells.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        match cell.contains([',', '"', '\n', '\r']) {
            true => write!(out, "{comma}\"{}\"", cell.replace('"', "\"\""))?,
            false => write!(out, "{comma}{cell}")?,
        }
    }
    writeln!(out)?;
    Ok(())
}

fn json<T: Serialize>(out: &mut dyn Write, value: &T) -> Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}
