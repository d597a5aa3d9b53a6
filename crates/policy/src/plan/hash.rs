//! Hashes that are the same everywhere and in every version: which side of a split a caller is on
//! must not change with a restart, and must be the same on every replica.

/// FNV-1a over 64 bits, with a finalizer that spreads what FNV leaves together.
pub(crate) struct Hash64;

impl Hash64 {
    /// The hash of a text of some kind.
    pub(crate) fn of(kind: &str, text: &str) -> u64 {
        Self::of_bytes(kind, text.as_bytes())
    }

    /// The hash of bytes of some kind.
    pub(crate) fn of_bytes(kind: &str, bytes: &[u8]) -> u64 {
        let all = kind.bytes().chain([0]).chain(bytes.iter().copied());
        let folded = all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        mixed(folded)
    }
}

/// Spreads every bit over all others (the finalizer of SplitMix64).
pub(crate) fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// How much a caller is drawn to a member, as far as its weight does not count: a number between 0
/// and 1, both excluded.
pub(crate) fn liking(caller: u64, member: u64) -> f64 {
    unit(mixed(mixed(caller ^ mixed(member))))
}

/// How much a caller is drawn to a member (weighted rendezvous hashing): more with each of the two.
/// The member with the highest pull is the caller's. To change one weight moves callers only to or
/// from that member, and to take a member away moves only its own.
pub(crate) fn pull(liking: f64, weight: u32) -> f64 {
    -f64::from(weight) / liking.ln()
}

/// A number between 0 and 1, both excluded.
pub(crate) fn unit(word: u64) -> f64 {
    ((word >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}
