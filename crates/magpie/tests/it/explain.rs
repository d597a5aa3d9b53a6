//! `magpie explain`: where a request would go, from the file alone and from a server that runs.

use std::process::Output;

use serde_json::Value;
use testkit::ScriptedUpstream;

use crate::harness::{ADMIN_TOKEN, CHAT, PROVIDER_KEY, Setup, chat};

const CONFIG: &str = "
prices:
  up/long: { currency: CNY, input: 2, output: 8 }
timeouts: { connect: 2s, first_event: 90s, idle: 1500ms, total: 30m }
keys:
  - { name: ci, key: a-key-of-thirty-two-letters-at-least, team: search }
teams: { search: { models: ['gpt-*'] } }
models:
  w:
    when:
      - { if: { header: { x-tier: gold } }, use: up/gold }
      - { if: { metadata: { centre: '4711' } }, use: up/centre }
      - { if: { team: search }, use: up/search }
      - { if: { input_over: 1k }, use: up/long }
      - { if: { tools: true }, use: up/tools }
      - { if: { images: true }, use: up/images }
      - { if: { operations: [embedding] }, use: up/embedding }
      - { if: { hours: '02:00-03:00' }, use: up/night }
      - { use: up/rest }
  'gpt-*': up/*
  r: { race: [up/a, up/b], mirror: { to: up/c, share: 0.5 } }
";

fn setup() -> Setup {
    // Nobody listens there, and nobody is asked.
    Setup::of("http://127.0.0.1:9/v1").and(CONFIG)
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The words of the line that begins so.
#[track_caller]
fn line<'t>(text: &'t str, first: &str) -> Vec<&'t str> {
    let found = text.lines().find(|line| line.split_whitespace().next() == Some(first));
    found.unwrap_or_else(|| panic!("no {first} in {text}")).split_whitespace().collect()
}

#[test]
fn the_plan_is_a_table_with_reasons_costs_and_clocks() {
    let setup = setup();
    let text = said(&setup.run(&["explain", "w", "--input-tokens", "500000", "--at=2026-11-22"]));
    assert!(text.starts_with("model `w`\n"), "{text}");
    let row = line(&text, "1");
    assert_eq!(row, ["1", "up/long", "-", "case", "4", "¥1", "2s", "90s", "1.5s", "30m"], "{text}");
    assert_eq!(text.matches("another case applies").count(), 8, "{text}");
    assert!(text.contains("how targets are now is not included"), "{text}");
    assert!(!text.contains("BREAKER") && !text.contains(PROVIDER_KEY), "{text}");
    let head = text.lines().find(|line| line.starts_with('#')).unwrap();
    let first = text.lines().find(|line| line.starts_with('1')).unwrap();
    for (name, value) in [("TARGET", "up/long"), ("WHY", "case 4"), ("TOTAL", "30m")] {
        assert_eq!(head.find(name), first.replace('¥', "Y").find(value), "{name}: {text}");
    }
    let wild = said(&setup.run(&["explain", "gpt-5"]));
    assert!(wild.starts_with("model `gpt-5` (by `gpt-*`)\n"), "{wild}");
    assert_eq!(line(&wild, "1")[1..4], ["up/5", "-", "the"]);
}

#[test]
fn what_is_said_of_the_request_counts() {
    let setup = setup();
    for (arguments, expected) in [
        (&["--at", "2026-11-22T12:00:00Z"][..], "up/rest"),
        (&["--header", "X-Tier: gold"], "up/gold"),
        (&["--metadata", "centre=4711"], "up/centre"),
        (&["--key", "ci"], "up/search"),
        (&["--input-tokens", "1001"], "up/long"),
        (&["--tools"], "up/tools"),
        (&["--images"], "up/images"),
        (&["--operation", "embedding"], "up/embedding"),
        (&["--operation", "responses"], "up/rest"),
        (&["--at", "2026-11-22T02:30:00Z"], "up/night"),
    ] {
        let output = setup.run(&[&["explain", "w", "--json"], arguments].concat());
        let told: Value = serde_json::from_str(&said(&output)).unwrap();
        assert_eq!(told["object"], "explanation");
        assert_eq!(told["candidates"][0]["target"], expected, "{arguments:?}");
    }
}

#[test]
fn what_goes_beside_an_attempt_is_told_where_it_does() {
    let setup = setup();
    for (operation, told) in [
        ("chat", &["side by side: a race of 2", "mirrored: 0.5 % to up/c"][..]),
        ("embedding", &["side by side: a race of 2"]),
        ("image", &[]),
    ] {
        let text = said(&setup.run(&["explain", "r", "--operation", operation]));
        let lines = text.lines();
        let beside = lines.filter(|line| line.contains("side by side") || line.contains("mirror"));
        assert_eq!(beside.collect::<Vec<_>>(), told, "{operation}");
    }
}

#[test]
fn a_key_of_the_file_or_the_store_may_or_may_not() {
    let setup = setup();
    let text = said(&setup.run(&["explain", "w", "--key", "ci"]));
    let reason = "key `ci` (team search): The team may not use the model `w`.\n";
    assert!(text.contains(reason), "{text}");
    let text = said(&setup.run(&["explain", "gpt-5", "--key", "ci"]));
    assert!(text.contains("key `ci` (team search): may make this request\n"), "{text}");
    assert!(!setup.folder().join("data/settings.db").exists(), "to explain makes no store");

    let made =
        said(&setup.run(&["keys", "new", "ada", "--team", "search", "--operations", "embedding"]));
    let text = said(&setup.run(&["explain", "gpt-5", "--key", "ada"]));
    assert!(
        text.contains("key `ada` (team search): The key may not be used for `chat`."),
        "{text}"
    );
    let key = made.lines().last().unwrap();
    let errors = refused(&setup.run(&["explain", "w", "--key", key]));
    assert!(errors.contains("there is no such key") && !errors.contains(key), "{errors}");
    said(&setup.run(&["keys", "revoke", "ada"]));
    refused(&setup.run(&["explain", "gpt-5", "--key", "ada"]));
}

#[test]
fn what_cannot_be_explained_is_refused_with_a_reason() {
    let setup = setup();
    for (arguments, words) in [
        (&["echi"][..], "There is no model `echi`. Did you mean `echo`?"),
        (&["w", "--header", "x-tier"], "write for example \"x-tier: gold\""),
        (&["w", "--at", "soon"], "`soon` is no date"),
        (&["w", "--operation", "models"], "go to no target"),
        (&["w", "--operation", "dance"], "unknown variant `dance`"),
        (&["w", "--admin", "http://127.0.0.1:9"], "MAGPIE_ADMIN_TOKEN has to hold the token"),
    ] {
        let errors = refused(&setup.run(&[&["explain"], arguments].concat()));
        assert!(errors.contains(words) && errors.lines().count() == 1, "{errors}");
    }
    let output = Setup::file("listn: 1\n").run(&["explain", "echo"]);
    assert!(refused(&output).contains("did you mean `listen`?"));
}

#[test]
fn a_server_that_runs_tells_how_its_targets_are() {
    let upstream = ScriptedUpstream::start();
    let plan = "models: { m: { fallback: ['up/status:500', up/ok] } }";
    let magpie = Setup::of(&upstream.base_url()).and(plan).with_admin().start();
    for _ in 0..5 {
        magpie.post(CHAT, &chat("m", false));
    }
    let url = format!("http://{}/", magpie.admin_address());
    let setup = &magpie.process.setup;
    let text = said(&setup.run(&["explain", "m", "--admin", &url]));
    assert_eq!(line(&text, "1")[..7], ["1", "up/ok", "-", "tier", "2", "of", "2"], "{text}");
    assert_eq!(line(&text, "1")[7..9], ["closed", "0"], "{text}");
    assert_eq!(line(&text, "up/status:500")[1..4], ["ejected", "open", "0"], "{text}");
    assert!(text.contains("retries left now: ") && !text.contains("not included"), "{text}");
    assert!(!text.contains(ADMIN_TOKEN));
    let told: Value =
        serde_json::from_str(&said(&setup.run(&["explain", "m", "--json", "--admin", &url])))
            .unwrap();
    assert_eq!(told["skipped"][0]["breaker"]["state"], "open");
    // From the file alone nothing has happened.
    let text = said(&setup.run(&["explain", "m"]));
    assert_eq!(line(&text, "1")[1], "up/status:500", "{text}");

    let errors = refused(&setup.run(&["explain", "nobody", "--admin", &url]));
    assert!(errors.contains("There is no model `nobody`"), "{errors}");
    let stranger = Setup::empty().env("MAGPIE_ADMIN_TOKEN", "not-the-token-of-this-server-at-all");
    let errors = refused(&stranger.run(&["explain", "m", "--admin", &url]));
    assert!(errors.contains("no valid admin token"), "{errors}");
    let errors = refused(&setup.run(&["explain", "m", "--admin", "http://127.0.0.1:9"]));
    assert!(errors.contains("the admin API: ") && !errors.contains(ADMIN_TOKEN), "{errors}");
}
