//! From the configuration as written to the snapshot: every problem at once.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::providers::Profile;
use arc_swap::ArcSwap;
use http::HeaderValue;

use crate::config::{At, Config};
use crate::directory::Holder;
use crate::health::Health;
use crate::idempotency::Sharing;
use crate::load::Environment;
use crate::price::Overrides;
use crate::problem::{Place, Problem};
use crate::provider::{Clocks, Origin};
use crate::snapshot::{Access, Keyless, Limits, Settings, Snapshot};
use crate::units;

mod callers;
mod checks;
mod composed;
mod mirrors;
mod models;
mod providers;
mod tls;
mod windows;

/// Where the API listens if nothing else is said.
const DEFAULT_LISTEN: &str = "127.0.0.1:8000";

/// Builds the snapshot of a configuration in an environment.
///
/// # Errors
/// Every [`Problem`] of meaning, in the order of the file.
pub fn build(
    config: &Config,
    profiles: &[(String, Profile)],
    environment: &Environment,
) -> Result<Snapshot, Vec<Problem>> {
    build_beside(config, profiles, environment, &|_| false)
}

/// The same beside a store: `has_keys` says whether the one in the data folder has keys, with which
/// others can be served. It is asked only where that decides.
///
/// # Errors
/// Every [`Problem`] of meaning, in the order of the file.
pub fn build_beside(
    config: &Config,
    profiles: &[(String, Profile)],
    environment: &Environment,
    has_keys: &dyn Fn(&Path) -> bool,
) -> Result<Snapshot, Vec<Problem>> {
    let mut builder = Builder {
        profiles,
        environment,
        has_keys,
        listen: None,
        prices: Arc::default(),
        holders: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let (settings, keyless) = builder.settings(config);
    builder.prices = builder.prices(config);
    let callers = builder.callers(config);
    let issuers = builder.issuers(config);
    let rules = builder.rules(config);
    builder.listen = Some(settings.listen);
    let access = builder.access(config, &settings);
    let limits = builder.limits(config);
    let sharing = Sharing::of(config, &mut builder.problems);
    let clocks = builder.clocks(Clocks::default(), &config.timeouts);
    let providers = builder.providers(config, clocks);
    let health = Arc::new(Health::default());
    let models = builder.models(config, &providers, &health);
    let composed = builder.composed(config);
    if models.default.is_none() {
        builder.problem(Place::NONE, "nothing is served by default", "add models.default");
    }
    let listed = models::listed(&models, &providers);
    let Some(default) = models.default.filter(|_| builder.problems.is_empty()) else {
        builder.problems.sort();
        return Err(builder.problems);
    };
    let mut snapshot = Snapshot {
        settings,
        access,
        limits,
        meter_streams: config.metering.stream_usage,
        sharing,
        providers,
        warnings: builder.warnings,
        exact: models.exact,
        wildcards: models.wildcards,
        default,
        listed,
        plain: ArcSwap::default(),
        health,
        keyless,
        exchange: Arc::new(config.exchange.clone()),
        callers,
        issuers,
        rules,
        holders: builder.holders,
    };
    snapshot.hold_default();
    composed::place(&mut snapshot, composed)?;
    Ok(snapshot)
}

struct Builder<'a> {
    profiles: &'a [(String, Profile)],
    environment: &'a Environment,
    /// Whether the store in a data folder has keys.
    has_keys: &'a dyn Fn(&Path) -> bool,
    /// The configuration's prices, once they are read.
    prices: Arc<Overrides>,
    /// Models and providers with limits or budgets.
    holders: Vec<Arc<Holder>>,
    /// Where the API listens, once that is known.
    listen: Option<SocketAddr>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Builder<'_> {
    fn problem(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(place, message, hint));
    }

    /// Whether requests to an origin would come back here, again and again.
    fn is_own(&self, origin: &Origin) -> bool {
        let local = matches!(&*origin.host, "localhost" | "127.0.0.1" | "::1");
        local && self.listen.is_some_and(|listen| listen.port() == origin.port)
    }

    fn env(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The value, or a problem and what stands in for it.
    fn or<T>(&mut self, place: Place, result: Result<T, String>, stand_in: T) -> T {
        result.unwrap_or_else(|message| {
            self.problems.push(Problem { place, message, hint: None });
            stand_in
        })
    }

    fn settings(&mut self, config: &Config) -> (Settings, Keyless) {
        let from_env = self.env("MAGPIE_LISTEN").map(|text| (text.to_owned(), Place::NONE));
        let written = config.listen.as_ref().map(|at| (at.value.clone(), at.place));
        let (text, place) =
            from_env.or(written).unwrap_or_else(|| (DEFAULT_LISTEN.to_owned(), Place::NONE));
        let listen = text.replace("localhost:", "127.0.0.1:").parse().unwrap_or_else(|_| {
            let hint = "write for example 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000";
            self.problem(place, format!("`{text}` is not an address to listen on"), hint);
            SocketAddr::from(([127, 0, 0, 1], 8000))
        });
        let keyless = self.keyless(config, listen, place);
        let grace = match &config.shutdown_grace {
            Some(at) => self.or(at.place, units::duration(&at.value), Duration::ZERO),
            None => Duration::from_secs(30),
        };
        let workers = config.workers.as_ref().map(|at| {
            if !(1..=1024).contains(&at.value) {
                self.problem(
                    at.place,
                    "workers must be 1 to 1024",
                    "leave it out for one per core",
                );
            }
            at.value
        });
        let tls = config.tls.as_ref().and_then(|tls| self.tls(tls));
        let (data, data_named) = self.data(config);
        let admin = self.admin(config);
        let metrics = self.metrics(config);
        let settings = Settings {
            listen,
            tls,
            workers,
            grace,
            log_requests: config.log.requests,
            log_format: config.log.format,
            data,
            data_named,
            ledger: config.ledger.clone(),
            admin,
            metrics,
        };
        (settings, keyless)
    }

    fn access(&mut self, config: &Config, settings: &Settings) -> Access {
        let listens_publicly = !settings.listen.ip().is_loopback();
        let mut hosts: Vec<Box<str>> =
            config.hosts.iter().map(|host| host.to_ascii_lowercase().into()).collect();
        hosts.push(settings.listen.ip().to_string().into());
        if let Some(tls) = &settings.tls {
            hosts.extend(tls.domains().iter().map(|name| name.as_str().into()));
        }
        let origins = config.cors.origins.as_ref().map(|origins| {
            for origin in origins {
                let plain = origin.value == "*"
                    || origin.value.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
                if !plain {
                    let hint = "write scheme://host[:port] without a slash at the end, or *";
                    self.problem(origin.place, format!("`{}` is no origin", origin.value), hint);
                }
            }
            origins.iter().map(|origin| origin.value.to_ascii_lowercase().into()).collect()
        });
        let mut joined = |list: &Option<Vec<String>>| {
            let text = list.as_ref()?.join(", ");
            let value = HeaderValue::from_str(&text).map_err(|_| format!("`{text}` is no header"));
            Some(self.or(Place::NONE, value, HeaderValue::from_static("")))
        };
        let methods = joined(&config.cors.methods);
        let headers = joined(&config.cors.headers);
        let any_host = listens_publicly && config.hosts.is_empty();
        Access { hosts: (!any_host).then_some(hosts), origins, methods, headers }
    }

    fn limits(&mut self, config: &Config) -> Limits {
        let place = config.limits.place;
        let written = &config.limits.value;
        let defaults = Limits::default();
        let mut size = |text: &Option<String>, stand_in: usize| match text {
            Some(text) => self.or(place, units::size(text), stand_in),
            None => stand_in,
        };
        let body = size(&written.body, defaults.body);
        let upload = size(&written.upload, defaults.upload);
        if written.connections == Some(0) {
            self.problem(place, "limits.connections must be at least 1", "leave it out for 10000");
        }
        Limits { body, upload, connections: written.connections }
    }

    fn clocks(&mut self, base: Clocks, written: &At<::providers::Timeouts>) -> Clocks {
        self.or(written.place, base.with(&written.value), base)
    }
}
