//! Tokens of other issuers: what is taken, and everything that somebody has got past a verifier.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod attacks;
mod claims;
mod configuration;
mod given;
mod key_sets;
mod mutations;
