//! The life of keys and groups: made, changed, rotated, revoked, deleted.

use console::store::now_ms;
use serde_json::{Value, json};

use crate::harness::{Rig, pepper};

fn opens(rig: &Rig, text: &str, at_ms: u64) -> Option<String> {
    rig.memory.find(&pepper().digest(text.as_bytes()), at_ms)
}

#[tokio::test]
async fn a_rotation_overlaps() {
    let rig = Rig::new();
    let first = rig.post("/admin/v1/keys", json!({ "name": "k" })).await.ok();
    let (id, old) = (first.field("id"), first.field("key"));
    assert!(policy::key::is_key(&old));
    let now = now_ms();
    let path = format!("/admin/v1/keys/{id}/rotate");
    let second = rig.post(&path, json!({ "overlap": "2h" })).await.ok();
    let new = second.field("key");
    assert_ne!(old, new);
    assert_eq!(second.field("last_four"), new[new.len() - 4..]);
    let until = second.json()["old_until_ms"].as_u64().unwrap();
    assert!((now + 7_200_000..now + 7_260_000).contains(&until));
    for (text, at_ms, works) in [
        (&old, now, true),
        (&new, now, true),
        (&old, until - 1, true),
        (&old, until, false),
        (&new, until + 1_000_000_000, true),
    ] {
        assert_eq!(opens(&rig, text, at_ms).is_some(), works, "{at_ms}");
    }
    // The next one ends the first no later than it would have ended.
    let third = rig.post(&path, json!({ "overlap": "24h" })).await.ok();
    assert!(opens(&rig, &old, until - 1).is_some() && opens(&rig, &old, until).is_none());
    assert!(opens(&rig, &new, until).is_some());
    // Without an overlap, all others end at once.
    let last = rig.post(&path, json!({ "overlap": "0s" })).await.ok();
    for text in [&old, &new, &third.field("key")] {
        assert_eq!(opens(&rig, text, now_ms()), None);
    }
    assert_eq!(opens(&rig, &last.field("key"), now), Some(id));
}

#[tokio::test]
async fn a_rotation_has_bounds() {
    let rig = Rig::new();
    let id = rig.post("/admin/v1/keys", json!({ "name": "k" })).await.ok().field("id");
    let path = format!("/admin/v1/keys/{id}/rotate");
    for wrong in ["721h", "1", "-1h", "1d", "", "99999999999999999999h"] {
        let reply = rig.post(&path, json!({ "overlap": wrong })).await;
        assert_eq!(reply.fails(422, "invalid_field").param(), "overlap", "{wrong}");
    }
    for _ in 0..3 {
        rig.post(&path, json!({ "overlap": "720h" })).await.ok();
    }
    rig.post(&path, json!({})).await.fails(409, "conflict");
    rig.post(&path, json!({ "overlap": "0s" })).await.ok();
    rig.post(&path, json!({})).await.ok();
}

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let rig = Rig::new();
    let made = rig.post("/admin/v1/keys", json!({ "name": "k" })).await.ok();
    let path = format!("/admin/v1/keys/{}", made.field("id"));
    let revoked = rig.post(&format!("{path}/revoke"), Value::Null).await.ok();
    assert!(revoked.json()["revoked_ms"].is_u64());
    assert_eq!(opens(&rig, &made.field("key"), now_ms()), None);
    // Again is the same; nothing else can be done with it.
    assert_eq!(rig.post(&format!("{path}/revoke"), Value::Null).await.text, revoked.text);
    rig.post(&format!("{path}/rotate"), json!({})).await.fails(409, "conflict");
    rig.patch(&path, json!({ "enabled": true })).await.fails(409, "conflict");
    assert!(rig.memory.keys.lock().unwrap().is_empty());
    let digests = "SELECT count(*) FROM digests";
    assert_eq!(rig.intruder().query_row(digests, [], |row| row.get::<_, i64>(0)), Ok(0));
}

/// What a start finds in the store is what was in memory.
#[tokio::test]
async fn a_start_finds_everything_again() {
    let rig = Rig::new();
    rig.team("red").await;
    rig.post("/admin/v1/users", json!({ "id": "ada", "name": "Ada", "team": "red" })).await.ok();
    let mut texts = Vec::new();
    for index in 0..20 {
        let body = json!({ "name": format!("k{index}"), "user": "ada", "models": ["chat"] });
        let made = rig.post("/admin/v1/keys", body).await.ok();
        let path = format!("/admin/v1/keys/{}", made.field("id"));
        match index % 4 {
            0 => drop(rig.post(&format!("{path}/revoke"), Value::Null).await.ok()),
            1 => texts.push(rig.post(&format!("{path}/rotate"), json!({})).await.ok().field("key")),
            2 => drop(rig.post(&format!("{path}/rotate"), json!({ "overlap": "0s" })).await.ok()),
            _ => {}
        }
        if index % 4 == 1 || index % 4 == 3 {
            texts.push(made.field("key"));
        }
    }
    let mut found = std::collections::HashMap::new();
    let mut groups = Vec::new();
    let store = rig.console.store();
    store
        .read(|read| {
            console::store::keys::for_each(read, now_ms(), |record| {
                found.insert(record.id.clone(), record);
            })?;
            console::store::groups::for_each(read, |group| groups.push(group.id))
        })
        .unwrap();
    let expected = rig.memory.keys.lock().unwrap().clone();
    assert_eq!(found.len(), 15);
    for (id, record) in &expected {
        let same = &found[id];
        assert_eq!((&same.terms, &same.user), (&record.terms, &record.user));
        assert_eq!(same.digests.len(), record.digests.len(), "{same:?}");
    }
    *rig.memory.keys.lock().unwrap() = found;
    assert!(texts.iter().all(|text| opens(&rig, text, now_ms()).is_some()));
    assert_eq!(groups, ["red", "ada"]);
}

#[tokio::test]
async fn what_holds_others_is_not_deleted() {
    let rig = Rig::new();
    let delete =
        async |path: &str| rig.call(crate::harness::ENV, "DELETE", path, Value::Null).await;
    rig.post("/admin/v1/orgs", json!({ "id": "o", "name": "o" })).await.ok();
    rig.post("/admin/v1/teams", json!({ "id": "t", "name": "t", "org": "o" })).await.ok();
    rig.post("/admin/v1/users", json!({ "id": "u", "name": "u", "team": "t" })).await.ok();
    let key =
        rig.post("/admin/v1/keys", json!({ "name": "k", "user": "u" })).await.ok().field("id");
    for path in ["/admin/v1/orgs/o", "/admin/v1/teams/t", "/admin/v1/users/u"] {
        delete(path).await.fails(409, "not_empty");
    }
    rig.post(&format!("/admin/v1/keys/{key}/revoke"), Value::Null).await.ok();
    for path in ["/admin/v1/users/u", "/admin/v1/teams/t", "/admin/v1/orgs/o"] {
        delete(path).await.ok();
        delete(path).await.fails(404, "not_found");
    }
    assert!(rig.memory.groups.lock().unwrap().is_empty());
    // A manager would be left without a team.
    rig.token("manager").await;
    delete("/admin/v1/teams/red").await.fails(409, "not_empty");
}

#[tokio::test]
async fn ids_are_unique_and_of_good_form() {
    let rig = Rig::new();
    rig.team("red").await;
    let again = json!({ "id": "red", "name": "x" });
    assert_eq!(rig.post("/admin/v1/teams", again).await.fails(409, "already_exists").param(), "id");
    for id in
        ["", "-x", "a b", "a/b", "..", "a\u{0}", "ä", "'; DROP TABLE keys; --", &"x".repeat(129)]
    {
        let body = json!({ "id": id, "name": "x" });
        assert_eq!(
            rig.post("/admin/v1/teams", body).await.fails(422, "invalid_field").param(),
            "id"
        );
    }
    for id in ["auth0|5f7c", "ada@example.com", "a.b_c-d:e+f", &"x".repeat(128)] {
        rig.post("/admin/v1/users", json!({ "id": id, "name": "x" })).await.ok();
        let path = format!("/admin/v1/users/{}", id.replace('|', "%7C"));
        assert_eq!(rig.get(&path).await.ok().field("id"), id);
    }
}

#[tokio::test]
async fn reloading_says_what_is_wrong() {
    let rig = Rig::new();
    rig.post("/admin/v1/config/reload", Value::Null).await.ok();
    *rig.memory.problems.lock().unwrap() = vec!["line 3: no such provider".into()];
    let reply = rig.post("/admin/v1/config/reload", Value::Null).await;
    assert!(reply.fails(422, "invalid_config").text.contains("line 3: no such provider"));
}

#[tokio::test]
async fn an_unknown_price_is_not_zero() {
    let rig = Rig::new();
    let price = async |model: &str| {
        let path = format!("/admin/v1/prices?provider=xinghe&model={model}");
        rig.get(&path).await.ok().json()["price"].clone()
    };
    assert_eq!(price("priced").await["input"], "0.8");
    assert_eq!(price("ernie/other").await, Value::Null);
    rig.get("/admin/v1/prices?provider=xinghe").await.fails(422, "invalid_field");
}

/// The command line does what the routes do, and is in the log with it.
#[tokio::test]
async fn the_command_line_acts_as_an_owner() {
    use console::routes::at;
    let rig = Rig::new();
    let console = rig.console.clone();
    let made =
        console.act::<at::CreateKey>("", "", json!({ "name": "k", "models": ["chat"] })).unwrap();
    assert!(opens(&rig, &made.key, now_ms()).is_some());
    let id = made.view.id;
    assert_eq!(console.act::<at::ListKeys>("", "limit=1", json!({})).unwrap().data[0].id, id);
    console.act::<at::RevokeKey>(&id, "", json!({})).unwrap();
    assert!(opens(&rig, &made.key, now_ms()).is_none());
    let refused = console.act::<at::CreateKey>("", "", json!({ "name": "k", "rpm": 1 }));
    assert_eq!(refused.err().unwrap().code.name(), "invalid_field");
    let log = rig.get("/admin/v1/audit").await.ok().json();
    assert!(log["data"].as_array().unwrap().iter().all(|entry| entry["actor"] == "cli"));
}

/// A budget is written in either form, and read back so.
#[tokio::test]
async fn budgets_are_read() {
    let rig = Rig::new();
    let several = json!([{ "amount": "$1", "period": "day", "on_exhausted": { "downgrade": "small" } },
                         { "amount": "¥100", "period": "30d", "zone": "Asia/Shanghai", "alerts": [50, 80] }]);
    for budget in [json!("¥50/day"), several[0].clone(), several.clone()] {
        let body = json!({ "name": "k", "budget": budget });
        assert_eq!(rig.post("/admin/v1/keys", body).await.ok().json()["budget"], budget);
    }
    for wrong in [
        json!("50"),
        json!("¥50"),
        json!({ "amount": "¥-1", "period": "day" }),
        json!({ "amount": "$1" }),
        json!({ "amount": "$1", "period": "day", "webhok": "x" }),
        json!(5),
    ] {
        let reply = rig.post("/admin/v1/keys", json!({ "name": "k", "budget": wrong })).await;
        assert_eq!(reply.fails(422, "invalid_field").param(), "budget", "{wrong}");
    }
    let away = json!({ "name": "k", "models": ["large"], "budget": several });
    assert_eq!(rig.post("/admin/v1/keys", away).await.fails(403, "beyond_grant").param(), "budget");
}
