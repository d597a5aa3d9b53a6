//! The ledger, as the admin API and the command line ask it.

use std::path::PathBuf;

use console::experiment::{self, Counted, Counts, Measured, Moments, Setup};
use console::reports::{
    AttemptRow, By, FeedbackRow, Filter, Reports, RequestDetail, RequestRow, Tokens, UsageRow,
};
use jiff::tz::TimeZone;
use ledger::{
    Amount, Attempt, Cost, Cursor, Ledger, Measure, Rating, Reader, Request, RequestId, Trial,
    Unit, Usage, VariantSums,
};
use policy::plan::StickyTo;

/// Asks the database of a ledger. Without a ledger there is nothing to tell.
pub(crate) struct LedgerReports(Option<PathBuf>);

impl LedgerReports {
    pub(crate) fn new(ledger: Option<&Ledger>) -> Self {
        Self(ledger.map(|ledger| ledger.database().to_owned()))
    }

    /// Of a database that another process may write.
    pub(crate) fn at(database: PathBuf) -> Self {
        Self(Some(database))
    }

    /// A reader of one's own, for one question: readers stay on their thread.
    fn ask<T: Default>(
        &self,
        question: impl FnOnce(&Reader) -> ledger::Result<T>,
    ) -> Result<T, String> {
        let Some(path) = &self.0 else { return Ok(T::default()) };
        let answer = Reader::open(path).and_then(|reader| question(&reader));
        answer.map_err(|fault| fault.to_string())
    }
}

impl Reports for LedgerReports {
    fn usage(&self, filter: &Filter, by: By) -> Result<Vec<UsageRow>, String> {
        let rows = self.ask(|reader| reader.usage(&asked(filter), &[told(by)], &TimeZone::UTC))?;
        Ok(rows.iter().map(usage_row).collect())
    }

    fn requests(
        &self,
        filter: &Filter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RequestRow>, String> {
        let after = after.map(str::parse::<RequestId>).transpose();
        let after = after.map_err(|fault| fault.to_string())?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        self.ask(|reader| {
            let mut rows = Vec::new();
            let last = after.map(|id| reader.request(id)).transpose()?.flatten();
            let mut after = last.map(|whole| Cursor::behind(&whole.request.last));
            // A page may come back short and still have more behind it.
            loop {
                let page = reader.requests(&asked(filter), after, wanted - rows.len())?;
                rows.extend(page.requests.iter().map(request_row));
                after = page.next;
                if after.is_none() || rows.len() >= wanted {
                    return Ok(rows);
                }
            }
        })
    }

    fn request(&self, id: &str) -> Result<Option<RequestDetail>, String> {
        let Ok(id) = id.parse::<RequestId>() else { return Ok(None) };
        let whole = self.ask(|reader| reader.request(id))?;
        Ok(whole.map(|whole| RequestDetail {
            request: request_row(&whole.request),
            tries: whole.attempts.iter().map(attempt_row).collect(),
            feedback: whole.feedback.into_iter().map(feedback_row).collect(),
        }))
    }

    fn variants(&self, filter: &Filter, setup: &Setup) -> Result<Counts, String> {
        let trial = Trial {
            filter: asked(filter),
            variants: setup.variants.iter().map(|(_, targets)| targets.clone()).collect(),
            unit: match setup.sticky {
                Some(StickyTo::User) => Unit::User,
                Some(StickyTo::Key | StickyTo::Header) | None => Unit::Key,
            },
        };
        let found = self.ask(|reader| reader.variants(&trial))?;
        Ok(Counts {
            variants: found.variants.into_iter().map(counted).collect(),
            elsewhere: found.elsewhere,
            left_out: found.left_out,
        })
    }
}

fn asked(filter: &Filter) -> ledger::Filter {
    ledger::Filter {
        from_ms: Some(filter.from_ms),
        to_ms: Some(filter.to_ms),
        key: filter.key.clone(),
        user: filter.user.clone(),
        team: filter.team.clone(),
        org: filter.org.clone(),
        model: filter.model.clone(),
        provider: filter.provider.clone(),
        ..ledger::Filter::default()
    }
}

fn told(by: By) -> ledger::By {
    match by {
        By::Key => ledger::By::Key,
        By::User => ledger::By::User,
        By::Team => ledger::By::Team,
        By::Org => ledger::By::Org,
        By::Model => ledger::By::Model,
        By::Provider => ledger::By::Provider,
        By::UpstreamModel => ledger::By::UpstreamModel,
        By::Day => ledger::By::Day,
        By::Hour => ledger::By::Hour,
        By::Minute => ledger::By::Minute,
    }
}

fn usage_row(usage: &Usage) -> UsageRow {
    let at = usage.at_ms.map(|at_ms| at_ms.to_string());
    UsageRow {
        group: at.or_else(|| usage.names.first().cloned()).unwrap_or_default(),
        requests: usage.requests,
        errors: usage.errors,
        unpriced: usage.unpriced,
        tokens: tokens(&usage.tokens),
        cost: money(&usage.costs),
    }
}

fn tokens(tokens: &ledger::Tokens) -> Tokens {
    Tokens {
        input: tokens.input,
        cached_read: tokens.cached_read,
        cache_write: tokens.cache_write,
        output: tokens.output,
        reasoning: tokens.reasoning,
    }
}

/// Amounts of several currencies stand beside each other: nothing is exchanged here.
pub(crate) fn money(costs: &[Cost]) -> Option<String> {
    let texts: Vec<String> = costs.iter().map(text).collect();
    (!texts.is_empty()).then(|| texts.join(" + "))
}

fn text(cost: &Cost) -> String {
    Amount { nanos: cost.nanos, currency: &cost.currency }.to_string()
}

fn some(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

fn request_row(request: &Request) -> RequestRow {
    let last = &request.last;
    RequestRow {
        id: last.id.to_string(),
        at_ms: last.id.at_ms(),
        key: some(&last.key),
        user: some(&last.user),
        team: some(&last.team),
        org: some(&last.org),
        operation: last.operation.clone(),
        model: last.model.clone(),
        provider: last.provider.clone(),
        upstream_model: last.upstream_model.clone(),
        stream: last.stream,
        status: last.status,
        outcome: last.outcome.clone(),
        fault: some(&last.fault),
        tokens: tokens(&request.tokens),
        provenance: last.provenance.word().to_owned(),
        cost: money(&request.costs),
        attempts: last.last_of.unwrap_or(last.attempt),
        first_event_us: last.first_event_us,
        total_us: last.total_us,
        overhead_us: last.overhead_us,
    }
}

fn attempt_row(attempt: &Attempt) -> AttemptRow {
    AttemptRow {
        attempt: attempt.attempt,
        provider: attempt.provider.clone(),
        upstream_model: attempt.upstream_model.clone(),
        status: attempt.status,
        outcome: attempt.outcome.clone(),
        fault: some(&attempt.fault),
        tokens: tokens(&attempt.tokens),
        provenance: attempt.provenance.word().to_owned(),
        cost: attempt.cost.as_ref().map(text),
        formula: some(&attempt.formula),
        first_event_us: attempt.first_event_us,
        total_us: attempt.total_us,
    }
}

fn feedback_row(rating: Rating) -> FeedbackRow {
    let Rating { label, score, comment, at_ms } = rating;
    FeedbackRow { label: some(&label), score, comment, at_ms }
}

/// What a variant did, in the units of the API.
fn counted(variant: VariantSums) -> Counted {
    let measured = |it: ledger::Measured| {
        let (measure, of, factor) = measure(it.measure);
        let moments = |moments: ledger::Moments| {
            let ledger::Moments { count, sum, squares } = moments;
            Moments { count, sum, squares }.times(factor)
        };
        Measured { measure, of, requests: moments(it.requests), callers: moments(it.callers) }
    };
    let target = |(provider, model): (String, String)| format!("{provider}/{model}");
    Counted {
        targets: variant.targets.into_iter().map(target).collect(),
        requests: variant.requests,
        callers: variant.callers,
        strayed: variant.strayed,
        measures: variant.measures.into_iter().map(measured).collect(),
    }
}

/// A measure, what it is of, and how much of the API's unit one of the ledger's is.
fn measure(measure: Measure) -> (experiment::Measure, String, f64) {
    use experiment::Measure as Told;
    let (told, factor) = match measure {
        Measure::Cost(currency) => return (Told::Cost, currency, 1e-9),
        Measure::Feedback(label) => return (Told::Feedback, label, 1.0),
        Measure::Error => (Told::Errors, 1.0),
        Measure::Overtaken => (Told::Overtaken, 1.0),
        Measure::Left => (Told::Left, 1.0),
        Measure::FirstEvent => (Told::FirstToken, 1e-3),
        Measure::Total => (Told::Total, 1e-3),
        Measure::Output => (Told::OutputTokens, 1.0),
    };
    (told, String::new(), factor)
}
