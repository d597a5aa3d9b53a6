//! Who may call, kept true: what the file owns, what the store owns, and the bearers of tokens.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use console::Console;
use console::auth::Reach;
use console::fault::Fault;
use console::live::Effect;
use console::store::groups::Group;
use console::store::keys::Named;
use console::store::{Store, audit, effects, groups, keys, now_ms};
use policy::Callers;
use policy::config::KeyConfig;
use policy::directory::{Directory, Holder, KeyRecord, Kind, Origin};
use policy::key::{self, Pepper};

use crate::log::note;
use crate::past::Past;

/// How often it is looked whether another process has changed the store: a key that is revoked on
/// the command line has to stop working within a second.
const LOOK: Duration = Duration::from_millis(250);

/// Keys that are read before they are put into the directory together.
const AT_ONCE: usize = 50_000;

/// Makes the directory say of what the file owns what the file says.
pub(crate) fn apply_file(directory: &Directory, callers: &Callers, pepper: &Pepper) {
    let now_ms = now_ms();
    let mut kept: HashSet<(Kind, String)> = HashSet::new();
    for (kind, name, config) in &callers.groups {
        kept.insert((*kind, name.clone()));
        tell(directory.put_group(*kind, name, config, Origin::File, now_ms).err(), name);
    }
    for config in &callers.keys {
        kept.insert((Kind::Key, config.name.clone()));
        let written = config.key.as_ref().map(|key| pepper.digest(key.0.expose().as_bytes()));
        let hashed =
            || key::parse_sha256(config.hash.as_deref()?).map(|hash| pepper.upgrade(&hash));
        let digests = written.or_else(hashed).map(|digest| (digest, None)).into_iter().collect();
        let record = KeyRecord { digests, ..file_key(config) };
        tell(directory.put_key(&record, Origin::File, now_ms).err(), &config.name);
    }
    directory.retain_of_file(|kind, id| kept.contains(&(kind, id.to_owned())));
}

/// A key of the file without its digest. It is known by its name: it has no other id.
pub(crate) fn file_key(config: &KeyConfig) -> KeyRecord {
    KeyRecord {
        id: config.name.clone(),
        name: config.name.clone(),
        digests: Vec::new(),
        user: config.user.clone(),
        team: config.team.clone(),
        org: config.org.clone(),
        terms: config.terms.clone(),
    }
}

pub(crate) fn tell(fault: Option<String>, name: &str) {
    if let Some(fault) = fault {
        note(&format!("`{name}` is left out: {fault}"));
    }
}

/// Puts everything that the store owns into the directory. What the file owns stays as it is.
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn apply_store(directory: &Directory, store: &Store) -> Result<(), String> {
    let now_ms = now_ms();
    let read = store.read(|connection| {
        if keys::ever(connection)? {
            directory.guard();
        }
        groups::for_each(connection, put_group(directory, now_ms))?;
        let mut records = Vec::new();
        let fill = |records: &mut Vec<KeyRecord>| {
            for (name, why) in directory.fill(records, Origin::Store, now_ms) {
                tell(Some(why), &name);
            }
            records.clear();
        };
        keys::for_each(connection, now_ms, |record| {
            records.push(record);
            if records.len() >= AT_ONCE {
                fill(&mut records);
            }
        })?;
        fill(&mut records);
        Ok(())
    });
    read.map_err(|fault| fault.message)
}

/// Puts the key of the store that has this id or name into the directory, with the groups that it
/// may count for; `None` if there is no such key that works.
///
/// # Errors
/// If several keys are called so, or the store cannot be read.
pub(crate) fn apply_one(
    directory: &Directory,
    store: &Store,
    wanted: &str,
) -> Result<Option<Arc<Holder>>, String> {
    let now_ms = now_ms();
    let found = store.read(|connection| {
        groups::for_each(connection, put_group(directory, now_ms))?;
        keys::named(connection, &Reach::All, wanted)
    });
    match found.map_err(|fault| fault.message)? {
        Named::One(key) if key.revoked_ms.is_none() => {
            let record = key.record(Vec::new());
            directory.put_key(&record, Origin::Store, now_ms).map(Some)
        }
        Named::One(_) | Named::None => Ok(None),
        Named::Several => Err(String::from("several keys are called so; name the id")),
    }
}

/// Puts groups of the store into the directory, but for those that the file owns.
fn put_group(directory: &Directory, now_ms: u64) -> impl Fn(Group) {
    move |group| {
        let (kind, id) = (group.kind, &*group.id);
        if !is_of_file(directory, kind, id) {
            let put = directory.put_group(kind, id, &group.config(), Origin::Store, now_ms);
            tell(put.err(), id);
        }
    }
}

/// Whether the file owns a group: then the store's entry of that name counts for nothing.
fn is_of_file(directory: &Directory, kind: Kind, id: &str) -> bool {
    let holder = directory.holder(kind, id);
    holder.is_some_and(|holder| holder.terms().origin == Origin::File)
}

/// Looks for changes that others make to the store, such as `magpie keys revoke`, and takes them
/// into the directory. Ends with the runtime.
pub(crate) async fn follow(directory: Arc<Directory>, console: Console, past: Arc<Past>) {
    let mut seen = console.store().read(audit::last).unwrap_or_default();
    loop {
        tokio::time::sleep(LOOK).await;
        let (directory, console, past) =
            (Arc::clone(&directory), console.clone(), Arc::clone(&past));
        let look = move || catch_up(&directory, console.store(), &past, seen);
        let looked = tokio::task::spawn_blocking(look).await;
        // What could not be read now is read the next time.
        if let Ok(Ok(after)) = looked {
            seen = after;
        }
    }
}

/// Takes a change of what the store owns into the directory. A budget that is new learns what was
/// spent before. What the file says of a group counts, whatever the store says.
pub(crate) fn apply(directory: &Directory, past: &Past, effect: Effect) {
    let now_ms = now_ms();
    let (put, name) = match effect {
        Effect::PutGroup(kind, id, _) | Effect::Remove(kind, id)
            if is_of_file(directory, kind, &id) =>
        {
            return;
        }
        Effect::Remove(kind, id) => return directory.remove(kind, &id),
        Effect::PutGroup(kind, id, config) => {
            (directory.put_group(kind, &id, &config, Origin::Store, now_ms), id)
        }
        Effect::PutKey(record) => (directory.put_key(&record, Origin::Store, now_ms), record.name),
    };
    match put {
        Ok(holder) => past.catch_up(&holder),
        Err(fault) => tell(Some(fault), &name),
    }
}

/// Takes what has changed since an entry of the audit log into the directory, as it is now. Says up
/// to which entry.
fn catch_up(directory: &Directory, store: &Store, past: &Past, seen: u64) -> Result<u64, Fault> {
    store.read(|connection| {
        let mut after = seen;
        for step in audit::since(connection, seen)? {
            if let Some(effect) = effects::effect(connection, &step, now_ms())? {
                apply(directory, past, effect);
            }
            after = step.seq;
        }
        Ok(after)
    })
}
