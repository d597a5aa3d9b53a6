//! The admin listener.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use console::door::Peer;
use console::live::Live;
use console::reports::Reports;
use console::{Console, Options};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use policy::Admin;
use policy::config::MetricsConfig;
use policy::key::{Pepper, hex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::data::{Data, random};
use crate::listener::Tls;
use crate::log::note;

/// The variable that holds the owner's token.
pub(crate) const TOKEN: &str = "MAGPIE_ADMIN_TOKEN";
/// Connections at once.
const CONNECTIONS: usize = 256;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one connection may last.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Rest after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the store of the admin API. The owner's token is told once, when it is made.
///
/// # Errors
/// A sentence, if the store cannot be used.
pub(crate) fn open(
    data: &Data,
    admin: Option<&Admin>,
    metrics: MetricsConfig,
    pepper: Pepper,
    live: Arc<dyn Live>,
    reports: Arc<dyn Reports>,
) -> Result<Console, String> {
    let from_outside = || std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty());
    let token = match admin {
        Some(_) => from_outside(),
        // Nobody can call: the owner's token is made, and told, by the first start that listens.
        None => Some(hex(&random().map_err(|fault| fault.to_string())?)),
    };
    let hosts = admin.map(|admin| {
        let own = admin.listen.ip().to_string();
        admin.hosts.iter().cloned().chain([own]).collect()
    });
    let path = data.path("settings.db");
    let options = Options { path, pepper, token, hosts, metrics, live, reports };
    let (console, first) = Console::open(options).map_err(|fault| fault.to_string())?;
    if let Some(first) = first {
        note(&format!("the owner's token for the admin API, shown this once: {}", first.expose()));
    }
    Ok(console)
}

/// Binds the listener. An address that the owner did not name is done without if it is taken.
///
/// # Errors
/// A sentence, if the owner named the address and it cannot be listened on.
pub(crate) fn bind(admin: &Admin) -> Result<Option<StdListener>, String> {
    let bound = StdListener::bind(admin.listen).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    match bound {
        Ok(listener) => Ok(Some(listener)),
        Err(fault) if admin.named => Err(format!("cannot listen on {}: {fault}", admin.listen)),
        Err(fault) => {
            note(&format!(
                "no admin API: {} is taken ({fault}); set `admin.listen` to another address",
                admin.listen
            ));
            Ok(None)
        }
    }
}

/// Serves the admin API until it is dropped.
///
/// # Errors
/// If the listener is unusable.
pub(crate) async fn serve(
    listener: StdListener,
    tls: Option<Tls>,
    console: Console,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let router = console.router();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let Ok((stream, from)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let router = router.clone().layer(axum::Extension(Peer(from.ip())));
        let tls = tls.clone();
        tokio::spawn(async move {
            let _place = place;
            match tls {
                None => converse(stream, router).await,
                Some(tls) => {
                    if let Some(stream) = tls.accept(stream).await {
                        converse(stream, router).await;
                    }
                }
            }
        });
    }
}

async fn converse<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // How it ends is the client's affair.
    let _ = timeout(LIFETIME, connection).await;
}
