//! Calls that Magpie makes for itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, header};
use policy::Provider;
use relay::{Call, Outgoing, Upstream as _};
use tokio::time::timeout;

use super::Network;

/// How long a call may take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Posts a JSON text to a URL. What comes back, beside a status of success, is not looked at.
///
/// # Errors
/// A sentence that says why it did not arrive.
pub(crate) async fn post_json(network: &Network, url: &str, body: &str) -> Result<(), String> {
    let (provider, path) = Provider::bare(url)?;
    let target = PathAndQuery::try_from(path).map_err(|fault| fault.to_string())?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let call = Call {
        provider: Arc::new(provider),
        method: Method::POST,
        target,
        headers,
        body: Outgoing::Whole(Bytes::copy_from_slice(body.as_bytes())),
        connect: CONNECT,
    };
    match timeout(PATIENCE, network.send(call)).await {
        Ok(Ok(response)) if response.status().is_success() => Ok(()),
        Ok(Ok(response)) => Err(format!("it answered {}", response.status())),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
