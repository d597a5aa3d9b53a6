//! Clients: some leave, some do not read for a while.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use relay::RequestId;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::config::{CHEAP, Drawn};
use super::provider::{Clock, tick};
use super::random::Random;
use crate::world::{DONE, World, chat, keyed, seconds, with_header};

/// The time of day at which it all begins, since 1970.
const BEGINNING: Duration = seconds(1_795_000_000);

/// A request to be made.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// From 0.
    pub(super) number: u64,
    pub(super) id: RequestId,
    /// Since the beginning.
    at: Duration,
    /// Its number.
    pub(super) key: usize,
    pub(super) model: String,
    pub(super) stream: bool,
    headers: Vec<(&'static str, &'static str)>,
    /// When the client leaves, after it has come.
    leaves: Option<Duration>,
    /// It leaves as soon as it has seen `[DONE]`.
    hurries: bool,
    /// For how long it reads nothing once the head is there.
    pub(super) nap: Duration,
}

/// What a client saw.
#[derive(Debug, Default)]
pub(super) struct Saw {
    pub(super) head: Option<Head>,
    pub(super) bytes: Vec<u8>,
    /// The body broke off.
    pub(super) broke: bool,
    pub(super) left: bool,
    pub(super) took: Duration,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) tick: u64,
    pub(super) status: StatusCode,
    pub(super) streams: bool,
    pub(super) target: Option<String>,
    pub(super) attempts: Option<u16>,
}

impl Wish {
    pub(super) fn draw(number: u64, burst: Duration, drawn: &Drawn, random: &mut Random) -> Self {
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
        let at = if random.percent(30) { burst } else { random.time(0, 60_000) };
        let key = usize::try_from(random.between(0, drawn.keys.len() as u64 - 1)).unwrap();
        let (ms, low) = ((BEGINNING + at).as_millis(), random.next());
        Self {
            number,
            id: RequestId::parse(&format!("req_{ms:012x}{number:04x}{low:016x}")).unwrap(),
            at,
            key,
            model: random.of(&names),
            stream: random.percent(60),
            headers,
            leaves: random.percent(20).then(|| random.time(0, 15_000)),
            hurries: random.percent(30),
            nap: if random.percent(10) { random.time(1_000, 40_000) } else { Duration::ZERO },
        }
    }

    /// When it comes, since 1970.
    pub(super) fn came(&self) -> Duration {
        BEGINNING + self.at
    }

    /// Makes the request, when it is time, and sees what comes of it.
    pub(super) async fn make(&self, world: &World, drawn: &Drawn, clock: &Clock) -> Saw {
        sleep(self.at).await;
        let start = Instant::now();
        let saw = Rc::new(RefCell::new(Saw::default()));
        let reading = self.read(world, drawn, clock, Rc::clone(&saw));
        let left = match self.leaves {
            Some(leaves) => timeout(leaves, reading).await.is_err(),
            None => {
                reading.await;
                false
            }
        };
        let mut saw = saw.take();
        (saw.left, saw.took) = (left, start.elapsed());
        saw
    }

    async fn read(&self, world: &World, drawn: &Drawn, clock: &Clock, saw: Rc<RefCell<Saw>>) {
        let Self { number, model, stream, .. } = self;
        let mut body = json!({
            "model": model, "stream": stream, "max_tokens": 100 + number % 50,
            "messages": [{ "role": "user", "content": format!("hi #{number}#") }],
        });
        if number % 3 == 0 {
            body["prompt_cache_key"] = json!(format!("cache-{}", number % 5));
        }
        let mut request = keyed(chat(body.to_string()), &drawn.keys[self.key].text);
        for (name, value) in &self.headers {
            request = with_header(request, name, value);
        }
        let mut answer = world.ask_as(self.id, request).await;
        let header = |name| answer.header(name).map(str::to_owned);
        saw.borrow_mut().head = Some(Head {
            tick: tick(clock),
            status: answer.status,
            streams: header("content-type").as_deref() == Some("text/event-stream"),
            target: header("x-magpie-target"),
            attempts: header("x-magpie-attempts").map(|it| it.parse().unwrap()),
        });
        sleep(self.nap).await;
        while let Some(piece) = answer.next().await {
            match piece {
                Ok(bytes) => saw.borrow_mut().bytes.extend_from_slice(&bytes),
                Err(_) => saw.borrow_mut().broke = true,
            }
            if self.hurries && saw.borrow().bytes.ends_with(DONE.as_bytes()) {
                return;
            }
        }
    }
}
