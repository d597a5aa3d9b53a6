//! Where a request is recorded: the journal first, because it must last, then the log.

use std::cell::RefCell;
use std::rc::Rc;

use console::store::now_ms;
use ledger::{Amount, Bill, Closing, Line, MIRROR, Opening, Tokens, Who, Writer};
use policy::config::Sync;
use policy::directory::Kind;
use policy::money::Money;
use relay::{
    Bound, Caller, Comparison, Feedback, Lasting, Noting, Outcome, Provenance, Record, Recorder,
    Unnoted, Unrecorded,
};

use crate::alerts::Alerts;
use crate::feedback::Finder;
use crate::log::LogRecorder;
use crate::measure::Shard;

/// The recorder of one worker.
pub(crate) struct Recording {
    journal: Option<Rc<RefCell<Writer>>>,
    /// There is one where there is a journal.
    finder: Option<Finder>,
    log: Option<LogRecorder>,
    alerts: Alerts,
    shard: Rc<Shard>,
    /// Answers wait until their record is on the disk.
    must_last: bool,
}

impl Recording {
    /// Records to a journal and to a log, as far as there are, and counts.
    pub(crate) fn new(
        journal: Option<Writer>,
        finder: Option<Finder>,
        log: Option<LogRecorder>,
        alerts: Alerts,
        shard: Rc<Shard>,
        sync: Sync,
    ) -> Self {
        let must_last = sync == Sync::Always;
        let journal = journal.map(|journal| Rc::new(RefCell::new(journal)));
        Self { journal, finder, log, alerts, shard, must_last }
    }
}

impl Recorder for Recording {
    fn open(&self, record: &Record, bound: &Bound) -> Result<(), Unrecorded> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let opened = journal.borrow_mut().opening(&opening(record, record.attempt, Some(bound)));
        opened.map_err(|_| Unrecorded)
    }

    fn lasting(&self) -> Option<Lasting> {
        let journal = self.journal.as_ref().filter(|_| self.must_last)?;
        Some(Box::pin(journal.borrow().durable()))
    }

    fn feedback(&self, feedback: Feedback, caller: &Caller) -> Noting {
        let (journal, finder) = (self.journal.clone(), self.finder.clone());
        let chain = caller.chain().clone();
        Box::pin(async move {
            let (Some(journal), Some(finder)) = (journal, finder) else {
                return Err(Unnoted::Unknown);
            };
            let id = ledger::RequestId(feedback.request.to_bytes());
            let found = finder.find(id).await.map_err(|()| Unnoted::Unrecorded)?;
            let found = found.filter(|found| found.is_of(&chain)).ok_or(Unnoted::Unknown)?;
            if !found.has_room(&feedback.label) {
                return Err(Unnoted::TooManyLabels);
            }
            let written = journal.borrow_mut().feedback(&ledger::Feedback {
                id,
                at_ms: now_ms(),
                ended_ms: found.ended_ms,
                label: &feedback.label,
                score: feedback.score,
                comment: feedback.comment.as_deref(),
            });
            written.map_err(|_| Unnoted::Unrecorded)
        })
    }

    fn record(&self, record: Box<Record>) {
        if let Some(journal) = self.journal.as_ref().filter(|_| is_of_interest(&record)) {
            // What can be neither written nor kept is counted by the journal.
            let _ = write(&mut journal.borrow_mut(), &record);
        }
        self.shard.record(&record);
        for alert in &record.alerts {
            self.alerts.send(alert);
        }
        if let Some(log) = &self.log {
            log.record(record);
        }
    }

    fn compared(&self, comparison: Box<Comparison>) {
        if let Some(log) = &self.log {
            log.compared(comparison);
        }
    }
}

/// Whether the ledger is told: of what reached a provider, of what was answered along with that, and
/// of what a known caller was refused. Strangers at the door fill the log, but not the disk.
fn is_of_interest(record: &Record) -> bool {
    let is_known = record.caller.chain().levels().next().is_some();
    let is_refusal = is_known && record.outcome == Outcome::Refused;
    record.attempts > 0 || record.shared || is_refusal
}

fn write(journal: &mut Writer, record: &Record) -> std::io::Result<()> {
    let lines: Vec<Line<'_>> =
        record.charge.iter().flat_map(|charge| &charge.lines).map(line).collect();
    let usage = record.usage.unwrap_or_default();
    let bill = match &record.charge {
        Some(charge) => Bill::Charge(amount(charge.money)),
        None if record.unpriced => Bill::Unpriced,
        None => Bill::Nothing,
    };
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let closing = Closing {
        id: id(record),
        attempt: record.attempt,
        at_ms: record.at_ms().saturating_add(micros(record.total) / 1000),
        last_of: record.is_last.then_some(record.attempts),
        status: record.status,
        outcome: record.outcome.word(),
        fault: record.fault,
        tokens: Tokens {
            input: usage.input,
            cached_read: usage.cached_read,
            cache_write: usage.cache_write,
            output: usage.output,
            reasoning: usage.reasoning,
        },
        provenance: match record.provenance {
            Provenance::None => ledger::Provenance::None,
            Provenance::Reported => ledger::Provenance::Reported,
            Provenance::Estimated => ledger::Provenance::Estimated,
        },
        bill,
        first_event_us: record.first_event.map(micros),
        total_us: micros(record.total),
        overhead_us: micros(record.overhead),
        events: record.events,
        lines: &lines,
    };
    match record.asked {
        true => journal.closing(&closing),
        false => journal.refusal(&opening(record, 0, None), &closing),
    }
}

fn opening<'r>(record: &'r Record, attempt: u16, bound: Option<&Bound>) -> Opening<'r> {
    let chain = record.caller.chain();
    let who = |kind| chain.id(kind).map(|id| &**id);
    let route = record.route.as_deref();
    Opening {
        id: id(record),
        attempt,
        at_ms: record.at_ms(),
        who: Who {
            key: who(Kind::Key),
            user: who(Kind::User),
            team: who(Kind::Team),
            org: who(Kind::Org),
        },
        operation: record.mirror_of.map_or(record.operation.word(), |_| MIRROR),
        model: &record.model,
        provider: route.map_or("", |route| &route.provider.id),
        upstream_model: route.map_or("", |route| &route.upstream_model),
        stream: record.stream,
        input_estimate: bound.map_or(0, |bound| bound.input),
        max_output: bound.and_then(|bound| bound.most_output),
        reserved: record.reserved.map(amount),
    }
}

fn id(record: &Record) -> ledger::RequestId {
    ledger::RequestId(record.id.to_bytes())
}

fn amount(money: Money) -> Amount<'static> {
    Amount { nanos: money.nanos, currency: money.currency.code() }
}

fn line(line: &policy::price::Line) -> Line<'static> {
    Line {
        bucket: line.bucket.word(),
        count: line.count,
        nanos_per_million: line.nanos_per_million,
    }
}
