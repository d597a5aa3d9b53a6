//! The shape of the Responses API: one output item, whole or as typed events.

use serde_json::{Value, json};

use super::ask::Ask;
use super::render::{CACHED_TOKENS, CREATED, PROMPT_TOKENS, cut};
use super::shape::{Answer, Event, Sections};

/// The id of every response.
pub(crate) const RESPONSE_ID: &str = "resp_scripted";

/// The whole reply.
pub(crate) fn whole(ask: &Ask, answer: &Answer) -> Value {
    response(&ask.model, "completed", &output(answer), Some(answer))
}

/// A response object in this state.
pub(crate) fn response(
    model: &str,
    status: &str,
    output: &[Value],
    answer: Option<&Answer>,
) -> Value {
    let usage = answer.map(|answer| {
        let total = answer.usage(1);
        json!({
            "input_tokens": PROMPT_TOKENS,
            "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
            "output_tokens": total["completion_tokens"],
            "output_tokens_details": total["completion_tokens_details"],
            "total_tokens": total["total_tokens"],
        })
    });
    json!({
        "id": RESPONSE_ID,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": true,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    })
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": []})
}

fn message(status: &str, content: &[Value]) -> Value {
    json!({"id": "msg_scripted", "type": "message", "status": status, "role": "assistant",
        "content": content})
}

fn output(answer: &Answer) -> Vec<Value> {
    if answer.calls.is_empty() {
        return vec![message("completed", &[part(&answer.text())])];
    }
    let item = |index: usize| call_item(answer, index, "completed");
    (0..answer.calls.len()).map(item).collect()
}

fn call_item(answer: &Answer, index: usize, status: &str) -> Value {
    let call = &answer.calls[index];
    let arguments = if status == "completed" { call.arguments.as_str() } else { "" };
    json!({"id": format!("fc_scripted_{index}"), "type": "function_call", "status": status,
        "call_id": call.id, "name": call.name, "arguments": arguments})
}

/// Numbers the events of one stream.
struct Counter(u64);

impl Counter {
    fn event(&mut self, name: &'static str, fields: &Value) -> Event {
        let mut data = json!({"type": name, "sequence_number": self.0});
        self.0 += 1;
        for (key, value) in fields.as_object().into_iter().flatten() {
            data[key] = value.clone();
        }
        Event { name: Some(name), data: data.to_string() }
    }
}

/// The reply as typed events.
pub(crate) fn sections(ask: &Ask, answer: &Answer) -> Sections {
    let mut count = Counter(0);
    let started = json!({"response": response(&ask.model, "in_progress", &[], None)});
    let mut sections = Sections {
        opening: vec![
            count.event("response.created", &started),
            count.event("response.in_progress", &started),
        ],
        ..Sections::default()
    };
    if answer.calls.is_empty() {
        text_events(&mut count, answer, &mut sections);
    } else {
        for index in 0..answer.calls.len() {
            call_events(&mut count, answer, index, &mut sections);
        }
    }
    let done = json!({"response": whole(ask, answer)});
    sections.finish.push(count.event("response.completed", &done));
    sections
}

fn text_events(count: &mut Counter, answer: &Answer, sections: &mut Sections) {
    let item = json!({"output_index": 0, "item": message("in_progress", &[])});
    sections.opening.push(count.event("response.output_item.added", &item));
    let place = |more: Value| {
        let mut fields = json!({"item_id": "msg_scripted", "output_index": 0, "content_index": 0});
        for (key, value) in more.as_object().into_iter().flatten() {
            fields[key] = value.clone();
        }
        fields
    };
    let empty = place(json!({"part": part("")}));
    sections.opening.push(count.event("response.content_part.added", &empty));
    for piece in &answer.pieces {
        let fields = place(json!({"delta": piece, "logprobs": []}));
        sections.content.push(vec![count.event("response.output_text.delta", &fields)]);
    }
    let text = answer.text();
    let whole = place(json!({"text": text, "logprobs": []}));
    sections.finish.push(count.event("response.output_text.done", &whole));
    let whole = place(json!({"part": part(&text)}));
    sections.finish.push(count.event("response.content_part.done", &whole));
    let item = json!({"output_index": 0, "item": message("completed", &[part(&text)])});
    sections.finish.push(count.event("response.output_item.done", &item));
}

fn call_events(count: &mut Counter, answer: &Answer, index: usize, sections: &mut Sections) {
    let call = &answer.calls[index];
    let id = format!("fc_scripted_{index}");
    let item = json!({"output_index": index, "item": call_item(answer, index, "in_progress")});
    let mut events = vec![count.event("response.output_item.added", &item)];
    for part in cut(&call.arguments, 7) {
        let fields = json!({"item_id": id, "output_index": index, "delta": part});
        events.push(count.event("response.function_call_arguments.delta", &fields));
    }
    let fields = json!({"item_id": id, "output_index": index, "arguments": call.arguments});
    events.push(count.event("response.function_call_arguments.done", &fields));
    let item = json!({"output_index": index, "item": call_item(answer, index, "completed")});
    events.push(count.event("response.output_item.done", &item));
    sections.content.push(events);
}
