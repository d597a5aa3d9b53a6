//! One connection of the load generator.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stream::{Dechunk, Events};

/// What came of one request.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) first_event: Option<Instant>,
    /// The connection takes another request.
    pub(crate) reusable: bool,
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buf: BytesMut,
    /// How much is read at once.
    room: usize,
}

/// The head of a reply.
struct Head {
    length: usize,
    status: u16,
    /// The length of the body; `None` for a chunked one.
    body: Option<usize>,
    reusable: bool,
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut slots);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("not a reply: {error}")),
    };
    let status = response.code.unwrap_or_default();
    let mut head = Head { length, status, body: None, reusable: true };
    let mut chunked = false;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            head.body = Some(text.trim().parse().map_err(|_| "a bad content-length")?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = header.value.eq_ignore_ascii_case(b"chunked");
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.reusable = !header.value.eq_ignore_ascii_case(b"close");
        }
    }
    if head.body.is_none() && !chunked {
        return Err("a reply without framing".to_owned());
    }
    Ok(Some(head))
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, room: usize) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, buf: BytesMut::new(), room })
    }

    async fn fill(&mut self) -> Result<(), String> {
        self.buf.reserve(self.room);
        match self.stream.read_buf(&mut self.buf).await {
            Ok(0) => Err("the reply ended early".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("read: {error}")),
        }
    }

    /// Sends a request and reads its reply to the end. With `events` the reply must be a stream
    /// of exactly so many. `delay` is told how long each timed event was on its way.
    pub(crate) async fn exchange(
        &mut self,
        request: &[u8],
        events: Option<u64>,
        delay: &mut dyn FnMut(u64),
    ) -> Result<Done, String> {
        let sent = self.stream.write_all(request).await;
        sent.map_err(|error| format!("write: {error}"))?;
        let head = loop {
            if let Some(head) = parse(&self.buf)? {
                break head;
            }
            self.fill().await?;
        };
        let _ = self.buf.split_to(head.length);
        let mut done =
            Done { bytes: head.length as u64, reusable: head.reusable, ..Done::default() };
        let mut found = Events::default();
        match head.body {
            Some(length) => {
                while self.buf.len() < length {
                    self.fill().await?;
                }
                let body = self.buf.split_to(length);
                done.bytes += length as u64;
                if head.status != 200 {
                    let text = String::from_utf8_lossy(&body[..length.min(200)]).into_owned();
                    return Err(format!("status {}: {text}", head.status));
                }
                if events.is_some() {
                    found.push(&body, delay);
                }
            }
            None => self.read_chunks(&mut done, &mut found, delay).await?,
        }
        if head.status != 200 {
            return Err(format!("status {}", head.status));
        }
        done.events = found.count;
        match events {
            Some(wanted) if wanted != found.count || !found.done => Err(format!(
                "{} events instead of {wanted}, [DONE] last: {}",
                found.count, found.done
            )),
            _ => Ok(done),
        }
    }

    async fn read_chunks(
        &mut self,
        done: &mut Done,
        found: &mut Events,
        delay: &mut dyn FnMut(u64),
    ) -> Result<(), String> {
        let mut dechunk = Dechunk::default();
        loop {
            let used = dechunk.push(&self.buf, &mut |data| found.push(data, delay))?;
            done.bytes += used as u64;
            if used == self.buf.len() {
                self.buf.clear();
            } else {
                let _ = self.buf.split_to(used);
            }
            if done.first_event.is_none() && found.count > 0 {
                done.first_event = Some(Instant::now());
            }
            if dechunk.done() {
                return Ok(());
            }
            self.fill().await?;
        }
    }
}
