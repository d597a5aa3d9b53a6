//! A client that looks at every byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{CHAT, PATIENCE, chat};

/// A request in bytes; the host is `localhost` unless the headers name one.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        out.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        out.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    out.push_str("\r\n");
    [out.as_bytes(), body].concat()
}

/// The head of a response.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    fn read(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap().splitn(3, ' ').skip(1);
        let status = first.next().unwrap_or_else(|| panic!("no status in {text:?}"));
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        Self { status: status.parse().unwrap(), headers: headers.collect() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// The body ended as its framing says.
    pub(crate) whole: bool,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|fault| panic!("{fault} in {:?}", self.text()))
    }

    /// `error.code` of an error body.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// `error.message` of an error body.
    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Checks that it is an error in OpenAI's form.
    pub(crate) fn assert_error(&self, status: u16, code: &str) {
        assert_eq!((self.status(), &*self.code()), (status, code), "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert!(!self.message().is_empty());
        assert!(self.json()["error"]["type"].is_string());
        assert!(self.json()["error"].get("param").is_some());
    }

    /// The JSON of the events of a stream, without `[DONE]`.
    pub(crate) fn events(&self) -> Vec<Value> {
        events(&self.text())
    }

    /// The content of a stream.
    pub(crate) fn content(&self) -> String {
        let delta =
            |event: &Value| event["choices"][0]["delta"]["content"].as_str().map(String::from);
        self.events().iter().filter_map(delta).collect()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.text().lines().any(|line| line.replace(' ', "") == "data:[DONE]")
    }

    /// Whether any event says that the answer is finished.
    pub(crate) fn is_finished(&self) -> bool {
        self.events().iter().any(|event| event["choices"][0]["finish_reason"].is_string())
    }

    /// Checks that a stream ended with an error event and nothing that looks like a normal end.
    pub(crate) fn assert_broken_off(&self, code: &str) {
        let events = self.events();
        let last = events.last().unwrap_or_else(|| panic!("no event in {:?}", self.text()));
        assert_eq!(last["error"]["code"], code, "{}", self.text());
        assert!(self.text().ends_with("\n\n"), "half an event: {:?}", self.text());
        assert!(!self.is_done() && !self.is_finished(), "a normal end: {}", self.text());
        assert!(self.whole, "the stream has no proper end");
    }
}

/// The JSON of the events in a text.
pub(crate) fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|data| serde_json::from_str(data.trim()).ok()).collect()
}

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("no connection")
    }

    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Self { stream, buffer: Vec::new() })
    }

    /// The port on this side.
    pub(crate) fn port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends what the other side may refuse to read.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a chat request.
    pub(crate) fn chat(&mut self, model: &str, stream: bool) {
        let headers = [("content-type", "application/json")];
        self.send(&request("POST", CHAT, &headers, chat(model, stream).as_bytes()));
    }

    /// Has it wait so long for the next bytes.
    pub(crate) fn wait_for(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
    }

    /// Reads more; `false` at the end of the connection, in whatever way it ended.
    fn fill(&mut self) -> bool {
        let mut piece = [0; 64 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                true
            }
            Err(fault) if matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came in time; so far: {:?}", self.unread())
            }
            Err(_) => false,
        }
    }

    fn unread(&self) -> String {
        String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(2000)]).into_owned()
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Everything up to and including `mark`; `None` if the connection ends before.
    fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self.buffer.windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                return Some(self.take(at + mark.len()));
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// The next so many bytes.
    pub(crate) fn read_ahead(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill(), "ended after {} of {count} bytes", self.buffer.len());
        }
        self.take(count)
    }

    /// The head of the next response; `None` if the connection ends before.
    pub(crate) fn try_head(&mut self) -> Option<Head> {
        let head = self.until(b"\r\n\r\n")?;
        Some(Head::read(&String::from_utf8_lossy(&head)))
    }

    pub(crate) fn head(&mut self) -> Head {
        self.try_head().expect("the connection ended without a response")
    }

    /// The next chunk of a chunked body: `Some(None)` at its end, `None` if it is cut.
    pub(crate) fn chunk(&mut self) -> Option<Option<Vec<u8>>> {
        let line = self.until(b"\r\n")?;
        let line = String::from_utf8(line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("{line:?}"));
        while self.buffer.len() < size + 2 {
            if !self.fill() {
                return None;
            }
        }
        let chunk = self.take(size + 2);
        assert!(chunk.ends_with(b"\r\n"));
        Some((size > 0).then(|| chunk[..size].to_vec()))
    }

    /// Chunks until the bytes so far hold `mark`.
    pub(crate) fn chunks_until(&mut self, mark: &str) -> String {
        let mut text = String::new();
        while !text.contains(mark) {
            let chunk =
                self.chunk().flatten().unwrap_or_else(|| panic!("ended without {mark}: {text}"));
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        text
    }

    /// The rest of a body whose head was read.
    pub(crate) fn body(&mut self, head: &Head, method: &str) -> (Vec<u8>, bool) {
        if method == "HEAD" || matches!(head.status, 100..200 | 204 | 304) {
            return (Vec::new(), true);
        }
        if head.header("transfer-encoding") == Some("chunked") {
            return self.chunks();
        }
        let Some(length) = head.header("content-length") else {
            return (self.read_to_end(), true);
        };
        let length = length.parse().unwrap();
        while self.buffer.len() < length {
            if !self.fill() {
                return (std::mem::take(&mut self.buffer), false);
            }
        }
        (self.take(length), true)
    }

    fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            match self.chunk() {
                Some(Some(chunk)) => body.extend_from_slice(&chunk),
                Some(None) => return (body, true),
                None => return (body, false),
            }
        }
    }

    /// The next response, to this method.
    pub(crate) fn reply_to(&mut self, method: &str) -> Reply {
        let head = self.head();
        let (body, whole) = self.body(&head, method);
        Reply { head, body, whole }
    }

    /// The next response.
    pub(crate) fn reply(&mut self) -> Reply {
        self.reply_to("POST")
    }

    /// The next response, or `None` if the connection ends without one.
    pub(crate) fn try_reply(&mut self) -> Option<Reply> {
        let head = self.try_head()?;
        let (body, whole) = self.body(&head, "POST");
        Some(Reply { head, body, whole })
    }

    /// Whether the other side ends the connection within `limit`, without saying anything more.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        self.stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut byte = [0];
        let ended = loop {
            match self.stream.read(&mut byte) {
                Ok(0) => break true,
                Ok(_) => break false,
                Err(fault)
                    if matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if start.elapsed() > limit {
                        break false;
                    }
                }
                Err(_) => break true,
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ended && self.buffer.is_empty()
    }
}
