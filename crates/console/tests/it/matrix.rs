//! Every role at every route, over the router, against a table that was written by hand.

use std::collections::HashMap;

use console::routes::Route;
use console::table::{Role, Verdict, verdict};
use http::Method;
use serde_json::{Value, json};

use crate::harness::Rig;

/// One line for each route: owner, admin, auditor, manager. `+` yes, `t` in its own team, `-` no.
const REVIEWED: &str = "
    Me            + + + +
    Openapi       + + + +
    ListOrgs      + + + -
    CreateOrg     + + - -
    GetOrg        + + + -
    UpdateOrg     + + - -
    DeleteOrg     + + - -
    ListTeams     + + + t
    CreateTeam    + + - -
    GetTeam       + + + t
    UpdateTeam    + + - -
    DeleteTeam    + + - -
    ListUsers     + + + t
    CreateUser    + + - t
    GetUser       + + + t
    UpdateUser    + + - t
    DeleteUser    + + - t
    ListKeys      + + + t
    CreateKey     + + - t
    GetKey        + + + t
    UpdateKey     + + - t
    RotateKey     + + - t
    RevokeKey     + + - t
    OrgStanding   + + + -
    TeamStanding  + + + t
    UserStanding  + + + t
    KeyStanding   + + + t
    Explain       + + + t
    ListModels    + + + -
    ListTargets   + + + -
    ListMirrors   + + + -
    Metrics       + + + -
    GetPrice      + + + +
    GetUsage      + + + t
    ListRequests  + + + t
    GetExperiment + + + t
    GetRequest    + + + t
    ListAudit     + + + -
    VerifyAudit   + + + -
    GetConfig     + + + -
    ReloadConfig  + + - -
    ListAdmins    + + + -
    CreateAdmin   + + - -
    GetAdmin      + + + -
    DeleteAdmin   + + - -
";

fn reviewed() -> HashMap<(&'static str, Role), Verdict> {
    let mut table = HashMap::new();
    for line in REVIEWED.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let route = words.next().unwrap();
        for (role, word) in Role::ALL.into_iter().zip(words) {
            let verdict = match word {
                "+" => Verdict::Allow,
                "t" => Verdict::OwnTeam,
                "-" => Verdict::Deny,
                other => panic!("{other}"),
            };
            table.insert((route, role), verdict);
        }
    }
    table
}

#[test]
fn the_table_is_the_reviewed_one() {
    let table = reviewed();
    assert_eq!(table.len(), Route::ALL.len() * Role::ALL.len());
    for route in Route::ALL {
        for role in Role::ALL {
            assert_eq!(verdict(*route, role), table[&(route.name(), role)], "{route:?} {role:?}");
        }
    }
}

/// A body that a route takes, so that only the role can be in the way.
pub(crate) fn body(route: Route) -> Value {
    match route {
        Route::CreateOrg | Route::CreateTeam | Route::CreateUser | Route::CreateKey => {
            json!({ "name": "new" })
        }
        Route::CreateAdmin => json!({ "name": "new", "role": "auditor" }),
        Route::UpdateOrg | Route::UpdateTeam | Route::UpdateUser | Route::UpdateKey => {
            json!({ "name": "changed" })
        }
        // The key is one of the team that the manager has.
        Route::Explain => json!({ "model": "echo", "key": "of-red" }),
        _ => Value::Null,
    }
}

/// A query that a route needs.
pub(crate) fn query(route: Route) -> &'static str {
    match route {
        Route::GetExperiment => "?model=echo",
        Route::GetPrice => "?provider=xinghe&model=priced",
        _ => "",
    }
}

/// Things that a manager of `red` may see; each call makes its own, since some are ended.
pub(crate) async fn target(rig: &Rig, route: Route) -> String {
    let path = route.path();
    let make =
        |path: &'static str, body| async move { rig.post(path, body).await.ok().field("id") };
    match path.split('/').nth(3) {
        Some("orgs") => make("/admin/v1/orgs", json!({ "name": "org" })).await,
        // A manager's own team cannot be made anew; everybody else may do without.
        Some("teams") if route == Route::DeleteTeam => {
            make("/admin/v1/teams", json!({ "name": "team" })).await
        }
        Some("teams") => "red".to_owned(),
        Some("users") => make("/admin/v1/users", json!({ "name": "ada", "team": "red" })).await,
        Some("keys") => make("/admin/v1/keys", json!({ "name": "ci", "team": "red" })).await,
        Some("admins") => {
            make("/admin/v1/admins", json!({ "name": "eve", "role": "auditor" })).await
        }
        Some("requests") => "req_red".to_owned(),
        _ => String::new(),
    }
}

#[tokio::test]
async fn every_role_at_every_route() {
    let rig = Rig::new();
    let table = reviewed();
    rig.team("red").await;
    rig.post("/admin/v1/keys", json!({ "name": "of-red", "team": "red" })).await.ok();
    for role in Role::ALL {
        let token = rig.token(role.as_str()).await;
        for route in Route::ALL {
            let path = match route.path().contains("{id}") {
                true => route.path().replace("{id}", &target(&rig, *route).await),
                false => route.path().to_owned(),
            };
            let path = path + query(*route);
            let reply = rig.call(&token, route.method().as_str(), &path, body(*route)).await;
            let allowed = table[&(route.name(), role)] != Verdict::Deny;
            if allowed {
                assert!(reply.status.is_success(), "{role:?} {route:?}: {reply:?}");
            } else {
                reply.fails(403, "role_not_allowed");
            }
        }
    }
}

/// Without a token nobody learns anything: not what there is, and not what there is not.
#[tokio::test]
async fn nobody_without_a_token() {
    let rig = Rig::new();
    let mut answers = Vec::new();
    let unknown = ["/", "/admin", "/admin/v1", "/admin/v1/nothing", "/admin/v2/keys"];
    let known = Route::ALL.iter().map(|route| (route.method(), route.path().replace("{id}", "x")));
    let unknown = unknown.map(|path| (Method::GET, path.to_owned()));
    for (method, path) in known.chain(unknown).chain([(Method::PUT, "/admin/v1/keys".into())]) {
        for token in ["", "mat-wrong", "sk-1234"] {
            let reply = rig.call(token, method.as_str(), &path, Value::Null).await;
            answers.push(reply.fails(401, "invalid_admin_token"));
        }
    }
    let first = &answers[0];
    assert!(answers.iter().all(|answer| answer == first));
    assert_eq!(first.headers["www-authenticate"], "Bearer");
}

/// Each method that a path does not have is refused, for the owner too.
#[tokio::test]
async fn no_other_method() {
    let rig = Rig::new();
    for route in Route::ALL {
        let path = route.path().replace("{id}", "x");
        let takes = |method: &Method| {
            Route::ALL.iter().any(|other| other.path() == route.path() && other.method() == *method)
        };
        let others = [Method::PUT, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS];
        for method in others.into_iter().filter(|method| !takes(method)) {
            let reply = rig.call(crate::harness::ENV, method.as_str(), &path, Value::Null).await;
            reply.fails(405, "method_not_allowed");
        }
    }
}
