//! What a plan may look at in a request, worked out as far as the plan asks for it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use http::HeaderMap;
use memchr::memmem;
use policy::plan::{self, Facts, LIKELY_OUTPUT, Needs};
use serde_json::value::RawValue;
use wire::Envelope;

use crate::estimate::likely_content;
use crate::identify::Caller;
use crate::intake::Operation;

/// Bytes of a conversation's beginning that tell it from others.
const BEGINNING: usize = 4 << 10;

/// What of a request has to be worked out for its plan. Does not change from target to target.
#[derive(Default)]
pub(crate) struct Looked {
    metadata: BTreeMap<String, String>,
    input_tokens: u64,
    output_tokens: u64,
    has_tools: bool,
    has_images: bool,
    cache_key: Option<String>,
    conversation: Option<u64>,
}

impl Looked {
    /// Works out what is needed; what cannot be read counts as absent, for it is the provider's to
    /// refuse.
    pub(crate) fn at(envelope: &Envelope<'_>, body: &Bytes, needs: Needs) -> Self {
        let mut looked = Self::default();
        if needs.metadata {
            looked.metadata = member(envelope, "metadata").unwrap_or_default();
        }
        if needs.tokens {
            looked.input_tokens = likely_content(body);
            let bounds = ["max_completion_tokens", "max_tokens"];
            let asked = bounds.iter().find_map(|name| member::<u64>(envelope, name));
            looked.output_tokens = asked.unwrap_or(LIKELY_OUTPUT).min(LIKELY_OUTPUT);
        }
        if needs.content {
            let holds = |name: &str| {
                let value = envelope.get(name).ok().flatten();
                value.is_some_and(|value| value.raw().starts_with(b"[") && !value.is_empty())
            };
            looked.has_tools = holds("tools") || holds("functions");
            // With their quotes: a text that speaks of them has these escaped.
            let signs: [&[u8]; 2] = [br#""image_url""#, br#""input_image""#];
            looked.has_images = signs.iter().any(|sign| memmem::find(body, sign).is_some());
        }
        if needs.cache_key {
            looked.cache_key = member(envelope, "prompt_cache_key");
        }
        if needs.conversation {
            looked.conversation = conversation(envelope);
        }
        looked
    }

    /// The facts for one look at the plan.
    pub(crate) fn facts<'r>(
        &'r self,
        operation: Operation,
        headers: &'r HeaderMap,
        caller: &'r Caller,
        metadata: &'r [(&'r str, &'r str)],
        unix_ms: u64,
    ) -> Facts<'r> {
        Facts {
            metadata,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            has_tools: self.has_tools,
            has_images: self.has_images,
            cache_key: self.cache_key.as_deref(),
            conversation: self.conversation,
            unix_ms,
            ..Facts::new(operation, headers).by(caller.chain())
        }
    }

    /// Names and values: the caller's own, and then the request's.
    pub(crate) fn metadata<'r>(&'r self, caller: &'r Caller) -> Vec<(&'r str, &'r str)> {
        let sent = self.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        plan::metadata(caller.chain(), sent)
    }
}

fn member<T: serde::de::DeserializeOwned>(envelope: &Envelope<'_>, name: &str) -> Option<T> {
    let value = envelope.get(name).ok().flatten()?;
    serde_json::from_slice(value.raw()).ok()
}

/// What is the same in every request of a conversation and in few others: its messages up to the
/// first of the user's.
fn conversation(envelope: &Envelope<'_>) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Role<'m> {
        #[serde(borrow, default)]
        role: std::borrow::Cow<'m, str>,
    }
    let messages = envelope.get("messages").ok().flatten()?;
    let messages: Vec<&RawValue> = serde_json::from_slice(messages.raw()).ok()?;
    let mut hasher = DefaultHasher::new();
    for message in messages {
        let text = message.get().as_bytes();
        hasher.write(&text[..text.len().min(BEGINNING)]);
        let role = serde_json::from_str::<Role<'_>>(message.get()).ok()?.role;
        if role == "user" {
            return Some(hasher.finish());
        }
    }
    None
}
