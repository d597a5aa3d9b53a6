//! Request ids: unique, in the order of time, and nobody's secret.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use http::HeaderValue;

/// The id of a request: `req_` and 32 hexadecimal digits, of which the first 12 are milliseconds
/// since 1970, so that ids sort by time as UUIDv7 do (RFC 9562).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; Self::LENGTH]);

impl RequestId {
    const LENGTH: usize = 36;

    /// A new id.
    #[must_use]
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(since.as_millis()).unwrap_or_default() << 16;
        let (high, low) = (time | (random() & 0xffff), random());
        let mut id = [0; Self::LENGTH];
        id[..4].copy_from_slice(b"req_");
        for (index, digit) in id[4..].iter_mut().enumerate() {
            let word = if index < 16 { high } else { low };
            let nibble = word >> (60 - 4 * (index % 16)) & 0xf;
            *digit = b"0123456789abcdef"[nibble as usize];
        }
        Self(id)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Hexadecimal digits are always text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// As the value of a header.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// SplitMix64 from a seed of the operating system's, one sequence a thread: ids have to be unique,
/// not unguessable.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
