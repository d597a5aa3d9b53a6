//! The way in: who is on the other side of a connection, and HTTPS.

mod acme;
mod authority;
mod certificate;
mod challenges;
mod identity;
mod peer;
mod places;
mod storage;
mod tls;

pub(crate) use peer::Peer;
pub(crate) use tls::Tls;
