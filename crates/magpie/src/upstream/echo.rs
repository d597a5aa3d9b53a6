//! The built-in echo: a model that repeats the last user message, without network or key.
//!
//! It makes the first request answer before any provider is set up, and shows a client's streaming
//! without cost. It is asked like any other provider, through the same splice and the same tap.

use std::collections::VecDeque;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use relay::{Call, Failure, Outgoing};
use serde_json::{Value, json};
use wire::dialects::openai_chat::ErrorBody;

/// Dimensions of an embedding.
const DIMENSIONS: usize = 64;
/// Inputs of one embedding request.
const MAX_INPUTS: usize = 2048;

/// What the echo answers.
pub(super) fn answer(call: &Call) -> Response<EchoBody> {
    let body = match &call.body {
        Outgoing::Whole(body) => body.clone(),
        Outgoing::Stream(_) => Bytes::new(),
    };
    let ask: Value = serde_json::from_slice(&body).unwrap_or_default();
    match call.target.path() {
        "/chat/completions" => spoken(&ask, Form::Chat, &last_user_text(&ask)),
        "/completions" => spoken(&ask, Form::Completion, &first_text(&ask["prompt"])),
        "/embeddings" => embedded(&ask),
        path => refused(path),
    }
}

#[derive(Clone, Copy)]
enum Form {
    Chat,
    Completion,
}

impl Form {
    fn object(self, stream: bool) -> &'static str {
        match (self, stream) {
            (Self::Chat, true) => "chat.completion.chunk",
            (Self::Chat, false) => "chat.completion",
            (Self::Completion, _) => "text_completion",
        }
    }

    /// One choice: the whole text, or a part of a stream.
    fn choice(self, text: Option<&str>, stream: bool, finish: Option<&str>) -> Value {
        match (self, stream) {
            (Self::Chat, true) => {
                let delta = text.map_or_else(|| json!({}), |text| json!({ "content": text }));
                json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish })
            }
            (Self::Chat, false) => json!({
                "index": 0,
                "message": { "role": "assistant", "content": text, "refusal": null },
                "logprobs": null,
                "finish_reason": finish,
            }),
            (Self::Completion, _) => json!({
                "index": 0,
                "text": text.unwrap_or_default(),
                "logprobs": null,
                "finish_reason": finish,
            }),
        }
    }
}

/// The text of the last message a user sent.
fn last_user_text(ask: &Value) -> String {
    let messages = ask["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_user = messages.iter().rev().find(|message| message["role"] == "user");
    of_user.or(messages.last()).map(|message| first_text(&message["content"])).unwrap_or_default()
}

/// The text of a content: itself, or its parts that are text.
fn first_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let text = |part: &Value| part.as_str().or(part["text"].as_str()).map(String::from);
            parts.iter().filter_map(text).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// A rough count, marked by nobody as more: about four bytes to a token.
fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

fn spoken(ask: &Value, form: Form, text: &str) -> Response<EchoBody> {
    let stream = ask["stream"] == true;
    let read = tokens(&ask["messages"].to_string()).max(tokens(&first_text(&ask["prompt"])));
    let usage = json!({
        "prompt_tokens": read,
        "completion_tokens": tokens(text),
        "total_tokens": read + tokens(text),
    });
    let reply = |choices: Value| {
        json!({
            "id": "chatcmpl-echo",
            "object": form.object(stream),
            "created": 1_750_000_000,
            "model": "echo",
            "choices": choices,
        })
    };
    if !stream {
        let mut whole = reply(json!([form.choice(Some(text), false, Some("stop"))]));
        whole["usage"] = usage;
        return json_response(StatusCode::OK, whole.to_string());
    }
    let mut events = VecDeque::new();
    let mut push = |data: &str| events.push_back(Bytes::from(format!("data: {data}\n\n")));
    if matches!(form, Form::Chat) {
        let mut first = reply(json!([form.choice(Some(""), true, None)]));
        first["choices"][0]["delta"]["role"] = json!("assistant");
        push(&first.to_string());
    }
    for part in text.split_inclusive(char::is_whitespace) {
        push(&reply(json!([form.choice(Some(part), true, None)])).to_string());
    }
    push(&reply(json!([form.choice(None, true, Some("stop"))])).to_string());
    if ask["stream_options"]["include_usage"] == true {
        let mut counts = reply(json!([]));
        counts["usage"] = usage;
        push(&counts.to_string());
    }
    push("[DONE]");
    response(StatusCode::OK, "text/event-stream", events)
}

/// Vectors that are equal for equal texts, and mean nothing else.
fn embedded(ask: &Value) -> Response<EchoBody> {
    let inputs: Vec<String> = match &ask["input"] {
        Value::Array(inputs) if inputs.iter().any(|input| !input.is_number()) => {
            inputs.iter().take(MAX_INPUTS).map(Value::to_string).collect()
        }
        input => vec![input.to_string()],
    };
    let as_base64 = ask["encoding_format"] == "base64";
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector(input);
            let vector = match as_base64 {
                true => json!(base64(&vector)),
                false => json!(vector),
            };
            json!({ "object": "embedding", "index": index, "embedding": vector })
        })
        .collect();
    let read: usize = inputs.iter().map(|input| tokens(input)).sum();
    let usage = json!({ "prompt_tokens": read, "total_tokens": read });
    let whole = json!({ "object": "list", "data": data, "model": "echo", "usage": usage });
    json_response(StatusCode::OK, whole.to_string())
}

/// A unit vector from a text's hash (FNV-1a).
fn vector(text: &str) -> Vec<f32> {
    let hash = |seed: u64| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let raw = (1..=DIMENSIONS as u64).map(|seed| {
        let top = u16::try_from(hash(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 48);
        f32::from(top.unwrap_or_default()) / 32768.0 - 1.0
    });
    let raw: Vec<f32> = raw.collect();
    let length = raw.iter().map(|part| part * part).sum::<f32>().sqrt().max(f32::EPSILON);
    raw.iter().map(|part| part / length).collect()
}

/// Little-endian floats in base64, as OpenAI's SDKs ask for by default (RFC 4648, section 4).
fn base64(vector: &[f32]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|part| part.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let padded = [group[0], *group.get(1).unwrap_or(&0), *group.get(2).unwrap_or(&0)];
        let word = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for digit in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

fn refused(path: &str) -> Response<EchoBody> {
    let error = ErrorBody {
        message: &format!("The built-in echo knows chat, completions and embeddings, not {path}."),
        kind: "invalid_request_error",
        param: None,
        code: Some("unsupported_operation"),
        upstream: None,
    };
    json_response(StatusCode::NOT_FOUND, error.to_json())
}

fn json_response(status: StatusCode, body: String) -> Response<EchoBody> {
    response(status, "application/json", VecDeque::from([Bytes::from(body)]))
}

fn response(status: StatusCode, kind: &'static str, parts: VecDeque<Bytes>) -> Response<EchoBody> {
    let mut response = Response::new(EchoBody(parts));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The body of an echo: what is left to say.
pub(crate) struct EchoBody(VecDeque<Bytes>);

impl EchoBody {
    /// The next part; there is never anything to wait for.
    pub(super) fn poll_frame(&mut self) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    /// Whether everything was said.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}
