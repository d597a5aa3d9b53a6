//! A map that is read without a lock and changed a small part at a time.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::key::AsItIs;

/// Parts. A change copies one of them: with a million keys, some 4,000 entries.
const PARTS: usize = 256;

type Part<K, V> = HashMap<K, V, BuildHasherDefault<AsItIs>>;

/// See the [module](self). Changes must come one at a time.
pub(super) struct Shards<K, V> {
    parts: Box<[ArcSwap<Part<K, V>>]>,
    len: AtomicUsize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| ArcSwap::from_pointee(Part::default())).collect();
        Self { parts, len: AtomicUsize::new(0) }
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Shards<K, V> {
    pub(super) fn get<T>(&self, key: &K, read: impl FnOnce(&V) -> T) -> Option<T> {
        self.part(key).load().get(key).map(read)
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(super) fn insert(&self, key: K, value: V) {
        self.change(&key, |part| part.insert(key, value).map_or(1, |_| 0));
    }

    /// Adds many at once: each part is copied once.
    pub(super) fn extend(&self, entries: Vec<(K, V)>) {
        let mut parts: Vec<Vec<(K, V)>> = (0..PARTS).map(|_| Vec::new()).collect();
        for (key, value) in entries {
            parts[Self::index(&key)].push((key, value));
        }
        for (part, more) in self.parts.iter().zip(parts).filter(|(_, more)| !more.is_empty()) {
            let mut next = Part::clone(&part.load());
            let before = next.len();
            next.extend(more);
            let added = next.len() - before;
            part.store(Arc::new(next));
            self.len.store(self.len() + added, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&self, key: &K) {
        self.change(key, |part| part.remove(key).map_or(0, |_| -1));
    }

    /// Changes the part of a key; `change` says how many entries it added.
    fn change(&self, key: &K, change: impl FnOnce(&mut Part<K, V>) -> isize) {
        let part = self.part(key);
        let mut next = Part::clone(&part.load());
        let added = change(&mut next);
        part.store(Arc::new(next));
        let len = self.len.load(Ordering::Relaxed).saturating_add_signed(added);
        self.len.store(len, Ordering::Relaxed);
    }

    fn part(&self, key: &K) -> &ArcSwap<Part<K, V>> {
        &self.parts[Self::index(key)]
    }

    fn index(key: &K) -> usize {
        let mut hasher = AsItIs::default();
        key.hash(&mut hasher);
        // The map within the part goes by other bits of the hash.
        usize::try_from(hasher.finish() >> 20).unwrap_or(0) % PARTS
    }
}
