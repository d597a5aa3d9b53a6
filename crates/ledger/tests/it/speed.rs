//! Bounds that a busy machine still keeps; figures come from the example `cost`.

use std::time::{Duration, Instant};

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
