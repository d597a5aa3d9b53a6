//! Who may call, kept true: what the file owns, what the store owns, and the bearers of tokens.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use console::Console;
use console::auth::Reach;
use console::fault::Fault;
use console::store::{Store, audit, groups, keys};
use policy::Callers;
use policy::directory::{Directory, GroupConfig, Holder, KeyRecord, Kind, Origin};
use policy::key::{self, Pepper};

use crate::log::note;
use crate::past::Past;

/// How often it is looked whether another process has changed the store: a key that is revoked on
/// the command line has to stop working within a second.
const LOOK: Duration = Duration::from_millis(250);

/// Keys that are read before they are put into the directory together.
const AT_ONCE: usize = 50_000;

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Makes the directory say of what the file owns what the file says.
pub(crate) fn apply_file(directory: &Directory, callers: &Callers, pepper: &Pepper) {
    let now_ms = now_ms();
    let mut kept: HashSet<(Kind, String)> = HashSet::new();
    for (kind, name, config) in &callers.groups {
        kept.insert((*kind, name.clone()));
        tell(directory.put_group(*kind, name, config, Origin::File, now_ms).err(), name);
    }
    for config in &callers.keys {
        // A key of the file is known by its name: it has no other id.
        kept.insert((Kind::Key, config.name.clone()));
        let written = config.key.as_ref().map(|key| pepper.digest(key.0.expose().as_bytes()));
        let hashed =
            || key::parse_sha256(config.hash.as_deref()?).map(|hash| pepper.upgrade(&hash));
        let record = KeyRecord {
            id: config.name.clone(),
            name: config.name.clone(),
            digests: written.or_else(hashed).map(|digest| (digest, None)).into_iter().collect(),
            user: config.user.clone(),
            team: config.team.clone(),
            org: config.org.clone(),
            terms: config.terms.clone(),
        };
        tell(directory.put_key(&record, Origin::File, now_ms).err(), &config.name);
    }
    directory.retain_of_file(|kind, id| kept.contains(&(kind, id.to_owned())));
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
    let put = |kind, id: &str, config: &GroupConfig| {
        if !is_of_file(directory, kind, id) {
            tell(directory.put_group(kind, id, config, Origin::Store, now_ms).err(), id);
        }
    };
    let read = store.read(|connection| {
        if keys::ever(connection)? {
            directory.guard();
        }
        groups::for_each(connection, |group| put(group.kind, &group.id, &group.config()))?;
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

/// Whether the file owns a group: then the store's entry of that name counts for nothing.
pub(crate) fn is_of_file(directory: &Directory, kind: Kind, id: &str) -> bool {
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

/// What comes of a change: a budget that is new learns what was spent before.
fn put_in(put: Result<Arc<Holder>, String>, past: &Past, name: &str) {
    match put {
        Ok(holder) => past.catch_up(&holder),
        Err(fault) => tell(Some(fault), name),
    }
}

/// Takes what has changed since an entry of the audit log into the directory, as it is now. Says up
/// to which entry.
fn catch_up(directory: &Directory, store: &Store, past: &Past, seen: u64) -> Result<u64, Fault> {
    store.read(|connection| {
        let now_ms = now_ms();
        let mut after = seen;
        for change in audit::since(connection, seen)? {
            after = change.seq;
            let what = change.action.split('.').next().unwrap_or_default();
            let kind = Kind::CALLERS.into_iter().find(|kind| kind.word() == what);
            match kind {
                Some(Kind::Key) => match keys::get(connection, &Reach::All, &change.target)? {
                    Some(key) if key.revoked_ms.is_none() => {
                        let digests = keys::digests(connection, &key.id, now_ms)?;
                        let record = key.record(digests);
                        let put = directory.put_key(&record, Origin::Store, now_ms);
                        tell(put.err(), &record.name);
                    }
                    _ => directory.remove(Kind::Key, &change.target),
                },
                Some(kind) if !is_of_file(directory, kind, &change.target) => {
                    match groups::get(connection, kind, &Reach::All, &change.target)? {
                        Some(group) => {
                            let config = group.config();
                            let put = directory.put_group(
                                kind,
                                &group.id,
                                &config,
                                Origin::Store,
                                now_ms,
                            );
                            put_in(put, past, &group.id);
                        }
                        None => directory.remove(kind, &change.target),
                    }
                }
                _ => {}
            }
        }
        Ok(after)
    })
}
