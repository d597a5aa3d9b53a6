//! Who reads the metrics: whoever reads everything, a token of their own, everyone if they are open.

use axum::body::Body;
use console::routes::Route;
use http::{Request, header};
use policy::Secret;
use policy::config::{KeySecret, MetricsConfig};
use serde_json::Value;

use crate::harness::{Reply, Rig};

const TOKEN: &str = "a-token-that-opens-nothing-else";

fn rig(open: bool, token: Option<&str>) -> Rig {
    let token = token.map(|token| KeySecret(Secret::new(token)));
    Rig::with(|options| options.metrics = MetricsConfig { open, token, teams: false })
}

/// Reads them without a token, as this host.
async fn bare(rig: &Rig, host: &str) -> Reply {
    let request = Request::builder().uri("/metrics").header(header::HOST, host);
    rig.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn by_default_they_take_a_token_that_reads_everything() {
    let rig = Rig::new();
    bare(&rig, "localhost").await.fails(401, "invalid_admin_token");
    let auditor = rig.token("auditor").await;
    let reply = rig.call(&auditor, "GET", "/metrics", Value::Null).await.ok();
    assert_eq!(reply.headers[header::CONTENT_TYPE], "text/plain; version=0.0.4");
    assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
    let head = rig.call(&auditor, "HEAD", "/metrics", Value::Null).await.ok();
    assert_eq!((&*head.text, head.headers), ("", reply.headers));
    let manager = rig.token("manager").await;
    rig.call(&manager, "GET", "/metrics", Value::Null).await.fails(403, "role_not_allowed");
}

#[tokio::test]
async fn the_reader_says_in_which_format() {
    let rig = rig(true, None);
    let request = Request::builder().uri("/metrics").header(header::HOST, "localhost");
    let request = request.header(header::ACCEPT, "text/odd").body(Body::empty()).unwrap();
    assert_eq!(rig.send(request).await.ok().text, "# text/odd\n");
}

#[tokio::test]
async fn a_token_of_their_own_opens_them_and_nothing_else() {
    let rig = rig(false, Some(TOKEN));
    rig.call(TOKEN, "GET", "/metrics", Value::Null).await.ok();
    bare(&rig, "localhost").await.fails(401, "invalid_admin_token");
    rig.call("a-token-that-opens-nothing", "GET", "/metrics", Value::Null)
        .await
        .fails(401, "invalid_admin_token");
    for route in Route::ALL.iter().filter(|route| **route != Route::Metrics) {
        let path = route.path().replace("{id}", "x");
        rig.call(TOKEN, route.method().as_str(), &path, Value::Null)
            .await
            .fails(401, "invalid_admin_token");
    }
}

#[tokio::test]
async fn open_to_everyone_is_open_to_programs_and_not_to_foreign_hosts() {
    let rig = rig(true, None);
    bare(&rig, "localhost").await.ok();
    rig.call("any-token", "GET", "/metrics", Value::Null).await.ok();
    bare(&rig, "rebound.example.com").await.fails(403, "host_not_allowed");
    let mut page = Request::builder().uri("/metrics").header(header::HOST, "localhost");
    page = page.header(header::ORIGIN, "https://evil.example.com");
    rig.send(page.body(Body::empty()).unwrap()).await.fails(403, "origin_not_allowed");
    rig.call("any-token", "GET", "/admin/v1/me", Value::Null)
        .await
        .fails(401, "invalid_admin_token");
    rig.call("any-token", "POST", "/metrics", Value::Null).await.fails(405, "method_not_allowed");
}
