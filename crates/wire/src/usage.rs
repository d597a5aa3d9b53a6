//! Token counts under one convention.
//!
//! Providers disagree about whether cached tokens are part of the input and whether reasoning is
//! part of the output. Here the five buckets are *disjoint*: adding them up gives every token that
//! was billed, each once. Beside them stands how many of two of them are sound, which has a price of
//! its own.

use crate::envelope::Problem;
use crate::json::Scanner;

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
    /// Those of `input` that are sound.
    pub audio_input: u64,
    /// Those of `output` that are sound.
    pub audio_output: u64,
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
/// input includes cached tokens and the output includes reasoning. A value that is not of the form
/// expected (for a count, anything but a non-negative whole number) counts as nothing, so that a
/// provider's odd value can neither fail an answer, nor hide the counts beside it, nor make a
/// negative charge. Of two spellings of one count the larger counts: new-api relays write both and
/// leave the one they do not use at 0.
///
/// Sources: OpenAI's OpenAPI document, `CompletionUsage`; DeepSeek, `api-docs.deepseek.com`
/// (`prompt_cache_hit_tokens`); Moonshot, `platform.moonshot.cn` (`cached_tokens`); 2026-11.
#[derive(Debug, Default)]
struct Told {
    input: u64,
    output: u64,
    cached: u64,
    written: u64,
    reasoning: u64,
    heard: u64,
    spoken: u64,
}

/// Reads the usage object that begins here, and moves past it.
pub(crate) fn read(scanner: &mut Scanner<'_>, depth: u32) -> Result<Usage, Problem> {
    let mut told = Told::default();
    scanner.members(depth, |name, inner| {
        let slot = match name.text(&mut String::new()) {
            b"prompt_tokens" | b"input_tokens" => &mut told.input,
            b"completion_tokens" | b"output_tokens" => &mut told.output,
            b"prompt_cache_hit_tokens" | b"cached_tokens" => &mut told.cached,
            b"prompt_tokens_details" | b"input_tokens_details" => {
                return details(inner, depth + 1, &mut told, |told| &mut told.heard);
            }
            b"completion_tokens_details" | b"output_tokens_details" => {
                return details(inner, depth + 1, &mut told, |told| &mut told.spoken);
            }
            _ => return inner.skip_value(depth + 1),
        };
        *slot = count(inner.value(depth + 1)?).max(*slot);
        Ok(())
    })?;
    Ok(told.into())
}

fn details(
    scanner: &mut Scanner<'_>,
    depth: u32,
    told: &mut Told,
    sound: fn(&mut Told) -> &mut u64,
) -> Result<(), Problem> {
    if scanner.peek() != Some(b'{') {
        return scanner.skip_value(depth);
    }
    scanner.members(depth, |name, inner| {
        let slot = match name.text(&mut String::new()) {
            b"cached_tokens" => &mut told.cached,
            b"cache_write_tokens" | b"cache_creation_input_tokens" => &mut told.written,
            b"reasoning_tokens" => &mut told.reasoning,
            b"audio_tokens" => sound(told),
            _ => return inner.skip_value(depth + 1),
        };
        *slot = count(inner.value(depth + 1)?).max(*slot);
        Ok(())
    })
}

/// A count, if the value is one.
fn count(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl From<Told> for Usage {
    fn from(told: Told) -> Self {
        let cached_read = told.cached.min(told.input);
        let cache_write = told.written.min(told.input - cached_read);
        let reasoning = told.reasoning.min(told.output);
        let (input, output) = (told.input - cached_read - cache_write, told.output - reasoning);
        Self {
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_input: told.heard.min(input),
            audio_output: told.spoken.min(output),
        }
    }
}
