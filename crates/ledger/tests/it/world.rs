//! Ledgers and records for tests.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ledger::{
    Amount, Attempt, Bill, Closing, Cost, Estimate, Filter, Ledger, Line, Opening, Options,
    Provenance, Reader, Recovered, RequestId, Tokens, Who,
};
use tempfile::TempDir;

/// 2026-11-22, 10:00:00 UTC.
pub(crate) const NOON: u64 = 1_795_341_600_000;

pub(crate) const LINES: [Line<'static>; 2] = [
    Line { bucket: "input", count: 1200, nanos_per_million: 250_000_000 },
    Line { bucket: "output", count: 300, nanos_per_million: 2_000_000_000 },
];

/// A ledger that ships only when told to.
pub(crate) fn options(folder: &Path) -> Options {
    Options { ship_every: Duration::from_secs(1 << 30), ..Options::new(folder) }
}

pub(crate) fn open(options: &Options) -> (Ledger, Recovered) {
    Ledger::open(options, &mut Estimate::reserved).unwrap()
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn id(number: u64) -> RequestId {
    id_at(NOON + number, number)
}

pub(crate) fn id_at(at_ms: u64, number: u64) -> RequestId {
    RequestId(((u128::from(at_ms) << 80) | u128::from(number)).to_be_bytes())
}

pub(crate) fn opening(number: u64) -> Opening<'static> {
    Opening {
        id: id(number),
        attempt: 1,
        at_ms: NOON + number,
        who: Who { key: Some("key_a"), user: Some("ann"), team: Some("red"), org: Some("acme") },
        operation: "chat",
        model: "smart",
        provider: "openai",
        upstream_model: "gpt-5-mini",
        stream: number.is_multiple_of(2),
        input_estimate: 1234,
        max_output: Some(4096),
        reserved: Some(Amount { nanos: 8_500_000, currency: "USD" }),
    }
}

pub(crate) fn closing(number: u64) -> Closing<'static> {
    Closing {
        id: id(number),
        attempt: 1,
        at_ms: NOON + number + 1500,
        last_of: Some(1),
        status: 200,
        outcome: "complete",
        fault: None,
        tokens: Tokens { input: 1200, output: 300, ..Tokens::default() },
        provenance: Provenance::Reported,
        bill: Bill::Charge(Amount { nanos: 900_000, currency: "USD" }),
        first_event_us: Some(400_123),
        total_us: 1_500_321,
        overhead_us: 87,
        events: 301,
        lines: &LINES,
    }
}

pub(crate) fn usd(nanos: u64) -> Cost {
    Cost { nanos, currency: "USD".into() }
}

/// Every attempt in the database, in the order in which they ended.
pub(crate) fn attempts(reader: &Reader) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let each = |attempt: &Attempt| {
        attempts.push(attempt.clone());
        Ok(())
    };
    reader.attempts(&Filter::default(), each).unwrap();
    attempts
}

/// Requests, attempts and nanos, as the sums have them.
pub(crate) fn totals(reader: &Reader) -> (u64, u64, u64) {
    let usage = reader.usage(&Filter::default(), &[], &jiff::tz::TimeZone::UTC).unwrap();
    let nanos = |costs: &[Cost]| costs.iter().map(|cost| cost.nanos).sum();
    usage.first().map_or((0, 0, 0), |usage| (usage.requests, usage.attempts, nanos(&usage.costs)))
}

/// What a machine would find if the process died now.
pub(crate) fn crash(folder: &Path) -> TempDir {
    let copy = self::folder();
    copy_files(folder, copy.path());
    fs::create_dir(copy.path().join("journal")).unwrap();
    copy_files(&folder.join("journal"), &copy.path().join("journal"));
    copy
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// The journal's segments, in order.
pub(crate) fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .collect();
    paths.sort();
    paths
}
