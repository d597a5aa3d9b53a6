//! What is looked at before the token: host, page and path.

use axum::body::Body;
use http::{Request, header};
use serde_json::json;

use crate::harness::{ENV, Reply, Rig};

const OWN: &str = "127.0.0.1:8001";

async fn with(rig: &Rig, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request =
        Request::builder().uri(path).header(header::AUTHORIZATION, format!("Bearer {ENV}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    rig.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_rebound_name_is_no_host_of_ours() {
    let rig = Rig::with(|options| options.hosts = Some(vec!["admin.example.com".into()]));
    let me = "/admin/v1/me";
    for host in [
        OWN,
        "localhost",
        "LOCALHOST:8001",
        "[::1]:8001",
        "x.localhost:8001",
        "admin.example.com",
        "Admin.Example.com:443",
    ] {
        with(&rig, me, &[("host", host)]).await.ok();
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.2",
        "[::2]:8001",
        "127.0.0.1:8001:80",
        "localhost@evil.example",
        "0.0.0.0:8001",
        "",
        "evil.example:8001/admin",
        "admin.example.com.evil.example",
    ] {
        with(&rig, me, &[("host", host)]).await.fails(403, "host_not_allowed");
    }
    with(&rig, me, &[("host", OWN), ("host", "evil.example")]).await.fails(403, "host_not_allowed");
    let absolute = "http://evil.example/admin/v1/me";
    with(&rig, absolute, &[("host", OWN)]).await.fails(403, "host_not_allowed");
}

#[tokio::test]
async fn no_page_but_our_own() {
    let rig = Rig::new();
    let me = "/admin/v1/me";
    for own in [
        &[("origin", "http://127.0.0.1:8001")][..],
        &[("origin", "http://127.0.0.1:8001"), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ] {
        with(&rig, me, &[&[("host", OWN)], own].concat()).await.ok();
    }
    for foreign in [
        &[("origin", "http://evil.example")][..],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:3000")],
        &[("origin", "http://localhost:8001")],
        &[("origin", "http://127.0.0.1:8001"), ("origin", "http://evil.example")],
        &[("origin", "http://127.0.0.1:8001"), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "same-origin, cross-site")],
    ] {
        let reply = with(&rig, me, &[&[("host", OWN)], foreign].concat()).await;
        let reply = reply.fails(403, "origin_not_allowed");
        assert!(reply.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    }
}

/// Where any host is let in, a name could have been rebound: only an address is an own page.
#[tokio::test]
async fn with_any_host_only_an_address_is_sure() {
    let rig = Rig::with(|options| options.hosts = None);
    let ask = async |host: &str| {
        with(&rig, "/admin/v1/me", &[("host", host), ("origin", &format!("http://{host}"))]).await
    };
    ask("192.168.1.5:8001").await.ok();
    ask("rebound.example:8001").await.fails(403, "origin_not_allowed");
    with(&rig, "/admin/v1/me", &[("host", "any.example")]).await.ok();
}

/// A page can send these anywhere without being let in first.
#[tokio::test]
async fn forms_and_plain_text_are_refused() {
    let rig = Rig::new();
    for kind in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=x",
        "text/plain;application/json",
        "",
        "application/jsonp",
        "json",
    ] {
        let request = Request::post("/admin/v1/keys")
            .header(header::HOST, OWN)
            .header(header::AUTHORIZATION, format!("Bearer {ENV}"))
            .header(header::CONTENT_TYPE, kind);
        let request = request.body(Body::from(json!({ "name": "x" }).to_string())).unwrap();
        rig.send(request).await.fails(415, "json_required");
    }
    let request = Request::post("/admin/v1/keys")
        .header(header::HOST, OWN)
        .header(header::AUTHORIZATION, format!("bearer {ENV}"))
        .header(header::CONTENT_TYPE, "Application/JSON; charset=utf-8");
    let request = request.body(Body::from(json!({ "name": "x" }).to_string())).unwrap();
    rig.send(request).await.ok();
}

/// A path is read in one way, or not at all.
#[tokio::test]
async fn no_path_reads_two_ways() {
    let rig = Rig::new();
    rig.team("red").await;
    let manager = rig.token("manager").await;
    let parts = [
        "/", "//", "/./", "/../", "/%2e/", "/%2e%2e/", "%2f", "%5c", "\\", ";x/", "/;/", "%252f",
        "%00/", "/.%2e/", "%2F", "%5C", "/%2E%2E/",
    ];
    let words = ["admin", "v1", "orgs", "teams", "keys", "audit", "config", "me"];
    let mut asked = 0;
    for first in parts {
        for second in parts {
            for (a, b) in words.iter().zip(words.iter().cycle().skip(2)) {
                for path in [
                    format!("/admin{first}v1{second}{a}"),
                    format!("/admin/v1/{a}{first}{b}"),
                    format!("{first}admin/v1/{a}{second}"),
                    format!("/admin/v1/me{first}..{second}{b}"),
                ] {
                    if Request::get(&path).body(()).is_err() || !path.starts_with('/') {
                        continue;
                    }
                    let reply = rig.call(&manager, "GET", &path, serde_json::Value::Null).await;
                    let odd = ["//", "/.", "\\", ";", "%"].iter().any(|part| path.contains(part));
                    if odd || path.ends_with('/') {
                        reply.fails(400, "invalid_path");
                    }
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 500, "{asked}");
    for (path, status) in [
        ("/ADMIN/v1/me", 404),
        ("/admin/v1/Me", 404),
        ("/admin/v1/me/", 400),
        ("/admin/v1/me.", 404),
        ("/admin/v1/keys/%E4%BD%A0", 404),
        ("/admin/v1/keys/%zz", 404),
        ("/admin/v1/%6De", 404),
        ("/admin/v1/keys/%FF", 404),
    ] {
        let reply = rig.get(path).await;
        assert_eq!(reply.status, status, "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn every_answer_is_kept_out_of_caches_and_frames() {
    let rig = Rig::new();
    for reply in [
        rig.get("/admin/v1/me").await,
        rig.get("/nothing").await,
        rig.get("/admin//v1").await,
        rig.call("x", "GET", "/admin/v1/me", json!(null)).await,
    ] {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cross-origin-resource-policy", "same-origin"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(reply.headers[name], value, "{reply:?}");
        }
    }
}

#[tokio::test]
async fn hints_speak_chinese() {
    let rig = Rig::new();
    let reply =
        with(&rig, "/nothing", &[("host", OWN), ("accept-language", "zh-CN,zh;q=0.9")]).await;
    assert!(reply.fails(404, "not_found").text.contains("列出了所有接口"));
}
