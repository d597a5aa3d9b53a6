//! Header allow-lists, both ways. What is not named here stays where it came from: credentials,
//! cookies, hop-by-hop headers and whatever the next proxy invents.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use policy::{Provider, Secret};

/// The upstream's own request id: `x-request-id` is Magpie's.
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// The headers of a call: those of the client that may pass, then the provider's own, with the
/// credential of this number.
pub(crate) fn to_upstream(client: &HeaderMap, provider: &Provider, credential: usize) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    for (name, value) in client {
        if passes(name.as_str(), provider) {
            headers.append(name, value.clone());
        }
    }
    for (name, value) in &provider.headers {
        headers.insert(name, value.clone());
    }
    if let Some((name, value)) = provider.header_of_credential(credential) {
        headers.insert(name, value.clone());
    }
    headers
}

/// Whether a header of the client passes to a provider.
fn passes(name: &str, provider: &Provider) -> bool {
    is_common_request(name) || (provider.forward.allows(name) && !is_never_request(name))
}

/// Whether a provider may answer otherwise because of a header of the client: it passes, and does
/// not only say who calls and which call it is.
pub(crate) fn is_telling(name: &str, provider: &Provider) -> bool {
    let only_names = matches!(
        name,
        "content-type"
            | "user-agent"
            | "idempotency-key"
            | "x-client-request-id"
            | "traceparent"
            | "tracestate"
    );
    !only_names && passes(name, provider)
}

fn is_common_request(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "content-type"
            | "user-agent"
            | "idempotency-key"
            | "openai-beta"
            | "anthropic-version"
            | "anthropic-beta"
            | "x-client-request-id"
            | "traceparent"
            | "tracestate"
    )
}

/// Headers that stay here even if a prefix in a provider's list fits them: those of this connection
/// and its framing, and the client's credentials.
fn is_never_request(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "connection"
            | "content-length"
            | "transfer-encoding"
            | "keep-alive"
            | "te"
            | "trailer"
            | "upgrade"
            | "expect"
            | "authorization"
            | "cookie"
            | "api-key"
            | "x-api-key"
            | "x-goog-api-key"
    ) || name.starts_with("proxy-")
}

/// The headers of a reply that may pass to the client.
pub(crate) fn to_client(upstream: &HeaderMap, provider: &Provider) -> HeaderMap {
    // Room for twelve, which is what most replies have: the map stays as long as the stream.
    let mut headers = HeaderMap::with_capacity(12);
    for (name, value) in upstream {
        let echoes = |secret: &Secret| {
            let secret = secret.expose().as_bytes();
            value.len() >= secret.len() && memmem::find(value.as_bytes(), secret).is_some()
        };
        // A credential that a provider echoes ends here.
        if provider.secrets().any(echoes) {
            continue;
        }
        match name.as_str() {
            "x-request-id" => headers.append(UPSTREAM_REQUEST_ID, value.clone()),
            passing if is_common_reply(passing) => headers.append(name, value.clone()),
            _ => false,
        };
    }
    headers
}

fn is_common_reply(name: &str) -> bool {
    matches!(
        name,
        "content-type"
            | "content-disposition"
            | "retry-after"
            | "retry-after-ms"
            | "x-should-retry"
    ) || ["x-ratelimit-", "ratelimit", "openai-", "anthropic-ratelimit-", "modelscope-ratelimit-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || ["request-id", "trace-id", "-traceid"].iter().any(|suffix| name.ends_with(suffix))
}

/// Whether a content type says JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|kind| kind == "application/json" || kind.ends_with("+json"))
}

/// Whether a content type says server-sent events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|kind| kind == "text/event-stream")
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// By which callers have one request answered once, however often they send it.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// JSON, as a content type.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
