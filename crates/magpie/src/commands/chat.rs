//! `magpie chat MODEL "prompt"`: one question from the terminal, through the same relay that
//! serves the API.

use std::future::poll_fn;
use std::io::{self, IsTerminal, Write as _};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use policy::Keyless;
use policy::key::Pepper;
use relay::{Bound, Gate, Latch, Record, Recorder, Relay, ReplyBody, RequestId, Unrecorded};
use serde_json::{Value, json};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::Instant;
use wire::sse::{Framer, events};

use super::load;
use crate::configuration::Source;
use crate::service::Body;
use crate::tasks::LocalTasks;
use crate::upstream::{Network, TlsConfigs};

/// Records nothing.
struct Silence;

impl Recorder for Silence {
    fn open(&self, _: &Record, _: &Bound) -> Result<(), Unrecorded> {
        Ok(())
    }

    fn record(&self, _: Box<Record>) {}
}

/// Asks, and prints the answer as it comes. Reasoning is shown dimmed on a terminal.
pub(crate) fn chat(source: &Source, model: &str, prompt: &str) -> Result<ExitCode, String> {
    let mut snapshot = load(source)?;
    snapshot.keyless = Keyless::Everyone;
    let snapshot = Arc::new(snapshot);
    let ask = json!({
        "model": model,
        "messages": [{ "role": "user", "content": prompt }],
        "stream": true,
    });
    let request = Request::post("/v1/chat/completions").body(());
    let (parts, ()) = request.map_err(|fault| fault.to_string())?.into_parts();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.map_err(|fault| fault.to_string())?.block_on(async {
        let network = Network::new(Arc::new(TlsConfigs::default()), Arc::default());
        let gate = Arc::new(Gate {
            epoch: Instant::now(),
            directory: Arc::default(),
            pepper: Pepper::new([0; 32]),
            tokens: None,
        });
        let tasks = Rc::new(LocalTasks::default());
        let relay = Relay::new(Rc::new(network), Rc::new(Silence), gate, Arc::default(), tasks);
        let body = Full::from(ask.to_string());
        let shed = Rc::new(Latch::default());
        // The owner asks, at the terminal: no key is needed.
        let (id, start, address) = (RequestId::new(), Instant::now(), None);
        let request = relay::Request { id, parts, body, snapshot, start, address, shed };
        print(relay.serve(request).await).await
    })
}

async fn print(response: Response<Body>) -> Result<ExitCode, String> {
    if !response.status().is_success() {
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|fault| fault.to_string())?;
        return Err(format!("{status}: {}", words(&body.to_bytes())));
    }
    let mut body: ReplyBody<_> = response.into_body();
    let mut framer = Framer::default();
    let mut tail = BytesMut::new();
    let mut out = Printer { dim: io::stdout().is_terminal(), dimmed: false };
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|fault| fault.to_string())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let complete = framer.complete(&data);
        let keep = tail.len() + complete;
        tail.extend_from_slice(&data);
        let whole = if complete == 0 { BytesMut::new() } else { tail.split_to(keep) };
        for event in events(&whole).filter_map(|event| event.data) {
            let Ok(event) = serde_json::from_slice::<Value>(&event) else {
                continue;
            };
            if event.get("error").is_some() {
                return Err(words(event.to_string().as_bytes()));
            }
            out.show(&event["choices"][0]["delta"]).map_err(|fault| fault.to_string())?;
        }
    }
    out.write("\n").map_err(|fault| fault.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The message of an error body.
fn words(body: &[u8]) -> String {
    let said = wire::reply::error_text(body).message;
    said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}

struct Printer {
    dim: bool,
    dimmed: bool,
}

impl Printer {
    fn show(&mut self, delta: &Value) -> io::Result<()> {
        let reasoning = delta["reasoning_content"].as_str().or(delta["reasoning"].as_str());
        if let Some(text) = reasoning.filter(|text| !text.is_empty()) {
            self.set_dimmed(true)?;
            self.write(text)?;
        }
        if let Some(text) = delta["content"].as_str().filter(|text| !text.is_empty()) {
            self.set_dimmed(false)?;
            self.write(text)?;
        }
        Ok(())
    }

    fn set_dimmed(&mut self, dimmed: bool) -> io::Result<()> {
        if self.dimmed == dimmed {
            return Ok(());
        }
        self.dimmed = dimmed;
        match (self.dim, dimmed) {
            (true, true) => self.write("\x1b[2m"),
            (true, false) => self.write("\x1b[0m\n"),
            (false, true) => Ok(()),
            (false, false) => self.write("\n"),
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}
