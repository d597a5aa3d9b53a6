//! The ledger from outside: what is written is in the database once, whatever happens in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]
#![allow(clippy::print_stderr, reason = "figures, and what had to be skipped")]

mod disk_full;
mod export;
mod feedback;
mod kill;
mod paging;
mod recovery;
mod retention;
mod round_trip;
mod speed;
mod sums;
mod syncing;
mod variants;
mod world;
mod writers;
