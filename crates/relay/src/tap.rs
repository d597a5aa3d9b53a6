//! A streamed answer in the client's own dialect, on its way through.
//!
//! Whole events leave in the moment they are here, byte for byte as they came. Only the beginning
//! of an event waits for its end, so that a stream that breaks off never leaves half an event in
//! front of the error. How a stream ends is decided here and nowhere else: only an answer that
//! ended normally ends normally.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use policy::{Clocks, Route};
use tokio::time::{Instant, Sleep, sleep_until};
use wire::dialects::openai_chat::DONE;
use wire::reply::{Likeness, glance};
use wire::sse::{Event, Framer, events};

use crate::attempt::{Ended, error_event, first_event};
use crate::estimate::tokens_of_text;
use crate::fault::{Code, Fault, Language};
use crate::gather::{Gathered, gather};
use crate::latch::Waiter;
use crate::ports::Failure;
use crate::record::Outcome;
use crate::settle::Settlement;

/// Bytes of one event under way that are held back; a larger event is passed on in parts.
const TAIL: usize = 64 << 10;
/// How long the provider may take to end its stream after `[DONE]`, before the client's is ended
/// and the connection given up.
const GRACE_AFTER_DONE: Duration = Duration::from_secs(1);

/// What a tap has to know of its request.
pub(crate) struct Rules {
    pub(crate) route: Arc<Route>,
    pub(crate) clocks: Clocks,
    /// When the request came.
    pub(crate) start: Instant,
    /// When the provider was asked.
    pub(crate) asked: Instant,
    /// Keep the chunk with nothing but token counts from the client.
    pub(crate) hide_usage: bool,
    pub(crate) language: Language,
    /// Set when running streams have to end, because the process is stopping.
    pub(crate) shed: Waiter,
}

/// See the [module](self).
pub(crate) struct Tap<B> {
    /// Bytes that were read already, until they are looked at.
    begun: Bytes,
    /// `None` once the stream has ended or was given up.
    body: Option<B>,
    rules: Rules,
    framer: Framer,
    /// The beginning of an event under way.
    tail: BytesMut,
    /// An event larger than [`TAIL`] is passing in parts.
    oversized: bool,
    timer: Pin<Box<Sleep>>,
    /// Since when the provider is silent; `None` while events are coming.
    silent_since: Option<Instant>,
    likeness: Likeness,
    saw_event: bool,
    /// Output tokens in the events being looked at, by their text.
    text_tokens: u64,
    /// The choices seen, and those of them that have finished: a bit each.
    choices: u64,
    finished: u64,
    done: bool,
    /// The last byte passed was CR, so an LF that follows is the other half of its line end.
    after_cr: bool,
    /// The answer may be gone on with elsewhere if it breaks off: how it did is kept then, and nobody
    /// is told yet.
    is_resumable: bool,
    broken: Option<Box<Broken>>,
    settlement: Settlement,
}

/// How an answer broke off.
pub(crate) struct Broken {
    pub(crate) outcome: Outcome,
    /// The name of the fault; `None` if the provider sent an error.
    pub(crate) fault: Option<&'static str>,
    /// The event that says so.
    pub(crate) event: Bytes,
}

/// What is to be done with an event.
enum Verdict {
    Pass,
    Hide,
    /// It is the last of an answer that ended normally.
    Last,
    /// It is an error in the client's dialect: pass it, and nothing after it.
    LastError,
    /// It is an error in words of the provider's own: put this event in its place.
    Error(Bytes),
    /// It cannot be read.
    Broken,
}

impl<B> Tap<B>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    pub(crate) fn new(begun: Bytes, body: B, rules: Rules, settlement: Settlement) -> Self {
        let due = first_event(rules.clocks, rules.start, rules.asked);
        let timer = Box::pin(sleep_until(due));
        Self {
            begun,
            body: Some(body),
            rules,
            framer: Framer::default(),
            tail: BytesMut::new(),
            oversized: false,
            timer,
            silent_since: None,
            likeness: Likeness::default(),
            saw_event: false,
            text_tokens: 0,
            choices: 0,
            finished: 0,
            done: false,
            after_cr: false,
            is_resumable: false,
            broken: None,
            settlement,
        }
    }

    /// Keeps it to itself, from here on, if the answer breaks off.
    pub(crate) fn keep_broken(&mut self) {
        self.is_resumable = true;
    }

    /// How the answer broke off, once.
    pub(crate) fn take_broken(&mut self) -> Option<Box<Broken>> {
        self.broken.take()
    }

    /// Ends the stream with what was kept: the event that says so.
    pub(crate) fn end_broken(&mut self, broken: Broken) -> Bytes {
        if let Some(fault) = broken.fault {
            self.settlement.note(|record| record.fault = Some(fault));
        }
        self.stop(broken.outcome);
        broken.event
    }

    /// Takes the settlement out, for the next attempt.
    pub(crate) fn take_settlement(&mut self) -> Settlement {
        self.settlement.take()
    }

    /// Whether nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.body.is_none()
    }

    /// The settlement, out of a stream that is given up.
    pub(crate) fn into_settlement(self) -> Settlement {
        self.settlement
    }

    /// The settlement that travels with it.
    pub(crate) fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// The next bytes for the client; `None` when the stream is over.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while let Some(body) = &mut self.body {
            if self.rules.shed.is_set() && !self.done {
                let fault = Fault::new(Code::ShuttingDown, "Magpie is stopping.");
                return Poll::Ready(Some(self.fail(Outcome::Shed, &fault)));
            }
            let gathered = match self.begun.is_empty() {
                true => gather(body, cx),
                false => Gathered { data: std::mem::take(&mut self.begun), end: None },
            };
            if gathered.data.is_empty() && gathered.end.is_none() {
                // Its being set was looked at above; this is for the time until the next event.
                let _ = self.rules.shed.poll(cx);
                return self.poll_clocks(cx);
            }
            let mut out = self.pass(gathered.data);
            if let Some(end) = gathered.end
                && !self.is_over()
            {
                out = joined(out, self.end(&end));
            }
            if !out.is_empty() {
                return Poll::Ready(Some(out));
            }
        }
        Poll::Ready(None)
    }

    /// The part of new bytes that may leave now.
    fn pass(&mut self, mut chunk: Bytes) -> Bytes {
        if self.done || chunk.is_empty() {
            // Behind the end nothing passes but the other half of its own line end.
            let half = std::mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n');
            return chunk.slice(..usize::from(half));
        }
        let complete = self.framer.complete(&chunk);
        let rest = chunk.split_off(complete);
        if complete == 0 {
            self.tail.extend_from_slice(&rest);
            return self.overflow();
        }
        let whole = if self.tail.is_empty() {
            chunk
        } else {
            self.tail.extend_from_slice(&chunk);
            self.tail.split().freeze()
        };
        self.tail.extend_from_slice(&rest);
        let skip = usize::from(std::mem::take(&mut self.oversized));
        joined(self.look(whole, skip), self.overflow())
    }

    /// The beginning of an event that has grown too large to be held back.
    fn overflow(&mut self) -> Bytes {
        if self.is_over() || self.done || (!self.oversized && self.tail.len() <= TAIL) {
            return Bytes::new();
        }
        self.oversized = true;
        self.saw_event = true;
        self.silent_since = None;
        self.tail.split().freeze()
    }

    /// Looks at whole events, but the first `skip`, and takes out what the client must not see.
    fn look(&mut self, bytes: Bytes, skip: usize) -> Bytes {
        let mut hidden: Vec<Range<usize>> = Vec::new();
        // What is skipped is the rest of an event that has passed in parts.
        let mut seen = skip as u64;
        let mut last = None;
        for event in events(&bytes).skip(skip) {
            let (start, end) = event.span;
            match self.judge(&event) {
                Verdict::Pass => seen += u64::from(event.data.is_some()),
                Verdict::Hide => hidden.push(start..end),
                verdict => {
                    last = Some((verdict, start, end));
                    break;
                }
            }
        }
        if seen > 0 {
            self.saw_event = true;
            self.silent_since = None;
            let tokens = std::mem::take(&mut self.text_tokens);
            self.settlement.saw_events(seen, tokens, Instant::now());
        }
        let Some((verdict, start, end)) = last else {
            return without(bytes, &hidden);
        };
        self.after_cr = bytes.ends_with(b"\r") && end == bytes.len();
        let (end, event) = self.last(verdict, start, bytes.slice(start..end));
        joined(without(bytes.slice(..end), &hidden), event)
    }

    /// The verdict on the last event that is looked at: up to where the bytes may leave, and what
    /// takes the place of the rest.
    fn last(&mut self, verdict: Verdict, start: usize, event: Bytes) -> (usize, Bytes) {
        let end = start + event.len();
        match verdict {
            Verdict::Pass | Verdict::Hide => (end, Bytes::new()),
            Verdict::Last => {
                self.done = true;
                self.silent_since = None;
                // The answer is whole: a client that leaves now has all of it.
                self.settlement.close(Outcome::Complete);
                (end, Bytes::new())
            }
            Verdict::LastError => (start, self.break_off(Outcome::ProviderError, None, event)),
            Verdict::Error(event) => (start, self.break_off(Outcome::ProviderError, None, event)),
            Verdict::Broken => {
                let id = &self.rules.route.provider.id;
                let message = format!("{id} sent an event that cannot be read.");
                let fault = Fault::new(Code::Malformed, message);
                (start, self.fail(Outcome::Truncated, &fault))
            }
        }
    }

    fn judge(&mut self, event: &Event<'_>) -> Verdict {
        let Some(data) = &event.data else {
            return if event.odd { Verdict::Broken } else { Verdict::Pass };
        };
        if let Some(text) = self.likeness.text_of(data).filter(|_| event.name.is_empty()) {
            self.text_tokens += tokens_of_text(text);
            return Verdict::Pass;
        }
        if data.trim_ascii() == DONE {
            return Verdict::Last;
        }
        let provider = &self.rules.route.provider;
        let Ok(seen) = glance(data, &provider.error_marks) else {
            return Verdict::Broken;
        };
        if seen.error || event.name == b"error" {
            return match error_event(data, provider, seen.error_is_openai) {
                None => Verdict::LastError,
                Some(event) => Verdict::Error(event),
            };
        }
        self.choices |= seen.choices;
        self.finished |= seen.finished_choices;
        self.likeness.learn(data, &seen);
        self.text_tokens += match &seen.text {
            Some(text) => tokens_of_text(text.len().saturating_sub(2)),
            // A call of a tool, or several choices; what only names the role comes first.
            None => u64::from(seen.has_choices && !seen.finished && self.saw_event),
        };
        if let Some(usage) = seen.usage {
            self.settlement.note(|record| record.usage = Some(usage));
        }
        if self.rules.hide_usage && seen.is_usage_only() { Verdict::Hide } else { Verdict::Pass }
    }

    /// Whether every choice has finished.
    fn has_finished(&self) -> bool {
        self.choices != 0 && self.finished & self.choices == self.choices
    }

    /// The last bytes, once the provider's stream has ended.
    fn end(&mut self, end: &Result<(), Failure>) -> Bytes {
        let tail = self.tail.split();
        let mut out = Bytes::new();
        if end.is_ok() && !self.done && !tail.trim_ascii().is_empty() && !self.oversized {
            // The last event may lack its blank line; if it is not whole, it cannot be read.
            let mut event = tail;
            event.extend_from_slice(b"\n\n");
            out = self.look(event.freeze(), 0);
        }
        if self.is_over() {
            return out;
        }
        if self.done || (end.is_ok() && self.has_finished() && !self.oversized) {
            self.stop(Outcome::Complete);
            return out;
        }
        let id = &self.rules.route.provider.id;
        let why = match end {
            Ok(()) => format!("{id} ended its stream in the middle of the answer."),
            Err(failure) => format!("{id} broke off in the middle of the answer: {failure}."),
        };
        joined(out, self.fail(Outcome::Truncated, &Fault::new(Code::Truncated, why)))
    }

    /// Ends the stream with an error: the event that says so.
    fn fail(&mut self, outcome: Outcome, fault: &Fault) -> Bytes {
        let event = Bytes::from(fault.to_event(self.rules.language));
        // What was passed of an oversized event is closed, so that the error is one of its own.
        let event = if self.oversized { joined(Bytes::from_static(b"\n\n"), event) } else { event };
        self.break_off(outcome, Some(fault.code.name()), event)
    }

    /// Ends the stream with an error event, or keeps that to itself.
    fn break_off(&mut self, outcome: Outcome, fault: Option<&'static str>, event: Bytes) -> Bytes {
        let broken = Broken { outcome, fault, event };
        if !self.is_resumable || self.oversized || outcome == Outcome::Shed {
            return self.end_broken(broken);
        }
        self.body = None;
        self.broken = Some(Box::new(broken));
        Bytes::new()
    }

    /// Gives up the provider's stream. A body that has not ended takes its connection with it.
    fn stop(&mut self, outcome: Outcome) {
        self.body = None;
        self.settlement.close(outcome);
    }

    /// While the provider is silent: looks whether it has been for too long.
    fn poll_clocks(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        let clocks = self.rules.clocks;
        let due = match (self.done, self.saw_event) {
            (true, _) => since + GRACE_AFTER_DONE,
            (false, true) => since + clocks.idle,
            (false, false) => first_event(clocks, self.rules.start, self.rules.asked),
        }
        .min(self.rules.start + clocks.total);
        // The timer is only moved when it would ring too late: most events never touch it.
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() < due {
                self.timer.as_mut().reset(due);
                continue;
            }
            if self.done {
                self.stop(Outcome::Complete);
                return Poll::Ready(None);
            }
            let what = if self.saw_event { "the next event" } else { "the first event" };
            let ended = Ended::late(&self.rules.route.provider.id, what);
            return Poll::Ready(Some(self.fail(ended.outcome, &ended.fault)));
        }
        Poll::Pending
    }
}

/// Both, one after the other.
pub(crate) fn joined(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    if second.is_empty() {
        return first;
    }
    let mut both = BytesMut::with_capacity(first.len() + second.len());
    both.extend_from_slice(&first);
    both.extend_from_slice(&second);
    both.freeze()
}

/// The bytes without the hidden ranges.
fn without(bytes: Bytes, hidden: &[Range<usize>]) -> Bytes {
    if hidden.is_empty() {
        return bytes;
    }
    let mut kept = BytesMut::with_capacity(bytes.len());
    let mut at = 0;
    for range in hidden.iter().filter(|range| range.start < bytes.len()) {
        kept.extend_from_slice(&bytes[at..range.start]);
        at = range.end;
    }
    kept.extend_from_slice(&bytes[at..]);
    kept.freeze()
}
