//! Splicing: edits to a JSON object that leave every other byte alone.

use std::borrow::Cow;
use std::ops::Range;

use crate::envelope::Envelope;

/// One change to the top level of a JSON object. Values are JSON text, already encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit<'e> {
    /// The member gets this value, at each place if it stands more than once, so that no reader
    /// of the result can see another; it is added at the end if it is not there.
    Set {
        /// The member's name, plain (it is encoded on insertion).
        name: Cow<'e, str>,
        /// Its new value as JSON text.
        value: Cow<'e, str>,
    },
    /// The member goes, wherever it stands. Nothing happens if it is not there.
    Remove {
        /// The member's name.
        name: Cow<'e, str>,
    },
}

impl<'e> Edit<'e> {
    /// Sets a member to JSON text.
    pub fn set(name: impl Into<Cow<'e, str>>, value: impl Into<Cow<'e, str>>) -> Self {
        Self::Set { name: name.into(), value: value.into() }
    }

    /// Removes a member.
    pub fn remove(name: impl Into<Cow<'e, str>>) -> Self {
        Self::Remove { name: name.into() }
    }

    fn removed(&self) -> Option<&str> {
        match self {
            Self::Remove { name } => Some(name),
            Self::Set { .. } => None,
        }
    }
}

/// Text as a JSON string, quotes included.
#[must_use]
pub fn quoted(text: &str) -> String {
    // A `str` always has a JSON form, so the fallback is never taken.
    serde_json::to_string(text).unwrap_or_else(|_| String::from("\"\""))
}

/// Applies `edits` to the mapped body in one left-to-right copy. Each name may be edited once.
///
/// Every byte outside the edited members is copied as it stands; new members are added behind the
/// last one, in the order of `edits`.
#[must_use]
pub fn splice(envelope: &Envelope<'_>, edits: &[Edit<'_>]) -> Vec<u8> {
    let doomed: Vec<&str> = edits.iter().filter_map(Edit::removed).collect();
    let removals = envelope.removal_spans(&doomed);
    let first = envelope.len() == removals.len();
    let mut cuts: Vec<(Range<usize>, Cow<'_, str>)> =
        removals.into_iter().map(|span| (span, Cow::Borrowed(""))).collect();
    let mut added = String::new();
    for edit in edits {
        if let Edit::Set { name, value } = edit {
            let before = cuts.len();
            cuts.extend(envelope.value_spans(name).map(|span| (span, Cow::Borrowed(&**value))));
            if cuts.len() == before {
                append(&mut added, name, value);
            }
        }
    }
    if !added.is_empty() {
        let text = if first { added.split_off(1) } else { added };
        let point = envelope.insertion_point();
        cuts.push((point..point, Cow::Owned(text)));
    }
    apply(envelope.body(), cuts)
}

fn append(added: &mut String, name: &str, value: &str) {
    added.push(',');
    added.push_str(&quoted(name));
    added.push(':');
    added.push_str(value);
}

fn apply(body: &[u8], mut cuts: Vec<(Range<usize>, Cow<'_, str>)>) -> Vec<u8> {
    cuts.sort_by_key(|(span, _)| (span.start, span.end));
    let grown: usize = cuts.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut at = 0;
    for (span, text) in cuts {
        // Neighbouring removals may share a comma: never copy backwards.
        if span.start > at {
            out.extend_from_slice(&body[at..span.start]);
        }
        out.extend_from_slice(text.as_bytes());
        at = at.max(span.end);
    }
    out.extend_from_slice(&body[at..]);
    out
}
