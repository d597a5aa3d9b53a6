//! Tests of money and prices: amounts, charges, ceilings, the table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod charges;
mod money;
mod table;
mod written;
