//! The snapshot: everything a request is decided by, resolved and immutable.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;

use crate::config::{KeyConfig, LedgerConfig, LogFormat, MetricsConfig};
use crate::directory::{GroupConfig, Holder, Kind};
use crate::edits::EditPlan;
use crate::health::Health;
use crate::idempotency::Sharing;
use crate::jwt::Issuer;
use crate::money::Exchange;
use crate::names::{Pattern, UnknownModel, nearest};
use crate::plan::{Plan, Spot};
use crate::planned::{Planned, Way};
use crate::price::{ModelLimits, Price};
use crate::provider::{Clocks, Provider};
use crate::rules::Rule;
use crate::tls::Tls;

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
    /// Answers that are shared.
    pub sharing: Sharing,
    /// Every provider, in the order of the file.
    pub providers: Vec<Arc<Provider>>,
    /// What the owner should know, though it stops nothing.
    pub warnings: Vec<String>,
    pub(crate) exact: HashMap<Box<str>, Arc<Plan>>,
    pub(crate) wildcards: Vec<Wildcard>,
    pub(crate) default: Arc<Route>,
    /// What `GET /v1/models` lists: id and provider.
    pub(crate) listed: Vec<(String, Arc<str>)>,
    /// Plans of models that have no name of their own, as they were asked for.
    pub(crate) plain: ArcSwap<HashMap<Box<str>, Arc<Plan>>>,
    /// How the targets are. Goes on over reloads.
    pub(crate) health: Arc<Health>,
    /// Who is served without a key.
    pub keyless: Keyless,
    /// What currencies are worth in each other.
    pub exchange: Arc<Exchange>,
    /// The keys and groups that the file owns.
    pub callers: Callers,
    /// Issuers whose tokens are taken in place of keys.
    pub issuers: Vec<Arc<Issuer>>,
    /// Limits on combinations.
    pub rules: Vec<Rule>,
    /// Those among models and providers that have limits or budgets.
    pub(crate) holders: Vec<Arc<Holder>>,
}

/// Plans that are remembered. Beyond them, each request makes its own.
const PLAIN_PLANS: usize = 1024;
/// Bytes of a name whose plan is remembered: whoever calls writes it, as long as a body may be.
const LONGEST_PLAIN: usize = 256;

/// Who is served without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyless {
    /// Everyone: `open: true`.
    Everyone,
    /// Everyone on this machine, as long as there is no key.
    UntilKeys,
    /// Nobody.
    Nobody,
}

/// The keys and groups that the file owns.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    /// Users, teams and organisations.
    pub groups: Vec<(Kind, String, GroupConfig)>,
    /// Keys.
    pub keys: Vec<KeyConfig>,
}

/// What the process is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// HTTPS on that address; `None` for clear text.
    pub tls: Option<Tls>,
    /// Worker threads; `None` for one per core.
    pub workers: Option<usize>,
    /// How long running answers may take to finish at shutdown.
    pub grace: Duration,
    /// Whether each request is logged.
    pub log_requests: bool,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// The folder for what lasts; `None` if the environment names no place for it.
    pub data: Option<PathBuf>,
    /// Whether the owner named that folder: then it has to work.
    pub data_named: bool,
    /// The durable record.
    pub ledger: LedgerConfig,
    /// The admin API; `None` if it is off.
    pub admin: Option<Admin>,
    /// The numbers for Prometheus.
    pub metrics: MetricsConfig,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether the owner named that address: then it has to work.
    pub named: bool,
    /// Host names it may be called by, beside localhost and the address listened on.
    pub hosts: Vec<String>,
    /// HTTPS on that address; `None` for clear text.
    pub tls: Option<Tls>,
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
#[derive(Clone)]
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
    /// What the model costs there, if that is known.
    pub price: Option<Arc<Price>>,
    /// What the model can take and give, as far as that is known.
    pub model_limits: ModelLimits,
    /// The limits and budgets of the model and its provider.
    pub holders: Vec<Arc<Holder>>,
    /// Identical requests of one tenant at the same time share one call.
    pub single_flight: bool,
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
            price: provider.price(model),
            model_limits: provider.model_limits(model),
            holders: provider.holder.iter().cloned().collect(),
            single_flight: false,
        }
    }

    /// The same with limits and budgets of the model's own.
    pub(crate) fn held_by(mut self, holder: Option<&Arc<Holder>>) -> Self {
        self.holders.extend(holder.cloned());
        self
    }

    /// The route to a model of a provider with nothing but the provider's own edits and clocks.
    pub(crate) fn plain(provider: &Arc<Provider>, model: &str) -> Self {
        Self::new(provider, model, Arc::clone(&provider.edits), provider.clocks)
    }

    /// Whether it goes to this model of this provider.
    pub(crate) fn goes_to(&self, provider: &Provider, model: &str) -> bool {
        self.provider.id == provider.id && *self.upstream_model == *model
    }
}

/// A wildcard model.
pub(crate) struct Wildcard {
    pub(crate) pattern: Pattern,
    /// The upstream models, whose stars are filled in; that of the mirror behind them.
    pub(crate) targets: Vec<Pattern>,
    pub(crate) model: Planned,
}

impl Wildcard {
    /// Each target: its provider, what that calls the model, and what applies there.
    fn ways(&self) -> impl Iterator<Item = (&Spot, &Pattern, &Way)> {
        let spots = self.model.draft.spots().iter();
        let named = spots.zip(&self.targets).zip(&self.model.ways);
        named.map(|((spot, target), way)| (spot, target, way))
    }
}

impl Snapshot {
    /// The plan of a model. An exact name counts before a wildcard (the one with more letters
    /// first), that before `provider/model`, that before a bare name that a provider lists. Empty
    /// and `default` are the default model.
    ///
    /// # Errors
    /// [`UnknownModel`] with the nearest names.
    pub fn plan(&self, model: &str) -> Result<Arc<Plan>, UnknownModel> {
        let default = || self.exact.get("default").filter(|_| model.is_empty());
        if let Some(plan) = self.exact.get(model).or_else(default) {
            return Ok(Arc::clone(plan));
        }
        if let Some(plan) = self.plain.load().get(model) {
            return Ok(Arc::clone(plan));
        }
        let plan = self.made(model).ok_or_else(|| self.unknown(model))?;
        self.remember(model, &plan);
        Ok(plan)
    }

    /// The plans that there are, by the name that is asked for, in the order of names: those of the
    /// file, the default's, and those that were made for other names since this snapshot was.
    #[must_use]
    pub fn plans(&self) -> Vec<(Box<str>, Arc<Plan>)> {
        let made = self.plain.load();
        let named = made.iter().filter(|(name, _)| !name.is_empty()).chain(&self.exact);
        let mut plans: BTreeMap<Box<str>, Arc<Plan>> =
            named.map(|(name, plan)| (name.clone(), Arc::clone(plan))).collect();
        if !plans.contains_key("default")
            && let Some(default) = self.made("default")
        {
            plans.insert("default".into(), default);
        }
        plans.into_iter().collect()
    }

    /// Where a request for `model` goes first: the first target of its [plan](Self::plan).
    ///
    /// # Errors
    /// [`UnknownModel`] with the nearest names.
    pub fn route(&self, model: &str) -> Result<Arc<Route>, UnknownModel> {
        Ok(Arc::clone(self.plan(model)?.first_route()))
    }

    /// Lets the limits of models hold for the default as well, where the file does not name one.
    pub(crate) fn hold_default(&mut self) {
        if !self.exact.contains_key("default") {
            self.default = self.direct(&self.default.provider, &self.default.upstream_model);
        }
    }

    /// The plan of a route that has none of its own.
    #[must_use]
    pub fn plan_of(&self, model: &str, route: Arc<Route>) -> Plan {
        Plan::single(model, route, &self.health)
    }

    /// How the targets are.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The plan of a model without a name of its own.
    fn made(&self, model: &str) -> Option<Arc<Plan>> {
        if model.is_empty() || model == "default" {
            return Some(Arc::new(self.plan_of("default", Arc::clone(&self.default))));
        }
        if let Some(plan) = self.wildcard(model) {
            return Some(Arc::new(plan));
        }
        let route = self.qualified(model).or_else(|| self.bare(model))?;
        Some(Arc::new(self.plan_of(model, route)))
    }

    /// Keeps a plan that was made for a name, as long as there is room.
    fn remember(&self, model: &str, plan: &Arc<Plan>) {
        let known = self.plain.load();
        if known.len() < PLAIN_PLANS && model.len() <= LONGEST_PLAIN {
            let mut more = HashMap::clone(&known);
            more.insert(model.into(), Arc::clone(plan));
            // Two at once lose one of the two: it is made again.
            self.plain.store(Arc::new(more));
        }
    }

    /// Takes over what was used of the limits and budgets that were there before, and what is known
    /// of targets that stay.
    pub fn inherit(&mut self, before: &Self) {
        self.health = Arc::clone(&before.health);
        for plan in self.exact.values_mut() {
            *plan = Arc::new(plan.known_by(&self.health));
        }
        self.plain.store(Arc::default());
        for rule in &mut self.rules {
            rule.inherit(&before.rules);
        }
        let known = before.holders.iter().map(|old| ((old.kind, &old.id), old));
        let known: HashMap<(Kind, &Arc<str>), &Arc<Holder>> = known.collect();
        for holder in &self.holders {
            if let Some(old) = known.get(&(holder.kind, &holder.id)) {
                holder.adopt(old);
            }
        }
    }

    /// Everyone among models and providers who has limits or budgets.
    #[must_use]
    pub fn holders(&self) -> &[Arc<Holder>] {
        &self.holders
    }

    /// The provider of this name.
    #[must_use]
    pub fn provider(&self, id: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| &*provider.id == id)
    }

    /// The provider a request without model or header goes to: the only one beside the echo.
    #[must_use]
    pub fn only_provider(&self) -> Option<&Arc<Provider>> {
        let mut real = self.real_providers();
        real.next().filter(|_| real.next().is_none())
    }

    /// Every provider but the echo.
    pub fn real_providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter().filter(|provider| &*provider.id != "echo")
    }

    /// The route that asks `provider` for the upstream model `model` as it stands. An empty one is
    /// not known.
    #[must_use]
    pub fn direct(&self, provider: &Arc<Provider>, model: &str) -> Arc<Route> {
        let mut route = Route::plain(provider, model);
        if model.is_empty() {
            return Arc::new(route);
        }
        route.holders.extend(self.behind_wildcards(provider, model));
        Arc::new(self.with_namesakes(route))
    }

    /// Adds the limits and budgets of the models that the file sends to the same place, so that
    /// nobody avoids them under a name that the file does not spell out.
    fn with_namesakes(&self, mut route: Route) -> Route {
        // The targets of a composed model are those of others.
        let plans = self.exact.values().filter(|plan| plan.composed().is_none());
        let routes = plans.flat_map(|plan| plan.targets()).map(|to| &to.route);
        let same = routes.filter(|known| {
            known.holders.len() > usize::from(known.provider.holder.is_some())
                && known.goes_to(&route.provider, &route.upstream_model)
        });
        let holders = same.flat_map(|known| &known.holders);
        let mut models: Vec<_> =
            holders.filter(|holder| holder.kind == Kind::Model).cloned().collect();
        // In the same order each time: the first that is exhausted is the one that is told.
        models.sort_by(|a, b| a.id.cmp(&b.id));
        route.holders.extend(models);
        route
    }

    /// The limits and budgets of the wildcards that would send some name to this model.
    fn behind_wildcards(&self, provider: &Provider, model: &str) -> Vec<Arc<Holder>> {
        self.wildcards
            .iter()
            .flat_map(|wildcard| {
                wildcard.ways().filter_map(move |(spot, target, way)| {
                    let holder = way.holder.as_ref().filter(|_| spot.provider.id == provider.id)?;
                    let name = wildcard.pattern.filled(target.matched(model)?);
                    self.leads_to(wildcard, &name).then(|| Arc::clone(holder))
                })
            })
            .collect()
    }

    /// Whether a name is taken for this wildcard.
    fn leads_to(&self, wildcard: &Wildcard, name: &str) -> bool {
        let first = self.wildcards.iter().find(|any| any.pattern.matched(name).is_some());
        !self.exact.contains_key(name) && first.is_some_and(|first| std::ptr::eq(first, wildcard))
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

    fn wildcard(&self, model: &str) -> Option<Plan> {
        self.wildcards.iter().find_map(|wildcard| {
            let star = wildcard.pattern.matched(model)?;
            let upstream = |index: usize| wildcard.targets[index].filled(star);
            let finish = |route| self.with_namesakes(route);
            wildcard.model.plan(&wildcard.model.name, upstream, finish, &self.health)
        })
    }

    fn qualified(&self, model: &str) -> Option<Arc<Route>> {
        let (provider, upstream) = model.split_once('/')?;
        let provider = self.provider(provider)?;
        (!upstream.is_empty()).then(|| self.direct(provider, upstream))
    }

    fn bare(&self, model: &str) -> Option<Arc<Route>> {
        let lists = |provider: &&Arc<Provider>| provider.models.iter().any(|known| known == model);
        self.providers.iter().find(lists).map(|provider| self.direct(provider, model))
    }

    fn unknown(&self, model: &str) -> UnknownModel {
        let names = self.listed.iter().map(|(name, _)| name.as_str());
        UnknownModel { nearest: nearest(model, names, 3).into_iter().map(String::from).collect() }
    }
}
