//! What Magpie must know of an answer on its way through: did it end, did it fail, what did it
//! use. Everything else in it is the client's business and is not looked at.

use std::ops::Range;

use crate::envelope::Problem;
use crate::json::{Name, Scanner};
use crate::usage::{self, Usage};

/// A place in a reply that says "this is an error" although the status is 200, as data from a
/// provider's profile. Two levels are enough for every provider known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorMark {
    /// The top-level member, such as `error_code` or `base_resp`.
    pub field: String,
    /// The member inside it, if the mark is nested, such as `status_code`.
    pub inner: Option<String>,
    /// The JSON text that means "no error", such as `0`.
    pub ok: Option<String>,
}

/// What one event of a stream, or one whole reply, says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glance {
    /// A `finish_reason` that says something.
    pub finished: bool,
    /// Token counts, if told.
    pub usage: Option<Usage>,
    /// It is an error.
    pub error: bool,
    /// The provider's own mark says so, not the member `error`.
    pub marked: bool,
    /// It names itself by `id` or `object`, as stored things do, which may well hold an `error`.
    pub has_identity: bool,
    /// The error is in the dialect's own form and can be passed as it is.
    pub error_is_openai: bool,
    /// It holds at least one choice.
    pub has_choices: bool,
    /// It has the field `choices`, empty or not.
    pub has_choices_field: bool,
    /// The choices in it, and those of them that finish: a bit each, by index; from 63 on they share
    /// the last.
    pub choices: u64,
    /// See `choices`.
    pub finished_choices: u64,
    /// Where the text of the one delta in it stands, quotes included.
    pub text: Option<Range<usize>>,
}

impl Glance {
    /// Whether it is the extra chunk that carries usage and nothing else.
    #[must_use]
    pub fn is_usage_only(&self) -> bool {
        self.usage.is_some() && self.has_choices_field && !self.has_choices
    }
}

/// The event is not the JSON object it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Reads one event's data, or one whole reply, in the OpenAI dialect. `marks` are the provider's
/// own ways to say "error".
///
/// # Errors
/// [`Unreadable`] if it is not one JSON object in UTF-8.
pub fn glance(data: &[u8], marks: &[ErrorMark]) -> Result<Glance, Unreadable> {
    let mut glance = Glance::default();
    one_object(data, |name, inner| read_member(&name, inner, marks, &mut glance))?;
    Ok(glance)
}

/// Walks the members of the one JSON object that the data is. `visit` is given each name, and has to
/// move past the value.
pub(crate) fn one_object<'b>(
    data: &'b [u8],
    visit: impl FnMut(Name<'b>, &mut Scanner<'b>) -> Result<(), Problem>,
) -> Result<(), Unreadable> {
    std::str::from_utf8(data).map_err(|_| Unreadable)?;
    let mut scanner = Scanner { bytes: data, at: 0 };
    scanner.skip_space();
    if scanner.peek() != Some(b'{') {
        return Err(Unreadable);
    }
    scanner.members(0, visit).map_err(|_| Unreadable)?;
    scanner.skip_space();
    if scanner.peek().is_some() { Err(Unreadable) } else { Ok(()) }
}

fn read_member(
    name: &Name<'_>,
    scanner: &mut Scanner<'_>,
    marks: &[ErrorMark],
    glance: &mut Glance,
) -> Result<(), Problem> {
    match name.text(&mut String::new()) {
        b"choices" => {
            glance.has_choices_field = true;
            read_choices(scanner, glance)
        }
        b"usage" => read_usage(scanner, 1, glance),
        // Groq puts the counts of a stream into `x_groq.usage` (console.groq.com, 2026-11).
        b"x_groq" if scanner.peek() == Some(b'{') => {
            scanner.members(1, |name, inner| match name.text(&mut String::new()) {
                b"usage" => read_usage(inner, 2, glance),
                _ => inner.skip_value(2),
            })
        }
        b"error" => {
            let value = scanner.value(1)?;
            if !says_nothing(value) {
                glance.error = true;
                glance.error_is_openai = value.starts_with(b"{");
            }
            Ok(())
        }
        other => {
            glance.has_identity |= matches!(other, b"id" | b"object");
            let value = scanner.value(1)?;
            let mark = marks.iter().find(|mark| mark.field.as_bytes() == other);
            glance.marked |= mark.is_some_and(|mark| is_marked(value, mark));
            glance.error |= glance.marked;
            Ok(())
        }
    }
}

/// Whether the value of `error` stands for "none": null, empty, or an object of nothing but nulls.
fn says_nothing(value: &[u8]) -> bool {
    if !value.starts_with(b"{") {
        return matches!(value, b"null" | b"false" | b"\"\"");
    }
    let mut silent = true;
    let mut scanner = Scanner { bytes: value, at: 0 };
    let walked = scanner.members(0, |_, inner| {
        silent &= inner.value(1)? == b"null";
        Ok(())
    });
    walked.is_ok() && silent
}

/// Reads token counts; anything but an object tells none.
fn read_usage(scanner: &mut Scanner<'_>, depth: u32, glance: &mut Glance) -> Result<(), Problem> {
    if scanner.peek() != Some(b'{') {
        return scanner.skip_value(depth);
    }
    glance.usage = Some(usage::read(scanner, depth)?);
    Ok(())
}

/// Reads `choices`, whatever it is; only an array of objects says anything.
fn read_choices(scanner: &mut Scanner<'_>, glance: &mut Glance) -> Result<(), Problem> {
    if scanner.peek() != Some(b'[') {
        return scanner.skip_value(1);
    }
    scanner.elements(1, |inner| {
        glance.has_choices = true;
        if inner.peek() != Some(b'{') {
            return inner.skip_value(2);
        }
        let (mut index, mut finished) = (0, false);
        inner.members(2, |name, inner| match name.text(&mut String::new()) {
            b"index" => {
                let text = std::str::from_utf8(inner.value(3)?).unwrap_or_default();
                index = text.parse::<u32>().unwrap_or(0).min(63);
                Ok(())
            }
            // Old Moonshot builds put the counts into the choice (platform.moonshot.cn).
            b"usage" => read_usage(inner, 3, glance),
            // Some relays write "" or "null" for "none" (api.x.ai, 2026-11).
            b"finish_reason" => {
                let reason = inner.value(3)?;
                finished = !matches!(reason, b"null" | b"\"\"" | b"\"null\"");
                Ok(())
            }
            b"delta" if inner.peek() == Some(b'{') => read_delta(inner, glance),
            b"text" => read_text(inner, 3, glance),
            _ => inner.skip_value(3),
        })?;
        glance.choices |= 1 << index;
        glance.finished |= finished;
        glance.finished_choices |= u64::from(finished) << index;
        Ok(())
    })
}

/// Notes where the text of a delta stands: that of the model's answer, of its reasoning, or both.
fn read_delta(scanner: &mut Scanner<'_>, glance: &mut Glance) -> Result<(), Problem> {
    scanner.members(3, |name, inner| match name.raw {
        b"content" | b"reasoning_content" | b"reasoning" => read_text(inner, 4, glance),
        _ => inner.skip_value(4),
    })
}

fn read_text(scanner: &mut Scanner<'_>, depth: u32, glance: &mut Glance) -> Result<(), Problem> {
    let start = scanner.at;
    scanner.skip_value(depth)?;
    if scanner.bytes[start] == b'"' {
        glance.text = Some(start..scanner.at);
    }
    Ok(())
}

/// Recognises events that differ from an earlier one in nothing but their text.
///
/// A stream says the same thing a hundred times with other words in it. Two events that are equal
/// byte for byte outside one string mean the same outside that string, so the second one need not
/// be taken apart: comparing is several times faster.
#[derive(Debug, Default)]
pub struct Likeness {
    /// Up to the text's opening quote, and from its closing quote on.
    around: Vec<u8>,
    /// Length of the first part, its quote included; 0 if there is nothing to compare with.
    before: usize,
}

/// Bytes around the text above which an event is not remembered: each open stream keeps them.
const MAX_LIKENESS: usize = 1024;

impl Likeness {
    /// Remembers an event, if all it carried was a text.
    pub fn learn(&mut self, data: &[u8], seen: &Glance) {
        self.before = 0;
        let Some(text) = &seen.text else { return };
        let size = data.len() - text.len() + 2;
        if seen.finished || seen.error || seen.usage.is_some() || size > MAX_LIKENESS {
            return;
        }
        self.around.clear();
        self.around.extend_from_slice(&data[..=text.start]);
        self.before = self.around.len();
        self.around.extend_from_slice(&data[text.end - 1..]);
    }

    /// The bytes of text in this event, if it is like the one remembered: a glance at it would see
    /// nothing else that is new.
    #[must_use]
    pub fn text_of(&self, data: &[u8]) -> Option<usize> {
        let (before, after) = self.around.split_at(self.before);
        if self.before == 0 || data.len() < self.around.len() {
            return None;
        }
        let (quote, close) = (self.before - 1, data.len() - after.len() + 1);
        if !(data.starts_with(before) && data.ends_with(after)) {
            return None;
        }
        let text = &data[quote..close];
        let mut scanner = Scanner { bytes: text, at: 0 };
        let is_one_string = scanner.skip_string().is_ok() && scanner.at == text.len();
        let is_text = is_one_string && std::str::from_utf8(text).is_ok();
        is_text.then(|| data.len() - self.around.len())
    }
}

fn is_marked(value: &[u8], mark: &ErrorMark) -> bool {
    let ok = mark.ok.as_deref().map(str::as_bytes);
    let says_error = |value: &[u8]| value != b"null" && ok != Some(value);
    let Some(inner) = &mark.inner else {
        return says_error(value);
    };
    let mut marked = false;
    let mut scanner = Scanner { bytes: value, at: 0 };
    // The value has been scanned once, so the walk cannot fail.
    let _ = value.starts_with(b"{").then(|| {
        scanner.members(0, |name, nested| {
            let value = nested.value(1)?;
            marked |= name.text(&mut String::new()) == inner.as_bytes() && says_error(value);
            Ok(())
        })
    });
    marked
}

/// The words of a provider's error, wherever it put them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorText {
    /// What it says.
    pub message: Option<String>,
    /// Its machine-readable code, as text.
    pub code: Option<String>,
    /// What else it is called, the most telling first: Google's reason, Azure's inner code, the
    /// type, Google's status.
    pub kinds: Vec<String>,
}

/// Finds message, code and kinds in an error body of any provider known: OpenAI's `error` object or
/// string, Baidu's `error_msg`/`error_code`, MiniMax's `base_resp`, `message`, `msg`, `detail`,
/// Gemini's array around an `error` object.
#[must_use]
pub fn error_text(body: &[u8]) -> ErrorText {
    serde_json::from_slice(body).map(|value| error_text_of(&value)).unwrap_or_default()
}

/// The same of a body that was read before.
#[must_use]
pub fn error_text_of(value: &serde_json::Value) -> ErrorText {
    const MESSAGES: [&str; 9] = [
        "/error/message",
        "/error",
        "/base_resp/status_msg",
        "/error_msg",
        "/message",
        "/msg",
        "/detail",
        "/errors/0/message",
        "/0/error/message",
    ];
    const CODES: [&str; 6] = [
        "/error/code",
        "/base_resp/status_code",
        "/error_code",
        "/code",
        "/error/type",
        "/0/error/code",
    ];
    let text = |path: &&str| word(value.pointer(path)?);
    ErrorText {
        message: MESSAGES.iter().find_map(text),
        code: CODES.iter().find_map(text),
        kinds: kinds(value),
    }
}

fn word(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) if !text.is_empty() => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Details of Google's that are looked at.
const MOST_DETAILS: usize = 16;

fn kinds(value: &serde_json::Value) -> Vec<String> {
    let error = value.pointer("/error").or_else(|| value.pointer("/0/error"));
    let error = error.filter(|error| error.is_object()).unwrap_or(value);
    // google.rpc.ErrorInfo stands among others (cloud.google.com/apis/design/errors, 2026-11).
    let details = error.get("details").and_then(serde_json::Value::as_array);
    let mut reasons = details.into_iter().flatten().take(MOST_DETAILS);
    let reason = reasons.find_map(|detail| word(detail.get("reason")?));
    let named = ["/innererror/code", "/type", "/status"];
    let named = named.iter().filter_map(|path| word(error.pointer(path)?));
    reason.into_iter().chain(named).collect()
}
