//! Tests of the crate `policy`: a text and an environment in, a snapshot or problems out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod base_urls;
mod breaker;
mod budget_periods;
mod budget_shares;
mod budgets;
mod budgets_at_once;
mod budgets_config;
mod budgets_model;
mod build_problems;
mod callers;
mod clocks;
mod codes;
mod credentials;
mod directory;
mod discovery;
mod edits;
mod explaining;
mod given;
mod health_at_once;
mod hidden_problems;
mod https;
mod leases;
mod limits;
mod limits_at_once;
mod limits_config;
mod listed;
mod load_problems;
mod mutations;
mod namesakes;
mod nearest;
mod plans_balanced;
mod plans_picked;
mod plans_sides;
mod plans_simulated;
mod plans_written;
mod provider_problems;
mod providers;
mod references;
mod retries;
mod routing;
mod routing_properties;
mod secrets;
mod settings;
mod units;
