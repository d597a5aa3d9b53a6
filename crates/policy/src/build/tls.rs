//! HTTPS: what is written, checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Builder;
use crate::config::{AcmeChallenge, AcmeConfig, At, ClientAuth, TlsConfig};
use crate::problem::Place;
use crate::tls::{Acme, Challenge, Clients, Identity, Tls};

/// Where certificates come from if nothing else is said.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Names in one certificate: Let's Encrypt takes no more.
const MAX_DOMAINS: usize = 100;

impl Builder<'_> {
    /// The TLS of a listener. Without one if there is a problem.
    pub(super) fn tls(&mut self, written: &At<TlsConfig>) -> Option<Tls> {
        let tls = &written.value;
        let clients = self.clients(written);
        let identity = match (&tls.cert, &tls.key, &tls.acme) {
            (Some(cert), Some(key), None) => {
                Identity::Files { cert: PathBuf::from(&cert.value), key: PathBuf::from(&key.value) }
            }
            (None, None, Some(acme)) => Identity::Acme(self.acme(acme)?),
            (_, _, Some(acme)) => {
                let message = "a certificate comes from files or from acme, not from both";
                self.problem(acme.place, message, "leave out `cert` and `key`, or `acme`");
                return None;
            }
            (Some(half), None, None) | (None, Some(half), None) => {
                let message = "`cert` and `key` belong together";
                self.problem(half.place, message, "name the files of both");
                return None;
            }
            (None, None, None) => {
                let hint = "name the files `cert` and `key`, or set `acme`";
                self.problem(written.place, "TLS needs a certificate", hint);
                return None;
            }
        };
        Some(Tls { identity, clients })
    }

    /// The TLS of a listener to which no ACME authority ever comes.
    pub(super) fn tls_of_files(&mut self, written: &At<TlsConfig>) -> Option<Tls> {
        if let Some(acme) = &written.value.acme {
            let message = "no certificate can be ordered here: no ACME authority comes this way";
            self.problem(acme.place, message, "name the files `cert` and `key`");
            return None;
        }
        self.tls(written)
    }

    fn clients(&mut self, written: &At<TlsConfig>) -> Option<Clients> {
        let tls = &written.value;
        let Some(ca) = &tls.client_ca else {
            if tls.client_auth.is_some() {
                let hint = "name the file of their authorities in `client_ca`";
                self.problem(written.place, "client_auth has nobody to trust", hint);
            }
            return None;
        };
        let required = tls.client_auth != Some(ClientAuth::Optional);
        Some(Clients { ca: PathBuf::from(&ca.value), required })
    }

    fn acme(&mut self, written: &At<AcmeConfig>) -> Option<Acme> {
        let acme = &written.value;
        let before = self.problems.len();
        if acme.domains.is_empty() || acme.domains.len() > MAX_DOMAINS {
            let message = format!("acme.domains takes 1 to {MAX_DOMAINS} names");
            self.problem(written.place, message, "for example [magpie.example.com]");
        }
        for name in acme.domains.iter().filter(|name| !is_domain(name)) {
            let hint = "write names such as magpie.example.com; wildcards and addresses are not \
                        certified this way";
            self.problem(written.place, format!("`{name}` is no domain name"), hint);
        }
        let directory = acme.directory.as_deref().unwrap_or(LETS_ENCRYPT);
        let is_url = |url: &str| url.parse::<http::Uri>().is_ok_and(|url| url.host().is_some());
        if !directory.starts_with("https://") || !is_url(directory) {
            let hint = format!("write the URL of a directory, such as {LETS_ENCRYPT}");
            self.problem(written.place, format!("`{directory}` is no https:// URL"), hint);
        }
        let challenge = self.challenge(written.place, acme);
        (self.problems.len() == before).then(|| Acme {
            domains: acme.domains.iter().map(|name| name.to_ascii_lowercase()).collect(),
            email: acme.email.clone(),
            directory: directory.to_owned(),
            ca_file: acme.ca_file.clone(),
            storage: acme.storage.as_ref().map(PathBuf::from),
            challenge,
        })
    }

    fn challenge(&mut self, place: Place, acme: &AcmeConfig) -> Challenge {
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 80));
        match (acme.challenge, &acme.http_listen) {
            (AcmeChallenge::TlsAlpn, None) => Challenge::TlsAlpn,
            (AcmeChallenge::TlsAlpn, Some(_)) => {
                let hint = "add `challenge: http-01`, or leave it out";
                self.problem(place, "http_listen is of use to http-01 only", hint);
                Challenge::TlsAlpn
            }
            (AcmeChallenge::Http, None) => Challenge::Http(everywhere),
            (AcmeChallenge::Http, Some(text)) => {
                Challenge::Http(text.parse().unwrap_or_else(|_| {
                    let message = format!("`{text}` is not an address to listen on");
                    self.problem(place, message, "write for example 0.0.0.0:80");
                    everywhere
                }))
            }
        }
    }
}

/// Whether it is a DNS name as certificates have it: labels of letters, digits and hyphens.
fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    name.len() <= 253 && !is_address && name.split('.').all(is_label)
}
