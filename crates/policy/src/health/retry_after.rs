//! When to come again, in every dialect in which providers say it.
//!
//! | where | what | who |
//! |---|---|---|
//! | `retry-after-ms` | milliseconds | Azure OpenAI, OpenAI |
//! | `retry-after` | seconds, also `1.5`, or an HTTP date | RFC 9110, everyone |
//! | `x-ratelimit-reset-requests`, `-tokens` | `6m0s`, `20ms`, or seconds; where none is left | OpenAI, Groq |
//! | `anthropic-ratelimit-*-reset` | an RFC 3339 time; where none is left | Anthropic |
//! | `x-ratelimit-reset` | seconds, or a Unix time in seconds or milliseconds | OpenRouter and others |

use http::HeaderMap;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use super::cause::LONGEST_WAIT_MS;

/// What a limit may be on, in the names of headers.
const METERS: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// How long a provider asks to wait, in milliseconds: at most five minutes, and 0 for a time that is
/// past. `None` if it does not say, or says nothing that can be read.
#[must_use]
pub fn retry_after_ms(headers: &HeaderMap, unix_ms: u64) -> Option<u64> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let named = || {
        let plain = text("retry-after-ms").and_then(|text| number(text, 1.0));
        plain.or_else(|| text("retry-after").and_then(|text| seconds_or_date(text, unix_ms)))
    };
    let used_up = || METERS.iter().filter_map(|meter| reset(&text, meter, unix_ms)).max();
    let reset = || text("x-ratelimit-reset").and_then(|text| moment(text, unix_ms));
    named().or_else(used_up).or_else(reset).map(|wait| wait.min(LONGEST_WAIT_MS))
}

/// When one limit is there again, if none of it is left.
fn reset<'h>(text: &impl Fn(&str) -> Option<&'h str>, meter: &str, unix_ms: u64) -> Option<u64> {
    let is_used_up = |name: &str| text(name).is_some_and(|left| left == "0");
    if is_used_up(&format!("x-ratelimit-remaining-{meter}")) {
        return text(&format!("x-ratelimit-reset-{meter}")).and_then(span);
    }
    if is_used_up(&format!("anthropic-ratelimit-{meter}-remaining")) {
        let at: Timestamp = text(&format!("anthropic-ratelimit-{meter}-reset"))?.parse().ok()?;
        return Some(until(at, unix_ms));
    }
    None
}

/// A number of something that is so many milliseconds long. Below 0 it is 0.
fn number(text: &str, ms: f64) -> Option<u64> {
    let number: f64 = text.parse().ok()?;
    let wait = (number * ms).ceil();
    #[allow(clippy::cast_possible_truncation, reason = "it saturates")]
    wait.is_finite().then_some(wait as u64)
}

fn seconds_or_date(text: &str, unix_ms: u64) -> Option<u64> {
    number(text, 1_000.0).or_else(|| {
        let at = DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(until(at, unix_ms))
    })
}

/// Seconds to go, or a Unix time: nobody asks to wait for thirty years.
fn moment(text: &str, unix_ms: u64) -> Option<u64> {
    const YEAR_2001: u64 = 1_000_000_000;
    match number(text, 1.0)? {
        ms if ms >= YEAR_2001 * 1_000 => Some(ms.saturating_sub(unix_ms)),
        seconds if seconds >= YEAR_2001 => Some((seconds * 1_000).saturating_sub(unix_ms)),
        _ => number(text, 1_000.0),
    }
}

fn until(at: Timestamp, unix_ms: u64) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0).saturating_sub(unix_ms)
}

/// A span such as `1h2m`, `6m0s`, `1.5s` or `20ms`; a bare number is seconds.
fn span(text: &str) -> Option<u64> {
    if let Some(seconds) = number(text, 1_000.0) {
        return Some(seconds);
    }
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let ms = match unit {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return None,
        };
        sum = sum.saturating_add(number(count, ms)?);
        rest = behind;
    }
    Some(sum)
}
