//! Keys: made, changed, rotated, revoked. The text of a key is in one answer, and never again.

use http::StatusCode;
use policy::directory::{KeyRecord, Kind};
use policy::key::{KeyText, last_four};
use policy::units::{duration, milliseconds};
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{grants, search};
use crate::auth::{Desk, Reach};
use crate::endpoint::{Call, Endpoint, List, Nothing, page_size};
use crate::fault::{Code, Fault};
use crate::ids::{name, new_id, random};
use crate::live::Effect;
use crate::routes::at;
use crate::store::audit::difference;
use crate::store::keys::{self, Digests, Filter, Key};
use crate::store::{Change, groups, now_ms};
use crate::terms::{Own, Terms, WithTerms};

/// How long an old text works on after a rotation, in milliseconds, unless said otherwise.
const OVERLAP_MS: u64 = 24 * 3_600_000;
/// And at most.
const MAX_OVERLAP_MS: u64 = 30 * OVERLAP_MS;
/// The most texts of a key that work at once.
const MAX_TEXTS: usize = 4;

/// A key, and its terms beside. Never its text or a digest of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// Always `key`.
    pub object: &'static str,
    /// For people.
    pub name: String,
    /// The user it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The team it belongs to, if not to a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The org it belongs to, if not to a user or team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// Who owns it: `store`, or `file`, in which case it is read-only here.
    pub origin: &'static str,
    /// The last four characters of its text; empty if it stands in the file.
    pub last_four: String,
    /// When it was made, in Unix milliseconds; 0 if it stands in the file.
    pub created_ms: u64,
    /// When it was changed last, in Unix milliseconds; 0 if it stands in the file.
    pub updated_ms: u64,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_ms: Option<u64>,
    /// What it may do.
    #[serde(flatten)]
    #[schemars(with = "policy::directory::TermsConfig")]
    pub terms: Terms,
}

impl From<Key> for KeyView {
    fn from(key: Key) -> Self {
        let Key { id, name, org, team, user, last_four, terms, .. } = key;
        let Key { created_ms, updated_ms, revoked_ms, .. } = key;
        let (object, origin) = ("key", "store");
        Self {
            id,
            object,
            name,
            user,
            team,
            org,
            origin,
            last_four,
            created_ms,
            updated_ms,
            revoked_ms,
            terms,
        }
    }
}

impl KeyView {
    /// One that stands in the file. Its text may be of its owner's choosing, so nothing of it is
    /// shown.
    fn of_file(key: KeyRecord) -> Self {
        let KeyRecord { id, name, user, team, org, terms, .. } = key;
        Self {
            id,
            object: "key",
            name,
            user,
            team,
            org,
            origin: "file",
            last_four: String::new(),
            created_ms: 0,
            updated_ms: 0,
            revoked_ms: None,
            terms: Terms::of(&terms),
        }
    }
}

/// A key with its text, shown this once.
#[derive(Serialize, JsonSchema)]
pub struct NewKeyView {
    /// The text: what a client sends. It is not kept.
    pub key: String,
    /// Until when the old text works on, in Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_until_ms: Option<u64>,
    /// The key.
    #[serde(flatten)]
    pub view: KeyView,
}

/// A page of keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Only those behind this id, which are older.
    after: Option<String>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<u32>,
    /// Only those of this user.
    user: Option<String>,
    /// Only those of this team directly.
    team: Option<String>,
    /// Only those of this org directly.
    org: Option<String>,
    /// Only those that are revoked, or that are not.
    revoked: Option<bool>,
    /// Only those with this text in their name.
    search: Option<String>,
}

/// A new key. It belongs to a user, or a team, or an org, or to nobody.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// For people.
    name: String,
    /// The user it shall belong to.
    user: Option<String>,
    /// The team it shall belong to; a manager's own if absent.
    team: Option<String>,
    /// The org it shall belong to.
    org: Option<String>,
}

impl Own for NewKey {
    const FIELDS: &'static [&'static str] = &["name", "user", "team", "org"];
}

/// A change of a key. Whom it belongs to does not change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedKey {
    /// For people.
    name: Option<String>,
}

impl Own for ChangedKey {
    const FIELDS: &'static [&'static str] = &["name"];
}

/// How a key is rotated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How long the old text works on: `24h` if absent, at most `720h`; `0s` ends it at once.
    overlap: Option<String>,
}

impl Endpoint for at::ListKeys {
    type Query = Search;
    type Body = Nothing;
    type Answer = List<KeyView>;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let limit = page_size(call.query.limit)?;
        let Search { after, user, team, org, revoked, .. } = call.query;
        let filter = Filter { org, team, user, revoked, after, search: search(call.query.search)? };
        let (desk, filter) = (&call.desk, &filter);
        let mut data = desk.inner.store.read(|read| {
            let stored = keys::list(read, &desk.reach, filter, limit + 1)?;
            let stored = stored.into_iter().map(KeyView::from);
            Ok(stored.chain(of_file(desk, read, filter)?).collect::<Vec<_>>())
        })?;
        // Both in the order of ids, the greatest first, as the store has them.
        data.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(List::page(data, limit, |key| key.id.clone()))
    }
}

impl Endpoint for at::GetKey {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = KeyView;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let desk = &call.desk;
        let found = desk.inner.store.read(|read| match file_key(desk, read, &call.id)? {
            Some(key) => Ok(Some(KeyView::of_file(key))),
            None => Ok(keys::get(read, &desk.reach, &call.id)?.map(KeyView::from)),
        })?;
        found.ok_or_else(Fault::not_found)
    }
}

/// The keys of the file that a filter lets through, as far as they are within reach.
fn of_file(desk: &Desk, read: &Connection, filter: &Filter) -> Result<Vec<KeyView>, Fault> {
    let Filter { org, team, user, revoked, search, after } = filter;
    let search = search.as_ref().map(|text| text.to_ascii_lowercase());
    let same = |asked: &Option<String>, has: &Option<String>| asked.is_none() || asked == has;
    let fits = |key: &KeyRecord| {
        *revoked != Some(true)
            && after.as_ref().is_none_or(|after| key.id < *after)
            && same(org, &key.org)
            && same(team, &key.team)
            && same(user, &key.user)
            && search.as_ref().is_none_or(|text| key.name.to_ascii_lowercase().contains(text))
    };
    let mut found = Vec::new();
    for key in desk.inner.live.file_keys().into_iter().filter(fits) {
        if sees(desk, read, &key)? {
            found.push(KeyView::of_file(key));
        }
    }
    Ok(found)
}

/// A key of the file that is within reach.
pub(super) fn file_key(
    desk: &Desk,
    read: &Connection,
    id: &str,
) -> Result<Option<KeyRecord>, Fault> {
    let Some(key) = desk.inner.live.file_keys().into_iter().find(|key| key.id == id) else {
        return Ok(None);
    };
    Ok(sees(desk, read, &key)?.then_some(key))
}

/// Whether a key of the file is within reach, as the store decides it of its own: it is the team's,
/// or one of a user of the team.
fn sees(desk: &Desk, read: &Connection, key: &KeyRecord) -> Result<bool, Fault> {
    let Some(own) = desk.reach.team() else { return Ok(true) };
    if key.team.as_deref() == Some(own) {
        return Ok(true);
    }
    let Some(user) = &key.user else { return Ok(false) };
    if let Some(group) = desk.inner.live.file_group(Kind::User, user) {
        return Ok(group.team.as_deref() == Some(own));
    }
    Ok(groups::get(read, Kind::User, &desk.reach, user)?.is_some())
}

impl Endpoint for at::CreateKey {
    type Query = Nothing;
    type Body = WithTerms<NewKey>;
    type Answer = NewKeyView;
    const STATUS: StatusCode = StatusCode::CREATED;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let (desk, fields) = (&*call.desk, call.body.terms);
        let NewKey { name: named, user, mut team, org } = call.body.own;
        let terms = Terms::new(fields.clone())?;
        if let Reach::Team(own) = &desk.reach {
            if org.is_some() {
                let fault = Fault::new(Code::FieldNotAllowed, "A manager cannot set `org`.");
                return Err(fault.param("org"));
            }
            if user.is_none() && team.is_none() {
                team = Some(own.clone());
            }
        }
        if [&user, &team, &org].iter().filter(|above| above.is_some()).count() > 1 {
            let message = "A key belongs to one user, team or org; what is above follows from it.";
            return Err(Fault::field("team", message));
        }
        let text = KeyText::generate(random()?);
        let now_ms = now_ms();
        let key = Key {
            id: new_id("key", now_ms)?,
            name: name(named)?,
            org,
            team,
            user,
            last_four: last_four(text.expose()),
            terms,
            created_ms: now_ms,
            updated_ms: now_ms,
            revoked_ms: None,
        };
        change(desk, |work| {
            check(desk, work, &key, &fields)?;
            work.put_key(&key)?;
            let digest = desk.inner.pepper.digest(text.expose().as_bytes());
            work.add_digest(&key.id, &digest, now_ms)?;
            record(work, "key.create", &key, &difference(&Map::new(), &key.state()))
        })?;
        Ok(NewKeyView { key: text.expose().to_owned(), old_until_ms: None, view: key.into() })
    }
}

impl Endpoint for at::UpdateKey {
    type Query = Nothing;
    type Body = WithTerms<ChangedKey>;
    type Answer = KeyView;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let (desk, fields) = (&*call.desk, call.body.terms);
        let key = change(desk, |work| {
            let before = usable(desk, work, &call.id)?;
            let mut key = before.clone();
            key.name = call.body.own.name.map_or(Ok(key.name), name)?;
            key.terms = key.terms.patched(fields.clone())?;
            if key == before {
                return Ok(key);
            }
            check(desk, work, &key, &fields)?;
            key.updated_ms = work.at_ms;
            work.put_key(&key)?;
            record(work, "key.update", &key, &difference(&before.state(), &key.state()))?;
            Ok(key)
        })?;
        Ok(key.into())
    }
}

impl Endpoint for at::RotateKey {
    type Query = Nothing;
    type Body = Rotation;
    type Answer = NewKeyView;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let desk = &*call.desk;
        let overlap_ms = overlap(call.body.overlap.as_deref())?;
        let text = KeyText::generate(random()?);
        let (key, until_ms) = change(desk, |work| {
            let mut key = usable(desk, work, &call.id)?;
            let until_ms = work.at_ms.saturating_add(overlap_ms);
            let working = digests(work, &key.id)?.len();
            if working >= MAX_TEXTS && overlap_ms > 0 {
                let message = format!("{working} texts of this key work on already.");
                return Err(Fault::new(Code::Conflict, message).param("overlap"));
            }
            let before = std::mem::replace(&mut key.last_four, last_four(text.expose()));
            key.updated_ms = work.at_ms;
            work.put_key(&key)?;
            let digest = desk.inner.pepper.digest(text.expose().as_bytes());
            work.add_digest(&key.id, &digest, until_ms)?;
            let detail = json!({ "last_four": [before, key.last_four], "old_until_ms": until_ms });
            record(work, "key.rotate", &key, &detail)?;
            Ok((key, until_ms))
        })?;
        let old_until_ms = Some(until_ms);
        Ok(NewKeyView { key: text.expose().to_owned(), old_until_ms, view: key.into() })
    }
}

impl Endpoint for at::RevokeKey {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = KeyView;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let desk = &*call.desk;
        let key = change(desk, |work| {
            let found = keys::get(work.connection(), &desk.reach, &call.id)?;
            let mut key = found.ok_or_else(|| missing(desk, work, &call.id))?;
            if key.revoked_ms.is_some() {
                return Ok(key);
            }
            key.revoked_ms = Some(work.at_ms);
            key.updated_ms = work.at_ms;
            work.put_key(&key)?;
            work.forget_digests(&key.id)?;
            let effect = Effect::Remove(Kind::Key, key.id.clone());
            let detail = json!({ "name": key.name });
            work.record("key.revoke", &key.id, &detail, Some(effect))?;
            Ok(key)
        })?;
        Ok(key.into())
    }
}

/// Whether a key may have its terms.
fn check(
    desk: &Desk,
    work: &Change<'_>,
    key: &Key,
    changed: &Map<String, Value>,
) -> Result<(), Fault> {
    let kinds = [(Kind::User, &key.user), (Kind::Team, &key.team), (Kind::Org, &key.org)];
    let above = kinds.into_iter().find_map(|(kind, id)| Some((kind, id.clone()?)));
    let above = grants::above(desk, work.connection(), above.as_ref())?;
    grants::check(desk, &key.terms, changed, above)
}

/// A key within reach that is not revoked.
fn usable(desk: &Desk, work: &Change<'_>, id: &str) -> Result<Key, Fault> {
    let found = keys::get(work.connection(), &desk.reach, id)?;
    let key = found.ok_or_else(|| missing(desk, work, id))?;
    match key.revoked_ms {
        None => Ok(key),
        Some(_) => Err(Fault::new(Code::Conflict, "This key is revoked. Make a new one.")),
    }
}

/// Why a key of the store is not there: it may be one of the file, which is changed in the file.
fn missing(desk: &Desk, work: &Change<'_>, id: &str) -> Fault {
    match file_key(desk, work.connection(), id) {
        Ok(Some(_)) => {
            let message = "This key stands in the configuration file.";
            Fault::new(Code::OwnedByFile, message)
        }
        Ok(None) => Fault::not_found(),
        Err(fault) => fault,
    }
}

fn digests(work: &Change<'_>, id: &str) -> Result<Digests, Fault> {
    keys::digests(work.connection(), id, work.at_ms)
}

/// Writes the audit entry, and hands the key with its digests to the directory.
fn record(
    work: &mut Change<'_>,
    action: &'static str,
    key: &Key,
    detail: &Value,
) -> Result<(), Fault> {
    let record = key.record(digests(work, &key.id)?);
    work.record(action, &key.id, detail, Some(Effect::PutKey(Box::new(record))))
}

fn change<T>(
    desk: &Desk,
    change: impl FnOnce(&mut Change<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    desk.inner.store.change(&*desk.inner.live, desk.caller.actor(), change)
}

fn overlap(text: Option<&str>) -> Result<u64, Fault> {
    let milliseconds = match text {
        None => Ok(OVERLAP_MS),
        Some("0" | "0s") => Ok(0),
        Some(text) => duration(text).map(milliseconds),
    };
    match milliseconds {
        Ok(milliseconds @ ..=MAX_OVERLAP_MS) => Ok(milliseconds),
        Ok(_) => Err(Fault::field("overlap", "`overlap` is at most 720h.")),
        Err(why) => Err(Fault::field("overlap", format!("`overlap`: {why}."))),
    }
}
