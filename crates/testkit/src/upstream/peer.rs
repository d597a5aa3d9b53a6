//! One accepted connection: buffered reading, writing that watches for the peer's leaving.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::server::TlsStream;

use super::record::State;

/// The peer closed or reset the connection.
#[derive(Debug)]
pub(crate) struct Left;

/// How much is read ahead while a reply is being written.
const READ_AHEAD: usize = 256 << 10;

/// A plain or an encrypted connection.
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// One accepted connection.
pub(crate) struct Peer {
    io: Io,
    /// What was read and not yet used.
    pub(crate) buf: BytesMut,
    pub(crate) state: Arc<State>,
}

impl Peer {
    pub(crate) fn new(io: Io, state: Arc<State>) -> Self {
        Self { io, buf: BytesMut::with_capacity(4096), state }
    }

    /// Reads more into `buf`, which is given room for at least `room` bytes.
    pub(crate) async fn fill(&mut self, room: usize) -> Result<(), Left> {
        self.buf.reserve(room.max(2048));
        match self.io.read_buf(&mut self.buf).await {
            Ok(0) | Err(_) => Err(Left),
            Ok(_) => Ok(()),
        }
    }

    /// Ready as soon as the peer has left; what it sends meanwhile is kept for later.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Left> {
        while self.buf.len() < READ_AHEAD {
            self.buf.reserve(2048);
            let read = pin!(self.io.read_buf(&mut self.buf));
            match read.poll(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Left),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    /// Writes all of `bytes`, giving up as soon as the peer has left.
    pub(crate) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Left> {
        poll_fn(|cx| {
            while !bytes.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, bytes) {
                    Poll::Ready(Ok(written)) if written > 0 => {
                        bytes = &bytes[written..];
                        let total = &self.state.bytes_written;
                        total.fetch_add(written as u64, Ordering::Relaxed);
                    }
                    Poll::Ready(_) => return Poll::Ready(Err(Left)),
                    Poll::Pending => return self.poll_left(cx).map(Err),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        match &mut self.io {
            Io::Plain(_) => Ok(()),
            Io::Tls(stream) => stream.flush().await.map_err(|_| Left),
        }
    }

    /// Waits until `deadline`, giving up as soon as the peer has left.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Result<(), Left> {
        tokio::select! {
            biased;
            left = self.until_left() => Err(left),
            () = sleep_until(deadline) => Ok(()),
        }
    }

    /// Lets other tasks run once; tells whether the peer has left.
    pub(crate) async fn breathe(&mut self) -> Result<(), Left> {
        tokio::task::yield_now().await;
        poll_fn(|cx| match self.poll_left(cx) {
            Poll::Ready(left) => Poll::Ready(Err(left)),
            Poll::Pending => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Waits for the peer to leave, for as long as it takes.
    pub(crate) async fn until_left(&mut self) -> Left {
        poll_fn(|cx| self.poll_left(cx)).await
    }

    /// Closes the writing side (FIN) and waits a moment for the peer to close its own, so that
    /// unread input does not turn the FIN into a reset. `clean` says good-bye in TLS before.
    pub(crate) async fn close(mut self, clean: bool) {
        match &mut self.io {
            Io::Tls(stream) if !clean => drop(stream.get_mut().0.shutdown().await),
            whole => drop(whole.shutdown().await),
        }
        let limit = Instant::now() + std::time::Duration::from_secs(2);
        let _ = self.wait(limit).await;
    }

    /// Resets the connection (RST), after a moment in which the peer takes what was sent.
    pub(crate) async fn reset(mut self) {
        let moment = Instant::now() + std::time::Duration::from_millis(20);
        let _ = self.wait(moment).await;
        let _ = self.io.tcp().set_zero_linger();
    }
}
