//! What one chunk of a chat stream adds to the answer, for whoever has to put an answer together
//! from two streams. A [glance](crate::reply::glance) is enough for all others.

use std::ops::Range;

use crate::envelope::Problem;
use crate::json::{Name, Scanner};
use crate::reply::{Unreadable, one_object};

/// A chunk of a chat stream, taken apart. Ranges are places in the data of its event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// It has the field `choices`, empty or not: it is a chunk.
    pub is_chunk: bool,
    /// It holds a choice.
    pub has_choice: bool,
    /// Where the object `delta` stands.
    pub place: Option<Range<usize>>,
    /// Where the text of the answer stands, quotes included.
    pub content: Option<Range<usize>>,
    /// It names the role.
    pub has_role: bool,
    /// It holds some of the model's reasoning.
    pub reasons: bool,
    /// It says what is neither text nor reasoning: a call, a refusal, probabilities, a second choice.
    pub says_more: bool,
    /// It says why the answer ends.
    pub finished: bool,
}

impl Delta {
    /// Whether text stands in it.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.content.as_ref().is_some_and(|content| content.len() > 2)
    }

    /// Whether it says something, and does not only name the role.
    #[must_use]
    pub fn says_something(&self) -> bool {
        self.has_text() || self.reasons || self.says_more || self.finished
    }
}

/// Takes one event's data apart.
///
/// # Errors
/// [`Unreadable`] if it is not one JSON object in UTF-8.
pub fn delta(data: &[u8]) -> Result<Delta, Unreadable> {
    let mut delta = Delta::default();
    one_object(data, |name, inner| match name.text(&mut String::new()) {
        b"choices" => {
            delta.is_chunk = true;
            read_choices(inner, &mut delta)
        }
        _ => inner.skip_value(1),
    })?;
    Ok(delta)
}

fn read_choices(scanner: &mut Scanner<'_>, delta: &mut Delta) -> Result<(), Problem> {
    if scanner.peek() != Some(b'[') {
        return scanner.skip_value(1);
    }
    scanner.elements(1, |inner| {
        delta.says_more |= delta.has_choice;
        delta.has_choice = true;
        if inner.peek() != Some(b'{') {
            delta.says_more = true;
            return inner.skip_value(2);
        }
        inner.members(2, |name, inner| read_choice(&name, inner, delta))
    })
}

fn read_choice(
    name: &Name<'_>,
    scanner: &mut Scanner<'_>,
    delta: &mut Delta,
) -> Result<(), Problem> {
    match name.text(&mut String::new()) {
        b"index" => delta.says_more |= scanner.value(3)? != b"0",
        b"logprobs" => delta.says_more |= says(scanner.value(3)?),
        // As in a glance: some relays write "" or "null" for "none".
        b"finish_reason" => {
            let reason = scanner.value(3)?;
            delta.finished |= !matches!(reason, b"null" | b"\"\"" | b"\"null\"");
        }
        b"delta" if scanner.peek() == Some(b'{') => {
            let start = scanner.at;
            delta.says_more |= delta.place.is_some();
            scanner.members(3, |name, inner| read_member(&name, inner, delta))?;
            delta.place = Some(start..scanner.at);
        }
        _ => scanner.skip_value(3)?,
    }
    Ok(())
}

fn read_member(
    name: &Name<'_>,
    scanner: &mut Scanner<'_>,
    delta: &mut Delta,
) -> Result<(), Problem> {
    let start = scanner.at;
    let value = scanner.value(4)?;
    match name.text(&mut String::new()) {
        b"role" => delta.has_role = true,
        b"content" if value.starts_with(b"\"") => {
            delta.says_more |= delta.content.is_some();
            delta.content = Some(start..scanner.at);
        }
        name if name.starts_with(b"reasoning") => delta.reasons |= says(value),
        _ => delta.says_more |= says(value),
    }
    Ok(())
}

/// Whether a value is more than a way to write "none".
fn says(value: &[u8]) -> bool {
    !matches!(value, b"null" | b"false" | b"\"\"" | b"[]" | b"{}")
}
