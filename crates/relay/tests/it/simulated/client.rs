//! Clients: some leave, some do not read for a while, and some ask what was asked before.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use relay::RequestId;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::config::{CHEAP, Drawn};
use super::provider::{Clock, tick};
use super::random::Random;
use super::saying::Kind;
use crate::world::{DONE, World, keyed, post, seconds, with_header};

/// The time of day at which it all begins, since 1970.
const BEGINNING: Duration = seconds(1_795_000_000);

/// A request to be made.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) id: RequestId,
    /// Since the beginning.
    at: Duration,
    /// Its number.
    pub(super) key: usize,
    pub(super) asked: Asked,
    /// When the client leaves, after it has come.
    leaves: Option<Duration>,
    /// It leaves as soon as it has seen `[DONE]`.
    hurries: bool,
    /// For how long it reads nothing once the head is there.
    pub(super) nap: Duration,
}

/// What may be asked twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// From 0.
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) model: String,
    stream: bool,
    wants_usage: bool,
    headers: Vec<(&'static str, &'static str)>,
    pub(super) idempotency: Option<String>,
}

/// What a client saw.
#[derive(Debug, Default)]
pub(super) struct Saw {
    pub(super) head: Option<Head>,
    pub(super) bytes: Vec<u8>,
    /// The body broke off.
    pub(super) broke: bool,
    pub(super) left: bool,
    /// It read the answer to its end.
    pub(super) has_all: bool,
    pub(super) took: Duration,
    pub(super) ended: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) tick: u64,
    pub(super) status: StatusCode,
    pub(super) streams: bool,
    pub(super) target: Option<String>,
    pub(super) attempts: Option<u16>,
}

/// What all clients share.
pub(super) struct Around {
    pub(super) world: Rc<World>,
    pub(super) drawn: Rc<Drawn>,
    pub(super) clock: Clock,
    /// For each key, the answers that are being read.
    pub(super) reading: RefCell<BTreeMap<usize, Rc<Cell<u64>>>>,
}

/// Counts an answer as long as it is being read.
struct Reading(Rc<Cell<u64>>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Asked {
    fn draw(number: u64, drawn: &Drawn, random: &mut Random) -> Self {
        let named = drawn.models.keys().filter(|name| *name != CHEAP).cloned().collect();
        let names: Vec<String> = match random.percent(5) {
            true => [CHEAP, "p0/a", "p0/b", "nobody"].map(String::from).into(),
            false => named,
        };
        let mut headers = Vec::new();
        if random.percent(40) {
            headers.push(("x-tier", random.of(&["gold", "leaden"])));
        }
        if random.percent(30) {
            headers.push(("x-side", random.of(&["one", "two", "three"])));
        }
        let kind = if random.percent(80) { Kind::Chat } else { random.of(&Kind::ALL) };
        Self {
            number,
            kind,
            model: random.of(&names),
            stream: matches!(kind, Kind::Chat | Kind::Completion) && random.percent(65),
            wants_usage: random.percent(30),
            headers,
            idempotency: random.percent(15).then(|| format!("once-{number}")),
        }
    }

    fn body(&self) -> Value {
        let Self { number, kind, model, stream, .. } = self;
        let mut body = kind.body(&format!("hi #{number}#"));
        body["model"] = json!(model);
        body["max_tokens"] = json!(100 + number % 50);
        if *stream {
            body["stream"] = json!(true);
            if self.wants_usage {
                body["stream_options"] = json!({ "include_usage": true });
            }
        }
        if number % 3 == 0 {
            body["prompt_cache_key"] = json!(format!("cache-{}", number % 5));
        }
        body
    }
}

impl Wish {
    /// The next request, which may ask what one before it asks.
    pub(super) fn draw(
        before: &[Self],
        burst: Duration,
        drawn: &Drawn,
        random: &mut Random,
    ) -> Self {
        let number = before.len() as u64;
        let lately = &before[before.len().saturating_sub(8)..];
        let twin = (!lately.is_empty() && random.percent(20)).then(|| random.of(lately));
        let last_key = drawn.keys.len() as u64 - 1;
        let mut key = usize::try_from(random.between(0, last_key)).unwrap();
        let mut at = if random.percent(30) { burst } else { random.time(0, 60_000) };
        let mut asked = Asked::draw(number, drawn, random);
        if let Some(twin) = twin {
            at = twin.at + random.time(0, 12_000);
            key = if random.percent(80) { twin.key } else { key };
            match random.percent(10) {
                // The same name for something else.
                true => asked.idempotency = twin.asked.idempotency,
                false => asked = twin.asked,
            }
        }
        let (ms, low) = ((BEGINNING + at).as_millis(), random.next());
        Self {
            id: RequestId::parse(&format!("req_{ms:012x}{number:04x}{low:016x}")).unwrap(),
            at,
            key,
            asked,
            leaves: random.percent(20).then(|| random.time(0, 15_000)),
            hurries: random.percent(30),
            nap: if random.percent(10) { random.time(1_000, 40_000) } else { Duration::ZERO },
        }
    }

    /// When it comes, since 1970.
    pub(super) fn came(&self) -> Duration {
        BEGINNING + self.at
    }

    /// When it comes, in a world that begins then.
    pub(super) fn begins(&self, beginning: Instant) -> Instant {
        beginning + self.at
    }

    /// Makes the request, when it is time, and sees what comes of it.
    pub(super) async fn make(&self, around: &Around) -> Saw {
        sleep(self.at).await;
        let start = Instant::now();
        let saw = Rc::new(RefCell::new(Saw::default()));
        let reading = self.read(around, Rc::clone(&saw));
        let left = match self.leaves {
            Some(leaves) => timeout(leaves, reading).await.is_err(),
            None => {
                reading.await;
                false
            }
        };
        let mut saw = saw.take();
        (saw.left, saw.took, saw.ended) = (left, start.elapsed(), Some(Instant::now()));
        saw
    }

    async fn read(&self, around: &Around, saw: Rc<RefCell<Saw>>) {
        let Asked { kind, headers, idempotency, .. } = &self.asked;
        let request = post(kind.path(), self.asked.body().to_string());
        let mut request = keyed(request, &around.drawn.keys[self.key].text);
        for (name, value) in headers {
            request = with_header(request, name, value);
        }
        if let Some(key) = idempotency {
            request = with_header(request, "idempotency-key", key);
        }
        let mut answer = around.world.ask_as(self.id, request).await;
        let header = |name| answer.header(name).map(str::to_owned);
        let streams = header("content-type").as_deref() == Some("text/event-stream");
        saw.borrow_mut().head = Some(Head {
            tick: tick(&around.clock),
            status: answer.status,
            streams,
            target: header("x-magpie-target"),
            attempts: header("x-magpie-attempts").map(|it| it.parse().unwrap()),
        });
        let is_under_way = streams && !self.may_share(&around.drawn) && !self.is_composed(around);
        let mut reading = is_under_way.then(|| self.reads(around));
        sleep(self.nap).await;
        while let Some(piece) = answer.next().await {
            match piece {
                Ok(bytes) => saw.borrow_mut().bytes.extend_from_slice(&bytes),
                Err(_) => saw.borrow_mut().broke = true,
            }
            if saw.borrow().bytes.ends_with(DONE.as_bytes()) {
                reading = None;
                if self.hurries {
                    return;
                }
            }
        }
        drop(reading);
        saw.borrow_mut().has_all = true;
    }

    fn is_composed(&self, around: &Around) -> bool {
        around.drawn.models.get(&self.asked.model).is_some_and(|model| model.is_composed)
    }

    /// Whether its call may go on without it, or be another's.
    pub(super) fn may_share(&self, drawn: &Drawn) -> bool {
        let shares = drawn.models.get(&self.asked.model).is_some_and(|model| model.shares);
        !self.asked.kind.is_forwarded() && (shares || self.asked.idempotency.is_some())
    }

    fn reads(&self, around: &Around) -> Reading {
        let mut all = around.reading.borrow_mut();
        let count = Rc::clone(all.entry(self.key).or_default());
        count.set(count.get() + 1);
        Reading(count)
    }
}
