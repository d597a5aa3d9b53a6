//! Certificates from an ACME authority: Pebble, the test server of Let's Encrypt, which refuses good
//! nonces now and then. Where it is not installed (`apt install pebble`, or `go install
//! github.com/letsencrypt/pebble/v2/cmd/pebble@latest`), these tests say so and pass.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};
use crate::tls_client::{Authority, Caller};

/// How long an order may take on a busy machine.
const ORDER: Duration = Duration::from_secs(60);

/// A running authority.
struct Pebble {
    child: Child,
    directory: SocketAddr,
    management: SocketAddr,
    /// Who vouches for its own connections.
    authority: Authority,
    folder: TempDir,
    /// Where it looks.
    https: SocketAddr,
    http: SocketAddr,
}

impl Pebble {
    /// Starts one whose certificates last for `lifetime`; `None` where it is not installed.
    fn start(lifetime: Duration) -> Option<Self> {
        let [directory, management, https, http] = free_addresses();
        let authority = Authority::new();
        let folder = TempDir::new().unwrap();
        authority.pair("pebble").write(folder.path());
        fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
        let config = json!({ "pebble": {
            "listenAddress": directory.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": folder.path().join("cert.pem"),
            "privateKey": folder.path().join("key.pem"),
            "httpPort": http.port(),
            "tlsPort": https.port(),
            "certificateValidityPeriod": lifetime.as_secs(),
        }});
        let config_file = folder.path().join("pebble.json");
        fs::write(&config_file, config.to_string()).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let started = Command::new("pebble")
            .arg("-config")
            .arg(&config_file)
            .env("PEBBLE_VA_NOSLEEP", "1")
            // A request is repeated twice: of these, one in 40,000 fails all the same.
            .env("PEBBLE_WFE_NONCEREJECT", "3")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let Ok(child) = started else {
            eprintln!("pebble is not installed: this test has tested nothing");
            return None;
        };
        let pebble = Self { child, directory, management, authority, folder, https, http };
        let start = Instant::now();
        while pebble.caller().connect(pebble.directory).is_err() {
            assert!(start.elapsed() < PATIENCE, "pebble does not answer:\n{}", pebble.log());
            thread::sleep(Duration::from_millis(20));
        }
        Some(pebble)
    }

    fn caller(&self) -> Caller {
        Caller::new(&self.authority.pem, None, &[])
    }

    /// A client that trusts the certificates it issues.
    fn client(&self) -> Caller {
        let answer = self.caller().get(self.management, "/roots/0").unwrap();
        Caller::new(&answer[answer.find("-----BEGIN").unwrap()..], None, &[])
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn orders(&self) -> usize {
        self.log().matches("Issued certificate serial").count()
    }

    /// A Magpie that orders here, with more in its `acme` and its `tls`.
    fn customer(&self, storage: &Path, acme: &str, tls: &str) -> Magpie {
        Setup::empty()
            .env("MAGPIE_LISTEN", &self.https.to_string())
            .and(&format!(
                "tls:\n  acme: {{ domains: [LocalHost], email: lab@example.com, directory: \
                 'https://localhost:{}/dir', ca_file: '{}', storage: '{}'{acme} }}\n{tls}",
                self.directory.port(),
                self.folder.path().join("ca.pem").display(),
                storage.display(),
            ))
            .start()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- pebble\n{}---", self.log());
        }
    }
}

fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Waits until a certificate of that authority is shown.
fn wait_for_certificate(pebble: &Pebble, magpie: &Magpie) -> Caller {
    let client = pebble.client();
    let start = Instant::now();
    while client.connect(magpie.address).is_err() {
        let told = magpie.process.stderr.so_far();
        assert!(start.elapsed() < ORDER, "no certificate:\n{told}");
        thread::sleep(Duration::from_millis(20));
    }
    client
}

fn stored(storage: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(storage).unwrap().next().unwrap().unwrap().path();
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_certificate_is_ordered_over_tls_and_kept_for_the_next_start() {
    let Some(pebble) = Pebble::start(Duration::from_secs(90 * 86_400)) else { return };
    let storage = TempDir::new().unwrap();
    let magpie = pebble.customer(storage.path(), "", "");
    let client = wait_for_certificate(&pebble, &magpie);
    let mut session = client.connect(magpie.address).unwrap();
    session.send("POST", CHAT, &chat("echo", false)).unwrap();
    assert!(session.read_to_end().unwrap().starts_with("HTTP/1.1 200"));
    let shown = session.shown();
    let files = stored(storage.path());
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap()).collect();
    assert_eq!(names, ["account.json", "localhost.pem"]);
    for file in &files {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(pebble.orders(), 1);
    // The next start has it at once, and orders nothing.
    drop(magpie);
    let magpie = pebble.customer(storage.path(), "", "");
    assert_eq!(client.connect(magpie.address).unwrap().shown(), shown);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(pebble.orders(), 1);
    // One that is lost is ordered again, with the same account.
    drop(magpie);
    let account = fs::read(&files[0]).unwrap();
    fs::remove_file(&files[1]).unwrap();
    let magpie = pebble.customer(storage.path(), "", "");
    wait_for_certificate(&pebble, &magpie);
    assert_eq!((pebble.orders(), fs::read(&files[0]).unwrap()), (2, account));
}

#[test]
fn an_authority_may_ask_in_clear_text() {
    let Some(pebble) = Pebble::start(Duration::from_secs(90 * 86_400)) else { return };
    let storage = TempDir::new().unwrap();
    let acme = format!(", challenge: http-01, http_listen: '{}'", pebble.http);
    let magpie = pebble.customer(storage.path(), &acme, "");
    let client = wait_for_certificate(&pebble, &magpie);
    assert!(client.get(magpie.address, "/health").unwrap().starts_with("HTTP/1.1 200"));
    // There is nothing else to be had, and no answer is left.
    for path in ["/", "/health", "/v1/models", "/.well-known/acme-challenge/x"] {
        let mut wire = crate::client::Wire::connect(pebble.http);
        wire.send(&crate::client::request("GET", path, &[], b""));
        assert_eq!(wire.reply_to("GET").status(), 404, "{path}");
    }
}

#[test]
fn clients_that_need_certificates_of_their_own_are_no_hindrance() {
    let Some(pebble) = Pebble::start(Duration::from_secs(90 * 86_400)) else { return };
    let storage = TempDir::new().unwrap();
    let clients = Authority::new();
    let ca = storage.path().join("clients.pem");
    let kept = storage.path().join("acme");
    fs::write(&ca, &clients.pem).unwrap();
    let magpie = pebble.customer(&kept, "", &format!("  client_ca: '{}'", ca.display()));
    let without = wait_for_certificate(&pebble, &magpie);
    let answer = without.get(magpie.address, "/health");
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_time_is_left() {
    let Some(pebble) = Pebble::start(Duration::from_secs(18)) else { return };
    let storage = TempDir::new().unwrap();
    let magpie = pebble.customer(storage.path(), "", "");
    let client = wait_for_certificate(&pebble, &magpie);
    let first = client.connect(magpie.address).unwrap().shown();
    let start = Instant::now();
    loop {
        // Each of these is checked by the client, its end included.
        let shown = client.connect(magpie.address).expect("it must never be over").shown();
        if shown != first {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(18), "not renewed");
        thread::sleep(Duration::from_millis(20));
    }
    let after = start.elapsed();
    assert!(after > Duration::from_secs(9), "renewed already after {after:?}");
    assert_eq!(pebble.orders(), 2);
}

#[test]
fn an_order_that_is_refused_is_told_with_its_reason() {
    let Some(pebble) = Pebble::start(Duration::from_secs(90 * 86_400)) else { return };
    let storage = TempDir::new().unwrap();
    // The authority will look where nobody listens, and nobody else can meanwhile.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind(pebble.https).unwrap();
    let magpie = Setup::empty()
        .and(&format!(
            "tls: {{ acme: {{ domains: [localhost], directory: 'https://localhost:{}/dir', \
             ca_file: '{}', storage: '{}' }} }}",
            pebble.directory.port(),
            pebble.folder.path().join("ca.pem").display(),
            storage.path().display(),
        ))
        .start();
    let told = magpie.process.stderr.wait_long_for(ORDER, "a note", |text| {
        text.lines().find(|line| line.contains("ACME: no certificate")).map(String::from)
    });
    assert!(told.contains("localhost") && told.contains("Failed to connect"), "{told}");
    assert!(told.ends_with("again in 120s"), "{told}");
    // Nobody is shown anything else instead.
    assert!(pebble.client().connect(magpie.address).is_err());
    assert!(magpie.post(CHAT, "{}").text().contains("https_required"));
}

#[test]
fn an_authority_that_is_not_trusted_or_not_there_is_told() {
    let authority = Authority::new();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
    let [nobody] = free_addresses();
    let magpie = Setup::empty()
        .and(&format!(
            "tls: {{ acme: {{ domains: [localhost], directory: 'https://{nobody}/dir', \
             ca_file: '{0}/ca.pem', storage: '{0}/acme' }} }}",
            folder.path().display(),
        ))
        .start();
    let told = magpie.process.stderr.wait_for("a note", |text| {
        text.lines().find(|line| line.contains("ACME: no certificate")).map(String::from)
    });
    assert!(told.contains("127.0.0.1: Connection refused"), "{told}");
}
