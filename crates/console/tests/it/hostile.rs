//! Bodies and credentials from somebody who means no good.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use console::endpoint::MAX_BODY;
use http::{HeaderValue, Request, header};
use http_body::Frame;
use serde_json::{Value, json};

use crate::harness::{ENV, Reply, Rig};

async fn post(rig: &Rig, path: &str, body: impl Into<Body>) -> Reply {
    let request = Request::post(path)
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {ENV}"))
        .header(header::CONTENT_TYPE, "application/json");
    rig.send(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn bodies_that_are_no_object() {
    let rig = Rig::new();
    for text in [
        "{",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{}{}",
        "{\"name\":\"a\",}",
        "{'name':'a'}",
        "\u{feff}{}",
        "{\"name\":\"\\ud800\"}",
        "{\"name\":01}",
        "NaN",
        "{\"a\":1e999}",
        "{\"name\":\"a\",\"name\":\"b\"}",
        "{\"name\":\"a\",\"metadata\":{\"x\":\"1\",\"x\":\"2\"}}",
        "{\"name\":\"a\",\"n\\u0061me\":\"b\"}",
    ] {
        post(&rig, "/admin/v1/keys", text).await.fails(400, "invalid_json");
    }
    post(&rig, "/admin/v1/keys", vec![b'{', 0xff, 0xfe, b'}']).await.fails(400, "invalid_json");
    let deep = format!("{{\"name\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    post(&rig, "/admin/v1/keys", deep).await.fails(400, "invalid_json");
    assert_eq!(post(&rig, "/admin/v1/keys", "").await.fails(422, "invalid_field").param(), "name");
    for wrong in [
        json!({ "name": 1 }),
        json!({ "name": null }),
        json!({ "name": ["a"] }),
        json!({ "name": { "a": 1 } }),
        json!({ "name": "a", "user": 1 }),
    ] {
        post(&rig, "/admin/v1/keys", wrong.to_string()).await.fails(422, "invalid_field");
    }
    assert_eq!(rig.get("/admin/v1/keys").await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_body_has_a_bound() {
    let rig = Rig::new();
    let sized = |size: usize| {
        let frame = json!({ "name": "k", "metadata": "" }).to_string().len();
        json!({ "name": "k", "metadata": "x".repeat(size - frame) }).to_string()
    };
    assert_eq!(sized(MAX_BODY).len(), MAX_BODY);
    for (size, status) in
        [(MAX_BODY - 1, 422), (MAX_BODY, 422), (MAX_BODY + 1, 413), (100 * MAX_BODY, 413)]
    {
        let reply = post(&rig, "/admin/v1/keys", sized(size)).await;
        assert_eq!(reply.status, status, "{size}");
        // The same without an announced length.
        let body = Body::new(Unsized(sized(size).into_bytes()));
        assert_eq!(post(&rig, "/admin/v1/keys", body).await.status, status, "{size}");
    }
    let lied = Request::post("/admin/v1/keys")
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {ENV}"))
        .header(header::CONTENT_LENGTH, "99999999999");
    rig.send(lied.body(Body::empty()).unwrap()).await.fails(413, "body_too_large");
}

/// Every text is data: in a name, in an id, in a search, in a filter.
#[tokio::test]
async fn sql_is_text() {
    let rig = Rig::new();
    rig.post("/admin/v1/keys", json!({ "name": "plain" })).await.ok();
    let hostile = [
        "' OR 1=1 --",
        "\"; DROP TABLE keys; --",
        "%",
        "_",
        "%_%_%",
        "\\",
        "*",
        "plain' --",
        "x'); DELETE FROM keys; --",
        "?1",
        ":a",
        "@a",
        "$a",
        "NULL",
        "1;ATTACH 'x' AS y",
    ];
    for text in hostile {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for filter in ["search", "team", "user", "org", "after"] {
            let found = rig.get(&format!("/admin/v1/keys?{filter}={encoded}")).await.ok();
            // `after` is a place in the order, which any text has.
            if filter != "after" {
                assert_eq!(found.json()["data"], json!([]), "{filter} {text}");
            }
        }
        for path in ["users", "teams", "orgs", "keys", "admins"] {
            let reply = rig.get(&format!("/admin/v1/{path}/{encoded}")).await;
            assert!(matches!(reply.status.as_u16(), 400 | 404), "{path} {text} {reply:?}");
        }
        rig.get(&format!("/admin/v1/audit?target={encoded}&actor={encoded}")).await.ok();
        let made = rig.post("/admin/v1/keys", json!({ "name": text })).await.ok();
        assert_eq!(made.field("name"), text);
        let id = made.field("id");
        let found = rig.get(&format!("/admin/v1/keys?search={encoded}")).await.ok().json();
        let ids: Vec<_> = found["data"].as_array().unwrap().iter().map(|key| &key["id"]).collect();
        assert_eq!(ids, [&json!(id)], "{text}");
        rig.post(&format!("/admin/v1/keys/{id}/revoke"), Value::Null).await.ok();
        rig.patch(&format!("/admin/v1/keys/{id}"), json!({})).await.fails(409, "conflict");
        // Gone from the search for the next one.
        rig.intruder().execute("UPDATE keys SET name = 'done' WHERE id = ?1", [&id]).unwrap();
    }
    let long = format!("/admin/v1/keys?search={}", "x".repeat(65));
    assert_eq!(rig.get(&long).await.fails(422, "invalid_field").param(), "search");
}

/// Whatever the credential, the same answer, and the store is not asked for what is no token.
#[tokio::test]
async fn hostile_credentials() {
    let rig = Rig::new();
    let good = rig.token("owner").await;
    let mut mistyped = good.clone();
    mistyped.replace_range(10..11, if &good[10..11] == "a" { "b" } else { "a" });
    let random = policy::key::KeyText::generate_admin([9; 32]);
    let long = "x".repeat(1 << 20);
    let values: Vec<Vec<u8>> = [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic dXNlcjpwYXNz",
        "Bearer null",
        "Bearer undefined",
        "Bearer ' OR '1'='1",
        "Bearer mat-' OR 1=1 --",
        "Bearer \"",
        "Bearer mat-",
        "Bearer mk-",
        "Token x",
        &format!("Basic {good}"),
        &format!("Bearer{good}"),
        &format!("Bearer {good}x"),
        &format!("Bearer x{good}"),
        &format!("Bearer {mistyped}"),
        &format!("Bearer {}", random.expose()),
        &format!("Bearer {good},{good}"),
        &format!("Bearer {good} {good}"),
        &format!("Bearer {long}"),
        &format!("Bearer {}", good.to_uppercase()),
        &format!("Bearer {}", &good[..good.len() - 1]),
        &format!("Bearer {}", good.replace("mat-", "mk-")),
        &format!("Bearer {}", ENV.to_uppercase()),
        &format!("Bearer {}", &ENV[..ENV.len() - 1]),
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([b"Bearer \xff\xfe".to_vec(), "Bearer mаt-x".into()])
    .collect();
    let mut answers = Vec::new();
    for value in values {
        let request = Request::get("/admin/v1/me").header(header::HOST, "localhost");
        let value = HeaderValue::from_bytes(&value).unwrap();
        let request = request.header(header::AUTHORIZATION, value).body(Body::empty()).unwrap();
        answers.push(rig.send(request).await.fails(401, "invalid_admin_token"));
    }
    // Two of them are none, even if both are good.
    let request = Request::get("/admin/v1/me").header(header::HOST, "localhost");
    let bearer = format!("Bearer {good}");
    let twice =
        request.header(header::AUTHORIZATION, &bearer).header(header::AUTHORIZATION, &bearer);
    answers.push(rig.send(twice.body(Body::empty()).unwrap()).await);
    // Nor does any other header or the query carry one.
    for name in ["x-api-key", "api-key", "cookie", "x-goog-api-key", "proxy-authorization"] {
        let request =
            Request::get("/admin/v1/me").header(header::HOST, "localhost").header(name, &good);
        answers.push(rig.send(request.body(Body::empty()).unwrap()).await);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    rig.call(&good, "GET", "/admin/v1/me", Value::Null).await.ok();
}

#[tokio::test]
async fn pages_have_bounds() {
    let rig = Rig::new();
    for path in ["orgs", "teams", "users", "keys", "audit", "admins", "requests"] {
        for limit in ["0", "201", "-1", "4294967296", "x", "", "1.5"] {
            let reply = rig.get(&format!("/admin/v1/{path}?limit={limit}")).await;
            reply.fails(422, "invalid_field");
        }
        for limit in ["1", "200"] {
            rig.get(&format!("/admin/v1/{path}?limit={limit}")).await.ok();
        }
        rig.get(&format!("/admin/v1/{path}?limit=1&limit=2")).await.fails(422, "invalid_field");
    }
}

/// A body in frames of 64 KiB that does not tell its length.
struct Unsized(Vec<u8>);

impl HttpBody for Unsized {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let size = self.0.len().min(65_536);
        let frame: Vec<u8> = self.0.drain(..size).collect();
        Poll::Ready((size > 0).then(|| Ok(Frame::data(frame.into()))))
    }
}

/// A store that fails is said to fail, and is nobody's fault but Magpie's; and what has not the
/// form of a token does not even come near it.
#[tokio::test]
async fn a_broken_store() {
    let rig = Rig::new();
    let token = rig.token("owner").await;
    rig.intruder().execute_batch("DROP TABLE admins; DROP TABLE digests;").unwrap();
    let me = "/admin/v1/me";
    rig.call(&token, "GET", me, Value::Null).await.fails(503, "store_unavailable");
    rig.call("not-a-token", "GET", me, Value::Null).await.fails(401, "invalid_admin_token");
    let reply = rig.post("/admin/v1/keys", json!({ "name": "k" })).await;
    let reply = reply.fails(503, "store_unavailable");
    assert!(!reply.text.contains("digests") && !reply.text.contains("SQL"), "{reply:?}");
    assert_eq!(rig.get("/admin/v1/keys").await.ok().json()["data"], json!([]));
    assert_eq!(rig.get("/admin/v1/audit/verify").await.ok().json()["entries"], 1);
    assert!(rig.memory.keys.lock().unwrap().is_empty());
}
