//! A process that is killed while it writes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ledger::{Estimate, LOST, Ledger, Options};

use crate::world::{attempts, closing, folder, id, open, opening, options, totals};

const CHILD: &str = "LEDGER_TEST_FOLDER";

/// Not a test of its own: what the killed process does. It says which requests are over.
#[test]
fn child() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let options = Options {
        ship_every: Duration::from_millis(3),
        segment_bytes: 16 << 10,
        ..Options::new(Path::new(&folder))
    };
    let (ledger, _) = Ledger::open(&options, &mut Estimate::reserved).unwrap();
    let mut writer = ledger.writer().unwrap();
    let first = totals(&ledger.reader().unwrap()).0 + 100;
    let mut out = std::io::stdout().lock();
    for number in first.. {
        writer.opening(&opening(number)).unwrap();
        if number >= first + 10 {
            writer.closing(&closing(number - 10)).unwrap();
            writeln!(out, "over {}", number - 10).unwrap();
        }
    }
}

#[test]
fn whatever_was_over_when_the_process_was_killed_is_there_once() {
    let folder = folder();
    let mut over = Vec::new();
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.by_ref() {
            let line = line.unwrap();
            let Some(number) = line.strip_prefix("over ") else { continue };
            over.push(number.parse::<u64>().unwrap());
            seen += 1;
            if seen > 300 + round * 97 {
                break;
            }
        }
        child.kill().unwrap();
        // What it said before it died counts too, but for a line that is cut.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let whole = rest.len().saturating_sub(1);
        over.extend(
            rest[..whole].iter().filter_map(|line| line.strip_prefix("over ")?.parse::<u64>().ok()),
        );
        child.wait().unwrap();
    }
    let (ledger, _) = open(&options(folder.path()));
    let found = attempts(&ledger.reader().unwrap());
    let settled: Vec<_> = found.iter().filter(|it| it.outcome != LOST).map(|it| it.id).collect();
    let mut ids: Vec<_> = found.iter().map(|it| it.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), found.len(), "none is there twice");
    let settled: std::collections::HashSet<_> = settled.into_iter().collect();
    for number in &over {
        assert!(settled.contains(&id(*number)), "{number} is missing");
    }
    let (requests, attempts, nanos) = totals(&ledger.reader().unwrap());
    assert_eq!((requests, attempts), (found.len() as u64, found.len() as u64));
    let sum: u64 = found.iter().filter_map(|it| it.cost.as_ref()).map(|cost| cost.nanos).sum();
    assert_eq!(nanos, sum);
    assert!(found.len() >= over.len() && over.len() > 4000, "{} {}", found.len(), over.len());
}
