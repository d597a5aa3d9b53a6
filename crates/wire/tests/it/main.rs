//! Tests of the crate `wire`, one module per subject: bytes in, bytes out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod corpus;
mod delta;
mod envelope;
mod envelope_faults;
mod golden;
mod multipart;
mod never_loses;
mod reply;
mod reply_errors;
mod said;
mod splice;
mod sse;
mod strategies;
mod usage;
