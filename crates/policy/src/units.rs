//! Durations and sizes, as people write them: `30s`, `2m`, `500ms`, `64KiB`, `20MB`.

use std::time::Duration;

/// Reads a duration: a whole number and `ms`, `s`, `m` or `h`.
///
/// # Errors
/// A sentence that says what is wrong, for a value without a unit, with another unit, or zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!("`{text}` is not a duration; write for example 500ms, 30s, 2m"));
        }
    };
    match number.checked_mul(milliseconds) {
        Some(0) | None => Err(format!("`{text}` is out of range")),
        Some(total) => Ok(Duration::from_millis(total)),
    }
}

/// Reads a size in bytes: a whole number and `B`, `KB`, `MB`, `KiB` or `MiB`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            return Err(format!("`{text}` is not a size; write for example 64KiB, 20MB"));
        }
    };
    number
        .checked_mul(bytes)
        .filter(|total| *total > 0)
        .and_then(|total| usize::try_from(total).ok())
        .ok_or_else(|| format!("`{text}` is out of range"))
}

/// Whole milliseconds.
#[must_use]
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse();
    number
        .map(|number| (number, text[digits..].trim_start()))
        .map_err(|_| format!("`{text}` does not begin with a number"))
}
