//! Connecting to the first of several addresses that answers (RFC 8305, "happy eyeballs").

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// How long one address may be silent before the next is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to whichever address answers first. The next one is tried when the one before has
/// failed, or was silent for a quarter of a second. Bounded by the caller's connect clock.
pub(super) async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut trying: Vec<Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>> = Vec::new();
    let mut last_fault = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            trying.push(Box::pin(TcpStream::connect(address)));
        } else if trying.is_empty() {
            return Err(last_fault);
        }
        let mut patience = Box::pin(sleep_until(Instant::now() + HEAD_START));
        let more = waiting.len() > 0;
        let step = poll_fn(|cx| {
            for index in 0..trying.len() {
                if let Poll::Ready(result) = trying[index].as_mut().poll(cx) {
                    drop(trying.swap_remove(index));
                    return Poll::Ready(Some(result));
                }
            }
            match more && patience.as_mut().poll(cx).is_ready() {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        });
        match step.await {
            Some(Ok(stream)) => {
                // Small writes leave at once: without this a request waits 40 ms for an
                // acknowledgement that the peer delays.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Some(Err(fault)) => last_fault = fault,
            None => {}
        }
    }
}
