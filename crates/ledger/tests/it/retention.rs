//! What is too old goes.

use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use ledger::{By, Closing, Filter, Opening, Options, Reader, Retention, Step};

use crate::world::{attempts, closing, folder, id_at, open, opening, options};

const DAY: u64 = 86_400_000;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Writes `each` requests a day for so many days up to now, and lets retention run.
fn after(retention: Retention, days: u64, each: u64) -> (tempfile::TempDir, ledger::Ledger) {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for day in 0..days {
        for number in 0..each {
            let at_ms = now_ms() - day * DAY - number;
            let id = id_at(at_ms - 100_000, day * 1_000_000 + number);
            writer.opening(&Opening { id, at_ms: at_ms - 100_000, ..opening(0) }).unwrap();
            writer.closing(&Closing { id, at_ms, ..closing(0) }).unwrap();
        }
    }
    ledger.flush().unwrap();
    drop(writer);
    ledger.close();
    let ship_every = Duration::from_millis(5);
    let (ledger, _) = open(&Options { retention, ship_every, ..options(folder.path()) });
    (folder, ledger)
}

/// Waits until a question has an answer.
fn until(reader: &Reader, met: impl Fn(&Reader) -> bool) {
    for _ in 0..2000 {
        if met(reader) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came to that");
}

#[test]
fn old_records_go_and_their_sums_stay() {
    let retention = Retention { attempts: Some(3), ..Retention::default() };
    let (folder, ledger) = after(retention, 10, 3000);
    let reader = ledger.reader().unwrap();
    until(&reader, |reader| attempts(reader).len() <= 9000);
    let found = attempts(&reader);
    assert_eq!(found.len(), 9000);
    assert!(found.iter().all(|it| it.ended_ms > now_ms() - 4 * DAY));
    assert!(reader.request(found[0].id).unwrap().is_some());
    let usage = reader.usage(&Filter::default(), &[By::Day], &TimeZone::UTC).unwrap();
    assert_eq!(usage.iter().map(|it| it.requests).sum::<u64>(), 30_000);
    ledger.close();
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    let free: i64 = database.query_row("PRAGMA freelist_count", [], |row| row.get(0)).unwrap();
    assert!(free < 1000, "{free} pages were not given back");
    let slow: i64 = database.query_row("SELECT count(*) FROM slow", [], |row| row.get(0)).unwrap();
    assert!((9000..12_000).contains(&slow), "{slow}");
}

#[test]
fn where_minutes_are_gone_hours_stand_in() {
    let retention = Retention { minutes: Some(2), hours: Some(5), ..Retention::default() };
    let (folder, ledger) = after(retention, 10, 4);
    let reader = ledger.reader().unwrap();
    let minutes =
        |reader: &Reader| reader.usage(&Filter::default(), &[By::Minute], &TimeZone::UTC).unwrap();
    until(&reader, |_| {
        let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
        let count = |table: &str| -> i64 {
            let text = format!("SELECT count(DISTINCT at) FROM {table}");
            database.query_row(&text, [], |row| row.get(0)).unwrap()
        };
        count("minute") < 8 && count("hour") < 15
    });
    // However it is asked for, nothing is counted twice and nothing is forgotten.
    assert_eq!(minutes(&reader).iter().map(|it| it.requests).sum::<u64>(), 40);
    let whole = reader.usage(&Filter::default(), &[], &TimeZone::UTC).unwrap();
    assert_eq!(whole[0].requests, 40);
    let from = now_ms() - 8 * DAY - 3_600_000;
    let spent = reader.spent(By::Key, "key_a", from..u64::MAX, Step::Minute).unwrap();
    let nanos: u64 = spent.iter().map(|it| it.cost.nanos).sum();
    // Rather the whole of the first day than too little of it.
    assert!((9 * 4 * 900_000..=10 * 4 * 900_000).contains(&nanos), "{nanos}");
}
