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
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        let fits = (1..=70).contains(&value.len());
        (name.trim().eq_ignore_ascii_case("boundary") && fits).then_some(value)
    })
}

/// Looks for the value of the form field `name` in the bytes received so far.
#[must_use]
pub fn find_field(body: &[u8], boundary: &str, name: &str) -> Search {
    let delimiter = format!("--{boundary}");
    let finder = memchr::memmem::Finder::new(delimiter.as_bytes());
    let mut at = match finder.find(body) {
        Some(found) => found + delimiter.len(),
        None => return Search::NeedMore,
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
        let Some(found) = finder.find(&body[value_start..]) else { return Search::NeedMore };
        let next = value_start + found;
        if is_field(&body[at..at + head], name) {
            return Search::Found(value_start..next.saturating_sub(2).max(value_start));
        }
        at = next + delimiter.len();
    }
}

/// Whether a part's header block names the field.
fn is_field(head: &[u8], name: &str) -> bool {
    let Ok(head) = std::str::from_utf8(head) else { return false };
    head.split("\r\n").any(|line| {
        let Some((header, value)) = line.split_once(':') else { return false };
        header.trim().eq_ignore_ascii_case("content-disposition")
            && value.split(';').skip(1).any(|parameter| {
                parameter.split_once('=').is_some_and(|(key, text)| {
                    key.trim().eq_ignore_ascii_case("name") && text.trim().trim_matches('"') == name
                })
            })
    })
}
