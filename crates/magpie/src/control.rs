//! The life of the process: start the workers, watch for signals and changes, stop in good order.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher};
use policy::{Problem, Settings, Snapshot};
use relay::Recorder;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::configuration::Source;
use crate::limits::max_connections;
use crate::log::{LogRecorder, RequestLog, Silence, note};
use crate::pages::State;
use crate::upstream::TlsConfigs;
use crate::version::VERSION;
use crate::worker::{self, Phase, Shared};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// After the grace is over: how long streams may take to say that they end.
const LAST_WORDS: Duration = Duration::from_millis(1500);
/// Editors write a file in several steps: how long to wait for the last one.
const SETTLE: Duration = Duration::from_millis(100);

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
    let settings = snapshot.settings.clone();
    let (listeners, address) = listen(&settings)
        .map_err(|fault| format!("cannot listen on {}: {fault}", settings.listen))?;
    let log = RequestLog::start(settings.log_format).map_err(|fault| fault.to_string())?;
    let banner = banner(&snapshot, &source, address, listeners.len());
    let (phase, watching) = watch::channel(Phase::Running);
    let shared = Shared {
        max_connections: max_connections(snapshot.limits.connections),
        snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
        state: Arc::new(State::default()),
        tls: Arc::new(TlsConfigs::default()),
        phase: watching,
        connections: Arc::new(AtomicUsize::new(0)),
    };
    let (ended, mut early) = mpsc::channel(1);
    let workers = start(listeners, &shared, &settings, &log, &ended)?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|fault| fault.to_string())?;
    let result = runtime.block_on(control(source, &shared, &phase, workers, &mut early, &banner));
    // A worker that could not be ended is not waited for.
    runtime.shutdown_background();
    log.finish();
    result.map(|()| ExitCode::SUCCESS).map_err(|fault| fault.to_string())
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
    log: &RequestLog,
    ended: &mpsc::Sender<()>,
) -> Result<Vec<Worker>, String> {
    let mut workers = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let shared = shared.clone();
        let recorder = settings.log_requests.then(|| log.recorder());
        let ended = TellsEnd(ended.clone());
        let worker = thread::Builder::new()
            .name(format!("magpie-{number}"))
            .spawn(move || {
                let _ended = ended;
                work(listener, shared, recorder)
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

fn work(listener: TcpListener, shared: Shared, recorder: Option<LogRecorder>) -> io::Result<()> {
    let recorder: Rc<dyn Recorder> = match recorder {
        Some(recorder) => Rc::new(recorder),
        None => Rc::new(Silence),
    };
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(worker::serve(listener, shared, recorder))
}

/// Waits for signals and changes; returns when every worker has ended.
async fn control(
    source: Source,
    shared: &Shared,
    phase: &watch::Sender<Phase>,
    workers: Vec<Worker>,
    early: &mut mpsc::Receiver<()>,
    banner: &str,
) -> io::Result<()> {
    let settings = &shared.snapshot.load().settings.clone();
    let mut stop = Stop::new()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (changed, mut changes) = mpsc::channel(1);
    let _watcher = watch_file(&source, changed);
    let mut current = source.text().unwrap_or_default();
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
            _ = hangup.recv() => reload(&source, source.text(), shared, settings, &mut current),
            Some(()) = changes.recv() => {
                // A file that is being written reads as a part of itself, and an empty one would
                // do. If this was a part, the rest is another change, which is still to be told.
                let seen = source.text();
                sleep(SETTLE).await;
                if seen == source.text() && seen.as_ref() != Ok(&current) {
                    reload(&source, seen, shared, settings, &mut current);
                }
            }
        }
    }
    note("stopping: running answers may finish");
    shared.state.stop();
    let _ = phase.send(Phase::Draining);
    let mut ended = tokio::task::spawn_blocking(move || join(workers));
    tokio::select! {
        result = &mut ended => return result.unwrap_or_else(|fault| Err(io::Error::other(fault))),
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

/// Says when something happens in the file's folder: a rename over the file, as editors and
/// Kubernetes do it, is not seen by watching the file itself.
fn watch_file(source: &Source, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let path = std::path::absolute(source.path.as_ref()?).ok()?;
    let folder = path.parent()?.to_owned();
    let told = move |event: notify::Result<notify::Event>| {
        // A full queue means that a reload is due anyway.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = changed.try_send(());
        }
    };
    let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watcher {
        Ok(watcher) => Some(watcher),
        Err(fault) => {
            note(&format!(
                "cannot watch {}: {fault}; send SIGHUP after a change",
                folder.display()
            ));
            None
        }
    }
}

/// Swaps the configuration whole, or keeps the one there is.
fn reload(
    source: &Source,
    text: Result<String, Vec<Problem>>,
    shared: &Shared,
    settings: &Settings,
    current: &mut String,
) {
    let read = text.and_then(|text| {
        current.clone_from(&text);
        source.resolve(&text)
    });
    match read {
        Ok(snapshot) => {
            let fixed =
                |settings: &Settings| Settings { grace: Duration::ZERO, ..settings.clone() };
            let connections = snapshot.limits.connections;
            if fixed(&snapshot.settings) != fixed(settings)
                || connections != shared.snapshot.load().limits.connections
            {
                note("listen, workers, log and limits.connections take a restart");
            }
            for warning in &snapshot.warnings {
                note(&format!("warning: {warning}"));
            }
            let models = snapshot.models().len();
            let providers = snapshot.providers.len();
            shared.snapshot.store(Arc::new(snapshot));
            shared.tls.forget();
            note(&format!("configuration read: {providers} providers, {models} models"));
        }
        Err(problems) => {
            note("the new configuration is not used, the one before stays:");
            let _ = io::stderr().write_all(source.report(&problems).as_bytes());
        }
    }
}

/// What is served, where, and a line to paste.
fn banner(snapshot: &Snapshot, source: &Source, address: SocketAddr, workers: usize) -> String {
    let origin = source
        .path
        .as_ref()
        .map_or_else(|| String::from("the environment"), |path| path.display().to_string());
    let providers: Vec<String> = snapshot
        .providers
        .iter()
        .map(|provider| match provider.models.len() {
            0 => format!("  {:<14} {}", provider.id, provider.name),
            count => format!("  {:<14} {} ({count} models listed)", provider.id, provider.name),
        })
        .collect();
    let default = snapshot.default_route();
    let hint = match snapshot.real_providers().next() {
        Some(_) => "",
        None => {
            "\n  No provider key was found. Set one and start again, for example\n    \
                 export XINGHE_API_KEY=...   (`magpie providers` lists all variables)\n"
        }
    };
    format!(
        "Magpie {VERSION} on http://{address}  (API /v1, docs /docs, {workers} workers, from {origin})\n\
         {}\n  default        {}/{}\n{hint}\n  Try it:\n    \
         curl http://{address}/v1/chat/completions -H 'content-type: application/json' \\\n      \
         -d '{{\"model\": \"echo\", \"messages\": [{{\"role\": \"user\", \"content\": \"hello\"}}]}}'\n\n",
        providers.join("\n"),
        default.provider.id,
        default.upstream_model,
    )
}
