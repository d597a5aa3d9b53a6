//! An upstream of which every byte is written by hand: what the scripted one cannot do.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::harness::PATIENCE;

/// Accepts connections, each played in a thread of its own.
pub(crate) struct RawUpstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl RawUpstream {
    /// Plays `play` on every connection; they are counted from 0.
    pub(crate) fn start(play: impl Fn(Peer, usize) + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), play)
    }

    pub(crate) fn start_at(ip: IpAddr, play: impl Fn(Peer, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counting, ending) = (Arc::clone(&connections), Arc::clone(&over));
        let play = Arc::new(play);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::Relaxed) {
                    return;
                }
                let number = counting.fetch_add(1, Ordering::SeqCst);
                let (stream, play) = (stream.unwrap(), Arc::clone(&play));
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                thread::spawn(move || play(Peer { stream, buffer: Vec::new() }, number));
            }
        });
        Self { address, connections, over, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// The peer of one connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    /// Reads what comes next; `None` at the end of the connection.
    pub(crate) fn read(&mut self) -> Option<Vec<u8>> {
        if !self.buffer.is_empty() {
            return Some(std::mem::take(&mut self.buffer));
        }
        let mut piece = vec![0; 64 << 10];
        match self.stream.read(&mut piece) {
            Ok(count @ 1..) => {
                piece.truncate(count);
                Some(piece)
            }
            _ => None,
        }
    }

    /// Reads a head, up to its blank line; `None` at the end of the connection.
    pub(crate) fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        loop {
            if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                self.buffer = head.split_off(at + 4);
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            head.extend(self.read()?);
        }
    }

    /// Reads a whole request with a `content-length`; `None` at the end of the connection.
    pub(crate) fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
        });
        let mut body = Vec::new();
        while body.len() < length.unwrap_or(0) {
            body.extend(self.read()?);
        }
        Some((head, body))
    }

    /// Writes; `false` if the peer has gone.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }
}

/// A plain way to an address: bytes both ways, as they come.
pub(crate) fn detour(ip: [u8; 4], target: SocketAddr) -> RawUpstream {
    RawUpstream::start_at(ip.into(), move |peer, _| {
        let there = TcpStream::connect(target).unwrap();
        there.set_nodelay(true).unwrap();
        let back = (there.try_clone().unwrap(), peer.stream.try_clone().unwrap());
        thread::spawn(move || pump(back.0, back.1));
        pump(peer.stream, there);
    })
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A response of status 200 with a JSON body.
pub(crate) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The smallest chat completion.
pub(crate) const COMPLETION: &str = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"raw"},"finish_reason":"stop"}]}"#;
