//! The first start, and later ones.

use std::sync::Arc;

use console::{Console, Options, StartError};
use policy::config::MetricsConfig;
use serde_json::{Value, json};

use crate::harness::{Books, ENV, Memory, Rig, pepper};

fn options(dir: &std::path::Path, token: Option<&str>) -> Options {
    Options {
        path: dir.join("settings.db"),
        pepper: pepper(),
        token: token.map(str::to_owned),
        hosts: Some(Vec::new()),
        metrics: MetricsConfig::default(),
        live: Arc::new(Memory::default()),
        reports: Arc::new(Books::default()),
    }
}

#[tokio::test]
async fn the_first_token_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let (_, first) = Console::open(options(dir.path(), None)).unwrap();
    let token = first.unwrap().expose().to_owned();
    let (console, second) = Console::open(options(dir.path(), None)).unwrap();
    assert!(second.is_none());
    let mut rig = Rig::new();
    rig.router = console.router();
    let me = rig.call(&token, "GET", "/admin/v1/me", Value::Null).await.ok().json();
    assert_eq!((&me["role"], &me["name"]), (&json!("owner"), &json!("first owner")));
    assert_eq!(me["may"].as_object().unwrap().len(), console::routes::Route::ALL.len());
    // It is in the log, as everything is.
    let log = rig.call(&token, "GET", "/admin/v1/audit", Value::Null).await.ok().json();
    assert_eq!(
        (&log["data"][0]["action"], &log["data"][0]["actor"]),
        (&json!("admin.create"), &json!("start"))
    );
    // The last owner stays, as long as nothing else lets one in.
    let path = format!("/admin/v1/admins/{}", me["id"].as_str().unwrap());
    rig.call(&token, "DELETE", &path, Value::Null).await.fails(409, "conflict");
    let body = json!({ "name": "next", "role": "owner" });
    let next = rig.call(&token, "POST", "/admin/v1/admins", body).await.ok().field("token");
    rig.call(&next, "DELETE", &path, Value::Null).await.ok();
    // And is out at once.
    rig.call(&token, "GET", "/admin/v1/me", Value::Null).await.fails(401, "invalid_admin_token");
}

#[tokio::test]
async fn a_token_from_outside_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, first) = Console::open(options(dir.path(), Some(ENV))).unwrap();
    assert!(first.is_none());
    for weak in [
        "",
        " ",
        "changeme",
        "0123456789012345678901234567890",
        "                                 x",
    ] {
        let opened = Console::open(options(dir.path(), Some(weak)));
        assert!(matches!(opened, Err(StartError::WeakToken)), "{weak:?}");
    }
    let (_, later) = Console::open(options(dir.path(), None)).unwrap();
    assert!(later.is_some());
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Console::open(options(dir.path(), Some(ENV))).unwrap();
    let connection = rusqlite::Connection::open(dir.path().join("settings.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let Err(error) = Console::open(options(dir.path(), Some(ENV))) else { panic!("it opened") };
    assert!(error.to_string().contains("newer Magpie"), "{error}");
    std::fs::write(dir.path().join("settings.db"), "this is no database, but it is long enough")
        .unwrap();
    assert!(Console::open(options(dir.path(), Some(ENV))).is_err());
}

#[cfg(unix)]
#[test]
fn nobody_else_reads_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    for file in std::fs::read_dir(rig.dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

/// Another pepper opens nothing: what was copied is worth nothing.
#[tokio::test]
async fn a_copied_store_lets_nobody_in() {
    let rig = Rig::new();
    let token = rig.token("owner").await;
    let mut stolen = options(rig.dir.path(), None);
    stolen.pepper = policy::key::Pepper::new([8; 32]);
    let (console, _) = Console::open(stolen).unwrap();
    let mut rig = rig;
    rig.router = console.router();
    rig.call(&token, "GET", "/admin/v1/me", Value::Null).await.fails(401, "invalid_admin_token");
}

#[tokio::test]
async fn many_at_once_are_served_one_after_the_other() {
    let rig = Arc::new(Rig::new());
    let calls = (0..100).map(|index| {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move {
            rig.post("/admin/v1/keys", json!({ "name": format!("k{index}") })).await.ok();
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(rig.memory.keys.lock().unwrap().len(), 100);
    let verified = rig.get("/admin/v1/audit/verify").await.ok().json();
    assert_eq!((&verified["whole"], &verified["entries"]), (&json!(true), &json!(100)));
}
