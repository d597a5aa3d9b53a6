//! Token counts under one convention.
//!
//! Providers disagree about whether cached tokens are part of the input and whether reasoning is
//! part of the output. Here the five buckets are *disjoint*: adding them up gives every token that
//! was billed, each once.

use serde::Deserialize;

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
        self.input.saturating_add(self.cached_read).saturating_add(self.cache_write)
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
/// Moonshot, `platform.moonshot.cn` (`cached_tokens`); all 2026-11.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct OpenAiUsage {
    #[serde(default, alias = "input_tokens")]
    prompt_tokens: Count,
    #[serde(default, alias = "output_tokens")]
    completion_tokens: Count,
    #[serde(default, alias = "input_tokens_details")]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(default, alias = "output_tokens_details")]
    completion_tokens_details: Option<OutputDetails>,
    #[serde(default)]
    prompt_cache_hit_tokens: Count,
    #[serde(default)]
    cached_tokens: Count,
}

#[derive(Debug, Default, Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Count,
    #[serde(default, alias = "cache_creation_input_tokens")]
    cache_write_tokens: Count,
}

#[derive(Debug, Default, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Count,
}

/// A count from outside: anything but a non-negative whole number counts as nothing, so that a
/// provider's odd value can neither fail an answer nor make a negative charge.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(number.as_u64().unwrap_or(0)))
    }
}

impl From<OpenAiUsage> for Usage {
    fn from(told: OpenAiUsage) -> Self {
        let input = told.prompt_tokens_details.unwrap_or_default();
        let output = told.completion_tokens_details.unwrap_or_default();
        let total = told.prompt_tokens.0;
        let cached_read = [input.cached_tokens, told.prompt_cache_hit_tokens, told.cached_tokens]
            .into_iter()
            .map(|count| count.0)
            .max()
            .unwrap_or(0)
            .min(total);
        let cache_write = input.cache_write_tokens.0.min(total - cached_read);
        let reasoning = output.reasoning_tokens.0.min(told.completion_tokens.0);
        Self {
            input: total - cached_read - cache_write,
            cached_read,
            cache_write,
            output: told.completion_tokens.0 - reasoning,
            reasoning,
        }
    }
}
