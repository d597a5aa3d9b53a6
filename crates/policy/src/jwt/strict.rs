//! JSON as a token may hold it: no member twice, at any depth.

use jsonwebtoken::dangerous::insecure_decode_claims;
use serde_json::{Map, Value};

use crate::json::Unique;

/// The JSON object in one part of a token; `None` unless the part is unpadded base64url of exactly
/// one object in which no member stands twice.
pub(super) fn object(part: &str) -> Option<Map<String, Value>> {
    // The library decodes whole tokens only: this makes the part the middle of one. Nothing is
    // verified here, which is why the function is called what it is called.
    match insecure_decode_claims(format!(".{part}.")) {
        Ok(Unique(Value::Object(members))) => Some(members),
        _ => None,
    }
}
