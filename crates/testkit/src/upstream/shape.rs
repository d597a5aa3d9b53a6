//! The shapes of replies that carry text: chat completions, completions and responses, each
//! whole or as the events of a stream.

use serde_json::{Value, json};

use super::ask::{Ask, Endpoint};
use super::render::{CREATED, usage};
use super::responses;

/// One event of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The `event:` line, if any.
    pub(crate) name: Option<&'static str>,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn data(value: &Value) -> Self {
        Self { name: None, data: value.to_string() }
    }

    pub(crate) fn done() -> Self {
        Self { name: None, data: "[DONE]".to_owned() }
    }
}

/// One call of a tool.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// What a reply says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) reasoning: Vec<String>,
    pub(crate) pieces: Vec<String>,
    pub(crate) calls: Vec<Call>,
    /// Every event of the stream tells the usage so far.
    pub(crate) usage_every: bool,
}

impl Answer {
    pub(crate) fn of(pieces: Vec<String>) -> Self {
        Self { pieces, ..Self::default() }
    }

    pub(crate) fn text(&self) -> String {
        self.pieces.concat()
    }

    pub(crate) fn usage(&self, n: usize) -> Value {
        let each = self.pieces.len() + self.reasoning.len() + self.calls.len() * 5;
        usage(each * n, self.reasoning.len() * n)
    }

    pub(crate) fn finish_reason(&self) -> &'static str {
        if self.calls.is_empty() { "stop" } else { "tool_calls" }
    }
}

/// The events of a stream, by their place in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sections {
    pub(crate) opening: Vec<Event>,
    /// One entry for each content delta; several events when several choices are asked for.
    pub(crate) content: Vec<Vec<Event>>,
    pub(crate) finish: Vec<Event>,
    pub(crate) usage: Vec<Event>,
    pub(crate) done: Vec<Event>,
}

/// The whole reply.
pub(crate) fn whole(ask: &Ask, answer: &Answer) -> Value {
    match ask.endpoint {
        Endpoint::Responses => responses::whole(ask, answer),
        Endpoint::Completions => {
            let choice = |index: usize| {
                json!({"text": answer.text(), "index": index, "logprobs": null,
                    "finish_reason": answer.finish_reason()})
            };
            whole_choices(ask, answer, "cmpl-scripted", "text_completion", &choice)
        }
        _ => {
            let message = chat_message(answer);
            let choice = |index: usize| {
                json!({"index": index, "message": message, "logprobs": null,
                    "finish_reason": answer.finish_reason()})
            };
            whole_choices(ask, answer, "chatcmpl-scripted", "chat.completion", &choice)
        }
    }
}

fn whole_choices(
    ask: &Ask,
    answer: &Answer,
    id: &str,
    object: &str,
    choice: &dyn Fn(usize) -> Value,
) -> Value {
    let choices: Vec<Value> = (0..ask.n).map(choice).collect();
    json!({
        "id": id,
        "object": object,
        "created": CREATED,
        "model": ask.model,
        "choices": choices,
        "usage": answer.usage(ask.n),
        "system_fingerprint": "fp_scripted",
    })
}

fn chat_message(answer: &Answer) -> Value {
    let mut message = json!({"role": "assistant", "content": answer.text(), "refusal": null});
    if !answer.reasoning.is_empty() {
        message["reasoning_content"] = json!(answer.reasoning.concat());
    }
    if !answer.calls.is_empty() {
        if answer.pieces.is_empty() {
            message["content"] = Value::Null;
        }
        let call = |call: &Call| {
            json!({"id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": call.arguments}})
        };
        message["tool_calls"] = answer.calls.iter().map(call).collect();
    }
    message
}

/// The reply as the events of a stream.
pub(crate) fn sections(ask: &Ask, answer: &Answer) -> Sections {
    match ask.endpoint {
        Endpoint::Responses => responses::sections(ask, answer),
        Endpoint::Completions => Chunks { ask, answer, chat: false }.sections(),
        _ => Chunks { ask, answer, chat: true }.sections(),
    }
}

/// Renders the chunks of chat completions and of completions.
struct Chunks<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    chat: bool,
}

impl Chunks<'_> {
    /// One chunk; `sent` counts the deltas up to it.
    fn chunk(&self, choices: &[Value], usage: Option<Value>) -> Event {
        let (id, object) = if self.chat {
            ("chatcmpl-scripted", "chat.completion.chunk")
        } else {
            ("cmpl-scripted", "text_completion")
        };
        let mut chunk = json!({
            "id": id,
            "object": object,
            "created": CREATED,
            "model": self.ask.model,
            "system_fingerprint": "fp_scripted",
            "choices": choices,
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        } else if self.ask.include_usage {
            chunk["usage"] = Value::Null;
        }
        Event::data(&chunk)
    }

    /// One event for each choice.
    fn each(&self, delta: &Value, finish: &Value, sent: usize) -> Vec<Event> {
        let usage = self.answer.usage_every.then(|| usage(sent * self.ask.n, 0));
        let event = |index: usize| {
            let choice = if self.chat {
                json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish})
            } else {
                json!({"text": delta, "index": index, "logprobs": null, "finish_reason": finish})
            };
            self.chunk(&[choice], usage.clone())
        };
        (0..self.ask.n).map(event).collect()
    }

    fn sections(&self) -> Sections {
        let mut deltas = Vec::new();
        if self.chat {
            let said = |name: &str, text: &String| json!({name: text});
            deltas.extend(self.answer.reasoning.iter().map(|t| said("reasoning_content", t)));
            deltas.extend(self.answer.pieces.iter().map(|t| said("content", t)));
            for (index, call) in self.answer.calls.iter().enumerate() {
                deltas.extend(call_deltas(index, call));
            }
        } else {
            deltas.extend(self.answer.pieces.iter().map(|text| json!(text)));
        }
        let count = deltas.len();
        let content = deltas.iter().enumerate();
        let content = content.map(|(i, delta)| self.each(delta, &Value::Null, i + 1)).collect();
        let role = json!({"role": "assistant", "content": "", "refusal": null});
        let last = if self.chat { json!({}) } else { json!("") };
        let total = self.answer.usage(self.ask.n);
        let usage = self.ask.include_usage.then(|| self.chunk(&[], Some(total)));
        Sections {
            opening: if self.chat { self.each(&role, &Value::Null, 0) } else { Vec::new() },
            content,
            finish: self.each(&last, &json!(self.answer.finish_reason()), count),
            usage: usage.into_iter().collect(),
            done: vec![Event::done()],
        }
    }
}

/// The deltas of one call. Only the first names the call; later ones carry an empty id and name
/// or leave them out, both of which real providers do.
fn call_deltas(index: usize, call: &Call) -> Vec<Value> {
    let first = json!({"tool_calls": [{"index": index, "id": call.id, "type": "function",
        "function": {"name": call.name, "arguments": ""}}]});
    let mut deltas = vec![first];
    for (i, part) in super::render::cut(&call.arguments, 7).into_iter().enumerate() {
        let entry = if i % 2 == 0 {
            json!({"index": index, "id": "", "type": "function",
                "function": {"name": "", "arguments": part}})
        } else {
            json!({"index": index, "function": {"arguments": part}})
        };
        deltas.push(json!({"tool_calls": [entry]}));
    }
    deltas
}
