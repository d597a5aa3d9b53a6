//! The control endpoints: reading the record and setting the replies of a model.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Action, act};
use super::ask::{Ask, Endpoint};
use super::record::{Received, State};
use super::reply::Reply;
use super::script;
use super::shape::{Answer, Call, Event, sections, whole};
use super::stream::{Ending, Plan, Step};

/// The replies set for one model. The last one repeats.
#[derive(Debug)]
pub(crate) struct Scripted {
    replies: Vec<Value>,
    next: usize,
}

impl Scripted {
    pub(crate) fn new(replies: Vec<Value>) -> Self {
        Self { replies, next: 0 }
    }

    fn take(&mut self) -> Option<Value> {
        let reply = self.replies.get(self.next).or(self.replies.last()).cloned();
        self.next += 1;
        reply
    }
}

/// The reply of a control endpoint; `None` when the path is none.
pub(crate) fn control(state: &State, method: &str, path: &str, body: &Bytes) -> Option<Reply> {
    let done = || Reply::json(200, &json!({"ok": true}));
    let reply = match (method, path) {
        ("GET", "/__health") => done(),
        ("GET", "/__record") => {
            let list: Vec<Value> = state.received().iter().map(Received::to_json).collect();
            Reply::json(200, &json!(list))
        }
        ("DELETE", "/__record") => {
            state.clear();
            done()
        }
        ("GET", "/__stats") => {
            let load = |counter: &std::sync::atomic::AtomicU64| {
                counter.load(std::sync::atomic::Ordering::Relaxed)
            };
            Reply::json(
                200,
                &json!({
                    "connections": load(&state.connections),
                    "open": load(&state.open),
                    "bytes_written": load(&state.bytes_written),
                }),
            )
        }
        ("POST", "/__script") => match set(state, body) {
            Ok(()) => done(),
            Err(problem) => Reply::json(400, &json!({"error": {"message": problem}})),
        },
        ("DELETE", "/__script") => {
            state.scripts().clear();
            done()
        }
        _ => return None,
    };
    Some(reply)
}

fn set(state: &State, body: &[u8]) -> Result<(), String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let model = value["model"].as_str().ok_or("`model` is missing")?;
    let replies = value["replies"].as_array().ok_or("`replies` is missing")?;
    if replies.is_empty() {
        return Err("`replies` is empty".to_owned());
    }
    state.scripts().insert(model.to_owned(), Scripted::new(replies.clone()));
    Ok(())
}

/// What is done about a request: a reply set for its model, or the script in its name.
pub(crate) fn decide(state: &State, ask: &Ask) -> Action {
    let reply = state.scripts().get_mut(&ask.model).and_then(Scripted::take);
    match reply {
        Some(reply) => scripted(ask, &reply),
        None => act(ask, &script::parse(&ask.model)),
    }
}

fn scripted(ask: &Ask, reply: &Value) -> Action {
    let status = reply["status"].as_u64().and_then(|code| u16::try_from(code).ok());
    let headers: Vec<(String, String)> = reply["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), plain_text(value)))
        .collect();
    let mut action = if let Some(name) = reply["script"].as_str() {
        act(ask, &script::parse(name))
    } else if let Some(events) = reply["events"].as_array() {
        Action::Stream(events_plan(reply, events))
    } else if reply["message"].is_object() {
        message(ask, &reply["message"])
    } else {
        Action::Reply(match &reply["body"] {
            Value::String(text) => Reply::new(200, "text/plain; charset=utf-8", text.clone()),
            body => Reply::json(200, body),
        })
    };
    let (code, list) = match &mut action {
        Action::Reply(reply) => (&mut reply.status, &mut reply.headers),
        Action::Stream(plan) => (&mut plan.status, &mut plan.headers),
        Action::Later(..) | Action::Hang => return action,
    };
    *code = status.unwrap_or(*code);
    list.retain(|(name, _)| !headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
    list.extend(headers);
    match reply["wait_ms"].as_u64() {
        Some(wait) => Action::Later(Duration::from_millis(wait), Box::new(action)),
        None => action,
    }
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A stream of given events: JSON becomes `data:` lines, a string is written as it is and
/// followed by a blank line.
fn events_plan(reply: &Value, events: &[Value]) -> Plan {
    let delay = Duration::from_millis(reply["delay_ms"].as_u64().unwrap_or(0));
    let mut steps = Vec::new();
    for (i, event) in events.iter().enumerate() {
        if i > 0 && !delay.is_zero() {
            steps.push(Step::Pause(delay));
        }
        steps.push(match event {
            Value::String(text) => Step::Raw(format!("{text}\n\n").into_bytes()),
            value => Step::Event(Event::data(value)),
        });
    }
    let ending = match reply["ending"].as_str() {
        Some("cut") => Ending::Cut,
        Some("reset") => Ending::Reset,
        Some("stall") => Ending::Silence,
        _ => Ending::Complete,
    };
    if ending == Ending::Complete && reply["done"].as_bool().unwrap_or(true) {
        steps.push(Step::Event(Event::done()));
    }
    Plan::new(steps, ending)
}

/// A message, whole or as a stream, as the request wants it.
fn message(ask: &Ask, message: &Value) -> Action {
    let words = |key: &str| -> Vec<String> {
        let text = message[key].as_str().unwrap_or_default();
        text.split_inclusive(' ').map(str::to_owned).collect()
    };
    let calls = message["tool_calls"].as_array().into_iter().flatten().enumerate().map(call);
    let answer = Answer {
        reasoning: words("reasoning_content"),
        pieces: words("content"),
        calls: calls.collect(),
        usage_every: false,
    };
    if !ask.stream || matches!(ask.endpoint, Endpoint::Embeddings | Endpoint::Other) {
        return Action::Reply(Reply::json(200, &whole(ask, &answer)));
    }
    let parts = sections(ask, &answer);
    let content: Vec<Event> = parts.content.into_iter().flatten().collect();
    let events = [parts.opening, content, parts.finish, parts.usage, parts.done].concat();
    Action::Stream(Plan::new(events.into_iter().map(Step::Event).collect(), Ending::Complete))
}

/// A call as `{"name", "arguments"}` or in OpenAI's form; arguments may be an object.
fn call((index, value): (usize, &Value)) -> Call {
    let function = if value["function"].is_object() { &value["function"] } else { value };
    Call {
        id: value["id"].as_str().map_or_else(|| format!("call_{index}"), str::to_owned),
        name: function["name"].as_str().unwrap_or("tool").to_owned(),
        arguments: match &function["arguments"] {
            Value::Null => "{}".to_owned(),
            arguments => plain_text(arguments),
        },
    }
}
