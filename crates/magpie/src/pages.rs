//! What stands beside the API: the welcome, health, and the documentation.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use policy::Snapshot;
use relay::{Code, Fault, Operation, ReplyBody, endpoint, wrong_method};
use serde_json::json;

use crate::service::Body;
use crate::version::VERSION;

/// No script, style or request of anyone else's; nothing may frame the page.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                   img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                   require-trusted-types-for 'script'";

/// What the pages tell of the process.
#[derive(Default)]
pub(crate) struct State {
    stopping: AtomicBool,
}

impl State {
    /// From now on, nothing new should be sent here.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// A file of the documentation: its path, type and text.
const FILES: &[(&str, &str, &str)] = &[
    ("/docs", "text/html; charset=utf-8", include_str!("../assets/docs.html")),
    ("/docs/docs.css", "text/css; charset=utf-8", include_str!("../assets/docs.css")),
    ("/docs/logo.svg", "image/svg+xml", include_str!("../assets/logo.svg")),
    ("/docs/docs.js", SCRIPT, include_str!("../assets/docs.js")),
    ("/docs/docs-ui.js", SCRIPT, include_str!("../assets/docs-ui.js")),
    ("/docs/docs-i18n.js", SCRIPT, include_str!("../assets/docs-i18n.js")),
    ("/docs/docs-samples.js", SCRIPT, include_str!("../assets/docs-samples.js")),
    ("/docs/docs-try.js", SCRIPT, include_str!("../assets/docs-try.js")),
    ("/docs/docs-result.js", SCRIPT, include_str!("../assets/docs-result.js")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";
const OPENAPI: &str = include_str!("../assets/openapi.json");

/// Answers a request outside the API.
///
/// # Errors
/// A [`Fault`] for a path where nothing lives, or a method it does not have.
pub(crate) fn answer(
    parts: &Parts,
    snapshot: &Snapshot,
    state: &State,
) -> Result<Response<Body>, Fault> {
    let path = match parts.uri.path() {
        "/docs/" => "/docs",
        "/favicon.ico" => "/docs/logo.svg",
        path => path,
    };
    let mut page = match path {
        "/" => json_page(StatusCode::OK, &welcome(snapshot, state)),
        "/health" | "/health/ready" | "/health/live" => health(path, state),
        "/openapi.json" => text_page("application/json", OPENAPI.replace("{{version}}", VERSION)),
        path => match FILES.iter().find(|(known, ..)| *known == path) {
            Some((_, kind, text)) => text_page(kind, Bytes::from_static(text.as_bytes())),
            None => return Err(nothing_at(path, &parts.method)),
        },
    };
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(wrong_method(&parts.method, path, &[Method::GET, Method::HEAD]));
    }
    page.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    Ok(page)
}

/// The fault for a path where nothing lives; the likeliest reason is a base URL that is not whole.
fn nothing_at(path: &str, method: &Method) -> Fault {
    let meant = endpoint(method, &format!("/v1{path}"));
    let message = match meant.is_ok_and(|meant| meant.operation != Operation::Other) {
        true => format!("Nothing lives at {path}, but at /v1{path}: the base URL ends in /v1."),
        false => format!("Nothing lives at {path}."),
    };
    Fault::new(Code::UnknownPath, message)
}

fn welcome(snapshot: &Snapshot, state: &State) -> serde_json::Value {
    let providers: Vec<&str> = snapshot.providers.iter().map(|provider| &*provider.id).collect();
    json!({
        "service": "magpie",
        "version": VERSION,
        "status": if state.is_stopping() { "stopping" } else { "ok" },
        "documentation": "/docs",
        "providers": providers,
        "endpoints": {
            "chat": "POST /v1/chat/completions",
            "completions": "POST /v1/completions",
            "embeddings": "POST /v1/embeddings",
            "models": "GET /v1/models",
            "openapi": "GET /openapi.json",
            "health": "GET /health",
            "live": "GET /health/live",
            "ready": "GET /health/ready",
        },
    })
}

/// Alive as long as it answers; ready until it is told to stop. Neither asks anyone else.
fn health(path: &str, state: &State) -> Response<Body> {
    let stopping = state.is_stopping() && path != "/health/live";
    let (status, word) = match stopping {
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        false => (StatusCode::OK, "ok"),
    };
    json_page(status, &json!({ "status": word, "version": VERSION }))
}

fn json_page(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut page = text_page("application/json", value.to_string());
    *page.status_mut() = status;
    page.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

fn text_page(kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut page = Response::new(ReplyBody::whole(text));
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    page
}
