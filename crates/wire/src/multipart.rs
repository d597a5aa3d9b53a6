//! Finding one field in a `multipart/form-data` body that is still arriving (RFC 7578).
//!
//! Uploads name their model in a form field. Only that field is looked for; file parts are skipped
//! without being read, and the bytes are forwarded as they came.

use std::ops::Range;

use memchr::memmem::{self, Finder};

/// Bytes of the head of a part, at the most, where a field is looked for a second time: it is held
/// until it is whole.
const LONGEST_HEAD: usize = 16 << 10;

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
    let finder = Finder::new(delimiter.as_bytes());
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
        let Some(head) = memmem::find(&body[at..], b"\r\n\r\n") else {
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

/// What comes of a form behind one of its fields, on its way through: whoever serves a form may go
/// by the last of two fields of a name, so the first is not to be relied on alone.
#[derive(Debug)]
pub struct Rest {
    delimiter: Finder<'static>,
    name: Box<str>,
    at: Place,
    /// What has come and is not decided yet: less than a delimiter, or a head that is not whole.
    held: Vec<u8>,
}

/// What stands next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The content of a part, up to a delimiter.
    Content,
    /// What follows a delimiter.
    Head,
    /// Nothing more that counts.
    End,
}

impl Rest {
    /// The rest of a form with this boundary, from the end of the field `name` on.
    #[must_use]
    pub fn behind(name: &str, boundary: &str) -> Self {
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        Self { delimiter, name: name.into(), at: Place::Content, held: Vec::new() }
    }

    /// Takes the bytes that come next. Says whether the field stands in them again, or cannot be
    /// told from a head of over 16 KiB. More lenient than [`find_field`] in what it takes for a
    /// part, for providers are.
    pub fn repeats(&mut self, data: &[u8]) -> bool {
        if self.at == Place::End {
            return false;
        }
        self.held.extend_from_slice(data);
        let mut from = 0;
        let repeats = loop {
            let left = &self.held[from..];
            match self.at {
                Place::Content => {
                    let longest = self.delimiter.needle().len();
                    let Some(found) = self.delimiter.find(left) else {
                        // All but what a delimiter may begin with is content.
                        from += left.len().saturating_sub(longest - 1);
                        break false;
                    };
                    from += found + longest;
                    self.at = Place::Head;
                }
                Place::Head if left.starts_with(b"--") => {
                    self.at = Place::End;
                    from = self.held.len();
                    break false;
                }
                Place::Head => {
                    let Some(head) = memmem::find(left, b"\r\n\r\n") else {
                        break left.len() > LONGEST_HEAD;
                    };
                    if head > LONGEST_HEAD || is_field(&left[..head], &self.name) {
                        break true;
                    }
                    // An empty part may share its line end with the head.
                    from += head + 2;
                    self.at = Place::Content;
                }
                Place::End => break false,
            }
        };
        self.held.drain(..from);
        repeats
    }
}

/// Whether a part's header block names the field.
fn is_field(head: &[u8], name: &str) -> bool {
    // What is no UTF-8, such as the name of a file, must not hide the name of the field.
    let head = String::from_utf8_lossy(head);
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
