//! What happened, and what it cost.
//!
//! Each attempt is written to a [journal](Writer) before it is sent, and again before the last byte
//! of its answer leaves: two writes to the page cache. A thread brings the records to a database,
//! where [sums](Reader::usage) are kept by minute, hour and day. What a process that died left in
//! the journal is brought to the database by the next: an attempt that was never closed is recorded
//! as [lost](LOST), at an [estimate](Estimate).
//!
//! Nothing here knows a provider, a key or a price: names and amounts come in and are kept.

mod error;
mod journal;
mod ledger;
mod pair;
mod read;
mod record;
mod segment;
mod ship;
mod store;
mod sync;
mod tail;

pub use error::{Error, Result};
pub use journal::{Sync, Writer};
pub use ledger::{Flusher, Gauge, Ledger, Options, Recovered, Status};
pub use pair::{Estimate, LOST};
pub use read::*;
pub use record::*;
pub use store::Retention;
pub use sync::Durable;
