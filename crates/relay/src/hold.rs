//! The beginning of a stream, held back until it says something: a provider that fails before that
//! can be replaced, and no client sees it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use policy::Provider;
use policy::health::retry::SLOW_FAILURE_MS;
use tokio::time::{Instant, timeout_at};
use wire::dialects::openai_chat::DONE;
use wire::reply::glance;
use wire::sse::{Framer, events};

use crate::attempt::Ended;
use crate::gather::FRAME;
use crate::ports::{Failure, FailureKind};

/// What a stream begins with.
pub(crate) enum Begun {
    /// It says something, or too much or too long nothing: it is to be passed on, from these bytes.
    Stream(Bytes),
    /// It is an error: the data of its event, and whether that is in the client's dialect.
    Error(Bytes, bool),
    /// It is nothing that can be read.
    Unreadable,
}

/// Reads a stream up to its first semantic event: text, a call, the end. At most one frame is held
/// back, and no longer than a failure may take that is tried elsewhere.
///
/// # Errors
/// [`Ended`] if it ends before it says anything, or says nothing by `due`.
pub(crate) async fn begin<B>(
    body: &mut B,
    provider: &Provider,
    asked: Instant,
    due: Instant,
) -> Result<Begun, Ended>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    let mut held = Held::default();
    let until = asked + Duration::from_millis(SLOW_FAILURE_MS);
    let reading = poll_fn(|cx| {
        loop {
            // One frame at a time: what comes behind the first words, also an end, is left there.
            let Some(frame) = ready!(Pin::new(&mut *body).poll_frame(cx)) else {
                let detail = "the stream ended before it said anything";
                return Poll::Ready(Err(Failure::new(FailureKind::Cut, detail)));
            };
            let data = frame?.into_data().unwrap_or_default();
            if let Some(begun) = held.look(&data, provider) {
                return Poll::Ready(Ok(begun));
            }
        }
    });
    match timeout_at(until.min(due), reading).await {
        Ok(Ok(begun)) => Ok(begun),
        Ok(Err(failure)) => Err(Ended::failed(&provider.id, &failure)),
        Err(_) if due <= until => Err(Ended::late(&provider.id, "the first event")),
        // The clock of the first event goes on with the stream.
        Err(_) => Ok(Begun::Stream(held.bytes.freeze())),
    }
}

/// What came so far.
#[derive(Default)]
struct Held {
    bytes: BytesMut,
    framer: Framer,
    /// Where the first event begins that was not looked at.
    at: usize,
    /// An event with a choice has come, which need not have said more than the role.
    saw_choice: bool,
}

impl Held {
    fn look(&mut self, data: &[u8], provider: &Provider) -> Option<Begun> {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(data);
        let complete = before + self.framer.complete(data);
        if complete > before {
            let whole = self.bytes[self.at..complete].to_vec();
            self.at = complete;
            for event in events(&whole) {
                let Some(data) = &event.data else {
                    if event.odd {
                        return Some(Begun::Unreadable);
                    }
                    continue;
                };
                match self.judge(data, event.name == b"error", provider) {
                    Says::Nothing => {}
                    Says::Something => return Some(self.stream()),
                    Says::Error(is_openai) => {
                        return Some(Begun::Error(Bytes::copy_from_slice(data), is_openai));
                    }
                    Says::Unreadable => return Some(Begun::Unreadable),
                }
            }
        }
        (self.bytes.len() >= FRAME).then(|| self.stream())
    }

    fn stream(&mut self) -> Begun {
        Begun::Stream(self.bytes.split().freeze())
    }

    fn judge(&mut self, data: &[u8], is_error: bool, provider: &Provider) -> Says {
        if data.trim_ascii() == DONE {
            return Says::Something;
        }
        let Ok(seen) = glance(data, &provider.error_marks) else { return Says::Unreadable };
        if seen.error || is_error {
            return Says::Error(seen.error_is_openai);
        }
        let has_text = seen.text.as_ref().is_some_and(|text| text.len() > 2);
        let says = has_text || seen.finished || (seen.has_choices && self.saw_choice);
        self.saw_choice |= seen.has_choices;
        if says { Says::Something } else { Says::Nothing }
    }
}

enum Says {
    Nothing,
    Something,
    Error(bool),
    Unreadable,
}
