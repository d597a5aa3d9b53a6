//! OpenAI Chat Completions, and the rest of the OpenAI REST API as far as a relay touches it.
//!
//! Source: OpenAI's OpenAPI document (`CreateChatCompletionRequest`, `ErrorResponse`), 2026-11.

use crate::splice::quoted;

/// The data of the event that ends a stream.
pub const DONE: &[u8] = b"[DONE]";

/// An error as an OpenAI SDK expects it.
#[derive(Debug, Clone, Copy)]
pub struct ErrorBody<'a> {
    /// For people.
    pub message: &'a str,
    /// The class, such as `invalid_request_error`.
    pub kind: &'a str,
    /// The field at fault.
    pub param: Option<&'a str>,
    /// For programs, such as `model_not_found`.
    pub code: Option<&'a str>,
    /// A provider's own error that is not in this dialect, as JSON text; it rides along in
    /// `error.upstream` so that nothing it said is lost.
    pub upstream: Option<&'a str>,
}

impl ErrorBody<'_> {
    /// The body of an error response.
    #[must_use]
    pub fn to_json(&self) -> String {
        let field = |text: Option<&str>| text.map_or_else(|| String::from("null"), quoted);
        let mut json = format!(
            r#"{{"error":{{"message":{},"type":{},"param":{},"code":{}"#,
            quoted(self.message),
            quoted(self.kind),
            field(self.param),
            field(self.code),
        );
        if let Some(upstream) = self.upstream {
            json.push_str(r#","upstream":"#);
            json.push_str(upstream);
        }
        json.push_str("}}");
        json
    }

    /// The event that ends a stream which did not end well. No `[DONE]` may follow it.
    #[must_use]
    pub fn to_event(&self) -> String {
        // JSON text holds line ends only between tokens, where a space says the same.
        format!("data: {}\n\n", self.to_json().replace(['\n', '\r'], " "))
    }
}
