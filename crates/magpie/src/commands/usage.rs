//! `magpie usage`: what was used and what it cost, from the ledger.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use console::store::now_ms;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ledger::{By, Filter, Format, Reader, Usage};

use super::{Outcome, load, say};
use crate::configuration::Source;
use crate::reports::money;

/// A day.
const DAY_MS: u64 = 86_400_000;

/// What to tell.
#[derive(Debug, Args)]
pub(crate) struct UsageQuestion {
    /// What the sums are told apart by.
    #[arg(long, value_enum, default_value = "model")]
    by: Split,
    /// From this day on, such as `2026-11-01`. Default: 30 days ago.
    #[arg(long, value_name = "DATE")]
    from: Option<String>,
    /// Up to this day, and without it. Default: now.
    #[arg(long, value_name = "DATE")]
    to: Option<String>,
    /// Only this key, by its id.
    #[arg(long)]
    key: Option<String>,
    /// Only this user.
    #[arg(long)]
    user: Option<String>,
    /// Only this team.
    #[arg(long)]
    team: Option<String>,
    /// Only this model, as it was asked for.
    #[arg(long)]
    model: Option<String>,
    /// Only this provider.
    #[arg(long)]
    provider: Option<String>,
    /// The form: a table, or for programs.
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    /// Every single attempt in place of sums; as CSV or JSON.
    #[arg(long)]
    attempts: bool,
    /// The time zone of days, such as `Asia/Shanghai`.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: String,
}

/// What sums are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Split {
    Key,
    User,
    Team,
    Org,
    Operation,
    Model,
    Provider,
    UpstreamModel,
    Day,
    Hour,
}

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Csv,
    Json,
}

/// `magpie usage`
pub(crate) fn usage(source: &Source, question: &UsageQuestion) -> Outcome {
    let snapshot = load(source)?;
    let folder = snapshot.settings.data.ok_or("no folder with a ledger: set `data`")?;
    let path = folder.join("ledger.db");
    if !path.exists() {
        return Err(format!("there is no ledger in {}", folder.display()));
    }
    let reader = Reader::open(&path).map_err(|fault| fault.to_string())?;
    let zone = TimeZone::get(&question.zone).map_err(|_| {
        format!("`{}` is no time zone; write for example Asia/Shanghai", question.zone)
    })?;
    let filter = question.filter(&zone)?;
    let by = question.by.by();
    let format = match question.format {
        Form::Csv => Format::Csv,
        Form::Json | Form::Table => Format::JsonLines,
    };
    let mut out = io::stdout().lock();
    if question.attempts {
        let mut out = BufWriter::new(out);
        let written = reader.export(&filter, format, &mut out).map(|_| ());
        return ended(written.and_then(|()| Ok(out.flush()?)));
    }
    let rows = reader.usage(&filter, &[by], &zone).map_err(|fault| fault.to_string())?;
    if question.format == Form::Table {
        return say(&table(&rows, by, &zone));
    }
    ended(ledger::export_usage(&rows, &[by], format, &mut out))
}

/// A reader that has gone (`| head`) is no failure.
fn ended(written: ledger::Result<()>) -> Outcome {
    match written {
        Err(ledger::Error::Io(fault)) if fault.kind() == io::ErrorKind::BrokenPipe => {}
        Err(fault) => return Err(fault.to_string()),
        Ok(()) => {}
    }
    Ok(ExitCode::SUCCESS)
}

impl UsageQuestion {
    fn filter(&self, zone: &TimeZone) -> Result<Filter, String> {
        let day =
            |text: &Option<String>| text.as_ref().map(|text| midnight(text, zone)).transpose();
        let now = now_ms();
        Ok(Filter {
            from_ms: Some(day(&self.from)?.unwrap_or(now.saturating_sub(30 * DAY_MS))),
            to_ms: Some(day(&self.to)?.unwrap_or(now + 60_000)),
            key: self.key.clone(),
            user: self.user.clone(),
            team: self.team.clone(),
            model: self.model.clone(),
            provider: self.provider.clone(),
            ..Filter::default()
        })
    }
}

impl Split {
    fn by(self) -> By {
        match self {
            Self::Key => By::Key,
            Self::User => By::User,
            Self::Team => By::Team,
            Self::Org => By::Org,
            Self::Operation => By::Operation,
            Self::Model => By::Model,
            Self::Provider => By::Provider,
            Self::UpstreamModel => By::UpstreamModel,
            Self::Day => By::Day,
            Self::Hour => By::Hour,
        }
    }
}

fn midnight(text: &str, zone: &TimeZone) -> Result<u64, String> {
    let unreadable = || format!("`{text}` is no day; write for example 2026-11-01");
    let date = text.parse::<jiff::civil::Date>().map_err(|_| unreadable())?;
    let at = date.to_zoned(zone.clone()).map_err(|_| unreadable())?.timestamp();
    u64::try_from(at.as_millisecond()).map_err(|_| unreadable())
}

fn table(rows: &[Usage], by: By, zone: &TimeZone) -> String {
    let head = by.word().to_uppercase().replace('_', " ");
    let mut out = format!(
        "{head:<32} {:>9} {:>7} {:>12} {:>12} {:>12}  {}\n",
        "REQUESTS", "ERRORS", "INPUT", "CACHED", "OUTPUT", "COST"
    );
    for row in rows {
        let tokens = &row.tokens;
        let cost = money(&row.costs).unwrap_or_default();
        let unpriced = match row.unpriced {
            0 => String::new(),
            count => format!("  ({count} of unknown price)"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:<32} {:>9} {:>7} {:>12} {:>12} {:>12}  {cost}{unpriced}",
            name(row, by, zone),
            row.requests,
            row.errors,
            tokens.input + tokens.cache_write,
            tokens.cached_read,
            tokens.output + tokens.reasoning,
        );
    }
    if rows.is_empty() {
        out.push_str("nothing in this time\n");
    }
    out
}

fn name(row: &Usage, by: By, zone: &TimeZone) -> String {
    let Some(at_ms) = row.at_ms else {
        let name = row.names.first().map(String::as_str).unwrap_or_default();
        return if name.is_empty() { String::from("(none)") } else { name.to_owned() };
    };
    let at = Timestamp::from_millisecond(i64::try_from(at_ms).unwrap_or(i64::MAX));
    let at = at.unwrap_or(Timestamp::MAX).to_zoned(zone.clone());
    let form = if by == By::Day { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M" };
    at.strftime(form).to_string()
}
