//! However a request ends, it is recorded once.
//!
//! A [`Settlement`] is made when a request is understood and travels with its answer. Whoever knows
//! the end says so with [`Settlement::close`]; if nobody did when it is dropped, the client has
//! gone away.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::Route;
use policy::health::{Cause, Lease};
use policy::plan::Failed;
use policy::price::Charge;
use policy::scope::Operation;
use tokio::time::Instant;
use wire::Usage;

use crate::admit::{Admission, Alert, Bound, Used};
use crate::cause;
use crate::fault::Code;
use crate::identify::Caller;
use crate::ports::{Lasting, Recorder, Unrecorded};
use crate::request_id::RequestId;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is whole.
    Complete,
    /// Refused before any provider was asked.
    Refused,
    /// The provider answered with an error.
    ProviderError,
    /// The provider could not be reached, or did not answer.
    Unreachable,
    /// The answer broke off, or could not be read.
    Truncated,
    /// One of the clocks ran out.
    TimedOut,
    /// The client went away.
    ClientGone,
    /// Cut short because the process is stopping.
    Shed,
    /// Magpie itself failed.
    Failed,
}

impl Outcome {
    /// The word for it in logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Refused => "refused",
            Self::ProviderError => "provider_error",
            Self::Unreachable => "unreachable",
            Self::Truncated => "truncated",
            Self::TimedOut => "timed_out",
            Self::ClientGone => "client_gone",
            Self::Shed => "shed",
            Self::Failed => "failed",
        }
    }
}

/// Where token counts come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Provenance {
    /// Nothing was used, as far as is known.
    #[default]
    None,
    /// The provider told.
    Reported,
    /// From what was sent and what was seen of the answer: the provider never told.
    Estimated,
}

impl Provenance {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reported => "reported",
            Self::Estimated => "estimated",
        }
    }
}

/// What is known of a request when it is over, or of an attempt of it that failed. Holds no prompt,
/// no answer and no key.
#[derive(Clone)]
pub struct Record {
    /// When it came.
    pub at: SystemTime,
    /// Its id.
    pub id: RequestId,
    /// What it asked for.
    pub operation: Operation,
    /// The model as the client named it.
    pub model: Box<str>,
    /// Where it went.
    pub route: Option<Arc<Route>>,
    /// Status of the response; 0 if there was none.
    pub status: u16,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// The name of the fault, if any.
    pub fault: Option<&'static str>,
    /// Why the attempt failed, if it did.
    pub cause: Option<Cause>,
    /// Who called.
    pub caller: Caller,
    /// A provider was asked: there is a record of the attempt.
    pub asked: bool,
    /// Which attempt it was, from 1, and of how many if it is the last; 0 if there was none.
    pub attempt: u16,
    /// Whether the request is over with it. A record of which this is not so is of an attempt that
    /// failed, and was followed by another one.
    pub is_last: bool,
    /// Token counts.
    pub usage: Option<Usage>,
    /// Where they come from.
    pub provenance: Provenance,
    /// What they cost; `None` if the price is not known, or nothing was used.
    pub charge: Option<Charge>,
    /// Input tokens, by what was sent.
    pub likely_input: u64,
    /// Output tokens, by the text that was seen.
    pub seen_output: u64,
    /// Budgets whose alerts this request crossed.
    pub alerts: Vec<Alert>,
    /// Events of the stream that carried something.
    pub events: u64,
    /// From the request to the first event.
    pub first_event: Option<Duration>,
    /// From the request to the end.
    pub total: Duration,
    /// The part of it that was Magpie's own, up to the head of the response.
    pub overhead: Duration,
}

/// The open record of a request under way.
pub struct Settlement {
    open: Option<Box<Record>>,
    /// The attempt that failed last, as long as it is not known whether another one follows.
    failed: Option<Box<Record>>,
    admission: Option<Box<Admission>>,
    /// The attempt under way, as its target's health sees it.
    lease: Option<Lease>,
    recorded: bool,
    start: Instant,
    /// The same in milliseconds since the process began.
    start_ms: u64,
    recorder: Rc<dyn Recorder>,
}

impl Settlement {
    /// Opens the record of a request that came at `start`.
    pub(crate) fn open(
        id: RequestId,
        operation: Operation,
        at: SystemTime,
        start: Instant,
        start_ms: u64,
        recorder: Rc<dyn Recorder>,
    ) -> Self {
        let record = Record {
            at,
            id,
            operation,
            model: "".into(),
            route: None,
            status: 0,
            stream: false,
            outcome: Outcome::ClientGone,
            fault: None,
            cause: None,
            caller: Caller::default(),
            asked: false,
            attempt: 0,
            is_last: true,
            usage: None,
            provenance: Provenance::None,
            charge: None,
            likely_input: 0,
            seen_output: 0,
            alerts: Vec::new(),
            events: 0,
            first_event: None,
            total: Duration::ZERO,
            overhead: Duration::ZERO,
        };
        Self {
            open: Some(Box::new(record)),
            failed: None,
            admission: None,
            lease: None,
            recorded: false,
            start,
            start_ms,
            recorder,
        }
    }

    /// Moves the open record out, to travel with a body; what stays behind is closed.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            open: self.open.take(),
            failed: self.failed.take(),
            admission: self.admission.take(),
            lease: self.lease.take(),
            recorded: false,
            recorder: Rc::clone(&self.recorder),
            ..*self
        }
    }

    /// Changes what is known so far.
    pub(crate) fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.open {
            change(record);
        }
    }

    /// Whether any budget counts the request on this route.
    pub(crate) fn has_budget(&self, route: &Route) -> bool {
        let mut levels = self.open.iter().flat_map(|record| record.caller.chain().levels());
        levels.any(|level| !level.terms.accounts.is_empty())
            || route.holders.iter().any(|holder| !holder.terms().accounts.is_empty())
    }

    /// Gives back what is left of the attempt before.
    pub(crate) fn release(&mut self) {
        self.admission = None;
    }

    /// Keeps what the attempt was admitted with, to its end.
    pub(crate) fn hold(&mut self, admission: Admission) {
        self.admission = (!admission.is_empty()).then(|| Box::new(admission));
    }

    /// Keeps the place of the attempt at its target, to its end.
    pub(crate) fn lend(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// The number of the provider's credential to ask with.
    pub(crate) fn credential(&self) -> usize {
        self.lease.as_ref().map_or(0, Lease::credential)
    }

    /// Milliseconds from the start of the process to now.
    pub(crate) fn now_ms(&self) -> u64 {
        self.start_ms.saturating_add(milliseconds(self.start.elapsed()))
    }

    /// Notes, so that it lasts, that a provider is about to be asked.
    ///
    /// # Errors
    /// If that cannot be noted. Nothing may be sent then.
    pub(crate) fn ask(&mut self, bound: &Bound) -> Result<(), Unrecorded> {
        let Some(record) = &mut self.open else { return Ok(()) };
        record.likely_input = bound.input;
        record.attempt += 1;
        if let Err(fault) = self.recorder.open(record, bound) {
            record.attempt -= 1;
            return Err(fault);
        }
        record.asked = true;
        if let Some(failed) = self.failed.take() {
            self.recorder.record(failed);
        }
        Ok(())
    }

    /// The attempt has failed, and another one may follow: what it used is settled now. Says what
    /// may come next, and how long the attempt took.
    pub(crate) fn fail(&mut self, failure: &Failing) -> Option<Failed> {
        let now_ms = self.now_ms();
        let lease = self.lease.take()?;
        let took_ms = now_ms.saturating_sub(lease.begun_ms());
        let wait_ms = failure.wait.map(milliseconds);
        let next = lease.failed(failure.cause, wait_ms, now_ms);
        let record = self.open.as_mut()?;
        let mut failed = record.clone();
        failed.is_last = false;
        failed.outcome = failure.outcome;
        failed.cause = Some(failure.cause);
        failed.fault = failure.fault;
        failed.status = failure.status;
        failed.total = self.start.elapsed();
        let used = failed.account();
        if let Some(admission) = &mut self.admission {
            failed.alerts = admission.settle_attempt(&used, failed.total);
        }
        self.failed = Some(failed);
        record.asked = false;
        record.usage = None;
        Some(Failed { next, took_ms })
    }

    /// How many providers were asked.
    pub(crate) fn attempts(&self) -> u16 {
        self.open.as_ref().map_or(0, |record| record.attempt)
    }

    /// Counts events that carry something, and the output tokens in their text; the first event is
    /// timed.
    pub(crate) fn saw_events(&mut self, count: u64, tokens: u64, now: Instant) {
        let start = self.start;
        let mut is_first = false;
        self.note(|record| {
            record.events += count;
            record.seen_output += tokens;
            is_first = record.first_event.is_none();
            record.first_event.get_or_insert_with(|| now - start);
        });
        if is_first && let Some(lease) = &mut self.lease {
            lease.first_token(self.start_ms.saturating_add(milliseconds(now - start)));
        }
    }

    /// Records the end. Later calls change nothing.
    pub(crate) fn close(&mut self, outcome: Outcome) {
        let Some(mut record) = self.open.take() else { return };
        record.outcome = outcome;
        record.total = self.start.elapsed();
        let used = match self.failed.take() {
            // What it used is settled.
            Some(failed) => {
                record = record.behind(failed);
                Used::default()
            }
            None => {
                record.cause = record.cause.or_else(|| cause::of_end(&record));
                record.account()
            }
        };
        if let Some(lease) = self.lease.take() {
            give_back(lease, outcome, self.now_ms());
        }
        if let Some(admission) = self.admission.take() {
            record.alerts.extend(admission.settle(&used, record.total));
        }
        self.recorder.record(record);
        self.recorded = true;
    }
}

/// An attempt that failed before anything of an answer had gone to the client.
pub(crate) struct Failing {
    pub(crate) cause: Cause,
    /// How long the provider wants to be left alone.
    pub(crate) wait: Option<Duration>,
    pub(crate) outcome: Outcome,
    pub(crate) fault: Option<&'static str>,
    /// Of the provider's reply; 0 if there was none.
    pub(crate) status: u16,
}

/// Tells a target's health how the attempt ended that its client saw the end of.
fn give_back(lease: Lease, outcome: Outcome, now_ms: u64) {
    use Outcome::{ClientGone, Complete, Failed, Refused, Shed};
    use Outcome::{ProviderError, TimedOut, Truncated, Unreachable};
    match outcome {
        Complete => lease.succeeded(now_ms),
        Truncated | TimedOut | ProviderError => {
            lease.failed(Cause::Transient, None, now_ms);
        }
        Unreachable => {
            lease.failed(Cause::HardDown, None, now_ms);
        }
        // They say nothing of the target.
        ClientGone | Shed | Failed | Refused => drop(lease),
    }
}

/// Milliseconds from 1970 to a time.
pub(crate) fn unix_ms(at: SystemTime) -> u64 {
    milliseconds(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Record {
    /// Milliseconds from 1970 to when the request came.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        unix_ms(self.at)
    }

    /// The record of a request whose last attempt has failed, unless another one is under way. What
    /// was told to the client is in `self`.
    fn behind(self: Box<Self>, failed: Box<Self>) -> Box<Self> {
        let outcome = match self.outcome {
            // What became of the request says less than what became of its last attempt.
            Outcome::Refused | Outcome::ProviderError | Outcome::Unreachable => failed.outcome,
            outcome => outcome,
        };
        Box::new(Self { outcome, status: self.status, total: self.total, is_last: true, ..*failed })
    }

    /// Works out what was used and what it cost.
    fn account(&mut self) -> Used {
        if self.asked {
            self.provenance = match (self.usage, self.may_have_been_billed()) {
                (Some(_), _) => Provenance::Reported,
                (None, true) => Provenance::Estimated,
                (None, false) => Provenance::None,
            };
            if self.provenance == Provenance::Estimated {
                let (input, output) = (self.likely_input, self.seen_output);
                self.usage = Some(Usage { input, output, ..Usage::default() });
            }
        }
        let price = self.route.as_ref().and_then(|route| route.price.as_ref());
        if let (Some(usage), Some(price)) = (&self.usage, price) {
            self.charge = Some(price.charge(usage, self.at_ms()));
        }
        let usage = self.usage.unwrap_or_default();
        Used {
            input: usage.input_total(),
            output: usage.output_total(),
            cost: self.charge.as_ref().map(|charge| charge.money),
        }
    }

    /// Whether a provider that never told its counts may bill the request all the same: what it
    /// answered with an error, and what never reached it, it does not.
    fn may_have_been_billed(&self) -> bool {
        use Outcome::{ProviderError, Refused, Unreachable};
        let ended = !matches!(self.outcome, Refused | ProviderError | Unreachable);
        ended && self.operation.has_tokens()
    }
}

impl Settlement {
    /// Whether the end is recorded, and not on its way with a body.
    pub(crate) fn is_closed(&self) -> bool {
        self.recorded
    }

    /// What the last byte of an answer has to wait for, once the record is closed.
    pub(crate) fn lasting(&self) -> Option<Lasting> {
        self.recorder.lasting()
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return self.close(Outcome::ClientGone);
        }
        self.note(|record| {
            record.fault = Some(Code::Internal.name());
            if record.status == 0 {
                record.status = Code::Internal.status().as_u16();
            }
        });
        self.close(Outcome::Failed);
    }
}
