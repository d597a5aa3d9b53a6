//! One who holds limits and budgets, and the chain of those above a caller.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Metadata, TermsConfig};
use crate::budget::{Account, Budget};
use crate::limit::{Counter, Limit};
use crate::queue::Priority;
use crate::scope::Scope;

/// What a holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A virtual key.
    Key,
    /// A person or a program.
    User,
    /// A team.
    Team,
    /// An organisation.
    Org,
    /// A model, by its public name.
    Model,
    /// A provider.
    Provider,
    /// A combination that a rule counts.
    Rule,
}

impl Kind {
    /// Those that a caller counts for, from the key up.
    pub const CALLERS: [Self; 4] = [Self::Key, Self::User, Self::Team, Self::Org];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Team => "team",
            Self::Org => "org",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Rule => "rule",
        }
    }
}

/// Who owns an entry, and so may change it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// Only named by others: no terms of its own.
    #[default]
    Named,
    /// The configuration file.
    File,
    /// The store.
    Store,
}

/// A key, a user, a team or an organisation.
pub struct Holder {
    /// What it is.
    pub kind: Kind,
    /// Its id; for a group, its name.
    pub id: Arc<str>,
    /// What it is called.
    pub name: Arc<str>,
    terms: ArcSwap<Terms>,
}

/// The terms of a holder, at one time.
#[derive(Clone, Default)]
pub struct Terms {
    /// Who wrote them.
    pub origin: Origin,
    /// Whether calls are refused altogether.
    pub disabled: bool,
    /// Until when they hold, in milliseconds since 1970.
    pub not_after_ms: Option<u64>,
    /// What may be asked for.
    pub scope: Scope,
    /// How much per time.
    pub counters: Vec<Arc<Counter>>,
    /// How much money.
    pub accounts: Vec<Arc<Account>>,
    /// How urgent its requests are, if that is said.
    pub priority: Option<Priority>,
    /// The owner's notes.
    pub metadata: Metadata,
    /// The user, team and organisation above.
    above: [Option<Arc<Holder>>; 3],
}

impl Terms {
    /// The counters of these limits; those of limits that stay the same go on.
    fn counters_for(&self, limits: impl Iterator<Item = Limit>) -> Vec<Arc<Counter>> {
        let counter = |limit: Limit| {
            let known = self.counters.iter().find(|counter| *counter.limit() == limit);
            known.map_or_else(|| Arc::new(Counter::new(limit)), Arc::clone)
        };
        limits.map(counter).collect()
    }

    /// The accounts of these budgets; one at the same place, for the same period, goes on with what
    /// was spent.
    fn accounts_for(
        &self,
        budgets: impl Iterator<Item = Budget>,
        now_ms: u64,
    ) -> Vec<Arc<Account>> {
        let account = |(index, budget): (usize, Budget)| {
            let known = self.accounts.get(index);
            let changed = known.and_then(|account| account.changed(budget.clone()));
            Arc::new(changed.unwrap_or_else(|| Account::new(budget, now_ms)))
        };
        budgets.enumerate().map(account).collect()
    }
}

impl Holder {
    pub(super) fn new(kind: Kind, id: &Arc<str>, name: &str) -> Self {
        Self { kind, id: Arc::clone(id), name: Arc::from(name), terms: ArcSwap::default() }
    }

    /// Its terms now.
    #[must_use]
    pub fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }

    /// Takes new terms. Counters and accounts of limits and budgets that stay the same go on.
    pub(super) fn amend(
        &self,
        config: &TermsConfig,
        above: [Option<Arc<Holder>>; 3],
        origin: Origin,
        now_ms: u64,
    ) {
        let before = self.terms.load();
        let limits = config.limits.iter().flat_map(|limits| &limits.0).copied();
        let budgets = config.budget.iter().flat_map(|budgets| &budgets.0).cloned();
        let terms = Terms {
            origin,
            disabled: config.enabled == Some(false),
            not_after_ms: config.expires.map(|expiry| expiry.0),
            scope: config.scope(),
            counters: before.counters_for(limits),
            accounts: before.accounts_for(budgets, now_ms),
            priority: config.priority,
            metadata: config.metadata.clone(),
            above,
        };
        self.terms.store(Arc::new(terms));
    }

    /// A holder that only the file knows, with its terms.
    pub(crate) fn of_file(kind: Kind, id: &str, config: &TermsConfig) -> Arc<Self> {
        let holder = Self::new(kind, &Arc::from(id), id);
        holder.amend(config, [None, None, None], Origin::File, 0);
        Arc::new(holder)
    }

    /// Whether nothing is counted that a new one would not have. One with a budget is never.
    pub(crate) fn is_at_rest(&self, now_ns: u64) -> bool {
        let all_left = |counter: &Arc<Counter>| {
            counter.standing(now_ns).remaining == counter.limit().capacity()
        };
        let terms = self.terms.load();
        terms.accounts.is_empty() && terms.counters.iter().all(all_left)
    }

    /// Takes over the counters and accounts of the one it takes the place of, as far as their
    /// limits and budgets stayed the same.
    pub(crate) fn adopt(&self, old: &Self) {
        let (mine, theirs) = (self.terms(), old.terms());
        let limits = mine.counters.iter().map(|counter| *counter.limit());
        let budgets = mine.accounts.iter().map(|account| account.budget().clone());
        let (counters, accounts) = (theirs.counters_for(limits), theirs.accounts_for(budgets, 0));
        self.terms.store(Arc::new(Terms { counters, accounts, ..(*mine).clone() }));
    }

    /// Drops its terms and lets nobody through any more.
    pub(super) fn disable(&self) {
        self.terms.store(Arc::new(Terms { disabled: true, ..Terms::default() }));
    }

    /// Drops its terms: it counts for nothing any more.
    pub(super) fn clear(&self) {
        self.terms.store(Arc::default());
    }
}

/// A holder and its terms as they were when the request came.
#[derive(Clone)]
pub struct Level {
    /// Who.
    pub holder: Arc<Holder>,
    /// On what terms.
    pub terms: Arc<Terms>,
}

/// A caller with everyone above: key, user, team, organisation, as far as there are.
#[derive(Clone, Default)]
pub struct Chain {
    levels: [Option<Level>; 4],
}

impl Chain {
    /// The chain from a holder up. What a key does not name comes from its user, and then from its
    /// team.
    #[must_use]
    pub fn from(holder: &Arc<Holder>) -> Self {
        let mut chain = Self::default();
        chain.add(holder);
        for kind in [Kind::User, Kind::Team, Kind::Org] {
            let named =
                chain.levels().find_map(|level| level.terms.above[kind as usize - 1].clone());
            if let Some(above) = named
                && chain.level(kind).is_none()
            {
                chain.add(&above);
            }
        }
        chain
    }

    fn add(&mut self, holder: &Arc<Holder>) {
        let level = Level { terms: holder.terms(), holder: Arc::clone(holder) };
        self.levels[holder.kind as usize] = Some(level);
    }

    /// Everyone in it, from the key up.
    pub fn levels(&self) -> impl Iterator<Item = &Level> {
        self.levels.iter().flatten()
    }

    /// The one of a kind.
    #[must_use]
    pub fn level(&self, kind: Kind) -> Option<&Level> {
        self.levels[kind as usize].as_ref()
    }

    /// How urgent its requests are: what the nearest says.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.levels().find_map(|level| level.terms.priority).unwrap_or_default()
    }

    /// For whom it takes turns with others: the team, else the key, else the user; an empty name
    /// for nobody who is known.
    #[must_use]
    pub fn tenant(&self) -> Arc<str> {
        let known = [Kind::Team, Kind::Key, Kind::User].into_iter().find_map(|kind| {
            let id = self.id(kind)?;
            Some(format!("{} {id}", kind.word()).into())
        });
        known.unwrap_or_default()
    }

    /// The id of the one of a kind.
    #[must_use]
    pub fn id(&self, kind: Kind) -> Option<&Arc<str>> {
        self.level(kind).map(|level| &level.holder.id)
    }
}
