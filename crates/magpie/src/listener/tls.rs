//! HTTPS on a listener: handshakes, and a configuration that is swapped when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use policy::tls::Identity;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::acme::Acme;
use super::certificate;
use super::challenges::Challenges;
use super::identity::{Common, Files, Material, is_missing};
use super::places::Places;
use crate::log::note;
use crate::watching;

/// How long a client may take from connecting to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once, over all workers; one more, and the oldest is given up.
const MAX_HANDSHAKES: usize = 2048;
/// Files are written in several steps: how long to wait for the last one.
const SETTLE: Duration = Duration::from_millis(100);
/// How often files are looked at where no system tells of changes.
const LOOK: Duration = Duration::from_secs(60);
/// How long before its end a certificate is worth a note.
const SOON: Duration = Duration::from_secs(7 * 86_400);
/// The first byte of a TLS handshake.
const HANDSHAKE_RECORD: u8 = 0x16;
/// What an ACME authority asks for when it looks whether a name leads here.
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// HTTPS on one listener. Clones are the same.
#[derive(Clone)]
pub(crate) struct Tls(Arc<Inner>);

struct Inner {
    files: Files,
    common: Common,
    /// What handshakes use; `None` until the first certificate is there.
    current: ArcSwapOption<ServerConfig>,
    /// What was read last, whether it was of use or not.
    seen: Mutex<Option<Result<Material, String>>>,
    handshakes: Places,
    acme: Option<Acme>,
    challenges: Arc<Challenges>,
}

impl Tls {
    /// Reads the files. `data` is the folder below which an ACME account is kept if the settings
    /// name none.
    ///
    /// # Errors
    /// A sentence, if a file cannot be used or an address not be listened on.
    pub(crate) fn open(settings: &policy::tls::Tls, data: Option<&Path>) -> Result<Self, String> {
        let clients = settings.clients.clone();
        let challenges = Arc::<Challenges>::default();
        let (files, acme) = match &settings.identity {
            Identity::Files { cert, key } => {
                (Files { cert: cert.clone(), key: key.clone(), clients }, None)
            }
            Identity::Acme(settings) => {
                let acme = Acme::open(settings, data, Arc::clone(&challenges))?;
                let stored = acme.certificate().to_owned();
                (Files { cert: stored.clone(), key: stored, clients }, Some(acme))
            }
        };
        let inner = Inner {
            files,
            common: Common::new()?,
            current: ArcSwapOption::empty(),
            seen: Mutex::new(None),
            handshakes: Places::new(MAX_HANDSHAKES),
            acme,
            challenges,
        };
        // A certificate that is still to be ordered is no fault; all else is better seen at once.
        let is_to_come = inner.acme.is_some() && is_missing(&inner.files.cert);
        if is_to_come {
            inner.files.check_clients()?;
        }
        match inner.reload() {
            Some(Err(fault)) if !is_to_come => Err(fault),
            _ => Ok(Self(Arc::new(inner))),
        }
    }

    /// Shakes hands. `None` if the client has not come to the end of it, whose affair that is.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        timeout(HANDSHAKE, self.0.handshake(stream)).await.ok().flatten()
    }

    /// Follows the files, and orders certificates, for ever.
    pub(crate) async fn keep(self) {
        let follow = self.follow();
        match &self.0.acme {
            None => follow.await,
            Some(acme) => {
                tokio::join!(follow, acme.keep(|| self.reload()));
            }
        }
    }

    async fn follow(&self) {
        let folders: Vec<PathBuf> = self.0.files.paths().filter_map(watching::folder).collect();
        let (changed, mut changes) = mpsc::channel(1);
        let _watcher = watching::watch(folders, changed);
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        // What has changed since the start was not told.
        self.reload();
        loop {
            let told = tokio::select! {
                Some(()) = changes.recv() => true,
                _ = hangup.recv() => false,
                () = sleep(LOOK) => false,
            };
            // A file that is being written reads as a part of itself. If this was a part, the rest
            // is another change, which is still to be told.
            let before = told.then(|| self.0.files.read());
            if before.is_some() {
                sleep(SETTLE).await;
            }
            if before.is_none_or(|before| before == self.0.files.read()) {
                self.reload();
            }
        }
    }

    fn reload(&self) {
        match self.0.reload() {
            Some(Ok(())) => note("TLS: certificate read"),
            Some(Err(fault)) => note(&format!("TLS: {fault}; the one before stays in use")),
            None => {}
        }
    }
}

impl Inner {
    /// Takes the files as they are now, if they have changed. One that is of no use changes
    /// nothing, and is told once.
    fn reload(&self) -> Option<Result<(), String>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.files.read();
        if seen.as_ref() == Some(&read) {
            return None;
        }
        let made = match &read {
            Ok(material) => self.files.config(material, &self.common),
            Err(fault) => Err(fault.clone()),
        };
        *seen = Some(read);
        Some(made.map(|(config, shown)| {
            tell_validity(&self.files.cert, &shown);
            self.current.store(Some(Arc::new(config)));
        }))
    }

    async fn handshake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 0 {
            return None;
        }
        if first != [HANDSHAKE_RECORD] {
            tell_clear_text(stream).await;
            return None;
        }
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
        // Only who has said what he wants takes a place.
        self.handshakes.within(self.answer(start)).await.flatten()
    }

    async fn answer(&self, start: StartHandshake<TcpStream>) -> Option<TlsStream<TcpStream>> {
        let hello = start.client_hello();
        if hello.alpn().is_some_and(|asked| asked.eq([ACME_TLS])) {
            let config = self.challenges.certificate_for(hello.server_name()?)?;
            let mut stream = start.into_stream(config).await.ok()?;
            let _ = stream.shutdown().await;
            return None;
        }
        let config = self.current.load_full()?;
        start.into_stream(config).await.ok()
    }
}

/// A certificate that is over is shown all the same: that tells clients more than none would.
fn tell_validity(path: &Path, shown: &CertificateDer<'_>) {
    let now = SystemTime::now();
    let told = match certificate::validity(shown) {
        Ok(validity) if validity.until <= now => "is over",
        Ok(validity) if validity.from > now => "is not valid yet",
        Ok(validity) if validity.until <= now + SOON => "ends within a week",
        _ => return,
    };
    note(&format!("warning: TLS: the certificate in {} {told}", path.display()));
}

/// Answers a client that has taken the address for one of clear text.
async fn tell_clear_text(mut stream: TcpStream) {
    const BODY: &str = "{\"error\":{\"message\":\"This port speaks HTTPS. Write https:// in place \
        of http://.\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"https_required\"}}";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        let_read(stream).await;
    }
}

/// Lets the client read: a connection that is closed while its request is unread is reset, and the
/// answer with it.
async fn let_read(mut stream: TcpStream) {
    let mut unread = [0; 4096];
    if stream.shutdown().await.is_ok() {
        while matches!(stream.read(&mut unread).await, Ok(1..)) {}
    }
}
