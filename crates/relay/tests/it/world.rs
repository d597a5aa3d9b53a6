//! A relay between a client that is the test and a provider that is a script.

use std::cell::{Cell, Ref, RefCell};
use std::future::{poll_fn, ready};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use policy::budget;
use policy::directory::{Directory, Holder, KeyRecord, Kind, Origin};
use policy::key::Pepper;
use policy::{Environment, Snapshot};
use providers::Profile;
use relay::{
    Bound, Caller, Comparison, Failure, Feedback, Flights, Gate, Lasting, Latch, Noting, Record,
    Recorder, Relay, ReplyBody, RequestId, Task, Tasks, Unnoted, Unrecorded, Waiter,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::scripted::{Reply, ScriptBody, Scripted};

/// The key of the provider `lab`.
pub(crate) const KEY: &str = "sk-lab-0123456789";

/// One provider, one public name for one of its models.
pub(crate) const LAB: &str = "
providers:
  lab:
    profile: openai-compatible
    base_url: http://lab.test/api/v1
    api_key: sk-lab-0123456789
    models: [small, large]
models:
  chat: lab/up-model
";

/// The smallest chat request, and the same for a stream.
pub(crate) const ASK: &str = r#"{"model":"chat","messages":[{"role":"user","content":"hi"}]}"#;
pub(crate) const ASK_STREAM: &str =
    r#"{"model":"chat","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// A snapshot from the text of a file.
pub(crate) fn snapshot(yaml: &str) -> Arc<Snapshot> {
    let environment = Environment::new();
    let config = match policy::load(yaml, &environment) {
        Ok(config) => config,
        Err(problems) => panic!("{problems:?}"),
    };
    static PROFILES: OnceLock<Vec<(String, Profile)>> = OnceLock::new();
    let profiles = PROFILES.get_or_init(|| providers::builtin().unwrap());
    match policy::build(&config, profiles, &environment) {
        Ok(snapshot) => Arc::new(snapshot),
        Err(problems) => panic!("{problems:?}"),
    }
}

/// Where a recorder panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Open,
    Record,
}

/// Keeps every record, unless it is told to fail.
#[derive(Default)]
pub(crate) struct Log {
    records: RefCell<Vec<Record>>,
    /// Each attempt that was opened: its request, and its bound.
    pub(crate) opened: RefCell<Vec<(RequestId, Bound)>>,
    /// What was compared.
    pub(crate) compared: RefCell<Vec<Comparison>>,
    /// Nothing can be opened.
    pub(crate) full: Cell<bool>,
    /// It panics here, once.
    pub(crate) panics: Cell<Option<At>>,
    /// Feedback, each with the key it came with.
    pub(crate) feedback: RefCell<Vec<(Feedback, Option<String>)>>,
    /// Why no feedback is taken, if none is.
    pub(crate) refuses: Cell<Option<Unnoted>>,
    /// Records last when this is set.
    pub(crate) disk: RefCell<Option<Rc<Latch>>>,
}

impl Log {
    fn panic(&self, at: At) {
        if self.panics.get() == Some(at) {
            self.panics.set(None);
            panic!("as the test wants it");
        }
    }
}

impl Recorder for Log {
    fn open(&self, record: &Record, bound: &Bound) -> Result<(), Unrecorded> {
        self.panic(At::Open);
        if self.full.get() {
            return Err(Unrecorded);
        }
        self.opened.borrow_mut().push((record.id, *bound));
        Ok(())
    }

    fn record(&self, record: Box<Record>) {
        self.panic(At::Record);
        self.records.borrow_mut().push(*record);
    }

    fn compared(&self, comparison: Box<Comparison>) {
        self.compared.borrow_mut().push(*comparison);
    }

    fn feedback(&self, feedback: Feedback, caller: &Caller) -> Noting {
        if let Some(why) = self.refuses.get() {
            return Box::pin(ready(Err(why)));
        }
        let key = caller.chain().id(Kind::Key).map(ToString::to_string);
        self.feedback.borrow_mut().push((feedback, key));
        Box::pin(ready(Ok(())))
    }

    fn lasting(&self) -> Option<Lasting> {
        let mut waiter = Waiter::new(self.disk.borrow().clone()?);
        Some(Box::pin(poll_fn(move |cx| waiter.poll(cx))))
    }
}

thread_local! {
    /// Whether there is something that runs tasks at once: see [`local`].
    static SPAWNS: Cell<bool> = const { Cell::new(false) };
}

/// Keeps tasks until the test has them run, unless they can be run at once.
#[derive(Default)]
struct Later(RefCell<Vec<Task>>);

impl Tasks for Later {
    fn spawn(&self, task: Task) {
        match SPAWNS.get() {
            true => drop(tokio::task::spawn_local(task)),
            false => self.0.borrow_mut().push(task),
        }
    }
}

/// The keys and groups of a snapshot's file.
fn directory(snapshot: &Snapshot, pepper: &Pepper) -> Directory {
    let directory = Directory::default();
    for (kind, name, config) in &snapshot.callers.groups {
        directory.put_group(*kind, name, config, Origin::File, 0).unwrap();
    }
    for config in &snapshot.callers.keys {
        let key = config.key.as_ref().unwrap().0.expose();
        let record = KeyRecord {
            id: config.name.clone(),
            name: config.name.clone(),
            digests: vec![(pepper.digest(key.as_bytes()), None)],
            user: config.user.clone(),
            team: config.team.clone(),
            org: config.org.clone(),
            terms: config.terms.clone(),
        };
        directory.put_key(&record, Origin::File, 0).unwrap();
    }
    directory
}

/// See the [module](self).
pub(crate) struct World {
    relay: Relay<Scripted>,
    later: Rc<Later>,
    pub(crate) upstream: Rc<Scripted>,
    pub(crate) log: Rc<Log>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) shed: Rc<Latch>,
    /// Where requests come from.
    pub(crate) address: Cell<Option<IpAddr>>,
}

impl World {
    /// A world with the configuration [`LAB`].
    pub(crate) fn lab(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::of(LAB, replies)
    }

    /// A world with another configuration.
    pub(crate) fn of(yaml: &str, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(&snapshot(yaml), replies)
    }

    /// A world with a snapshot that is there already.
    pub(crate) fn with(snapshot: &Arc<Snapshot>, replies: impl IntoIterator<Item = Reply>) -> Self {
        let pepper = Pepper::new([7; 32]);
        let directory = Arc::new(directory(snapshot, &pepper));
        let gate = Arc::new(Gate { epoch: Instant::now(), directory, pepper, tokens: None });
        Self::made(snapshot, gate, Arc::default(), replies)
    }

    /// Another worker of the same process, with a network of its own.
    pub(crate) fn beside(&self, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::made(&self.snapshot, Arc::clone(&self.gate), Arc::clone(&self.flights), replies)
    }

    fn made(
        snapshot: &Arc<Snapshot>,
        gate: Arc<Gate>,
        flights: Arc<Flights>,
        replies: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let upstream = Rc::new(Scripted::new(replies));
        let log = Rc::new(Log::default());
        let recorder = Rc::clone(&log) as Rc<dyn Recorder>;
        let later = Rc::new(Later::default());
        let tasks = Rc::clone(&later) as Rc<dyn Tasks>;
        let (network, shared) = (Rc::clone(&upstream), Arc::clone(&flights));
        Self {
            relay: Relay::new(network, recorder, Arc::clone(&gate), shared, tasks),
            later,
            flights,
            upstream,
            log,
            gate,
            snapshot: Arc::clone(snapshot),
            shed: Rc::default(),
            address: Cell::default(),
        }
    }

    /// One who holds limits and budgets.
    pub(crate) fn holder(&self, kind: Kind, id: &str) -> Arc<Holder> {
        let is_it = |holder: &&Arc<Holder>| holder.kind == kind && &*holder.id == id;
        let of_model = || self.snapshot.holders().iter().find(is_it).cloned();
        self.gate.directory.holder(kind, id).or_else(of_model).unwrap()
    }

    /// How the one budget of a holder stands.
    pub(crate) fn budget(&self, kind: Kind, id: &str) -> budget::Standing {
        let terms = self.holder(kind, id).terms();
        assert_eq!(terms.accounts.len(), 1);
        terms.accounts[0].standing(now_ms())
    }

    /// What is left of a limit of a holder, by its name.
    pub(crate) fn left(&self, kind: Kind, id: &str, limit: &str) -> u64 {
        let terms = self.holder(kind, id).terms();
        let named = terms.counters.iter().find(|counter| counter.limit().name() == limit);
        let now_ns = u64::try_from(self.gate.epoch.elapsed().as_nanos()).unwrap();
        named.unwrap().standing(now_ns).remaining
    }

    /// Takes out the records so far.
    pub(crate) fn take_records(&self) -> Vec<Record> {
        self.log.records.take()
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn ask(&self, request: Request<ScriptBody>) -> Answer {
        self.ask_as(RequestId::new(), request).await
    }

    /// The same for a request with this id, from which all follows that is drawn for it.
    pub(crate) async fn ask_as(&self, id: RequestId, request: Request<ScriptBody>) -> Answer {
        let (parts, body) = request.into_parts();
        let start = Instant::now();
        let request = relay::Request {
            id,
            parts,
            body,
            snapshot: Arc::clone(&self.snapshot),
            start,
            address: self.address.get(),
            shed: Rc::clone(&self.shed),
        };
        let (parts, body) = Box::pin(self.relay.serve(request)).await.into_parts();
        Answer { status: parts.status, headers: parts.headers, body, start }
    }

    /// Takes what was to run beside the requests so far.
    pub(crate) fn take_tasks(&self) -> Vec<Task> {
        self.later.0.take()
    }

    /// Sends a chat request and reads the whole answer.
    pub(crate) async fn chat(&self, body: impl Into<Bytes>) -> (StatusCode, String) {
        self.ask(chat(body)).await.read().await
    }

    /// The one record there has to be.
    pub(crate) fn record(&self) -> Ref<'_, Record> {
        let records = self.log.records.borrow();
        assert_eq!(records.len(), 1, "exactly one record");
        Ref::map(records, |records| &records[0])
    }

    /// How many records there are.
    pub(crate) fn records(&self) -> usize {
        self.log.records.borrow().len()
    }

    /// Asserts that a request was refused before any provider saw it, and recorded so.
    pub(crate) fn assert_refused(&self, code: &str) {
        assert_eq!(self.upstream.calls().len(), 0, "no provider was asked");
        let record = self.record();
        assert_eq!(record.outcome, relay::Outcome::Refused);
        assert_eq!(record.fault, Some(code));
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A response, its body unread.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ReplyBody<ScriptBody>,
    start: Instant,
}

impl Answer {
    /// The next piece of the body.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap()))
    }

    /// Every piece with the time it came at, since the request.
    pub(crate) async fn frames(mut self) -> Vec<(Duration, Bytes)> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push((self.start.elapsed(), frame.unwrap()));
        }
        frames
    }

    /// The whole body.
    pub(crate) async fn bytes(self) -> Vec<u8> {
        let frames = self.frames().await;
        frames.into_iter().flat_map(|(_, data)| data).collect()
    }

    /// The body as text up to its end or failure, and the failure.
    pub(crate) async fn until_failure(mut self) -> (String, Option<Failure>) {
        let mut seen = Vec::new();
        while let Some(frame) = self.next().await {
            match frame {
                Ok(data) => seen.extend_from_slice(&data),
                Err(failure) => return (String::from_utf8(seen).unwrap(), Some(failure)),
            }
        }
        (String::from_utf8(seen).unwrap(), None)
    }

    /// Status and body.
    pub(crate) async fn read(self) -> (StatusCode, String) {
        let status = self.status;
        let bytes = self.bytes().await;
        (status, String::from_utf8(bytes).unwrap())
    }

    /// Status and `error` object of an error response.
    pub(crate) async fn error(self) -> (u16, Value) {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let (status, body) = self.read().await;
        (status.as_u16(), error_in(&body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The `error` object of a body in the OpenAI dialect.
pub(crate) fn error_in(body: &str) -> Value {
    let value: Value = serde_json::from_str(body).unwrap();
    assert!(value["error"]["message"].is_string(), "{body}");
    assert!(value["error"]["type"].is_string(), "{body}");
    assert!(value["error"].get("param").is_some(), "{body}");
    assert!(value["error"].get("code").is_some(), "{body}");
    value["error"].clone()
}

/// The `error` object of the last event of a stream that did not end well.
pub(crate) fn last_error(stream: &str) -> Value {
    assert!(!stream.contains("[DONE]"), "no normal end: {stream}");
    assert!(stream.ends_with("\n\n"), "a whole event: {stream:?}");
    let event = stream.trim_end().rsplit("\n\n").next().unwrap();
    error_in(event.strip_prefix("data: ").unwrap())
}

/// A request with a body in memory.
pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<ScriptBody> {
    let body = body.into();
    let empty = Reply::status(200).sized();
    let script = if body.is_empty() { empty } else { empty.data(body) };
    let mut request = upload(path, &script);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert("content-type", json);
    request
}

/// A POST whose body follows a script, without a content type.
pub(crate) fn upload(path: &str, script: &Reply) -> Request<ScriptBody> {
    let mut request = Request::new(ScriptBody::of_client(script));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().unwrap();
    request
}

/// A request without a body.
pub(crate) fn bodiless(method: Method, path: &str) -> Request<ScriptBody> {
    let mut request = upload(path, &Reply::status(200).sized());
    *request.method_mut() = method;
    request
}

pub(crate) fn get(path: &str) -> Request<ScriptBody> {
    bodiless(Method::GET, path)
}

pub(crate) fn chat(body: impl Into<Bytes>) -> Request<ScriptBody> {
    post("/v1/chat/completions", body)
}

/// The request with one more header.
pub(crate) fn with_header(
    mut request: Request<ScriptBody>,
    name: &'static str,
    value: &str,
) -> Request<ScriptBody> {
    let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
    request.headers_mut().append(HeaderName::from_static(name), value);
    request
}

/// The request with a key.
pub(crate) fn keyed(request: Request<ScriptBody>, key: &str) -> Request<ScriptBody> {
    with_header(request, "authorization", &format!("Bearer {key}"))
}

/// An event with some text of an answer.
pub(crate) fn chunk(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\
         \"delta\":{{\"content\":{text}}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// The event that says why the answer ends.
pub(crate) const FINISH: &str = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\
    \"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
/// The extra event with token counts.
pub(crate) const USAGE: &str = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\
    \"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\n";
pub(crate) const DONE: &str = "data: [DONE]\n\n";

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Runs a test whose shared answers are led by tasks of their own.
pub(crate) async fn local<F: Future>(test: F) -> F::Output {
    SPAWNS.set(true);
    tokio::task::LocalSet::new().run_until(test).await
}

/// Runs futures at once, to their ends.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut ended = Vec::new();
    poll_fn(|cx| {
        running.retain_mut(|future| match future.as_mut().poll(cx) {
            Poll::Ready(value) => {
                ended.push(value);
                false
            }
            Poll::Pending => true,
        });
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ended
}
