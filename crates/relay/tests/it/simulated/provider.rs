//! Providers, each of whose models is well at some times and not at others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use relay::{FailureKind, RequestId};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::act::{Act, Mood, moods};
use super::config::Drawn;
use super::random::Random;
use super::saying::{Kind, Saying};
use crate::scripted::{Reply, Seen};
use crate::world::{DONE, FINISH, USAGE, chunk, millis, seconds};

/// Counts what happens, so that it can be told what came first.
pub(super) type Clock = Rc<Cell<u64>>;

pub(super) fn tick(clock: &Clock) -> u64 {
    clock.set(clock.get() + 1);
    clock.get()
}

/// A call that a provider got.
#[derive(Debug, Clone)]
pub(super) struct Called {
    pub(super) tick: u64,
    pub(super) at: Instant,
    /// The request that it is an attempt of.
    pub(super) by: RequestId,
    /// What is asked, by the number in its first message.
    pub(super) asks: u64,
    /// `provider/model`.
    pub(super) target: String,
    pub(super) has_own_credential: bool,
    pub(super) idempotency: Option<String>,
    /// The beginning of an answer that it was to go on with.
    pub(super) said: Option<String>,
    /// It met a closed connection, and so will be made again.
    pub(super) is_stale: bool,
    pub(super) act: Act,
    /// When all of the reply will be there.
    pub(super) ends: Instant,
    /// The output tokens it tells, if it tells any.
    pub(super) output: Option<u64>,
}

/// See the [module](self).
pub(super) struct Providers {
    seed: u64,
    start: Instant,
    /// How each target is, from which time on.
    moods: BTreeMap<String, Vec<(Duration, Mood)>>,
    random: Random,
    overbills: bool,
    breaks: bool,
    /// Those that repeat what they are to go on with.
    repeaters: Vec<String>,
    clock: Clock,
    was_stale: bool,
    calls: Rc<RefCell<Vec<Called>>>,
    late: Rc<Cell<usize>>,
    /// The output tokens that the reply under way tells.
    output: Option<u64>,
}

impl Providers {
    pub(super) fn new(seed: u64, drawn: &Drawn, clock: &Clock) -> Self {
        Self {
            seed,
            start: Instant::now(),
            moods: BTreeMap::new(),
            random: Random::new(seed),
            overbills: drawn.overbills,
            breaks: drawn.breaks,
            repeaters: drawn.repeaters.clone(),
            clock: Rc::clone(clock),
            was_stale: false,
            calls: Rc::default(),
            late: Rc::default(),
            output: None,
        }
    }

    /// The calls, as they come.
    pub(super) fn calls(&self) -> Rc<RefCell<Vec<Called>>> {
        Rc::clone(&self.calls)
    }

    /// How many went on behind `[DONE]`.
    pub(super) fn late(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.late)
    }

    /// Replies to a call of that request.
    pub(super) fn answer(&mut self, seen: &Seen, by: RequestId) -> Reply {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let target = format!("{}/{}", seen.provider, body["model"].as_str().unwrap());
        let act = self.act(&target);
        // So that each is followed by exactly one more.
        let act = if act == Act::Stale && self.was_stale { Act::Good } else { act };
        self.was_stale = act == Act::Stale;
        let breaks = self.breaks && body["stream"] == true && act == Act::Good;
        let said = said(&body);
        let act = match breaks {
            true if said.is_some() && self.random.percent(15) => Act::Astray,
            true if self.random.percent(40) => self.breaking(),
            _ => act,
        };
        let number = self.calls.borrow().len();
        let saying = Saying {
            kind: Kind::of(&seen.target),
            number,
            said: said.clone(),
            repeats: self.repeaters.contains(&seen.provider),
        };
        self.output = None;
        let stream = body["stream"] == true && act != Act::Whole;
        let reply = self.reply(&saying, stream, act);
        let reply = match act {
            Act::Slow => reply.after(self.random.time(3_000, 30_000)),
            Act::Silent => reply.after(seconds(3_600)),
            Act::Stale => reply,
            _ => reply.after(self.random.time(0, 800)),
        };
        let header = |name| seen.header(name).unwrap_or_default();
        self.calls.borrow_mut().push(Called {
            tick: tick(&self.clock),
            at: Instant::now(),
            by,
            asks: number_in(seen.text()),
            target,
            has_own_credential: header("authorization").contains(&format!("sk-{}-", seen.provider)),
            idempotency: seen.header("idempotency-key").map(str::to_owned),
            said,
            is_stale: self.was_stale,
            act,
            ends: Instant::now() + reply.lasts(),
            output: self.output,
        });
        reply
    }

    fn act(&mut self, target: &str) -> Act {
        let mixed = |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte));
        let seed = target.bytes().fold(self.seed, mixed);
        let moods = self.moods.entry(target.to_owned()).or_insert_with(|| moods(seed));
        let elapsed = self.start.elapsed();
        let mood = moods.iter().rev().find(|(from, _)| *from <= elapsed).unwrap().1;
        let overbills = self.overbills && self.random.percent(20);
        mood.act(if overbills { Act::Overbilled } else { Act::Good }, &mut self.random)
    }

    /// Breaks off in the middle of an answer.
    fn breaking(&mut self) -> Act {
        let at = usize::try_from(self.random.between(1, 9)).unwrap();
        self.random.of(&[Act::Cut(at), Act::Torn(at), Act::Short(at), Act::Error(at, true)])
    }

    fn reply(&mut self, saying: &Saying, stream: bool, act: Act) -> Reply {
        let error = |status: u16, code: &str| {
            let body =
                json!({ "error": { "message": "m", "type": "t", "param": null, "code": code } });
            Reply::status(status).header("content-type", "application/json").data(body.to_string())
        };
        match act {
            Act::Throttled => error(429, "busy"),
            Act::ThrottledFor(wait) => error(429, "busy").header("retry-after", &wait.to_string()),
            Act::Down(status) | Act::Barred(status) => error(status, "no"),
            Act::TooLong => error(400, "context_length_exceeded"),
            Act::Redirect => Reply::status(302).header("location", "http://elsewhere.test/"),
            Act::Gone(kind) => Reply::failing(kind),
            Act::Stale => Reply::failing(FailureKind::Stale),
            Act::ErrorUnder200 => Reply::json(r#"{"error":{"message":"m","code":"server_error"}}"#),
            Act::Empty if stream => Reply::stream(),
            Act::Empty => Reply::status(200),
            act if stream => self.stream(saying, act),
            act => self.whole(saying, act),
        }
    }

    /// The output tokens to tell: seldom the same twice.
    fn tokens(&mut self, saying: &Saying, act: Act) -> u64 {
        let tokens = if act == Act::Overbilled { 90_000 } else { 3 + saying.number as u64 % 50 };
        self.output = Some(tokens);
        tokens
    }

    fn whole(&mut self, saying: &Saying, act: Act) -> Reply {
        let texts = saying.texts(&mut self.random).concat();
        let output = self.tokens(saying, act);
        let text = saying.kind.whole(&texts, output);
        let half = || text[..text.len() / 2].to_owned();
        let pause = self.random.time(0, 2_000);
        match act {
            Act::Cut(_) | Act::Torn(_) => Reply::json(half()).wait(pause).fail(FailureKind::Cut),
            Act::Short(_) => Reply::json(half()),
            Act::Stuck(_) => Reply::json(half()).hang(),
            Act::Error(..) => Reply::json(r#"{"error_code":17,"error_msg":"m"}"#),
            Act::Garbage(_) => Reply::json("<html>"),
            Act::Reluctant => Reply::json("\n\n").wait(pause).data(text),
            _ => Reply::json(text),
        }
    }

    fn stream(&mut self, saying: &Saying, act: Act) -> Reply {
        let texts = saying.texts(&mut self.random);
        let mut events: Vec<String> = texts.iter().map(|text| saying.kind.event(text)).collect();
        if act == Act::Astray && saying.said.is_some() {
            events.insert(0, saying.astray());
        }
        if self.random.percent(30) {
            events.insert(0, saying.kind.event(""));
        }
        events.push(FINISH.into());
        if act == Act::Overbilled || self.random.percent(60) {
            let output = self.tokens(saying, act);
            events.push(USAGE.replace(":3", &format!(":{output}")));
        }
        if self.random.percent(80) {
            events.push(DONE.into());
        }
        let (Act::Cut(at)
        | Act::Torn(at)
        | Act::Short(at)
        | Act::Stuck(at)
        | Act::Error(at, _)
        | Act::Garbage(at)) = act
        else {
            return self.paced(events, act == Act::Reluctant);
        };
        events.truncate(at);
        if !events.iter().any(|event| event.contains("completion_tokens")) {
            self.output = None;
        }
        let is_late = events.last().is_some_and(|last| last == DONE);
        self.late.set(self.late.get() + usize::from(is_late));
        let begun = self.paced(events, false);
        match act {
            Act::Cut(_) => begun.fail(FailureKind::Cut),
            Act::Torn(_) => begun.data("data: {\"choices\":[{\"del").fail(FailureKind::Cut),
            Act::Stuck(_) => begun.hang(),
            Act::Error(_, true) => {
                begun.data("data: {\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":null}}\n\n")
            }
            Act::Error(..) => begun.data("event: error\ndata: {\"error_code\":17}\n\n"),
            Act::Garbage(_) => begun.data("data: {what\n\n").data(chunk("never")),
            _ => begun,
        }
    }

    fn paced(&mut self, events: Vec<String>, is_reluctant: bool) -> Reply {
        let most = self.random.of(&[0, 50, 400, 3_000]);
        let mut reply = Reply::stream();
        for _ in 0..if is_reluctant { 8 } else { 0 } {
            reply = reply.data(": wait\n\n").wait(millis(1_500));
        }
        for event in events {
            reply = match self.random.percent(20) {
                true => {
                    let (one, other) = event.split_at(event.len() / 2);
                    reply.data(one.to_owned()).wait(millis(1)).data(other.to_owned())
                }
                false => reply.data(event),
            };
            reply = reply.wait(self.random.time(0, most));
        }
        reply
    }
}

/// The beginning of an answer that a request gives.
fn said(body: &Value) -> Option<String> {
    let last = body["messages"].as_array()?.last()?;
    (last["role"] == "assistant").then(|| last["content"].as_str().unwrap().to_owned())
}

/// The number of what is asked, which stands as `#17#` in its first message, wherever that is shown.
fn number_in(text: &str) -> u64 {
    text.split('#').nth(1).unwrap().parse().unwrap()
}
