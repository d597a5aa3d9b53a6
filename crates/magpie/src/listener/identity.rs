//! From PEM files to what a handshake needs.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::tls::Clients;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

/// The files of a listener.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The certificate, and the intermediate ones behind it.
    pub(super) cert: PathBuf,
    /// Its key; may be the same file.
    pub(super) key: PathBuf,
    /// Whose client certificates are let in.
    pub(super) clients: Option<Clients>,
}

/// What is in them.
#[derive(PartialEq, Eq)]
pub(super) struct Material {
    cert: Vec<u8>,
    key: Vec<u8>,
    clients: Option<Vec<u8>>,
}

impl Files {
    /// All of them, each once.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let clients = self.clients.iter().map(|clients| clients.ca.as_path());
        [self.cert.as_path(), self.key.as_path()].into_iter().chain(clients)
    }

    /// Reads them.
    ///
    /// # Errors
    /// A sentence with the file's name.
    pub(super) fn read(&self) -> Result<Material, String> {
        let read = |path: &Path| std::fs::read(path).map_err(|fault| unusable(path, fault));
        Ok(Material {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
            clients: self.clients.as_ref().map(|clients| read(&clients.ca)).transpose()?,
        })
    }

    /// What they come to: a configuration of TLS, and the certificate that it shows.
    ///
    /// # Errors
    /// A sentence with the file's name.
    pub(super) fn config(
        &self,
        material: &Material,
        shared: &Common,
    ) -> Result<(ServerConfig, CertificateDer<'static>), String> {
        let pair = pair(&material.cert, &material.key, &shared.provider)
            .map_err(|fault| format!("{}: {fault}", self.named()))?;
        let shown = pair.cert.first().cloned().ok_or("no certificate")?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&shared.provider))
            .with_safe_default_protocol_versions()
            .map_err(|fault| fault.to_string())?;
        let builder = match (&self.clients, &material.clients) {
            (Some(clients), Some(pem)) => {
                let roots = roots(pem).map_err(|fault| unusable(&clients.ca, fault))?;
                let provider = Arc::clone(&shared.provider);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier =
                    if clients.required { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|fault| unusable(&clients.ca, fault))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        match self.clients {
            None => config.ticketer = Arc::clone(&shared.tickets),
            // A session that is resumed is not checked again: not against an authority that has
            // been taken out since, and not for being over.
            Some(_) => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
        }
        Ok((config, shown))
    }

    /// Whether the authorities of client certificates can be used.
    ///
    /// # Errors
    /// A sentence with the file's name.
    pub(super) fn check_clients(&self) -> Result<(), String> {
        let Some(Clients { ca, .. }) = &self.clients else { return Ok(()) };
        let pem = std::fs::read(ca).map_err(|fault| unusable(ca, fault))?;
        roots(&pem).map(|_| ()).map_err(|fault| unusable(ca, fault))
    }

    fn named(&self) -> String {
        match self.cert == self.key {
            true => self.cert.display().to_string(),
            false => format!("{} with {}", self.cert.display(), self.key.display()),
        }
    }
}

/// What all configurations of a listener share.
pub(super) struct Common {
    /// The cryptography.
    pub(super) provider: Arc<CryptoProvider>,
    /// The keys of session tickets, which outlive a certificate.
    tickets: Arc<dyn ProducesTickets>,
}

impl Common {
    /// Fresh keys for session tickets.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(super) fn new() -> Result<Self, String> {
        let tickets =
            rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|fault| fault.to_string())?;
        Ok(Self { provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()), tickets })
    }
}

/// A certificate and its key, which belong together.
///
/// # Errors
/// What is wrong with them.
pub(super) fn pair(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let chain = certificates(cert)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|fault| format!("the key: {fault}"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|fault| match fault {
        rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
        other => other.to_string(),
    })
}

/// Certificates in PEM; at least one.
///
/// # Errors
/// What is wrong with them.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = read.map_err(|fault| format!("the certificate: {fault}"))?;
    if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|fault| fault.to_string())?;
    }
    Ok(roots)
}

fn unusable(path: &Path, fault: impl Display) -> String {
    format!("{}: {fault}", path.display())
}

/// Whether a file is not there, and not merely unreadable.
pub(super) fn is_missing(path: &Path) -> bool {
    matches!(std::fs::metadata(path), Err(fault) if fault.kind() == io::ErrorKind::NotFound)
}
