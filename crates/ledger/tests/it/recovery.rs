//! What a dead run left is brought to the database, once.

use std::fs;

use ledger::{Closing, Error, Estimate, LOST, Ledger, Opening, Provenance, Tokens};

use crate::world::{
    attempts, closing, crash, folder, id, open, opening, options, segments, totals, usd,
};

#[test]
fn a_request_that_was_never_closed_is_lost_at_what_was_reserved() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(1)).unwrap();
    writer.opening(&opening(2)).unwrap();
    writer.closing(&closing(2)).unwrap();

    let crashed = crash(folder.path());
    let (ledger, recovered) = open(&options(crashed.path()));
    assert_eq!((recovered.attempts, recovered.lost, recovered.damaged_bytes), (1, 1, 0));
    let reader = ledger.reader().unwrap();
    let lost = reader.request(id(1)).unwrap().unwrap().request.last;
    assert_eq!((lost.outcome.as_str(), lost.last_of), (LOST, Some(1)));
    assert_eq!(lost.tokens, Tokens { input: 1234, ..Tokens::default() });
    assert_eq!((lost.provenance, lost.cost), (Provenance::Estimated, Some(usd(8_500_000))));
    assert_eq!((&*lost.team, &*lost.formula), ("red", "1 reserved × $0.0085 = $0.0085"));
    assert_eq!(totals(&reader), (2, 2, 9_400_000));
    assert_eq!(segments(crashed.path()), [] as [std::path::PathBuf; 0]);
    drop(ledger);
    assert_eq!(open(&options(crashed.path())).1, ledger::Recovered::default());
}

#[test]
fn the_caller_says_what_a_lost_request_cost() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(1)).unwrap();
    let crashed = crash(folder.path());
    let mut asked = Vec::new();
    let mut estimate = |opening: &Opening<'_>| {
        asked.push((opening.id, opening.model.to_owned(), opening.max_output));
        Estimate {
            tokens: Tokens { input: 7, ..Tokens::default() },
            charge: Some((3, "CNY".into())),
            lines: vec![("input".into(), 7, 400_000)],
        }
    };
    let (ledger, _) = Ledger::open(&options(crashed.path()), &mut estimate).unwrap();
    assert_eq!(asked, [(id(1), "smart".to_owned(), Some(4096))]);
    let lost = attempts(&ledger.reader().unwrap()).remove(0);
    assert_eq!(lost.formula, "7 input × ¥0.0004/M = ¥0.000000003");
}

#[test]
fn a_request_between_two_attempts_is_lost_and_costs_no_more() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(1)).unwrap();
    writer.closing(&Closing { last_of: None, ..closing(1) }).unwrap();
    let crashed = crash(folder.path());
    let (ledger, recovered) = open(&options(crashed.path()));
    assert_eq!((recovered.attempts, recovered.lost), (1, 1));
    let reader = ledger.reader().unwrap();
    let whole = reader.request(id(1)).unwrap().unwrap();
    assert_eq!((whole.attempts.len(), whole.request.last.outcome.as_str()), (2, LOST));
    assert_eq!(whole.request.last.provenance, Provenance::None);
    assert_eq!(totals(&reader), (1, 2, 900_000));
}

#[test]
fn wherever_the_process_dies_between_shippings_nothing_is_lost_or_doubled() {
    let folder = folder();
    let options = options(folder.path());
    let (ledger, _) = open(&options);
    let mut writer = ledger.writer().unwrap();
    for number in 0..60 {
        writer.opening(&opening(number)).unwrap();
        if number >= 3 {
            writer.closing(&closing(number - 3)).unwrap();
        }
        if number % 7 == 0 {
            ledger.flush().unwrap();
        }
        if number % 5 == 0 {
            let crashed = crash(folder.path());
            let (after, recovered) = open(&crate::world::options(crashed.path()));
            let reader = after.reader().unwrap();
            let open = (number + 1).min(3);
            assert_eq!(recovered.lost, open);
            let closed = number + 1 - open;
            let nanos = closed * 900_000 + open * 8_500_000;
            assert_eq!(totals(&reader), (number + 1, number + 1, nanos), "after {number}");
            assert_eq!(attempts(&reader).len() as u64, number + 1);
        }
    }
}

#[test]
fn a_journal_that_is_shipped_twice_counts_once() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for number in 0..100 {
        writer.opening(&opening(number)).unwrap();
        writer.closing(&closing(number)).unwrap();
    }
    let before = crash(folder.path());
    ledger.flush().unwrap();
    drop((writer, ledger));
    for path in segments(before.path()) {
        let to = folder.path().join("journal").join(path.file_name().unwrap());
        fs::copy(&path, to).unwrap();
    }
    let (ledger, recovered) = open(&options(folder.path()));
    assert_eq!((recovered.attempts, recovered.lost), (100, 0));
    assert_eq!(totals(&ledger.reader().unwrap()), (100, 100, 90_000_000));
    assert_eq!(attempts(&ledger.reader().unwrap()).len(), 100);
}

#[test]
fn an_opening_outlives_its_segment() {
    let folder = folder();
    let options = ledger::Options { segment_bytes: 4096, ..options(folder.path()) };
    let (ledger, _) = open(&options);
    let mut writer = ledger.writer().unwrap();
    for long in [1000, 2000] {
        writer.opening(&opening(long)).unwrap();
    }
    for number in 0..100 {
        writer.opening(&opening(number)).unwrap();
        writer.closing(&closing(number)).unwrap();
        ledger.flush().unwrap();
    }
    assert_eq!(segments(folder.path()).len(), 1, "what is wholly shipped is gone");
    writer.closing(&closing(1000)).unwrap();
    ledger.flush().unwrap();
    let found = ledger.reader().unwrap().request(id(1000)).unwrap().unwrap();
    assert_eq!((found.request.last.model.as_str(), found.request.last.stream), ("smart", true));

    let crashed = crash(folder.path());
    let (ledger, recovered) = open(&crate::world::options(crashed.path()));
    assert_eq!((recovered.attempts, recovered.lost), (0, 1));
    let found = ledger.reader().unwrap().request(id(2000)).unwrap().unwrap();
    assert_eq!(
        (found.request.last.outcome.as_str(), found.request.last.key.as_str()),
        (LOST, "key_a")
    );
    assert_eq!(totals(&ledger.reader().unwrap()).0, 102);
}

#[test]
fn what_is_open_at_the_end_is_lost_at_the_next_start() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(1)).unwrap();
    drop(writer);
    ledger.close();
    assert_eq!(segments(folder.path()).len(), 0);
    let (_, recovered) = open(&options(folder.path()));
    assert_eq!(recovered.lost, 1);
    let (_, recovered) = open(&options(folder.path()));
    assert_eq!(recovered.lost, 0);
}

#[test]
fn an_end_in_good_order_leaves_only_the_database() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(1)).unwrap();
    writer.closing(&closing(1)).unwrap();
    drop(writer);
    ledger.close();
    let left: Vec<_> = fs::read_dir(folder.path().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["lock"]);
}

#[test]
fn a_torn_end_costs_only_what_was_torn() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for number in 0..3 {
        writer.opening(&opening(number)).unwrap();
        writer.closing(&closing(number)).unwrap();
    }
    let path = segments(folder.path()).remove(0);
    let length = fs::metadata(&path).unwrap().len();
    for cut in (0..length).step_by(61) {
        let crashed = crash(folder.path());
        let path = segments(crashed.path()).remove(0);
        fs::File::options().write(true).open(path).unwrap().set_len(cut).unwrap();
        let (ledger, recovered) = open(&options(crashed.path()));
        let found = attempts(&ledger.reader().unwrap());
        assert_eq!(found.len() as u64, recovered.attempts + recovered.lost);
        for attempt in found {
            let is_whole = attempt.cost == Some(usd(900_000));
            assert!(is_whole || attempt.outcome == LOST, "{attempt:?}");
        }
    }
}

#[test]
fn damage_in_the_middle_is_skipped_and_reported() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    for number in 0..1000 {
        writer.opening(&opening(number)).unwrap();
        writer.closing(&closing(number)).unwrap();
    }
    let crashed = crash(folder.path());
    let path = segments(crashed.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let (ledger, recovered) = open(&options(crashed.path()));
    assert!((20_000..21_000).contains(&recovered.damaged_bytes), "{recovered:?}");
    assert!(recovered.attempts > 850, "{recovered:?}");
    assert_eq!(
        attempts(&ledger.reader().unwrap()).len() as u64,
        recovered.attempts + recovered.lost
    );
    assert!(path.with_extension("damaged").exists(), "kept for whoever wants to look into it");
}

#[test]
fn a_damaged_header_costs_nothing() {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(1)).unwrap();
    writer.closing(&closing(1)).unwrap();
    let crashed = crash(folder.path());
    let path = segments(crashed.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[..20].fill(0);
    fs::write(&path, bytes).unwrap();
    assert_eq!(open(&options(crashed.path())).1.attempts, 1);
}

#[test]
fn a_database_that_is_not_ours_is_left_alone() {
    let folder = folder();
    let other = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    other.execute_batch("CREATE TABLE mine (it TEXT)").unwrap();
    let opened = Ledger::open(&options(folder.path()), &mut Estimate::reserved);
    assert!(matches!(opened, Err(Error::Foreign(_))));
}

#[test]
fn a_newer_database_is_left_alone() {
    let folder = folder();
    drop(open(&options(folder.path())));
    let newer = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    let opened = Ledger::open(&options(folder.path()), &mut Estimate::reserved);
    assert!(matches!(opened, Err(Error::TooNew { found: 99 })));
}

#[test]
fn of_attempts_side_by_side_one_stands_for_the_request_wherever_the_process_dies() {
    // Openings and closings of two attempts; the one that closes last is the request's.
    let orders: [[i8; 4]; 4] = [[1, 2, -2, -1], [1, 2, -1, -2], [1, -1, 2, -2], [2, 1, -1, -2]];
    for order in orders {
        for flushed in 0..16 {
            let folder = folder();
            let (ledger, _) = open(&options(folder.path()));
            let mut writer = ledger.writer().unwrap();
            for (step, event) in order.iter().enumerate() {
                let attempt = u16::from(event.unsigned_abs());
                match event {
                    1.. => writer.opening(&Opening { attempt, ..opening(1) }).unwrap(),
                    _ => {
                        let last_of = (step == 3).then_some(2);
                        let closing = Closing { attempt, last_of, ..closing(1) };
                        writer.closing(&closing).unwrap();
                    }
                }
                if flushed & (1 << step) != 0 {
                    ledger.flush().unwrap();
                }
                let crashed = crash(folder.path());
                let (after, _) = open(&options(crashed.path()));
                let reader = after.reader().unwrap();
                let name = format!("{order:?} up to {step}, shipped {flushed:b}");
                assert_eq!(totals(&reader).0, 1, "{name}");
                let all = attempts(&reader);
                let last: Vec<_> = all.iter().filter_map(|attempt| attempt.last_of).collect();
                assert_eq!(last.len(), 1, "{name}: {all:?}");
                let whole = reader.request(id(1)).unwrap().unwrap();
                assert_eq!(whole.attempts.len(), all.len(), "{name}");
                if step == 3 {
                    assert!(all.iter().all(|attempt| attempt.outcome != LOST), "{name}: {all:?}");
                    assert_eq!(last, [2], "{name}");
                }
            }
        }
    }
}
