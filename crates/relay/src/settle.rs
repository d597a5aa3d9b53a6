//! However a request ends, it is recorded once.
//!
//! A [`Settlement`] is made when a request is understood and travels with its answer. Whoever knows
//! the end says so with [`Settlement::close`]; if nobody did when it is dropped, the client has
//! gone away.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::Route;
use policy::price::Charge;
use policy::scope::Operation;
use tokio::time::Instant;
use wire::Usage;

use crate::admit::{Admission, Alert, Bound, Used};
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

/// What is known of a request when it is over. Holds no prompt, no answer and no key.
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
    /// Who called.
    pub caller: Caller,
    /// A provider was asked: there is a record of the attempt.
    pub asked: bool,
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
    admission: Option<Box<Admission>>,
    recorded: bool,
    start: Instant,
    recorder: Rc<dyn Recorder>,
}

impl Settlement {
    /// Opens the record of a request that came at `start`.
    pub(crate) fn open(
        id: RequestId,
        operation: Operation,
        at: SystemTime,
        start: Instant,
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
            caller: Caller::default(),
            asked: false,
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
        Self { open: Some(Box::new(record)), admission: None, recorded: false, start, recorder }
    }

    /// Moves the open record out, to travel with a body; what stays behind is closed.
    pub(crate) fn take(&mut self) -> Self {
        let recorder = Rc::clone(&self.recorder);
        let (open, admission) = (self.open.take(), self.admission.take());
        Self { open, admission, recorded: false, start: self.start, recorder }
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

    /// Keeps what the request was admitted with, to the end.
    pub(crate) fn hold(&mut self, admission: Admission) {
        self.admission = (!admission.is_empty()).then(|| Box::new(admission));
    }

    /// Notes, so that it lasts, that a provider is about to be asked.
    ///
    /// # Errors
    /// If that cannot be noted. Nothing may be sent then.
    pub(crate) fn ask(&mut self, bound: &Bound) -> Result<(), Unrecorded> {
        let Some(record) = &mut self.open else { return Ok(()) };
        record.likely_input = bound.input;
        self.recorder.open(record, bound)?;
        record.asked = true;
        Ok(())
    }

    /// Counts events that carry something, and the output tokens in their text; the first event is
    /// timed.
    pub(crate) fn saw_events(&mut self, count: u64, tokens: u64, now: Instant) {
        let start = self.start;
        self.note(|record| {
            record.events += count;
            record.seen_output += tokens;
            record.first_event.get_or_insert_with(|| now - start);
        });
    }

    /// Records the end. Later calls change nothing.
    pub(crate) fn close(&mut self, outcome: Outcome) {
        if let Some(mut record) = self.open.take() {
            record.outcome = outcome;
            record.total = self.start.elapsed();
            record.account(self.admission.take());
            self.recorder.record(record);
            self.recorded = true;
        }
    }
}

impl Record {
    /// Milliseconds from 1970 to when the request came.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        let since = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Works out what was used and what it cost, and settles with it.
    fn account(&mut self, admission: Option<Box<Admission>>) {
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
        let Some(admission) = admission else { return };
        let usage = self.usage.unwrap_or_default();
        let used = Used {
            input: usage.input_total(),
            output: usage.output_total(),
            cost: self.charge.as_ref().map(|charge| charge.money),
        };
        self.alerts = admission.settle(&used, self.total);
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
