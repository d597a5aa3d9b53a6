//! From an origin to a connection that can take a request.

use std::sync::Arc;

use policy::{HttpVersions, Origin, Scheme};
use relay::{Failure, FailureKind};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::dns::Names;
use super::eyeballs;
use super::h1::{Chain, Http1};
use super::h2::Http2;
use super::open::Open;
use super::tls::TlsConfigs;
use crate::measure::Pooled;

/// A connection of either version.
pub(super) enum Connection {
    Http1(Http1),
    Http2(Http2),
}

/// Makes connections.
pub(super) struct Connector {
    names: Names,
    tls: Arc<TlsConfigs>,
    pooled: Arc<Pooled>,
}

impl Connector {
    pub(super) fn new(tls: Arc<TlsConfigs>, pooled: Arc<Pooled>) -> Self {
        Self { names: Names::default(), tls, pooled }
    }

    /// Resolves, connects, shakes hands. Nothing of a request is written before all of it stands.
    pub(super) async fn connect(&self, origin: &Origin) -> Result<Connection, Failure> {
        let addresses = self.names.addresses(&origin.host, origin.port).await?;
        let tcp = eyeballs::connect(addresses).await.map_err(|fault| {
            let detail = format!("cannot connect to {}: {fault}", origin.authority);
            Failure::new(FailureKind::Connect, detail)
        })?;
        let open = Open::new(&self.pooled);
        if origin.scheme != Scheme::Https {
            return speak(tcp, origin.http == HttpVersions::Http2, open).await;
        }
        let config = self.tls.of(origin).await?;
        let name = ServerName::try_from(origin.host.to_string())
            .map_err(|fault| Failure::new(FailureKind::Tls, fault))?;
        let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|fault| {
            let detail = format!("no TLS with {}: {}", origin.authority, Chain(&fault));
            Failure::new(FailureKind::Tls, detail)
        })?;
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        if origin.http == HttpVersions::Http2 && !http2 {
            let detail = format!("{} does not speak HTTP/2", origin.authority);
            return Err(Failure::new(FailureKind::Tls, detail));
        }
        speak(tls, http2, open).await
    }
}

async fn speak<S>(stream: S, http2: bool, open: Open) -> Result<Connection, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let spoken = match http2 {
        true => Http2::begin(stream, open).await.map(Connection::Http2),
        false => Http1::begin(stream, open).await.map(Connection::Http1),
    };
    spoken.map_err(|fault| Failure::new(FailureKind::Connect, Chain(&fault)))
}
