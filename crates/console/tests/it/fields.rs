//! What is not known is refused, and never ignored.

use console::routes::Route;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{ENV, Rig};
use crate::matrix::{body, query, target};

/// Fields that peers took in silence, or that the API shows but nobody may write.
const FOREIGN: [&str; 22] = [
    "id",
    "object",
    "created_ms",
    "updated_ms",
    "revoked_ms",
    "last_four",
    "digest",
    "hash",
    "key",
    "secret",
    "token",
    "role",
    "user_role",
    "is_admin",
    "permissions",
    "allowed_routes",
    "org_id",
    "limit",
    "api_base",
    "command",
    "__proto__",
    "constructor",
];

#[tokio::test]
async fn unknown_fields_are_refused_everywhere() {
    let rig = Rig::new();
    rig.team("red").await;
    let mut tried = 0;
    for route in Route::ALL.iter().filter(|route| route.method() != Method::GET) {
        let path = route.path().replace("{id}", &target(&rig, *route).await);
        for field in FOREIGN {
            let takes_id =
                matches!(route, Route::CreateOrg | Route::CreateTeam | Route::CreateUser);
            let takes_role = *route == Route::CreateAdmin;
            let takes = (field == "id" && takes_id) || (field == "role" && takes_role);
            // A body of DELETE is not read.
            if takes || route.method() == Method::DELETE {
                continue;
            }
            let mut body = body(*route);
            body[field] = json!("x");
            let reply = rig.call(ENV, route.method().as_str(), &path, body).await;
            let reply = reply.fails(422, "invalid_field");
            assert!(reply.text.contains(field), "{route:?} {field}: {reply:?}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

#[tokio::test]
async fn unknown_query_fields_are_refused_everywhere() {
    let rig = Rig::new();
    rig.team("red").await;
    for route in Route::ALL {
        let path = route.path().replace("{id}", &target(&rig, *route).await);
        let sign = if query(*route).is_empty() { "?" } else { "&" };
        for field in ["team_id", "sort", "order_by", "include"] {
            let path = format!("{path}{}{sign}{field}=x", query(*route));
            let reply = rig.call(ENV, route.method().as_str(), &path, body(*route)).await;
            let reply = reply.fails(422, "invalid_field");
            assert!(reply.text.contains(field), "{route:?} {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_refused_change_changes_nothing() {
    let rig = Rig::new();
    let key = rig.post("/admin/v1/keys", json!({ "name": "k", "models": ["a"] })).await.ok();
    let path = format!("/admin/v1/keys/{}", key.field("id"));
    let before = rig.get(&path).await;
    for (wrong, field) in [
        (json!({ "name": "other", "models": 7 }), "models"),
        (json!({ "name": "other", "models": [""] , "rpm": 3 }), "rpm"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": "x\u{7}" }), "name"),
        (json!({ "name": "x".repeat(129) }), "name"),
        (json!({ "allow": ["10.0.0.0/33"] }), "allow"),
        (json!({ "operations": ["fly"] }), "operations"),
        (json!({ "expires": "soon" }), "expires"),
        (json!({ "enabled": "yes" }), "enabled"),
        (json!({ "metadata": { "a": 1 } }), "metadata"),
        (json!({ "gone": null }), "gone"),
    ] {
        let reply = rig.patch(&path, wrong.clone()).await.fails(422, "invalid_field");
        if field != "rpm" {
            assert_eq!(reply.param(), field, "{wrong}");
        }
    }
    assert_eq!(rig.get(&path).await, before);
}

/// What is written is read back as it was written, and null takes it away.
#[tokio::test]
async fn terms_stand_beside_the_fields() {
    let rig = Rig::new();
    let terms = json!({
        "name": "k", "models": ["chat", "gpt-*"], "operations": ["chat"], "allow": ["10.0.0.0/8"],
        "deny": ["10.9.0.0/16"], "expires": "2099-12-31", "enabled": true,
        "limits": { "rpm": 600, "tpm": "200k" }, "metadata": { "__proto__": "x" },
    });
    let key = rig.post("/admin/v1/keys", terms.clone()).await.ok();
    for (name, value) in terms.as_object().unwrap() {
        assert_eq!(key.json()[name], *value, "{name}");
    }
    let path = format!("/admin/v1/keys/{}", key.field("id"));
    let changed = rig.patch(&path, json!({ "models": null, "enabled": false })).await.ok().json();
    assert_eq!(changed["models"], Value::Null);
    assert_eq!(changed["enabled"], json!(false));
    assert_eq!(changed["limits"], terms["limits"]);
    let keys = rig.memory.keys.lock().unwrap();
    let record = &keys[&key.field("id")];
    assert_eq!((record.terms.models.is_none(), record.terms.enabled), (true, Some(false)));
}

/// Nothing is looked up in the environment or a file: what the API is given, it takes literally.
#[tokio::test]
async fn every_value_is_literal() {
    let rig = Rig::new();
    for text in ["${HOME}", "os.environ/HOME", "env:HOME", "file:///etc/passwd", "{{7*7}}"] {
        let body = json!({ "name": text, "metadata": { "note": text } });
        let key = rig.post("/admin/v1/keys", body).await.ok().json();
        assert_eq!((&key["name"], &key["metadata"]["note"]), (&json!(text), &json!(text)));
    }
}
