//! Ids and names: made here, or chosen by the owner.

use std::sync::{Mutex, PoisonError};

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

/// A new id: `key_` and 22 digits and letters, that sort in the order in which they were made and
/// cannot be guessed: 48 bits of milliseconds and 80 random ones.
///
/// # Errors
/// [`Code::Failed`] if there is no randomness.
pub(crate) fn new_id(prefix: &str, now_ms: u64) -> Result<String, Fault> {
    let mut number = new_number(now_ms)?;
    let mut digits = [0; 22];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(number % 62).unwrap_or_default()];
        number /= 62;
    }
    let mut id = format!("{prefix}_");
    id.extend(digits.map(char::from));
    Ok(id)
}

/// What the next id is made of. Within a millisecond, or when the clock was set back, it is a random
/// step of up to 64 bits behind the one before, so that lists by id are lists by time.
fn new_number(now_ms: u64) -> Result<u128, Fault> {
    static LAST: Mutex<u128> = Mutex::new(0);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&random::<10>()?);
    let step = u128::from(u64::from_be_bytes(random()?)) + 1;
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = u128::from_be_bytes(bytes).max(last.saturating_add(step));
    Ok(*last)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_in_the_order_in_which_they_were_made() {
        let made: Vec<String> = [7_000_000_000_000, 7_000_000_000_000, 6_999_999_999_000]
            .into_iter()
            .flat_map(|ms| (0..1_000).filter_map(move |_| new_id("key", ms).ok()))
            .collect();
        assert_eq!(made.len(), 3_000);
        assert!(made.is_sorted_by(|earlier, later| earlier < later));
    }
}
