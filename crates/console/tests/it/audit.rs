//! The audit log: every change is in it, and no change to it goes unseen.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::Rig;

async fn filled() -> Rig {
    let rig = Rig::new();
    rig.team("red").await;
    for index in 0..5 {
        let body = json!({ "name": format!("k{index}"), "team": "red", "limits": { "rpm": 1500 } });
        rig.post("/admin/v1/keys", body).await.ok();
    }
    rig
}

async fn verify(rig: &Rig) -> Value {
    rig.get("/admin/v1/audit/verify").await.ok().json()
}

#[tokio::test]
async fn the_chain_of_every_kind_of_change() {
    let rig = filled().await;
    let keys = rig.get("/admin/v1/keys").await.json();
    // Several may have been made in one millisecond: which of them is first is not known.
    let key = keys["data"].as_array().unwrap().iter().find(|key| key["name"] == "k4").unwrap();
    let key = format!("/admin/v1/keys/{}", key["id"].as_str().unwrap());
    rig.patch(&key, json!({ "name": "neu 鹊桥 \u{2028}\"", "metadata": { "b": "1", "a": "2" } }))
        .await
        .ok();
    rig.post(&format!("{key}/rotate"), json!({})).await.ok();
    rig.post(&format!("{key}/revoke"), Value::Null).await.ok();
    rig.post("/admin/v1/config/reload", Value::Null).await.ok();
    let whole = verify(&rig).await;
    assert_eq!((&whole["whole"], &whole["entries"]), (&json!(true), &json!(10)));
    let log = rig.get("/admin/v1/audit").await.ok().json();
    let actions: Vec<&str> =
        log["data"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions[..5],
        ["config.reload", "key.revoke", "key.rotate", "key.update", "key.create"]
    );
    let update = &log["data"][3];
    assert_eq!(update["actor"], "env");
    assert_eq!(update["detail"]["name"], json!(["k4", "neu 鹊桥 \u{2028}\""]));
    assert_eq!(update["detail"].as_object().unwrap().len(), 2, "{update}");
    assert_eq!(log["data"][0]["hash"], whole["head"]);
}

/// What changes nothing is no change, and what is refused leaves no entry.
#[tokio::test]
async fn no_change_no_entry() {
    let rig = filled().await;
    let before = verify(&rig).await;
    rig.patch("/admin/v1/teams/red", json!({ "name": "red" })).await.ok();
    rig.patch("/admin/v1/teams/red", json!({ "name": "" })).await.fails(422, "invalid_field");
    rig.get("/admin/v1/keys").await.ok();
    rig.call("mat-nobody", "POST", "/admin/v1/keys", json!({ "name": "x" })).await;
    assert_eq!(verify(&rig).await, before);
}

#[tokio::test]
async fn the_log_takes_no_update_and_no_delete() {
    let rig = filled().await;
    for attempt in
        ["UPDATE audit SET actor = 'x'", "DELETE FROM audit WHERE seq = 1", "DELETE FROM audit"]
    {
        let refused = rig.intruder().execute_batch(attempt).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
    assert_eq!(verify(&rig).await["whole"], true);
}

/// Whoever gets around the triggers is found by the chain.
#[tokio::test]
async fn every_change_behind_its_back_is_found() {
    let forged = |connection: &Connection, sql: &str| {
        connection.execute_batch("DROP TRIGGER audit_keeps; DROP TRIGGER audit_stays;").unwrap();
        connection.execute_batch(sql).unwrap();
    };
    for (sql, at) in [
        ("UPDATE audit SET at_ms = at_ms + 1 WHERE seq = 3", 3),
        ("UPDATE audit SET actor = 'eve' WHERE seq = 1", 1),
        ("UPDATE audit SET role = 'admin' WHERE seq = 2", 2),
        ("UPDATE audit SET action = 'key.update' WHERE seq = 4", 4),
        ("UPDATE audit SET target = 'key_x' WHERE seq = 5", 5),
        ("UPDATE audit SET detail = '{}' WHERE seq = 2", 2),
        ("UPDATE audit SET detail = detail || ' ' WHERE seq = 6", 6),
        ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 6", 6),
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 6", 6),
        ("DELETE FROM audit", 1),
        ("UPDATE audit SET seq = 99 WHERE seq = 6", 6),
        (
            "UPDATE audit SET seq = 7 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 7",
            3,
        ),
        (
            "INSERT INTO audit SELECT 7, at_ms, actor, role, action, target, detail, hash FROM audit WHERE seq = 6",
            7,
        ),
    ] {
        let rig = filled().await;
        forged(&rig.intruder(), sql);
        let found = verify(&rig).await;
        assert_eq!(
            (&found["whole"], &found["broken_at"]),
            (&json!(false), &json!(at)),
            "{sql}: {found}"
        );
        // What comes later does not heal it.
        rig.post("/admin/v1/keys", json!({ "name": "later" })).await.ok();
        assert_eq!(verify(&rig).await["whole"], false, "{sql}");
    }
}

#[tokio::test]
async fn the_log_can_be_searched() {
    let rig = filled().await;
    let first = rig.get("/admin/v1/audit?limit=2").await.ok().json();
    assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (2, &json!(true)));
    let next = format!("/admin/v1/audit?after={}", first["next"].as_str().unwrap());
    assert_eq!(rig.get(&next).await.ok().json()["data"].as_array().unwrap().len(), 4);
    let of = rig.get("/admin/v1/audit?target=red").await.ok().json();
    assert_eq!(of["data"].as_array().unwrap().len(), 1);
    let by = rig.get("/admin/v1/audit?actor=nobody").await.ok().json();
    assert_eq!(by["data"].as_array().unwrap().len(), 0);
    // What another process reads to keep up.
    let (last, since) = rig
        .console
        .store()
        .read(|read| {
            let audit = console::store::audit::since;
            Ok((console::store::audit::last(read)?, [audit(read, 0)?, audit(read, 5)?]))
        })
        .unwrap();
    assert_eq!((last, since[0].len(), since[1].len()), (6, 6, 1));
    assert_eq!((since[0][0].seq, &*since[0][0].action), (1, "team.create"));
}

/// Whoever writes code that forgets the log changes nothing.
#[tokio::test]
async fn without_an_entry_nothing_is_changed() {
    let rig = filled().await;
    let store = rig.console.store();
    let actor = console::store::Actor { id: "x".into(), role: console::table::Role::Owner };
    let kind = policy::directory::Kind::Team;
    let deleted = store.change(&*rig.memory, &actor, |work| work.delete_group(kind, "red"));
    deleted.unwrap();
    rig.get("/admin/v1/teams/red").await.ok();
    // Nor does one that fails half way.
    let failed = store.change(&*rig.memory, &actor, |work| {
        work.delete_group(kind, "red")?;
        work.record("team.delete", "red", &json!({}), None)?;
        Err::<(), _>(console::fault::Fault::not_found())
    });
    assert!(failed.is_err());
    rig.get("/admin/v1/teams/red").await.ok();
    assert_eq!(verify(&rig).await["entries"], 6);
}
