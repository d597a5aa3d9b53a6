//! Server-sent events, however the bytes were cut.
//!
//! [`Framer`] answers one question for bytes on their way through: up to where do they hold whole
//! events? [`events`] then walks those events. Neither copies; the rules are those of the HTML
//! standard (section 9.2.6): lines end with LF, CR or CRLF, a blank line ends an event, a line
//! that begins with a colon is a comment.

use std::borrow::Cow;

/// Follows a stream of bytes and knows where the last whole event ended.
#[derive(Debug, Default)]
pub struct Framer {
    /// The line that is being read has bytes already.
    line_has_bytes: bool,
    /// The last byte was CR, so an LF that follows belongs to the same line end.
    after_cr: bool,
    /// The last line end was that of a blank line.
    blank: bool,
    /// Bytes of an event have come, but not the blank line that ends it.
    in_event: bool,
}

impl Framer {
    /// The number of leading bytes of `chunk` that complete events. What is behind them is the
    /// beginning of an event under way: keep it, and give only what comes after it next time.
    pub fn complete(&mut self, chunk: &[u8]) -> usize {
        let mut at = usize::from(self.after_cr && chunk.first() == Some(&b'\n'));
        let mut complete = if self.blank { at } else { 0 };
        self.after_cr &= chunk.is_empty();
        while let Some(found) = memchr::memchr2(b'\n', b'\r', &chunk[at..]) {
            let end = at + found;
            self.blank = found == 0 && !self.line_has_bytes;
            self.line_has_bytes = false;
            at = end + 1;
            if chunk[end] == b'\r' {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if self.blank {
                complete = at;
            }
        }
        self.line_has_bytes |= at < chunk.len();
        self.in_event = complete < chunk.len() || (self.in_event && complete == 0);
        complete
    }

    /// Whether the bytes so far end between events.
    #[must_use]
    pub fn between_events(&self) -> bool {
        !self.in_event
    }
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'b> {
    /// The `event:` field, empty if there is none.
    pub name: &'b [u8],
    /// The `data:` lines joined by LF; `None` for an event without any (comments only).
    pub data: Option<Cow<'b, [u8]>>,
    /// A line of it is nothing that server-sent events know: perhaps they are none.
    pub odd: bool,
    /// The place of the whole event in the bytes given, its blank line included.
    pub span: (usize, usize),
}

/// Walks the events of `bytes`. A last event without a blank line behind it is given too: whether
/// it is whole is for [`Framer`] to say.
pub fn events(bytes: &[u8]) -> impl Iterator<Item = Event<'_>> {
    Events { bytes, at: 0 }
}

struct Events<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Iterator for Events<'b> {
    type Item = Event<'b>;

    fn next(&mut self) -> Option<Event<'b>> {
        let start = self.at;
        let mut event = Event { name: b"", data: None, odd: false, span: (start, start) };
        let mut any = false;
        while self.at < self.bytes.len() {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            read_line(if start == 0 && !any { strip_bom(line) } else { line }, &mut event);
            any = true;
        }
        event.span.1 = self.at;
        (any || self.at > start).then_some(event)
    }
}

impl<'b> Events<'b> {
    /// The next line without its end, moving past both.
    fn line(&mut self) -> &'b [u8] {
        let rest = &self.bytes[self.at..];
        let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let ending = match &rest[length..] {
            [b'\r', b'\n', ..] => 2,
            [_, ..] => 1,
            [] => 0,
        };
        self.at += length + ending;
        &rest[..length]
    }
}

/// A byte order mark may stand before the first line of a stream.
fn strip_bom(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
}

fn read_line<'b>(line: &'b [u8], event: &mut Event<'b>) {
    let (field, value) = match memchr::memchr(b':', line) {
        Some(colon) => (&line[..colon], &line[colon + 1..]),
        None => (line, &line[..0]),
    };
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match field {
        b"data" => {
            event.data = Some(match event.data.take() {
                None => Cow::Borrowed(value),
                Some(before) => {
                    let mut joined = before.into_owned();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                    Cow::Owned(joined)
                }
            });
        }
        b"event" => event.name = value,
        b"" | b"id" | b"retry" => {}
        _ => event.odd = true,
    }
}
