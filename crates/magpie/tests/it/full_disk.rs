//! A disk that is full: what costs money is refused, nothing is lost, and it ends by itself.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::ScriptedUpstream;

use crate::client::{Reply, Wire, request};
use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};
use crate::ledger::{Tokens, attempts, by_model};

/// One worker has one journal, in which the last bytes of a page are soon used up.
const MORE: &str = "workers: 1\nlog: { requests: false }\n\
    keys: [{ name: ci, key: a-key-for-a-small-disk-77 }]";
const KEY: (&str, &str) = ("authorization", "Bearer a-key-for-a-small-disk-77");
/// A model whose name is longer than those that filled the disk.
const REFUSED: &str = "events:3:0:0:refused-before-it-was-sent-anywhere";

/// A disk of a megabyte.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where mounting is not allowed.
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=700", "magpie-test"]).arg(folder.path());
        mount.output().is_ok_and(|done| done.status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes it larger.
    fn grow(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,size=64m"]).arg(self.path());
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn small_disk() -> Option<SmallDisk> {
    let disk = SmallDisk::mount();
    if disk.is_none() {
        eprintln!("SKIPPED: no file system can be mounted here, so no disk is full");
    }
    disk
}

fn served(disk: &SmallDisk) -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let data = disk.path().to_str().unwrap();
    let magpie = Setup::of(&upstream.base_url()).env("MAGPIE_DATA", data).and(MORE).start();
    (upstream, magpie)
}

fn begin(magpie: &Magpie, script: &str, stream: bool) -> Wire {
    let mut wire = magpie.connect();
    let body = chat(&format!("up/{script}"), stream);
    wire.send(&request("POST", CHAT, &[KEY], body.as_bytes()));
    wire
}

fn ask(magpie: &Magpie, script: &str, stream: bool) -> Reply {
    begin(magpie, script, stream).reply()
}

/// Takes all the room there is.
fn fill(disk: &SmallDisk) -> std::path::PathBuf {
    let path = disk.path().join("ballast");
    let mut file = std::fs::File::create(&path).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    path
}

/// Asks until the answer has this status. Gives the ids of those that were served.
fn ask_until(magpie: &Magpie, status: u16, name: &str) -> Vec<String> {
    let (start, mut served) = (Instant::now(), Vec::new());
    loop {
        let reply = ask(magpie, &format!("events:3:0:0:{name}-{}", served.len()), false);
        match reply.status() {
            200 => served.push(reply.header("x-request-id").unwrap().to_owned()),
            503 => reply.assert_error(503, "ledger_unavailable"),
            _ => panic!("{reply:?}"),
        }
        if reply.status() == status {
            return served;
        }
        assert!(start.elapsed() < 6 * PATIENCE, "no {status} after {} served", served.len());
        thread::sleep(Duration::from_millis(if status == 200 { 20 } else { 0 }));
    }
}

/// Streams of which each has begun.
fn streams(magpie: &Magpie, count: usize) -> Vec<Wire> {
    let begin = |number| begin(magpie, &format!("events:100:25:0:stream-{number}"), true);
    let mut wires: Vec<Wire> = (0..count).map(begin).collect();
    for wire in &mut wires {
        assert_eq!(wire.head().status, 200);
        wire.chunks_until("w1 ");
    }
    wires
}

#[test]
fn while_the_disk_is_full_nothing_new_is_sent_and_nothing_is_lost() {
    let Some(disk) = small_disk() else { return };
    let (upstream, magpie) = served(&disk);
    let mut served = vec![ask(&magpie, "events:3:0:0:first", false)];
    assert_eq!(served[0].status(), 200);
    let mut running = streams(&magpie, 10);
    let ballast = fill(&disk);
    let mut ids = ask_until(&magpie, 503, "filling");
    let received = upstream.received().len();

    // Refused before anything is sent; what costs nothing goes on, and so do running answers.
    for _ in 0..20 {
        ask(&magpie, REFUSED, false).assert_error(503, "ledger_unavailable");
        ask(&magpie, REFUSED, true).assert_error(503, "ledger_unavailable");
    }
    assert_eq!(upstream.received().len(), received, "what cannot be recorded is not sent");
    for path in ["/health", "/health/live", "/health/ready", "/v1/models"] {
        assert_eq!(magpie.call("GET", path, &[KEY], "").status(), 200, "{path}");
    }
    for wire in &mut running {
        assert!(wire.chunks_until("[DONE]").contains("w100 "));
    }
    ask(&magpie, REFUSED, false).assert_error(503, "ledger_unavailable");

    std::fs::remove_file(ballast).unwrap();
    let start = Instant::now();
    ids.extend(ask_until(&magpie, 200, "after"));
    let recovered = start.elapsed();
    ids.extend(served.drain(..).map(|reply| reply.header("x-request-id").unwrap().to_owned()));
    let setup = magpie.stop();

    let found = attempts(&setup);
    let received = by_model(upstream.received());
    // The memory is for what was sent: of those who were refused meanwhile there is no record.
    assert_eq!(found.len(), received.len(), "one record for each");
    for attempt in &found {
        let model = attempt["upstream_model"].as_str().unwrap();
        assert_eq!(attempt["outcome"], "complete", "{attempt}");
        assert_eq!(Tokens::of(attempt), Tokens::billed(&received[model]), "{attempt}");
    }
    for id in &ids {
        assert!(found.iter().any(|attempt| attempt["id"] == **id), "{id} is missing");
    }
    eprintln!(
        "{} records, 10 of them closed while the disk was full; served again after {recovered:?}",
        found.len()
    );
}

#[test]
fn a_disk_that_the_ledger_itself_fills_is_as_good_when_it_grows() {
    let Some(disk) = small_disk() else { return };
    let (upstream, magpie) = served(&disk);
    let ids = ask_until(&magpie, 503, "load");
    assert_eq!(magpie.get("/health").status(), 200);
    disk.grow();
    let start = Instant::now();
    let more = ask_until(&magpie, 200, "after");
    let recovered = start.elapsed();
    let setup = magpie.stop();
    let found = attempts(&setup);
    assert_eq!(found.len(), upstream.received().len());
    assert_eq!(found.len(), ids.len() + more.len(), "one record for each that was served");
    assert!(found.iter().all(|attempt| attempt["outcome"] == "complete"));
    eprintln!("{} requests filled a megabyte; served again after {recovered:?}", ids.len());
}
