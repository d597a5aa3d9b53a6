//! What must not be seen anywhere: the provider's key, the client's, prompts and answers.

use serde_json::json;
use testkit::{Refused, ScriptedUpstream};

use crate::harness::{CHAT, Magpie, PROVIDER_KEY, Setup};

const CLIENT_KEY: &str = "sk-client-canary-77aa";
const PROMPT: &str = "the prompt canary, a secret of the caller";
const HEADER: &str = "header-canary-31c9";

/// Everything a process has said.
fn said(magpie: &Magpie) -> String {
    magpie.process.stdout.so_far() + &magpie.process.stderr.so_far()
}

fn ask(magpie: &Magpie, script: &str, stream: bool) -> String {
    let authorization = format!("Bearer {CLIENT_KEY}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", &*authorization),
        ("x-api-key", CLIENT_KEY),
        ("user-agent", HEADER),
    ];
    let messages = json!([{ "role": "user", "content": PROMPT }]);
    let body = json!({ "model": format!("up/{script}"), "messages": messages, "stream": stream });
    let reply = magpie.call("POST", CHAT, &headers, &body.to_string());
    format!("{:?}{}", reply.head, reply.text())
}

fn assert_silent(magpie: &Magpie) {
    let said = said(magpie);
    for secret in [PROVIDER_KEY, CLIENT_KEY, PROMPT, HEADER, "scripted upstream.", "w1 "] {
        assert!(!said.contains(secret), "{secret:?} was said:\n{said}");
    }
}

#[test]
fn no_key_no_prompt_and_no_answer_is_ever_logged_or_told() {
    let upstream = ScriptedUpstream::start();
    let clocks = "timeouts: { connect: 200ms, first_event: 200ms, idle: 200ms, total: 600ms }";
    for format in ["json", "text"] {
        let more = format!("{clocks}\nlog: {{ format: {format} }}");
        let magpie = Setup::of(&upstream.base_url()).and(&more).start();
        let scripts = [
            "ok",
            "cut:2",
            "reset:2",
            "malformed:1",
            "error200",
            "error-event:1",
            "status:401",
            "html:502",
            "redirect",
            "hang",
            "stall:1",
            "big:2000000",
            "not-sse",
        ];
        for script in scripts {
            for stream in [false, true] {
                let told = ask(&magpie, script, stream);
                assert!(!told.contains(PROVIDER_KEY) && !told.contains(CLIENT_KEY), "{told}");
            }
        }
        for body in [format!("{{\"{PROMPT}\": "), format!("[\"{PROMPT}\"]"), PROMPT.to_owned()] {
            let reply = magpie.post(CHAT, &body);
            assert_eq!(reply.status(), 400);
            assert!(!reply.text().contains(PROMPT), "{}", reply.text());
        }
        magpie
            .process
            .stderr
            .wait_for("all lines", |text| (text.lines().count() >= 29).then_some(()));
        assert_silent(&magpie);
    }
    let client = upstream.received().into_iter().flat_map(|request| request.headers);
    assert!(client.into_iter().all(|(_, value)| !value.contains(CLIENT_KEY)));
}

#[test]
fn a_key_goes_to_its_own_origin_and_nowhere_else() {
    let (own, other) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let text = format!(
        "providers:\n  up: {{ base_url: '{}', api_key: {PROVIDER_KEY} }}\n  other: {{ base_url: '{}' }}\n",
        own.base_url(),
        other.base_url()
    );
    let magpie = Setup::file(&text).start();
    ask(&magpie, &format!("redirect:{}", other.address()), false);
    ask(&magpie, &format!("redirect:{}", other.address()), true);
    assert!(other.received().is_empty(), "a redirect was followed");
    magpie.post(CHAT, r#"{"model": "other/ok", "messages": [{"role": "user", "content": "x"}]}"#);
    assert_eq!(other.received().len(), 1);
    assert_eq!(other.received()[0].header("authorization"), None);
    assert_silent(&magpie);
}

#[test]
fn keys_are_not_said_when_a_configuration_is_wrong_or_read_again() {
    let text = format!(
        "providers:\n  up: {{ base_url: 'http://x.invalid/v1', api_key: {PROVIDER_KEY}, nonsense: 1 }}\n"
    );
    let wrong = Setup::file(&text);
    for arguments in [&["check", "magpie.yaml"][..], &[], &["providers"], &["models"]] {
        let output = wrong.run(arguments);
        let said = format!("{output:?}");
        assert!(!said.contains(PROVIDER_KEY), "{said}");
    }
    let broken =
        Setup::file("providers:\n  up: { base_url: 'http://127.0.0.1:9/v1', api_key: '${KEY}' }\n")
            .env("KEY", &format!("{PROVIDER_KEY}\nx"));
    let output = broken.run(&["check", "magpie.yaml"]);
    assert!(!format!("{output:?}").contains(PROVIDER_KEY), "{output:?}");

    let magpie = Setup::of(&Refused::base_url()).start();
    let told = ask(&magpie, "ok", false);
    assert!(!told.contains(PROVIDER_KEY));
    magpie.reload(&text.replace(", nonsense: 1", ""));
    let told = ask(&magpie, "ok", true);
    assert!(!told.contains(PROVIDER_KEY));
    assert_silent(&magpie);
}
