//! However a request ends, it is recorded once.
//!
//! A [`Settlement`] is made when a request is understood and travels with its answer. Whoever knows
//! the end says so with [`Settlement::close`]; if nobody did when it is dropped, the client has
//! gone away.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::Route;
use tokio::time::Instant;
use wire::Usage;

use crate::intake::Operation;
use crate::ports::Recorder;
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
    /// Token counts, if the provider told them.
    pub usage: Option<Usage>,
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
    start: Instant,
    recorder: Rc<dyn Recorder>,
}

impl Settlement {
    /// Opens the record of a request that came at `start`.
    pub(crate) fn open(
        id: RequestId,
        operation: Operation,
        start: Instant,
        recorder: Rc<dyn Recorder>,
    ) -> Self {
        let record = Record {
            at: SystemTime::now(),
            id,
            operation,
            model: "".into(),
            route: None,
            status: 0,
            stream: false,
            outcome: Outcome::ClientGone,
            fault: None,
            usage: None,
            events: 0,
            first_event: None,
            total: Duration::ZERO,
            overhead: Duration::ZERO,
        };
        Self { open: Some(Box::new(record)), start, recorder }
    }

    /// Moves the open record out, to travel with a body; what stays behind is closed.
    pub(crate) fn take(&mut self) -> Self {
        let recorder = Rc::clone(&self.recorder);
        Self { open: self.open.take(), start: self.start, recorder }
    }

    /// Changes what is known so far.
    pub(crate) fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.open {
            change(record);
        }
    }

    /// Counts events that carry something; the first one is timed.
    pub(crate) fn saw_events(&mut self, count: u64, now: Instant) {
        let start = self.start;
        self.note(|record| {
            record.events += count;
            record.first_event.get_or_insert_with(|| now - start);
        });
    }

    /// Records the end. Later calls change nothing.
    pub(crate) fn close(&mut self, outcome: Outcome) {
        if let Some(mut record) = self.open.take() {
            record.outcome = outcome;
            record.total = self.start.elapsed();
            self.recorder.record(*record);
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        self.close(Outcome::ClientGone);
    }
}
