//! Tests of the crate `policy`: a text and an environment in, a snapshot or problems out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod base_urls;
mod build_problems;
mod clocks;
mod discovery;
mod edits;
mod given;
mod listed;
mod load_problems;
mod mutations;
mod nearest;
mod provider_problems;
mod providers;
mod references;
mod routing;
mod routing_properties;
mod secrets;
mod settings;
mod units;
