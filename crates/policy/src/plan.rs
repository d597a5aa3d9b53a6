//! The plan of a model: the targets that can serve it, and which of them a request goes to.
//!
//! A plan is a tree. Its leaves are targets; a [split](PlanConfig::split) divides requests by who
//! calls, a [balance](PlanConfig::balance) by how the targets are doing, a
//! [fallback](PlanConfig::fallback) goes from one to the next, and a [`when`](PlanConfig::when)
//! looks at the request. [`Plan::next`] walks it and yields one [`Candidate`] at a time, so that
//! what is not needed is not looked at: choosing between two of a hundred targets costs what
//! choosing between two of three does, and a plan of one target allocates nothing.
//!
//! Nothing here reads a clock or draws lots: the time and the random bits come in.

mod balance;
mod beside;
mod candidate;
mod compile;
mod composed;
mod condition;
mod config;
mod facts;
pub(crate) mod hash;
mod mirror;
mod options;
mod picker;
mod regions;
mod shape;
mod sides;
mod walk;

use std::sync::Arc;

use crate::health::retry::LONGEST_HELD_MS;
use crate::health::{Allowance, Health, Live, RetryBudget, Tally, backoff_ms};
use crate::money::{Currency, Exchange};
use crate::queue::Queue;
use crate::snapshot::Route;

pub use beside::{Beside, HEDGED_PERCENT, HedgeConfig, Late};
pub use candidate::{Candidate, Explanation, Reason, Skip, Skipped, Why};
pub(crate) use compile::{Draft, Spot, is_in};
pub use compile::{MOST_DEPTH, MOST_TARGETS, MOST_WEIGHT};
pub use composed::{Answered, Composed, Escalate, Judge, MOST_MEMBERS, MOST_STEPS};
pub use condition::{ConditionConfig, Texts};
pub use config::{Affinity, By, CaseConfig, Parts, PlanConfig, Resume, Sticky};
pub use facts::{Facts, LIKELY_OUTPUT, Needs, metadata};
pub(crate) use mirror::PlannedMirror;
pub use mirror::{Mirror, is_drawn};
pub(crate) use options::Options;
pub use picker::{Failed, Picker};
use shape::Shape;
pub use sides::{Side, Sides, StickyTo};

/// The plan of one model, with the live state of its targets. Shared by all requests for it.
pub struct Plan {
    model: Box<str>,
    /// Makes the sides of one model's splits independent of another's.
    salt: u64,
    shape: Arc<Shape>,
    first: Arc<Route>,
    targets: Box<[Target]>,
    composed: Option<Arc<Composed>>,
    /// What prices are compared in: the currency of the first target that has one.
    currency: Option<Currency>,
    exchange: Arc<Exchange>,
    options: Options,
    budget: Arc<RetryBudget>,
    /// What hedges are taken from.
    hedges: Arc<Allowance>,
    /// Where requests wait for room, if they do.
    queue: Option<Queue>,
    mirror: Option<Arc<Mirror>>,
    tally: Arc<Tally>,
}

/// One place where a model can be served.
pub struct Target {
    /// How to ask there.
    pub route: Arc<Route>,
    /// How it is.
    pub live: Arc<Live>,
}

impl Target {
    /// The target of a route, with what is known of it.
    #[must_use]
    pub fn new(route: Arc<Route>, health: &Health) -> Self {
        let marks = route.provider.credential_marks();
        let live = health.live_within(
            route.provider.windows,
            &route.provider.id,
            &route.upstream_model,
            &marks,
        );
        Self { route, live }
    }

    /// `provider/upstream-model`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.route.provider.id, self.route.upstream_model)
    }
}

impl Plan {
    /// The plan of a model that has one target.
    #[must_use]
    pub fn single(model: &str, route: Arc<Route>, health: &Health) -> Self {
        let (shape, routes) = (Arc::new(Shape::single()), (route, Vec::new()));
        Self::new(model, shape, routes, Arc::default(), Options::default(), health)
    }

    /// A plan with the routes of its targets: the first, and the others.
    fn new(
        model: &str,
        shape: Arc<Shape>,
        (first, others): (Arc<Route>, Vec<Arc<Route>>),
        exchange: Arc<Exchange>,
        options: Options,
        health: &Health,
    ) -> Self {
        let routes = std::iter::once(Arc::clone(&first)).chain(others);
        let targets: Box<[Target]> = routes.map(|route| Target::new(route, health)).collect();
        let price = targets.iter().find_map(|target| target.route.price.as_ref());
        Self {
            model: model.into(),
            salt: hash::Hash64::of("model", model),
            shape,
            currency: price.map(|price| price.currency()),
            first,
            composed: None,
            exchange,
            budget: health.budget(model),
            hedges: options.beside.map_or_else(Arc::default, |_| health.hedges(model)),
            queue: options.queue(model, &targets, health),
            mirror: options.mirror(model, health),
            tally: health.tally(model),
            targets,
            options,
        }
    }

    /// The same plan, with what another registry knows of its targets.
    pub(crate) fn known_by(&self, health: &Health) -> Self {
        self.named(&self.model, health)
    }

    /// The same plan as that of another model, with what a registry knows of it.
    fn named(&self, model: &str, health: &Health) -> Self {
        let others = self.targets.iter().skip(1).map(|target| Arc::clone(&target.route));
        let routes = (Arc::clone(&self.first), others.collect());
        let (shape, exchange) = (Arc::clone(&self.shape), Arc::clone(&self.exchange));
        let mut plan = Self::new(model, shape, routes, exchange, self.options.clone(), health);
        plan.composed = self.composed.as_ref().map(|it| Arc::new(it.known_by(health)));
        plan
    }

    /// The name that clients ask for, or the wildcard that fits it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Every target, in the order of the file; at most [`MOST_TARGETS`].
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// How to ask the first target.
    #[must_use]
    pub fn first_route(&self) -> &Arc<Route> {
        &self.first
    }

    /// Its shadow, if it has one. Not among its targets.
    #[must_use]
    pub fn mirror(&self) -> Option<&Arc<Mirror>> {
        self.mirror.as_ref()
    }

    /// How long to wait, in milliseconds, before it is gone through again after all of its targets
    /// have failed, where that was done `rounds` times before; `None` if it is not, or the provider
    /// wants to be left alone for longer than a client should wait.
    #[must_use]
    pub fn wait_ms(&self, rounds: u32, random: u64, asked_ms: Option<u64>) -> Option<u64> {
        let wait_ms = backoff_ms(rounds + 1, random, asked_ms);
        (rounds < self.options.retries && wait_ms <= LONGEST_HELD_MS).then_some(wait_ms)
    }

    /// Its retry budget.
    #[must_use]
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// Where requests wait that find no room, if they do.
    #[must_use]
    pub fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    /// Where an answer that broke off in the middle is gone on with.
    #[must_use]
    pub fn resume(&self) -> Resume {
        self.options.resume
    }

    /// What its options have come to.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// What it looks at in a request that has to be worked out first.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.shape.needs
    }
}
