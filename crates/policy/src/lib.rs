//! What is allowed, and where it goes.
//!
//! The file as written ([`config`]) and the environment become one validated, immutable
//! [`Snapshot`]; a request reads the snapshot it found at its start to its end. This crate is pure:
//! no runtime, no clock, no files, and the environment is given to it as a map.

mod build;
pub mod config;
mod edits;
mod load;
mod names;
mod problem;
mod provider;
mod secret;
mod snapshot;
pub mod units;

pub use build::build;
pub use config::Config;
pub use edits::EditPlan;
pub use load::{Environment, load};
pub use names::nearest;
pub use problem::{Place, Problem};
pub use provider::{Clocks, Forward, HttpVersions, Origin, Provider, Scheme};
pub use secret::Secret;
pub use snapshot::{Access, Limits, Route, Settings, Snapshot, UnknownModel};
