//! What an answer says: the text of its first choice, piece by piece, and why it ended.
//!
//! Nothing on the way of a request needs this; it is for those who compare answers.

use std::borrow::Cow;

use crate::envelope::{Problem, Value};
use crate::json::Scanner;
use crate::reply::Unreadable;

/// What one event of a stream, or one whole reply, says in its first choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said<'b> {
    /// Its text in pieces, in their order: that of the answer, without its reasoning, and the names
    /// and arguments of the tools it calls. What is no valid text is left out.
    pub text: Vec<Cow<'b, str>>,
    /// Its `finish_reason`, if that says something.
    pub finish: Option<Cow<'b, str>>,
    /// Whether it calls tools.
    pub calls: bool,
}

/// Reads one event's data, or one whole reply, in the OpenAI dialect.
///
/// # Errors
/// [`Unreadable`] if it is not one JSON object in UTF-8.
pub fn said(data: &[u8]) -> Result<Said<'_>, Unreadable> {
    std::str::from_utf8(data).map_err(|_| Unreadable)?;
    let mut scanner = Scanner { bytes: data, at: 0 };
    scanner.skip_space();
    if scanner.peek() != Some(b'{') {
        return Err(Unreadable);
    }
    let mut said = Said::default();
    let walked = scanner.members(0, |name, inner| match name.raw {
        b"choices" if inner.peek() == Some(b'[') => {
            inner.elements(1, |inner| read_choice(inner, &mut said))
        }
        _ => inner.skip_value(1),
    });
    walked.map(|()| said).map_err(|_| Unreadable)
}

/// Reads a choice; only the one of index 0 says anything.
fn read_choice<'b>(scanner: &mut Scanner<'b>, said: &mut Said<'b>) -> Result<(), Problem> {
    if scanner.peek() != Some(b'{') {
        return scanner.skip_value(2);
    }
    let mut choice = Said::default();
    let mut is_first = true;
    scanner.members(2, |name, inner| match name.raw {
        b"index" => {
            is_first = matches!(inner.value(3)?, b"0" | b"null");
            Ok(())
        }
        b"finish_reason" => {
            let reason = text(inner, 3)?;
            choice.finish = reason.filter(|reason| !matches!(&**reason, "" | "null"));
            Ok(())
        }
        b"delta" | b"message" if inner.peek() == Some(b'{') => {
            inner.members(3, |name, inner| match name.raw {
                b"content" => read_content(inner, &mut choice.text),
                b"tool_calls" => {
                    let before = choice.text.len();
                    read_calls(inner, &mut choice.text)?;
                    choice.calls |= choice.text.len() > before;
                    Ok(())
                }
                _ => inner.skip_value(4),
            })
        }
        b"text" => {
            choice.text.extend(text(inner, 3)?);
            Ok(())
        }
        _ => inner.skip_value(3),
    })?;
    if is_first {
        said.text.append(&mut choice.text);
        said.finish = choice.finish.or(said.finish.take());
        said.calls |= choice.calls;
    }
    Ok(())
}

/// Reads `content`: a text, or a list of parts of which some are texts.
fn read_content<'b>(
    scanner: &mut Scanner<'b>,
    pieces: &mut Vec<Cow<'b, str>>,
) -> Result<(), Problem> {
    if scanner.peek() != Some(b'[') {
        pieces.extend(text(scanner, 4)?);
        return Ok(());
    }
    scanner.elements(4, |part| {
        if part.peek() != Some(b'{') {
            return part.skip_value(5);
        }
        part.members(5, |name, inner| {
            let piece = text(inner, 6)?;
            pieces.extend(piece.filter(|_| name.raw == b"text"));
            Ok(())
        })
    })
}

/// Reads `tool_calls`: the names and arguments of functions.
fn read_calls<'b>(
    scanner: &mut Scanner<'b>,
    pieces: &mut Vec<Cow<'b, str>>,
) -> Result<(), Problem> {
    if scanner.peek() != Some(b'[') {
        return scanner.skip_value(4);
    }
    scanner.elements(4, |call| {
        if call.peek() != Some(b'{') {
            return call.skip_value(5);
        }
        call.members(5, |name, inner| {
            if name.raw != b"function" || inner.peek() != Some(b'{') {
                return inner.skip_value(6);
            }
            inner.members(6, |name, inner| {
                let piece = text(inner, 7)?;
                pieces.extend(piece.filter(|_| matches!(name.raw, b"name" | b"arguments")));
                Ok(())
            })
        })
    })
}

/// Moves past a value. Its text, if it is one.
fn text<'b>(scanner: &mut Scanner<'b>, depth: u32) -> Result<Option<Cow<'b, str>>, Problem> {
    let raw = scanner.value(depth)?;
    Ok(Some(raw).filter(|raw| raw.starts_with(b"\"")).and_then(|raw| Value::parse(raw)?.as_str()))
}
