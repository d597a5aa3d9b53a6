//! When to come again, in every dialect.

use http::{HeaderMap, HeaderName};
use policy::health::{LONGEST_WAIT_MS, retry_after_ms};
use proptest::prelude::*;

/// 2026-11-22 22:30:00 UTC, a Sunday.
const NOW: u64 = 1_795_386_600_000;

fn read(headers: &[(&str, &str)]) -> Option<u64> {
    let pairs = headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
    retry_after_ms(&pairs.collect::<HeaderMap>(), NOW)
}

#[test]
fn every_dialect_is_understood() {
    for (headers, expected) in [
        (&[][..], None),
        (&[("retry-after", "7")], Some(7_000)),
        (&[("retry-after", "1.5")], Some(1_500)),
        (&[("retry-after", "0")], Some(0)),
        (&[("retry-after", "-1")], Some(0)),
        (&[("retry-after", "1000000000")], Some(LONGEST_WAIT_MS)),
        (&[("retry-after", "1e300")], Some(LONGEST_WAIT_MS)),
        (&[("retry-after", "Sun, 22 Nov 2026 22:31:00 GMT")], Some(60_000)),
        (&[("retry-after", "Sun, 22 Nov 2026 22:29:00 GMT")], Some(0)),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "NaN")], None),
        (&[("retry-after", "")], None),
        (&[("retry-after-ms", "250"), ("retry-after", "1")], Some(250)),
        (&[("retry-after-ms", "?"), ("retry-after", "1")], Some(1_000)),
        (
            &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1m2.5s")],
            Some(62_500),
        ),
        (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "20ms")], Some(20)),
        (&[("x-ratelimit-remaining-tokens", "9"), ("x-ratelimit-reset-tokens", "20ms")], None),
        (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6w")], None),
        (
            &[
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-requests-reset", "2026-11-22T22:30:30Z"),
            ],
            Some(30_000),
        ),
        (&[("x-ratelimit-reset", "12")], Some(12_000)),
        (&[("x-ratelimit-reset", "1795386612")], Some(12_000)),
        (&[("x-ratelimit-reset", "1795386612000")], Some(12_000)),
    ] {
        assert_eq!(read(headers), expected, "{headers:?}");
    }
}

proptest! {
    #[test]
    fn no_text_does_harm(
        name in prop::sample::select(vec![
            "retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-tokens",
            "anthropic-ratelimit-tokens-reset",
        ]),
        value in "[ -~]{0,24}|[0-9.eE+-]{0,24}|[0-9hms.]{0,24}",
        now: u64,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-remaining-tokens", "0".parse().unwrap());
        headers.insert("anthropic-ratelimit-tokens-remaining", "0".parse().unwrap());
        headers.insert(name, value.parse().unwrap());
        let wait = retry_after_ms(&headers, now);
        prop_assert!(wait.is_none_or(|wait| wait <= LONGEST_WAIT_MS));
    }
}
