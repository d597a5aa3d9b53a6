//! Calls that Magpie makes for itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use policy::Provider;
use relay::{BoxError, Call, Outgoing, Upstream as _};
use tokio::time::timeout;

use super::Network;

/// How long a call may take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of an answer that is read.
const MAX_ANSWER: usize = 4 << 20;

/// Posts a JSON text to a URL. What comes back, beside a status of success, is not looked at.
///
/// # Errors
/// A sentence that says why it did not arrive.
pub(crate) async fn post_json(network: &Network, url: &str, body: &str) -> Result<(), String> {
    let call = call(url, HeaderMap::new(), body)?;
    match timeout(PATIENCE, network.send(call)).await {
        Ok(Ok(response)) if response.status().is_success() => Ok(()),
        Ok(Ok(response)) => Err(format!("it answered {}", response.status())),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(late()),
    }
}

/// Posts a JSON text to a URL with a token, and reads what comes back. A redirect is not followed:
/// the token is for nobody else.
///
/// # Errors
/// A sentence that says why there is no answer.
pub(crate) async fn ask_json(
    network: &Network,
    url: &str,
    token: &str,
    body: &str,
) -> Result<(StatusCode, Bytes), String> {
    let mut headers = HeaderMap::new();
    let bearer = HeaderValue::try_from(format!("Bearer {token}"));
    let mut bearer = bearer.map_err(|_| String::from("the token holds odd characters"))?;
    bearer.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, bearer);
    let call = call(url, headers, body)?;
    let asked = async {
        let response = network.send(call).await.map_err(|failure| failure.to_string())?;
        let (head, body) = response.into_parts();
        Ok((head.status, whole(body, MAX_ANSWER).await?))
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
}

/// The body of an answer, of so many bytes at the most.
///
/// # Errors
/// A sentence, if it is longer or breaks off.
pub(crate) async fn whole<B>(body: B, most: usize) -> Result<Bytes, String>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let read = Limited::new(body, most).collect().await;
    Ok(read.map_err(|fault| format!("the answer cannot be read: {fault}"))?.to_bytes())
}

fn late() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

fn call(url: &str, mut headers: HeaderMap, body: &str) -> Result<Call, String> {
    let (provider, path) = Provider::bare(url)?;
    let target = PathAndQuery::try_from(path).map_err(|fault| fault.to_string())?;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Call {
        provider: Arc::new(provider),
        method: Method::POST,
        target,
        headers,
        body: Outgoing::Whole(Bytes::copy_from_slice(body.as_bytes())),
        connect: CONNECT,
    })
}
