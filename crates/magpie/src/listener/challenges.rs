//! Answers to an ACME authority that looks whether a name leads here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// The answers of the order under way; at most one for each of its names.
#[derive(Default)]
pub(super) struct Challenges {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// By name: a certificate that nobody but an authority is shown.
    certificates: HashMap<String, Arc<ServerConfig>>,
    /// By token: what a request for it is answered with.
    texts: HashMap<String, String>,
}

impl Challenges {
    /// What to shake hands with when asked about a name.
    pub(super) fn certificate_for(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.held().certificates.get(&name.to_ascii_lowercase()).cloned()
    }

    /// What a request for a token is answered with.
    pub(super) fn text_for(&self, token: &str) -> Option<String> {
        self.held().texts.get(token).cloned()
    }

    /// Answers requests for `token` with `text`.
    pub(super) fn answer_text(&self, token: &str, text: &str) {
        self.held().texts.insert(token.to_owned(), text.to_owned());
    }

    /// Answers handshakes about `name` with a certificate over `digest`, as RFC 8737 has it.
    ///
    /// # Errors
    /// If none can be made for the name.
    pub(super) fn answer_tls(
        &self,
        name: &str,
        digest: &[u8],
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let chain = vec![params.self_signed(&key)?.der().clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            // Nothing is checked here: the critical extension is one that only authorities know.
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
                chain,
                provider.key_provider.load_private_key(key)?,
            ))));
        config.alpn_protocols = vec![super::tls::ACME_TLS.to_vec()];
        self.held().certificates.insert(name.to_owned(), Arc::new(config));
        Ok(())
    }

    /// The order is over, in whatever way.
    pub(super) fn clear(&self) {
        *self.held() = Held::default();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
