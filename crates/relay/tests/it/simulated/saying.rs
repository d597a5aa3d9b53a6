//! What answers say, so that each letter of it tells whose it is and where it stands: pieces such as
//! `<17.0><17.1><17.2$>`, of the call, the place, and that it is the last.

use serde_json::{Value, json};

use super::random::Random;
use crate::world::chunk;

/// Words before the first piece, for judges and those who escalate.
const LEADS: [&str; 6] = ["", "", "yes ", "no ", "dunno ", "2 "];

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
    Embedding,
    Rerank,
    Image,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Chat, Self::Completion, Self::Embedding, Self::Rerank, Self::Image];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completion => "/v1/completions",
            Self::Embedding => "/v1/embeddings",
            Self::Rerank => "/v1/rerank",
            Self::Image => "/v1/images/generations",
        }
    }

    pub(super) fn of(path: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.path() == path).unwrap()
    }

    /// Whether nothing of it is understood but the model.
    pub(super) fn is_forwarded(self) -> bool {
        matches!(self, Self::Rerank | Self::Image)
    }

    /// A body that asks for it.
    pub(super) fn body(self, words: &str) -> Value {
        match self {
            Self::Chat => json!({ "messages": [{ "role": "user", "content": words }] }),
            Self::Completion | Self::Image => json!({ "prompt": words }),
            Self::Embedding => json!({ "input": words }),
            Self::Rerank => json!({ "query": words, "documents": ["one", "two"] }),
        }
    }

    /// An answer.
    pub(super) fn whole(self, text: &str, output: u64) -> String {
        let usage =
            json!({ "prompt_tokens": 7, "completion_tokens": output, "total_tokens": 7 + output });
        match self {
            Self::Chat => json!({
                "id": "x", "object": "chat.completion", "usage": usage,
                "choices": [{ "index": 0, "finish_reason": "stop",
                    "message": { "role": "assistant", "content": text } }],
            }),
            Self::Completion => json!({
                "id": "x", "object": "text_completion", "usage": usage,
                "choices": [{ "index": 0, "finish_reason": "stop", "text": text }],
            }),
            Self::Embedding | Self::Rerank | Self::Image => {
                json!({ "object": "list", "data": [{ "text": text }], "usage": usage })
            }
        }
        .to_string()
    }

    /// An event with a piece of an answer.
    pub(super) fn event(self, text: &str) -> String {
        match self {
            Self::Chat => chunk(text),
            _ => {
                let choice = json!({ "index": 0, "text": text, "finish_reason": null });
                let piece = json!({ "id": "c1", "object": "text_completion", "choices": [choice] });
                format!("data: {piece}\n\n")
            }
        }
    }

    /// The text of an answer, or of an event of one.
    pub(super) fn text(value: &Value) -> String {
        let choice = &value["choices"][0];
        let texts = [&choice["message"]["content"], &choice["delta"]["content"], &choice["text"]];
        let texts = texts.into_iter().chain([&value["data"][0]["text"]]);
        texts.filter_map(Value::as_str).collect()
    }
}

/// What a call says.
pub(super) struct Saying {
    pub(super) kind: Kind,
    /// Of the call.
    pub(super) number: usize,
    /// What it goes on with.
    pub(super) said: Option<String>,
    /// It begins with that again.
    pub(super) repeats: bool,
}

impl Saying {
    /// The texts of its events.
    pub(super) fn texts(&self, random: &mut Random) -> Vec<String> {
        let said = self.said.as_deref().unwrap_or_default();
        let mut texts = self.rest(said, random);
        if said.is_empty() {
            let lead = random.of(&LEADS);
            texts[0].insert_str(0, lead);
        } else if self.repeats {
            let mut all = cut(said, random);
            let first = if texts.is_empty() { String::new() } else { texts.remove(0) };
            all.last_mut().unwrap().push_str(&first);
            texts = [all, texts].concat();
        }
        texts
    }

    /// What is to be said behind that.
    fn rest(&self, said: &str, random: &mut Random) -> Vec<String> {
        if said.contains('$') {
            return Vec::new();
        }
        let first = said.matches('>').count();
        let last = first + usize::try_from(random.between(0, 6)).unwrap();
        let mut texts = Vec::new();
        for place in first..=last {
            let end = if place == last { "$>" } else { ">" };
            // One that breaks off within a piece has told its call.
            let is_begun = place == first && said.ends_with('.');
            let begin = if is_begun { String::new() } else { format!("<{}.", self.number) };
            match random.percent(25) {
                true => texts.extend([begin, format!("{place}{end}")]),
                false => texts.push(format!("{begin}{place}{end}")),
            }
        }
        texts
    }

    /// An event that does not go on with what was said.
    pub(super) fn astray(&self) -> String {
        match self.repeats {
            true => chunk("<oops"),
            false => {
                let delta = json!({ "reasoning_content": "hm" });
                let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
                let piece =
                    json!({ "id": "c1", "object": "chat.completion.chunk", "choices": [choice] });
                format!("data: {piece}\n\n")
            }
        }
    }
}

/// A text, cut anywhere.
fn cut(text: &str, random: &mut Random) -> Vec<String> {
    let (mut rest, mut texts) = (text, Vec::new());
    while !rest.is_empty() {
        let at = usize::try_from(random.between(1, 12)).unwrap().min(rest.len());
        texts.push(rest[..at].to_owned());
        rest = &rest[at..];
    }
    texts
}

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The number of the call that said it.
    pub(super) call: usize,
    pub(super) place: usize,
    pub(super) is_last: bool,
}

/// The pieces of a text, and what of it is none: something that breaks off.
pub(super) fn pieces(text: &str) -> Result<(Vec<Piece>, String), String> {
    let strange = || format!("strange words: {text}");
    let begin = text.find('<').unwrap_or(text.len());
    if !LEADS.contains(&&text[..begin]) {
        return Err(strange());
    }
    let (mut rest, mut pieces) = (&text[begin..], Vec::new());
    while let Some(end) = rest.find('>') {
        let piece = rest[..end].strip_prefix('<').ok_or_else(strange)?;
        let is_last = piece.ends_with('$');
        let (call, place) = piece.trim_end_matches('$').split_once('.').ok_or_else(strange)?;
        let (Ok(call), Ok(place)) = (call.parse(), place.parse()) else { return Err(strange()) };
        pieces.push(Piece { call, place, is_last });
        rest = &rest[end + 1..];
    }
    Ok((pieces, rest.to_owned()))
}
