//! Budgets: money per period, reserved before it is spent.
//!
//! An [`Account`] holds what a [`Budget`] has left. A request reserves the most that it can cost,
//! and settles with what it did cost.

mod account;
mod config;
mod period;

pub use account::{Account, Exhausted, KeyShare, Standing};
pub use config::{Budget, Budgets, OnExhausted};
pub use period::{Period, Span};
