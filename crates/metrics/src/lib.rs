//! Numbers of what happens, and how they are told to those who ask.
//!
//! The [catalogue] holds every metric once, with its documentation. A [`Count`] or a [`Histogram`]
//! is written by one thread, for the price of a store, and read by any. An [`Exposition`] writes
//! them in the text formats of Prometheus and OpenMetrics. Nothing here knows a request, a clock
//! or the network.

pub mod catalogue;
mod count;
mod exposition;
mod histogram;

pub use catalogue::{Family, Kind};
pub use count::Count;
pub use exposition::{Exposition, Form, Samples, Value};
pub use histogram::{Histogram, MOST_BUCKETS, Scale, Total};
