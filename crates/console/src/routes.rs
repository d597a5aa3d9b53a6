//! Every route of the admin API, once: its name, method, path, and what it is for.
//!
//! The enum, the markers in [`at`] and the way to the handler all come from this one list. A route
//! for which no [`Endpoint`](crate::endpoint::Endpoint) is written, or which the
//! [policy table](crate::table) does not decide, does not compile.

use axum::routing::{MethodFilter, MethodRouter};
use http::Method;

use crate::Console;
use crate::endpoint::mount;

/// What stands before every path but that of the metrics, which has its usual place.
pub const PREFIX: &str = "/admin/v1";

/// A route, known by its type: what [`Authorized`](crate::auth::Authorized) is for.
pub trait At: Send + Sync + 'static {
    /// The route.
    const ROUTE: Route;
}

/// A whole path: below [`PREFIX`], or at the root of the listener.
macro_rules! whole {
    ($path:literal) => {
        concat!("/admin/v1", $path)
    };
    (root $path:literal) => {
        $path
    };
}

macro_rules! routes {
    ($($name:ident: $method:ident $($place:ident)? $path:literal, $summary:literal;)*) => {
        /// A route of the admin API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Route {
            $(#[doc = $summary] $name,)*
        }

        impl Route {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Its method.
            #[must_use]
            pub fn method(self) -> Method {
                match self { $(Self::$name => Method::$method,)* }
            }

            /// Its method, as the router takes it; GET answers HEAD too.
            pub(crate) fn filter(self) -> MethodFilter {
                match self { $(Self::$name => MethodFilter::$method,)* }
            }

            /// Its path, with `{id}` where an id stands.
            #[must_use]
            pub fn path(self) -> &'static str {
                match self { $(Self::$name => whole!($($place)? $path),)* }
            }

            /// What it is for, in a sentence.
            #[must_use]
            pub fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }

            /// The way to its handler: through `Authorized` for this very route.
            pub(crate) fn mount(self) -> MethodRouter<Console> {
                match self { $(Self::$name => mount::<at::$name>(),)* }
            }

            /// What its documentation says of what goes in and out.
            pub(crate) fn describe(self, book: &mut crate::openapi::Book) -> serde_json::Value {
                match self { $(Self::$name => book.operation::<at::$name>(),)* }
            }
        }

        /// One type for each route.
        pub mod at {
            use super::{At, Route};
            $(
                #[doc = $summary]
                #[derive(Debug, Clone, Copy)]
                pub struct $name;
                impl At for $name {
                    const ROUTE: Route = Route::$name;
                }
            )*
        }
    };
}

routes! {
    Me: GET "/me", "Who you are, and what your role may do.";
    Openapi: GET "/openapi.json", "This description, in OpenAPI 3.1.";

    ListOrgs: GET "/orgs", "The orgs, by id.";
    CreateOrg: POST "/orgs", "A new org.";
    GetOrg: GET "/orgs/{id}", "An org.";
    UpdateOrg: PATCH "/orgs/{id}", "Changes the fields that are sent; null takes one away.";
    DeleteOrg: DELETE "/orgs/{id}", "Deletes an org that holds nothing.";

    ListTeams: GET "/teams", "The teams, by id.";
    CreateTeam: POST "/teams", "A new team.";
    GetTeam: GET "/teams/{id}", "A team.";
    UpdateTeam: PATCH "/teams/{id}", "Changes the fields that are sent; null takes one away.";
    DeleteTeam: DELETE "/teams/{id}", "Deletes a team that holds nothing.";

    ListUsers: GET "/users", "The users, by id.";
    CreateUser: POST "/users", "A new user.";
    GetUser: GET "/users/{id}", "A user.";
    UpdateUser: PATCH "/users/{id}", "Changes the fields that are sent; null takes one away.";
    DeleteUser: DELETE "/users/{id}", "Deletes a user that holds no key.";

    ListKeys: GET "/keys", "The keys, newest first.";
    CreateKey: POST "/keys", "A new key. Its text is in this answer and never again.";
    GetKey: GET "/keys/{id}", "A key, without its text.";
    UpdateKey: PATCH "/keys/{id}", "Changes the fields that are sent; null takes one away.";
    RotateKey: POST "/keys/{id}/rotate", "A new text for a key. The old one works on for the overlap.";
    RevokeKey: POST "/keys/{id}/revoke", "Ends a key, for good and at once.";

    OrgStanding: GET "/orgs/{id}/standing", "What is left of an org's limits and budgets.";
    TeamStanding: GET "/teams/{id}/standing", "What is left of a team's limits and budgets.";
    UserStanding: GET "/users/{id}/standing", "What is left of a user's limits and budgets.";
    KeyStanding: GET "/keys/{id}/standing", "What is left of a key's limits and budgets.";

    Explain: POST "/explain", "Where a request would go, and why. It is not sent.";
    ListModels: GET "/models", "The models that have plans, and what their options have come to.";
    ListTargets: GET "/targets", "The targets of all plans, and how they are.";
    ListMirrors: GET "/mirrors", "The shadows of models, and how their answers compare.";

    Metrics: GET root "/metrics", "The numbers for Prometheus, as text or OpenMetrics.";

    GetPrice: GET "/prices", "What a model of a provider costs.";
    GetUsage: GET "/usage", "Requests, tokens and money, summed.";
    ListRequests: GET "/requests", "The requests, newest first.";
    GetExperiment: GET "/experiments", "How the variants of a model compare, and how sure that is.";
    GetRequest: GET "/requests/{id}", "A request: its attempts, tokens, and the formula of its cost.";

    ListAudit: GET "/audit", "Who changed what, newest first.";
    VerifyAudit: GET "/audit/verify", "Whether the chain of the audit log is whole.";

    GetConfig: GET "/config", "What the configuration file says. Secrets are masked.";
    ReloadConfig: POST "/config/reload", "Reads the configuration file again.";

    ListAdmins: GET "/admins", "The admin tokens, without their text.";
    CreateAdmin: POST "/admins", "A new admin token. Its text is in this answer and never again.";
    GetAdmin: GET "/admins/{id}", "An admin token, without its text.";
    DeleteAdmin: DELETE "/admins/{id}", "Ends an admin token, at once.";
}
