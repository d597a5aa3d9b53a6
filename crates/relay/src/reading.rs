//! An answer that is read along with others.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::SizeHint;
use tokio::time::Instant;

use crate::fault::{Code, Fault, Language};
use crate::flight::{Ended, Head, Next, Over, Reader};
use crate::headers::is_event_stream;
use crate::ports::{Failure, FailureKind};
use crate::record::Outcome;
use crate::settle::Settlement;

/// One reader's side of a flight. Dropping it leaves, and records that its client is gone.
pub(crate) struct Reading {
    reader: Reader,
    /// That of the request, unless it leads: then its record is made where the answer is written.
    settlement: Settlement,
    language: Language,
    is_event_stream: bool,
    /// Bytes that are still to come, if that is known.
    left: Option<u64>,
    is_over: bool,
    /// The answer broke off: what came before leaves first.
    broken: Option<Failure>,
}

impl Reading {
    pub(crate) fn new(
        reader: Reader,
        head: &Head,
        language: Language,
        settlement: Settlement,
    ) -> Self {
        Self {
            reader,
            settlement,
            language,
            is_event_stream: is_event_stream(&head.headers),
            left: head.length,
            is_over: false,
            broken: None,
        }
    }

    /// Whether nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The settlement that travels with it.
    pub(crate) fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// The same, moved out; the rest of the answer is given up.
    pub(crate) fn into_settlement(self) -> Settlement {
        self.settlement
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The next bytes for the client; `None` when the answer is over.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        if let Some(failure) = self.broken.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        match ready!(self.reader.poll_next(cx)) {
            Next::Data(data, ended) => {
                self.settlement.saw_events(1, 0, Instant::now());
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                if let Some(ended) = ended {
                    self.close(ended);
                }
                Poll::Ready(Some(Ok(data)))
            }
            Next::Over(over, ended) => {
                self.is_over = true;
                self.end(cx, over, ended)
            }
        }
    }

    fn end(
        &mut self,
        cx: &Context<'_>,
        over: Over,
        ended: Option<Ended>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        let fault = lost();
        let failed = Ended { outcome: Outcome::Failed, fault: Some(fault.code.name()) };
        self.close(ended.unwrap_or(failed));
        let words = match over {
            Over::Whole => return Poll::Ready(None),
            Over::Lost if self.is_event_stream => {
                let event = Bytes::from(fault.to_event(self.language));
                return Poll::Ready(Some(Ok(event)));
            }
            Over::Lost => fault.message.into_boxed_str(),
            Over::Broken(words) => words,
        };
        // The HTTP library throws away what it has not written when a body fails. It writes when
        // the body has nothing for the moment, so that is said once, before the failure.
        self.broken = Some(Failure::new(FailureKind::Cut, words));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Records the end of the request as that of the one that it shares its answer with.
    fn close(&mut self, ended: Ended) {
        self.settlement.note(|record| record.fault = ended.fault);
        self.settlement.close(ended.outcome);
    }
}

/// The fault of an answer whose leader is gone without a word.
pub(crate) fn lost() -> Fault {
    Fault::new(Code::Internal, "The request that this one shares its answer with has failed.")
}
