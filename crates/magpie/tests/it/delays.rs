//! The added delay, measured beside a direct run in the same test.
//!
//! Without TCP_NODELAY, what is written behind something small waits up to 40 ms for an
//! acknowledgement that the peer delays. It does so on a connection that goes back and forth, which
//! is why there are several exchanges on each.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::{Options, ScriptedUpstream};

use crate::client::{Wire, request};
use crate::figures::{bound, percentile, within_bounds};
use crate::harness::{CHAT, PATIENCE, Setup};
use crate::raw::{RawUpstream, detour, ok};
use crate::turn;

/// What Magpie may add, at the median and at the 99th percentile. In a debug build a request takes
/// more itself; that is still far from the 40 ms.
fn limits() -> [Duration; 2] {
    let millis = Duration::from_millis;
    [bound(millis(1), millis(3)), bound(millis(1), millis(8))]
}

/// The time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// How long ago the stamps in a text were written.
fn ages(text: &[u8]) -> Vec<Duration> {
    let now = now();
    let text = String::from_utf8_lossy(text);
    let stamps = text.split('@').filter_map(|stamp| stamp.parse::<u64>().ok());
    stamps.map(|stamp| now.saturating_sub(Duration::from_nanos(stamp))).collect()
}

/// From the stamps in the events to their arrival, over so many streams on one connection.
fn event_delays(address: SocketAddr, model: &str, streams: usize) -> Vec<Duration> {
    let mut wire = Wire::connect(address);
    let mut delays = Vec::new();
    for _ in 0..streams {
        wire.chat(model, true);
        assert_eq!(wire.head().status, 200);
        while let Some(chunk) = wire.chunk().unwrap() {
            delays.extend(ages(&chunk));
        }
    }
    let events: usize = model.split(':').nth(1).unwrap().parse().unwrap();
    assert_eq!(delays.len(), events * streams);
    delays
}

/// Whether the figures through Magpie are within the bounds of those without.
fn judged(direct: &[Duration], through: &[Duration]) -> Result<String, String> {
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

/// The same; but where a plain detour costs more than the bounds, because the machine is busy, what
/// counts is what Magpie adds to that.
fn compared(
    direct: &[Duration],
    through: &[Duration],
    detoured: impl FnOnce() -> Vec<Duration>,
) -> Result<String, String> {
    judged(direct, through).or_else(|figures| {
        judged(&detoured(), through)
            .map(|busy| format!("beside a detour {busy}"))
            .map_err(|busy| format!("{figures}, beside a detour {busy}"))
    })
}

#[test]
fn an_event_is_delayed_by_less_than_a_millisecond() {
    let _alone = turn::alone();
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    let detour = detour([127, 0, 0, 1], upstream.address());
    for (pattern, streams) in [("timed:250:3", 1), ("timed:40:20:2000", 1), ("timed:3:5", 60)] {
        within_bounds(&format!("delay of an event, {pattern}"), || {
            let direct = event_delays(upstream.address(), pattern, streams);
            let through = event_delays(magpie.address, &format!("up/{pattern}"), streams);
            compared(&direct, &through, || event_delays(detour.address(), pattern, streams))
        });
    }
}

/// From sending a request to the first byte of its stream, one after the other on one connection.
fn first_bytes(address: SocketAddr, body: &str, count: usize) -> Vec<Duration> {
    let mut wire = Wire::connect(address);
    let request = request("POST", CHAT, &[], body.as_bytes());
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
    let detour = detour([127, 0, 0, 1], upstream.address());
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
            compared(&direct, &through, || first_bytes(detour.address(), &body("events:2"), count))
        });
    }
}

/// Pieces of an upload, and bytes of each.
const PIECES: usize = 4;
const PIECE: usize = 200;

/// Sends uploads in pieces with a pause between them, one after the other on one connection; the
/// upstream tells how long the pieces took.
fn upload_delays(
    address: SocketAddr,
    told: &mpsc::Receiver<Vec<Duration>>,
    uploads: usize,
) -> Vec<Duration> {
    let mut wire = Wire::connect(address);
    let length = (PIECES * PIECE).to_string();
    let headers = [("x-magpie-provider", "up"), ("content-length", &*length)];
    let mut delays = Vec::new();
    for _ in 0..uploads {
        wire.send(&request("POST", "/v1/files", &headers, b""));
        for _ in 0..PIECES {
            std::thread::sleep(Duration::from_millis(5));
            wire.send(format!("{:<PIECE$}", format!("@{}@", now().as_nanos())).as_bytes());
        }
        assert_eq!(wire.reply().status(), 200);
    }
    while delays.len() < uploads * PIECES {
        delays.extend(told.recv_timeout(PATIENCE).unwrap());
    }
    delays
}

#[test]
fn a_piece_of_an_upload_is_delayed_by_less_than_a_millisecond() {
    let _alone = turn::alone();
    let (tell, told) = mpsc::channel();
    let upstream = RawUpstream::start(move |mut peer, _| {
        while peer.head().is_some() {
            let mut total = 0;
            while total < PIECES * PIECE {
                let Some(piece) = peer.read() else { return };
                let _ = tell.send(ages(&piece));
                total += piece.len();
            }
            peer.write(ok("{}"));
        }
    });
    let magpie = Setup::of(&upstream.base_url()).start();
    let detour = detour([127, 0, 0, 1], upstream.address());
    within_bounds("delay of a piece of an upload", || {
        let direct = upload_delays(upstream.address(), &told, 40);
        let through = upload_delays(magpie.address, &told, 40);
        compared(&direct, &through, || upload_delays(detour.address(), &told, 40))
    });
}
