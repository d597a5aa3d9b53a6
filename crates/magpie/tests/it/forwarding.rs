//! Every other path of an OpenAI API: forwarded as it is, streamed both ways.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use testkit::{ScriptedUpstream, digest_text};

use crate::client::request;
use crate::harness::{PATIENCE, PROVIDER_KEY, Setup};
use crate::raw::RawUpstream;

const BOUNDARY: &str = "----magpie-test";

/// A form with a model and a file of this size, up to the end of the file.
pub(crate) fn form(model: &str, size: usize) -> Vec<u8> {
    let field = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n\
         --{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
         content-type: audio/wav\r\n\r\n"
    );
    let file = (0..size).map(|at| u8::try_from(at % 251).unwrap());
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    field.into_bytes().into_iter().chain(file).chain(end.into_bytes()).collect()
}

pub(crate) fn form_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

#[test]
fn a_form_is_forwarded_with_the_name_of_the_model_rewritten() {
    let upstream = ScriptedUpstream::start();
    let models = "models: { whisper: up/whisper-large }";
    let magpie = Setup::of(&upstream.base_url()).and(models).start();
    let path = "/v1/audio/transcriptions?x=1&y=%20";
    let mut wire = magpie.connect();
    wire.send(&request(
        "POST",
        path,
        &[("content-type", &form_type())],
        &form("whisper", 5_000_000),
    ));
    let reply = wire.reply();
    assert_eq!(reply.status(), 200, "{}", reply.text());
    let sent = form("whisper-large", 5_000_000);
    let received = &upstream.received()[0];
    assert_eq!(received.target, path);
    assert!(received.body == sent, "{} bytes instead of {}", received.body.len(), sent.len());
    assert_eq!(received.header("content-length"), Some(&*sent.len().to_string()));
    assert_eq!(received.header("content-type"), Some(&*form_type()));
    assert_eq!(received.header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
    assert_eq!(reply.json()["digest"], digest_text(&sent));
}

/// An upstream that tells the head and then the bytes it has read so far, and answers at the end
/// of a form.
fn telling_upstream() -> (RawUpstream, mpsc::Receiver<(String, usize)>) {
    let (told, heard) = mpsc::channel();
    let upstream = RawUpstream::start(move |mut peer, _| {
        let head = peer.head().unwrap();
        told.send((head, 0)).unwrap();
        let mut total = 0;
        while let Some(piece) = peer.read() {
            total += piece.len();
            told.send((String::new(), total)).unwrap();
            if piece.ends_with(b"--\r\n") {
                peer.write(crate::raw::ok("{}"));
            }
        }
        let _ = told.send(("over".to_owned(), total));
    });
    (upstream, heard)
}

#[test]
fn an_upload_is_on_its_way_before_the_client_has_sent_all_of_it() {
    let (upstream, heard) = telling_upstream();
    let magpie = Setup::of(&upstream.base_url()).start();
    let path = "/v1/audio/transcriptions";
    let form = form("up/whisper", 5_000_000);
    let bytes = request("POST", path, &[("content-type", &form_type())], &form);
    let mut wire = magpie.connect();
    let half = bytes.len() / 2;
    wire.send(&bytes[..half]);
    let (head, _) = heard.recv_timeout(PATIENCE).expect("nothing came before all was sent");
    assert!(head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{head}");
    // All of the first half arrives while the second is still here.
    while heard.recv_timeout(PATIENCE).unwrap().1 < half - 4096 {}
    wire.send(&bytes[half..]);
    assert_eq!(wire.reply().status(), 200);
}

#[test]
fn an_upload_whose_client_leaves_breaks_off_at_the_provider_too() {
    let (upstream, heard) = telling_upstream();
    let magpie = Setup::of(&upstream.base_url()).start();
    let headers = [("content-type", &*form_type()), ("x-magpie-provider", "up")];
    let bytes = request("POST", "/v1/files", &headers, &form("m", 1_000_000));
    let mut wire = magpie.connect();
    wire.send(&bytes[..500_000]);
    while heard.recv_timeout(PATIENCE).unwrap().1 < 400_000 {}
    drop(wire);
    let left = Instant::now();
    while heard.recv_timeout(PATIENCE).unwrap().0 != "over" {}
    assert!(left.elapsed() < Duration::from_secs(1), "the provider waits for the rest");
    let line = magpie.log(1)[0].clone();
    assert!(matches!(line["outcome"].as_str(), Some("client_gone" | "refused")), "{line}");
}

#[test]
fn an_upload_larger_than_the_limit_is_refused() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and("limits: { upload: 64KiB }").start();
    let headers = [("content-type", &*form_type()), ("x-magpie-provider", "up")];
    let mut wire = magpie.connect();
    wire.try_send(&request("POST", "/v1/files", &headers, &form("m", 100_000)));
    let reply = wire.reply();
    reply.assert_error(413, "body_too_large");
    assert!(reply.message().contains("65536"), "{}", reply.message());
    assert!(upstream.received().is_empty());
    let mut wire = magpie.connect();
    wire.send(&request("POST", "/v1/files", &headers, &form("m", 30_000)));
    assert_eq!(wire.reply().status(), 200);
}

#[test]
fn a_form_that_names_another_model_behind_its_file_is_refused() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    let whole = form("up/cheap", 500_000);
    let end = format!("--{BOUNDARY}--\r\n");
    let second = form("dear", 0);
    let body = [&whole[..whole.len() - end.len()], &second].concat();
    let path = "/v1/audio/transcriptions";
    let mut wire = magpie.connect();
    wire.try_send(&request("POST", path, &[("content-type", &form_type())], &body));
    wire.reply().assert_error(400, "duplicate_field");
    assert!(upstream.received().is_empty(), "no provider has it whole");
}

#[test]
fn the_provider_is_named_by_header_by_model_or_by_being_the_only_one() {
    let (first, second) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let only = Setup::of(&first.base_url()).start();
    assert_eq!(only.get("/v1/files?limit=2").json()["object"], "list");
    assert_eq!(first.received()[0].target, "/v1/files?limit=2");

    let both = format!(
        "providers:\n  one: {{ base_url: {} }}\n  two: {{ base_url: {} }}\n",
        first.base_url(),
        second.base_url()
    );
    let magpie = Setup::file(&both).start();
    magpie.get("/v1/files").assert_error(400, "provider_required");
    for (name, upstream) in [("one", &first), ("two", &second)] {
        upstream.clear();
        let header = [("x-magpie-provider", name)];
        let files = magpie.call("GET", "/v1/files?after=file-1", &header, "");
        assert_eq!(files.json()["data"][0]["id"], "file-1");
        assert_eq!(files.header("x-magpie-provider"), Some(name));
        let models = magpie.call("GET", "/v1/models", &header, "");
        assert_eq!(models.json()["data"][0]["owned_by"], "scripted");
        let body = format!(r#"{{"model": "{name}/rerank-1", "documents": ["a"]}}"#);
        assert_eq!(magpie.post("/v1/rerank", &body).json()["model"], "rerank-1");
        let targets: Vec<String> = upstream.received().iter().map(|r| r.target.clone()).collect();
        assert_eq!(targets, ["/v1/files?after=file-1", "/v1/models", "/v1/rerank"]);
        // The header is for Magpie.
        assert!(upstream.received().iter().all(|r| r.header("x-magpie-provider").is_none()));
    }
    let nobody = magpie.call("GET", "/v1/files", &[("x-magpie-provider", "three")], "");
    nobody.assert_error(404, "provider_not_found");
}

#[test]
fn methods_and_errors_of_a_provider_pass() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    assert_eq!(magpie.call("DELETE", "/v1/files/file-1", &[], "").json()["deleted"], true);
    let content = magpie.get("/v1/files/file-1/content");
    assert_eq!(content.header("content-type"), Some("application/octet-stream"));
    assert_eq!(content.text(), "{\"scripted\":true}\n");
    let missing = magpie.get("/v1/no/such/path");
    assert_eq!((missing.status(), &*missing.code()), (404, "unknown_url"));
    let speech = magpie.post("/v1/audio/speech", r#"{"model": "up/tts", "input": "a"}"#);
    assert_eq!((speech.header("content-type"), speech.body.len()), (Some("audio/mpeg"), 4000));
    let responses =
        magpie.post("/v1/responses", r#"{"model": "up/ok", "input": "a", "stream": true}"#);
    assert!(responses.text().contains("event: response.completed"), "{}", responses.text());
    let methods: Vec<String> = upstream.received().iter().map(|r| r.method.clone()).collect();
    assert_eq!(methods, ["DELETE", "GET", "GET", "POST", "POST"]);
}

/// A download of 20 MB, of which the second half is sent once the test says so.
#[test]
fn a_download_streams_through_with_its_length() {
    const SIZE: usize = 20_000_000;
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = RawUpstream::start(move |mut peer, _| {
        peer.head();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\
                    content-disposition: attachment; filename=\"a.bin\"\r\n";
        peer.write(format!("{head}content-length: {SIZE}\r\n\r\n"));
        peer.write(vec![7; SIZE / 2]);
        gone.lock().unwrap().recv_timeout(PATIENCE).expect("the first half has not arrived");
        peer.write(vec![7; SIZE / 2]);
    });
    let magpie = Setup::of(&upstream.base_url()).start();
    let mut wire = magpie.connect();
    wire.send(&request("GET", "/v1/files/file-1/content", &[], b""));
    let head = wire.head();
    assert_eq!(head.header("content-length"), Some(&*SIZE.to_string()));
    assert_eq!(head.header("content-disposition"), Some("attachment; filename=\"a.bin\""));
    assert!(wire.read_ahead(SIZE / 2).iter().all(|byte| *byte == 7));
    go.send(()).unwrap();
    let rest = wire.read_ahead(SIZE / 2);
    assert!(rest.iter().all(|byte| *byte == 7));
}

#[test]
fn a_download_that_breaks_off_breaks_off_at_the_client_too() {
    let upstream = RawUpstream::start(|mut peer, number| {
        peer.head();
        let framing = ["content-length: 100000", "transfer-encoding: chunked"][number % 2];
        peer.write(format!("HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n{framing}\r\n\r\n"));
        peer.write(
            ["a".repeat(50), "32\r\n".to_owned() + &"a".repeat(50) + "\r\n"][number % 2].clone(),
        );
        std::thread::sleep(Duration::from_millis(20));
    });
    let magpie = Setup::of(&upstream.base_url()).start();
    for _ in 0..2 {
        let reply = magpie.get("/v1/files/file-1/content");
        assert_eq!(reply.status(), 200);
        assert!(!reply.whole, "a part was taken for the whole");
    }
    let lines = magpie.log(2);
    assert!(lines.iter().all(|line| line["outcome"] == "truncated"), "{lines:?}");
    assert!(lines.iter().all(|line| line["cause"] == "transient"), "{lines:?}");
}
