//! Which Magpie this is.

/// The version of the release, from the workspace.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
