//! Which hosts a listener answers for, and whose pages may call it: what both APIs ask of the heads
//! that they get.

use std::net::IpAddr;

use http::uri::Authority;
use http::{HeaderMap, Uri, header};

/// The host part of `host[:port]`; nothing if it is not of that form.
#[must_use]
pub fn bare(host: &str) -> &str {
    let (name, port) = match host.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    if port.bytes().all(|digit| digit.is_ascii_digit()) { name } else { "" }
}

/// Whether a bare host in small letters is this machine, as it calls itself.
#[must_use]
pub fn is_local(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1") || host.ends_with(".localhost")
}

/// Whether `host[:port]` is this machine, or one of those that are allowed.
#[must_use]
pub fn is_allowed(host: &str, allowed: &[impl AsRef<str>]) -> bool {
    let host = bare(host).to_ascii_lowercase();
    is_local(&host) || allowed.iter().any(|known| known.as_ref().eq_ignore_ascii_case(&host))
}

/// Whether a page came from the very host that it calls. Where hosts are not checked, only an
/// address counts: a name could have been rebound to this machine.
#[must_use]
pub fn is_own_page(origin: &str, uri: &Uri, headers: &HeaderMap, is_checked: bool) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(Authority::as_str).or(host);
    let (Some((_, page)), Some(host)) = (origin.split_once("://"), host) else {
        return false;
    };
    let is_sure = is_checked || bare(host).parse::<IpAddr>().is_ok();
    is_sure && page.eq_ignore_ascii_case(host)
}
