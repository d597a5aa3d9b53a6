//! Any other answer on its way through: bytes, untouched, under the clocks.
//!
//! Nothing is known of what they mean, so a provider that breaks off cannot be reported inside
//! them: the client's connection breaks off too, and no client takes the part for the whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use policy::Clocks;
use tokio::time::{Instant, Sleep, sleep_until};
use wire::dialects::openai_responses::Ending;

use crate::gather::gather;
use crate::latch::Waiter;
use crate::ports::{Failure, FailureKind};
use crate::record::Outcome;
use crate::settle::Settlement;

/// See the [module](self).
pub(crate) struct Pass<B> {
    /// Bytes that were read already.
    begun: Bytes,
    body: Option<B>,
    clocks: Clocks,
    start: Instant,
    shed: Waiter,
    timer: Pin<Box<Sleep>>,
    silent_since: Option<Instant>,
    /// The provider broke off: what it sent leaves first, then the connection.
    broken: Option<Broken>,
    /// Tells whether a stream that ends is whole, where that can be told.
    ending: Option<Ending>,
    settlement: Settlement,
}

/// How a provider broke off.
struct Broken {
    failure: Failure,
    /// What came before has had its chance to leave.
    flushed: bool,
}

impl<B> Pass<B>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    pub(crate) fn new(
        begun: Bytes,
        body: B,
        clocks: Clocks,
        start: Instant,
        shed: Waiter,
        ending: Option<Ending>,
        settlement: Settlement,
    ) -> Self {
        let timer = Box::pin(sleep_until(start + clocks.total));
        Self {
            begun,
            body: Some(body),
            clocks,
            start,
            shed,
            timer,
            silent_since: None,
            broken: None,
            ending,
            settlement,
        }
    }

    /// Whether nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.body.is_none() && self.begun.is_empty() && self.broken.is_none()
    }

    /// The settlement, out of an answer that is given up.
    pub(crate) fn into_settlement(self) -> Settlement {
        self.settlement
    }

    /// The settlement that travels with it.
    pub(crate) fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// The next bytes for the client.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        if !self.begun.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.begun))));
        }
        if self.broken.is_some() {
            return self.poll_broken(cx);
        }
        if self.shed.is_set() && self.body.is_some() {
            let failure = Failure::new(FailureKind::Cut, "Magpie is stopping");
            return self.break_off(cx, Bytes::new(), Outcome::Shed, failure);
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let gathered = gather(body, cx);
        if !gathered.data.is_empty() {
            self.silent_since = None;
            self.settlement.saw_events(1, 0, Instant::now());
            if let Some(ending) = &mut self.ending {
                ending.see(&gathered.data);
            }
        }
        match gathered.end {
            None if gathered.data.is_empty() => {
                // Its being set was looked at above; this is for the time until the next byte.
                let _ = self.shed.poll(cx);
                self.poll_clocks(cx)
            }
            None => Poll::Ready(Some(Ok(gathered.data))),
            Some(Ok(())) if self.ending.as_ref().is_some_and(|ending| !ending.is_whole()) => {
                let failure = Failure::new(FailureKind::Cut, "the stream has no last event");
                self.break_off(cx, gathered.data, Outcome::Truncated, failure)
            }
            Some(Ok(())) => {
                self.stop(Outcome::Complete);
                Poll::Ready((!gathered.data.is_empty()).then_some(Ok(gathered.data)))
            }
            Some(Err(failure)) => self.break_off(cx, gathered.data, Outcome::Truncated, failure),
        }
    }

    /// Passes the last bytes, if there are any, and breaks off behind them.
    fn break_off(
        &mut self,
        cx: &mut Context<'_>,
        data: Bytes,
        outcome: Outcome,
        failure: Failure,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        self.stop(outcome);
        self.broken = Some(Broken { failure, flushed: false });
        if data.is_empty() { self.poll_broken(cx) } else { Poll::Ready(Some(Ok(data))) }
    }

    /// The HTTP library throws away what it has not written when a body fails. It writes when the
    /// body has nothing for the moment, so that is said once, before the failure.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        match self.broken.take() {
            Some(broken) if broken.flushed => Poll::Ready(Some(Err(broken.failure))),
            Some(broken) => {
                self.broken = Some(Broken { flushed: true, ..broken });
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }

    fn stop(&mut self, outcome: Outcome) {
        self.body = None;
        self.settlement.close(outcome);
    }

    fn poll_clocks(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        let due = (since + self.clocks.idle).min(self.start + self.clocks.total);
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                let failure = Failure::new(FailureKind::Cut, "the provider fell silent");
                return self.break_off(cx, Bytes::new(), Outcome::TimedOut, failure);
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}
