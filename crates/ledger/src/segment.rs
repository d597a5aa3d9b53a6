//! The form of a segment file: a header, then records one behind the other.
//!
//! ```text
//! header   "magpie-j"  version u16  zero u16  salt u32  crc32 u32        20 bytes
//! record   length u32  crc32 u32  kind u8  id [16]  attempt u16  at_ms u64  rest
//! ```
//!
//! Numbers are little endian; the length counts from the kind on. The rest is in postcard's form:
//! of an opening its [`Head`] and then its [`Names`], of a closing its [`Ending`] and then the
//! lines of its bill, of feedback its [`Opinion`]. Whoever ships a record finds the names by their
//! bytes, and takes a closing's rest as it is.
//!
//! Version 1 had no feedback, and is read as well.
//!
//! The checksum covers the salt, the length and everything behind it, so that neither a torn
//! record, nor a flipped bit, nor a record left over from another file is taken for a good one.

use crc32fast::Hasher;
use postcard::take_from_bytes;
use serde::{Deserialize, Serialize};

use crate::record::{
    Amount, Bill, Closing, Feedback, Line, Opening, Provenance, RequestId, Tokens, Who,
};

/// The form written by this version.
const VERSION: u16 = 2;
/// The first version, whose records are among those of this one.
const FIRST_VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"magpie-j";
/// Bytes of the header.
pub(crate) const HEADER: usize = 20;
/// Bytes in front of a record's content.
const FRAME: usize = 8;
/// Bytes of what every record's content begins with.
const PREFIX: usize = 27;
/// Bytes of the longest record's content. Names are clipped, so real ones stay far below.
const MAX_CONTENT: usize = 16 << 10;
/// Bytes of the longest record.
pub(crate) const MAX_RECORD: usize = FRAME + MAX_CONTENT;
/// Bytes of the longest name that is kept; a model's name may come from a client.
const MAX_NAME: usize = 200;

const OPENING: u8 = 1;
const CLOSING: u8 = 2;
const FEEDBACK: u8 = 3;
/// Bytes of the longest comment that is kept.
const MAX_COMMENT: usize = 1000;

/// One record, as found in a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Record<'a> {
    pub(crate) id: RequestId,
    pub(crate) attempt: u16,
    pub(crate) at_ms: u64,
    pub(crate) rest: Rest<'a>,
}

/// What the kinds of records differ in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rest<'a> {
    /// And its names, as they are written.
    Opening(Head<'a>, &'a [u8]),
    /// And the same with the lines of the bill, as they are written.
    Closing(Ending<'a>, &'a [u8]),
    /// What a caller thinks of an answer.
    Feedback(Opinion<'a>),
}

/// What an opening says but for names.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    pub(crate) stream: bool,
    pub(crate) input_estimate: u64,
    pub(crate) max_output: Option<u64>,
    #[serde(borrow)]
    pub(crate) reserved: Option<Amount<'a>>,
}

/// The names of an opening.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Names<'a> {
    #[serde(borrow)]
    pub(crate) who: Who<'a>,
    pub(crate) operation: &'a str,
    pub(crate) model: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) upstream_model: &'a str,
}

/// What feedback says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opinion<'a> {
    pub(crate) ended_ms: u64,
    pub(crate) label: &'a str,
    pub(crate) score: f64,
    pub(crate) comment: Option<&'a str>,
}

/// What a closing says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ending<'a> {
    pub(crate) last_of: Option<u16>,
    pub(crate) status: u16,
    pub(crate) outcome: &'a str,
    pub(crate) fault: Option<&'a str>,
    pub(crate) tokens: Tokens,
    pub(crate) provenance: Provenance,
    #[serde(borrow)]
    pub(crate) bill: Bill<'a>,
    pub(crate) first_event_us: Option<u64>,
    pub(crate) total_us: u64,
    pub(crate) overhead_us: u64,
    pub(crate) events: u64,
}

impl Ending<'_> {
    /// Whether it counts as an error.
    pub(crate) fn is_error(&self) -> bool {
        self.fault.is_some() || self.status >= 400
    }
}

/// The header of a segment with this salt.
pub(crate) fn header(salt: u32) -> [u8; HEADER] {
    header_of(VERSION, salt)
}

fn header_of(version: u16, salt: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..10].copy_from_slice(&version.to_le_bytes());
    header[12..16].copy_from_slice(&salt.to_le_bytes());
    let sum = crc32fast::hash(&header[..16]);
    header[16..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// What the beginning of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// A segment with this salt.
    Good(u32),
    /// A segment of a version that is not known here.
    Foreign,
    /// No segment, or a damaged one.
    Bad,
}

/// Reads the beginning of a file.
pub(crate) fn read_header(bytes: &[u8]) -> Header {
    let Some(given) = bytes.first_chunk::<HEADER>() else { return Header::Bad };
    let salt = number(&given[12..]).unwrap_or_default();
    if (FIRST_VERSION..=VERSION).any(|version| *given == header_of(version, salt)) {
        return Header::Good(salt);
    }
    let is_whole = number(&given[16..]) == Some(crc32fast::hash(&given[..16]));
    if is_whole && given.starts_with(MAGIC) { Header::Foreign } else { Header::Bad }
}

/// Writes an opening record into `buffer` and says how long it is. `None` if it is too long.
pub(crate) fn put_opening(buffer: &mut [u8], salt: u32, opening: &Opening<'_>) -> Option<usize> {
    let head = Head {
        stream: opening.stream,
        input_estimate: opening.input_estimate,
        max_output: opening.max_output,
        reserved: opening.reserved,
    };
    let who = opening.who;
    let names = Names {
        who: Who {
            key: who.key.map(clip),
            user: who.user.map(clip),
            team: who.team.map(clip),
            org: who.org.map(clip),
        },
        operation: clip(opening.operation),
        model: clip(opening.model),
        provider: clip(opening.provider),
        upstream_model: clip(opening.upstream_model),
    };
    let content = buffer.get_mut(FRAME..)?;
    let mut length = prefix(content, OPENING, opening.id, opening.attempt, opening.at_ms)?;
    length += postcard::to_slice(&head, &mut content[length..]).ok()?.len();
    length += postcard::to_slice(&names, &mut content[length..]).ok()?.len();
    frame(buffer, salt, length)
}

/// Writes a closing record into `buffer` and says how long it is. `None` if it is too long.
pub(crate) fn put_closing(buffer: &mut [u8], salt: u32, closing: &Closing<'_>) -> Option<usize> {
    let content = buffer.get_mut(FRAME..)?;
    let mut length = prefix(content, CLOSING, closing.id, closing.attempt, closing.at_ms)?;
    length += put_ending(&mut content[length..], closing)?;
    frame(buffer, salt, length)
}

/// Writes feedback into `buffer` and says how long it is. `None` if it is too long.
pub(crate) fn put_feedback(buffer: &mut [u8], salt: u32, given: &Feedback<'_>) -> Option<usize> {
    let opinion = Opinion {
        ended_ms: given.ended_ms,
        label: clip(given.label),
        score: given.score,
        comment: given.comment.map(|comment| cut(comment, MAX_COMMENT)),
    };
    let content = buffer.get_mut(FRAME..)?;
    let mut length = prefix(content, FEEDBACK, given.id, 0, given.at_ms)?;
    length += postcard::to_slice(&opinion, &mut content[length..]).ok()?.len();
    frame(buffer, salt, length)
}

/// Writes what a closing says, with the lines of the bill, and says how long that is.
pub(crate) fn put_ending(buffer: &mut [u8], closing: &Closing<'_>) -> Option<usize> {
    let ending = Ending {
        last_of: closing.last_of,
        status: closing.status,
        outcome: clip(closing.outcome),
        fault: closing.fault.map(clip),
        tokens: closing.tokens,
        provenance: closing.provenance,
        bill: closing.bill,
        first_event_us: closing.first_event_us,
        total_us: closing.total_us,
        overhead_us: closing.overhead_us,
        events: closing.events,
    };
    let length = postcard::to_slice(&ending, buffer).ok()?.len();
    Some(length + postcard::to_slice(closing.lines, &mut buffer[length..]).ok()?.len())
}

/// Reads what a closing says; the lines of the bill are left.
pub(crate) fn ending(bytes: &[u8]) -> Option<(Ending<'_>, &[u8])> {
    take_from_bytes(bytes).ok()
}

/// Reads the names of an opening.
pub(crate) fn names(bytes: &[u8]) -> Names<'_> {
    postcard::from_bytes(bytes).unwrap_or_default()
}

/// Takes a bill's lines apart. Nothing if they are not lines.
pub(crate) fn lines(bytes: &[u8]) -> Vec<Line<'_>> {
    postcard::from_bytes(bytes).unwrap_or_default()
}

/// Writes what every content begins with.
fn prefix(content: &mut [u8], kind: u8, id: RequestId, attempt: u16, at_ms: u64) -> Option<usize> {
    let prefix: &mut [u8; PREFIX] = content.first_chunk_mut()?;
    prefix[0] = kind;
    prefix[1..17].copy_from_slice(&id.0);
    prefix[17..19].copy_from_slice(&attempt.to_le_bytes());
    prefix[19..].copy_from_slice(&at_ms.to_le_bytes());
    Some(PREFIX)
}

/// Puts length and checksum in front of `length` bytes of content.
fn frame(buffer: &mut [u8], salt: u32, length: usize) -> Option<usize> {
    let stated = u32::try_from(length).ok().filter(|_| length <= MAX_CONTENT)?.to_le_bytes();
    let sum = checksum(salt, &stated, &buffer[FRAME..FRAME + length]);
    buffer[..4].copy_from_slice(&stated);
    buffer[4..8].copy_from_slice(&sum.to_le_bytes());
    Some(FRAME + length)
}

/// Reads the record at the beginning of `bytes`, if there is a good one, and says how long it is.
pub(crate) fn take(bytes: &[u8], salt: u32) -> Option<(Record<'_>, usize)> {
    let content = content(bytes, salt)?;
    Some((decode(content)?, FRAME + content.len()))
}

/// How many bytes from here the next good record begins.
pub(crate) fn next_good(bytes: &[u8], salt: u32) -> Option<usize> {
    (0..bytes.len().saturating_sub(FRAME)).find(|&at| content(&bytes[at..], salt).is_some())
}

fn content(bytes: &[u8], salt: u32) -> Option<&[u8]> {
    let length = number(bytes)? as usize;
    if !(1..=MAX_CONTENT).contains(&length) {
        return None;
    }
    let content = bytes.get(FRAME..FRAME + length)?;
    (number(&bytes[4..])? == checksum(salt, &bytes[..4], content)).then_some(content)
}

fn decode(content: &[u8]) -> Option<Record<'_>> {
    let (prefix, rest) = content.split_first_chunk::<PREFIX>()?;
    let rest = match prefix[0] {
        OPENING => {
            let (head, names) = take_from_bytes(rest).ok()?;
            Rest::Opening(head, names)
        }
        CLOSING => Rest::Closing(ending(rest)?.0, rest),
        FEEDBACK => Rest::Feedback(take_from_bytes(rest).ok()?.0),
        _ => return None,
    };
    Some(Record {
        id: RequestId(*prefix[1..].first_chunk()?),
        attempt: u16::from_le_bytes(*prefix[17..].first_chunk()?),
        at_ms: u64::from_le_bytes(*prefix[19..].first_chunk()?),
        rest,
    })
}

fn checksum(salt: u32, length: &[u8], content: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    hasher.update(length);
    hasher.update(content);
    hasher.finalize()
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// The beginning of a name, if it is longer than what is kept.
fn clip(name: &str) -> &str {
    cut(name, MAX_NAME)
}

/// The beginning of a text, of at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    match text.len() <= most {
        true => text,
        false => &text[..text.floor_char_boundary(most)],
    }
}

#[cfg(test)]
mod tests;
