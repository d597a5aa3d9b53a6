//! HTTPS on a listener, resolved.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What a listener shows, and whom it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Where the certificate comes from.
    pub identity: Identity,
    /// Whose client certificates are let in; `None` asks for none.
    pub clients: Option<Clients>,
}

impl Tls {
    /// The names the certificate is ordered for; none if it comes from files.
    #[must_use]
    pub fn domains(&self) -> &[String] {
        match &self.identity {
            Identity::Files { .. } => &[],
            Identity::Acme(acme) => &acme.domains,
        }
    }
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Two PEM files, read again when they change.
    Files {
        /// The certificate and the intermediate ones behind it.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// An ACME authority.
    Acme(Acme),
}

/// Whose client certificates are let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// A PEM file of authorities, read again when it changes.
    pub ca: PathBuf,
    /// Whether a client without a certificate is turned away.
    pub required: bool,
}

/// A certificate to be ordered and renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The names, in lower case; at least one.
    pub domains: Vec<String>,
    /// Where the authority may reach the owner.
    pub email: Option<String>,
    /// The URL of the authority's directory, which begins with `https://`.
    pub directory: String,
    /// A PEM file of authorities to trust for the directory, beside the usual ones.
    pub ca_file: Option<String>,
    /// The folder for account and certificate; `None` for the one in the data folder.
    pub storage: Option<PathBuf>,
    /// How the authority looks.
    pub challenge: Challenge,
}

/// How an ACME authority sees that a name leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a TLS connection to the listener itself.
    TlsAlpn,
    /// By a request in clear text, answered on this address.
    Http(SocketAddr),
}
