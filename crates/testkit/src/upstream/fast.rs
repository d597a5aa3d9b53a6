//! The cheap path for benches: ready-made replies, chosen without parsing the body.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem::{self, Finder};
use serde_json::json;
use tokio::time::Instant;

use super::answer::{Action, act};
use super::ask::Ask;
use super::peer::{Left, Peer};
use super::render::STAMP;
use super::reply::head_bytes;
use super::request::Request;
use super::script::{self, Script};
use super::stream::{Plan, Step, stamp_at, write_chunk};

static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"model\""));
static STREAM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"stream\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"include_usage\""));

/// A ready-made reply.
#[derive(Debug)]
pub(crate) enum Template {
    /// The script has no cheap path.
    Unfit,
    Whole(Vec<u8>),
    Paced(Paced),
}

/// A ready-made stream with a pause between its events.
#[derive(Debug)]
pub(crate) struct Paced {
    opening: Vec<u8>,
    event: Vec<u8>,
    /// Where the time of sending goes in `event`.
    stamp: Option<usize>,
    count: usize,
    delay: Duration,
    tail: Vec<u8>,
}

/// What of a body decides the reply: one byte of flags and the model.
fn key(body: &[u8]) -> Option<(u8, &[u8])> {
    let model = value(body, &MODEL)?.strip_prefix(b"\"")?;
    let model = &model[..memchr::memchr2(b'"', b'\\', model)?];
    let is_true = |finder| value(body, finder).is_some_and(|rest| rest.starts_with(b"true"));
    let stream = is_true(&STREAM);
    let usage = stream && is_true(&USAGE);
    Some((u8::from(stream) | u8::from(usage) << 1, model))
}

/// What follows a key and its colon.
fn value<'a>(body: &'a [u8], finder: &Finder<'_>) -> Option<&'a [u8]> {
    let rest = &body[finder.find(body)? + finder.needle().len()..];
    rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start)
}

/// The template used last on a connection and its key.
#[derive(Default)]
pub(crate) struct Cache {
    flags: u8,
    model: Vec<u8>,
    template: Option<Arc<Template>>,
}

impl Cache {
    /// The template for a body, if there is one.
    pub(crate) fn find(&mut self, peer: &Peer, body: &[u8]) -> Option<Arc<Template>> {
        let (flags, model) = key(body)?;
        if let Some(template) = &self.template
            && self.flags == flags
            && self.model == model
        {
            return Some(Arc::clone(template));
        }
        let mut name = vec![flags];
        name.extend_from_slice(model);
        let mut templates = peer.state.templates();
        let made = || Arc::new(build(flags, &String::from_utf8_lossy(model)));
        let template = Arc::clone(templates.entry(name).or_insert_with(made));
        drop(templates);
        self.flags = flags;
        self.model = model.to_vec();
        self.template = Some(Arc::clone(&template));
        Some(template)
    }
}

/// Makes the template of a model by rendering its reply once.
fn build(flags: u8, model: &str) -> Template {
    let script = script::parse(model);
    if !matches!(script, Script::Ok | Script::Events { .. }) {
        return Template::Unfit;
    }
    let body = json!({
        "model": model,
        "stream": flags & 1 != 0,
        "stream_options": {"include_usage": flags & 2 != 0},
    });
    let ask = Ask::new(Request {
        method: "POST".to_owned(),
        target: "/v1/chat/completions".to_owned(),
        headers: Vec::new(),
        body: Bytes::from(body.to_string()),
    });
    match act(&ask, &script) {
        Action::Reply(reply) => {
            let mut bytes = head_bytes(reply.status, &reply.headers, Some(reply.body.len()));
            bytes.extend_from_slice(&reply.body);
            Template::Whole(bytes)
        }
        Action::Stream(plan) => streamed(&plan, &script),
        Action::Later(..) | Action::Hang => Template::Unfit,
    }
}

fn streamed(plan: &Plan, script: &Script) -> Template {
    let (count, delay, timed) = match script {
        Script::Events { count, delay, timed, .. } => (*count, *delay, *timed),
        _ => (0, Duration::ZERO, false),
    };
    let chunk = |event| {
        let (mut text, mut framed) = (Vec::new(), Vec::new());
        plan.style.write(&mut text, event);
        write_chunk(&mut framed, &text);
        framed
    };
    let events = plan.steps.iter().filter_map(|step| match step {
        Step::Event(event) => Some(chunk(event)),
        _ => None,
    });
    let events: Vec<Vec<u8>> = events.collect();
    let head = head_bytes(plan.status, &plan.headers, None);
    let end = b"0\r\n\r\n".to_vec();
    if count == 0 || (delay.is_zero() && !timed) {
        return Template::Whole([head, events.concat(), end].concat());
    }
    // The role event comes first, then the content, all of one size.
    let event = events[1].clone();
    let stamp = timed.then(|| memmem::find(&event, STAMP.as_bytes())).flatten();
    Template::Paced(Paced {
        opening: [head, events[0].clone()].concat(),
        event,
        stamp,
        count,
        delay,
        tail: [events[1 + count..].concat(), end].concat(),
    })
}

impl Template {
    /// Writes the reply.
    pub(crate) async fn send(&self, peer: &mut Peer) -> Result<(), Left> {
        match self {
            Self::Unfit => Ok(()),
            Self::Whole(bytes) => peer.send(bytes).await,
            Self::Paced(paced) => paced.send(peer).await,
        }
    }
}

impl Paced {
    async fn send(&self, peer: &mut Peer) -> Result<(), Left> {
        let mut due = Instant::now();
        let mut out = self.opening.clone();
        for i in 0..self.count {
            if i > 0 {
                due += self.delay;
                peer.wait(due).await?;
            }
            let at = out.len();
            out.extend_from_slice(&self.event);
            if let Some(stamp) = self.stamp {
                stamp_at(&mut out[at + stamp..]);
            }
            if i + 1 == self.count {
                out.extend_from_slice(&self.tail);
            }
            peer.send(&out).await?;
            out.clear();
        }
        Ok(())
    }
}
