//! Dialects: bytes in, bytes out.
//!
//! A *dialect* is a wire protocol. This crate knows what bytes mean in each of them and nothing
//! else: it does no I/O, spawns nothing, reads no clock and no environment, so every function is
//! tested by giving it bytes.
//!
//! * [`envelope`] maps the top level of a JSON object to byte spans and splices edits into it, so
//!   that every byte nobody asked to change leaves as it came.
//! * [`sse`] finds where server-sent events end, however the bytes were cut.
//! * [`reply`] reads the little that Magpie must know of an answer: did it end, did it fail, what
//!   did it use.
//! * [`said`] reads the text of an answer, for those who compare answers.
//! * [`delta`] takes a chunk of a chat stream apart, where an answer is put together from two streams.
//! * [`usage`] is token counts under one convention.
//! * [`dialects`] holds one module per protocol.

pub mod delta;
pub mod dialects;
pub mod envelope;
mod json;
pub mod multipart;
pub mod reply;
pub mod said;
pub mod splice;
pub mod sse;
pub mod usage;

pub use envelope::{Envelope, Kind, Malformed, Problem, Value};
pub use splice::{Edit, splice};
pub use usage::Usage;
