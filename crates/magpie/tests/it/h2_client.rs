//! A client that speaks HTTP/2 with prior knowledge.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::harness::{CHAT, PATIENCE, chat};

/// Runs a client to its end.
pub(crate) fn run<T>(client: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 3, client).await.unwrap() })
}

/// One connection; clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

/// Connects; the connection ends with its last client.
pub(crate) async fn connect(address: SocketAddr) -> Client {
    open(address).await.0
}

/// Connects, and gives a way to see how the connection ends.
pub(crate) async fn open(address: SocketAddr) -> (Client, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    over(stream).await
}

/// Connects over TLS, which has to settle on HTTP/2.
pub(crate) async fn over_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Client {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    over(stream).await.0
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> (Client, JoinHandle<hyper::Result<()>>) {
    let io = TokioIo::new(stream);
    let (sender, connection) = Builder::new(TokioExecutor::new()).handshake(io).await.unwrap();
    (Client { sender }, tokio::spawn(connection))
}

impl Client {
    /// Sends a request.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> hyper::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://localhost{path}"))
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap();
        let mut sender = self.sender.clone();
        sender.ready().await?;
        sender.send_request(request).await
    }

    /// Asks a model.
    pub(crate) async fn ask(&self, model: &str, stream: bool) -> Response<Incoming> {
        self.call("POST", CHAT, chat(model, stream)).await.unwrap()
    }
}

/// The text of a whole body.
pub(crate) async fn text(reply: Response<Incoming>) -> String {
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Reads until the text so far holds `mark`.
pub(crate) async fn read_until(reply: &mut Response<Incoming>, mark: &str) -> String {
    let mut text = String::new();
    while !text.contains(mark) {
        let frame = reply.body_mut().frame().await;
        let data = frame.unwrap_or_else(|| panic!("ended without {mark}")).unwrap();
        text.push_str(&String::from_utf8_lossy(data.data_ref().map_or(&[], |data| &data[..])));
    }
    text
}
