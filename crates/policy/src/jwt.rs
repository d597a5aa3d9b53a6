//! Tokens of other issuers (JWT, RFC 7519): verified, and read for who calls.
//!
//! The signature is checked by a library, everything around it here, strictly: an issuer has one
//! algorithm, which the token's header can confirm but never choose; nothing in a token can say
//! which key to trust beyond naming one of the issuer's own; a member that stands twice, a time
//! that is no whole number, a token without an end are refused. Keys of an issuer that publishes
//! them (JWKS) are fetched elsewhere and come in as a [`KeyRing`].

mod config;
mod issuer;
mod keys;
mod strict;
mod verify;

pub use config::{Audiences, ClaimPaths, JwtAlgorithm, JwtConfig};
pub use issuer::{Issuer, Remote, issuers};
pub use keys::KeyRing;
pub use verify::{Claims, JwtFault, looks_like_token, verify};

/// Settles which cryptography the library uses: with a second one built in, by whatever other
/// crate, it would panic at the first token. Making an [`Issuer`] does this too.
pub fn install_provider() {
    // A second time changes nothing.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
