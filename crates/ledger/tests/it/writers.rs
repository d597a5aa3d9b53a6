//! Several writers, and several runs of the program at once.

use std::thread;

use ledger::Options;

use crate::world::{
    attempts, closing, crash, folder, id, open, opening, options, segments, totals,
};

#[test]
fn writers_of_several_threads_do_not_meet() {
    let folder = folder();
    let options = Options { segment_bytes: 32 << 10, ..options(folder.path()) };
    let (ledger, _) = open(&options);
    thread::scope(|scope| {
        for writer in 0..4 {
            let mut journal = ledger.writer().unwrap();
            scope.spawn(move || {
                for number in 0..2000 {
                    let number = writer * 10_000 + number;
                    journal.opening(&opening(number)).unwrap();
                    journal.closing(&closing(number)).unwrap();
                }
            });
        }
        for _ in 0..20 {
            ledger.flush().unwrap();
        }
    });
    ledger.flush().unwrap();
    let reader = ledger.reader().unwrap();
    assert_eq!(totals(&reader), (8000, 8000, 8000 * 900_000));
    let mut found: Vec<_> = attempts(&reader).iter().map(|attempt| attempt.id).collect();
    found.sort_unstable();
    let wrote: Vec<_> = (0..4).flat_map(|w| (0..2000).map(move |n| id(w * 10_000 + n))).collect();
    assert!(wrote.iter().all(|id| found.binary_search(id).is_ok()));
    assert_eq!(segments(folder.path()).len(), 4, "one under way for each writer");
}

#[test]
fn a_run_does_not_touch_what_another_one_writes() {
    let folder = folder();
    let (old, _) = open(&options(folder.path()));
    let mut first = old.writer().unwrap();
    first.opening(&opening(1)).unwrap();
    first.opening(&opening(2)).unwrap();

    let (new, recovered) = open(&options(folder.path()));
    assert_eq!(recovered, ledger::Recovered::default(), "the old one still runs");
    let mut second = new.writer().unwrap();
    second.opening(&opening(3)).unwrap();
    second.closing(&closing(3)).unwrap();
    first.closing(&closing(1)).unwrap();
    new.flush().unwrap();
    old.flush().unwrap();
    assert_eq!(totals(&new.reader().unwrap()), (2, 2, 1_800_000));
    drop(first);
    old.close();
    drop(second);
    new.close();
    let (last, recovered) = open(&options(folder.path()));
    assert_eq!((recovered.attempts, recovered.lost), (0, 1));
    assert_eq!(totals(&last.reader().unwrap()).0, 3);
}

#[test]
fn two_runs_that_ship_the_same_records_count_them_once() {
    let folder = folder();
    let (one, _) = open(&options(folder.path()));
    let mut writer = one.writer().unwrap();
    for number in 0..500 {
        writer.opening(&opening(number)).unwrap();
        writer.closing(&closing(number)).unwrap();
    }
    let copy = crash(folder.path());
    // The copy's journal comes into the same folder under its own generation's name, and is taken
    // for the journal of a dead run.
    for path in segments(copy.path()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let moved = folder.path().join("journal").join(format!("{:016x}{}", 1, &name[16..]));
        std::fs::copy(&path, moved).unwrap();
    }
    one.flush().unwrap();
    let (two, _) = open(&options(folder.path()));
    assert_eq!(totals(&two.reader().unwrap()), (500, 500, 450_000_000));
}

#[test]
fn the_live_journal_copes_with_records_that_are_there_already() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for round in 0..2 {
        for number in 0..100 + round * 50 {
            writer.opening(&opening(number)).unwrap();
            writer.closing(&closing(number)).unwrap();
        }
        ledger.flush().unwrap();
    }
    assert_eq!(totals(&ledger.reader().unwrap()), (150, 150, 135_000_000));
    for number in 150..300 {
        writer.opening(&opening(number)).unwrap();
        writer.closing(&closing(number)).unwrap();
    }
    ledger.flush().unwrap();
    assert_eq!(totals(&ledger.reader().unwrap()), (300, 300, 270_000_000));
}
