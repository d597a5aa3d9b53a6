//! Taking the chunked coding off a body and finding the events in it, piece by piece.

use std::time::{SystemTime, UNIX_EPOCH};

use memchr::{memchr, memmem};

use crate::upstream::render::{STAMP, STAMP_MARK};

/// Where in the chunked coding a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a size line; the size so far.
    Size(usize),
    /// In the rest of a size line.
    Extension(usize),
    Data(usize),
    /// So many bytes of the CRLF behind the data are left.
    DataEnd(u8),
    /// In the trailers; whether the line has anything in it.
    Trailer(bool),
    Done,
}

/// Takes the chunked coding off.
#[derive(Debug)]
pub(crate) struct Dechunk(Place);

impl Default for Dechunk {
    fn default() -> Self {
        Self(Place::Size(0))
    }
}

impl Dechunk {
    pub(crate) fn done(&self) -> bool {
        self.0 == Place::Done
    }

    /// Hands the data in `bytes` to `take`; returns how many bytes belong to the body.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, String> {
        let mut at = 0;
        while at < bytes.len() && self.0 != Place::Done {
            if let Place::Data(left) = self.0 {
                let part = left.min(bytes.len() - at);
                take(&bytes[at..at + part]);
                at += part;
                self.0 = if part == left { Place::DataEnd(2) } else { Place::Data(left - part) };
                continue;
            }
            self.0 = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&self, byte: u8) -> Result<Place, String> {
        let sized = |size| {
            if size == 0 { Place::Trailer(false) } else { Place::Data(size) }
        };
        Ok(match (self.0, byte) {
            (Place::Size(size) | Place::Extension(size), b'\n') => sized(size),
            (Place::Size(size) | Place::Extension(size), b'\r') => Place::Extension(size),
            (Place::Size(size), byte) => match char::from(byte).to_digit(16) {
                Some(digit) if size < 1 << 40 => Place::Size(size * 16 + digit as usize),
                _ if byte == b';' => Place::Extension(size),
                _ => return Err(format!("byte {byte:#x} in a chunk size")),
            },
            (Place::Extension(size), _) => Place::Extension(size),
            (Place::DataEnd(2), b'\r') => Place::DataEnd(1),
            (Place::DataEnd(1), b'\n') => Place::Size(0),
            (Place::Trailer(false), b'\n') => Place::Done,
            (Place::Trailer(_), b'\n') => Place::Trailer(false),
            (Place::Trailer(some), b'\r') => Place::Trailer(some),
            (Place::Trailer(_), _) => Place::Trailer(true),
            (place, byte) => return Err(format!("byte {byte:#x} at {place:?}")),
        })
    }
}

/// Finds the events in the pieces of a body.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// A line that has not ended yet.
    carry: Vec<u8>,
    pub(crate) count: u64,
    /// `[DONE]` was the last event.
    pub(crate) done: bool,
}

impl Events {
    /// Looks through a piece; `delay` is told how long each timed event was on its way.
    pub(crate) fn push(&mut self, mut piece: &[u8], delay: &mut dyn FnMut(u64)) {
        let mut now = None;
        while let Some(end) = memchr(b'\n', piece) {
            let (line, rest) = piece.split_at(end);
            piece = &rest[1..];
            if self.carry.is_empty() {
                self.line(line, &mut now, delay);
            } else {
                let mut whole = std::mem::take(&mut self.carry);
                whole.extend_from_slice(line);
                self.line(&whole, &mut now, delay);
                whole.clear();
                self.carry = whole;
            }
        }
        self.carry.extend_from_slice(piece);
    }

    fn line(&mut self, line: &[u8], now: &mut Option<u64>, delay: &mut dyn FnMut(u64)) {
        let Some(data) = line.strip_prefix(b"data:") else {
            return;
        };
        self.count += 1;
        self.done = data.trim_ascii() == b"[DONE]";
        if let Some(sent) = stamp(data) {
            let now = *now.get_or_insert_with(nanos);
            delay(now.saturating_sub(sent));
        }
    }
}

/// The time of sending that an event carries.
fn stamp(data: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"content\":\"";
    let rest = &data[memmem::find(data, KEY)? + KEY.len()..];
    let digits = rest.strip_prefix(&[STAMP_MARK as u8])?.get(..STAMP.len())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let body =
            "b;x=1\r\ndata: {\"a\"}\r\n1\r\n\n\r\n10\r\n\ndata: [DONE]\n\nX\r\n0\r\nt: 1\r\n\r\n";
        for size in 1..=body.len() {
            let (mut dechunk, mut events) = (Dechunk::default(), Events::default());
            let mut text = Vec::new();
            for piece in body.as_bytes().chunks(size) {
                let take = &mut |data: &[u8]| {
                    text.extend_from_slice(data);
                    events.push(data, &mut |_| {});
                };
                assert_eq!(dechunk.push(piece, take).unwrap(), piece.len());
            }
            assert_eq!(text, b"data: {\"a\"}\n\ndata: [DONE]\n\nX");
            assert!(dechunk.done() && events.done);
            assert_eq!(events.count, 2);
        }
    }

    #[test]
    fn stamps_are_read() {
        let data = b" {\"delta\":{\"content\":\"@1700000000000000001@xx \"}}";
        assert_eq!(stamp(data), Some(1_700_000_000_000_000_001));
        assert_eq!(stamp(b" {\"content\":\"@nonsense\"}"), None);
    }
}
