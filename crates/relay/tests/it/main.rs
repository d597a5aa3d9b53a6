//! Tests of the crate `relay`: whole requests in memory, on a clock that does not run by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod access;
mod answers;
mod bad_input;
mod beside;
mod budgets;
mod callers;
mod cancel;
mod clocks;
mod composed;
mod cuts;
mod edits;
mod ends;
mod errors_in_replies;
mod estimates;
mod failover;
mod failures;
mod feedback;
mod forms;
mod forward;
mod headers;
mod idempotency;
mod idempotency_ends;
mod language;
mod lasting;
mod limits;
mod mirrors;
mod models;
mod oversized;
mod panics;
mod paths;
mod records;
mod requests;
mod resumed;
mod resumed_counts;
mod resumed_not;
mod rules;
mod scripted;
mod single_flight;
mod single_flight_callers;
mod streams;
mod upstream_errors;
mod usage;
mod waiting;
mod world;
