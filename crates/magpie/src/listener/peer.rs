//! Who is on the other side of a connection.

use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;

use super::certificate;

/// The client of one connection; each of its requests has the same.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Where it comes from. An IPv4 client of an IPv6 socket has its IPv4 address.
    pub(crate) address: SocketAddr,
    /// The subject of the certificate it has shown, as in `CN=ci,O=Lab`: checked, and `None` if
    /// it has shown none. An authority may certify an empty one.
    pub(crate) certificate: Option<Box<str>>,
}

impl Peer {
    /// A client that has shown nothing yet.
    pub(crate) fn new(mut address: SocketAddr) -> Self {
        address.set_ip(address.ip().to_canonical());
        Self { address, certificate: None }
    }

    /// The same with the chain it has been let in with.
    pub(crate) fn with_chain(mut self, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let own = chain.and_then(<[_]>::first);
        // One that was checked reads; if it does not, it names nobody.
        self.certificate = own.map(|own| certificate::subject(own).unwrap_or_default().into());
        self
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() {
        for (seen, expected) in [
            ("[::ffff:10.1.2.3]:40", "10.1.2.3:40"),
            ("10.1.2.3:40", "10.1.2.3:40"),
            ("[2001:db8::1]:40", "[2001:db8::1]:40"),
        ] {
            assert_eq!(Peer::new(seen.parse().unwrap()).address.to_string(), expected);
        }
    }

    #[test]
    fn the_first_certificate_of_the_chain_is_the_clients_own() {
        let certificate = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
        };
        let peer = || Peer::new("127.0.0.1:1".parse().unwrap());
        let chain = [certificate("ci"), certificate("above it")];
        assert_eq!(peer().with_chain(Some(&chain)).certificate.as_deref(), Some("CN=ci"));
        assert_eq!(peer().with_chain(None).certificate, None);
        assert_eq!(peer().with_chain(Some(&[])).certificate, None);
    }
}
