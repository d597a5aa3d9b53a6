//! What is heard of an answer while it passes: its text, as far as texts are compared, and what is
//! recorded of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use wire::said::{Said, said};
use wire::sse::{Framer, events};

use super::Half;
use super::similarity::COMPARED;
use crate::admit::Bound;
use crate::headers::is_event_stream;
use crate::latch::{Latch, Waiter};
use crate::ports::{Lasting, Recorder, Unrecorded};
use crate::record::Record;
use crate::reply::ReplyBody;

/// The beginning of an event that is kept until its end is there; of an answer with a larger one
/// nothing is heard.
const EVENT: usize = 256 << 10;
/// Characters of a reason to stop.
const FINISH: usize = 32;

/// One answer of a pair, as far as it was heard.
#[derive(Default)]
pub(crate) struct Heard {
    record: RefCell<Option<Box<Record>>>,
    words: RefCell<Words>,
    over: Rc<Latch>,
}

/// Whoever hears an answer. When the last of them is dropped, it is over.
pub(crate) struct Ear(Rc<Heard>);

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.over.set();
    }
}

impl Ear {
    /// Takes bytes of a stream.
    pub(crate) fn hear(&self, data: &[u8]) {
        if let Words::Stream(listener) = &mut *self.0.words.borrow_mut() {
            listener.hear(data);
        }
    }
}

impl Heard {
    /// An answer of which nothing has come yet.
    pub(crate) fn begin() -> (Rc<Self>, Rc<Ear>) {
        let heard = Rc::<Self>::default();
        let ear = Rc::new(Ear(Rc::clone(&heard)));
        (heard, ear)
    }

    /// Waits until it is over.
    pub(crate) fn over(&self) -> Waiter {
        Waiter::new(Rc::clone(&self.over))
    }

    /// The figures, and the text; `None` if nothing was recorded. It began `lag` before its provider
    /// was asked.
    pub(crate) fn half(&self, lag: Duration) -> Option<(Half, Option<String>)> {
        let record = self.record.take()?;
        let words = self.words.take().end();
        let half = Half {
            route: record.route.clone(),
            status: record.status,
            outcome: record.outcome,
            total: record.total.saturating_sub(lag),
            first_event: record.first_event.map(|first| first.saturating_sub(lag)),
            cost: record.charge.as_ref().map(|charge| charge.money),
            output_tokens: record.usage.unwrap_or_default().output_total(),
            characters: words.as_ref().map(|words| words.characters),
            finish: words.as_ref().and_then(|words| words.finish.clone()),
        };
        Some((half, words.map(|words| words.text)))
    }
}

/// A recorder that lets a pair know what is recorded of one half.
pub(crate) struct Witness {
    recorder: Rc<dyn Recorder>,
    ear: Rc<Ear>,
}

impl Witness {
    /// Around a recorder.
    pub(crate) fn around(recorder: Rc<dyn Recorder>, ear: &Rc<Ear>) -> Rc<dyn Recorder> {
        Rc::new(Self { recorder, ear: Rc::clone(ear) })
    }
}

impl Recorder for Witness {
    fn open(&self, record: &Record, bound: &Bound) -> Result<(), Unrecorded> {
        self.recorder.open(record, bound)
    }

    fn record(&self, record: Box<Record>) {
        if record.is_last {
            *self.ear.0.record.borrow_mut() = Some(record.clone());
        }
        self.recorder.record(record);
    }

    fn lasting(&self) -> Option<Lasting> {
        self.recorder.lasting()
    }
}

/// Hears the text of an answer, if it is one.
pub(crate) fn listen<B>(ear: Rc<Ear>, response: Response<ReplyBody<B>>) -> Response<ReplyBody<B>> {
    if !response.status().is_success() {
        return response;
    }
    let streams = is_event_stream(response.headers());
    response.map(|body| {
        let words = match body.in_memory() {
            Some(whole) => Words::Whole(whole.clone()),
            None if streams => Words::Stream(Listener::default()),
            None => return body,
        };
        *ear.0.words.borrow_mut() = words;
        body.heard_by(ear)
    })
}

/// What an answer says.
#[derive(Default)]
enum Words {
    /// It cannot be told.
    #[default]
    Unknown,
    /// All of a reply, to be read when it is wanted. It is shared with the answer itself.
    Whole(Bytes),
    /// A stream, read as it passes.
    Stream(Listener),
}

impl Words {
    fn end(self) -> Option<Text> {
        match self {
            Self::Unknown => None,
            Self::Whole(reply) => {
                let mut text = Text::default();
                text.take(said(reply.trim_ascii()).ok()?);
                Some(text)
            }
            Self::Stream(listener) => Some(listener.text).filter(|_| !listener.is_lost),
        }
    }
}

/// The text of an answer.
#[derive(Default)]
struct Text {
    /// Its beginning, as much as is compared.
    text: String,
    /// Characters of all of it.
    characters: u64,
    finish: Option<Box<str>>,
}

impl Text {
    fn take(&mut self, said: Said<'_>) {
        for piece in &said.text {
            self.characters += piece.chars().count() as u64;
            let room = COMPARED.saturating_sub(self.text.len());
            self.text.push_str(&piece[..piece.floor_char_boundary(room)]);
        }
        if let Some(finish) = said.finish {
            let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
            let is_word = finish.len() <= FINISH && finish.chars().all(is_word);
            self.finish = Some(if is_word { (*finish).into() } else { "other".into() });
        }
    }
}

/// Follows a stream.
#[derive(Default)]
struct Listener {
    framer: Framer,
    /// The beginning of an event under way.
    tail: BytesMut,
    text: Text,
    is_lost: bool,
}

impl Listener {
    fn hear(&mut self, data: &[u8]) {
        if self.is_lost {
            return;
        }
        let (whole, rest) = data.split_at(self.framer.complete(data));
        if !whole.is_empty() {
            self.tail.extend_from_slice(whole);
            for event in events(&self.tail.split()) {
                // What is no object says nothing: `[DONE]`.
                if let Some(Ok(said)) = event.data.as_deref().map(said) {
                    self.text.take(said);
                }
            }
        }
        self.tail.extend_from_slice(rest);
        self.is_lost = self.tail.len() > EVENT;
    }
}
