//! A value that satisfies a JSON schema, as well as is easy.

use serde_json::{Map, Value, json};

const MAX_DEPTH: usize = 16;

/// A value for `schema`, with `$ref` looked up in the schema itself.
pub(crate) fn example(schema: &Value) -> Value {
    fill(schema, schema, 0)
}

fn fill(root: &Value, schema: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(target) = schema["$ref"].as_str() {
        let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or(Value::Null, |found| fill(root, found, depth + 1));
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[key].as_array().and_then(|options| options.first()) {
            return fill(root, first, depth + 1);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|k| *k != "null"),
        kind => kind.as_str(),
    };
    match kind {
        Some("string") => json!(string(schema)),
        Some("integer") => json!(integer(schema)),
        Some("number") => json!(number(schema)),
        Some("boolean") => json!(true),
        Some("array") => array(root, schema, depth),
        Some("null") => Value::Null,
        _ => object(root, schema, depth),
    }
}

fn object(root: &Value, schema: &Value, depth: usize) -> Value {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let filled: Map<String, Value> =
        properties.map(|(name, inner)| (name.clone(), fill(root, inner, depth + 1))).collect();
    Value::Object(filled)
}

fn array(root: &Value, schema: &Value, depth: usize) -> Value {
    let count = schema["minItems"].as_u64().unwrap_or(1).clamp(1, 16);
    (0..count).map(|_| fill(root, &schema["items"], depth + 1)).collect()
}

fn string(schema: &Value) -> String {
    let text = match schema["format"].as_str() {
        Some("date-time") => "2025-01-02T03:04:05Z",
        Some("date") => "2025-01-02",
        Some("time") => "03:04:05Z",
        Some("email") => "someone@example.com",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("uri") => "https://example.com/",
        _ => "text",
    };
    let mut text = text.to_owned();
    let least = schema["minLength"].as_u64().unwrap_or(0).min(4096);
    while (text.len() as u64) < least {
        text.push('x');
    }
    text
}

fn integer(schema: &Value) -> i64 {
    let over = schema["exclusiveMinimum"].as_i64().map(|least| least + 1);
    let least = schema["minimum"].as_i64().or(over);
    least.unwrap_or_else(|| schema["maximum"].as_i64().unwrap_or(7).min(7))
}

fn number(schema: &Value) -> f64 {
    let over = schema["exclusiveMinimum"].as_f64().map(|least| least + 0.5);
    let least = schema["minimum"].as_f64().or(over);
    least.unwrap_or_else(|| schema["maximum"].as_f64().unwrap_or(7.5).min(7.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_filled() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "age": {"type": "integer", "minimum": 18},
                "mood": {"enum": ["good", "bad"]},
                "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2},
                "maybe": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            },
            "$defs": {"tag": {"type": ["null", "string"]}},
        });
        let value = example(&schema);
        assert_eq!(value["name"], "text");
        assert_eq!(value["age"], 18);
        assert_eq!(value["mood"], "good");
        assert_eq!(value["tags"], json!(["text", "text"]));
        assert_eq!(value["maybe"], true);
    }
}
