//! Whom to trust: the usual certificate authorities, the system's, and those of the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use policy::{HttpVersions, Origin};
use relay::{Failure, FailureKind};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;

/// The configurations of TLS, shared between workers. Made when the first connection needs one:
/// reading the system's certificates takes milliseconds that a start does not have to wait for.
#[derive(Default)]
pub(crate) struct TlsConfigs {
    made: Mutex<HashMap<Key, Arc<ClientConfig>>>,
}

type Key = (Option<Box<str>>, HttpVersions);

impl TlsConfigs {
    /// Forgets what was read, so that certificate files are read again.
    pub(crate) fn forget(&self) {
        // Whoever holds the lock is reading them right now.
        if let Ok(mut made) = self.made.try_lock() {
            made.clear();
        }
    }

    /// The configuration for an origin.
    pub(super) async fn of(&self, origin: &Origin) -> Result<Arc<ClientConfig>, Failure> {
        let key = (origin.ca_file.clone(), origin.http);
        let mut made = self.made.lock().await;
        if let Some(config) = made.get(&key) {
            return Ok(Arc::clone(config));
        }
        let (ca_file, http) = key.clone();
        let making = tokio::task::spawn_blocking(move || client_config(ca_file.as_deref(), http));
        let config = match making.await {
            Ok(config) => Arc::new(config?),
            Err(fault) => return Err(Failure::new(FailureKind::Tls, fault)),
        };
        made.insert(key, Arc::clone(&config));
        Ok(config)
    }
}

/// A configuration that trusts the usual authorities, the system's, and those of a file. Reads
/// files.
///
/// # Errors
/// If the file is unusable.
pub(crate) fn client_config(
    ca_file: Option<&str>,
    http: HttpVersions,
) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // Certificates of the system that cannot be read are left out, as everywhere.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let unusable = |fault: &dyn std::fmt::Display| {
            Failure::new(FailureKind::Tls, format!("ca_file {path}: {fault}"))
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|fault| unusable(&fault))? {
            let certificate = certificate.map_err(|fault| unusable(&fault))?;
            roots.add(certificate).map_err(|fault| unusable(&fault))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| Failure::new(FailureKind::Tls, fault))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = match http {
        HttpVersions::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersions::Http1 => vec![b"http/1.1".to_vec()],
        HttpVersions::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}
