//! The admin API, and the store of what it manages.
//!
//! What happens to a call, in the order of time: host, page and path (`access`); the token
//! ([`auth`]), unless its address has sent too many wrong ones ([`door`]); the route, and the [policy table](table) for it; only then query and body
//! ([`endpoint`]); the handler ([`api`]), on a blocking thread; the [store], the audit log with it;
//! and after the commit what runs ([`live`]).

mod access;
pub mod api;
pub mod auth;
pub mod door;
pub mod endpoint;
pub mod experiment;
pub mod explain;
pub mod fault;
mod ids;
pub mod live;
pub mod openapi;
pub mod reports;
pub mod routes;
pub mod store;
pub mod table;
pub mod terms;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use policy::config::MetricsConfig;
use policy::key::{Digest, KeyText, Pepper};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::auth::{Authorized, Caller, Scraping};
use crate::door::{Door, Peer};
use crate::endpoint::Endpoint;
use crate::fault::{Code, Fault, Language};
use crate::live::Live;
use crate::reports::Reports;
use crate::routes::Route;
use crate::store::Store;

/// Calls that are worked on at once; each holds a blocking thread.
const AT_ONCE: usize = 8;
/// How long a call waits to be one of them.
const PATIENCE: Duration = Duration::from_secs(5);
/// The shortest token that may be set from outside, in bytes.
const MIN_TOKEN: usize = 32;

/// What the admin API is made of.
pub struct Options {
    /// Where `settings.db` is.
    pub path: PathBuf,
    /// What digests are made with.
    pub pepper: Pepper,
    /// The owner's token, as `MAGPIE_ADMIN_TOKEN` holds it.
    pub token: Option<String>,
    /// Host names it may be called by, beside localhost; `None` for any.
    pub hosts: Option<Vec<String>>,
    /// Who may read the metrics.
    pub metrics: MetricsConfig,
    /// What runs.
    pub live: Arc<dyn Live>,
    /// What happened.
    pub reports: Arc<dyn Reports>,
}

/// Why the admin API cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The store cannot be opened.
    Store(store::OpenError),
    /// `MAGPIE_ADMIN_TOKEN` is too short to be a secret.
    WeakToken,
    /// The first token could not be made.
    FirstToken(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::WeakToken => {
                write!(f, "MAGPIE_ADMIN_TOKEN is shorter than {MIN_TOKEN} characters")
            }
            Self::FirstToken(why) => write!(f, "the first admin token cannot be made: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The admin API of one Magpie.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) pepper: Pepper,
    pub(crate) token: Option<Digest>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) metrics: Scraping,
    pub(crate) live: Arc<dyn Live>,
    pub(crate) reports: Arc<dyn Reports>,
    door: Door,
    permits: Arc<Semaphore>,
}

impl Console {
    /// Opens the store. If there is neither an owner in it nor a token from outside, the first
    /// owner's token is made and returned, to be printed once.
    ///
    /// # Errors
    /// A [`StartError`].
    pub fn open(options: Options) -> Result<(Self, Option<KeyText>), StartError> {
        let Options { path, pepper, token, hosts, metrics, live, reports } = options;
        if token.as_ref().is_some_and(|token| token.trim().len() < MIN_TOKEN) {
            return Err(StartError::WeakToken);
        }
        let token = token.map(|token| pepper.digest(token.trim().as_bytes()));
        let store = Store::open(&path).map_err(StartError::Store)?;
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let door = Door::new();
        let metrics = Scraping::new(&metrics, &pepper);
        let inner = Inner { store, pepper, token, hosts, metrics, live, reports, door, permits };
        let first =
            api::admins::first(&inner).map_err(|fault| StartError::FirstToken(fault.message))?;
        Ok((Self(Arc::new(inner)), first))
    }

    /// The store, for the directory at start.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Everything that is served, made from the one list of routes.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        for route in Route::ALL {
            router = router.route(route.path(), route.mount());
        }
        let routes = router
            .fallback(nothing_here)
            .method_not_allowed_fallback(wrong_method)
            .with_state(self.clone());
        // Around everything, so that the guard comes before the path is looked up.
        Router::new().fallback_service(routes).layer(from_fn_with_state(self.clone(), guard))
    }

    /// Does what a route does, as the owner, without a token: for the command line of the same
    /// machine. Blocks.
    ///
    /// # Errors
    /// What the route would answer.
    pub fn act<E: Endpoint>(
        &self,
        id: &str,
        query: &str,
        body: serde_json::Value,
    ) -> Result<E::Answer, Fault> {
        let desk = Authorized::<E>::check(self.inner(), Caller::owner(auth::COMMAND_LINE))?;
        endpoint::act(desk, id, query, body)
    }

    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.0)
    }

    /// Works on a blocking thread, if there is room.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = timeout(PATIENCE, Arc::clone(&self.0.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Fault::new(Code::Busy, "Too many calls at once."));
        };
        let work = move || {
            let _permit = permit;
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| {
            Err(Fault::new(Code::Failed, "The call failed; nothing was changed."))
        })
    }
}

/// Host, page, path and token, before anything else is looked at; also where nothing lives, so that
/// nobody without a token learns what does.
async fn guard(State(console): State<Console>, mut request: Request, next: Next) -> Response {
    let language = Language::of(request.headers());
    let peer = request.extensions().get::<Peer>().copied();
    let mut response = match enter(&console, request.headers(), request.uri().clone(), peer).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(fault) => fault.respond(language),
    };
    access::stamp(response.headers_mut());
    response
}

async fn enter(
    console: &Console,
    headers: &http::HeaderMap,
    uri: http::Uri,
    peer: Option<Peer>,
) -> Result<Caller, Fault> {
    access::admit(&uri, headers, console.0.hosts.as_deref())?;
    let (inner, headers) = (console.inner(), headers.clone());
    let reads_metrics = uri.path() == Route::Metrics.path();
    let identify = move || {
        inner.door.pass(peer, &headers, || match reads_metrics {
            true => Caller::of_metrics(&inner, &headers),
            false => Caller::identify(&inner, &headers),
        })
    };
    console.blocking(identify).await
}

async fn nothing_here(request: Request) -> Response {
    Fault::not_found().respond(Language::of(request.headers()))
}

async fn wrong_method(request: Request) -> Response {
    let fault = Fault::new(Code::WrongMethod, "This path does not take this method.");
    fault.respond(Language::of(request.headers()))
}
