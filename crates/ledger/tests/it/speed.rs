//! Bounds that a busy machine still keeps; figures come from the example `cost`.

use std::time::{Duration, Instant};

use ledger::Options;

use crate::world::{attempts, closing, crash, folder, open, opening, options, totals};

#[test]
fn a_hundred_thousand_records_are_recovered_soon() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for number in 0..50_000 {
        writer.opening(&opening(number)).unwrap();
        writer.closing(&closing(number)).unwrap();
    }
    let crashed = crash(folder.path());
    let begun = Instant::now();
    let (ledger, recovered) = open(&options(crashed.path()));
    let took = begun.elapsed();
    eprintln!("100,000 records (50,000 requests) recovered in {took:?}");
    assert_eq!(recovered.attempts, 50_000);
    let bound = if cfg!(debug_assertions) { 30 } else { 2 };
    assert!(took < Duration::from_secs(bound), "{took:?}");
    assert_eq!(totals(&ledger.reader().unwrap()), (50_000, 50_000, 45_000_000_000));
    assert_eq!(attempts(&ledger.reader().unwrap()).len(), 50_000);
}

/// How long writing each of many requests down took, both records, while they are shipped beside.
fn writing_times() -> Vec<Duration> {
    let folder = folder();
    let options = Options { ship_every: Duration::from_millis(50), ..options(folder.path()) };
    let (ledger, _) = open(&options);
    let mut writer = ledger.writer().unwrap();
    let each = |number| {
        let (opening, closing) = (opening(number), closing(number));
        let begun = Instant::now();
        writer.opening(&opening).unwrap();
        writer.closing(&closing).unwrap();
        begun.elapsed()
    };
    let mut times: Vec<Duration> = (0..20_000).map(each).collect();
    times.sort_unstable();
    times
}

#[test]
fn writing_a_request_down_takes_30_us_in_the_middle_and_300_us_at_the_99th_percentile() {
    // A busy moment of the machine passes, a fault does not.
    for again in (0..4).rev() {
        let times = writing_times();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        eprintln!("p50 {p50:?}, p99 {p99:?}, most {:?}", times[times.len() - 1]);
        if p50 <= Duration::from_micros(30) && p99 <= Duration::from_micros(300) {
            return;
        }
        assert!(again > 0, "p50 {p50:?}, p99 {p99:?}");
    }
}
