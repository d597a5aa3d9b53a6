//! The built binary as a real process: real sockets, real signals, real files.
//!
//! What each module needs is in `harness`; `turn` keeps tests that measure time apart.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may panic, and show what they measured"
)]

mod access;
mod acme;
mod api;
mod attempts;
mod bearers;
mod beside;
mod budgets;
mod busy;
mod checks;
mod cli;
mod client;
mod composed;
mod connections;
mod delays;
mod experiments;
mod explain;
mod failover;
mod faults;
mod figures;
mod first_minute;
mod forward_plans;
mod forwarding;
mod framing;
mod full_disk;
mod h2_client;
mod h2_faults;
mod h2_upstream;
mod harness;
mod http2;
mod key_commands;
mod keys;
mod killed;
mod leaving;
mod ledger;
mod log;
mod metrics;
mod mirrors;
mod outages;
mod pages;
mod plans;
mod pool;
mod queues;
mod raw;
mod reload;
mod resumed;
mod secrets;
mod shared;
mod shutdown;
mod slow_client;
mod splits;
mod streams;
mod tls;
mod tls_client;
mod tls_listener;
mod turn;
mod unit;
mod windows;
