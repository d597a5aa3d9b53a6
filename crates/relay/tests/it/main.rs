//! Tests of the crate `relay`: whole requests in memory, on a clock that does not run by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod access;
mod answers;
mod bad_input;
mod cancel;
mod clocks;
mod cuts;
mod edits;
mod ends;
mod errors_in_replies;
mod failures;
mod forms;
mod forward;
mod headers;
mod language;
mod models;
mod oversized;
mod paths;
mod records;
mod requests;
mod scripted;
mod streams;
mod upstream_errors;
mod usage;
mod world;
