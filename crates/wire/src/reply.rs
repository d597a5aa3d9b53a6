//! What Magpie must know of an answer on its way through: did it end, did it fail, what did it
//! use. Everything else in it is the client's business and is not looked at.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::usage::{OpenAiUsage, Usage};

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
    /// The error is in the dialect's own form and can be passed as it is.
    pub error_is_openai: bool,
    /// It holds at least one choice.
    pub has_choices: bool,
    /// It has the field `choices`, empty or not.
    pub has_choices_field: bool,
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
    let text = std::str::from_utf8(data).map_err(|_| Unreadable)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let glance = Reply { marks }
        .deserialize(&mut json)
        .map_err(|_| Unreadable)?;
    json.end().map_err(|_| Unreadable)?;
    Ok(glance)
}

struct Reply<'m> {
    marks: &'m [ErrorMark],
}

impl<'de> DeserializeSeed<'de> for Reply<'_> {
    type Value = Glance;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Glance, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reply<'_> {
    type Value = Glance;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Glance, A::Error> {
        let mut glance = Glance::default();
        while let Some(key) = map.next_key_seed(Name { marks: self.marks })? {
            match key {
                Key::Choices => {
                    glance.has_choices_field = true;
                    map.next_value_seed(Choices(&mut glance))?;
                }
                Key::Usage => read_usage(map.next_value()?, &mut glance),
                Key::Groq => read_groq(map.next_value()?, &mut glance),
                Key::Error => {
                    let value: &RawValue = map.next_value()?;
                    if !matches!(value.get(), "null" | "false" | "\"\"" | "{}") {
                        glance.error = true;
                        glance.error_is_openai = value.get().starts_with('{');
                    }
                }
                Key::Mark(mark) => {
                    let value: &RawValue = map.next_value()?;
                    glance.error |= is_marked(value.get(), &self.marks[mark]);
                }
                Key::FinishReason | Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(glance)
    }
}

fn read_usage(value: &RawValue, glance: &mut Glance) {
    if value.get().starts_with('{')
        && let Ok(told) = serde_json::from_str::<OpenAiUsage>(value.get())
    {
        glance.usage = Some(told.into());
    }
}

/// Groq puts the counts of a stream into `x_groq.usage` (console.groq.com, 2026-11).
fn read_groq(value: &RawValue, glance: &mut Glance) {
    #[derive(serde::Deserialize)]
    struct Groq<'a> {
        #[serde(borrow)]
        usage: Option<&'a RawValue>,
    }
    if let Ok(Groq { usage: Some(usage) }) = serde_json::from_str(value.get()) {
        read_usage(usage, glance);
    }
}

fn is_marked(value: &str, mark: &ErrorMark) -> bool {
    let Some(inner) = &mark.inner else {
        return value != "null" && mark.ok.as_deref() != Some(value);
    };
    let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(value);
    let Ok(fields) = fields else { return false };
    fields
        .get(inner)
        .is_some_and(|found| found.get() != "null" && mark.ok.as_deref() != Some(found.get()))
}

enum Key {
    Choices,
    FinishReason,
    Usage,
    Groq,
    Error,
    Mark(usize),
    Other,
}

struct Name<'m> {
    marks: &'m [ErrorMark],
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(match name {
            "choices" => Key::Choices,
            "usage" => Key::Usage,
            "error" => Key::Error,
            "finish_reason" => Key::FinishReason,
            "x_groq" => Key::Groq,
            other => self
                .marks
                .iter()
                .position(|mark| mark.field == other)
                .map_or(Key::Other, Key::Mark),
        })
    }
}

/// The part of a visitor that lets anything but arrays and objects pass: where a provider writes
/// nonsense beside the answer, the answer still goes through.
macro_rules! scalars_say_nothing {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }

        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }

        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }

        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }

        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }

        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            Ok(())
        }
    };
}

/// Reads `choices`, whatever it is; only an array of objects says anything.
struct Choices<'g>(&'g mut Glance);

impl<'de> DeserializeSeed<'de> for Choices<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Choices<'_> {
    type Value = ();

    scalars_say_nothing!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(()) = seq.next_element_seed(Choice(self.0))? {
            self.0.has_choices = true;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        IgnoredAny.visit_map(map).map(drop)
    }
}

/// Reads one choice.
struct Choice<'g>(&'g mut Glance);

impl<'de> DeserializeSeed<'de> for Choice<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Choice<'_> {
    type Value = ();

    scalars_say_nothing!();

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        IgnoredAny.visit_seq(seq).map(drop)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name { marks: &[] })? {
            match name {
                // Old Moonshot builds put the counts into the choice (platform.moonshot.cn).
                Key::Usage => read_usage(map.next_value()?, self.0),
                // Some relays write "" or "null" for "none" (api.x.ai, 2026-11).
                Key::FinishReason => {
                    let reason: &RawValue = map.next_value()?;
                    self.0.finished |= !matches!(reason.get(), "null" | "\"\"" | "\"null\"");
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The words of a provider's error, wherever it put them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorText {
    /// What it says.
    pub message: Option<String>,
    /// Its machine-readable code, as text.
    pub code: Option<String>,
}

/// Finds message and code in an error body of any provider known: OpenAI's `error` object or
/// string, Baidu's `error_msg`/`error_code`, MiniMax's `base_resp`, `message`, `msg`, `detail`,
/// Gemini's array around an `error` object.
#[must_use]
pub fn error_text(body: &[u8]) -> ErrorText {
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
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        return ErrorText::default();
    };
    let text = |path: &&str| match value.pointer(path)? {
        serde_json::Value::String(text) if !text.is_empty() => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    ErrorText {
        message: MESSAGES.iter().find_map(text),
        code: CODES.iter().find_map(text),
    }
}
