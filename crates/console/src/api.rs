//! What stands behind the routes.

pub mod about;
pub mod admins;
pub mod audit;
mod grants;
pub mod groups;
pub mod keys;
pub mod metrics;
pub mod mirrors;
pub mod models;
pub mod plans;
pub mod reporting;
pub mod standing;

use crate::fault::Fault;

/// The longest text to search for, in bytes.
const MAX_SEARCH: usize = 64;

/// Takes a text to search for in names. It is no pattern: every sign stands for itself.
fn search(text: Option<String>) -> Result<Option<String>, Fault> {
    match text {
        Some(text) if text.len() > MAX_SEARCH => {
            Err(Fault::field("search", format!("`search` is at most {MAX_SEARCH} bytes long.")))
        }
        text => Ok(text),
    }
}
