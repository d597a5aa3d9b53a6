//! Orgs, teams and users.

use http::StatusCode;
use policy::directory::{GroupConfig, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{grants, search};
use crate::auth::{Desk, Reach};
use crate::endpoint::{Call, Endpoint, List, Nothing, page_size};
use crate::fault::{Code, Fault};
use crate::ids::{chosen_id, name, new_id};
use crate::live::Effect;
use crate::routes::at;
use crate::store::audit::difference;
use crate::store::groups::{self, Filter, Group};
use crate::store::{Change, now_ms};
use crate::terms::{Own, Terms, WithTerms, nullable};

/// An org, team or user, and its terms beside.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GroupView {
    /// Its id.
    pub id: String,
    /// `org`, `team` or `user`.
    pub object: &'static str,
    /// For people.
    pub name: String,
    /// The org that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// The team that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Who owns it: `store`, or `file`, in which case it is read-only here.
    pub origin: &'static str,
    /// When it was made, in Unix milliseconds; 0 if it stands in the file.
    pub created_ms: u64,
    /// When it was changed last, in Unix milliseconds; 0 if it stands in the file.
    pub updated_ms: u64,
    /// What its members may do together.
    #[serde(flatten)]
    #[schemars(with = "policy::directory::TermsConfig")]
    pub terms: Terms,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        let Group { kind, id, name, org, team, terms, created_ms, updated_ms } = group;
        let (object, origin) = (kind.word(), "store");
        Self { id, object, name, org, team, origin, created_ms, updated_ms, terms }
    }
}

impl GroupView {
    fn of_file(kind: Kind, id: String, config: GroupConfig) -> Self {
        let terms = Terms::of(&config.terms);
        let (object, origin, name) = (kind.word(), "file", id.clone());
        let GroupConfig { org, team, .. } = config;
        Self { id, object, name, org, team, origin, created_ms: 0, updated_ms: 0, terms }
    }
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Deleted {
    /// Its id.
    pub id: String,
    /// Always true.
    pub deleted: bool,
}

/// A page of groups.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Only those behind this id.
    after: Option<String>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<u32>,
    /// Only those of this org.
    org: Option<String>,
    /// Only those of this team.
    team: Option<String>,
    /// Only those with this text in their name.
    search: Option<String>,
}

/// A new org.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrg {
    /// Its id, if it shall not be made up: what the claims of a token name, for example.
    id: Option<String>,
    /// For people.
    name: String,
}

/// A new team.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTeam {
    /// Its id, if it shall not be made up.
    id: Option<String>,
    /// For people.
    name: String,
    /// The org that it is in.
    org: Option<String>,
}

/// A new user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Its id, if it shall not be made up.
    id: Option<String>,
    /// For people.
    name: String,
    /// The team that it is in; a manager's own if absent.
    team: Option<String>,
    /// The org that it is in, if it is in no team.
    org: Option<String>,
}

/// A change of an org.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedOrg {
    /// For people.
    name: Option<String>,
}

/// A change of a team.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedTeam {
    /// For people.
    name: Option<String>,
    /// The org that it is in.
    #[serde(default, deserialize_with = "nullable")]
    org: Option<Option<String>>,
}

/// A change of a user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedUser {
    /// For people.
    name: Option<String>,
    /// The team that it is in.
    #[serde(default, deserialize_with = "nullable")]
    team: Option<Option<String>>,
    /// The org that it is in, if it is in no team.
    #[serde(default, deserialize_with = "nullable")]
    org: Option<Option<String>>,
}

/// What any of them says.
#[derive(Default)]
struct Draft {
    id: Option<String>,
    name: Option<String>,
    org: Option<Option<String>>,
    team: Option<Option<String>>,
}

impl Own for NewOrg {
    const FIELDS: &'static [&'static str] = &["id", "name"];
}
impl Own for NewTeam {
    const FIELDS: &'static [&'static str] = &["id", "name", "org"];
}
impl Own for NewUser {
    const FIELDS: &'static [&'static str] = &["id", "name", "team", "org"];
}
impl Own for ChangedOrg {
    const FIELDS: &'static [&'static str] = &["name"];
}
impl Own for ChangedTeam {
    const FIELDS: &'static [&'static str] = &["name", "org"];
}
impl Own for ChangedUser {
    const FIELDS: &'static [&'static str] = &["name", "team", "org"];
}

impl From<NewOrg> for Draft {
    fn from(NewOrg { id, name }: NewOrg) -> Self {
        Self { id, name: Some(name), ..Self::default() }
    }
}
impl From<NewTeam> for Draft {
    fn from(NewTeam { id, name, org }: NewTeam) -> Self {
        Self { id, name: Some(name), org: Some(org), team: None }
    }
}
impl From<NewUser> for Draft {
    fn from(NewUser { id, name, team, org }: NewUser) -> Self {
        Self { id, name: Some(name), org: Some(org), team: Some(team) }
    }
}
impl From<ChangedOrg> for Draft {
    fn from(ChangedOrg { name }: ChangedOrg) -> Self {
        Self { name, ..Self::default() }
    }
}
impl From<ChangedTeam> for Draft {
    fn from(ChangedTeam { name, org }: ChangedTeam) -> Self {
        Self { name, org, ..Self::default() }
    }
}
impl From<ChangedUser> for Draft {
    fn from(ChangedUser { name, team, org }: ChangedUser) -> Self {
        Self { id: None, name, org, team }
    }
}

fn list(desk: &Desk, kind: Kind, query: Search) -> Result<List<GroupView>, Fault> {
    let limit = page_size(query.limit)?;
    let Search { after, org, team, .. } = query;
    let filter = Filter { org, team, after, search: search(query.search)? };
    let read = |connection: &_| groups::list(connection, kind, &desk.reach, &filter, limit + 1);
    let found = desk.inner.store.read(read)?;
    let mut data: Vec<GroupView> = found.into_iter().map(GroupView::from).collect();
    data.extend(of_file(desk, kind, &filter));
    // One of the file hides one of the store; both are in the order of ids.
    data.sort_by(|a, b| a.id.cmp(&b.id).then(a.origin.cmp(b.origin)));
    data.dedup_by(|later, earlier| later.id == earlier.id);
    Ok(List::page(data, limit, |group| group.id.clone()))
}

/// The groups of the file that a filter lets through, as far as they are within reach.
fn of_file(desk: &Desk, kind: Kind, filter: &Filter) -> Vec<GroupView> {
    let groups = desk.inner.live.file_groups(kind).into_iter();
    let fits = |(id, group): &(String, GroupConfig)| {
        let same = |asked: &Option<String>, has: &Option<String>| asked.is_none() || asked == has;
        let search = filter.search.as_ref().map(|text| text.to_ascii_lowercase());
        grants::sees(&desk.reach, kind, id, group)
            && filter.after.as_ref().is_none_or(|after| id > after)
            && same(&filter.org, &group.org)
            && same(&filter.team, &group.team)
            && search.is_none_or(|text| id.to_ascii_lowercase().contains(&text))
    };
    groups.filter(fits).map(|(id, group)| GroupView::of_file(kind, id, group)).collect()
}

fn get(desk: &Desk, kind: Kind, id: &str) -> Result<GroupView, Fault> {
    if let Some(group) = desk.inner.live.file_group(kind, id)
        && grants::sees(&desk.reach, kind, id, &group)
    {
        return Ok(GroupView::of_file(kind, id.to_owned(), group));
    }
    let read = |connection: &_| groups::get(connection, kind, &desk.reach, id);
    let found = desk.inner.store.read(read)?;
    found.map(GroupView::from).ok_or_else(Fault::not_found)
}

fn create(desk: &Desk, kind: Kind, body: WithTerms<impl Into<Draft>>) -> Result<GroupView, Fault> {
    let (mut draft, fields) = (body.own.into(), body.terms);
    let terms = Terms::new(fields.clone())?;
    if let Reach::Team(own) = &desk.reach {
        refuse_manager("id", draft.id.is_some())?;
        refuse_manager("org", draft.org.as_ref().is_some_and(Option::is_some))?;
        draft.team = Some(draft.team.flatten().or_else(|| Some(own.clone())));
    }
    let id = match draft.id {
        Some(id) => chosen_id(id)?,
        None => new_id(kind.word(), now_ms())?,
    };
    let group = Group {
        kind,
        id,
        name: name(draft.name.unwrap_or_default())?,
        org: draft.org.flatten(),
        team: draft.team.flatten(),
        terms,
        created_ms: now_ms(),
        updated_ms: now_ms(),
    };
    change(desk, |work| {
        if desk.inner.live.file_group(kind, &group.id).is_some() {
            return Err(owned_by_file(kind));
        }
        if groups::get(work.connection(), kind, &Reach::All, &group.id)?.is_some() {
            let message = format!("There is a {} of this id.", kind.word());
            return Err(Fault::new(Code::Exists, message).param("id"));
        }
        put(desk, work, &group, &fields, None)
    })?;
    Ok(group.into())
}

fn update(
    desk: &Desk,
    kind: Kind,
    id: &str,
    body: WithTerms<impl Into<Draft>>,
) -> Result<GroupView, Fault> {
    let (draft, fields): (Draft, _) = (body.own.into(), body.terms);
    if desk.reach != Reach::All {
        refuse_manager("team", draft.team.is_some())?;
        refuse_manager("org", draft.org.is_some())?;
    }
    let group = change(desk, |work| {
        let before = stored(desk, work, kind, id)?;
        let mut group = before.clone();
        group.name = draft.name.map_or(Ok(group.name), name)?;
        group.team = draft.team.unwrap_or(group.team);
        group.org = draft.org.unwrap_or(group.org);
        group.terms = group.terms.patched(fields.clone())?;
        if group == before {
            return Ok(before);
        }
        group.updated_ms = work.at_ms;
        put(desk, work, &group, &fields, Some(&before))?;
        Ok(group)
    })?;
    Ok(group.into())
}

fn delete(desk: &Desk, kind: Kind, id: &str) -> Result<Deleted, Fault> {
    change(desk, |work| {
        let group = stored(desk, work, kind, id)?;
        if !groups::is_empty(work.connection(), kind, id)? {
            let message = format!("The {} still holds something.", kind.word());
            return Err(Fault::new(Code::NotEmpty, message));
        }
        work.delete_group(kind, id)?;
        let detail = difference(&group.state(), &Map::new());
        let effect = Effect::Remove(kind, id.to_owned());
        work.record(action(kind, "delete"), id, &detail, Some(effect))
    })?;
    Ok(Deleted { id: id.to_owned(), deleted: true })
}

/// Writes a group, new or changed, if what it says may be said.
fn put(
    desk: &Desk,
    work: &mut Change<'_>,
    group: &Group,
    changed: &Map<String, Value>,
    before: Option<&Group>,
) -> Result<(), Fault> {
    let above = match (&group.team, &group.org) {
        (Some(_), Some(_)) => {
            return Err(Fault::field("org", "A user's org is that of its team."));
        }
        (Some(team), None) => Some((Kind::Team, team.clone())),
        (None, Some(org)) => Some((Kind::Org, org.clone())),
        (None, None) => None,
    };
    let above = grants::above(desk, work.connection(), above.as_ref())?;
    grants::check(desk, &group.terms, changed, above)?;
    work.put_group(group)?;
    let (verb, from) = match before {
        Some(before) => ("update", before.state()),
        None => ("create", Map::new()),
    };
    let detail = difference(&from, &group.state());
    let effect = Effect::PutGroup(group.kind, group.id.clone(), Box::new(group.config()));
    work.record(action(group.kind, verb), &group.id, &detail, Some(effect))
}

/// A group of the store that may be changed.
fn stored(desk: &Desk, work: &Change<'_>, kind: Kind, id: &str) -> Result<Group, Fault> {
    let found = groups::get(work.connection(), kind, &desk.reach, id)?;
    found.ok_or_else(|| match desk.inner.live.file_group(kind, id) {
        Some(group) if grants::sees(&desk.reach, kind, id, &group) => owned_by_file(kind),
        _ => Fault::not_found(),
    })
}

fn change<T>(
    desk: &Desk,
    change: impl FnOnce(&mut Change<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    desk.inner.store.change(&*desk.inner.live, desk.caller.actor(), change)
}

fn owned_by_file(kind: Kind) -> Fault {
    let message = format!("This {} stands in the configuration file.", kind.word());
    Fault::new(Code::OwnedByFile, message)
}

fn refuse_manager(field: &str, sent: bool) -> Result<(), Fault> {
    if !sent {
        return Ok(());
    }
    let message = format!("A manager cannot set `{field}`.");
    Err(Fault::new(Code::FieldNotAllowed, message).param(field))
}

/// The words of the audit log.
fn action(kind: Kind, verb: &str) -> &'static str {
    match (kind, verb) {
        (Kind::Org, "create") => "org.create",
        (Kind::Org, "update") => "org.update",
        (Kind::Org, _) => "org.delete",
        (Kind::Team, "create") => "team.create",
        (Kind::Team, "update") => "team.update",
        (Kind::Team, _) => "team.delete",
        (_, "create") => "user.create",
        (_, "update") => "user.update",
        (..) => "user.delete",
    }
}

macro_rules! endpoints {
    ($kind:expr, $list:ident, $create:ident($new:ty), $get:ident, $update:ident($changed:ty), $delete:ident) => {
        impl Endpoint for at::$list {
            type Query = Search;
            type Body = Nothing;
            type Answer = List<GroupView>;
            fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
                list(&call.desk, $kind, call.query)
            }
        }
        impl Endpoint for at::$create {
            type Query = Nothing;
            type Body = WithTerms<$new>;
            type Answer = GroupView;
            const STATUS: StatusCode = StatusCode::CREATED;
            fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
                create(&call.desk, $kind, call.body)
            }
        }
        impl Endpoint for at::$get {
            type Query = Nothing;
            type Body = Nothing;
            type Answer = GroupView;
            fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
                get(&call.desk, $kind, &call.id)
            }
        }
        impl Endpoint for at::$update {
            type Query = Nothing;
            type Body = WithTerms<$changed>;
            type Answer = GroupView;
            fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
                update(&call.desk, $kind, &call.id, call.body)
            }
        }
        impl Endpoint for at::$delete {
            type Query = Nothing;
            type Body = Nothing;
            type Answer = Deleted;
            fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
                delete(&call.desk, $kind, &call.id)
            }
        }
    };
}

endpoints!(Kind::Org, ListOrgs, CreateOrg(NewOrg), GetOrg, UpdateOrg(ChangedOrg), DeleteOrg);
endpoints!(
    Kind::Team,
    ListTeams,
    CreateTeam(NewTeam),
    GetTeam,
    UpdateTeam(ChangedTeam),
    DeleteTeam
);
endpoints!(
    Kind::User,
    ListUsers,
    CreateUser(NewUser),
    GetUser,
    UpdateUser(ChangedUser),
    DeleteUser
);
