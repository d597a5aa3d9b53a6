//! The admin API over its router: who may do what, who sees what, and what never leaves it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod audit;
mod canary;
mod door;
mod doors;
mod fields;
mod file_keys;
mod grants;
mod harness;
mod hostile;
mod life;
mod matrix;
mod metrics;
mod mirrors;
mod models;
mod openapi;
mod paging;
mod plans;
mod reporting;
mod start;
mod tenancy;
