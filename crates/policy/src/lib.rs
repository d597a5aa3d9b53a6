//! What is allowed, and where it goes.
//!
//! The file as written ([`config`]) and the environment become one validated, immutable
//! [`Snapshot`]; a request reads the snapshot it found at its start to its end. This crate is pure:
//! no runtime, no clock, no files, and the environment is given to it as a map.

pub mod budget;
mod build;
pub mod config;
mod configured;
pub mod directory;
mod edits;
pub mod health;
pub mod host;
mod idempotency;
pub mod json;
pub mod jwt;
pub mod key;
mod language;
pub mod limit;
mod load;
pub mod money;
mod names;
pub mod plan;
mod planned;
mod prefill;
pub mod price;
mod problem;
mod provider;
pub mod queue;
mod resolve;
pub mod rules;
pub mod scope;
mod secret;
mod snapshot;
pub mod tls;
pub mod units;

pub use build::{build, build_beside};
pub use config::Config;
pub use edits::{EditPlan, Sent};
pub use idempotency::{IdempotencyConfig, Sharing};
pub use language::Language;
pub use load::{Environment, load};
pub use names::{UnknownModel, nearest};
pub use plan::Plan;
pub use prefill::Prefill;
pub use problem::{Place, Problem};
pub use provider::{Clocks, Forward, HttpVersions, Origin, Provider, Scheme};
pub use resolve::resolve;
pub use secret::Secret;
pub use snapshot::{Access, Admin, Callers, Keyless, Limits, Route, Settings, Snapshot};
