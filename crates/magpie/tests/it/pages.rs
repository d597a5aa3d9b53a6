//! What stands beside the API: the welcome, health, the documentation and its description.

use serde_json::Value;

use crate::client::Reply;
use crate::harness::{Magpie, Setup};

#[test]
fn the_welcome_names_the_service_its_state_and_its_endpoints() {
    let magpie = Setup::empty().start();
    let reply = magpie.get("/");
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let welcome = reply.json();
    assert_eq!(welcome["service"], "magpie");
    assert_eq!(welcome["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(welcome["status"], "ok");
    assert_eq!(welcome["documentation"], "/docs");
    for endpoint in welcome["endpoints"].as_object().unwrap().values() {
        let (method, path) = endpoint.as_str().unwrap().split_once(' ').unwrap();
        let status = magpie.call(method, path, &[], "").status();
        assert!(status == 200 || (method == "POST" && status == 400), "{endpoint}: {status}");
    }
}

#[test]
fn head_answers_as_get_does_without_a_body() {
    let magpie = Setup::empty().start();
    for path in ["/", "/health", "/docs", "/openapi.json", "/v1/models"] {
        let get = magpie.get(path);
        let mut wire = magpie.connect();
        for _ in 0..2 {
            // A body here would be read as the beginning of the second answer.
            wire.send(&crate::client::request("HEAD", path, &[], b""));
            let head = wire.reply_to("HEAD");
            assert_eq!(head.status(), 200, "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
            let length = head.header("content-length").map(str::parse::<usize>);
            assert!(length.is_none_or(|length| length == Ok(get.body.len())), "{path}");
        }
    }
}

#[test]
fn health_is_answered_in_three_ways() {
    let magpie = Setup::empty().start();
    for path in ["/health", "/health/live", "/health/ready"] {
        let reply = magpie.get(path);
        assert_eq!((reply.status(), &reply.json()["status"]), (200, &Value::from("ok")), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
    }
}

/// The paths that a page of the documentation loads.
fn loaded(text: &str) -> Vec<String> {
    let attributes = ["src=\"", "href=\"", "from '", "import('"];
    let mut paths = Vec::new();
    for attribute in attributes {
        for rest in text.split(attribute).skip(1) {
            let path = rest.split(['"', '\'']).next().unwrap();
            let path =
                path.strip_prefix("./").map_or(path.to_owned(), |file| format!("/docs/{file}"));
            if path.starts_with("/docs/") || path.starts_with("http") || path.starts_with("//") {
                paths.push(path);
            }
        }
    }
    paths
}

fn assert_locked_down(path: &str, reply: &Reply) {
    let policy = reply.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{path}: {policy}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
}

#[test]
fn the_documentation_and_every_file_of_it_come_from_here_alone() {
    let magpie = Setup::empty().start();
    let mut to_see = vec!["/docs".to_owned(), "/favicon.ico".to_owned()];
    let mut seen: Vec<String> = Vec::new();
    while let Some(path) = to_see.pop() {
        if seen.contains(&path) {
            continue;
        }
        let reply = magpie.get(&path);
        assert_eq!(reply.status(), 200, "{path}");
        assert!(!reply.body.is_empty(), "{path}");
        assert_locked_down(&path, &reply);
        let kind = reply.header("content-type").unwrap();
        if kind.starts_with("text/html") || kind.starts_with("text/javascript") {
            let loads = loaded(&reply.text());
            to_see.extend(loads.into_iter().filter(|load| load.starts_with('/')));
        }
        if kind.starts_with("text/html") {
            assert!(!reply.text().contains("src=\"http"), "{path} loads from elsewhere");
            assert!(!reply.text().contains("<script>"), "{path} has inline script");
        }
        seen.push(path);
    }
    for file in ["/docs/docs.css", "/docs/docs.js", "/docs/docs-try.js", "/docs/docs-i18n.js"] {
        assert!(seen.iter().any(|path| path == file), "{file} is not loaded: {seen:?}");
    }
}

/// Whether anything lives at a path of the description.
fn is_served(magpie: &Magpie, method: &str, path: &str) -> bool {
    let path = path.replace("{model}", "echo").replace("{id}", "echo").replace("{path}", "files");
    let reply = magpie.call(&method.to_uppercase(), &path, &[], "");
    let unknown = reply.status() == 404 && reply.text().contains("unknown_path");
    !unknown && reply.status() != 405
}

#[test]
fn the_description_of_the_api_lists_what_is_served() {
    let magpie = Setup::empty().start();
    let description = magpie.get("/openapi.json");
    assert_eq!(description.status(), 200);
    assert!(!description.text().contains("{{"), "a place was not filled in");
    let description = description.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths = description["paths"].as_object().unwrap();
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/feedback",
        "/v1/models",
        "/",
        "/health",
        "/health/live",
        "/health/ready",
    ] {
        assert!(paths.contains_key(path), "{path} is not described");
    }
    for (path, item) in paths {
        for method in item.as_object().unwrap().keys() {
            if ["get", "post", "put", "delete", "patch", "head"].contains(&method.as_str()) {
                assert!(is_served(&magpie, method, path), "{method} {path} is not served");
            }
        }
    }
}

#[test]
fn what_does_not_live_here_is_said_in_openai_words() {
    let magpie = Setup::empty().start();
    for path in ["/nothing", "/v2/chat/completions", "/docs/none.js", "/v1", "/v1/"] {
        let reply = magpie.get(path);
        reply.assert_error(404, "unknown_path");
        assert!(!reply.text().contains("base URL"), "{}", reply.text());
    }
    // What a client does whose base URL has no /v1.
    for (method, path) in
        [("POST", "/chat/completions"), ("GET", "/models"), ("POST", "/images/generations")]
    {
        let reply = magpie.call(method, path, &[], "{}");
        reply.assert_error(404, "unknown_path");
        let told = format!("Nothing lives at {path}, but at /v1{path}: the base URL ends in /v1.");
        assert!(reply.text().contains(&told), "{}", reply.text());
    }
    for (method, path, allowed) in [
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/health", "GET, HEAD"),
        ("PUT", "/docs", "GET, HEAD"),
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/v1/models/echo", "GET, HEAD"),
    ] {
        let reply = magpie.call(method, path, &[], "");
        reply.assert_error(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some(allowed), "{method} {path}");
    }
}
