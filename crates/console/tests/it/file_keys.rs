//! Keys of the configuration file: seen beside those of the store, and changed in the file alone.

use policy::directory::{GroupConfig, KeyRecord, Kind, TermsConfig};
use serde_json::{Value, json};

use crate::harness::Rig;

fn key(name: &str, user: Option<&str>, team: Option<&str>, org: Option<&str>) -> KeyRecord {
    let owned = |name: Option<&str>| name.map(str::to_owned);
    KeyRecord {
        id: name.to_owned(),
        name: name.to_owned(),
        user: owned(user),
        team: owned(team),
        org: owned(org),
        terms: TermsConfig { enabled: Some(false), ..TermsConfig::default() },
        ..KeyRecord::default()
    }
}

/// Two keys of the store, and five of the file, of which two are within the reach of `red`.
async fn filed() -> Rig {
    let rig = Rig::new();
    rig.team("red").await;
    rig.team("blue").await;
    rig.post("/admin/v1/users", json!({ "id": "rosa", "name": "Rosa", "team": "red" })).await.ok();
    // What the file says of a user counts, whatever the store says.
    rig.post("/admin/v1/users", json!({ "id": "moved", "name": "M", "team": "red" })).await.ok();
    let moved = GroupConfig { team: Some("blue".into()), ..GroupConfig::default() };
    rig.memory.file.lock().unwrap().insert((Kind::User, "moved".into()), moved);
    *rig.memory.file_keys.lock().unwrap() = vec![
        key("ci", None, Some("red"), None),
        key("鹊桥 用", Some("rosa"), None, None),
        key("a-nobody", None, None, None),
        key("of-moved", Some("moved"), None, None),
        key("of-org", None, None, Some("acme")),
    ];
    rig.post("/admin/v1/keys", json!({ "name": "stored", "team": "red" })).await.ok();
    rig.post("/admin/v1/keys", json!({ "name": "other", "team": "blue" })).await.ok();
    rig
}

fn names(page: &Value) -> Vec<&str> {
    let data = page["data"].as_array().unwrap();
    data.iter().map(|key| key["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn they_are_listed_once_beside_those_of_the_store() {
    let rig = filed().await;
    let all = ["鹊桥 用", "of-org", "of-moved", "other", "stored", "ci", "a-nobody"];
    let page = rig.get("/admin/v1/keys").await.ok().json();
    assert_eq!(names(&page), all, "by their ids, the greatest first");
    for size in 1..=8 {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let path = format!("/admin/v1/keys?limit={size}{next}");
            let page = rig.get(&path).await.ok().json();
            seen.extend(names(&page).into_iter().map(str::to_owned));
            let Some(after) = page["next"].as_str() else { break };
            let after: String = after.bytes().map(|byte| format!("%{byte:02X}")).collect();
            next = format!("&after={after}");
        }
        assert_eq!(seen, all, "pages of {size}");
    }
    for (query, found) in [
        ("team=red", &["stored", "ci"][..]),
        ("user=rosa", &["鹊桥 用"]),
        ("org=acme", &["of-org"]),
        ("revoked=true", &[]),
        ("revoked=false", &all),
        ("search=CI", &["ci"]),
        ("search=nothing", &[]),
    ] {
        let page = rig.get(&format!("/admin/v1/keys?{query}")).await.ok().json();
        assert_eq!(names(&page), found, "{query}");
    }
    let ci = rig.get("/admin/v1/keys/ci").await.ok().json();
    let wanted = json!({
        "id": "ci", "object": "key", "name": "ci", "team": "red", "origin": "file", "last_four": "",
        "created_ms": 0, "updated_ms": 0, "revoked_ms": null, "enabled": false,
    });
    assert_eq!(ci, wanted);
    assert_eq!(page["data"][4]["origin"], "store");
    rig.get("/admin/v1/keys/ci/standing").await.ok();
}

#[tokio::test]
async fn they_are_changed_in_the_file_alone() {
    let rig = filed().await;
    rig.patch("/admin/v1/keys/ci", json!({ "name": "x" })).await.fails(409, "owned_by_file");
    for verb in ["rotate", "revoke"] {
        rig.post(&format!("/admin/v1/keys/ci/{verb}"), json!({})).await.fails(409, "owned_by_file");
        let nobody = format!("/admin/v1/keys/nobody/{verb}");
        rig.post(&nobody, json!({})).await.fails(404, "not_found");
    }
}

#[tokio::test]
async fn a_manager_sees_those_of_the_team() {
    let rig = filed().await;
    let token = rig.token("manager").await;
    let get = async |path: &str| rig.call(&token, "GET", path, Value::Null).await;
    let page = get("/admin/v1/keys").await.ok().json();
    assert_eq!(names(&page), ["鹊桥 用", "stored", "ci"]);
    get("/admin/v1/keys/ci").await.ok();
    get("/admin/v1/keys/ci/standing").await.ok();
    for hidden in ["a-nobody", "of-moved", "of-org"] {
        get(&format!("/admin/v1/keys/{hidden}")).await.fails(404, "not_found");
        get(&format!("/admin/v1/keys/{hidden}/standing")).await.fails(404, "not_found");
        let revoke = format!("/admin/v1/keys/{hidden}/revoke");
        rig.call(&token, "POST", &revoke, Value::Null).await.fails(404, "not_found");
    }
}
