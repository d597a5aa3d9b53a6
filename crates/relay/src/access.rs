//! Who may call from where: host names, web pages, and CORS.
//!
//! A relay on loopback that anyone may use must not be usable by every page its owner visits. So a
//! `Host` that is not ours (a page that rebinds its own name to this machine) and an `Origin` that
//! is not let in are refused before anything else happens. Programs send no `Origin`.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Response, StatusCode};
use policy::Access;
use policy::host::{bare, is_allowed, is_local, is_own_page};

use crate::fault::{Code, Fault};

/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const DEFAULT_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// Response headers a page may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, x-upstream-request-id, x-magpie-provider, x-magpie-target, x-magpie-attempts, \
     x-magpie-overhead-us, x-magpie-queued-ms, retry-after, x-ratelimit-limit-requests, \
     x-ratelimit-limit-tokens, \
     x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, \
     x-ratelimit-reset-tokens, openai-processing-ms, idempotent-replayed, x-magpie-shared",
);
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// A caller that may come in. Only [`admit`] makes one.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    /// The page's origin, if it is a page.
    origin: Option<HeaderValue>,
}

/// Lets a request in, or refuses it.
///
/// # Errors
/// A [`Fault`] for a foreign `Host` or `Origin`.
pub fn admit(parts: &Parts, access: &Access) -> Result<Visitor, Fault> {
    check_host(parts, access)?;
    let Some(origin) = parts.headers.get(header::ORIGIN) else {
        // A page that loads a picture or a script from here names no origin, but its browser tells.
        let site = parts.headers.get("sec-fetch-site");
        if site.is_some_and(|site| site == "cross-site") && is_api(parts.uri.path()) {
            return Err(Fault::new(Code::ForeignOrigin, "Pages of other sites may not call."));
        }
        return Ok(Visitor::default());
    };
    let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
    let several = parts.headers.get_all(header::ORIGIN).iter().count() > 1;
    let is_own = is_own_page(&text, &parts.uri, &parts.headers, access.hosts.is_some());
    if several || !(is_own || is_allowed_origin(&text, access)) {
        return Err(Fault::new(Code::ForeignOrigin, format!("Pages of {text:?} may not call.")));
    }
    Ok(Visitor { origin: Some(origin.clone()) })
}

fn check_host(parts: &Parts, access: &Access) -> Result<(), Fault> {
    let Some(allowed) = &access.hosts else {
        return Ok(());
    };
    let named = parts.uri.authority().map(Authority::as_str);
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let in_header = hosts.next().map(|host| host.to_str().unwrap_or("?"));
    let single = hosts.next().is_none();
    // HTTP/1.0 may come without any; a browser always names one.
    let known = |host: Option<&str>| host.is_none_or(|host| is_allowed(host, allowed));
    if single && known(named) && known(in_header) {
        return Ok(());
    }
    let host = named.or(in_header).unwrap_or_default();
    Err(Fault::new(Code::ForeignHost, format!("This is not the host {host:?}.")))
}

/// Whether a path is the API's. Pages may be linked to from anywhere.
#[must_use]
pub fn is_api(path: &str) -> bool {
    path.trim_start_matches('/').starts_with("v1/")
}

fn is_allowed_origin(origin: &str, access: &Access) -> bool {
    match &access.origins {
        Some(origins) => origins.iter().any(|known| &**known == "*" || **known == *origin),
        None => match origin.split_once("://") {
            Some(("http" | "https", host)) => is_local(bare(host)),
            _ => false,
        },
    }
}

impl Visitor {
    /// Whether it is a web page.
    #[must_use]
    pub fn is_page(&self) -> bool {
        self.origin.is_some()
    }

    /// Adds what a page needs to be allowed to read the response.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
    }

    /// The answer to a preflight, if the request is one.
    #[must_use]
    pub fn preflight(&self, parts: &Parts, access: &Access) -> Option<Response<()>> {
        let asks = parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if parts.method != Method::OPTIONS || !asks || !self.is_page() {
            return None;
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.stamp(headers);
        let methods = access.methods.clone().unwrap_or(DEFAULT_METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        if let Some(allowed) = access.headers.clone().or(asked) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
        if parts.headers.contains_key("access-control-request-private-network") {
            headers.insert(PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        Some(response)
    }
}
