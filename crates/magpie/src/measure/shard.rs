//! What each worker counts, and how many combinations of names are counted apart.
//!
//! Callers write names of models, and issuers those of teams. So that neither makes as many numbers
//! as it likes, names of the configuration count apart, of others the first few, and combinations
//! up to a bound; the rest is counted together, as `other`.

use std::array::from_fn;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use ledger::MIRROR;
use metrics::catalogue::OWN;
use metrics::{Count, Histogram};
use policy::directory::Kind;
use policy::{Route, Snapshot, limit};
use relay::Record;
use tokio::runtime::RuntimeMetrics;

use super::series::{Key, Seen, Series, nanos};

/// Combinations of model, provider, operation and team that are counted apart, some 1.8 KiB for
/// each worker.
pub(super) const MOST_COMBINATIONS: usize = 1_000;
/// Names of models that only callers have named, and that are counted apart.
const MOST_NAMES: usize = 200;
/// Bytes of such a name.
const LONGEST_NAME: usize = 128;
/// Requests whose first target is remembered: those under way that were tried again. One more, and
/// it begins anew.
const MOST_FIRSTS: usize = 4_096;
/// What stands for all names over the bounds.
const OTHER: &str = "other";
/// What stands for no name.
const NONE: &str = "none";

/// What can hold a limit or a budget, in the order of its type.
pub(super) const HOLDERS: [Kind; 7] =
    [Kind::Key, Kind::User, Kind::Team, Kind::Org, Kind::Model, Kind::Provider, Kind::Rule];
/// Limits by name, and behind them the budget.
pub(super) const LIMITS: usize = limit::NAMES.len() + 1;

/// Connections to the providers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pooled {
    /// Those that there are.
    pub(crate) open: Count,
    /// Those of them that nobody uses.
    pub(crate) idle: Count,
    /// Those that were made.
    pub(crate) opened: Count,
}

/// What one worker counts without any name.
#[repr(align(128))]
pub(super) struct Own {
    pub(super) begun: Count,
    pub(super) ended: Count,
    pub(super) overhead: Histogram,
    pub(super) rejections: [[Count; LIMITS]; HOLDERS.len()],
    pub(super) alerts: [Count; HOLDERS.len()],
    pub(super) pooled: Arc<Pooled>,
    /// Of its runtime.
    pub(super) runtime: RuntimeMetrics,
}

/// The counts of all workers.
pub(crate) struct Hub {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Whether teams are counted apart.
    teams: bool,
    workers: Mutex<Vec<Arc<Own>>>,
    /// For each combination, one series for each worker that met it.
    combinations: Mutex<IndexMap<Key, Vec<Arc<Series>>>>,
    is_full: AtomicBool,
    /// Names of models that are not of the configuration.
    names: RwLock<HashSet<Box<str>>>,
}

impl Hub {
    /// Nothing counted yet.
    pub(crate) fn new(snapshot: Arc<ArcSwap<Snapshot>>, teams: bool) -> Self {
        Self {
            snapshot,
            teams,
            workers: Mutex::default(),
            combinations: Mutex::default(),
            is_full: AtomicBool::new(false),
            names: RwLock::default(),
        }
    }

    /// The place where one worker counts, which runs on this runtime.
    pub(crate) fn shard(self: &Arc<Self>, runtime: RuntimeMetrics) -> Shard {
        let own = Arc::new(Own {
            begun: Count::default(),
            ended: Count::default(),
            overhead: Histogram::default(),
            rejections: from_fn(|_| from_fn(|_| Count::default())),
            alerts: from_fn(|_| Count::default()),
            pooled: Arc::default(),
            runtime,
        });
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&own));
        let (series, firsts) = (RefCell::default(), RefCell::default());
        Shard { hub: Arc::clone(self), own, series, firsts }
    }

    /// What each worker counts without a name.
    pub(super) fn workers(&self) -> Vec<Arc<Own>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The combinations, with the counts of each worker.
    pub(super) fn combinations(&self) -> Vec<(Key, Vec<Arc<Series>>)> {
        let all = self.combinations.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(key, of_workers)| (key.clone(), of_workers.clone())).collect()
    }

    /// Another series for a combination, or for the one that stands for those over the bound.
    fn series(&self, seen: Seen<'_>) -> (Key, Arc<Series>) {
        let mut all = self.combinations.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match all.len() < MOST_COMBINATIONS || all.contains_key(&seen) {
            true => Key::from(seen),
            false => {
                self.is_full.store(true, Relaxed);
                Key::from(seen.beyond())
            }
        };
        let series = Arc::<Series>::default();
        all.entry(key.clone()).or_default().push(Arc::clone(&series));
        (key, series)
    }

    /// What a record's model is counted as.
    fn model<'n>(&self, record: &'n Record, snapshot: &'n Snapshot) -> &'n str {
        if record.model.is_empty() && record.route.is_none() {
            return NONE;
        }
        let configured = snapshot.configured_name(&record.model);
        let by_caller = || {
            let counts = record.route.is_some() && self.admits(&record.model);
            if counts { &*record.model } else { OTHER }
        };
        configured.unwrap_or_else(by_caller)
    }

    /// Whether a name that is not of the configuration is one of the first few.
    fn admits(&self, name: &str) -> bool {
        let is_full = {
            let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
            if names.contains(name) {
                return true;
            }
            names.len() >= MOST_NAMES
        };
        if is_full || name.len() > LONGEST_NAME {
            return false;
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.len() < MOST_NAMES && (names.insert(name.into()) || names.contains(name))
    }
}

impl Seen<'_> {
    /// The combination that stands for this one when there are too many.
    fn beyond(self) -> Self {
        let team = if self.team.is_empty() { "" } else { OTHER };
        Self { model: OTHER, team, ..self }
    }
}

/// Where one worker counts.
pub(crate) struct Shard {
    hub: Arc<Hub>,
    own: Arc<Own>,
    /// Those that this worker has met.
    series: RefCell<IndexMap<Key, Arc<Series>>>,
    /// Where requests went first that were tried again and are under way.
    firsts: RefCell<HashMap<[u8; 16], Arc<Route>>>,
}

impl Shard {
    /// A request has come that will be recorded.
    pub(crate) fn begun(&self) {
        self.own.begun.add(1);
    }

    /// Requests that have come and are not recorded yet.
    pub(crate) fn under_way(&self) -> usize {
        let under_way = self.own.begun.get().saturating_sub(self.own.ended.get());
        usize::try_from(under_way).unwrap_or(usize::MAX)
    }

    /// The connections to providers of this worker.
    pub(crate) fn pooled(&self) -> Arc<Pooled> {
        Arc::clone(&self.own.pooled)
    }

    /// Counts a record.
    pub(crate) fn record(&self, record: &Record) {
        for alert in &record.alerts {
            self.own.alerts[alert.holder.kind as usize].add(1);
        }
        let is_fallback = self.is_fallback(record);
        self.with_series(record, |series| {
            if record.asked {
                series.attempt(record);
            }
            if record.is_last {
                series.request(record, is_fallback);
            }
        });
        if !record.is_last {
            return;
        }
        // A copy for a shadow has not come from anyone.
        if record.mirror_of.is_none() {
            self.own.ended.add(1);
        }
        if record.asked && !record.overhead.is_zero() {
            self.own.overhead.observe(OWN, nanos(record.overhead));
        }
        if let Some(limited) = record.limited {
            let known = limit::NAMES.iter().position(|name| *name == limited.limit);
            let number = known.unwrap_or(limit::NAMES.len());
            self.own.rejections[limited.holder as usize][number].add(1);
        }
    }

    /// Whether a request went to another target in the end than at first.
    fn is_fallback(&self, record: &Record) -> bool {
        let Some(route) = &record.route else { return false };
        let mut firsts = self.firsts.borrow_mut();
        if !record.is_last {
            if record.attempt == 1 {
                // Of attempts side by side, the first may be told of after the request.
                if firsts.len() >= MOST_FIRSTS {
                    firsts.clear();
                }
                firsts.insert(record.id.to_bytes(), Arc::clone(route));
            }
            return false;
        }
        if record.attempt < 2 {
            return false;
        }
        let first = firsts.remove(&record.id.to_bytes());
        first.is_some_and(|first| {
            first.provider.id != route.provider.id || first.upstream_model != route.upstream_model
        })
    }

    /// Does something with the series of a record.
    fn with_series(&self, record: &Record, count: impl Fn(&Series)) {
        let team = || record.caller.chain().id(Kind::Team).map_or(NONE, |team| &**team);
        let route = record.route.as_ref();
        let seen = Seen {
            model: &record.model,
            provider: route.map_or(NONE, |route| &route.provider.id),
            operation: record.mirror_of.map_or(record.operation.word(), |_| MIRROR),
            team: if self.hub.teams { team() } else { "" },
        };
        // Most requests name a model by the name that it is counted as.
        if !seen.model.is_empty() && self.counted(seen, &count) {
            return;
        }
        let snapshot = self.hub.snapshot.load();
        let mut seen = Seen { model: self.hub.model(record, &snapshot), ..seen };
        if self.counted(seen, &count) {
            return;
        }
        if self.hub.is_full.load(Relaxed) {
            seen = seen.beyond();
            if self.counted(seen, &count) {
                return;
            }
        }
        let (key, series) = self.hub.series(seen);
        count(&series);
        self.series.borrow_mut().insert(key, series);
    }

    fn counted(&self, seen: Seen<'_>, count: &impl Fn(&Series)) -> bool {
        let known = self.series.borrow();
        let series = known.get(&seen);
        series.inspect(|series| count(series)).is_some()
    }
}
