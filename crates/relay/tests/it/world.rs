//! A relay between a client that is the test and a provider that is a script.

use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use policy::{Environment, Snapshot};
use providers::Profile;
use relay::{Failure, Latch, Record, Recorder, Relay, ReplyBody};
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

/// Keeps every record.
#[derive(Default)]
pub(crate) struct Log(RefCell<Vec<Record>>);

impl Recorder for Log {
    fn record(&self, record: Record) {
        self.0.borrow_mut().push(record);
    }
}

/// See the [module](self).
pub(crate) struct World {
    relay: Relay<Rc<Scripted>>,
    pub(crate) upstream: Rc<Scripted>,
    log: Rc<Log>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) shed: Rc<Latch>,
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
        let upstream = Rc::new(Scripted::new(replies));
        let log = Rc::new(Log::default());
        Self {
            relay: Relay::new(Rc::clone(&upstream), Rc::clone(&log) as Rc<dyn Recorder>),
            upstream,
            log,
            snapshot: Arc::clone(snapshot),
            shed: Rc::default(),
        }
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn ask(&self, request: Request<ScriptBody>) -> Answer {
        let (parts, body) = request.into_parts();
        let start = Instant::now();
        let request = relay::Request {
            parts,
            body,
            snapshot: Arc::clone(&self.snapshot),
            start,
            shed: Rc::clone(&self.shed),
        };
        let (parts, body) = Box::pin(self.relay.serve(request)).await.into_parts();
        Answer { status: parts.status, headers: parts.headers, body, start }
    }

    /// Sends a chat request and reads the whole answer.
    pub(crate) async fn chat(&self, body: impl Into<Bytes>) -> (StatusCode, String) {
        self.ask(chat(body)).await.read().await
    }

    /// The one record there has to be.
    pub(crate) fn record(&self) -> Ref<'_, Record> {
        let records = self.log.0.borrow();
        assert_eq!(records.len(), 1, "exactly one record");
        Ref::map(records, |records| &records[0])
    }

    /// How many records there are.
    pub(crate) fn records(&self) -> usize {
        self.log.0.borrow().len()
    }

    /// Asserts that a request was refused before any provider saw it, and recorded so.
    pub(crate) fn assert_refused(&self, code: &str) {
        assert_eq!(self.upstream.calls().len(), 0, "no provider was asked");
        let record = self.record();
        assert_eq!(record.outcome, relay::Outcome::Refused);
        assert_eq!(record.fault, Some(code));
    }
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
