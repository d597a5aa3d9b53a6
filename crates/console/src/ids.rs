//! Ids and names: made here, or chosen by the owner.

use aws_lc_rs::rand;

use crate::fault::{Code, Fault};

/// The longest id, in bytes: a user's id may be the subject of a token.
const MAX_ID: usize = 128;
/// The longest name, in bytes, as the directory takes it.
const MAX_NAME: usize = 128;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random bytes of the operating system's generator.
///
/// # Errors
/// [`Code::Failed`] if it has none.
pub(crate) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Fault> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).map_err(|_| Fault::new(Code::Failed, "There is no randomness."))?;
    Ok(bytes)
}

/// A new id: `key_` and 22 digits and letters, that sort by time and cannot be guessed: 48 bits of
/// milliseconds and 80 random ones.
///
/// # Errors
/// [`Code::Failed`] if there is no randomness.
pub(crate) fn new_id(prefix: &str, now_ms: u64) -> Result<String, Fault> {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&random::<10>()?);
    let mut number = u128::from_be_bytes(bytes);
    let mut digits = [0; 22];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(number % 62).unwrap_or_default()];
        number /= 62;
    }
    let mut id = format!("{prefix}_");
    id.extend(digits.map(char::from));
    Ok(id)
}

/// Whether a text can be an id: letters, digits, and some signs that need no quoting anywhere.
#[must_use]
pub(crate) fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@|:+".contains(&byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    first && text.len() <= MAX_ID && text.bytes().all(allowed)
}

/// Takes an id that somebody chose.
///
/// # Errors
/// [`Code::InvalidField`].
pub(crate) fn chosen_id(id: String) -> Result<String, Fault> {
    if is_id(&id) {
        return Ok(id);
    }
    let message = format!(
        "An id begins with a letter or digit, has letters, digits and . _ - @ | : + and is at most \
         {MAX_ID} long."
    );
    Err(Fault::field("id", message))
}

/// Takes a name.
///
/// # Errors
/// [`Code::InvalidField`].
pub(crate) fn name(name: String) -> Result<String, Fault> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let message = format!("A name has 1 to {MAX_NAME} bytes, and no control characters.");
        return Err(Fault::field("name", message));
    }
    Ok(name)
}
