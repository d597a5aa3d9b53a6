//! The life of the process: start the workers, watch for signals and changes, stop in good order.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use ledger::Ledger;
use policy::{Settings, Snapshot};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::alerts::{Alerts, Postman, alerts};
use crate::books::Books;
use crate::checks::Checks;
use crate::commands::counted;
use crate::configuration::Source;
use crate::data::Data;
use crate::feedback::Finder;
use crate::limits::Connections;
use crate::listener::Tls;
use crate::live::Reloaded;
use crate::log::{RequestLog, note};
use crate::measure::{Measure, Shard};
use crate::office::Office;
use crate::pages::State;
use crate::reading::{Reading, SETTLE};
use crate::recording::Recording;
use crate::upstream::{Network, TlsConfigs};
use crate::version::VERSION;
use crate::watching;
use crate::worker::{self, Phase, Shared};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// After the grace is over: how long streams may take to say that they end.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// Serves until told to stop.
pub(crate) fn run(source: Source) -> Result<ExitCode, String> {
    let snapshot = match source.load() {
        Ok(snapshot) => snapshot,
        Err(problems) => {
            let _ = io::stderr().write_all(source.report(&problems).as_bytes());
            return Ok(ExitCode::from(2));
        }
    };
    for warning in &snapshot.warnings {
        note(&format!("warning: {warning}"));
    }
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    let settings = snapshot.load().settings.clone();
    let books = Books::open(&snapshot)?;
    let data = books.data.as_ref().map(Data::folder);
    let https = open_tls(settings.tls.as_ref(), data)?;
    let (listeners, address) = listen(&settings)
        .map_err(|fault| format!("cannot listen on {}: {fault}", settings.listen))?;
    let log = RequestLog::start(settings.log_format).map_err(|fault| fault.to_string())?;
    let (reload, reloads) = mpsc::channel(1);
    let (alerts, postman) = alerts();
    let connections = Arc::new(Connections::new(snapshot.load().limits.connections));
    let measure = Arc::new(Measure::new(&snapshot, &books, &log, &alerts, &connections));
    let office = Office::open(&settings, &books, &snapshot, &source, Arc::clone(&measure), reload)?;
    let everyone = books.gate.directory.holders();
    books.past.restore(everyone.iter().chain(snapshot.load().holders()))?;
    let banner = banner(&snapshot.load(), &source, address, listeners.len(), office.address());
    let (phase, watching) = watch::channel(Phase::Running);
    let shared = Shared {
        snapshot,
        state: Arc::new(State::default()),
        tls: Arc::new(TlsConfigs::default()),
        https,
        gate: Arc::clone(&books.gate),
        flights: Arc::default(),
        phase: watching,
        connections,
        measure,
    };
    let (ended, early) = mpsc::channel(1);
    let workers = start(listeners, &shared, &settings, &books, &log, &alerts, &ended)?;
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = runtime.map_err(|fault| fault.to_string())?;
    let control = Control { source, settings, shared, phase, early, reloads, office, postman };
    let result = runtime.block_on(control.run(&books, workers, &banner));
    // A worker that could not be ended is not waited for.
    runtime.shutdown_background();
    log.finish();
    books.close();
    result.map(|()| ExitCode::SUCCESS).map_err(|fault| fault.to_string())
}

fn open_tls(tls: Option<&policy::tls::Tls>, data: Option<&Path>) -> Result<Option<Tls>, String> {
    tls.map(|tls| Tls::open(tls, data).map_err(|fault| format!("tls: {fault}"))).transpose()
}

/// One listener a worker, all on the same address.
fn listen(settings: &Settings) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let count = if cfg!(target_os = "linux") { settings.workers.unwrap_or_else(cores) } else { 1 };
    // Sharing a port would also share it with another Magpie that is running already. The first
    // socket does not share, so that such a start fails; it is not listening yet when it goes.
    let probe = bound(settings.listen, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(settings.listen);
    probe.listen(BACKLOG)?;
    drop(probe);
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = bound(address, count > 1)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        listeners.push(socket.into());
    }
    Ok((listeners, address))
}

fn bound(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(share)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

type Worker = JoinHandle<io::Result<()>>;

fn start(
    listeners: Vec<TcpListener>,
    shared: &Shared,
    settings: &Settings,
    books: &Books,
    log: &RequestLog,
    alerts: &Alerts,
    ended: &mpsc::Sender<()>,
) -> Result<Vec<Worker>, String> {
    let mut workers = Vec::new();
    let finder = books.ledger.as_ref().map(Finder::new);
    for (number, listener) in listeners.into_iter().enumerate() {
        let shared = shared.clone();
        let log = settings.log_requests.then(|| log.recorder());
        let journal = books.ledger.as_ref().map(Ledger::writer).transpose();
        let journal = journal.map_err(|fault| format!("the ledger: {fault}"))?;
        let (finder, alerts, sync) = (finder.clone(), alerts.clone(), settings.ledger.sync);
        let ended = TellsEnd(ended.clone());
        let worker = thread::Builder::new()
            .name(format!("magpie-{number}"))
            .spawn(move || {
                let _ended = ended;
                work(listener, shared, |shard| {
                    Recording::new(journal, finder, log, alerts, shard, sync)
                })
            })
            .map_err(|fault| fault.to_string())?;
        workers.push(worker);
    }
    Ok(workers)
}

/// Tells that a worker has ended, however it did.
struct TellsEnd(mpsc::Sender<()>);

impl Drop for TellsEnd {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

fn work(
    listener: TcpListener,
    shared: Shared,
    recording: impl FnOnce(Rc<Shard>) -> Recording,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let shard = Rc::new(shared.measure.hub.shard(runtime.handle().metrics()));
    let recorder = Rc::new(recording(Rc::clone(&shard)));
    runtime.block_on(worker::serve(listener, shared, recorder, shard))
}

/// What the main thread holds on to while the workers serve.
struct Control {
    source: Source,
    /// Those that the process was started with.
    settings: Settings,
    shared: Shared,
    phase: watch::Sender<Phase>,
    /// A worker has ended.
    early: mpsc::Receiver<()>,
    /// Wishes of the admin API for the configuration to be read again.
    reloads: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    office: Office,
    postman: Postman,
}

impl Control {
    /// Waits for signals and changes; returns when every worker has ended.
    async fn run(self, books: &Books, workers: Vec<Worker>, banner: &str) -> io::Result<()> {
        let Self { source, settings, shared, phase, mut early, mut reloads, office, postman } =
            self;
        let mut stop = Stop::new()?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (changed, mut changes) = mpsc::channel(1);
        let folder = source.path.as_deref().and_then(watching::folder);
        let _watcher = folder.and_then(|folder| watching::watch(vec![folder], changed));
        if let Some(https) = &shared.https {
            tokio::spawn(https.clone().keep());
        }
        let network = Rc::new(Network::new(Arc::clone(&shared.tls), Arc::default()));
        tokio::task::spawn_local(postman.run(Rc::clone(&network)));
        tokio::task::spawn_local(Arc::clone(&books.jwks).run(Rc::clone(&network)));
        let checks = Arc::new(Checks::new(Arc::clone(&shared.snapshot), books.gate.epoch));
        let checking = tokio::task::spawn_local(Arc::clone(&checks).run(network));
        office.begin(Arc::clone(&books.gate.directory), Arc::clone(&books.past));
        let jwks = Arc::clone(&books.jwks);
        let past = Arc::clone(&books.past);
        let reading = Reading { source, settings, shared, jwks, past, checks };
        let mut current = reading.source.text().unwrap_or_default();
        // Whoever reads this may send signals.
        let _ = io::stdout().write_all(banner.as_bytes());
        loop {
            tokio::select! {
                _ = stop.wait() => break,
                // One worker less would serve on in part, unseen: stopping lets it be started again.
                _ = early.recv() => {
                    note("a worker has ended unexpectedly");
                    break;
                }
                _ = hangup.recv() => {
                    let _ = reading.again(reading.whole().await, &mut current);
                }
                Some(answer) = reloads.recv() => {
                    let read = reading.again(reading.whole().await, &mut current);
                    let _ = answer.send(read);
                }
                Some(()) = changes.recv() => {
                    // A file that is being written reads as a part of itself, and an empty one
                    // would do. If this was a part, the rest is another change, still to be told.
                    let seen = reading.source.text();
                    sleep(SETTLE).await;
                    if seen == reading.source.text() && seen.as_ref() != Ok(&current) {
                        let _ = reading.again(seen, &mut current);
                    }
                }
            }
        }
        checking.abort();
        let shared = &reading.shared;
        note("stopping: running answers may finish");
        shared.state.stop();
        let _ = phase.send(Phase::Draining);
        let mut ended = tokio::task::spawn_blocking(move || join(workers));
        tokio::select! {
            result = &mut ended => {
                return result.unwrap_or_else(|fault| Err(io::Error::other(fault)));
            }
            () = sleep(shared.snapshot.load().settings.grace) => {}
            _ = stop.wait() => {}
        }
        let _ = phase.send(Phase::Shedding);
        match timeout(LAST_WORDS, ended).await {
            Ok(result) => result.unwrap_or_else(|fault| Err(io::Error::other(fault))),
            // What still hangs on now ends with the process.
            Err(_) => Ok(()),
        }
    }
}

fn join(workers: Vec<Worker>) -> io::Result<()> {
    for worker in workers {
        worker.join().map_err(|_| io::Error::other("a worker has panicked"))??;
    }
    Ok(())
}

/// The two ways to be told to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What is served, where, and a line to paste.
fn banner(
    snapshot: &Snapshot,
    source: &Source,
    address: SocketAddr,
    workers: usize,
    admin: Option<SocketAddr>,
) -> String {
    let origin = source
        .path
        .as_ref()
        .map_or_else(|| String::from("the environment"), |path| path.display().to_string());
    let providers: Vec<String> = snapshot
        .providers
        .iter()
        .map(|provider| match provider.models.len() {
            0 => format!("  {:<14} {}", provider.id, provider.name),
            count => {
                let count = counted(count, "model");
                format!("  {:<14} {} ({count} listed)", provider.id, provider.name)
            }
        })
        .collect();
    let default = snapshot.default_route();
    let admin = match admin {
        Some(admin) => format!("  admin API      http://{admin}/admin/v1\n"),
        None => String::new(),
    };
    let scheme = if snapshot.settings.tls.is_some() { "https" } else { "http" };
    let hint = match snapshot.real_providers().next() {
        Some(_) => "",
        None => {
            "\n  No provider key was found. Set one and start again, for example\n    \
                 export XINGHE_API_KEY=...   (`magpie providers` lists all variables)\n"
        }
    };
    let workers = counted(workers, "worker");
    format!(
        "Magpie {VERSION} on {scheme}://{address}  (API /v1, docs /docs, {workers}, from {origin})\n\
         {}\n  default        {}/{}\n{admin}{hint}\n  Try it:\n    \
         curl {scheme}://{address}/v1/chat/completions -H 'content-type: application/json' \\\n      \
         -d '{{\"model\": \"echo\", \"messages\": [{{\"role\": \"user\", \"content\": \"hello\"}}]}}'\n\n",
        providers.join("\n"),
        default.provider.id,
        default.upstream_model,
    )
}
