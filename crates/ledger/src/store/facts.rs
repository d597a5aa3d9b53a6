//! The facts of an attempt, as one blob: many columns would cost three times as much.
//!
//! A closing record's rest goes in as it stands in the journal, behind the little that is taken
//! from the opening.

use postcard::take_from_bytes;
use serde::{Deserialize, Serialize};

use crate::segment::{Ending, ending};

/// The form of the blob, its first byte.
const FORM: u8 = 1;

/// What an attempt's opening has said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// From the opening to the closing.
    pub(crate) took_ms: u64,
    pub(crate) stream: bool,
    pub(crate) input_estimate: u64,
}

/// Appends the blob.
pub(crate) fn pack(begun: &Begun, ending: &[u8], blobs: &mut Vec<u8>) {
    // Two numbers of at most ten bytes, and a flag.
    let mut buffer = [0; 21];
    blobs.push(FORM);
    blobs.extend_from_slice(postcard::to_slice(begun, &mut buffer).unwrap_or_default());
    blobs.extend_from_slice(ending);
}

/// Reads a blob: what began, how it ended, and the lines of the bill.
pub(crate) fn unpack(blob: &[u8]) -> Option<(Begun, Ending<'_>, &[u8])> {
    let (begun, rest) = take_from_bytes(blob.strip_prefix(&[FORM])?).ok()?;
    let (ending, lines) = ending(rest)?;
    Some((begun, ending, lines))
}

/// A number as SQLite keeps it.
pub(crate) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
