//! Finding one field in a `multipart/form-data` body that is still arriving (RFC 7578).
//!
//! Uploads name their model in a form field. Only that field is looked for; file parts are skipped
//! without being read, and the bytes are forwarded as they came.

use std::ops::Range;

/// How far the search has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// The field's value stands here.
    Found(Range<usize>),
    /// Not in the bytes so far: give more.
    NeedMore,
    /// The form has ended, or is no form: the field is not there.
    Absent,
}

/// The boundary named by a `multipart/form-data` content type.
#[must_use]
pub fn boundary(content_type: &str) -> Option<&str> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters(rest).find_map(|(name, value)| {
        let fits = (1..=70).contains(&value.len());
        (name.eq_ignore_ascii_case("boundary") && fits).then_some(value)
    })
}

/// Looks for the value of the form field `name` in the bytes received so far.
#[must_use]
pub fn find_field(body: &[u8], boundary: &str, name: &str) -> Search {
    // A delimiter stands at the beginning of a line: the same text inside one is content.
    let delimiter = format!("\r\n--{boundary}");
    let finder = memchr::memmem::Finder::new(delimiter.as_bytes());
    let mut at = if body.starts_with(&delimiter.as_bytes()[2..]) {
        delimiter.len() - 2
    } else if let Some(found) = finder.find(body) {
        found + delimiter.len()
    } else {
        return Search::NeedMore;
    };
    loop {
        match body.get(at..at + 2) {
            Some(b"--") => return Search::Absent,
            Some(b"\r\n") => {}
            Some(_) => return Search::Absent,
            None => return Search::NeedMore,
        }
        let Some(head) = memchr::memmem::find(&body[at..], b"\r\n\r\n") else {
            return Search::NeedMore;
        };
        let value_start = at + head + 4;
        // An empty part may share its line end with the head.
        let Some(found) = finder.find(&body[value_start - 2..]) else {
            return Search::NeedMore;
        };
        let next = value_start - 2 + found;
        if is_field(&body[at..at + head], name) {
            return Search::Found(value_start..next.max(value_start));
        }
        at = next + delimiter.len();
    }
}

/// Whether a part's header block names the field.
fn is_field(head: &[u8], name: &str) -> bool {
    let Ok(head) = std::str::from_utf8(head) else {
        return false;
    };
    head.split("\r\n").any(|line| {
        let Some((header, value)) = line.split_once(':') else {
            return false;
        };
        header.trim().eq_ignore_ascii_case("content-disposition")
            && parameters(value).any(|(key, text)| key.eq_ignore_ascii_case("name") && text == name)
    })
}

/// The `name=value` pairs of a header, quotes taken off. A semicolon inside quotes, as in a file's
/// name, separates nothing.
fn parameters(header: &str) -> impl Iterator<Item = (&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    let separates = move |c: char| {
        let separates = c == ';' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        separates
    };
    header.split(separates).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        Some((name.trim(), value.trim().trim_matches('"')))
    })
}
