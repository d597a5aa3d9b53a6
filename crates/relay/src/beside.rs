//! Attempts side by side: a race of several targets, or a second one where the first is late. The
//! first whose answer begins is the request's; the others are cancelled, and recorded as such.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as Wake, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::begin::{Answering, Incoming, Unanswered};
use crate::course::Course;
use crate::ports::Upstream;
use crate::prepare::Ask;
use crate::serve::{Context, Relay};

/// How attempts go side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SideBySide {
    /// How many there are at the most.
    pub(crate) width: usize,
    /// When those behind the first begin, if nothing of an answer is there.
    pub(crate) after: Duration,
}

/// What an attempt comes to.
type Begun<B> = Result<Answering<B>, Unanswered<B>>;

/// An attempt under way, with its number.
type Running<'a, B> = Pin<Box<dyn Future<Output = (usize, Begun<B>)> + 'a>>;

impl<U: Upstream> Relay<U> {
    /// Makes the attempt, and others beside it when it is time. Comes to the first answer that
    /// begins, or to the failure of the last if all fail. Dropping it cancels them all.
    pub(crate) async fn side_by_side(
        &self,
        incoming: Incoming<'_>,
        ask: Ask,
        side: SideBySide,
        course: &mut Course,
        context: &mut Context,
    ) -> Begun<U::Body> {
        let mut branches: Vec<Context> = (1..side.width).map(|_| context.branch()).collect();
        let (number, begun, failed) = {
            let first = async { (0, self.begin(incoming, ask, true, context).await) };
            let mut idle = (1_usize..).zip(&mut branches);
            let mut next = || {
                let (number, branch) = idle.next()?;
                let ask = branch.admitted_beside(incoming, course)?;
                let begin = async move { (number, self.begin(incoming, ask, true, branch).await) };
                Some(Box::pin(begin) as Running<'_, U::Body>)
            };
            let due = Box::pin(sleep_until(Instant::now() + side.after));
            let mut contest = Contest { running: vec![Box::pin(first)], failed: Vec::new(), due };
            let (number, begun) = contest.decide(&mut next).await;
            (number, begun, contest.failed)
        };
        failed.into_iter().for_each(|words| course.note(words));
        // All but the one are over: their records come before that of the request.
        let chosen = number.checked_sub(1).map(|index| branches.swap_remove(index));
        for branch in &mut branches {
            branch.settlement.retire();
        }
        if let Some(chosen) = chosen {
            if let (Ok(_), Some(tally)) = (&begun, course.tally()) {
                tally.won.count();
            }
            context.give_way(chosen);
        }
        begun
    }
}

/// Attempts under way, and when there will be more.
struct Contest<'a, B> {
    running: Vec<Running<'a, B>>,
    /// What became of those that failed before others did, in words.
    failed: Vec<String>,
    due: Pin<Box<Sleep>>,
}

impl<'a, B> Contest<'a, B> {
    /// Waits for the first answer, or the last failure. `next` begins one more attempt, or says that
    /// there is none.
    async fn decide(
        &mut self,
        next: &mut impl FnMut() -> Option<Running<'a, B>>,
    ) -> (usize, Begun<B>) {
        let mut is_due = false;
        poll_fn(|cx| {
            if let Poll::Ready(decided) = self.poll_running(cx) {
                return Poll::Ready(decided);
            }
            if !is_due && self.due.as_mut().poll(cx).is_ready() {
                is_due = true;
                self.running.extend(std::iter::from_fn(&mut *next));
                return self.poll_running(cx);
            }
            Poll::Pending
        })
        .await
    }

    fn poll_running(&mut self, cx: &mut Wake<'_>) -> Poll<(usize, Begun<B>)> {
        let mut index = 0;
        while index < self.running.len() {
            let Poll::Ready(ended) = self.running[index].as_mut().poll(cx) else {
                index += 1;
                continue;
            };
            drop(self.running.swap_remove(index));
            match &ended.1 {
                Err(unanswered) if !self.running.is_empty() => self.failed.push(unanswered.words()),
                _ => return Poll::Ready(ended),
            }
        }
        Poll::Pending
    }
}
