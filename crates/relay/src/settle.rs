//! However a request ends, it is recorded once.
//!
//! A [`Settlement`] is made when a request is understood and travels with its answer. Whoever knows
//! the end says so with [`Settlement::close`]; if nobody did when it is dropped, the client has
//! gone away.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::Route;
use policy::health::{Cause, Lease};
use policy::plan::Failed;
use policy::queue::Bell;
use policy::scope::Operation;
use policy::units::milliseconds;
use tokio::time::Instant;

use crate::admit::{Admission, Bound, Counted, Used};
use crate::cause;
use crate::fault::Code;
use crate::ports::{Lasting, Recorder, Unrecorded};
use crate::record::{Outcome, Record};
use crate::request_id::RequestId;

/// The open record of a request under way.
pub struct Settlement {
    open: Option<Box<Record>>,
    /// The attempt that failed last, as long as it is not known whether another one follows.
    failed: Option<Box<Record>>,
    admission: Option<Box<Admission>>,
    /// What counts the request, with all of its attempts that are under way.
    counted: Option<Rc<RefCell<Counted>>>,
    /// The attempt under way, as its target's health sees it.
    lease: Option<Lease>,
    /// What to ring once lease and admission are given back.
    bell: Option<Arc<Bell>>,
    recorded: bool,
    /// The record waits until it is known whether it is the request's last.
    keeps: bool,
    /// It waits.
    kept: Option<Box<Record>>,
    /// The request is counted by another attempt.
    is_beside: bool,
    /// How many attempts were made, once there are some side by side.
    made: Option<Rc<Cell<u16>>>,
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
        let record = Record::new(id, operation, at);
        Self {
            open: Some(Box::new(record)),
            failed: None,
            admission: None,
            counted: None,
            lease: None,
            bell: None,
            recorded: false,
            keeps: false,
            kept: None,
            is_beside: false,
            made: None,
            start,
            start_ms,
            recorder,
        }
    }

    /// The settlement of an attempt beside this one: of the same request, with nothing in its hands
    /// yet. What becomes of it is recorded as one of the request's attempts, unless it
    /// [takes the place](Self::give_way) of this one.
    pub(crate) fn branch(&mut self) -> Self {
        let counted = Rc::clone(self.counted.get_or_insert_default());
        let attempts = self.attempts();
        let made = self.made.get_or_insert_with(|| Rc::new(Cell::new(attempts)));
        let beside = |record: &Record| Box::new(Record { is_last: false, ..record.afresh() });
        Self {
            open: self.open.as_deref().map(beside),
            failed: None,
            admission: None,
            counted: Some(counted),
            lease: None,
            bell: None,
            recorded: false,
            keeps: false,
            kept: None,
            is_beside: true,
            made: Some(Rc::clone(made)),
            recorder: Rc::clone(&self.recorder),
            ..*self
        }
    }

    /// A branch whose attempts may turn out to be the request's only in the end, when they are over:
    /// what there is to record of the last of them waits until then.
    pub(crate) fn contender(&mut self) -> Self {
        let mut branch = self.branch();
        branch.keeps = true;
        branch
    }

    /// The request is counted by this attempt, though others are beside it.
    pub(crate) fn count(&mut self) {
        self.is_beside = false;
    }

    /// Whether the request is counted by another attempt.
    pub(crate) fn is_beside(&self) -> bool {
        self.is_beside
    }

    /// How it ended, if that waits to be recorded.
    pub(crate) fn ended(&self) -> Option<Outcome> {
        self.kept.as_ref().map(|record| record.outcome)
    }

    /// The request goes on with the attempt of that branch, or is over with it, and what this one
    /// holds is needed no more.
    pub(crate) fn give_way(&mut self, mut branch: Self) {
        let is_last = self.open.as_ref().is_none_or(|record| record.is_last);
        let (keeps, is_beside) = (self.keeps, self.is_beside);
        self.retire();
        branch.note(|record| record.is_last = is_last);
        // Whoever looks on looks at the request, whichever attempt is its own.
        branch.recorder = Rc::clone(&self.recorder);
        *self = branch.take();
        (self.keeps, self.is_beside) = (keeps, is_beside);
        if let Some(mut kept) = self.kept.take() {
            kept.is_last = is_last;
            self.put(kept);
        }
    }

    /// The request needs this attempt no more: records what became of it, and gives back what it
    /// holds.
    pub(crate) fn retire(&mut self) {
        self.keeps = false;
        if let Some(kept) = self.kept.take() {
            self.put(kept);
        }
        self.note(|record| record.is_last = false);
        if let Some(failed) = self.failed.take() {
            self.recorder.record(failed);
        }
        self.close(Outcome::Cancelled);
    }

    /// Records the end, or keeps it.
    fn put(&mut self, mut record: Box<Record>) {
        self.recorded = true;
        if self.keeps {
            self.kept = Some(record);
        } else if record.asked || record.is_last {
            record.attempts = self.attempts().max(record.attempts);
            self.recorder.record(record);
        }
    }

    /// Moves the open record out, to travel with a body; what stays behind is closed.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            open: self.open.take(),
            failed: self.failed.take(),
            admission: self.admission.take(),
            counted: self.counted.take(),
            lease: self.lease.take(),
            bell: self.bell.take(),
            recorded: false,
            kept: self.kept.take(),
            made: self.made.take(),
            recorder: Rc::clone(&self.recorder),
            ..*self
        }
    }

    /// The same, recorded elsewhere.
    pub(crate) fn take_for(&mut self, recorder: Rc<dyn Recorder>) -> Self {
        let mut taken = self.take();
        taken.recorder = recorder;
        taken
    }

    /// What is known so far; `None` once it is recorded, or on its way with a body.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.open.as_deref()
    }

    /// Changes what is known so far.
    pub(crate) fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.open {
            change(record);
        }
    }

    /// The id of the request; `None` if its record is closed.
    pub(crate) fn id(&self) -> Option<RequestId> {
        self.open.as_ref().map(|record| record.id)
    }

    /// Puts a recorder around the one there is.
    pub(crate) fn witnessed(&mut self, witness: impl FnOnce(Rc<dyn Recorder>) -> Rc<dyn Recorder>) {
        self.recorder = witness(Rc::clone(&self.recorder));
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

    /// The same, where the request counts for nothing so far.
    pub(crate) fn uncount(&mut self) {
        self.release();
        self.counted = None;
    }

    /// What counts the request already.
    pub(crate) fn counted(&self) -> Option<Rc<RefCell<Counted>>> {
        self.counted.clone()
    }

    /// Keeps what the attempt was admitted with, to its end.
    pub(crate) fn hold(&mut self, mut admission: Admission) {
        if admission.counts() {
            self.counted.get_or_insert_default().borrow_mut().add(&mut admission);
        }
        self.admission = (!admission.is_empty()).then(|| Box::new(admission));
    }

    /// Keeps the place of the attempt at its target, to its end.
    pub(crate) fn lend(&mut self, lease: Lease) {
        self.bell = lease.bell();
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
        let number = self.attempts() + 1;
        let Some(record) = &mut self.open else { return Ok(()) };
        record.likely_input = bound.input;
        record.reserved = self.admission.as_ref().and_then(|admission| admission.most_cost());
        let before = std::mem::replace(&mut record.attempt, number);
        if let Err(fault) = self.recorder.open(record, bound) {
            record.attempt = before;
            return Err(fault);
        }
        if let Some(made) = &self.made {
            made.set(number);
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
        failed.attempts = failed.attempt;
        failed.outcome = failure.outcome;
        failed.cause = Some(failure.cause);
        failed.fault = failure.fault;
        failed.status = failure.status;
        failed.total = self.start.elapsed();
        let used = failed.account();
        if let Some(admission) = self.admission.take() {
            failed.alerts = admission.settle(&used, failed.total);
        }
        self.failed = Some(failed);
        record.asked = false;
        record.usage = None;
        // What the next attempt says is its own.
        (record.events, record.seen_output) = (0, 0);
        self.ring();
        Some(Failed { next, took_ms })
    }

    /// Tells those who wait that what the attempt held is free.
    fn ring(&mut self) {
        if let Some(bell) = self.bell.take() {
            bell.ring();
        }
    }

    /// How many providers were asked.
    pub(crate) fn attempts(&self) -> u16 {
        let own = || self.open.as_ref().map_or(0, |record| record.attempt);
        self.made.as_ref().map_or_else(own, |made| made.get())
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

    /// The target has begun to answer, though its client has had the beginning of its answer before.
    pub(crate) fn resumes(&mut self) {
        let now_ms = self.now_ms();
        if let Some(lease) = &mut self.lease {
            lease.first_token(now_ms);
        }
    }

    /// Records the end. Later calls change nothing.
    pub(crate) fn close(&mut self, outcome: Outcome) {
        let attempts = self.attempts();
        let Some(mut record) = self.open.take() else { return };
        record.attempts = attempts;
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
        if let Some(counted) = self.counted.take() {
            counted.borrow_mut().stays();
        }
        self.ring();
        self.put(record);
    }

    /// Whether the end is recorded, and not on its way with a body.
    pub(crate) fn is_closed(&self) -> bool {
        self.recorded
    }

    /// What the last byte of an answer has to wait for, once the record is closed.
    pub(crate) fn lasting(&self) -> Option<Lasting> {
        self.recorder.lasting()
    }
}

/// An attempt that failed, and may be followed by another one: before anything of an answer had gone to
/// the client, or in the middle of one that may be gone on with.
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
    use Outcome::{Cancelled, ClientGone, Complete, Failed, Refused, Shed};
    use Outcome::{ProviderError, TimedOut, Truncated, Unreachable};
    match outcome {
        Complete => lease.succeeded(now_ms),
        Truncated | TimedOut | ProviderError => {
            lease.failed(Cause::Transient, None, now_ms);
        }
        Unreachable => {
            lease.failed(Cause::HardDown, None, now_ms);
        }
        Cancelled => lease.overtaken(now_ms),
        // They say nothing of the target.
        ClientGone | Shed | Failed | Refused => drop(lease),
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        self.keeps = false;
        if let Some(kept) = self.kept.take() {
            self.put(kept);
        }
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
