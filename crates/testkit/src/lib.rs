//! Test kit: a scripted OpenAI-compatible upstream over real sockets that misbehaves at byte
//! level on request, and the load generator of the benches. Never part of the shipped product.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a developer's tool: a failure here is a broken test and should stop it loudly"
)]

pub mod load;
mod upstream;

pub use upstream::options::Options;
pub use upstream::record::{Outcome, Received};
pub use upstream::render::{
    CACHED_TOKENS, CREATED, DEFAULT_PIECES, DEFAULT_TEXT, PROMPT_TOKENS, digest_text, fnv1a64,
};
pub use upstream::{Refused, ScriptedUpstream};
