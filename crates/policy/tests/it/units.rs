//! Durations and sizes as people write them.

use std::time::Duration;

use policy::units::{duration, size};
use proptest::prelude::*;

#[test]
fn durations_have_a_unit() {
    for (text, millis) in [
        ("1ms", 1),
        ("500ms", 500),
        ("5s", 5_000),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("007s", 7_000),
        (" 30s ", 30_000),
        ("30 s", 30_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
}

#[test]
fn durations_that_are_none_say_so() {
    for (text, what) in [
        ("5", "is not a duration"),
        ("5d", "is not a duration"),
        ("5S", "is not a duration"),
        ("5 seconds", "is not a duration"),
        ("1.5s", "is not a duration"),
        ("1m30s", "is not a duration"),
        ("", "does not begin with a number"),
        ("s", "does not begin with a number"),
        ("-5s", "does not begin with a number"),
        ("０s", "does not begin with a number"),
        ("0s", "is out of range"),
        ("0ms", "is out of range"),
        ("18446744073709551615h", "is out of range"),
        ("99999999999999999999s", "does not begin with a number"),
    ] {
        let told = duration(text).unwrap_err();
        assert!(told.contains(what) && told.contains(text), "{text}: {told}");
    }
}

#[test]
fn sizes_have_a_unit() {
    for (text, bytes) in [
        ("1B", 1),
        ("64KiB", 65_536),
        ("64KB", 64_000),
        ("20MiB", 20 << 20),
        ("20MB", 20_000_000),
        ("1GiB", 1 << 30),
        ("1GB", 1_000_000_000),
        (" 5 MiB ", 5 << 20),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn sizes_that_are_none_say_so() {
    for (text, what) in [
        ("10", "is not a size"),
        ("10k", "is not a size"),
        ("10mb", "is not a size"),
        ("10TiB", "is not a size"),
        ("1.5MiB", "is not a size"),
        ("", "does not begin with a number"),
        ("MiB", "does not begin with a number"),
        ("-1B", "does not begin with a number"),
        ("0B", "is out of range"),
        ("18446744073709551615GiB", "is out of range"),
    ] {
        let told = size(text).unwrap_err();
        assert!(told.contains(what) && told.contains(text), "{text}: {told}");
    }
}

proptest! {
    #[test]
    fn any_number_with_a_unit_is_read_exactly(number in 1u64..1_000_000) {
        prop_assert_eq!(duration(&format!("{number}ms")), Ok(Duration::from_millis(number)));
        prop_assert_eq!(duration(&format!("{number}s")), Ok(Duration::from_secs(number)));
        prop_assert_eq!(duration(&format!("{number}m")), Ok(Duration::from_secs(number * 60)));
        prop_assert_eq!(size(&format!("{number}KiB")), Ok(usize::try_from(number << 10).unwrap()));
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_fault(text in "[0-9]{0,25}.{0,6}") {
        let _ = duration(&text);
        let _ = size(&text);
    }
}
