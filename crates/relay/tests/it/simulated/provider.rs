//! Providers, each of whose models is well at some times and not at others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use relay::FailureKind;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::random::Random;
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
    /// The number of the client's request.
    pub(super) request: u64,
    /// `provider/model`.
    pub(super) target: String,
    pub(super) has_own_credential: bool,
    /// It met a closed connection, and so will be made again.
    pub(super) is_stale: bool,
    /// What it was answered with, for whoever looks into a failure.
    pub(super) act: Act,
}

/// What a provider does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Good,
    Slow,
    /// Comments for a while before the answer.
    Reluctant,
    Overbilled,
    Throttled,
    ThrottledFor(u64),
    Down(u16),
    Barred(u16),
    TooLong,
    Redirect,
    Gone(FailureKind),
    Stale,
    Silent,
    /// After so many events the connection breaks,
    Cut(usize),
    /// or in the middle of the next one,
    Torn(usize),
    /// or the stream ends,
    Short(usize),
    /// or nothing more comes,
    Stuck(usize),
    /// or an error, in the client's dialect or another.
    Error(usize, bool),
    ErrorUnder200,
    Empty,
    Garbage(usize),
    /// What was to be a stream is none.
    Whole,
}

/// How a target is for a while.
#[derive(Clone, Copy)]
enum Mood {
    Well,
    Slow,
    Busy,
    Down,
    Barred,
    Gone,
    Breaking,
    /// Any of these.
    Mad,
}

const MOODS: [Mood; 8] = [
    Mood::Well,
    Mood::Slow,
    Mood::Busy,
    Mood::Down,
    Mood::Barred,
    Mood::Gone,
    Mood::Breaking,
    Mood::Mad,
];

/// See the [module](self).
pub(super) struct Providers {
    seed: u64,
    start: Instant,
    /// How each target is, from which time on.
    moods: BTreeMap<String, Vec<(Duration, Mood)>>,
    random: Random,
    overbills: bool,
    clock: Clock,
    was_stale: bool,
    calls: Rc<RefCell<Vec<Called>>>,
    late: Rc<Cell<usize>>,
}

impl Providers {
    pub(super) fn new(seed: u64, overbills: bool, clock: &Clock) -> Self {
        Self {
            seed,
            start: Instant::now(),
            moods: BTreeMap::new(),
            random: Random::new(seed),
            overbills,
            clock: Rc::clone(clock),
            was_stale: false,
            calls: Rc::default(),
            late: Rc::default(),
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

    pub(super) fn answer(&mut self, seen: &Seen) -> Reply {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let target = format!("{}/{}", seen.provider, body["model"].as_str().unwrap());
        let act = self.act(&target);
        // So that each is followed by exactly one more.
        let act = if act == Act::Stale && self.was_stale { Act::Good } else { act };
        self.was_stale = act == Act::Stale;
        let credential = seen.header("authorization").unwrap_or_default();
        let call = Called {
            tick: tick(&self.clock),
            request: number_in(seen.text()),
            target,
            has_own_credential: credential.contains(&format!("sk-{}-", seen.provider)),
            is_stale: self.was_stale,
            act,
        };
        self.calls.borrow_mut().push(call);
        let number = self.calls.borrow().len() - 1;
        let stream = body["stream"] == true && act != Act::Whole;
        let reply = self.reply(number, stream, act);
        match act {
            Act::Slow => reply.after(self.random.time(3_000, 30_000)),
            Act::Silent => reply.after(seconds(3_600)),
            Act::Stale => reply,
            _ => reply.after(self.random.time(0, 800)),
        }
    }

    fn act(&mut self, target: &str) -> Act {
        let mixed = |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte));
        let seed = target.bytes().fold(self.seed, mixed);
        let moods = self.moods.entry(target.to_owned()).or_insert_with(|| moods(seed));
        let elapsed = self.start.elapsed();
        let mood = moods.iter().rev().find(|(from, _)| *from <= elapsed).unwrap().1;
        let random = &mut self.random;
        let at = usize::try_from(random.between(0, 9)).unwrap();
        let good = if self.overbills && random.percent(20) { Act::Overbilled } else { Act::Good };
        if random.percent(match mood {
            Mood::Well => 95,
            Mood::Mad => 10,
            _ => 30,
        }) {
            return good;
        }
        let mood = if matches!(mood, Mood::Mad | Mood::Well) { random.of(&MOODS) } else { mood };
        match mood {
            Mood::Well | Mood::Mad => random.of(&[good, Act::Stale, Act::TooLong, Act::Redirect]),
            Mood::Slow => random.of(&[Act::Slow, Act::Reluctant, Act::Silent]),
            Mood::Busy => random.of(&[Act::Throttled, Act::ThrottledFor(at as u64 * 4)]),
            Mood::Down => random.of(&[Act::Down(500), Act::Down(503), Act::Down(529), Act::Empty]),
            Mood::Barred => random.of(&[Act::Barred(401), Act::Barred(402), Act::Barred(404)]),
            Mood::Gone => random.of(&[
                Act::Gone(FailureKind::Dns),
                Act::Gone(FailureKind::Connect),
                Act::Gone(FailureKind::NoReply),
                Act::Silent,
            ]),
            Mood::Breaking => random.of(&[
                Act::Cut(at),
                Act::Torn(at),
                Act::Short(at),
                Act::Stuck(at),
                Act::Error(at, true),
                Act::Error(at, false),
                Act::ErrorUnder200,
                Act::Garbage(at),
                Act::Whole,
            ]),
        }
    }

    fn reply(&mut self, call: usize, stream: bool, act: Act) -> Reply {
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
            act if stream => self.stream(call, act),
            act => self.whole(call, act),
        }
    }

    /// The texts of an answer: each tells its call and its place, and the last that it is the last.
    fn texts(&mut self, call: usize) -> Vec<String> {
        let last = self.random.between(0, 6);
        let lead = self.random.of(&["", "", "yes ", "no ", "dunno ", "2 "]);
        let text = |it| {
            let (lead, end) = (if it == 0 { lead } else { "" }, if it == last { "$" } else { "" });
            format!("{lead}<{call}.{it}{end}>")
        };
        (0..=last).map(text).collect()
    }

    fn whole(&mut self, call: usize, act: Act) -> Reply {
        let output = if act == Act::Overbilled { 90_000 } else { 3 };
        let text = json!({
            "id": "x", "object": "chat.completion",
            "choices": [{ "index": 0, "finish_reason": "stop",
                "message": { "role": "assistant", "content": self.texts(call).concat() } }],
            "usage": { "prompt_tokens": 7, "completion_tokens": output, "total_tokens": 7 + output },
        })
        .to_string();
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

    fn stream(&mut self, call: usize, act: Act) -> Reply {
        let mut events: Vec<String> = self.texts(call).iter().map(|text| chunk(text)).collect();
        if self.random.percent(30) {
            events.insert(0, chunk(""));
        }
        events.push(FINISH.into());
        match act {
            Act::Overbilled => events.push(USAGE.replace(":3", ":90000")),
            _ if self.random.percent(60) => events.push(USAGE.into()),
            _ => {}
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

/// How a target is in the course of two minutes.
fn moods(seed: u64) -> Vec<(Duration, Mood)> {
    let mut random = Random::new(seed);
    let (mut from, mut moods) = (Duration::ZERO, Vec::new());
    let sound = random.of(&[0, 40, 85]);
    while from < seconds(120) {
        let mood = if random.percent(sound) { Mood::Well } else { random.of(&MOODS) };
        moods.push((from, mood));
        from += random.time(2_000, 25_000);
    }
    moods
}

/// The number of the client's request, which stands as `#17#` in its first message, wherever that
/// is shown.
fn number_in(text: &str) -> u64 {
    text.split('#').nth(1).unwrap().parse().unwrap()
}
