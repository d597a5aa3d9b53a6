//! Waiting for room: a request that no target has room for waits its turn, where its model has a
//! queue. It holds nothing meanwhile but its place, which is gone with it.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use policy::Plan;
use policy::health::Tally;
use policy::queue::{Line, Queue};
use policy::units::milliseconds;
use tokio::time::{Instant, sleep_until};

use crate::admit::retry_after;
use crate::course::Course;
use crate::fault::{Code, Fault};
use crate::identify::Caller;
use crate::latch::Waiter;
use crate::serve::Context;

const QUEUED: HeaderName = HeaderName::from_static("x-magpie-queued-ms");

/// When whoever was refused tries again, if nobody says when and nothing is heard to become free.
const AGAIN: Duration = Duration::from_secs(1);

/// A place among those who wait. Dropped, it is given up.
pub(crate) struct Place {
    line: Arc<Line>,
    tally: Arc<Tally>,
    number: u64,
    /// Until when it is worth waiting.
    until: Instant,
    /// What has become of it, should it end now.
    end: End,
}

enum End {
    Admitted,
    Refused,
    Left,
}

impl Place {
    /// The last place, kept until then; `None` if too many wait.
    fn take(plan: &Plan, queue: &Queue, caller: &Caller, until: Instant) -> Option<Self> {
        let (line, tally) = (Arc::clone(&queue.line), Arc::clone(plan.tally()));
        let (priority, tenant) = (caller.chain().priority(), caller.chain().tenant());
        let Ok(number) = line.join(priority, &tenant, queue.waiting.most) else {
            tally.full.count();
            return None;
        };
        Some(Self { line, tally, number, until, end: End::Refused })
    }

    /// Waits for the turn, and tries in any case `at` that time; `false` once it has waited for too
    /// long, or the process is stopping.
    async fn turn(&mut self, at: Option<Instant>, mut stopping: Waiter) -> bool {
        self.end = End::Left;
        let has_turn = self.has_turn(at, &mut stopping).await;
        self.end = End::Refused;
        has_turn
    }

    async fn has_turn(&self, at: Option<Instant>, stopping: &mut Waiter) -> bool {
        let first = at.map_or(self.until, |at| at.min(self.until));
        let mut alarm = pin!(sleep_until(first));
        poll_fn(|cx| {
            loop {
                if self.line.has_turn(self.number, cx.waker()) {
                    return Poll::Ready(true);
                }
                if stopping.poll(cx).is_ready() {
                    return Poll::Ready(false);
                }
                if alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if alarm.deadline() >= self.until {
                    return Poll::Ready(false);
                }
                alarm.as_mut().reset(self.until);
                self.line.ring();
            }
        })
        .await
    }

    /// Its turn has succeeded.
    pub(crate) fn admitted(mut self) {
        self.end = End::Admitted;
        self.line.admitted(self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.leave(self.number);
        let count = match self.end {
            End::Admitted => &self.tally.admitted,
            End::Refused => &self.tally.refused,
            End::Left => &self.tally.left,
        };
        count.count();
    }
}

impl Context {
    /// Waits, if the request was refused for nothing but want of room and its model has a queue. Says
    /// whether it has the turn now; if not, the fault stands. Cancelled, it leaves no place behind.
    pub(crate) async fn waits(&mut self, course: &mut Course, fault: &Fault) -> bool {
        let Some((plan, queue, place)) = course.may_wait() else { return false };
        let now = Instant::now();
        let (place, again) = match place {
            Some(place) => {
                place.line.refused(place.number);
                (Some(place), Some(now + fault.after.unwrap_or(AGAIN)))
            }
            None => {
                // Later its answer would be late before it is asked.
                let late = self.start + plan.first_route().clocks.total;
                let until = late.min(now + queue.waiting.wait);
                (Place::take(plan, queue, &self.caller, until), None)
            }
        };
        let Some(mut place) = place else { return false };
        // In a box, so that requests that do not wait do not carry the room for it.
        let has_turn = Box::pin(place.turn(again, Waiter::new(Rc::clone(&self.shed)))).await;
        let waited = now.elapsed();
        self.waited += waited;
        self.queued += waited;
        self.later = self.start.elapsed();
        let queued = self.queued;
        self.settlement.note(|record| record.queued = queued);
        if has_turn {
            course.turn(place, self.random);
        }
        has_turn
    }
}

/// The fault of a request that finds others waiting, if it cannot wait behind them.
pub(crate) fn behind_others(model: &str) -> Fault {
    let message = format!("No target of `{model}` has room now, and others wait already.");
    retry_after(Fault::new(Code::RateLimited, message), AGAIN)
}

/// Tells how long a request has waited, if it has.
pub(crate) fn stamp(queued: Duration, headers: &mut HeaderMap) {
    if !queued.is_zero() {
        headers.insert(QUEUED, HeaderValue::from(milliseconds(queued)));
    }
}
