//! What was said so far of an answer, and the request to go on with it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use policy::Prefill;
use serde_json::value::RawValue;
use wire::delta::delta;
use wire::dialects::openai_chat::DONE;
use wire::splice::quoted;
use wire::sse::events;
use wire::{Edit, Envelope, Kind, Value, splice};

use super::seam::{Fate, edited};
use crate::estimate::{self, tokens_of_text};
use crate::fault::{Code, Fault};
use crate::prepare::Ask;

/// Bytes of an answer, as JSON writes them, that are kept to go on with; longer ones are not gone on
/// with.
const MOST_SAID: usize = 64 << 10;

/// Fields that bound the output of a chat.
const OUTPUT_BOUNDS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// Fields with which an answer is not text, or not text that could begin anywhere.
const NOT_WITH: [&str; 14] = [
    "add_generation_prompt",
    "audio",
    "continue_final_message",
    "ebnf",
    "echo",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "json_schema",
    "modalities",
    "regex",
    "structured_outputs",
];

/// What was said so far.
pub(crate) struct Said {
    /// The text between the quotes of JSON, with its escapes: of a pair of them, one half may stand
    /// in one event and one in the next.
    text: Vec<u8>,
    tokens: u64,
    identity: Option<Identity>,
    /// Whether the text is all that was said, so far as that can be given to another provider.
    is_all: bool,
}

impl Default for Said {
    fn default() -> Self {
        Self { text: Vec::new(), tokens: 0, identity: None, is_all: true }
    }
}

impl Said {
    /// Takes note of whole events that go to the client.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        for event in events(bytes) {
            if !self.is_all {
                return;
            }
            let read = event.data.as_ref().map(|data| self.read(data));
            self.is_all = read.unwrap_or(Some(!event.odd)).unwrap_or(false);
            if self.text.len() > MOST_SAID {
                self.is_all = false;
            }
            if !self.is_all {
                self.text = Vec::new();
            }
        }
    }

    /// Whether the answer can still be gone on with after this event; `None` if it cannot be read.
    fn read(&mut self, data: &[u8]) -> Option<bool> {
        if data.trim_ascii() == DONE {
            return Some(true);
        }
        let delta = delta(data).ok()?;
        if !delta.is_chunk {
            return Some(true);
        }
        if self.identity.is_none() {
            self.identity = Some(Identity::of(data)?);
        }
        if let Some(content) = delta.content {
            let text = &data[content.start + 1..content.end - 1];
            self.text.extend_from_slice(text);
            self.tokens += tokens_of_text(text.len());
        }
        Some(!delta.says_more && !delta.finished)
    }

    /// Whether something of the answer was said, and all of it is known.
    pub(crate) fn is_known(&self) -> bool {
        self.is_all && !self.text.is_empty() && self.text().is_some()
    }

    /// The text; `None` if it ends in the middle of a letter.
    pub(super) fn text(&self) -> Option<String> {
        serde_json::from_slice(&[b"\"", &*self.text, b"\""].concat()).ok()
    }

    /// Its output tokens, by the text.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity.clone().unwrap_or_default()
    }

    /// The same request with what was said as its last message.
    ///
    /// # Errors
    /// A fault if its provider cannot go on with that.
    pub(crate) fn ask(&self, ask: Ask, strict: bool) -> Result<Ask, Fault> {
        let id = Arc::clone(&ask.route.provider.id);
        self.resumed(ask, strict)
            .ok_or_else(|| Fault::new(Code::NoTarget, format!("{id} cannot go on with an answer.")))
    }

    fn resumed(&self, ask: Ask, strict: bool) -> Option<Ask> {
        let prefill = ask.route.provider.prefill.as_ref()?;
        let envelope = Envelope::scan(&ask.body).ok()?;
        let messages = envelope.get("messages").ok()??.raw();
        let mut edits = vec![Edit::set("messages", self.behind(messages, prefill)?)];
        edits.extend(prefill.request.iter().map(|(name, value)| Edit::set(&**name, &**value)));
        for name in OUTPUT_BOUNDS {
            let most = envelope.get(name).ok()?.and_then(|value| number(value));
            let left = most.map(|most| most.saturating_sub(self.tokens).max(1));
            edits.extend(left.map(|left| Edit::set(name, left.to_string())));
        }
        let body = Bytes::from(splice(&envelope, &edits));
        let envelope = Envelope::scan(&body).ok()?;
        let bound = estimate::bound(&envelope, &body, &ask.route, true, strict).ok()?;
        Some(Ask { body: body.clone(), bound, resumes: true, ..ask })
    }

    /// The messages with one more.
    fn behind(&self, messages: &[u8], prefill: &Prefill) -> Option<String> {
        let before = std::str::from_utf8(messages.strip_suffix(b"]")?).ok()?;
        let text = std::str::from_utf8(&self.text).ok()?;
        let mut all = format!("{before},{{\"role\":\"assistant\",\"content\":\"{text}\"");
        for (name, value) in &prefill.message {
            all.push_str(&format!(",{}:{value}", quoted(name)));
        }
        all.push_str("}]");
        Some(all)
    }
}

/// Whether an answer to this body can be gone on with: it is one text, free in its form, and not the
/// client's own beginning that is gone on with.
pub(super) fn is_resumable(body: &[u8]) -> bool {
    let Ok(envelope) = Envelope::scan(body) else { return false };
    let is = |name: &str, plain: &dyn Fn(Value<'_>) -> bool| match envelope.get(name) {
        Ok(value) => value.is_none_or(|value| value.kind() == Kind::Null || plain(value)),
        Err(_) => false,
    };
    is("n", &|value| value.raw() == b"1")
        && is("logprobs", &|value| value.as_bool() == Some(false))
        && is("response_format", &is_free)
        && NOT_WITH.iter().all(|name| is(name, &|_| false))
        && envelope.get("messages").is_ok_and(|value| value.is_some_and(ends_with_another))
}

/// Whether a `response_format` leaves the form to the model.
fn is_free(format: Value<'_>) -> bool {
    #[derive(serde::Deserialize)]
    struct Format<'f> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'f, str>,
    }
    serde_json::from_slice(format.raw()).is_ok_and(|format: Format<'_>| format.kind == "text")
}

/// Whether the last of the messages is not of the role `assistant`.
fn ends_with_another(messages: Value<'_>) -> bool {
    #[derive(serde::Deserialize)]
    struct Message<'m> {
        #[serde(borrow)]
        role: Cow<'m, str>,
    }
    let messages: Option<Vec<&RawValue>> = serde_json::from_slice(messages.raw()).ok();
    let last = messages.as_ref().and_then(|messages| messages.last());
    let role = last.and_then(|last| serde_json::from_str::<Message<'_>>(last.get()).ok());
    role.is_some_and(|message| message.role != "assistant")
}

/// What the chunks of one answer have in common, as JSON text.
#[derive(Clone, Default)]
pub(crate) struct Identity([Option<Box<str>>; 4]);

/// The names of those members.
const IDENTITY: [&str; 4] = ["id", "created", "model", "system_fingerprint"];

impl Identity {
    fn of(chunk: &[u8]) -> Option<Self> {
        let envelope = Envelope::scan(chunk).ok()?;
        let member = |name| {
            let value = envelope.get(name).ok().flatten()?;
            Some(std::str::from_utf8(value.raw()).ok()?.into())
        };
        Some(Self(IDENTITY.map(member)))
    }

    /// A chunk of another answer as one of this answer. `None` if it cannot be read.
    pub(super) fn given_to(&self, chunk: &[u8]) -> Option<Vec<u8>> {
        let envelope = Envelope::scan(chunk).ok()?;
        let edits = IDENTITY.iter().zip(&self.0).map(|(name, value)| match value {
            Some(value) => Edit::set(*name, &**value),
            None => Edit::remove(*name),
        });
        Some(splice(&envelope, &edits.collect::<Vec<_>>()))
    }
}

/// Events with the token counts of the answer as the client has it: what was said before the attempt
/// that tells them, and was input to that one, counts as output.
pub(super) fn counted(bytes: Bytes, said_before: u64) -> Bytes {
    if said_before == 0 {
        return bytes;
    }
    let counted = edited(&bytes, |event| {
        let counted = event.data.as_ref().and_then(|data| with_counts(data, said_before));
        Ok::<_, ()>(counted.map_or(Fate::Keep, Fate::Data))
    });
    counted.unwrap_or(bytes)
}

fn with_counts(chunk: &[u8], said_before: u64) -> Option<Vec<u8>> {
    const PROMPT: &str = "prompt_tokens";
    const COMPLETION: &str = "completion_tokens";
    let envelope = Envelope::scan(chunk).ok()?;
    let usage = envelope.get("usage").ok()??;
    let usage = Envelope::scan(usage.raw()).ok()?;
    let count = |name| number(usage.get(name).ok()??);
    let (prompt, completion) = (count(PROMPT)?, count(COMPLETION)?);
    let moved = said_before.min(prompt);
    let edits = [
        Edit::set(PROMPT, (prompt - moved).to_string()),
        Edit::set(COMPLETION, (completion + moved).to_string()),
    ];
    let usage = String::from_utf8(splice(&usage, &edits)).ok()?;
    Some(splice(&envelope, &[Edit::set("usage", usage)]))
}

fn number(value: Value<'_>) -> Option<u64> {
    std::str::from_utf8(value.raw()).ok()?.parse().ok()
}
