//! The policy table: who may do what. It is closed: a route or a role without an entry does not
//! compile, and there is no wildcard.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::routes::Route;

/// What an admin token is good for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, other owners and admins included.
    Owner,
    /// Everything but owners and admins.
    Admin,
    /// Reads everything, changes nothing.
    Auditor,
    /// The users and keys of one team.
    Manager,
}

impl Role {
    /// All of them, the strongest first.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Auditor, Self::Manager];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Manager => "manager",
        }
    }

    /// Whether this role may create and end tokens of the other. Nobody but an owner touches
    /// an equal.
    #[must_use]
    pub fn rules(self, other: Self) -> bool {
        match self {
            Self::Owner => true,
            Self::Admin => matches!(other, Self::Auditor | Self::Manager),
            Self::Auditor | Self::Manager => false,
        }
    }
}

/// What the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Allow,
    /// Yes, as far as the caller's own team goes.
    OwnTeam,
    /// No.
    Deny,
}

/// Who may do it.
#[derive(Clone, Copy)]
enum Group {
    /// Whoever has a token.
    Everyone,
    /// Reading: everyone, a manager in its own team.
    Readers,
    /// Reading what concerns the whole of Magpie.
    Overseers,
    /// Changing what belongs to a team.
    Managers,
    /// Changing what concerns more than a team.
    Admins,
}

/// Who a route is for.
fn group(route: Route) -> Group {
    match route {
        Route::Me | Route::Openapi | Route::GetPrice => Group::Everyone,

        Route::ListTeams
        | Route::GetTeam
        | Route::ListUsers
        | Route::GetUser
        | Route::ListKeys
        | Route::GetKey
        | Route::TeamStanding
        | Route::UserStanding
        | Route::KeyStanding
        | Route::Explain
        | Route::GetUsage
        | Route::ListRequests
        | Route::GetExperiment
        | Route::GetRequest => Group::Readers,

        Route::ListOrgs
        | Route::GetOrg
        | Route::OrgStanding
        | Route::ListAudit
        | Route::VerifyAudit
        | Route::GetConfig
        | Route::ListModels
        | Route::ListTargets
        | Route::ListMirrors
        | Route::Metrics
        | Route::ListAdmins
        | Route::GetAdmin => Group::Overseers,

        Route::CreateUser
        | Route::UpdateUser
        | Route::DeleteUser
        | Route::CreateKey
        | Route::UpdateKey
        | Route::RotateKey
        | Route::RevokeKey => Group::Managers,

        Route::CreateOrg
        | Route::UpdateOrg
        | Route::DeleteOrg
        | Route::CreateTeam
        | Route::UpdateTeam
        | Route::DeleteTeam
        | Route::ReloadConfig
        | Route::CreateAdmin
        | Route::DeleteAdmin => Group::Admins,
    }
}

/// Whether a role may use a route.
#[must_use]
pub fn verdict(route: Route, role: Role) -> Verdict {
    use Verdict::{Allow, Deny, OwnTeam};
    match (group(route), role) {
        (_, Role::Owner | Role::Admin)
        | (Group::Everyone, Role::Auditor | Role::Manager)
        | (Group::Readers | Group::Overseers, Role::Auditor) => Allow,
        (Group::Readers | Group::Managers, Role::Manager) => OwnTeam,
        (Group::Managers | Group::Admins, Role::Auditor)
        | (Group::Overseers | Group::Admins, Role::Manager) => Deny,
    }
}
