//! The scripted upstream: a fake OpenAI-compatible provider on a port of 127.0.0.1.
//!
//! What it does with a request is told by the request's `model` (see [`script`]), so that a
//! script travels through a gateway; or by replies set beforehand with
//! [`ScriptedUpstream::script`].

mod answer;
mod ask;
mod control;
mod endpoints;
mod fast;
pub(crate) mod options;
mod peer;
pub(crate) mod record;
pub(crate) mod render;
mod reply;
mod request;
mod responses;
mod schema;
mod script;
mod serve;
mod shape;
mod stream;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use options::Options;
use record::{Received, State};

/// A fake provider, running in a thread of its own until it is dropped.
///
/// The script of a request is its `model`, `name[:argument[:argument]]`; N counts content deltas
/// (the role delta comes before them and is not counted; with N = 0 the stream breaks before its
/// first event). An unknown name is `ok`. A last message of the role `assistant` is gone on with, if
/// the reply's text begins with it.
///
/// | script | what it does |
/// |---|---|
/// | `ok` | an ordinary reply, whole or streamed (8 deltas); honours `n` and `include_usage` |
/// | `events:N[:MS[:BYTES]]` | N deltas, MS ms apart, each padded to BYTES; without MS piled up |
/// | `timed:N[:MS[:BYTES]]` | the same, each delta starting with `@` ns since 1970 `@` |
/// | `cut:N`, `reset:N` | after N deltas FIN, or RST; not streamed: in the middle of the body |
/// | `eof:N` | a proper end after N deltas, without `finish_reason` and `[DONE]` |
/// | `no-done` | everything but `[DONE]` |
/// | `hang`, `hang-headers` | no answer; only the headers |
/// | `stall:N` | N deltas, then silence; not streamed: half of the body |
/// | `slow:MS` | an ordinary reply after MS ms |
/// | `drip:MS` | one byte every MS ms |
/// | `split:K` | pieces of K bytes, each a chunk and a write; text of wide characters |
/// | `malformed:N` | after N deltas a torn JSON event, then the ordinary end |
/// | `error-event:N[:DIALECT]` | N deltas, an error event, `[DONE]`; not streamed: `error200` |
/// | `error200[:DIALECT]` | status 200 with an error; `openai`, `baidu` or `minimax` |
/// | `status:CODE[:RETRY_AFTER]` | an OpenAI error of this status with rate limit headers |
/// | `html:STATUS`, `not-sse` | an HTML page; one that calls itself `text/event-stream` |
/// | `json-for-stream` | a whole reply although a stream was asked for |
/// | `truncated-body` | less than the announced length, or a cut stream |
/// | `close-after` | an ordinary reply, then the connection closes unannounced |
/// | `redirect[:HOST]` | 307 to another host |
/// | `comments`, `crlf`, `no-space` | unusual but valid ways of writing events |
/// | `usage-every` | the usage so far in every event |
/// | `big:BYTES` | a whole reply of exactly this size |
/// | `flood:BYTES` | a stream of this size as fast as the socket takes it |
/// | `tools` | a call of the first tool offered; words once its result is there |
/// | `json` | content for the wanted schema |
/// | `reasoning` | `reasoning_content` deltas, then content |
/// | `digest` | the content is [`crate::digest_text`] of the received body |
/// | `headers`, `echo-headers` | many response headers; the request's headers as JSON content |
pub struct ScriptedUpstream {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for ScriptedUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedUpstream").field("address", &self.address()).finish()
    }
}

impl ScriptedUpstream {
    /// Starts one on a free port.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts one as told.
    #[must_use]
    pub fn start_with(options: Options) -> Self {
        Self::launch(options, None)
    }

    /// Starts one that speaks TLS (HTTP/1.1 only) as `localhost` and 127.0.0.1; with it comes
    /// the certificate of its authority in PEM.
    #[must_use]
    pub fn start_tls() -> (Self, String) {
        Self::start_tls_valid([1975, 4096])
    }

    /// The same, with a certificate that is valid from the beginning of a year to that of another.
    #[must_use]
    pub fn start_tls_valid(years: [i32; 2]) -> (Self, String) {
        let (acceptor, pem) = tls::acceptor(years);
        (Self::launch(Options::default(), Some(acceptor)), pem)
    }

    fn launch(options: Options, tls: Option<TlsAcceptor>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime for the scripted upstream");
        let listener = {
            let _guard = runtime.enter();
            listen(options.port).expect("a port for the scripted upstream")
        };
        let port = listener.local_addr().expect("the address of a listener").port();
        let state = Arc::new(State::new(options.record, tls.is_some(), port));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("scripted-upstream".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve::accept(listener, tls, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { state, stop: Some(stop), thread: Some(thread.expect("a thread")) }
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.state.port))
    }

    /// What a provider's `base_url` is set to: `http://127.0.0.1:PORT/v1`, or with TLS
    /// `https://localhost:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        let port = self.state.port;
        if self.state.tls {
            format!("https://localhost:{port}/v1")
        } else {
            format!("http://127.0.0.1:{port}/v1")
        }
    }

    /// Everything received so far, in the order of arrival.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.state.received()
    }

    /// Waits until what was received satisfies `enough` and returns it.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    pub async fn wait_for(
        &self,
        limit: Duration,
        enough: impl Fn(&[Received]) -> bool + Send,
    ) -> Vec<Received> {
        let start = Instant::now();
        loop {
            let received = self.received();
            if enough(&received) {
                return received;
            }
            assert!(start.elapsed() < limit, "waited {limit:?} in vain; received: {received:#?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Forgets what was received; the counters go on.
    pub fn clear(&self) {
        self.state.clear();
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many of them are open now.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.state.open.load(Ordering::Relaxed)
    }

    /// How many bytes the sockets took, over all connections.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.state.bytes_written.load(Ordering::Relaxed)
    }

    /// Sets the replies to successive requests for a model, in the form of `POST /__script`.
    /// The last one repeats.
    pub fn script(&self, model: &str, replies: impl IntoIterator<Item = Value>) {
        let scripted = control::Scripted::new(replies.into_iter().collect());
        self.state.scripts().insert(model.to_owned(), scripted);
    }

    /// Serves until the process ends.
    pub fn run_forever(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for ScriptedUpstream {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(4096)
}

/// An upstream that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Refused;

impl Refused {
    /// An address of 127.0.0.1 on which nobody listens.
    #[must_use]
    pub fn address() -> SocketAddr {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        listener.and_then(|listener| listener.local_addr()).expect("a free port")
    }

    /// The `base_url` of such an address.
    #[must_use]
    pub fn base_url() -> String {
        format!("http://{}/v1", Self::address())
    }
}
