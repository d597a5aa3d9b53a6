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
mod picker;
mod regions;
mod shape;
mod sides;
mod walk;

use std::sync::Arc;

use crate::health::retry::LONGEST_HELD_MS;
use crate::health::{Health, Live, RetryBudget, backoff_ms};
use crate::money::{Currency, Exchange};
use crate::queue::{Queue, Waiting};
use crate::snapshot::Route;

use beside::SideBySide;
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
    budget: Arc<RetryBudget>,
    beside: Option<SideBySide>,
    composed: Option<Arc<Composed>>,
    /// How often it is gone through again after all of its targets have failed.
    retries: u32,
    /// What prices are compared in: the currency of the first target that has one.
    currency: Option<Currency>,
    exchange: Arc<Exchange>,
    /// Where requests wait for room, if they do.
    queue: Option<Queue>,
    resume: Resume,
    mirror: Option<Arc<Mirror>>,
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
        Self::new(model, Arc::new(Shape::single()), (route, Vec::new()), Arc::default(), health)
    }

    /// A plan with the routes of its targets: the first, and the others.
    fn new(
        model: &str,
        shape: Arc<Shape>,
        (first, others): (Arc<Route>, Vec<Arc<Route>>),
        exchange: Arc<Exchange>,
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
            targets,
            budget: health.budget(model),
            beside: None,
            composed: None,
            retries: 0,
            exchange,
            queue: None,
            resume: Resume::Off,
            mirror: None,
        }
    }

    /// The same, with attempts side by side, and retries.
    pub(crate) fn asking(mut self, beside: Option<Beside>, retries: u32, health: &Health) -> Self {
        let hedges = |beside| SideBySide { beside, hedges: health.hedges(&self.model) };
        self.beside = beside.map(hedges);
        self.retries = retries;
        self
    }

    /// The same where requests wait for room, so long and so many.
    pub(crate) fn lined_up(mut self, waiting: Option<Waiting>, health: &Health) -> Self {
        self.queue = waiting.map(|waiting| Queue { waiting, line: health.line(&self.model) });
        if let Some(queue) = &self.queue {
            self.targets.iter().for_each(|target| target.live.bell.add(&queue.line));
        }
        self
    }

    /// The same plan, of which a share of the requests goes to this route as well.
    pub(crate) fn mirrored_to(mut self, route: Arc<Route>, share: u16, health: &Health) -> Self {
        self.mirror = Some(Arc::new(Mirror::new(&self.model, route, share, health)));
        self
    }

    /// The same plan, with what another registry knows of its targets.
    pub(crate) fn known_by(&self, health: &Health) -> Self {
        let target = |target: &Target| Target::new(Arc::clone(&target.route), health);
        Self {
            model: self.model.clone(),
            salt: self.salt,
            shape: Arc::clone(&self.shape),
            first: Arc::clone(&self.first),
            targets: self.targets.iter().map(target).collect(),
            budget: health.budget(&self.model),
            currency: self.currency,
            beside: None,
            composed: self.composed.as_ref().map(|it| Arc::new(it.known_by(health))),
            retries: self.retries,
            exchange: Arc::clone(&self.exchange),
            queue: None,
            resume: self.resume,
            mirror: self
                .mirror
                .as_ref()
                .map(|mirror| Arc::new(mirror.known_by(&self.model, health))),
        }
        .asking(self.beside(), self.retries, health)
        .lined_up(self.queue.as_ref().map(|queue| queue.waiting), health)
    }

    /// The same plan, where answers that break off are gone on with.
    pub(crate) fn resuming(self, resume: Resume) -> Self {
        Self { resume, ..self }
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
        (rounds < self.retries && wait_ms <= LONGEST_HELD_MS).then_some(wait_ms)
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
        self.resume
    }

    /// What it looks at in a request that has to be worked out first.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.shape.needs
    }
}
