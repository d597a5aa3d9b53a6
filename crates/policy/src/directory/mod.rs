//! Who may call, and on what terms: organisations, teams, users and keys, each with its limits and
//! budgets.
//!
//! A [`Holder`] keeps its counters and accounts as long as it is known: neither a reload nor a
//! change of its terms forgets what was used, as far as the limit or the budget is still the same.
//! Looking a caller up takes no lock. A change copies one of many small maps, so that it costs the
//! same with ten keys and with a million.

mod bar;
mod holder;
mod shards;
mod terms;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use bar::Bar;
pub use holder::{Chain, Holder, Kind, Level, Origin, Terms};
pub use terms::{Expiry, Metadata, TermsConfig};

use crate::key::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shards::Shards;

/// Bytes of the name of a key or a group.
const MAX_NAME: usize = 128;

/// An organisation, a team or a user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupConfig {
    /// The organisation it belongs to.
    #[schemars(extend("x-example" = "acme"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// The team it belongs to: for users.
    #[schemars(extend("x-example" = "search"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// What it may do.
    #[serde(flatten)]
    pub terms: TermsConfig,
}

/// A key, as the directory is told of it.
#[derive(Debug, Clone, Default)]
pub struct KeyRecord {
    /// Its id: never the key itself.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// Its digests; one that ends (in milliseconds since 1970) is the old one of a rotation.
    pub digests: Vec<(Digest, Option<u64>)>,
    /// Whose it is.
    pub user: Option<String>,
    /// The team it counts for; default: the user's.
    pub team: Option<String>,
    /// The organisation it counts for; default: the team's.
    pub org: Option<String>,
    /// What it may do.
    pub terms: TermsConfig,
}

/// Everyone who may call.
#[derive(Default)]
pub struct Directory {
    /// By the digest of the key.
    keys: Shards<Digest, Found>,
    /// There is a key, or was: it takes more than the last one's end to let everyone in.
    guarded: AtomicBool,
    /// What changes are made by: one at a time.
    book: Mutex<Book>,
}

/// A key that was found by its digest, and until when it counts.
#[derive(Clone)]
struct Found {
    holder: Arc<Holder>,
    until_ms: Option<u64>,
}

#[derive(Default)]
struct Book {
    /// Every holder by what it is and its id.
    holders: HashMap<(Kind, Arc<str>), Arc<Holder>>,
    /// The digests of each key.
    digests: HashMap<Arc<str>, Vec<Digest>>,
}

impl Directory {
    /// The key with this digest, if there is one at this time.
    #[must_use]
    pub fn find(&self, digest: &Digest, now_ms: u64) -> Option<Arc<Holder>> {
        self.keys.get(digest, |found| {
            let counts = found.until_ms.is_none_or(|until| now_ms < until);
            counts.then(|| Arc::clone(&found.holder))
        })?
    }

    /// Whether there is a key, or was one.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.guarded.load(Ordering::Acquire)
    }

    /// Says that there was a key once.
    pub fn guard(&self) {
        self.guarded.store(true, Ordering::Release);
    }

    /// The number of keys' digests.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// A holder by what it is and its id.
    #[must_use]
    pub fn holder(&self, kind: Kind, id: &str) -> Option<Arc<Holder>> {
        self.book().holders.get(&(kind, Arc::from(id))).cloned()
    }

    /// Every holder that the file owns or does not own, in no order.
    #[must_use]
    pub fn holders(&self) -> Vec<Arc<Holder>> {
        self.book().holders.values().cloned().collect()
    }

    /// Those of these kinds, in no order. The keys may be many: they are passed over, not copied.
    #[must_use]
    pub fn holders_of(&self, kinds: &[Kind]) -> Vec<Arc<Holder>> {
        let book = self.book();
        let of_kinds = book.holders.values().filter(|holder| kinds.contains(&holder.kind));
        of_kinds.cloned().collect()
    }

    /// Adds a group or changes its terms. What it names need not be known yet.
    ///
    /// # Errors
    /// A sentence, for a name that cannot be; nothing is changed then.
    pub fn put_group(
        &self,
        kind: Kind,
        id: &str,
        config: &GroupConfig,
        origin: Origin,
        now_ms: u64,
    ) -> Result<Arc<Holder>, String> {
        check_name(id)?;
        let mut book = self.book();
        let team = config.team.as_deref().map(|team| book.group(Kind::Team, team));
        let org = config.org.as_deref().map(|org| book.group(Kind::Org, org));
        let holder = book.group(kind, id);
        holder.amend(&config.terms, [None, team, org], origin, now_ms);
        Ok(holder)
    }

    /// Adds a key or changes it: terms, owners and digests.
    ///
    /// # Errors
    /// A sentence, for a name that cannot be; nothing is changed then.
    pub fn put_key(
        &self,
        record: &KeyRecord,
        origin: Origin,
        now_ms: u64,
    ) -> Result<Arc<Holder>, String> {
        check_name(&record.name)?;
        let mut book = self.book();
        let holder = book.key(record, origin, now_ms);
        let digests = record.digests.iter().map(|(digest, _)| *digest).collect();
        let before = book.digests.insert(Arc::clone(&holder.id), digests).unwrap_or_default();
        for gone in before.iter().filter(|old| record.digests.iter().all(|(new, _)| new != *old)) {
            self.forget(gone, &holder.id);
        }
        for (digest, found) in found(record, &holder) {
            self.keys.insert(digest, found);
        }
        // Only now, so that nobody is refused with the first key.
        self.guard();
        Ok(holder)
    }

    /// Adds many keys at once, of which none is known yet: at a start. Those whose names cannot be
    /// are left out, and returned with the reason.
    pub fn fill(
        &self,
        records: &[KeyRecord],
        origin: Origin,
        now_ms: u64,
    ) -> Vec<(String, String)> {
        let mut left_out = Vec::new();
        let mut book = self.book();
        let mut all = Vec::with_capacity(records.len());
        for record in records {
            if let Err(why) = check_name(&record.name) {
                left_out.push((record.name.clone(), why));
                continue;
            }
            let holder = book.key(record, origin, now_ms);
            let digests = record.digests.iter().map(|(digest, _)| *digest).collect();
            book.digests.insert(Arc::clone(&holder.id), digests);
            all.extend(found(record, &holder));
        }
        let is_guarded = !all.is_empty();
        self.keys.extend(all);
        if is_guarded {
            self.guard();
        }
        left_out
    }

    /// Takes a key or a group out. What still names a group keeps counting for it, without terms.
    pub fn remove(&self, kind: Kind, id: &str) {
        let mut book = self.book();
        let id: Arc<str> = Arc::from(id);
        if kind == Kind::Key {
            for digest in book.digests.remove(&id).unwrap_or_default() {
                self.forget(&digest, &id);
            }
            // A request that has found it already is refused.
            book.holders.remove(&(kind, id)).inspect(|holder| holder.disable());
            return;
        }
        // A group stays where it is, without terms: keys that name it find it again if it returns.
        book.holders.get(&(kind, id)).inspect(|holder| holder.clear());
    }

    /// Forgets a key that is not in the store or the file, if nobody is in the middle of a call with it
    /// and nothing is counted that a new one would not have: whoever comes again begins where it
    /// ended. Whom it belongs to is forgotten with it, if they have no terms and nobody else belongs
    /// to them. Says whether it is gone.
    pub fn forget_at_rest(&self, id: &str, now_ns: u64) -> bool {
        let mut book = self.book();
        let id: Arc<str> = Arc::from(id);
        let known = (Kind::Key, Arc::clone(&id));
        let may_go = book.holders.get(&known).is_some_and(|holder| {
            let is_named = holder.terms().origin == Origin::Named;
            // Whoever holds one beside the book is in the middle of a call.
            is_named && Arc::strong_count(holder) == 1 && holder.is_at_rest(now_ns)
        });
        let gone = may_go.then(|| book.holders.remove(&known)).flatten();
        if let Some(holder) = &gone {
            book.digests.remove(&id);
            let above = Chain::from(holder);
            holder.clear();
            book.forget_unnamed(above);
        }
        gone.is_some()
    }

    /// Takes the digest of a key out, unless it has become another key's: a key of the file that is
    /// called something else now.
    fn forget(&self, digest: &Digest, id: &str) {
        if self.keys.get(digest, |found| *found.holder.id == *id) == Some(true) {
            self.keys.remove(digest);
        }
    }

    /// Takes out what the file owned and does not name any more.
    pub fn retain_of_file(&self, keep: impl Fn(Kind, &str) -> bool) {
        let gone: Vec<(Kind, Arc<str>)> = self
            .holders()
            .iter()
            .filter(|holder| {
                holder.terms().origin == Origin::File && !keep(holder.kind, &holder.id)
            })
            .map(|holder| (holder.kind, Arc::clone(&holder.id)))
            .collect();
        for (kind, id) in gone {
            self.remove(kind, &id);
        }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn found(record: &KeyRecord, holder: &Arc<Holder>) -> impl Iterator<Item = (Digest, Found)> {
    record.digests.iter().map(|(digest, until_ms)| {
        (*digest, Found { holder: Arc::clone(holder), until_ms: *until_ms })
    })
}

impl Book {
    /// The holder of a key, with the terms of a record.
    fn key(&mut self, record: &KeyRecord, origin: Origin, now_ms: u64) -> Arc<Holder> {
        let above = [
            record.user.as_deref().map(|user| self.group(Kind::User, user)),
            record.team.as_deref().map(|team| self.group(Kind::Team, team)),
            record.org.as_deref().map(|org| self.group(Kind::Org, org)),
        ];
        let id: Arc<str> = Arc::from(&*record.id);
        let known = self.holders.get(&(Kind::Key, Arc::clone(&id))).cloned();
        let holder = match known {
            Some(known) if *known.name == *record.name => {
                known.amend(&record.terms, above, origin, now_ms);
                known
            }
            known => {
                let holder = Holder::new(Kind::Key, &id, &record.name);
                holder.amend(&record.terms, above, origin, now_ms);
                // Another name is no fresh start.
                known.inspect(|known| holder.adopt(known));
                Arc::new(holder)
            }
        };
        self.holders.insert((Kind::Key, id), Arc::clone(&holder));
        holder
    }

    /// Forgets those of a chain that have no terms and are named by nobody outside it.
    fn forget_unnamed(&mut self, chain: Chain) {
        let groups = chain.levels().filter(|level| level.terms.origin == Origin::Named);
        let groups: Vec<_> = groups.map(|it| (it.holder.kind, Arc::clone(&it.holder.id))).collect();
        drop(chain);
        for group in groups {
            if self.holders.get(&group).is_some_and(|holder| Arc::strong_count(holder) == 1) {
                self.holders.remove(&group);
            }
        }
    }

    /// The holder of a group; a new one without terms if it is not known.
    fn group(&mut self, kind: Kind, id: &str) -> Arc<Holder> {
        let id: Arc<str> = Arc::from(id);
        let known = self.holders.entry((kind, Arc::clone(&id)));
        Arc::clone(known.or_insert_with(|| Arc::new(Holder::new(kind, &id, &id))))
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fault = if name.is_empty() {
        "must not be empty"
    } else if name.len() > MAX_NAME {
        "is longer than 128 bytes"
    } else if name.chars().any(char::is_control) {
        "holds control characters"
    } else {
        return Ok(());
    };
    Err(format!("the name {fault}"))
}
