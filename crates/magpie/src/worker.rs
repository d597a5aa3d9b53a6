//! One worker: a thread with its own runtime, listener and connections.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::Snapshot;
use relay::{Flights, Gate, Latch, Recorder, Relay, Waiter};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::limits::Connections;
use crate::listener::{Peer, Tls};
use crate::local::LocalExecutor;
use crate::measure::{Measure, Shard};
use crate::pages::State;
use crate::service::Service;
use crate::stalls::Stalls;
use crate::tasks::LocalTasks;
use crate::upstream::{Network, TlsConfigs};

/// How long a client may take from connecting to its first bytes, and from one request's head to
/// the end of the next one's.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// The head of a request, and what is written ahead of a slow client.
const MAX_BUFFER: usize = 64 << 10;
/// All headers of a request together.
const MAX_HEADER_BYTES: u32 = 32 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 100;
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Requests under way in a worker are as many as connections may be open, but no fewer than this:
/// what one HTTP/2 connection may ask for.
const LEAST_REQUESTS: usize = MAX_STREAMS as usize;
/// What one HTTP/2 stream may send ahead.
const STREAM_WINDOW: u32 = 64 << 10;
/// How often an HTTP/2 client is asked whether it is alive.
const PING: Duration = Duration::from_secs(20);
/// What is left for a first request, which may be on its way, once the process is told to stop.
const LAST_CHANCE: Duration = Duration::from_secs(1);
/// Rest after a failed accept: the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often idle connections to providers and answers that are kept are looked through.
const SWEEP: Duration = Duration::from_secs(10);

/// How far stopping has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything is served.
    Running,
    /// Nothing new is accepted; what runs may finish.
    Draining,
    /// What still runs is told to end.
    Shedding,
}

/// What all workers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) state: Arc<State>,
    pub(crate) tls: Arc<TlsConfigs>,
    /// HTTPS on the listener; `None` for clear text.
    pub(crate) https: Option<Tls>,
    /// Who may call.
    pub(crate) gate: Arc<Gate>,
    /// Answers that are shared.
    pub(crate) flights: Arc<Flights>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Client connections open in all workers.
    pub(crate) connections: Arc<Connections>,
    /// The numbers of what happens.
    pub(crate) measure: Arc<Measure>,
}

/// Serves until told to stop, and then until the last connection has ended.
pub(crate) async fn serve(
    listener: StdListener,
    shared: Shared,
    recorder: Rc<dyn Recorder>,
    shard: Rc<Shard>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let network = Rc::new(Network::new(Arc::clone(&shared.tls), shard.pooled()));
    let flights = Arc::clone(&shared.flights);
    let sweeping = tokio::task::spawn_local(sweep(Rc::clone(&network), Arc::clone(&flights)));
    let tasks = Rc::new(LocalTasks::default());
    let gate = Arc::clone(&shared.gate);
    let relay = Relay::new(network, recorder, gate, flights, Rc::clone(&tasks) as _);
    let snapshot = Arc::clone(&shared.snapshot);
    let stop = Stop::default();
    let state = Arc::clone(&shared.state);
    let (shed, most) = (Rc::clone(&stop.shed), shared.connections.most.max(LEAST_REQUESTS));
    let service = Rc::new(Service::new(snapshot, relay, state, shed, shard, most));
    let open = Rc::new(Cell::new(0));
    let stopping = tokio::task::spawn_local(stop.clone().follow(shared.phase.clone()));
    let mut draining = Waiter::new(Rc::clone(&stop.drain));
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => accept(stream, Peer::new(address), &service, &shared, &stop, &open),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            () = poll_fn(|cx| draining.poll(cx)) => break,
        }
    }
    drop(listener);
    sweeping.abort();
    // A call whose answer is shared may be read on another worker.
    while open.get() > 0 || service.leading() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    // Nobody waits for what runs beside the connections.
    stop.shed.set();
    tasks.end().await;
    stopping.abort();
    Ok(())
}

/// How a worker's connections and streams learn that the process is stopping.
#[derive(Clone, Default)]
struct Stop {
    /// Connections take no further request.
    drain: Rc<Latch>,
    /// Streams end.
    shed: Rc<Latch>,
}

impl Stop {
    /// Passes on how far stopping has come, until there is nobody left to say so.
    async fn follow(self, mut phase: watch::Receiver<Phase>) {
        loop {
            let now = *phase.borrow_and_update();
            if now != Phase::Running {
                self.drain.set();
            }
            if now == Phase::Shedding {
                self.shed.set();
            }
            if phase.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn sweep(network: Rc<Network>, flights: Arc<Flights>) {
    loop {
        sleep(SWEEP).await;
        network.sweep();
        flights.sweep();
    }
}

/// Counts a connection as long as it lives.
struct Counted {
    here: Rc<Cell<usize>>,
    everywhere: Arc<Connections>,
}

impl Counted {
    fn new(here: &Rc<Cell<usize>>, everywhere: &Arc<Connections>) -> Self {
        here.set(here.get() + 1);
        everywhere.open.fetch_add(1, Ordering::Relaxed);
        Self { here: Rc::clone(here), everywhere: Arc::clone(everywhere) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.here.set(self.here.get() - 1);
        self.everywhere.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn accept(
    stream: TcpStream,
    peer: Peer,
    service: &Rc<Service>,
    shared: &Shared,
    stop: &Stop,
    open: &Rc<Cell<usize>>,
) {
    let connections = &shared.connections;
    if connections.open.load(Ordering::Relaxed) >= connections.most {
        connections.turned_away.fetch_add(1, Ordering::Relaxed);
        // Who is shaking hands does not understand clear text, and doing it costs too much.
        if shared.https.is_none() {
            tokio::task::spawn_local(turn_away(stream));
        }
        return;
    }
    // Answers leave at once, each event when it is there.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let counted = Counted::new(open, &shared.connections);
    let service = Rc::clone(service);
    let stopping = Waiter::new(Rc::clone(&stop.drain));
    match shared.https.clone() {
        None => tokio::task::spawn_local(async move {
            let _counted = counted;
            in_clear_text(stream, peer, service, stopping).await;
        }),
        Some(https) => tokio::task::spawn_local(async move {
            let _counted = counted;
            over_tls(https, stream, peer, service, stopping).await;
        }),
    };
}

/// Says that there are too many connections, where that costs nothing.
async fn turn_away(mut stream: TcpStream) {
    const BODY: &str = "{\"error\":{\"message\":\"Too many connections. Try again.\",\
        \"type\":\"server_error\",\"param\":null,\"code\":\"too_many_connections\"}}";
    let busy = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let _ = timeout(Duration::from_secs(1), stream.write_all(busy.as_bytes())).await;
}

/// Drives a connection to its end, and tells it once when the process is stopping. A macro, because
/// the two kinds of connection share no trait.
macro_rules! drive {
    ($connection:ident, $stopping:ident) => {{
        let mut told = false;
        // How a connection ends is the client's affair; what was under way is recorded.
        let _ = poll_fn(|cx| {
            // The connection goes first: a request that is there already is read before it is told.
            let mut ended = $connection.as_mut().poll(cx);
            if ended.is_pending() && !told && $stopping.poll(cx).is_ready() {
                told = true;
                $connection.as_mut().graceful_shutdown();
                ended = $connection.as_mut().poll(cx);
            }
            ended
        })
        .await;
    }};
}

/// Serves a connection whose first bytes say what is spoken.
async fn in_clear_text(stream: TcpStream, peer: Peer, service: Rc<Service>, mut stopping: Waiter) {
    let version = tokio::select! {
        version = timeout(HEAD_TIMEOUT, version_of(&stream)) => version.ok().flatten(),
        () = last_chance(&mut stopping) => None,
    };
    if let Some(version) = version {
        converse(stream, version, peer, service, stopping).await;
    }
}

/// Serves a connection on which the handshake settles what is spoken.
async fn over_tls(
    https: Tls,
    stream: TcpStream,
    peer: Peer,
    service: Rc<Service>,
    mut stopping: Waiter,
) {
    let stream = tokio::select! {
        stream = https.accept(stream) => stream,
        () = last_chance(&mut stopping) => None,
    };
    let Some(stream) = stream else { return };
    let session = stream.get_ref().1;
    let version = match session.alpn_protocol() {
        Some(b"h2") => Version::Http2,
        _ => Version::Http1,
    };
    let peer = peer.with_chain(session.peer_certificates());
    converse(stream, version, peer, service, stopping).await;
}

/// Serves one connection to its end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    version: Version,
    peer: Peer,
    service: Rc<Service>,
    mut stopping: Waiter,
) {
    let peer = Rc::new(peer);
    let handler = service_fn(move |request| {
        let (service, peer) = (Rc::clone(&service), Rc::clone(&peer));
        async move { Ok::<_, Infallible>(service.answer(request, &peer).await) }
    });
    let stream = Stalls::new(TokioIo::new(stream));
    match version {
        Version::Http1 => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_BUFFER)
                // Answers leave in pieces of at most 64 KiB, most of them far smaller: copying one
                // behind its length costs less than a system call with four parts.
                .writev(false)
                .max_headers(MAX_HEADERS)
                .max_header_size(MAX_HEADER_BYTES as usize)
                .serve_connection(stream, handler);
            let mut connection = std::pin::pin!(connection);
            drive!(connection, stopping);
        }
        Version::Http2 => {
            let connection = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .initial_stream_window_size(STREAM_WINDOW)
                .max_header_list_size(MAX_HEADER_BYTES)
                .max_send_buf_size(MAX_BUFFER)
                .keep_alive_interval(PING)
                .serve_connection(stream, handler);
            let mut connection = std::pin::pin!(connection);
            drive!(connection, stopping);
        }
    }
}

/// Ends when a connection that has asked for nothing has had the time to, after the process was
/// told to stop.
async fn last_chance(stopping: &mut Waiter) {
    poll_fn(|cx| stopping.poll(cx)).await;
    sleep(LAST_CHANCE).await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Looks at the first bytes without taking them. No method begins like HTTP/2's preface.
async fn version_of(stream: &TcpStream) -> Option<Version> {
    const PREFACE: &[u8] = b"PRI";
    let mut begin = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut begin).await.ok()?;
        if count == 0 {
            return None;
        }
        if begin[..count] != PREFACE[..count] {
            return Some(Version::Http1);
        }
        if count == PREFACE.len() {
            return Some(Version::Http2);
        }
        // The rest is on its way; peeking again would come back at once.
        sleep(Duration::from_millis(5)).await;
    }
}
