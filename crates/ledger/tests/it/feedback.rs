//! What callers think of answers: written once it is confirmed, kept once, the last one counts.

use ledger::{Feedback, Ledger, Rating, Reader, Retention};

use crate::world::{attempts, closing, crash, folder, id, open, opening, options, segments};

fn feedback(number: u64, label: &'static str, score: f64, after: u64) -> Feedback<'static> {
    let ended_ms = closing(number).at_ms;
    let at_ms = ended_ms + after;
    Feedback { id: id(number), at_ms, ended_ms, label, score, comment: None }
}

/// What is known of a request, by label: score and comment.
fn ratings(reader: &Reader, number: u64) -> Vec<(String, f64, Option<String>)> {
    let whole = reader.request(id(number)).unwrap().unwrap();
    let told = |rating: Rating| (rating.label, rating.score, rating.comment);
    whole.feedback.into_iter().map(told).collect()
}

fn rated(number: u64) -> (tempfile::TempDir, Ledger, ledger::Writer) {
    let folder = folder();
    let (ledger, _) = open(&options(folder.path()));
    let mut writer = ledger.writer().unwrap();
    writer.opening(&opening(number)).unwrap();
    writer.closing(&closing(number)).unwrap();
    (folder, ledger, writer)
}

#[test]
fn the_last_one_for_a_label_counts_whatever_order_it_arrives_in() {
    let (_folder, ledger, mut writer) = rated(1);
    let mut other = ledger.writer().unwrap();
    let commented = Feedback { comment: Some("很好, thanks"), ..feedback(1, "", 0.25, 10) };
    writer.feedback(&commented).unwrap();
    writer.feedback(&feedback(1, "tone", 1.0, 11)).unwrap();
    // Another worker's is read later, and is older.
    other.feedback(&feedback(1, "tone", 0.0, 5)).unwrap();
    ledger.flush().unwrap();
    let reader = ledger.reader().unwrap();
    let first = (String::new(), 0.25, Some(String::from("很好, thanks")));
    assert_eq!(ratings(&reader, 1), [first, ("tone".into(), 1.0, None)]);
    writer.feedback(&feedback(1, "", 0.75, 12)).unwrap();
    ledger.flush().unwrap();
    assert_eq!(ratings(&reader, 1)[0], (String::new(), 0.75, None));
    assert_eq!(attempts(&reader).len(), 1, "it is no attempt");
}

#[test]
fn texts_that_are_too_long_are_cut_where_a_letter_ends() {
    let (_folder, ledger, mut writer) = rated(1);
    let long = "好".repeat(1000);
    let given = Feedback { label: &long, comment: Some(&long), ..feedback(1, "", 0.5, 1) };
    writer.feedback(&given).unwrap();
    ledger.flush().unwrap();
    let (label, _, comment) = ratings(&ledger.reader().unwrap(), 1).remove(0);
    assert_eq!((label.len(), comment.unwrap().len()), (198, 999));
}

#[test]
fn what_was_written_before_a_crash_is_there_after_it_and_once() {
    let (folder, ledger, mut writer) = rated(1);
    writer.feedback(&feedback(1, "", 1.0, 1)).unwrap();
    let before = crash(folder.path());
    // Shipped, and then changed, and then the segment from before comes back.
    ledger.flush().unwrap();
    writer.feedback(&feedback(1, "", 0.5, 2)).unwrap();
    ledger.flush().unwrap();
    drop((writer, ledger));
    for path in segments(before.path()) {
        let to = folder.path().join("journal").join(path.file_name().unwrap());
        std::fs::copy(&path, to).unwrap();
    }
    let (ledger, recovered) = open(&options(folder.path()));
    assert_eq!(recovered.damaged_bytes, 0);
    assert_eq!(ratings(&ledger.reader().unwrap(), 1), [(String::new(), 0.5, None)]);
    // And the copy, on its own, has what was confirmed.
    let (ledger, recovered) = open(&options(before.path()));
    assert_eq!((recovered.attempts, recovered.lost, recovered.damaged_bytes), (1, 0, 0));
    assert_eq!(ratings(&ledger.reader().unwrap(), 1), [(String::new(), 1.0, None)]);
}

#[test]
fn feedback_goes_with_its_attempt() {
    let (folder, ledger, mut writer) = rated(1);
    writer.feedback(&feedback(1, "", 1.0, 1)).unwrap();
    drop(writer);
    ledger.close();
    let count = || {
        let database = folder.path().join("ledger.db");
        let sqlite = rusqlite::Connection::open(database).unwrap();
        sqlite.query_row("SELECT count(*) FROM feedback", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count(), 1);
    let retention = Retention { attempts: Some(0), ..Retention::default() };
    let ship_every = std::time::Duration::from_millis(5);
    let (_ledger, _) = open(&ledger::Options { retention, ship_every, ..options(folder.path()) });
    for _ in 0..2000 {
        if count() == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it stays for ever");
}

/// What the first version left: tables without feedback, and segments of another version.
fn aged(folder: &std::path::Path) {
    let sqlite = rusqlite::Connection::open(folder.join("ledger.db")).unwrap();
    sqlite.execute_batch("DROP TABLE feedback; PRAGMA user_version = 1;").unwrap();
    for path in segments(folder) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8..10].copy_from_slice(&1_u16.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..16]);
        bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_ledger_of_the_first_version_is_read_and_brought_up_to_date() {
    let (folder, ledger, mut writer) = rated(1);
    ledger.flush().unwrap();
    writer.opening(&opening(2)).unwrap();
    writer.closing(&closing(2)).unwrap();
    let old = crash(folder.path());
    aged(old.path());
    // Read as it is, by whoever does not write.
    let reader = Reader::open(&old.path().join("ledger.db")).unwrap();
    assert_eq!(ratings(&reader, 1), []);
    assert_eq!(reader.variants(&crate::variants::trial()).unwrap().variants[0].requests, 1);

    let (ledger, recovered) = open(&options(old.path()));
    // The first of them is in the database already; nothing is doubled.
    assert_eq!((recovered.lost, recovered.damaged_bytes), (0, 0));
    assert_eq!(attempts(&ledger.reader().unwrap()).len(), 2);
    let mut writer = ledger.writer().unwrap();
    for number in [1, 2] {
        writer.feedback(&feedback(number, "", 1.0, 1)).unwrap();
    }
    ledger.flush().unwrap();
    assert_eq!(ratings(&reader, 1), [(String::new(), 1.0, None)]);
    assert_eq!(ratings(&reader, 2), [(String::new(), 1.0, None)]);
}
