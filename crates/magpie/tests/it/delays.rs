//! The added delay, measured beside a direct run in the same test.
//!
//! Without TCP_NODELAY on either side, events wait 40 ms for an acknowledgement that the peer
//! delays; a hundredth of that fails here.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::{Options, ScriptedUpstream};

use crate::client::Wire;
use crate::figures::{bound, percentile, within_bounds};
use crate::harness::Setup;
use crate::turn;

/// What Magpie may add, at the median and at the 99th percentile. In a debug build a request takes
/// more itself; that is still far from the 40 ms.
fn limits() -> [Duration; 2] {
    let millis = Duration::from_millis;
    [bound(millis(1), millis(3)), bound(millis(1), millis(8))]
}

/// From the stamps in the events to their arrival.
fn event_delays(address: SocketAddr, model: &str, count: usize) -> Vec<Duration> {
    let mut wire = Wire::connect(address);
    wire.chat(model, true);
    assert_eq!(wire.head().status, 200);
    let mut delays = Vec::new();
    while let Some(chunk) = wire.chunk().unwrap() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let text = String::from_utf8(chunk).unwrap();
        let stamps = text.split('@').filter_map(|stamp| stamp.parse::<u64>().ok());
        delays.extend(stamps.map(|stamp| now.saturating_sub(Duration::from_nanos(stamp))));
    }
    assert_eq!(delays.len(), count);
    delays
}

/// Whether the figures through Magpie are within the bounds of those without.
fn compared(direct: &[Duration], through: &[Duration]) -> Result<String, String> {
    let [limit_50, limit_99] = limits();
    let at = |percent| (percentile(direct, percent), percentile(through, percent));
    let ((direct_50, through_50), (direct_99, through_99)) = (at(50), at(99));
    let added_50 = through_50.saturating_sub(direct_50);
    let added_99 = through_99.saturating_sub(direct_99);
    let figures = format!(
        "p50 {direct_50:?} + {added_50:?}, p99 {direct_99:?} + {added_99:?}, \
         limits {limit_50:?}, {limit_99:?}"
    );
    if added_50 < limit_50 && added_99 < limit_99 { Ok(figures) } else { Err(figures) }
}

#[test]
fn an_event_is_delayed_by_less_than_a_millisecond() {
    let _alone = turn::alone();
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    for pattern in ["timed:250:3", "timed:40:20:2000"] {
        let count = pattern.split(':').nth(1).unwrap().parse().unwrap();
        within_bounds(&format!("delay of an event, {pattern}"), || {
            let direct = event_delays(upstream.address(), pattern, count);
            let through = event_delays(magpie.address, &format!("up/{pattern}"), count);
            compared(&direct, &through)
        });
    }
}

/// From sending a request to the first byte of its stream, one after the other on one connection.
fn first_bytes(address: SocketAddr, body: &str, count: usize) -> Vec<Duration> {
    let mut wire = Wire::connect(address);
    let request = crate::client::request("POST", crate::harness::CHAT, &[], body.as_bytes());
    (0..count)
        .map(|_| {
            let start = Instant::now();
            wire.send(&request);
            let head = wire.head();
            wire.chunk().unwrap().unwrap();
            let first = start.elapsed();
            wire.body(&head, "POST");
            first
        })
        .collect()
}

#[test]
fn the_first_event_is_delayed_by_less_than_a_millisecond() {
    let _alone = turn::alone();
    let upstream = ScriptedUpstream::start_with(Options { record: false, ..Options::default() });
    let magpie = Setup::of(&upstream.base_url()).start();
    for (what, padding, count) in [("of a small request", 10, 200), ("of 100 KB", 100_000, 100)] {
        let body = |model: &str| {
            let text = "a".repeat(padding);
            format!(
                r#"{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "{text}"}}]}}"#
            )
        };
        first_bytes(magpie.address, &body("up/events:2"), 20);
        within_bounds(&format!("delay of the first event {what}"), || {
            let direct = first_bytes(upstream.address(), &body("events:2"), count);
            let through = first_bytes(magpie.address, &body("up/events:2"), count);
            compared(&direct, &through)
        });
    }
}
