//! Who hosts models: one data file per provider, and nothing but data.
//!
//! A *profile* says where a provider lives, how it wants to be asked and what is odd about it. The
//! files stand in `data/`, are embedded in the binary and are read once at start. Adding an
//! OpenAI-compatible provider is adding a file; what no field here can express becomes a new field,
//! never an `if` somewhere else.
//!
//! This crate does no I/O and reads no environment: it names the variables, others read them.

mod profile;

pub use profile::{
    Auth, Cause, Edits, Env, ErrorRule, Headers, Http, Prefill, Profile, StreamUsage, Timeouts,
};

/// The embedded files: name without ending, and text.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// A data file that does not hold a profile. Only a developer can see it: a test loads them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadProfile {
    /// The file's name without its ending.
    pub id: String,
    /// What is wrong, with line and column.
    pub problem: String,
}

impl std::fmt::Display for BadProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "profile {}: {}", self.id, self.problem)
    }
}

impl std::error::Error for BadProfile {}

/// Every built-in profile, by id in alphabetical order.
///
/// # Errors
/// [`BadProfile`] for the first file that does not parse.
pub fn builtin() -> Result<Vec<(String, Profile)>, BadProfile> {
    FILES.iter().map(|(id, text)| Ok((String::from(*id), parse(id, text)?))).collect()
}

/// Reads one profile's text.
///
/// # Errors
/// [`BadProfile`] with the place of the fault.
pub fn parse(id: &str, text: &str) -> Result<Profile, BadProfile> {
    serde_saphyr::from_str(text)
        .map_err(|fault| BadProfile { id: id.to_owned(), problem: fault.to_string() })
}
