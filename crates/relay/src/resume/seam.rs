//! Where the stream of an attempt that goes on is joined to what the client has of the answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use memchr::memmem;
use wire::delta::{Delta, delta};
use wire::dialects::openai_chat::DONE;
use wire::splice::quoted;
use wire::sse::{Event, Framer, events};
use wire::{Edit, Envelope, Value, splice};

use super::said::{Identity, Said};
use crate::ports::{Failure, FailureKind};

/// Bytes of one event. A larger one is not taken for a part of the answer.
const LARGEST_EVENT: usize = 64 << 10;

/// A provider's stream, as the rest of an answer that was begun elsewhere. Its chunks bear the name of
/// the first answer; those before its first word are left out; so is what it repeats of what was said,
/// if the provider is known to do so. It fails if it does not begin like the rest of an answer.
pub(crate) struct Seam<B> {
    /// Bytes that were read already.
    begun: Bytes,
    body: B,
    framer: Framer,
    /// The beginning of an event under way.
    tail: BytesMut,
    joint: Joint,
    is_over: bool,
}

impl<B> Seam<B> {
    /// Joins a stream, of which some has come already, to what was said. `repeats` says whether it
    /// begins with that.
    pub(super) fn new(begun: Bytes, body: B, said: &Said, repeats: bool) -> Self {
        let repeated = repeats.then(|| said.text()).flatten().unwrap_or_default();
        let joint = Joint { identity: said.identity(), repeated, at: 0, has_begun: false };
        let begun = match begun.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) => begun.slice_ref(rest),
            None => begun,
        };
        Self {
            begun,
            body,
            framer: Framer::default(),
            tail: BytesMut::new(),
            joint,
            is_over: false,
        }
    }

    /// The part of new bytes that may leave now.
    fn take(&mut self, mut chunk: Bytes) -> Result<Bytes, Failure> {
        let complete = self.framer.complete(&chunk);
        let rest = chunk.split_off(complete);
        if complete > 0 && !self.tail.is_empty() {
            self.tail.extend_from_slice(&chunk);
            chunk = self.tail.split().freeze();
        }
        self.tail.extend_from_slice(&rest);
        if self.tail.len() > LARGEST_EVENT {
            return Err(no_rest("sent an event of more than 64 KiB"));
        }
        self.join(&chunk)
    }

    /// What is left once the provider's stream has ended: the last event may lack its blank line.
    fn last(&mut self) -> Result<Bytes, Failure> {
        let mut event = self.tail.split();
        if event.trim_ascii().is_empty() {
            return Ok(Bytes::new());
        }
        event.extend_from_slice(b"\n\n");
        self.join(&event.freeze())
    }

    fn join(&mut self, bytes: &Bytes) -> Result<Bytes, Failure> {
        edited(bytes, |event| self.joint.fate(event))
    }
}

impl<B> Body for Seam<B>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let seam = &mut *self;
        while !seam.is_over {
            let piece = match std::mem::take(&mut seam.begun) {
                begun if !begun.is_empty() => seam.take(begun),
                _ => match ready!(Pin::new(&mut seam.body).poll_frame(cx)) {
                    Some(Ok(frame)) => seam.take(frame.into_data().unwrap_or_default()),
                    Some(Err(failure)) => Err(failure),
                    None => {
                        seam.is_over = true;
                        seam.last()
                    }
                },
            };
            seam.is_over |= piece.is_err();
            match piece {
                Ok(data) if data.is_empty() => {}
                piece => return Poll::Ready(Some(piece.map(Frame::data))),
            }
        }
        Poll::Ready(None)
    }
}

/// How far the two parts are joined.
struct Joint {
    identity: Identity,
    /// What the provider has to repeat, and how much of it has come.
    repeated: String,
    at: usize,
    /// The rest of the answer has begun.
    has_begun: bool,
}

impl Joint {
    fn fate(&mut self, event: &Event<'_>) -> Result<Fate, Failure> {
        let Some(data) = &event.data else { return Ok(Fate::Keep) };
        if data.trim_ascii() == DONE {
            return if self.has_begun { Ok(Fate::Keep) } else { Err(no_rest("said nothing")) };
        }
        // What cannot be read, or is no chunk, is the tap's to judge.
        let Some(delta) = delta(data).ok().filter(|delta| delta.is_chunk) else {
            return Ok(Fate::Keep);
        };
        if self.has_begun || !delta.has_choice {
            return Ok(self.named(data));
        }
        if delta.reasons {
            return Err(no_rest("began to reason anew"));
        }
        if !delta.says_something() {
            return Ok(Fate::Drop);
        }
        match self.beginning(data, &delta)? {
            Some(data) => {
                self.has_begun = true;
                Ok(self.named(&data))
            }
            None => Ok(Fate::Drop),
        }
    }

    /// The first chunk that says something, without its role and what it repeats; `None` if it says
    /// nothing else.
    fn beginning(&mut self, data: &[u8], delta: &Delta) -> Result<Option<Vec<u8>>, Failure> {
        let mut edits = Vec::new();
        if delta.has_role {
            edits.push(Edit::remove("role"));
        }
        let due = &self.repeated[self.at..];
        if !due.is_empty() {
            let content = delta.content.clone().map_or(Some("".into()), |at| {
                Value::parse(&data[at]).and_then(|content| content.as_str())
            });
            let text = content.ok_or_else(|| no_rest("does not begin with what was said"))?;
            let same = due.len().min(text.len());
            if !due.as_bytes().starts_with(&text.as_bytes()[..same]) {
                return Err(no_rest("does not begin with what was said"));
            }
            self.at += same;
            // Both begin alike, so neither is cut inside a letter.
            let rest = text.get(same..).unwrap_or_default();
            let is_last = delta.finished || delta.says_more;
            if rest.is_empty() && !is_last {
                return Ok(None);
            }
            if self.at < self.repeated.len() {
                return Err(no_rest("does not begin with what was said"));
            }
            edits.push(Edit::set("content", quoted(rest)));
        }
        Ok(Some(delta.place.clone().map_or_else(
            || data.to_vec(),
            |place| match Envelope::scan(&data[place.clone()]) {
                Ok(envelope) if !edits.is_empty() => {
                    let inner = splice(&envelope, &edits);
                    [&data[..place.start], &inner, &data[place.end..]].concat()
                }
                _ => data.to_vec(),
            },
        )))
    }

    fn named(&self, data: &[u8]) -> Fate {
        self.identity.given_to(data).map_or(Fate::Keep, Fate::Data)
    }
}

/// The failure of a stream that is not the rest of the answer.
fn no_rest(what: &str) -> Failure {
    Failure::new(FailureKind::Protocol, format!("it should go on with the answer, and {what}"))
}

/// What becomes of an event.
pub(super) enum Fate {
    Keep,
    Drop,
    /// Its data is this, and the rest of it as it was.
    Data(Vec<u8>),
}

/// Whole events, each with its fate.
pub(super) fn edited<E>(
    bytes: &Bytes,
    mut fate: impl FnMut(&Event<'_>) -> Result<Fate, E>,
) -> Result<Bytes, E> {
    let mut out = BytesMut::new();
    let mut kept = 0;
    for event in events(bytes) {
        let (start, end) = event.span;
        match fate(&event)? {
            Fate::Keep => continue,
            Fate::Drop => out.extend_from_slice(&bytes[kept..start]),
            Fate::Data(data) => {
                out.extend_from_slice(&bytes[kept..start]);
                put(&mut out, &bytes[start..end], &event, &data);
            }
        }
        kept = end;
    }
    if kept == 0 {
        return Ok(bytes.clone());
    }
    out.extend_from_slice(&bytes[kept..]);
    Ok(out.freeze())
}

/// Writes an event with other data.
fn put(out: &mut BytesMut, event: &[u8], read: &Event<'_>, data: &[u8]) {
    let before = read.data.as_deref().unwrap_or_default();
    match memmem::rfind(event, before) {
        Some(at) => {
            out.extend_from_slice(&event[..at]);
            out.extend_from_slice(data);
            out.extend_from_slice(&event[at + before.len()..]);
        }
        // Its data stood on several lines.
        None => {
            out.extend_from_slice(b"data: ");
            out.extend(data.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
            out.extend_from_slice(b"\n\n");
        }
    }
}
