//! `magpie keys` beside a server that runs: what is changed there counts here within a second.

use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::ScriptedUpstream;

use crate::client::Reply;
use crate::harness::{CHAT, Magpie, Setup, chat};

/// How soon a change has to count.
const SOON: Duration = Duration::from_secs(1);

fn served() -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    (upstream, magpie)
}

fn keys(magpie: &Magpie, arguments: &[&str]) -> Output {
    magpie.process.setup.run(&[&["keys"], arguments].concat())
}

/// What a command that has to succeed says.
fn said(magpie: &Magpie, arguments: &[&str]) -> String {
    let output = keys(magpie, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The text of a key that was just made, as a script takes it: the last line.
fn made(magpie: &Magpie, arguments: &[&str]) -> String {
    let text = said(magpie, arguments).lines().last().unwrap().to_owned();
    assert!(text.starts_with("mk-"), "{text}");
    text
}

fn ask(magpie: &Magpie, key: &str, script: &str) -> Reply {
    let bearer = format!("Bearer {key}");
    let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
    magpie.call("POST", CHAT, &headers, &chat(&format!("up/{script}"), false))
}

fn ask_without(magpie: &Magpie) -> Reply {
    magpie.ask("ok", false)
}

/// Waits until something is answered with a status. Says how long that took.
fn until(status: u16, mut ask: impl FnMut() -> Reply) -> Duration {
    let start = Instant::now();
    loop {
        let reply = ask();
        if reply.status() == status {
            return start.elapsed();
        }
        let waited = start.elapsed();
        assert!(waited < SOON, "still {} after {waited:?}: {}", reply.status(), reply.text());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the server knows of the first key: then nobody gets in without one.
fn until_shut(magpie: &Magpie) -> Duration {
    until(401, || ask_without(magpie))
}

#[test]
fn a_key_made_beside_a_running_server_works_and_shuts_the_door_to_others() {
    let (_upstream, magpie) = served();
    assert_eq!(ask_without(&magpie).status(), 200, "open on this machine until there are keys");
    let key = made(&magpie, &["new", "ada"]);
    // Before the server knows of it any key will do, and none.
    let shut = until_shut(&magpie);
    assert_eq!(ask(&magpie, &key, "ok").status(), 200);
    ask_without(&magpie).assert_error(401, "missing_api_key");
    let second = made(&magpie, &["new", "bo"]);
    let took = until(200, || ask(&magpie, &second, "ok"));
    eprintln!("shut {shut:?} after the first key was made; the next one worked after {took:?}");

    // It is shown once.
    for arguments in [&["list"][..], &["list", "--json"], &["show", "ada"]] {
        let text = said(&magpie, arguments);
        assert!(text.contains("ada") && text.contains(&key[key.len() - 4..]), "{text}");
        assert!(!text.contains(&key), "{arguments:?} shows the key");
    }
    // It works on after a restart.
    let magpie = magpie.stop().start();
    assert_eq!(ask(&magpie, &key, "ok").status(), 200);
    assert_eq!(ask_without(&magpie).status(), 401);
}

#[test]
fn the_terms_of_a_key_hold() {
    let (_upstream, magpie) = served();
    let terms = ["--models", "up/ok,up/ev*", "--operations", "chat", "--limit", "concurrency=1"];
    let key = made(&magpie, &[&["new", "narrow"], &terms[..]].concat());
    until_shut(&magpie);
    assert_eq!(ask(&magpie, &key, "ok").status(), 200);
    assert_eq!(ask(&magpie, &key, "events:2").status(), 200);
    ask(&magpie, &key, "close-after").assert_error(403, "model_not_allowed");
    let bearer = format!("Bearer {key}");
    let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
    let body = r#"{"model": "up/ok", "input": "a"}"#;
    let embedding = magpie.call("POST", "/v1/embeddings", &headers, body);
    embedding.assert_error(403, "operation_not_allowed");
    let shown: Value = serde_json::from_str(&said(&magpie, &["show", "narrow"])).unwrap();
    assert_eq!(shown["models"], json!(["up/ok", "up/ev*"]), "{shown}");
    for (arguments, why) in [
        (&["new", "bad", "--limit", "many"][..], "is no limit"),
        (&["new", "bad", "--budget", "much"], "budget"),
        (&["show", "nobody"], "there is no key"),
        (&["revoke", "nobody"], "there is no key"),
    ] {
        let output = keys(&magpie, arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(why), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_revoked_key_stops_within_a_second_and_the_last_one_leaves_the_door_shut() {
    let (_upstream, magpie) = served();
    let first = made(&magpie, &["new", "first"]);
    let second = made(&magpie, &["new", "second"]);
    until_shut(&magpie);
    until(200, || ask(&magpie, &first, "ok"));
    until(200, || ask(&magpie, &second, "ok"));
    said(&magpie, &["revoke", "first"]);
    let took = until(401, || ask(&magpie, &first, "ok"));
    ask(&magpie, &first, "ok").assert_error(401, "invalid_api_key");
    assert_eq!(ask(&magpie, &second, "ok").status(), 200, "the other one works on");
    eprintln!("a revoked key stopped after {took:?}");

    said(&magpie, &["revoke", "second"]);
    until(401, || ask(&magpie, &second, "ok"));
    for _ in 0..10 {
        ask_without(&magpie).assert_error(401, "missing_api_key");
        thread::sleep(Duration::from_millis(50));
    }
    let list = said(&magpie, &["list"]);
    assert!(!list.contains("first") && !list.contains("second"), "{list}");
    let all = said(&magpie, &["list", "--all"]);
    assert_eq!(all.matches("revoked").count(), 2, "{all}");
    // Nor does a restart open it again.
    let magpie = magpie.stop().start();
    ask_without(&magpie).assert_error(401, "missing_api_key");
    ask(&magpie, &second, "ok").assert_error(401, "invalid_api_key");
}

#[test]
fn an_answer_that_runs_when_its_key_is_revoked_is_finished() {
    let (_upstream, magpie) = served();
    let key = made(&magpie, &["new", "brief"]);
    until_shut(&magpie);
    thread::scope(|scope| {
        let running = scope.spawn(|| ask(&magpie, &key, "slow:1500"));
        thread::sleep(Duration::from_millis(150));
        said(&magpie, &["revoke", "brief"]);
        until(401, || ask(&magpie, &key, "ok"));
        assert!(!running.is_finished());
        assert_eq!(running.join().unwrap().status(), 200);
    });
}

#[test]
fn the_old_text_of_a_key_works_on_for_the_overlap() {
    let (_upstream, magpie) = served();
    let old = made(&magpie, &["new", "turning"]);
    until_shut(&magpie);
    let new = made(&magpie, &["rotate", "turning", "--overlap", "3s"]);
    let rotated = Instant::now();
    assert_ne!(new, old);
    until(200, || ask(&magpie, &new, "ok"));
    // The server knows of the new text, and still takes both.
    assert_eq!(ask(&magpie, &old, "ok").status(), 200, "{:?} after", rotated.elapsed());
    thread::sleep(Duration::from_secs(3).saturating_sub(rotated.elapsed()));
    until(401, || ask(&magpie, &old, "ok"));
    assert_eq!(ask(&magpie, &new, "ok").status(), 200);

    let newest = made(&magpie, &["rotate", "turning", "--overlap", "0s"]);
    until(200, || ask(&magpie, &newest, "ok"));
    until(401, || ask(&magpie, &new, "ok"));
    assert_eq!(said(&magpie, &["list", "--json"]).matches("turning").count(), 1, "one key still");
}

#[test]
fn the_keys_of_the_file_are_listed_without_their_texts() {
    const CI: &str = "a-secret-of-the-file-9876";
    let upstream = ScriptedUpstream::start();
    let hash = "sha256:ca9ef9a3a63d954a79d5a58c67c382565a65af5c9c36d6f3a6fc06c1dd96a6f3";
    let keys = format!(
        "admin: {{ listen: \"127.0.0.1:0\" }}\nkeys:\n  - {{ name: ci, key: \"${{CI_KEY}}\", team: search, models: [up/ok] }}\n  \
         - {{ name: \"nightly run\", hash: \"{hash}\", enabled: false }}\n"
    );
    let setup = Setup::of(&upstream.base_url()).and(&keys).env("CI_KEY", CI);
    let say = |arguments: &[&str]| {
        let output = setup.run(&[&["keys"], arguments].concat());
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        for secret in [CI, &CI[CI.len() - 4..], &hash[7..]] {
            assert!(!text.contains(secret), "{arguments:?}: {text}");
        }
        (output.status.success(), text)
    };
    // Without a server, and before there is a store.
    let (fine, list) = say(&["list"]);
    assert!(fine, "{list}");
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("ci").ends_with("team search          in the file"), "{list}");
    assert!(line("nightly run").ends_with("in the file, disabled"), "{list}");
    let (_, json) = say(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(listed[1]["origin"], "file", "{json}");
    let (_, shown) = say(&["show", "ci"]);
    assert!(shown.contains("up/ok"), "{shown}");
    for verb in ["revoke", "rotate"] {
        let (fine, text) = say(&[verb, "ci"]);
        assert!(!fine && text.contains("configuration file"), "{text}");
    }
    // One of the store by the same name is the one that can be changed.
    assert!(say(&["new", "ci"]).0);
    let (fine, revoked) = say(&["revoke", "ci"]);
    assert!(fine && revoked.contains("(key_"), "{revoked}");
}
