//! A provider that bears so many requests at once and no more, and remembers what came.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::PATIENCE;
use crate::raw::{Peer, RawUpstream};

/// How many requests it bears by default: all.
const ALL: usize = usize::MAX;

/// See the [module](self).
pub(crate) struct Busy {
    upstream: RawUpstream,
    state: Arc<State>,
}

struct State {
    takes: Duration,
    is_held: AtomicBool,
    bears: AtomicUsize,
    at_work: AtomicUsize,
    most: AtomicUsize,
    throttled: AtomicUsize,
    /// The `user` of each request it has taken on, in their order.
    users: Mutex<Vec<String>>,
}

impl Busy {
    /// Takes so long for each request.
    pub(crate) fn start(takes: Duration) -> Self {
        let state = Arc::new(State {
            takes,
            is_held: AtomicBool::new(false),
            bears: AtomicUsize::new(ALL),
            at_work: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            throttled: AtomicUsize::new(0),
            users: Mutex::default(),
        });
        let playing = Arc::clone(&state);
        let upstream = RawUpstream::start(move |mut peer, _| while playing.answer(&mut peer) {});
        Self { upstream, state }
    }

    /// From now on it bears so many at once, and answers 429 to the others.
    pub(crate) fn bear(&self, count: usize) {
        self.state.bears.store(count, SeqCst);
    }

    /// Answers nothing any more, or what it has to do now.
    pub(crate) fn hold(&self, is_held: bool) {
        self.state.is_held.store(is_held, SeqCst);
    }

    pub(crate) fn base_url(&self) -> String {
        self.upstream.base_url()
    }

    /// The most that it had to do at once.
    pub(crate) fn most(&self) -> usize {
        self.state.most.load(SeqCst)
    }

    /// How many it has throttled.
    pub(crate) fn throttled(&self) -> usize {
        self.state.throttled.load(SeqCst)
    }

    /// The `user` of each request that it has taken on, in their order.
    pub(crate) fn users(&self) -> Vec<String> {
        self.state.users.lock().unwrap().clone()
    }
}

impl State {
    /// Answers one request; `false` at the end of the connection.
    fn answer(&self, peer: &mut Peer) -> bool {
        let Some((_, body)) = peer.request() else { return false };
        let at_work = self.at_work.fetch_add(1, SeqCst) + 1;
        if at_work > self.bears.load(SeqCst) {
            self.at_work.fetch_sub(1, SeqCst);
            self.throttled.fetch_add(1, SeqCst);
            return peer.write(reply("429 Too Many Requests", &json!({ "error": "too many" })));
        }
        self.most.fetch_max(at_work, SeqCst);
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let user = body["user"].as_str().unwrap_or_default().to_owned();
        self.users.lock().unwrap().push(user);
        thread::sleep(self.takes);
        let start = Instant::now();
        while self.is_held.load(SeqCst) && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        self.at_work.fetch_sub(1, SeqCst);
        let message = json!({ "role": "assistant", "content": "done" });
        let choices = json!([{ "index": 0, "message": message, "finish_reason": "stop" }]);
        peer.write(reply(
            "200 OK",
            &json!({ "id": "c", "object": "chat.completion", "choices": choices }),
        ))
    }
}

fn reply(status: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}
