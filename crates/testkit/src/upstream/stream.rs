//! Playing a stream of events onto a connection, well-formed or broken.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use tokio::time::Instant;

use super::peer::{Left, Peer};
use super::record::Ticket;
use super::render::{STAMP, STAMP_MARK};
use super::reply::{After, head_bytes};
use super::shape::Event;

/// Events without a pause between them are written together up to this size.
const BATCH: usize = 16 << 10;

/// One step of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Event(Event),
    /// Bytes as they are, not counted as an event.
    Raw(Vec<u8>),
    Pause(Duration),
    /// So many bytes of content as fast as the socket takes them.
    Flood {
        event: Event,
        bytes: u64,
    },
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The last chunk, then the next request.
    Complete,
    /// FIN without the last chunk.
    Cut,
    /// RST without the last chunk.
    Reset,
    /// Nothing more, until the peer leaves.
    Silence,
}

/// How events are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) line_end: &'static str,
    /// A space behind the colon of `data:`.
    pub(crate) space: bool,
    /// Comments and blank lines before every event.
    pub(crate) comments: bool,
    /// The time of sending is written into the events.
    pub(crate) timed: bool,
    /// Every so many bytes are a chunk and a write of their own.
    pub(crate) split: Option<usize>,
    /// The time between two pieces of `split`.
    pub(crate) drip: Option<Duration>,
}

impl Default for Style {
    fn default() -> Self {
        Self { line_end: "\n", space: true, comments: false, timed: false, split: None, drip: None }
    }
}

/// A whole streamed reply.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) steps: Vec<Step>,
    pub(crate) ending: Ending,
    pub(crate) style: Style,
    /// Close the connection afterwards without having announced it.
    pub(crate) close: bool,
}

impl Plan {
    pub(crate) fn new(steps: Vec<Step>, ending: Ending) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            steps,
            ending,
            style: Style::default(),
            close: false,
        }
    }
}

impl Style {
    /// Appends one event.
    pub(crate) fn write(&self, out: &mut Vec<u8>, event: &Event) {
        let end = self.line_end;
        if self.comments {
            let _ = write!(out, ": keep-alive{end}{end}{end}");
        }
        let space = if self.space { " " } else { "" };
        if let Some(name) = event.name {
            let _ = write!(out, "event:{space}{name}{end}");
        }
        let _ = write!(out, "data:{space}{}{end}{end}", event.data);
    }
}

/// Overwrites the places for the time of sending with the time in ns since 1970.
pub(crate) fn stamp(bytes: &mut [u8]) {
    let mark = format!("{STAMP_MARK}{STAMP}{STAMP_MARK}");
    let places: Vec<usize> = memmem::find_iter(bytes, mark.as_bytes()).collect();
    for at in places {
        stamp_at(&mut bytes[at + 1..]);
    }
}

/// Overwrites the digits at the start of `bytes` with the time in ns since 1970.
pub(crate) fn stamp_at(bytes: &mut [u8]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let _ = write!(&mut bytes[..STAMP.len()], "{now:0width$}", width = STAMP.len());
}

/// Appends `bytes` as one chunk of the chunked coding.
pub(crate) fn write_chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        let _ = write!(out, "{:x}\r\n", bytes.len());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }
}

/// Plays a stream. The peer comes back when the connection can take another request.
pub(crate) async fn play(
    mut peer: Peer,
    plan: &Plan,
    ticket: &Ticket,
    after: After,
) -> Option<Peer> {
    let mut out = head_bytes(plan.status, &plan.headers, None);
    let sent = if plan.style.split.is_some() {
        play_pieces(&mut peer, plan, ticket, &out).await
    } else {
        play_steps(&mut peer, plan, ticket, &mut out).await
    };
    if sent.is_err() {
        ticket.left();
        return None;
    }
    match plan.ending {
        Ending::Complete => {
            let after = if plan.close { After::Close } else { after };
            after.apply(peer).await
        }
        Ending::Cut => {
            peer.close(false).await;
            None
        }
        Ending::Reset => {
            peer.reset().await;
            None
        }
        Ending::Silence => {
            peer.until_left().await;
            ticket.left();
            None
        }
    }
}

/// Writes the events in pieces of a fixed size, each a chunk and a write of its own.
async fn play_pieces(
    peer: &mut Peer,
    plan: &Plan,
    ticket: &Ticket,
    head: &[u8],
) -> Result<(), Left> {
    let mut body = Vec::new();
    let mut events = 0;
    for step in &plan.steps {
        match step {
            Step::Event(event) => {
                plan.style.write(&mut body, event);
                events += 1;
            }
            Step::Raw(bytes) => body.extend_from_slice(bytes),
            Step::Pause(_) | Step::Flood { .. } => {}
        }
    }
    peer.send(head).await?;
    let mut due = Instant::now();
    for piece in body.chunks(plan.style.split.unwrap_or(1)) {
        let mut frame = Vec::with_capacity(piece.len() + 8);
        write_chunk(&mut frame, piece);
        peer.send(&frame).await?;
        match plan.style.drip {
            Some(delay) => {
                due += delay;
                peer.wait(due).await?;
            }
            None => peer.breathe().await?,
        }
    }
    ticket.sends(events);
    if plan.ending != Ending::Silence {
        ticket.finishes();
    }
    if plan.ending == Ending::Complete {
        peer.send(b"0\r\n\r\n").await?;
    }
    Ok(())
}

/// Writes the events one chunk each; those without a pause between them go out together.
async fn play_steps(
    peer: &mut Peer,
    plan: &Plan,
    ticket: &Ticket,
    out: &mut Vec<u8>,
) -> Result<(), Left> {
    let mut due = Instant::now();
    let mut waiting = 0;
    let mut text = Vec::new();
    for step in &plan.steps {
        match step {
            Step::Event(event) => {
                text.clear();
                plan.style.write(&mut text, event);
                if plan.style.timed {
                    stamp(&mut text);
                }
                write_chunk(out, &text);
                waiting += 1;
            }
            Step::Raw(bytes) => write_chunk(out, bytes),
            Step::Pause(delay) => {
                flush(peer, ticket, out, &mut waiting).await?;
                due += *delay;
                peer.wait(due).await?;
            }
            Step::Flood { event, bytes } => {
                flush(peer, ticket, out, &mut waiting).await?;
                flood(peer, plan.style, ticket, event, *bytes).await?;
            }
        }
        if out.len() >= BATCH {
            flush(peer, ticket, out, &mut waiting).await?;
        }
    }
    if plan.ending == Ending::Complete {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    if plan.ending != Ending::Silence {
        ticket.finishes();
    }
    flush(peer, ticket, out, &mut waiting).await
}

async fn flush(
    peer: &mut Peer,
    ticket: &Ticket,
    out: &mut Vec<u8>,
    waiting: &mut usize,
) -> Result<(), Left> {
    let count = std::mem::take(waiting);
    ticket.sends(count);
    let sent = peer.send(out).await;
    if sent.is_err() {
        ticket.unsent(count);
    }
    out.clear();
    sent
}

/// Repeats an event until it makes up `bytes`, in blocks of about 64 KiB.
async fn flood(
    peer: &mut Peer,
    style: Style,
    ticket: &Ticket,
    event: &Event,
    bytes: u64,
) -> Result<(), Left> {
    let mut text = Vec::new();
    style.write(&mut text, event);
    let mut chunk = Vec::new();
    write_chunk(&mut chunk, &text);
    let count = (64 << 10) / chunk.len().max(1) + 1;
    let block = chunk.repeat(count);
    let mut left = bytes;
    while left > 0 {
        ticket.sends(count);
        if let Err(left) = peer.send(&block).await {
            ticket.unsent(count);
            return Err(left);
        }
        left = left.saturating_sub(block.len() as u64);
    }
    Ok(())
}
