//! Any other answer on its way through: bytes, untouched, under the clocks.
//!
//! Nothing is known of what they mean, so a provider that breaks off cannot be reported inside
//! them: the client's connection breaks off too, and no client takes the part for the whole.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use policy::Clocks;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::gather::gather;
use crate::ports::{Failure, FailureKind};
use crate::settle::{Outcome, Settlement};
use crate::shed::Shed;

/// See the [module](self).
pub(crate) struct Pass<B> {
    /// Bytes that were read already.
    begun: Bytes,
    body: Option<B>,
    clocks: Clocks,
    start: Instant,
    shed: Rc<Shed>,
    timer: Pin<Box<Sleep>>,
    silent_since: Option<Instant>,
    settlement: Settlement,
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
        shed: Rc<Shed>,
        settlement: Settlement,
    ) -> Self {
        let timer = Box::pin(sleep_until(start + clocks.total));
        Self { begun, body: Some(body), clocks, start, shed, timer, silent_since: None, settlement }
    }

    /// Whether nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.body.is_none() && self.begun.is_empty()
    }

    /// The next bytes for the client.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        if !self.begun.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.begun))));
        }
        if self.shed.is_set() && self.body.is_some() {
            self.stop(Outcome::Shed);
            return Poll::Ready(Some(Err(Failure::new(FailureKind::Cut, "Magpie is stopping"))));
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let gathered = gather(body, cx);
        if !gathered.data.is_empty() {
            self.silent_since = None;
            self.settlement.saw_events(1, Instant::now());
        }
        match gathered.end {
            None if gathered.data.is_empty() => {
                self.shed.wake_later(cx.waker());
                self.poll_clocks(cx)
            }
            None => Poll::Ready(Some(Ok(gathered.data))),
            Some(Ok(())) => {
                self.stop(Outcome::Complete);
                Poll::Ready((!gathered.data.is_empty()).then_some(Ok(gathered.data)))
            }
            // The connection breaks off: what came just before does not matter any more.
            Some(Err(failure)) => {
                self.stop(Outcome::Truncated);
                Poll::Ready(Some(Err(failure)))
            }
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
                self.stop(Outcome::TimedOut);
                let failure = Failure::new(FailureKind::Cut, "the provider fell silent");
                return Poll::Ready(Some(Err(failure)));
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}
