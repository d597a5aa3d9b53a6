//! Which Magpie this is.

/// The version of the release, from the workspace.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How it calls itself where it asks for itself.
pub(crate) const USER_AGENT: &str = concat!("magpie/", env!("CARGO_PKG_VERSION"));
