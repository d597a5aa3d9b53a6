//! The endpoints other than chat completions, completions and responses.

use serde_json::{Value, json};

use super::ask::Ask;
use super::render::{CREATED, PROMPT_TOKENS, digest_text, openai_error};
use super::reply::Reply;
use super::responses::{RESPONSE_ID, response};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The base64 coding with padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let at = |i: usize| u32::from(part.get(i).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = (bits >> (18 - 6 * i)) & 63;
            let used = i <= part.len();
            text.push(if used { char::from(DIGITS[digit as usize]) } else { '=' });
        }
    }
    text
}

/// One vector for each input.
pub(crate) fn embeddings(ask: &Ask) -> Reply {
    let count = match &ask.body["input"] {
        // A list of numbers is one input given as tokens.
        Value::Array(list) if list.first().is_some_and(Value::is_number) => 1,
        Value::Array(list) => list.len(),
        _ => 1,
    };
    let size = ask.body["dimensions"].as_u64().unwrap_or(8).clamp(1, 4096);
    let packed = ask.body["encoding_format"] == "base64";
    let vector = |index: usize| {
        let values = (0..size).map(|i| ((index as u64 * 31 + i) % 64) as f32 / 64.0);
        if packed {
            json!(base64(&values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()))
        } else {
            json!(values.collect::<Vec<f32>>())
        }
    };
    let data: Vec<Value> = (0..count)
        .map(|i| json!({"object": "embedding", "index": i, "embedding": vector(i)}))
        .collect();
    let tokens = PROMPT_TOKENS * count as u64;
    let body = json!({
        "object": "list",
        "data": data,
        "model": ask.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Reply::json(200, &body)
}

/// The reply of an endpoint that the scripts do not shape.
pub(crate) fn reply(ask: &Ask) -> Reply {
    let path = ask.path.trim_end_matches('/');
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let body = match (ask.method.as_str(), parts.as_slice()) {
        ("GET", ["models"]) => models(),
        ("GET", ["models", name @ ..]) => model(&name.join("/")),
        ("POST", ["moderations"]) => moderation(ask),
        ("POST", ["rerank" | "reranks"]) => rerank(ask),
        ("POST", ["images", _]) => images(ask),
        ("POST", ["audio", "speech"]) => {
            return Reply::new(200, "audio/mpeg", b"\xff\xfbscripted".repeat(400));
        }
        ("POST", ["audio", _]) => json!({
            "text": format!("received {} bytes", ask.raw.len()),
            "bytes": ask.raw.len(),
            "digest": digest_text(&ask.raw),
        }),
        (_, ["files", ..]) => return files(ask, &parts[1..]),
        (_, ["responses", ..]) => stored_response(ask, &parts[1..]),
        _ => {
            let mut error = openai_error(404);
            error["error"]["message"] = json!(format!("no endpoint {} {}", ask.method, ask.path));
            error["error"]["code"] = json!("unknown_url");
            return Reply::json(404, &error);
        }
    };
    Reply::json(200, &body)
}

fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "scripted"})
}

fn models() -> Value {
    let names = ["ok", "gpt-4o", "gpt-4o-mini", "text-embedding-3-small"];
    json!({"object": "list", "data": names.map(model)})
}

fn moderation(ask: &Ask) -> Value {
    let count = ask.body["input"].as_array().map_or(1, Vec::len);
    let result = json!({
        "flagged": false,
        "categories": {"violence": false, "hate": false},
        "category_scores": {"violence": 0.01, "hate": 0.01},
    });
    json!({"id": "modr-scripted", "model": ask.model, "results": vec![result; count]})
}

/// The documents in their order, with falling scores; `top_n` is honoured.
fn rerank(ask: &Ask) -> Value {
    let documents = ask.body["documents"].as_array().cloned().unwrap_or_default();
    let count =
        ask.body["top_n"].as_u64().map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let result = |(index, document): (usize, &Value)| {
        let score = 1.0 / (index as f64 + 1.0);
        json!({"index": index, "relevance_score": score, "document": {"text": document}})
    };
    let results: Vec<Value> = documents.iter().enumerate().take(count).map(result).collect();
    json!({
        "id": "rerank-scripted",
        "model": ask.model,
        "results": results,
        "usage": {"total_tokens": PROMPT_TOKENS},
    })
}

fn images(ask: &Ask) -> Value {
    let image = if ask.body["response_format"] == "b64_json" {
        json!({"b64_json": base64(b"\x89PNG scripted")})
    } else {
        json!({"url": "https://images.invalid/scripted.png"})
    };
    json!({"created": CREATED, "data": vec![image; ask.n]})
}

fn file(id: &str, bytes: usize) -> Value {
    json!({
        "id": id,
        "object": "file",
        "bytes": bytes,
        "created_at": CREATED,
        "filename": "scripted.jsonl",
        "purpose": "batch",
        "status": "processed",
    })
}

fn files(ask: &Ask, rest: &[&str]) -> Reply {
    let body = match (ask.method.as_str(), rest) {
        ("GET", []) => json!({"object": "list", "has_more": false,
            "data": [file("file-1", 140), file("file-2", 280)]}),
        ("POST", []) => {
            let mut body = file("file-scripted", ask.raw.len());
            body["digest"] = json!(digest_text(&ask.raw));
            body
        }
        ("GET", [_, "content"]) => {
            return Reply::new(200, "application/octet-stream", "{\"scripted\":true}\n");
        }
        ("DELETE", [id]) => json!({"id": id, "object": "file", "deleted": true}),
        (_, [id, ..]) => file(id, 140),
        _ => return Reply::json(405, &openai_error(405)),
    };
    Reply::json(200, &body)
}

fn stored_response(ask: &Ask, rest: &[&str]) -> Value {
    match (ask.method.as_str(), rest) {
        ("DELETE", [id]) => json!({"id": id, "object": "response", "deleted": true}),
        (_, [_, "input_items"]) => json!({"object": "list", "data": [], "has_more": false}),
        (_, [id, "cancel"]) => {
            let mut body = response("ok", "cancelled", &[], None);
            body["id"] = json!(id);
            body
        }
        (_, rest) => {
            let mut body = response("ok", "completed", &[], None);
            body["id"] = json!(rest.first().copied().unwrap_or(RESPONSE_ID));
            body
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"f"), "Zg==");
        assert_eq!(base64(b"fo"), "Zm8=");
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
    }
}
