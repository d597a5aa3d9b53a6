//! The texts and the small JSON bodies of which the replies are made.

use serde_json::{Value, json};

use super::script::Dialect;

/// The `created` of every reply.
pub const CREATED: u64 = 1_700_000_000;
/// The `prompt_tokens` of every reply.
pub const PROMPT_TOKENS: u64 = 11;
/// The `prompt_tokens_details.cached_tokens` of every reply.
pub const CACHED_TOKENS: u64 = 3;
/// The content deltas of a plain streamed reply.
pub const DEFAULT_PIECES: [&str; 8] =
    ["This ", "is ", "the ", "reply ", "of ", "a ", "scripted ", "upstream."];
/// The content of a plain reply that is not streamed: the deltas joined.
pub const DEFAULT_TEXT: &str = "This is the reply of a scripted upstream.";

/// The digits that are overwritten with the time of sending in the script `timed`.
pub(crate) const STAMP: &str = "0000000000000000000";
/// The mark before and behind the digits of the time of sending.
pub(crate) const STAMP_MARK: char = '@';

/// The 64-bit FNV-1a hash: start with 0xcbf29ce484222325; for each byte xor it in, then multiply
/// by 0x100000001b3, wrapping.
#[must_use]
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The content of a reply of the script `digest`: the hash in 16 lower-case hex digits, a space
/// and the number of bytes.
#[must_use]
pub fn digest_text(body: &[u8]) -> String {
    format!("{:016x} {}", fnv1a64(body), body.len())
}

/// `count` numbered content deltas, each padded to at least `bytes`; with `timed` each carries
/// the place for the time of sending.
pub(crate) fn pieces(count: usize, bytes: usize, timed: bool) -> Vec<String> {
    let piece = |i: usize| {
        let mut text =
            if timed { format!("{STAMP_MARK}{STAMP}{STAMP_MARK}") } else { format!("w{i}") };
        while text.len() + 1 < bytes {
            text.push('x');
        }
        text.push(' ');
        text
    };
    (1..=count).map(piece).collect()
}

/// Cuts a text into pieces of `size` characters.
pub(crate) fn cut(text: &str, size: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(size.max(1)).map(|part| part.iter().collect()).collect()
}

/// The pieces of the script `split`, whose characters take one to four bytes.
pub(crate) fn wide_pieces() -> Vec<String> {
    ["héllo ", "中文", "字符，", "🎉🦀", " 한국어 ", "👩‍👩‍👧", " \"quoted\" \\ \n", "end"]
        .map(str::to_owned)
        .to_vec()
}

/// The usage of a reply of so many completion tokens.
pub(crate) fn usage(completion: usize, reasoning: usize) -> Value {
    let completion = completion as u64;
    json!({
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": PROMPT_TOKENS + completion,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    })
}

/// The body of an OpenAI error with this status.
pub(crate) fn openai_error(status: u16) -> Value {
    let (kind, code) = match status {
        400 => ("invalid_request_error", "invalid_value"),
        401 => ("invalid_request_error", "invalid_api_key"),
        402 => ("insufficient_quota", "insufficient_quota"),
        403 => ("invalid_request_error", "unsupported_country_region_territory"),
        404 => ("invalid_request_error", "model_not_found"),
        413 => ("invalid_request_error", "request_too_large"),
        429 => ("requests", "rate_limit_exceeded"),
        _ => ("server_error", "server_error"),
    };
    let message = format!("scripted error {status}");
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// An error as this kind of provider reports it inside a reply of status 200.
pub(crate) fn hidden_error(dialect: Dialect) -> Value {
    match dialect {
        Dialect::OpenAi => json!({"error": {
            "message": "scripted failure",
            "type": "server_error",
            "param": null,
            "code": "server_error",
        }}),
        Dialect::Baidu => {
            json!({"error_code": 336_501, "error_msg": "rpm limit", "id": "as-scripted"})
        }
        Dialect::MiniMax => json!({
            "id": "scripted",
            "choices": null,
            "base_resp": {"status_code": 1002, "status_msg": "rate limit"},
        }),
    }
}

/// An HTML error page.
pub(crate) fn html(status: u16) -> String {
    let reason = reason(status);
    format!(
        "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n\
         <center><h1>{status} {reason}</h1></center>\r\n</body>\r\n</html>\r\n"
    )
}

/// The reason phrase of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Payload Too Large",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Overloaded",
        _ => "Scripted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(digest_text(b"foobar"), "85944171f73967e8 6");
    }

    #[test]
    fn the_default_text_is_its_pieces() {
        assert_eq!(DEFAULT_PIECES.concat(), DEFAULT_TEXT);
    }

    #[test]
    fn pieces_are_padded() {
        assert_eq!(pieces(2, 0, false), ["w1 ", "w2 "]);
        assert!(pieces(3, 64, true).iter().all(|piece| piece.len() == 64));
    }
}
