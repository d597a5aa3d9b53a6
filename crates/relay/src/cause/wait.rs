//! When a provider wants to be asked again, in every dialect that is spoken: headers of seconds,
//! milliseconds, dates and durations, Google's `RetryInfo`, and the sentence of a message.
//!
//! All of it comes from outside and may be anything: what cannot be read says nothing, and what is
//! too long is cut to [`LONGEST_WAIT_MS`].

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use policy::health::LONGEST_WAIT_MS;
use serde_json::Value;
use wire::reply::ErrorText;

/// Characters of a value that is read as a time; the longest date has some 40.
const VALUE_READ: usize = 64;
/// Characters of a message that are searched.
const MESSAGE_READ: usize = 2_000;
/// Details of Google's that are looked at.
const MOST_DETAILS: usize = 16;
/// From here on a number is no count of seconds but the time itself: 2001 in seconds since 1970.
const UNIX_SECONDS: f64 = 1e9;
/// And from here on in milliseconds.
const UNIX_MS: f64 = 1e12;

/// How long the provider asks to be left alone, if it does; `unix_ms` is now. What says it most
/// precisely counts: a header for that very purpose, then limits that are used up, then the body.
pub(super) fn wait(
    headers: &HeaderMap,
    body: &Value,
    text: &ErrorText,
    unix_ms: u64,
) -> Option<Duration> {
    let ms = after_ms(headers)
        .or_else(|| after(headers, unix_ms))
        .or_else(|| reset(headers, unix_ms))
        .or_else(|| retry_info(body))
        .or_else(|| sentence(text.message.as_deref()?))?;
    Some(Duration::from_millis(ms.min(LONGEST_WAIT_MS)))
}

/// `retry-after-ms`, which OpenAI's SDKs prefer (openai-python 3.54, `_base_client`).
fn after_ms(headers: &HeaderMap) -> Option<u64> {
    whole(number(text(headers.get("retry-after-ms")?)?)?)
}

/// `retry-after`: seconds, whole or not, or a date (RFC 9110, 10.2.3).
fn after(headers: &HeaderMap, unix_ms: u64) -> Option<u64> {
    let text = text(headers.get("retry-after")?)?;
    let seconds = number(text).and_then(|seconds| whole(seconds * 1_000.0));
    seconds.or_else(|| duration(text)).or_else(|| date(text, unix_ms))
}

/// The longest time to a reset of those limits of which nothing remains. The names differ, but where
/// one says `remaining` another one says `reset`: `x-ratelimit-remaining-tokens` (OpenAI, Groq,
/// Cerebras), `anthropic-ratelimit-tokens-remaining`, `ratelimit-remaining` (the IETF's draft).
fn reset(headers: &HeaderMap, unix_ms: u64) -> Option<u64> {
    let used_up = headers.iter().filter(|(name, value)| {
        let name = name.as_str();
        let counts = name.contains("ratelimit-") && name.contains("remaining");
        counts && text(value).and_then(number).is_some_and(|left| left <= 0.0)
    });
    let resets = used_up.filter_map(|(name, _)| {
        let name = name.as_str().replacen("remaining", "reset", 1);
        moment(text(headers.get(name)?)?, unix_ms)
    });
    resets.max()
}

/// Google's `RetryInfo` among the details of an error (cloud.google.com/apis/design/errors,
/// 2026-11).
fn retry_info(body: &Value) -> Option<u64> {
    let details = body.pointer("/error/details").or_else(|| body.pointer("/0/error/details"))?;
    let mut details = details.as_array()?.iter().take(MOST_DETAILS);
    details.find_map(|detail| {
        let kind = detail.get("@type")?.as_str()?;
        let delay = kind.ends_with("RetryInfo").then(|| detail.get("retryDelay")?.as_str())?;
        duration(delay?)
    })
}

/// "Please try again in 6m0s." (OpenAI, Groq), "Please retry in 12.3s." (Gemini), "retry after 26
/// seconds" (Azure).
fn sentence(message: &str) -> Option<u64> {
    let message: String = message.chars().take(MESSAGE_READ).collect::<String>().to_lowercase();
    ["try again in ", "retry in ", "retry after "].iter().find_map(|lead| {
        let at = message.find(lead)? + lead.len();
        let mut words = message[at..].split_whitespace();
        let first = words.next()?.trim_end_matches(['.', ',', ';', '!', ')']);
        duration(first).or_else(|| {
            let unit = words.next()?;
            let ms = match unit {
                _ if unit.starts_with("millisecond") || unit.starts_with("ms") => 1.0,
                _ if unit.starts_with("sec") => 1_000.0,
                _ if unit.starts_with("min") => 60_000.0,
                _ => return None,
            };
            whole(number(first)? * ms)
        })
    })
}

/// A time to wait, or to wait until, in whatever form.
fn moment(text: &str, unix_ms: u64) -> Option<u64> {
    let Some(number) = number(text) else {
        return duration(text).or_else(|| date(text, unix_ms));
    };
    match number {
        UNIX_MS.. => Some(whole(number)?.saturating_sub(unix_ms)),
        UNIX_SECONDS.. => Some(whole(number * 1_000.0)?.saturating_sub(unix_ms)),
        _ => whole(number * 1_000.0),
    }
}

/// The time to a date of RFC 3339 or of HTTP; 0 if it is over.
fn date(text: &str, unix_ms: u64) -> Option<u64> {
    let at = text.parse::<Timestamp>().ok();
    let at = at.or_else(|| Some(rfc2822::parse(text).ok()?.timestamp()))?;
    let at_ms = u64::try_from(at.as_millisecond()).unwrap_or(0);
    Some(at_ms.saturating_sub(unix_ms))
}

/// A duration as Go writes it: `6m0s`, `1h2m3.5s`, `120ms`.
fn duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|one: char| !one.is_ascii_digit() && one != '.')?;
        let (figures, behind) = rest.split_at(digits);
        let end = behind.find(|one: char| one.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let ms = match unit {
            "h" => 3_600_000.0,
            "m" => 60_000.0,
            "s" => 1_000.0,
            "ms" => 1.0,
            "us" | "µs" | "μs" => 1e-3,
            "ns" => 1e-6,
            _ => return None,
        };
        total += number(figures)? * ms;
        rest = behind;
    }
    (!text.is_empty()).then(|| whole(total))?
}

/// A number that is one.
fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// Milliseconds in whole ones, rounded up: who comes a moment too early comes in vain. `None` for
/// what is before now.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and cut to what is believed, which is far below both bounds"
)]
fn whole(ms: f64) -> Option<u64> {
    // Times since 1970 pass through here too.
    const MOST: f64 = 1e15;
    (ms >= 0.0).then(|| ms.min(MOST).ceil() as u64)
}

fn text(value: &HeaderValue) -> Option<&str> {
    Some(value.to_str().ok()?.trim()).filter(|text| text.len() <= VALUE_READ)
}
