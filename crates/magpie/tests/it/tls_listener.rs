//! HTTPS on the listener: what is spoken, who is let in, files that change while it serves.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::ScriptedUpstream;

use crate::client::Wire;
use crate::h2_client::{self, text};
use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};
use crate::tls_client::{Authority, Caller, Pair};
use crate::turn;

const FILES: &str = "tls: { cert: cert.pem, key: key.pem }";

/// A Magpie with a certificate, and a client that trusts its authority.
fn served(more: &str) -> (Magpie, Authority, Caller) {
    let authority = Authority::new();
    let setup = Setup::empty().and(FILES).and(more);
    authority.pair("first").write(setup.folder());
    let caller = Caller::new(&authority.pem, None, &[]);
    (setup.start(), authority, caller)
}

/// Waits until this pair is shown, for at most a second beside what a busy machine takes.
fn wait_for(caller: &Caller, address: SocketAddr, pair: &Pair) -> Duration {
    let start = Instant::now();
    while caller.connect(address).unwrap().shown() != pair.der() {
        assert!(start.elapsed() < PATIENCE, "the new certificate does not come into force");
        thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

#[test]
fn the_handshake_settles_the_version_of_http() {
    let upstream = ScriptedUpstream::start();
    let authority = Authority::new();
    let setup = Setup::of(&upstream.base_url()).and(FILES);
    authority.pair("magpie").write(setup.folder());
    let magpie = setup.start();
    assert!(magpie.banner.contains(&format!("curl https://{}/v1", magpie.address)));
    for (protocols, agreed) in
        [(&[][..], None), (&[&b"http/1.1"[..]][..], Some("http/1.1")), (&[b"h2"], Some("h2"))]
    {
        let caller = Caller::new(&authority.pem, None, protocols);
        let mut session = caller.connect(magpie.address).unwrap();
        assert_eq!(session.protocol().as_deref(), agreed);
        if agreed == Some("h2") {
            continue;
        }
        session.send("POST", CHAT, &chat("up/ok", true)).unwrap();
        let answer = session.read_to_end().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{answer}");
    }
    let both = Caller::new(&authority.pem, None, &[b"h2", b"http/1.1"]);
    h2_client::run(async {
        let client = h2_client::over_tls(magpie.address, both.config).await;
        for stream in [false, true] {
            let reply = client.ask("up/ok", stream).await;
            assert_eq!(reply.status(), 200);
            assert_eq!(text(reply).await.ends_with("data: [DONE]\n\n"), stream);
        }
    });
}

#[test]
fn a_client_that_offers_nothing_known_or_nothing_new_enough_is_refused() {
    let (magpie, authority, caller) = served("");
    let other = Caller::new(&authority.pem, None, &[b"spdy/1"]);
    assert!(other.connect(magpie.address).is_err());
    let stranger = Caller::new(&Authority::new().pem, None, &[]);
    assert!(stranger.connect(magpie.address).is_err(), "it shows what it was given");
    // What an ACME authority asks for is nobody else's business.
    let nosy = Caller::new(&authority.pem, None, &[b"acme-tls/1"]);
    assert!(nosy.connect(magpie.address).is_err());
    assert!(caller.get(magpie.address, "/health").unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn clear_text_is_told_to_come_back_over_https() {
    let (magpie, _authority, caller) = served("");
    let reply = magpie.post(CHAT, &chat("echo", false));
    reply.assert_error(400, "https_required");
    assert!(reply.whole && reply.message().contains("https://"));
    for garbage in [&b"\x16"[..], b"\x16\x03\x01\xff\xff", b"\x00", &[0x16; 4096]] {
        let mut wire = magpie.connect();
        let _ = wire.try_send(garbage);
        let _ = wire.stream().shutdown(std::net::Shutdown::Write);
        assert!(wire.read_to_end().len() < 512, "an alert at most, or the answer above");
    }
    assert!(caller.get(magpie.address, "/health").unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn client_certificates_are_asked_for_as_configured() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (auth, without) in
        [("", false), (", client_auth: required", false), (", client_auth: optional", true)]
    {
        let setup = Setup::empty()
            .and(&format!("tls: {{ cert: cert.pem, key: key.pem, client_ca: ca.pem{auth} }}"));
        ours.pair("magpie").write(setup.folder());
        fs::write(setup.folder().join("ca.pem"), &ours.pem).unwrap();
        let magpie = setup.start();
        let comes = |shown: Option<&Pair>| {
            let caller = Caller::new(&ours.pem, shown, &[]);
            let answer = caller.get(magpie.address, "/health");
            answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        };
        assert_eq!(comes(None), without, "{auth}");
        assert!(comes(Some(&ours.pair("a client"))), "{auth}");
        assert!(!comes(Some(&theirs.pair("a client"))), "{auth}: of another authority");
    }
}

#[test]
fn an_authority_that_is_taken_out_lets_nobody_in_any_more() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let setup = Setup::empty()
        .and("tls: { cert: cert.pem, key: key.pem, client_ca: ca.pem }")
        .and("workers: 1");
    ours.pair("magpie").write(setup.folder());
    let ca = setup.folder().join("ca.pem");
    fs::write(&ca, &theirs.pem).unwrap();
    let magpie = setup.start();
    let caller = Caller::new(&ours.pem, Some(&theirs.pair("a client")), &[]);
    let comes = || {
        let mut session = caller.connect(magpie.address).ok()?;
        assert!(!session.is_resumed(), "a session that is resumed is not checked");
        session.send("GET", "/health", "").ok()?;
        session.read_to_end().ok().filter(|answer| answer.starts_with("HTTP/1.1 200"))
    };
    for _ in 0..3 {
        assert!(comes().is_some());
    }
    fs::write(&ca, &ours.pem).unwrap();
    let start = Instant::now();
    while comes().is_some() {
        assert!(start.elapsed() < PATIENCE, "still let in");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn sessions_are_resumed_over_a_change_of_the_certificate() {
    let (magpie, authority, caller) = served("");
    let resumed = || {
        let mut session = caller.connect(magpie.address).unwrap();
        session.send("GET", "/health", "").unwrap();
        // The tickets come behind the handshake.
        assert!(session.read_to_end().unwrap().starts_with("HTTP/1.1 200"));
        session.is_resumed()
    };
    assert!(!resumed());
    assert!(resumed() && resumed());
    let next = authority.pair("next");
    next.write(magpie.process.setup.folder());
    wait_for(&Caller::new(&authority.pem, None, &[]), magpie.address, &next);
    assert!(resumed());
}

#[test]
fn a_write_a_rename_a_swapped_link_and_a_signal_each_bring_a_new_certificate() {
    let (magpie, authority, _) = served("");
    let fresh = || Caller::new(&authority.pem, None, &[]);
    let folder = magpie.process.setup.folder().to_owned();
    let written = authority.pair("written");
    written.write(&folder);
    wait_for(&fresh(), magpie.address, &written);

    let renamed = authority.pair("renamed");
    for (name, text) in [("cert.pem", &renamed.cert), ("key.pem", &renamed.key)] {
        fs::write(folder.join("beside"), text).unwrap();
        fs::rename(folder.join("beside"), folder.join(name)).unwrap();
    }
    wait_for(&fresh(), magpie.address, &renamed);

    // As Kubernetes does it: the files are links into a link that is swapped.
    for name in ["..one", "..two"] {
        let pair = authority.pair(name);
        swap(&folder, name, &pair);
        wait_for(&fresh(), magpie.address, &pair);
    }

    // Where nothing tells of the change: the folder behind the link is another one.
    let quiet = authority.pair("quiet");
    quiet.write(&folder.join("..two"));
    magpie.process.signal("HUP");
    wait_for(&fresh(), magpie.address, &quiet);
}

/// Puts a pair in place as Kubernetes does: both files at once.
fn swap(folder: &Path, name: &str, pair: &Pair) {
    fs::create_dir_all(folder.join(name)).unwrap();
    pair.write(&folder.join(name));
    symlink(name, folder.join("..data.new")).unwrap();
    fs::rename(folder.join("..data.new"), folder.join("..data")).unwrap();
    for file in ["cert.pem", "key.pem"] {
        if fs::read_link(folder.join(file)).is_err() {
            symlink(Path::new("..data").join(file), folder.join("link.new")).unwrap();
            fs::rename(folder.join("link.new"), folder.join(file)).unwrap();
        }
    }
}

#[test]
fn a_bad_pair_is_told_once_and_the_good_one_stays() {
    let (magpie, authority, caller) = served("");
    let folder = magpie.process.setup.folder().to_owned();
    let first = caller.connect(magpie.address).unwrap().shown();
    let (next, other) = (authority.pair("next"), authority.pair("other"));
    let half = &next.cert[..next.cert.len() / 2];
    let bad = [
        (half, next.key.as_str(), "cert.pem"),
        ("", &next.key, "there is no certificate in it"),
        ("nonsense", &next.key, "there is no certificate in it"),
        (&next.cert, "", "the key: "),
        (&next.cert, &other.key, "the key is not that of the certificate"),
    ];
    for (number, (cert, key, told)) in bad.into_iter().enumerate() {
        fs::write(folder.join("key.pem"), key).unwrap();
        fs::write(folder.join("cert.pem"), cert).unwrap();
        magpie.process.stderr.wait_for("a note", |text| {
            let notes: Vec<&str> =
                text.lines().filter(|line| line.contains("stays in use")).collect();
            (notes.len() > number && notes.last()?.contains(told)).then_some(())
        });
        let before = magpie.process.stderr.so_far().matches("stays in use").count();
        magpie.process.signal("HUP");
        assert_eq!(caller.connect(magpie.address).unwrap().shown(), first);
        thread::sleep(Duration::from_millis(150));
        assert_eq!(magpie.process.stderr.so_far().matches("stays in use").count(), before);
    }
    fs::remove_file(folder.join("key.pem")).unwrap();
    magpie
        .process
        .stderr
        .wait_for("a note", |text| text.contains("key.pem: No such file").then_some(()));
    assert_eq!(caller.connect(magpie.address).unwrap().shown(), first);
    next.write(&folder);
    wait_for(&caller, magpie.address, &next);
}

#[test]
fn no_handshake_fails_while_certificates_change_fifty_times() {
    let _alone = turn::alone();
    let (magpie, authority, _) = served("log: { requests: false }");
    let address = magpie.address;
    let folder = magpie.process.setup.folder().to_owned();
    let (over, handshakes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (over, handshakes) = (Arc::clone(&over), Arc::clone(&handshakes));
            let pem = authority.pem.clone();
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // A client of its own each time, so that nothing is resumed.
                    let caller = Caller::new(&pem, None, &[]);
                    let answer = caller.get(address, "/health").unwrap();
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    handshakes.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(15));
                }
            })
        })
        .collect();
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for number in 0..50 {
        let pair = authority.pair(&format!("number {number}"));
        match number % 3 {
            0 => pair.write(&folder),
            1 => {
                // Not whole for longer than it takes to be looked at.
                fs::write(folder.join("key.pem"), &pair.key[..pair.key.len() / 2]).unwrap();
                thread::sleep(Duration::from_millis(150));
                pair.write(&folder);
            }
            _ => {
                for (name, text) in [("cert.pem", &pair.cert), ("key.pem", &pair.key)] {
                    fs::write(folder.join("beside"), text).unwrap();
                    fs::rename(folder.join("beside"), folder.join(name)).unwrap();
                }
            }
        }
        slowest = slowest.max(wait_for(&Caller::new(&authority.pem, None, &[]), address, &pair));
    }
    let time = start.elapsed();
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().expect("a handshake or an answer has failed");
    }
    let handshakes = handshakes.load(Ordering::Relaxed);
    let rate = handshakes as f64 / time.as_secs_f64();
    eprintln!("50 changes, {handshakes} handshakes at {rate:.0}/s, slowest change {slowest:?}");
    assert!(handshakes > 500);
    assert!(slowest < Duration::from_secs(1), "a change took {slowest:?}");
}

#[test]
fn who_dawdles_in_a_handshake_is_cut_off_and_keeps_nobody_out() {
    let (magpie, _authority, caller) = served("");
    // The beginning of a hello, and nothing at all.
    let mut dawdlers: Vec<Wire> = (0..300).map(|_| magpie.connect()).collect();
    for wire in dawdlers.iter_mut().step_by(2) {
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc");
    }
    let start = Instant::now();
    assert!(caller.get(magpie.address, "/health").unwrap().starts_with("HTTP/1.1 200"));
    assert!(start.elapsed() < Duration::from_secs(5), "kept out by others");
    for wire in &mut dawdlers {
        assert!(wire.ends_within(Duration::from_secs(15)), "never cut off");
    }
    assert!(start.elapsed() > Duration::from_secs(9), "cut off early");
}

#[test]
fn one_connection_too_many_is_closed_without_a_word_in_clear_text() {
    let (magpie, _authority, caller) = served("limits: { connections: 16 }");
    let taken: Vec<_> = (0..16).map(|_| caller.connect(magpie.address).unwrap()).collect();
    let mut wire = magpie.connect();
    assert!(wire.ends_within(PATIENCE));
    assert!(caller.connect(magpie.address).is_err());
    drop(taken);
    let start = Instant::now();
    while caller.connect(magpie.address).is_err() {
        assert!(start.elapsed() < PATIENCE, "no room although all have left");
    }
}

#[test]
fn a_stream_over_tls_runs_to_its_end_while_the_process_stops() {
    let upstream = ScriptedUpstream::start();
    let authority = Authority::new();
    let setup = Setup::of(&upstream.base_url()).and(FILES);
    authority.pair("magpie").write(setup.folder());
    let mut magpie = setup.start();
    let caller = Caller::new(&authority.pem, None, &[]);
    let mut session = caller.connect(magpie.address).unwrap();
    session.send("POST", CHAT, &chat("up/events:20:50", true)).unwrap();
    session.read_until("w1 ");
    magpie.process.signal("TERM");
    // The end of TLS is announced, so nothing was cut off.
    assert!(session.read_to_end().unwrap().ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
    assert!(magpie.process.wait(PATIENCE).success());
}

#[test]
fn a_start_with_files_of_no_use_fails_and_names_them() {
    let authority = Authority::new();
    let (one, two) = (authority.pair("one"), authority.pair("two"));
    let fails = |setup: Setup, told: &[&str]| {
        let output = setup.run(&[]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(told.iter().all(|told| errors.contains(told)), "{told:?} not in {errors}");
    };
    fails(Setup::empty().and(FILES), &["tls: ", "cert.pem", "No such file"]);
    let setup = Setup::empty().and(FILES);
    one.write(setup.folder());
    fs::write(setup.folder().join("key.pem"), &two.key).unwrap();
    fails(setup, &["cert.pem with key.pem", "not that of the certificate"]);
    let setup = Setup::empty().and("tls: { cert: cert.pem, key: key.pem, client_ca: ca.pem }");
    one.write(setup.folder());
    fs::write(setup.folder().join("ca.pem"), "nobody").unwrap();
    fails(setup, &["ca.pem", "no certificate in it"]);
    fails(Setup::empty().and("tls: { cert: cert.pem }"), &["`cert` and `key` belong together"]);
}

#[test]
fn bytes_behind_the_handshake_that_are_no_request_end_the_connection_only() {
    let (magpie, _authority, caller) = served("");
    let mut session = caller.connect(magpie.address).unwrap();
    session.send("\x01\x02", "garbage", "").unwrap();
    assert!(session.read_to_end().unwrap().starts_with("HTTP/1.1 400"));
    // A connection that breaks in the middle of a record.
    let mut raw = std::net::TcpStream::connect(magpie.address).unwrap();
    raw.write_all(b"\x16\x03\x01").unwrap();
    drop(raw);
    let mut raw = std::net::TcpStream::connect(magpie.address).unwrap();
    raw.set_read_timeout(Some(PATIENCE)).unwrap();
    raw.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
    let mut rest = Vec::new();
    raw.read_to_end(&mut rest).unwrap();
    assert!(rest.len() <= 7, "an alert at most");
    assert!(caller.get(magpie.address, "/health").unwrap().starts_with("HTTP/1.1 200"));
}
