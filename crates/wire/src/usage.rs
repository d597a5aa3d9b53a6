//! Token counts under one convention.
//!
//! Providers disagree about whether cached tokens are part of the input and whether reasoning is
//! part of the output. Here the five buckets are *disjoint*: adding them up gives every token that
//! was billed, each once.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Tokens of one answer, in disjoint buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens that were neither read from nor written to a cache.
    pub input: u64,
    /// Input tokens read from the provider's prompt cache.
    pub cached_read: u64,
    /// Input tokens written to the provider's prompt cache.
    pub cache_write: u64,
    /// Output tokens other than reasoning.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// All input tokens, cached or not.
    #[must_use]
    pub fn input_total(&self) -> u64 {
        self.input
            .saturating_add(self.cached_read)
            .saturating_add(self.cache_write)
    }

    /// All output tokens, reasoning included.
    #[must_use]
    pub fn output_total(&self) -> u64 {
        self.output.saturating_add(self.reasoning)
    }
}

/// Usage as the OpenAI dialect writes it, with the spellings that compatible providers add. The
/// input includes cached tokens and the output includes reasoning. Sources: OpenAI's OpenAPI
/// document, `CompletionUsage`; DeepSeek, `api-docs.deepseek.com` (`prompt_cache_hit_tokens`);
/// Moonshot, `platform.moonshot.cn` (`cached_tokens`); new-api relays write both spellings of
/// each count and leave the one they do not use at 0; all 2026-11.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OpenAiUsage {
    prompt_tokens: Lenient<u64>,
    input_tokens: Lenient<u64>,
    completion_tokens: Lenient<u64>,
    output_tokens: Lenient<u64>,
    prompt_tokens_details: Lenient<InputDetails>,
    input_tokens_details: Lenient<InputDetails>,
    completion_tokens_details: Lenient<OutputDetails>,
    output_tokens_details: Lenient<OutputDetails>,
    prompt_cache_hit_tokens: Lenient<u64>,
    cached_tokens: Lenient<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Lenient<u64>,
    cache_write_tokens: Lenient<u64>,
    cache_creation_input_tokens: Lenient<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Lenient<u64>,
}

/// A value from outside: one that is not of the form expected (for a count, anything but a
/// non-negative whole number) counts as nothing, so that a provider's odd value can neither fail
/// an answer, nor hide the counts beside it, nor make a negative charge.
#[derive(Debug, Default)]
struct Lenient<T>(T);

impl<'de, T: Default + DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(value.get()).unwrap_or_default()))
    }
}

impl From<OpenAiUsage> for Usage {
    fn from(told: OpenAiUsage) -> Self {
        let details = [told.prompt_tokens_details.0, told.input_tokens_details.0];
        let input = told.prompt_tokens.0.max(told.input_tokens.0);
        let output = told.completion_tokens.0.max(told.output_tokens.0);
        let hits = told.prompt_cache_hit_tokens.0.max(told.cached_tokens.0);
        let cached_read = largest(&details, |part| part.cached_tokens.0)
            .max(hits)
            .min(input);
        let written = largest(&details, |part| {
            part.cache_write_tokens
                .0
                .max(part.cache_creation_input_tokens.0)
        });
        let cache_write = written.min(input - cached_read);
        let details = [
            told.completion_tokens_details.0,
            told.output_tokens_details.0,
        ];
        let reasoning = largest(&details, |part| part.reasoning_tokens.0).min(output);
        Self {
            input: input - cached_read - cache_write,
            cached_read,
            cache_write,
            output: output - reasoning,
            reasoning,
        }
    }
}

fn largest<T>(parts: &[T], count: impl Fn(&T) -> u64) -> u64 {
    parts.iter().map(count).max().unwrap_or(0)
}
