//! Admin tokens. Nobody makes one that is stronger than their own, or ends one of their equals,
//! but an owner.

use http::StatusCode;
use policy::directory::Kind;
use policy::key::{KeyText, last_four};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::groups::Deleted;
use crate::Inner;
use crate::auth::{Desk, Reach};
use crate::endpoint::{Call, Endpoint, List, Nothing, page_size};
use crate::fault::{Code, Fault};
use crate::ids::{name, new_id, random};
use crate::routes::at;
use crate::store::admins::{self, Admin};
use crate::store::{Actor, Change, groups, now_ms};
use crate::table::Role;

/// An admin token, without its text.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AdminView {
    /// Its id.
    pub id: String,
    /// Always `admin`.
    pub object: &'static str,
    /// For people.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// The team of a manager.
    pub team: Option<String>,
    /// The last four characters of its text.
    pub last_four: String,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// Which token made it.
    pub created_by: String,
}

impl From<Admin> for AdminView {
    fn from(admin: Admin) -> Self {
        let Admin { id, name, role, team, last_four, created_ms, created_by } = admin;
        Self { id, object: "admin", name, role, team, last_four, created_ms, created_by }
    }
}

/// An admin token with its text, shown this once.
#[derive(Serialize, JsonSchema)]
pub struct NewAdminView {
    /// The text. It is not kept.
    pub token: String,
    /// The token.
    #[serde(flatten)]
    pub view: AdminView,
}

/// A new admin token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAdmin {
    /// For people.
    name: String,
    /// What it shall be good for.
    role: Role,
    /// The team of a manager.
    team: Option<String>,
}

/// A page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Only those behind this id, which are older.
    after: Option<String>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<u32>,
}

impl Endpoint for at::ListAdmins {
    type Query = Page;
    type Body = Nothing;
    type Answer = List<AdminView>;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let limit = page_size(call.query.limit)?;
        let after = call.query.after.as_deref();
        let found =
            call.desk.inner.store.read(|connection| admins::list(connection, after, limit + 1))?;
        let data = found.into_iter().map(AdminView::from).collect();
        Ok(List::page(data, limit, |admin| admin.id.clone()))
    }
}

impl Endpoint for at::GetAdmin {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = AdminView;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let found = call.desk.inner.store.read(|connection| admins::get(connection, &call.id))?;
        found.map(AdminView::from).ok_or_else(Fault::not_found)
    }
}

impl Endpoint for at::CreateAdmin {
    type Query = Nothing;
    type Body = NewAdmin;
    type Answer = NewAdminView;
    const STATUS: StatusCode = StatusCode::CREATED;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let desk = &*call.desk;
        let NewAdmin { name: named, role, team } = call.body;
        may_touch(desk, role)?;
        if (role == Role::Manager) != team.is_some() {
            return Err(Fault::field("team", "A manager has a team, and nobody else has one."));
        }
        let named = name(named)?;
        let (admin, text) =
            desk.inner.store.change(&*desk.inner.live, desk.caller.actor(), |work| {
                if let Some(team) = &team {
                    let stored = groups::get(work.connection(), Kind::Team, &Reach::All, team)?;
                    if stored.is_none() && desk.inner.live.file_group(Kind::Team, team).is_none() {
                        return Err(Fault::field("team", "There is no such team."));
                    }
                }
                make(&desk.inner, work, named, role, team)
            })?;
        Ok(NewAdminView { token: text.expose().to_owned(), view: admin.into() })
    }
}

impl Endpoint for at::DeleteAdmin {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = Deleted;

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let desk = &*call.desk;
        desk.inner.store.change(&*desk.inner.live, desk.caller.actor(), |work| {
            let admin = admins::get(work.connection(), &call.id)?.ok_or_else(Fault::not_found)?;
            may_touch(desk, admin.role)?;
            let last = admin.role == Role::Owner && admins::owners(work.connection())? == 1;
            if last && desk.inner.token.is_none() {
                return Err(Fault::new(Code::Conflict, "The last owner cannot be deleted."));
            }
            work.delete_admin(&admin.id)?;
            let detail = json!({ "name": admin.name, "role": admin.role, "team": admin.team });
            work.record("admin.delete", &admin.id, &detail, None)
        })?;
        Ok(Deleted { id: call.id, deleted: true })
    }
}

fn may_touch(desk: &Desk, role: Role) -> Result<(), Fault> {
    if desk.caller.role().rules(role) {
        return Ok(());
    }
    let message = format!("Only an owner makes or ends tokens of the role {}.", role.as_str());
    Err(Fault::new(Code::NotAllowed, message).param("role"))
}

fn make(
    inner: &Inner,
    work: &mut Change<'_>,
    name: String,
    role: Role,
    team: Option<String>,
) -> Result<(Admin, KeyText), Fault> {
    let text = KeyText::generate_admin(random()?);
    let admin = Admin {
        id: new_id("adm", now_ms())?,
        name,
        role,
        team,
        last_four: last_four(text.expose()),
        created_ms: work.at_ms,
        created_by: work.actor().id.clone(),
    };
    work.insert_admin(&admin, &inner.pepper.digest(text.expose().as_bytes()))?;
    let detail = json!({ "name": admin.name, "role": admin.role, "team": admin.team });
    work.record("admin.create", &admin.id, &detail, None)?;
    Ok((admin, text))
}

/// The first owner's token, where there is neither an owner nor a token from outside.
///
/// # Errors
/// [`Code::Store`].
pub(crate) fn first(inner: &Inner) -> Result<Option<KeyText>, Fault> {
    if inner.token.is_some() {
        return Ok(None);
    }
    let actor = Actor { id: "start".to_owned(), role: Role::Owner };
    inner.store.change(&*inner.live, &actor, |work| {
        if admins::owners(work.connection())? > 0 {
            return Ok(None);
        }
        let (_, text) = make(inner, work, "first owner".to_owned(), Role::Owner, None)?;
        Ok(Some(text))
    })
}
