//! Request ids: unique, in the order of time, and nobody's secret.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use http::HeaderValue;

/// The id of a request: `req_` and 32 hexadecimal digits, of which the first 12 are milliseconds
/// since 1970, so that ids sort by time as UUIDv7 do (RFC 9562).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    /// Characters of its text.
    const LENGTH: usize = 36;

    /// A new id, now.
    #[must_use]
    pub fn new() -> Self {
        Self::at(SystemTime::now())
    }

    /// A new id of a request that came at this time.
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(since.as_millis()).unwrap_or_default() << 16;
        let (high, low) = (time | (random() & 0xffff), random());
        Self(u128::from(high) << 64 | u128::from(low))
    }

    /// When it was made, in whole milliseconds.
    pub(crate) fn time(self) -> SystemTime {
        let ms = u64::try_from(self.0 >> 80).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    /// Reads an id as it is told to clients; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("req_")?;
        let is_hex = digits.bytes().all(|digit| DIGITS.contains(&digit));
        let number = u128::from_str_radix(digits, 16).ok()?;
        (is_hex && text.len() == Self::LENGTH).then_some(Self(number))
    }

    /// As bytes, which sort as the ids do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The random bits in it.
    pub(crate) fn random(self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.to_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The id of the copy of this request: the same time, and every random digit turned round. The
    /// id of the copy's copy is this one again, so that each of the two tells the other.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self(self.0 ^ u128::from(u64::MAX))
    }

    /// As the value of a header.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        // Letters and digits are always a value.
        HeaderValue::from_bytes(&self.text()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    fn text(&self) -> [u8; Self::LENGTH] {
        let mut text = [0; Self::LENGTH];
        text[..4].copy_from_slice(b"req_");
        for (digits, byte) in text[4..].chunks_exact_mut(2).zip(self.to_bytes()) {
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 0xf)];
        }
        text
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
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
