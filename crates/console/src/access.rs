//! What is looked at before anything else: the host, the page, the path. And the headers that every
//! answer carries.
//!
//! The admin API listens on loopback, where every page its owner visits can send requests. A page
//! that rebinds its own name to this machine is refused by `Host`, any other by `Origin` and
//! `Sec-Fetch-Site`; no CORS header is ever sent.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, Uri};
use policy::host::{is_allowed, is_own_page};

use crate::fault::{Code, Fault};

/// Lets a request in, or refuses it.
///
/// # Errors
/// [`Code::ForeignHost`], [`Code::ForeignOrigin`], [`Code::InvalidPath`].
pub(crate) fn admit(uri: &Uri, headers: &HeaderMap, hosts: Option<&[String]>) -> Result<(), Fault> {
    check_host(uri, headers, hosts)?;
    check_page(uri, headers, hosts)?;
    check_path(uri.path())
}

fn check_host(uri: &Uri, headers: &HeaderMap, hosts: Option<&[String]>) -> Result<(), Fault> {
    let named = uri.authority().map(Authority::as_str);
    let mut named_in = headers.get_all(header::HOST).iter();
    let in_header = named_in.next().map(|host| host.to_str().unwrap_or("?"));
    let single = named_in.next().is_none();
    let known = |host: Option<&str>| match (host, hosts) {
        (Some(host), Some(hosts)) => is_allowed(host, hosts),
        (Some(_), None) | (None, _) => true,
    };
    if single && known(named) && known(in_header) {
        return Ok(());
    }
    let host = named.or(in_header).unwrap_or_default();
    Err(Fault::new(Code::ForeignHost, format!("This is not the host {host:?}.")))
}

fn check_page(uri: &Uri, headers: &HeaderMap, hosts: Option<&[String]>) -> Result<(), Fault> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Err(Fault::new(Code::ForeignOrigin, "Pages of other sites may not call."));
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    if origins.next().is_none() && is_own_page(origin, uri, headers, hosts.is_some()) {
        return Ok(());
    }
    Err(Fault::new(Code::ForeignOrigin, format!("Pages of {origin:?} may not call.")))
}

/// Refuses a path that two readers could take for two: what is decided on is what is routed.
fn check_path(path: &str) -> Result<(), Fault> {
    let lower = path.to_ascii_lowercase();
    let ambiguous = ["//", "/.", "\\", ";", "%2e", "%2f", "%5c", "%25", "%00", "\0"];
    let ends_well = path.len() == 1 || !path.ends_with('/');
    if ends_well && path.starts_with('/') && !ambiguous.iter().any(|part| lower.contains(part)) {
        return Ok(());
    }
    Err(Fault::new(Code::InvalidPath, "The path can be read in more than one way."))
}

/// Adds what keeps an answer out of caches, frames and other pages.
pub(crate) fn stamp(headers: &mut HeaderMap) {
    let fixed = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (http::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
