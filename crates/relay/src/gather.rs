//! Everything a body has ready, as one piece: what arrived together leaves together.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Body;

use crate::ports::Failure;

/// Bytes that leave as one frame. With what the HTTP library holds on both sides (64 KiB each) and
/// the beginning of an event under way (64 KiB), a stream that its client does not read keeps less
/// than 256 KiB.
pub(crate) const FRAME: usize = 64 << 10;

/// What a body had ready.
pub(crate) struct Gathered {
    /// Its bytes; a single piece is not copied.
    pub(crate) data: Bytes,
    /// Its end, if that was reached: well, or by a failure.
    pub(crate) end: Option<Result<(), Failure>>,
}

/// Takes what is ready, up to one frame. The body's waker is set unless the frame is full or the
/// end was reached.
pub(crate) fn gather<B>(body: &mut B, cx: &mut Context<'_>) -> Gathered
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut end = None;
    while first.len() + joined.len() < FRAME {
        let data = match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => break,
            Poll::Ready(None) => {
                end = Some(Ok(()));
                break;
            }
            Poll::Ready(Some(Err(failure))) => {
                end = Some(Err(failure));
                break;
            }
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        if first.is_empty() && joined.is_empty() {
            first = data;
            continue;
        }
        if joined.is_empty() {
            joined.reserve((first.len() + data.len()).next_power_of_two());
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&data);
    }
    Gathered { data: if joined.is_empty() { first } else { joined.freeze() }, end }
}
