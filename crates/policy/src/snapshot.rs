//! The snapshot: everything a request is decided by, resolved and immutable.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::config::LogFormat;
use crate::edits::EditPlan;
use crate::names::{Pattern, nearest};
use crate::provider::{Clocks, Provider};

/// One configuration, whole. Swapped whole on reload; a request keeps the one it began with.
pub struct Snapshot {
    /// What the process is started with; a change of it takes a restart.
    pub settings: Settings,
    /// Who may call from where.
    pub access: Access,
    /// Bounds on what a client may send.
    pub limits: Limits,
    /// Whether to ask for the token counts of streams.
    pub meter_streams: bool,
    /// Every provider, in the order of the file.
    pub providers: Vec<Arc<Provider>>,
    /// What the owner should know, though it stops nothing.
    pub warnings: Vec<String>,
    pub(crate) exact: HashMap<Box<str>, Arc<Route>>,
    pub(crate) wildcards: Vec<Wildcard>,
    pub(crate) default: Arc<Route>,
    /// What `GET /v1/models` lists: id and provider.
    pub(crate) listed: Vec<(String, Arc<str>)>,
}

/// What the process is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Worker threads; `None` for one per core.
    pub workers: Option<usize>,
    /// How long running answers may take to finish at shutdown.
    pub grace: Duration,
    /// Whether each request is logged.
    pub log_requests: bool,
    /// The form of log lines.
    pub log_format: LogFormat,
}

/// Who may call from where.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Host names allowed beside localhost; `None` allows every host.
    pub hosts: Option<Vec<Box<str>>>,
    /// Origins let in; `None` stands for pages on localhost.
    pub origins: Option<Vec<Box<str>>>,
    /// The value of `Access-Control-Allow-Methods`.
    pub methods: Option<HeaderValue>,
    /// The value of `Access-Control-Allow-Headers`; `None` mirrors what the page asks for.
    pub headers: Option<HeaderValue>,
}

/// Bounds on what a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a JSON body.
    pub body: usize,
    /// Bytes of any other body.
    pub upload: usize,
    /// Client connections at once; `None` for what the process may open.
    pub connections: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 20 << 20, upload: 200 << 20, connections: None }
    }
}

/// Where a request goes: one target, with the edits and clocks that apply.
pub struct Route {
    /// Who hosts it.
    pub provider: Arc<Provider>,
    /// What the provider calls it.
    pub upstream_model: Box<str>,
    /// The same as JSON text.
    pub upstream_json: Box<str>,
    /// `provider/upstream-model` as the value of a header.
    pub target_header: HeaderValue,
    /// Edits to chat and completion requests.
    pub edits: Arc<EditPlan>,
    /// The clocks of an attempt.
    pub clocks: Clocks,
}

impl Route {
    /// The route to one upstream model.
    #[must_use]
    pub fn new(
        provider: &Arc<Provider>,
        model: &str,
        edits: Arc<EditPlan>,
        clocks: Clocks,
    ) -> Self {
        let target = format!("{}/{model}", provider.id);
        Self {
            provider: Arc::clone(provider),
            upstream_model: model.into(),
            upstream_json: wire::splice::quoted(model).into(),
            // A model name that no header can hold is still a model name.
            target_header: HeaderValue::from_str(&target)
                .unwrap_or_else(|_| provider.id_header.clone()),
            edits,
            clocks,
        }
    }

    /// The route to a model of a provider with nothing but the provider's own edits and clocks.
    fn plain(provider: &Arc<Provider>, model: &str) -> Arc<Self> {
        Arc::new(Self::new(provider, model, Arc::clone(&provider.edits), provider.clocks))
    }
}

/// A wildcard model.
pub(crate) struct Wildcard {
    pub(crate) pattern: Pattern,
    pub(crate) provider: Arc<Provider>,
    /// The target, whose star is filled in.
    pub(crate) target: Pattern,
    pub(crate) edits: Arc<EditPlan>,
    pub(crate) clocks: Clocks,
}

/// Nobody serves this model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownModel {
    /// The names nearest to it, best first.
    pub nearest: Vec<String>,
}

impl Snapshot {
    /// Where a request for `model` goes. An exact name counts before a wildcard (the one with more
    /// letters first), that before `provider/model`, that before a bare name that a provider
    /// lists. Empty and `default` are the default model.
    ///
    /// # Errors
    /// [`UnknownModel`] with the nearest names.
    pub fn route(&self, model: &str) -> Result<Arc<Route>, UnknownModel> {
        if let Some(route) = self.exact.get(model) {
            return Ok(Arc::clone(route));
        }
        if model.is_empty() || model == "default" {
            return Ok(Arc::clone(&self.default));
        }
        self.wildcard(model)
            .or_else(|| self.qualified(model))
            .or_else(|| self.bare(model))
            .ok_or_else(|| self.unknown(model))
    }

    /// The provider of this name.
    #[must_use]
    pub fn provider(&self, id: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| &*provider.id == id)
    }

    /// The provider a request without model or header goes to: the only one there is beside the
    /// echo.
    #[must_use]
    pub fn only_provider(&self) -> Option<&Arc<Provider>> {
        let mut real = self.real_providers();
        real.next().filter(|_| real.next().is_none())
    }

    /// Every provider but the echo.
    pub fn real_providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter().filter(|provider| &*provider.id != "echo")
    }

    /// The route that asks `provider` for the upstream model `model` as it stands.
    #[must_use]
    pub fn direct(&self, provider: &Arc<Provider>, model: &str) -> Arc<Route> {
        Route::plain(provider, model)
    }

    /// What can be asked for by name: model and provider.
    #[must_use]
    pub fn models(&self) -> &[(String, Arc<str>)] {
        &self.listed
    }

    /// Where `default` goes.
    #[must_use]
    pub fn default_route(&self) -> &Arc<Route> {
        &self.default
    }

    fn wildcard(&self, model: &str) -> Option<Arc<Route>> {
        self.wildcards.iter().find_map(|wildcard| {
            let star = wildcard.pattern.matched(model)?;
            let upstream = wildcard.target.filled(star);
            let edits = Arc::clone(&wildcard.edits);
            Some(Arc::new(Route::new(&wildcard.provider, &upstream, edits, wildcard.clocks)))
        })
    }

    fn qualified(&self, model: &str) -> Option<Arc<Route>> {
        let (provider, upstream) = model.split_once('/')?;
        let provider = self.provider(provider)?;
        (!upstream.is_empty()).then(|| Route::plain(provider, upstream))
    }

    fn bare(&self, model: &str) -> Option<Arc<Route>> {
        let lists = |provider: &&Arc<Provider>| provider.models.iter().any(|known| known == model);
        self.providers.iter().find(lists).map(|provider| Route::plain(provider, model))
    }

    fn unknown(&self, model: &str) -> UnknownModel {
        let names = self.listed.iter().map(|(name, _)| name.as_str());
        UnknownModel { nearest: nearest(model, names, 3).into_iter().map(String::from).collect() }
    }
}
