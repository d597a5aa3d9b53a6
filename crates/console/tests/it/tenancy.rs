//! What belongs to another team is answered like what does not exist: byte by byte.

use console::routes::Route;
use console::table::{Role, Verdict, verdict};
use serde_json::{Value, json};

use crate::harness::{Reply, Rig};
use crate::matrix::body;

/// The ids of the team `blue`, by the part of the path.
async fn blue(rig: &Rig) -> Vec<(&'static str, String)> {
    rig.team("blue").await;
    let make =
        |path: &'static str, body| async move { rig.post(path, body).await.ok().field("id") };
    let user = make("/admin/v1/users", json!({ "name": "bob", "team": "blue" })).await;
    let mine = make("/admin/v1/users", json!({ "name": "nobody's" })).await;
    let key = make("/admin/v1/keys", json!({ "name": "b", "team": "blue" })).await;
    let users_key = make("/admin/v1/keys", json!({ "name": "c", "user": user })).await;
    let free = make("/admin/v1/keys", json!({ "name": "d" })).await;
    vec![
        ("teams", "blue".to_owned()),
        ("users", user),
        ("users", mine),
        ("keys", key),
        ("keys", users_key),
        ("keys", free),
        ("requests", "req_blue".to_owned()),
    ]
}

#[tokio::test]
async fn a_foreign_id_is_an_unknown_id() {
    let rig = Rig::new();
    let manager = rig.token("manager").await;
    let foreign = blue(&rig).await;
    let mut seen = 0;
    for route in Route::ALL {
        if verdict(*route, Role::Manager) != Verdict::OwnTeam || !route.path().contains("{id}") {
            continue;
        }
        let part = route.path().split('/').nth(3).unwrap();
        for (_, id) in foreign.iter().filter(|(kind, _)| *kind == part) {
            let ask = async |id: &str| -> Reply {
                let path = route.path().replace("{id}", id);
                rig.call(&manager, route.method().as_str(), &path, body(*route)).await
            };
            let unknown = ask("key_0000000000000000000000").await;
            assert_eq!(ask(id).await, unknown, "{route:?} {id}");
            unknown.fails(404, "not_found");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
    // And nothing happened to any of them.
    for (part, id) in foreign.iter().filter(|(part, _)| *part != "requests") {
        let thing = rig.get(&format!("/admin/v1/{part}/{id}")).await.ok();
        assert_ne!(thing.json()["name"], "changed");
        assert!(thing.json()["revoked_ms"].is_null());
    }
}

#[tokio::test]
async fn a_foreign_parent_is_an_unknown_parent() {
    let rig = Rig::new();
    let manager = rig.token("manager").await;
    let foreign = blue(&rig).await;
    let user = &foreign.iter().find(|(part, _)| *part == "users").unwrap().1;
    for (path, field, id) in [
        ("/admin/v1/keys", "team", "blue"),
        ("/admin/v1/keys", "user", user),
        ("/admin/v1/users", "team", "blue"),
    ] {
        let ask = async |id: &str| -> Reply {
            rig.call(&manager, "POST", path, json!({ "name": "x", field: id })).await
        };
        let unknown = ask("no-such-thing").await;
        assert_eq!(ask(id).await, unknown, "{path} {field}");
        assert_eq!(unknown.fails(422, "invalid_field").param(), field);
    }
}

#[tokio::test]
async fn lists_hold_the_own_team_only() {
    let rig = Rig::new();
    let manager = rig.token("manager").await;
    let foreign = blue(&rig).await;
    let user = rig.call(&manager, "POST", "/admin/v1/users", json!({ "name": "ada" })).await.ok();
    let user = user.field("id");
    for body in [json!({ "name": "a" }), json!({ "name": "u", "user": user })] {
        rig.call(&manager, "POST", "/admin/v1/keys", body).await.ok();
    }
    for (path, count) in [
        ("/admin/v1/teams", 1),
        ("/admin/v1/users", 1),
        ("/admin/v1/keys", 2),
        ("/admin/v1/users?team=blue", 0),
        ("/admin/v1/keys?team=blue", 0),
        ("/admin/v1/requests", 1),
        ("/admin/v1/requests?team=blue", 0),
        ("/admin/v1/usage?team=blue", 0),
    ] {
        let reply = rig.call(&manager, "GET", path, Value::Null).await.ok();
        let data = reply.json()["data"].as_array().unwrap().clone();
        assert_eq!(data.len(), count, "{path}: {data:?}");
        for (_, id) in &foreign {
            assert!(!reply.text.contains(&format!("{id:?}")), "{path}");
        }
    }
    // Whatever was asked of the ledger, it was asked for this team.
    rig.call(&manager, "GET", "/admin/v1/usage?key=key_of_somebody", Value::Null).await.ok();
    rig.call(&manager, "GET", "/admin/v1/experiments?model=chat", Value::Null).await.ok();
    let asked = rig.books.asked.lock().unwrap();
    assert!(asked.iter().all(|filter| filter.team.as_deref() == Some("red")), "{asked:?}");
}

#[tokio::test]
async fn a_user_who_leaves_takes_the_keys_along() {
    let rig = Rig::new();
    let manager = rig.token("manager").await;
    rig.team("blue").await;
    let user = rig.call(&manager, "POST", "/admin/v1/users", json!({ "name": "ada" })).await;
    let user = user.ok().field("id");
    let key = rig.call(&manager, "POST", "/admin/v1/keys", json!({ "name": "k", "user": user }));
    let path = format!("/admin/v1/keys/{}", key.await.ok().field("id"));
    rig.call(&manager, "GET", &path, Value::Null).await.ok();
    rig.patch(&format!("/admin/v1/users/{user}"), json!({ "team": "blue" })).await.ok();
    rig.call(&manager, "GET", &path, Value::Null).await.fails(404, "not_found");
}

#[tokio::test]
async fn a_team_of_the_file_can_have_a_manager() {
    let rig = Rig::new();
    for (kind, id, team) in [
        (policy::directory::Kind::Team, "filed", None),
        (policy::directory::Kind::User, "ada", Some("filed".to_owned())),
        (policy::directory::Kind::User, "bob", Some("other".to_owned())),
    ] {
        let config = policy::directory::GroupConfig { team, ..Default::default() };
        rig.memory.file.lock().unwrap().insert((kind, id.to_owned()), config);
    }
    let body = json!({ "name": "m", "role": "manager", "team": "filed" });
    let manager = rig.post("/admin/v1/admins", body).await.ok().field("token");
    let key = rig.call(&manager, "POST", "/admin/v1/keys", json!({ "name": "k" })).await.ok();
    assert_eq!(key.field("team"), "filed");
    let standing = async |path: &str| rig.call(&manager, "GET", path, Value::Null).await;
    standing("/admin/v1/teams/filed/standing").await.ok();
    standing("/admin/v1/users/ada/standing").await.ok();
    standing("/admin/v1/users/bob/standing").await.fails(404, "not_found");
    let team = standing("/admin/v1/teams/filed").await.ok();
    assert_eq!((team.field("id"), team.field("origin")), ("filed".into(), "file".into()));
    for (path, ids) in [("teams", vec!["filed"]), ("users", vec!["ada"])] {
        let list = standing(&format!("/admin/v1/{path}")).await.ok().json();
        let data = list["data"].as_array().unwrap();
        let found: Vec<&str> = data.iter().map(|group| group["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids);
    }
    standing("/admin/v1/users/bob").await.fails(404, "not_found");
    // The file owns it: nobody changes it here.
    rig.patch("/admin/v1/teams/filed", json!({ "name": "x" })).await.fails(409, "owned_by_file");
    let again = json!({ "id": "filed", "name": "x" });
    rig.post("/admin/v1/teams", again).await.fails(409, "owned_by_file");
}
