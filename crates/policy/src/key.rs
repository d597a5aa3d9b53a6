//! Virtual keys: their form, and the digest that stands for them everywhere.
//!
//! A key is shown once, when it is made. What is kept is a [`Digest`] under the [`Pepper`] of this
//! installation, so that a copied database opens nothing, and the last four characters. Nothing
//! here prints a key: [`KeyText`] has no `Debug` or `Display`.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use aws_lc_rs::{constant_time, digest, hmac};

/// What a caller's key begins with.
pub const CALLER: &str = "mk-";
/// What a token of the admin API begins with.
pub const ADMIN: &str = "mat-";

/// Base 62 digits that hold 256 bits.
const BODY: usize = 43;
/// Base 62 digits that hold 32 bits.
const CHECK: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The text of a key: a prefix, 43 characters that hold 256 random bits, and 6 characters of a
/// CRC-32 over all before them, by which a mistyped or invented key is told without a look-up.
#[derive(Clone)]
pub struct KeyText(Box<str>);

impl KeyText {
    /// A caller's key of these random bits.
    #[must_use]
    pub fn generate(random: [u8; 32]) -> Self {
        Self::with_prefix(CALLER, random)
    }

    /// A token of the admin API of these random bits.
    #[must_use]
    pub fn generate_admin(random: [u8; 32]) -> Self {
        Self::with_prefix(ADMIN, random)
    }

    /// Takes a text that has the form of a caller's key; `None` for any other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_key(text).then(|| Self(text.into()))
    }

    /// Takes a text that has the form of an admin token; `None` for any other.
    #[must_use]
    pub fn parse_admin(text: &str) -> Option<Self> {
        is_admin_token(text).then(|| Self(text.into()))
    }

    /// The text itself: to show it once, and to digest it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn with_prefix(prefix: &str, random: [u8; 32]) -> Self {
        let mut text = String::with_capacity(prefix.len() + BODY + CHECK);
        text.push_str(prefix);
        text.extend(base62::<BODY>(random).map(char::from));
        text.extend(check(text.as_bytes()).map(char::from));
        Self(text.into())
    }
}

/// Whether a text has the form of a caller's key. What it costs depends on the length alone.
#[must_use]
pub fn is_key(text: &str) -> bool {
    has_form(CALLER, text.as_bytes())
}

/// Whether a text has the form of an admin token. What it costs depends on the length alone.
#[must_use]
pub fn is_admin_token(text: &str) -> bool {
    has_form(ADMIN, text.as_bytes())
}

fn has_form(prefix: &str, text: &[u8]) -> bool {
    if text.len() != prefix.len() + BODY + CHECK {
        return false;
    }
    let (front, given) = text.split_at(prefix.len() + BODY);
    // Every character is looked at, whatever those before it are.
    let same = |wrong: u8, (a, b): (&u8, &u8)| wrong | (a ^ b);
    let prefixed = prefix.as_bytes().iter().zip(front).fold(0, same);
    let checked = check(front).iter().zip(given).fold(0, same);
    let digits = text[prefix.len()..].iter().fold(true, |all, c| all & c.is_ascii_alphanumeric());
    (prefixed | checked == 0) & digits
}

/// The checksum of all that stands before it.
fn check(front: &[u8]) -> [u8; CHECK] {
    base62(crc32fast::hash(front).to_be_bytes())
}

/// A big-endian number as base 62 digits, with zeros in front; the caller sees to it that it fits.
fn base62<const LENGTH: usize>(mut number: impl AsMut<[u8]>) -> [u8; LENGTH] {
    let mut text = [0; LENGTH];
    for digit in text.iter_mut().rev() {
        let mut rest = 0_u16;
        for byte in number.as_mut() {
            let value = rest << 8 | u16::from(*byte);
            // The rest is under 62, so the quotient is at most (61 * 256 + 255) / 62 = 255.
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        *digit = DIGITS[usize::from(rest)];
    }
    text
}

/// What people may be shown of a key: its last four characters. Empty for a text that has fewer
/// than twelve, of which four would be too much.
#[must_use]
pub fn last_four(text: &str) -> String {
    let length = text.chars().count();
    match length < 12 {
        true => String::new(),
        false => text.chars().skip(length - 4).collect(),
    }
}

/// The SHA-256 of a key, as a configuration file may hold it in place of the key.
#[must_use]
pub fn sha256(text: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
    bytes
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `sha256:` and 64 hexadecimal digits; `None` for anything else.
#[must_use]
pub fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix("sha256:")?;
    if hex.len() != 64 || !hex.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// The secret of this installation under which keys are digested.
#[derive(Clone)]
pub struct Pepper(hmac::Key);

impl Pepper {
    /// The pepper of these random bytes.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &random))
    }

    /// The digest of a key: HMAC-SHA256 of its SHA-256.
    #[must_use]
    pub fn digest(&self, text: &[u8]) -> Digest {
        self.upgrade(&sha256(text))
    }

    /// The digest of texts, one after the other: of no other list of texts is it the same.
    #[must_use]
    pub fn digest_of(&self, texts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        for text in texts {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.sign().as_ref());
        Digest(bytes)
    }

    /// The digest of the key that has this SHA-256.
    #[must_use]
    pub fn upgrade(&self, sha256: &[u8; 32]) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hmac::sign(&self.0, sha256).as_ref());
        Digest(bytes)
    }
}

/// What stands for a key in memory and in the database. Without the pepper nobody can aim at one,
/// so a map may take its first bytes for a hash.
#[derive(Clone, Copy, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The bytes, to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    /// A digest that was stored.
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl PartialEq for Digest {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        state.write_u64(u64::from_ne_bytes(first));
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// A map by digest, which hashes nothing again.
pub type DigestMap<V> = HashMap<Digest, V, BuildHasherDefault<AsItIs>>;

/// Takes the one number it is given for the hash.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
