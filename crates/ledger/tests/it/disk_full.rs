//! A disk without room.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ledger::{Feedback, Options};

use crate::world::{attempts, closing, folder, id, open, opening, totals};

/// A small file system of its own, as long as it lives.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(path: &'a Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: mounting a tmpfs is not permitted here");
        }
        mounted.then_some(Self(path))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

/// Takes all the room there is.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [4096, 64, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn on_a_full_disk_requests_are_refused_and_nothing_is_lost() {
    let folder = folder();
    let Some(_disk) = Disk::mount(folder.path(), "1m") else { return };
    let options = Options {
        ship_every: Duration::from_millis(20),
        segment_bytes: 64 << 10,
        ..Options::new(folder.path())
    };
    let (ledger, _) = open(&options);
    let mut writer = ledger.writer().unwrap();
    let mut under_way = Vec::new();
    let mut next = 0;
    let mut over = 0;
    for _ in 0..3 {
        while under_way.len() < 20 {
            writer.opening(&opening(next)).unwrap();
            under_way.push(next);
            next += 1;
        }
        fill(&folder.path().join("ballast"));
        // Pages that are begun still have room; then nothing can be opened any more.
        let mut refused = 0;
        for _ in 0..2000 {
            match writer.opening(&opening(next)) {
                Ok(()) => under_way.push(next),
                Err(_) => refused += 1,
            }
            next += 1;
        }
        assert!(refused > 1000, "{refused}");
        let (id, ended_ms) = (id(0), closing(0).at_ms);
        let words = "x".repeat(1000);
        let given = Feedback {
            id,
            at_ms: ended_ms,
            ended_ms,
            label: "",
            score: 1.0,
            comment: Some(&words),
        };
        assert!(writer.feedback(&given).is_err(), "it would not last");
        assert!(!writer.healthy());
        assert!(!ledger.status().healthy);
        for number in under_way.drain(..) {
            writer.closing(&closing(number)).unwrap();
            over += 1;
        }
        assert!(ledger.status().kept_bytes > 0);

        fs::remove_file(folder.path().join("ballast")).unwrap();
        let mut waited = 0;
        while !writer.healthy() {
            std::thread::sleep(Duration::from_millis(10));
            waited += 1;
            assert!(waited < 1000, "it recovers without being asked");
        }
        while ledger.flush().is_err() {
            std::thread::sleep(Duration::from_millis(10));
            waited += 1;
            assert!(waited < 1000, "{:?}", ledger.status());
        }
        let status = ledger.status();
        assert_eq!((status.kept_bytes, status.dropped, status.healthy), (0, 0, true));
        assert_eq!(totals(&ledger.reader().unwrap()), (over, over, over * 900_000));
    }
    assert_eq!(attempts(&ledger.reader().unwrap()).len() as u64, over);
}

#[test]
fn what_could_not_be_written_is_written_when_the_program_ends() {
    let folder = folder();
    let Some(_disk) = Disk::mount(folder.path(), "1m") else { return };
    let options = crate::world::options(folder.path());
    let (ledger, _) = open(&options);
    let mut writer = ledger.writer().unwrap();
    for number in 0..200 {
        writer.opening(&opening(number)).unwrap();
    }
    fill(&folder.path().join("ballast"));
    for number in 0..200 {
        writer.closing(&closing(number)).unwrap();
    }
    assert!(!writer.healthy());
    fs::remove_file(folder.path().join("ballast")).unwrap();
    drop(writer);
    ledger.close();
    let (ledger, recovered) = open(&options);
    assert_eq!(recovered.lost, 0);
    assert_eq!(totals(&ledger.reader().unwrap()).0, 200);
}
