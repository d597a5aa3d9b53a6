//! What a request is likely to use, and the most that it can, before a provider has said anything.
//!
//! Never by a tokenizer on this path: a whole relay costs less than counting tokens would. Texts
//! have one token for some 3.5 bytes in every language that was measured (English 5.7, Chinese 3.7,
//! code 2.5), and never more tokens than bytes.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use memchr::{memchr_iter, memchr2_iter};
use policy::plan::LIKELY_OUTPUT;
use policy::price::ModelLimits;
use policy::{EditPlan, Route, Sent};
use serde::de::IgnoredAny;
use wire::envelope::Duplicate;
use wire::{Envelope, Kind, Value};

use crate::admit::Bound;

/// Tokens of the frame that a provider puts around each message and tool, and then some.
const FRAME: u64 = 64;
/// The most input tokens of a model whose size is not known, where a picture or a file may hold any
/// number of them.
const LARGEST_INPUT: u64 = 1 << 20;

/// Fields that bound the output. Of several the largest counts: it is not known which of them the
/// provider goes by.
const OUTPUT_BOUNDS: [&str; 3] = ["max_completion_tokens", "max_tokens", "max_output_tokens"];

/// The bound of a JSON request, by the `body` that the provider gets. What a picture may hold is only
/// looked for where a budget wants to know the most that the input can be (`strict`): it takes a
/// walk over the whole body.
///
/// # Errors
/// [`Duplicate`] for a field that is read here and stands twice.
pub(crate) fn bound(
    envelope: &Envelope<'_>,
    body: &[u8],
    route: &Route,
    outputs: bool,
    strict: bool,
) -> Result<Bound, Duplicate> {
    let limits = route.model_limits;
    let bytes = body.len() as u64;
    let input = likely_input(body.len());
    let most_input = match strict && refers_elsewhere(body) {
        true => limits.max_input.unwrap_or(LARGEST_INPUT),
        false => bytes + FRAME,
    };
    if !outputs {
        return Ok(Bound { input, output: 0, most_input, most_output: Some(0) });
    }
    let fields = Fields { envelope, edits: &route.edits };
    let choices = fields.number("n")?.max(fields.number("best_of")?).unwrap_or(1);
    let answers = choices.saturating_mul(fields.prompts()?);
    let mut asked = None;
    for name in OUTPUT_BOUNDS {
        asked = asked.max(fields.number(name)?);
    }
    let most = most_output(asked, limits).map(|most| most.saturating_mul(answers));
    let likely = LIKELY_OUTPUT.saturating_mul(answers);
    let output = most.map_or(likely, |most| if asked.is_some() { most } else { most.min(likely) });
    Ok(Bound { input, output, most_input, most_output: most })
}

/// The bound of a call of so many bytes that is forwarded without being understood: nothing bounds
/// its output.
pub(crate) fn opaque(bytes: u64) -> Bound {
    let input = likely_input(usize::try_from(bytes).unwrap_or(usize::MAX));
    Bound { input, output: 0, most_input: LARGEST_INPUT, most_output: None }
}

/// Input tokens that are likely in a body of so many bytes.
pub(crate) fn likely_input(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(2).div_ceil(7)
}

/// Tokens of a picture, a sound or a file: what providers count for a large picture.
const ATTACHED: u64 = 1_000;
/// The shortest text, in bytes, that is looked at for what it carries.
const SHORTEST_ATTACHED: usize = 1 << 10;
/// The kind of a data URL is told within so many bytes.
const DATA_URL: usize = 128;

/// Input tokens that are likely in a JSON body: what it carries as base64 (pictures, sounds, files) is
/// no text, whatever its length.
pub(crate) fn likely_content(body: &[u8]) -> u64 {
    let (mut texts, mut attached) = (body.len(), 0);
    let (mut start, mut before) = (0, [&b""[..]; 2]);
    for quote in memchr_iter(b'"', body) {
        let piece = &body[start..quote];
        if piece.len() >= SHORTEST_ATTACHED
            && (before[0] == b"data" || memmem::find(&piece[..DATA_URL], b";base64,").is_some())
        {
            texts -= piece.len();
            attached += ATTACHED;
        }
        (start, before) = (quote + 1, [before[1], piece]);
    }
    likely_input(texts) + attached
}

/// What is asked for, but not beyond what the model can.
fn most_output(asked: Option<u64>, limits: ModelLimits) -> Option<u64> {
    match (asked, limits.max_output) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    }
}

/// Whether the input may hold more tokens than bytes: pictures, films and files by their address,
/// and what a search brings. Looks at what stands around each `_` and `\`.
fn refers_elsewhere(body: &[u8]) -> bool {
    static FILE_ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("fileid:"));
    memchr2_iter(b'_', b'\\', body).any(|at| match body[at] {
        b'_' => is_sign(&body[..at], &body[at + 1..]),
        _ => hides_a_letter(&body[at + 1..]),
    }) || FILE_ID.find(body).is_some()
}

fn is_sign(before: &[u8], after: &[u8]) -> bool {
    const SIGNS: [(&[u8], &[u8]); 5] = [
        (b"", b"url\""),
        (b"file", b"id"),
        (b"input", b"image"),
        (b"web", b"search"),
        (b"enable", b"search"),
    ];
    SIGNS.iter().any(|(left, right)| after.starts_with(right) && before.ends_with(left))
}

/// Whether an escape stands for what a name could be written with. Nobody does that but to hide it.
fn hides_a_letter(escape: &[u8]) -> bool {
    match escape.strip_prefix(b"u00").and_then(|code| code.get(..2)) {
        Some(b"60" | b"5c" | b"5C" | b"7f" | b"7F") | None => false,
        Some(code) => (b'4'..=b'7').contains(&code[0]),
    }
}

/// The fields of a request as they are sent: what the client wrote, under the edits of the route.
struct Fields<'f> {
    envelope: &'f Envelope<'f>,
    edits: &'f EditPlan,
}

impl<'f> Fields<'f> {
    fn get(&self, name: &str) -> Result<Option<Value<'f>>, Duplicate> {
        let text = match self.edits.sent(name) {
            Sent::Client => return self.envelope.get(name),
            Sent::Nothing => return Ok(None),
            Sent::Always(text) => text,
            Sent::Otherwise(text) => match self.envelope.get(name)? {
                None => text,
                written => return Ok(written),
            },
        };
        Ok(Value::parse(text.as_bytes()))
    }

    /// A number above zero, also with a fraction, an exponent or in quotes: there are providers
    /// that take it. `None` if there is none.
    fn number(&self, name: &str) -> Result<Option<u64>, Duplicate> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        let text = match value.kind() {
            Kind::Number => std::str::from_utf8(value.raw()).ok().map(Cow::Borrowed),
            Kind::String => value.as_str(),
            _ => None,
        };
        let Some(text) = text else { return Ok(None) };
        let whole = text.trim().parse().ok().or_else(|| {
            let number = text.trim().parse::<f64>().ok()?.ceil();
            // No `f64` above that converts exactly, and none is meant.
            (number > 0.0).then(|| format!("{number:.0}").parse().unwrap_or(u64::MAX))
        });
        Ok(whole.filter(|number| *number > 0))
    }

    /// How many prompts a completion has: each is answered.
    fn prompts(&self) -> Result<u64, Duplicate> {
        let prompt = self.get("prompt")?.filter(|value| value.kind() == Kind::Array);
        let Some(prompt) = prompt else { return Ok(1) };
        // A list of numbers is one prompt, in tokens.
        let first = prompt.raw()[1..].trim_ascii_start().first();
        let list = match first {
            Some(b'"' | b'[') => serde_json::from_slice::<Vec<IgnoredAny>>(prompt.raw()).ok(),
            _ => None,
        };
        Ok(list.map_or(1, |list| list.len() as u64).max(1))
    }
}

/// Output tokens in a piece of streamed text: providers send one token at a time, or several.
pub(crate) fn tokens_of_text(bytes: usize) -> u64 {
    match bytes {
        0 => 0,
        1..=16 => 1,
        _ => (bytes as u64).div_ceil(4),
    }
}
