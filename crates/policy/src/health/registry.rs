//! What is known of targets, kept over reloads: it belongs to the provider and the upstream model,
//! not to the configuration that names them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::allowance::Allowance;
use super::bench::{Bench, Credentials};
use super::check::CheckState;
use super::mirrored::{Mirrored, Room};
use super::retry::RetryBudget;
use super::tally::Tally;
use super::{Live, Range, TargetHealth};
use crate::queue::{Bell, Line};

/// Targets, credentials and budgets that are kept, each. Beyond them, those that no snapshot holds
/// are forgotten; if all are held, the newcomers are not kept over a reload.
pub const MOST_KEPT: usize = 16_384;
/// Newcomers that are not kept before it is looked again who is not held any more: looking takes as
/// long as there are many.
const UNKEPT: usize = 1_024;
/// Bytes of a name that is kept: callers may write names of models, as long as a body may be.
const LONGEST_KEPT: usize = 1_024;

/// The health of everything. Looked up when a plan is made, never for each request.
#[derive(Default)]
pub struct Health {
    pub(super) targets: Kept<TargetHealth>,
    /// By provider.
    pub(super) checks: Kept<CheckState>,
    benches: Kept<Bench>,
    budgets: Kept<RetryBudget>,
    hedges: Kept<Allowance>,
    /// By provider.
    bells: Kept<Bell>,
    /// By model.
    lines: Kept<Line>,
    /// By model.
    tallies: Kept<Tally>,
    mirrored: Kept<Mirrored>,
    room: Arc<Room>,
}

impl Health {
    /// What is known of a target, with the bench of each credential. `credentials` are marks that
    /// tell them apart (never the credentials themselves), in the provider's order.
    #[must_use]
    pub fn live(&self, provider: &str, model: &str, credentials: &[impl AsRef<str>]) -> Arc<Live> {
        self.live_within(None, provider, model, credentials)
    }

    /// The same where each credential has a window, and how wide that may be.
    #[must_use]
    pub fn live_within(
        &self,
        windows: Option<Range>,
        provider: &str,
        model: &str,
        credentials: &[impl AsRef<str>],
    ) -> Arc<Live> {
        let target = format!("{provider}\0{model}");
        let benches = credentials
            .iter()
            .map(|mark| self.benches.get(&format!("{target}\0{}", mark.as_ref())));
        let credentials = Credentials::new(benches).within(windows);
        let bell = self.bells.get(provider);
        Arc::new(Live { health: self.targets.get(&target), credentials, bell })
    }

    /// The retry budget of a model.
    #[must_use]
    pub fn budget(&self, model: &str) -> Arc<RetryBudget> {
        self.budgets.get(model)
    }

    /// What hedges of a model are taken from.
    #[must_use]
    pub fn hedges(&self, model: &str) -> Arc<Allowance> {
        self.hedges.get(model)
    }

    /// Who waits for a model.
    pub(crate) fn line(&self, model: &str) -> Arc<Line> {
        self.lines.get(model)
    }

    /// What the options of a model have come to.
    #[must_use]
    pub fn tally(&self, model: &str) -> Arc<Tally> {
        self.tallies.get(model)
    }

    /// All of them, with their models, in the order of names.
    #[must_use]
    pub fn tallies(&self) -> Vec<(Box<str>, Arc<Tally>)> {
        let mut all = self.tallies.all();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The sums of a model and a shadow of it, `provider/upstream-model`.
    #[must_use]
    pub fn mirrored(&self, model: &str, shadow: &str) -> Arc<Mirrored> {
        self.mirrored.get(&format!("{model}\0{shadow}"))
    }

    /// All of them: model, shadow and sums, in the order of names.
    #[must_use]
    pub fn all_mirrored(&self) -> Vec<(String, String, Arc<Mirrored>)> {
        let mut all: Vec<_> = self
            .mirrored
            .all()
            .into_iter()
            .filter_map(|(name, mirrored)| {
                let (model, shadow) = name.split_once('\0')?;
                Some((model.to_owned(), shadow.to_owned(), mirrored))
            })
            .collect();
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        all
    }

    /// The room for mirrored requests.
    #[must_use]
    pub fn room(&self) -> Arc<Room> {
        Arc::clone(&self.room)
    }

    /// How many targets are known.
    #[must_use]
    pub fn known_targets(&self) -> usize {
        self.targets.len()
    }
}

/// Things by name, within the bound.
#[derive(Default)]
pub(super) struct Kept<T>(Mutex<Known<T>>);

#[derive(Default)]
struct Known<T> {
    by_name: HashMap<Box<str>, Arc<T>>,
    /// Newcomers until it is looked again who can be forgotten.
    unkept: usize,
}

impl<T: Default> Kept<T> {
    pub(super) fn get(&self, name: &str) -> Arc<T> {
        if name.len() > LONGEST_KEPT {
            return Arc::default();
        }
        let mut kept = self.known();
        if let Some(known) = kept.by_name.get(name) {
            return Arc::clone(known);
        }
        if kept.by_name.len() >= MOST_KEPT {
            kept.make_room();
        }
        let made = Arc::<T>::default();
        if kept.by_name.len() < MOST_KEPT {
            kept.by_name.insert(name.into(), Arc::clone(&made));
        }
        made
    }

    fn known(&self) -> MutexGuard<'_, Known<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept under a name.
    pub(super) fn find(&self, name: &str) -> Option<Arc<T>> {
        self.known().by_name.get(name).cloned()
    }

    /// Looks at all whose names begin so.
    pub(super) fn each(&self, front: &str, look: impl Fn(&T)) {
        let kept = self.known();
        let named = kept.by_name.iter().filter(|(name, _)| name.starts_with(front));
        named.for_each(|(_, known)| look(known));
    }

    fn all(&self) -> Vec<(Box<str>, Arc<T>)> {
        let kept = self.known();
        kept.by_name.iter().map(|(name, known)| (name.clone(), Arc::clone(known))).collect()
    }

    fn len(&self) -> usize {
        self.known().by_name.len()
    }
}

impl<T> Known<T> {
    /// Forgets what nobody holds, but not for each newcomer.
    fn make_room(&mut self) {
        if self.unkept > 0 {
            self.unkept -= 1;
            return;
        }
        self.by_name.retain(|_, known| Arc::strong_count(known) > 1);
        self.unkept = UNKEPT;
    }
}
