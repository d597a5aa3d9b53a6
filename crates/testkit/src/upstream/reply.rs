//! Replies that are not streams, and what happens to a connection after a reply.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::peer::{Left, Peer};
use super::record::Ticket;
use super::render::reason;
use super::stream::Ending;

/// What happens to the connection after a complete reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    KeepAlive,
    Close,
}

impl After {
    /// The peer again, unless the connection is closed.
    pub(crate) async fn apply(self, peer: Peer) -> Option<Peer> {
        match self {
            Self::KeepAlive => Some(peer),
            Self::Close => {
                peer.close(true).await;
                None
            }
        }
    }
}

/// How the bytes of a reply are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Whole,
    /// In pieces of so many bytes, with this time between them.
    Pieces(usize, Option<Duration>),
    /// Half of the body, then this ending.
    Half(Ending),
    /// Nothing of the body, then silence.
    HeadOnly,
}

/// A reply that is not a stream.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) manner: Manner,
    /// Close the connection afterwards without having announced it.
    pub(crate) close: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
            manner: Manner::Whole,
            close: false,
        }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn manner(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }
}

/// The head of a reply; without a length the body is chunked events.
pub(crate) fn head_bytes(
    status: u16,
    headers: &[(String, String)],
    length: Option<usize>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason(status));
    let given = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    for (name, value) in headers {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    match length {
        Some(length) => {
            let _ = write!(out, "content-length: {length}\r\n");
        }
        None => {
            if !given("content-type") {
                out.extend_from_slice(b"content-type: text/event-stream\r\n");
            }
            out.extend_from_slice(b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Writes a reply. The peer comes back when the connection can take another request.
pub(crate) async fn write(
    mut peer: Peer,
    reply: &Reply,
    ticket: &Ticket,
    after: After,
) -> Option<Peer> {
    let ending = match reply.manner {
        Manner::Whole | Manner::Pieces(..) => Ending::Complete,
        Manner::HeadOnly => Ending::Silence,
        Manner::Half(ending) => ending,
    };
    if ending != Ending::Silence {
        ticket.finishes();
    }
    if write_bytes(&mut peer, reply).await.is_err() {
        ticket.left();
        return None;
    }
    if ending == Ending::Silence {
        peer.until_left().await;
        ticket.left();
        return None;
    }
    match ending {
        Ending::Cut => peer.close(false).await,
        Ending::Reset => peer.reset().await,
        _ if reply.close => peer.close(true).await,
        _ => return after.apply(peer).await,
    }
    None
}

async fn write_bytes(peer: &mut Peer, reply: &Reply) -> Result<(), Left> {
    let length = if reply.status == 204 { None } else { Some(reply.body.len()) };
    let mut out = match length {
        Some(length) => head_bytes(reply.status, &reply.headers, Some(length)),
        None => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    };
    match reply.manner {
        Manner::HeadOnly => peer.send(&out).await,
        Manner::Half(_) => {
            out.extend_from_slice(&reply.body[..reply.body.len() / 2]);
            peer.send(&out).await
        }
        Manner::Whole if reply.body.len() <= 64 << 10 => {
            out.extend_from_slice(&reply.body);
            peer.send(&out).await
        }
        Manner::Whole => {
            peer.send(&out).await?;
            peer.send(&reply.body).await
        }
        Manner::Pieces(size, delay) => {
            peer.send(&out).await?;
            let mut due = Instant::now();
            for piece in reply.body.chunks(size.max(1)) {
                peer.send(piece).await?;
                match delay {
                    Some(delay) => {
                        due += delay;
                        peer.wait(due).await?;
                    }
                    None => peer.breathe().await?,
                }
            }
            Ok(())
        }
    }
}
