//! Reading one HTTP/1.1 request off a connection.

use bytes::{Bytes, BytesMut};

use super::peer::{Left, Peer};

/// The largest request head and the largest body that are taken.
const MAX_HEAD: usize = 256 << 10;
const MAX_BODY: usize = 1 << 30;
const MAX_HEADERS: usize = 128;

/// Why no request came out of a connection.
#[derive(Debug)]
pub(crate) enum NoRequest {
    /// The peer closed the connection.
    Closed,
    /// What arrived is not a request this server takes.
    Bad(&'static str),
}

impl From<Left> for NoRequest {
    fn from(_: Left) -> Self {
        Self::Closed
    }
}

/// How the body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// What the server needs of a request head to go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The bytes the head takes.
    pub(crate) length: usize,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    /// The peer waits for `100 Continue`.
    pub(crate) expects: bool,
    /// It is a POST of a chat completion.
    pub(crate) chat: bool,
}

/// A whole request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads until a whole head lies at the start of the peer's buffer.
pub(crate) async fn read_head(peer: &mut Peer) -> Result<Head, NoRequest> {
    loop {
        if let Some(head) = parse_head(&peer.buf)? {
            return Ok(head);
        }
        if peer.buf.len() > MAX_HEAD {
            return Err(NoRequest::Bad("the request head is too large"));
        }
        peer.fill(0).await?;
    }
}

/// Reads the head at the start of `bytes`; `None` when there is more to come.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, NoRequest> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut slots);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(NoRequest::Bad("the request head is not HTTP/1.1")),
    };
    let mut head = Head {
        length,
        framing: Framing::Length(0),
        keep_alive: request.version == Some(1),
        expects: false,
        chat: request.method == Some("POST")
            && request.path.is_some_and(|path| path.ends_with("/chat/completions")),
    };
    for header in request.headers.iter() {
        note(&mut head, header)?;
    }
    Ok(Some(head))
}

/// Takes what matters out of one header.
fn note(head: &mut Head, header: &httparse::Header<'_>) -> Result<(), NoRequest> {
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);
    let has = |word: &[u8]| {
        header.value.len() >= word.len()
            && header.value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
    };
    if is("content-length") {
        let text = std::str::from_utf8(header.value).unwrap_or_default();
        match text.trim().parse() {
            Ok(length) if length <= MAX_BODY => head.framing = Framing::Length(length),
            _ => return Err(NoRequest::Bad("content-length is not a usable number")),
        }
    } else if is("transfer-encoding") && has(b"chunked") {
        head.framing = Framing::Chunked;
    } else if is("connection") && has(b"close") {
        head.keep_alive = false;
    } else if is("expect") && has(b"100-continue") {
        head.expects = true;
    }
    Ok(())
}

/// Takes the request of `head` off the buffer, its body included, with all its headers.
pub(crate) async fn read_request(peer: &mut Peer, head: Head) -> Result<Request, NoRequest> {
    let bytes = peer.buf.split_to(head.length);
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut slots);
    if parsed.parse(&bytes).is_err() {
        return Err(NoRequest::Bad("the request head is not HTTP/1.1"));
    }
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = parsed.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect();
    let method = parsed.method.unwrap_or_default().to_owned();
    let target = parsed.path.unwrap_or_default().to_owned();
    let body = read_body(peer, head).await?;
    Ok(Request { method, target, headers, body })
}

/// Reads the body behind a head that is already taken off the buffer.
async fn read_body(peer: &mut Peer, head: Head) -> Result<Bytes, NoRequest> {
    let at_once = matches!(head.framing, Framing::Length(n) if n <= peer.buf.len());
    if head.expects && !at_once {
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    match head.framing {
        Framing::Length(length) => {
            while peer.buf.len() < length {
                peer.fill(length - peer.buf.len()).await?;
            }
            Ok(peer.buf.split_to(length).freeze())
        }
        Framing::Chunked => read_chunks(peer).await,
    }
}

/// Reads a chunked body to its end, trailers included.
async fn read_chunks(peer: &mut Peer) -> Result<Bytes, NoRequest> {
    let mut body = BytesMut::new();
    loop {
        let line = read_line(peer).await?;
        let digits = line[..].split(|byte| *byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits).unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(digits, 16) else {
            return Err(NoRequest::Bad("a chunk size is not a number"));
        };
        if size == 0 {
            while !read_line(peer).await?.is_empty() {}
            return Ok(body.freeze());
        }
        if body.len() + size > MAX_BODY {
            return Err(NoRequest::Bad("the body is too large"));
        }
        while peer.buf.len() < size + 2 {
            peer.fill(size + 2 - peer.buf.len()).await?;
        }
        body.extend_from_slice(&peer.buf[..size]);
        let frame = peer.buf.split_to(size + 2);
        if &frame[size..] != b"\r\n" {
            return Err(NoRequest::Bad("a chunk does not end with CRLF"));
        }
    }
}

/// Takes one line off the buffer, without its CRLF.
async fn read_line(peer: &mut Peer) -> Result<BytesMut, NoRequest> {
    loop {
        if let Some(end) = memchr::memmem::find(&peer.buf, b"\r\n") {
            let line = peer.buf.split_to(end);
            let _ = peer.buf.split_to(2);
            return Ok(line);
        }
        if peer.buf.len() > MAX_HEAD {
            return Err(NoRequest::Bad("a line is too long"));
        }
        peer.fill(0).await?;
    }
}
