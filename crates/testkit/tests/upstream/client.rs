//! A client that looks at every byte.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::ScriptedUpstream;

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A reply as it came over the wire.
pub(crate) struct Raw {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// How the reading ended: None at the end of the body, or with the connection's end.
    pub(crate) end: Option<ErrorKind>,
}

impl Raw {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The JSON of the `data:` lines.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
    }

    pub(crate) fn content(&self) -> String {
        let part = |e: &Value| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
        self.events().iter().filter_map(part).collect()
    }

    pub(crate) fn done(&self) -> bool {
        self.text().contains("data: [DONE]\n\n")
    }
}

pub(crate) fn connect(upstream: &ScriptedUpstream) -> TcpStream {
    let stream = TcpStream::connect(upstream.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    stream
}

pub(crate) fn post(stream: &mut TcpStream, path: &str, body: &str) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nAuthorization: Bearer sk\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
}

pub(crate) fn chat(model: &str, stream: bool) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream,
        "stream_options": {"include_usage": true}})
    .to_string()
}

/// Reads one byte; the error kind `UnexpectedEof` stands for the end of the connection.
pub(crate) fn byte(stream: &mut TcpStream) -> Result<u8, ErrorKind> {
    let mut one = [0];
    match stream.read(&mut one) {
        Ok(0) => Err(ErrorKind::UnexpectedEof),
        Ok(_) => Ok(one[0]),
        Err(error) => Err(error.kind()),
    }
}

pub(crate) fn line(stream: &mut TcpStream) -> Result<String, ErrorKind> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n") {
        text.push(byte(stream)?);
    }
    Ok(String::from_utf8(text).unwrap().trim_end().to_owned())
}

pub(crate) fn read_reply(stream: &mut TcpStream) -> Raw {
    let mut raw = Raw { head: String::new(), body: Vec::new(), end: None };
    while !raw.head.ends_with("\r\n\r\n") {
        match line(stream) {
            Ok(text) => raw.head += &(text + "\r\n"),
            Err(end) => {
                raw.end = Some(end);
                return raw;
            }
        }
    }
    let length = raw.head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let read = match length {
        Some(length) => read_exact(stream, length.parse().unwrap(), &mut raw.body),
        None => read_chunks(stream, &mut raw.body),
    };
    raw.end = read.err();
    raw
}

pub(crate) fn read_exact(
    stream: &mut TcpStream,
    count: usize,
    body: &mut Vec<u8>,
) -> Result<(), ErrorKind> {
    let mut block = vec![0; 64 << 10];
    let mut left = count;
    while left > 0 {
        let room = left.min(block.len());
        match stream.read(&mut block[..room]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof),
            Ok(n) => {
                body.extend_from_slice(&block[..n]);
                left -= n;
            }
            Err(error) => return Err(error.kind()),
        }
    }
    Ok(())
}

pub(crate) fn read_chunks(stream: &mut TcpStream, body: &mut Vec<u8>) -> Result<(), ErrorKind> {
    loop {
        let size = usize::from_str_radix(&line(stream)?, 16).unwrap();
        read_exact(stream, size, body)?;
        line(stream)?;
        if size == 0 {
            return Ok(());
        }
    }
}

pub(crate) fn ask(upstream: &ScriptedUpstream, path: &str, body: &str) -> Raw {
    let mut stream = connect(upstream);
    post(&mut stream, path, body);
    read_reply(&mut stream)
}

pub(crate) fn stream_of(upstream: &ScriptedUpstream, model: &str) -> Raw {
    ask(upstream, CHAT, &chat(model, true))
}

pub(crate) fn get(upstream: &ScriptedUpstream, method: &str, path: &str) -> Raw {
    let mut stream = connect(upstream);
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    read_reply(&mut stream)
}
