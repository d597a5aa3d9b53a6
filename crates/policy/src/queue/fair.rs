//! Who is next: by class, and within a class tenants in turn, each with its requests in the order
//! in which they came.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How urgent requests are.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    High,
    /// The usual.
    #[default]
    Normal,
    /// Behind all others.
    Low,
}

/// How many requests of higher classes go before a class that waits has one of its own: nobody
/// waits for ever, however much is urgent.
pub const PATIENCE: u32 = 8;

/// There is no room to wait in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Requests that wait, each with something of its own. Knows no time.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// By number, in the order in which they came.
    entries: BTreeMap<u64, Entry<T>>,
    classes: [Class; 3],
    next: u64,
}

#[derive(Debug)]
struct Entry<T> {
    priority: Priority,
    tenant: Arc<str>,
    value: T,
}

/// The requests of one class.
#[derive(Debug, Default)]
struct Class {
    /// The requests of each tenant that has any.
    tenants: HashMap<Arc<str>, BTreeSet<u64>>,
    /// Those tenants, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    /// Requests of higher classes that went before, since the last of this one.
    passed_over: u32,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), classes: Default::default(), next: 0 }
    }
}

impl<T> FairQueue<T> {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes in a request, if no more than `most` wait with it. Says its number.
    ///
    /// # Errors
    /// [`Full`].
    pub fn push(
        &mut self,
        priority: Priority,
        tenant: &Arc<str>,
        value: T,
        most: usize,
    ) -> Result<u64, Full> {
        if self.len() >= most {
            return Err(Full);
        }
        let number = self.next;
        self.next += 1;
        let class = &mut self.classes[priority as usize];
        if !class.tenants.contains_key(tenant) {
            class.turns.push_back(Arc::clone(tenant));
        }
        class.tenants.entry(Arc::clone(tenant)).or_default().insert(number);
        self.entries.insert(number, Entry { priority, tenant: Arc::clone(tenant), value });
        Ok(number)
    }

    /// Who is next.
    #[must_use]
    pub fn head(&self) -> Option<u64> {
        let waiting = || self.classes.iter().filter(|class| !class.turns.is_empty());
        let overdue = waiting().filter(|class| class.passed_over >= PATIENCE);
        // Of equals the last is the greatest: the more urgent one.
        let class = overdue.rev().max_by_key(|class| class.passed_over).or(waiting().next())?;
        class.tenants.get(class.turns.front()?)?.first().copied()
    }

    /// What belongs to a request that waits.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.entries.get_mut(&number).map(|entry| &mut entry.value)
    }

    /// It was this one's turn: it goes, and its tenant's next turn comes after those of all others.
    pub fn serve(&mut self, number: u64) -> Option<T> {
        let Entry { priority, tenant, value } = self.take_out(number)?;
        let served = priority as usize;
        let class = &mut self.classes[served];
        class.passed_over = 0;
        if class.tenants.contains_key(&tenant) {
            class.turns.retain(|known| *known != tenant);
            class.turns.push_back(tenant);
        }
        for lower in self.classes.iter_mut().skip(served + 1) {
            if !lower.turns.is_empty() {
                lower.passed_over = lower.passed_over.saturating_add(1);
            }
        }
        Some(value)
    }

    /// It does not wait any longer. That was nobody's turn.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        self.take_out(number).map(|entry| entry.value)
    }

    fn take_out(&mut self, number: u64) -> Option<Entry<T>> {
        let entry = self.entries.remove(&number)?;
        let class = &mut self.classes[entry.priority as usize];
        let Some(own) = class.tenants.get_mut(&entry.tenant) else { return Some(entry) };
        own.remove(&number);
        if own.is_empty() {
            class.tenants.remove(&entry.tenant);
            class.turns.retain(|known| *known != entry.tenant);
        }
        if class.turns.is_empty() {
            class.passed_over = 0;
        }
        Some(entry)
    }
}
