//! Requests to an ACME authority: one connection each, over TLS, within bounds.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Request, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::upstream::whole;

/// How long one request may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer: a chain of certificates is a few KiB.
const MAX_ANSWER: usize = 1 << 20;

type Fault = Box<dyn Error + Send + Sync>;

/// A client of an authority.
pub(super) struct Client {
    connector: TlsConnector,
}

impl Client {
    /// A client that trusts whom `config` trusts.
    pub(super) fn new(config: ClientConfig) -> Self {
        Self { connector: TlsConnector::from(Arc::new(config)) }
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let connector = self.connector.clone();
        Box::pin(async move {
            let at = request.uri().host().unwrap_or_default().to_owned();
            let told = |fault: Fault| format!("{at}: {fault}").into();
            match timeout(PATIENCE, exchange(connector, request)).await {
                Ok(answered) => answered.map_err(|fault| instant_acme::Error::Other(told(fault))),
                Err(late) => Err(instant_acme::Error::Other(told(late.into()))),
            }
        })
    }
}

async fn exchange(
    connector: TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, Fault> {
    let uri = std::mem::take(request.uri_mut());
    // Where to go next is said by the authority's own answers.
    if uri.scheme() != Some(&Scheme::HTTPS) {
        return Err(format!("{uri} is no https:// URL").into());
    }
    let authority = uri.authority().ok_or("a URL without a host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let stream = connector.connect(ServerName::try_from(host)?, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::spawn(connection);
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
    let target = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(target);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = whole(body, MAX_ANSWER).await?;
    Ok(BytesResponse { parts, body: Box::new(body) })
}
