//! Other paths of the API along the plan of their model, over real sockets.

use std::collections::HashSet;

use serde_json::json;
use testkit::{Refused, ScriptedUpstream, digest_text};

use crate::client::{Reply, request};
use crate::failover::{HASTY, provider};
use crate::forwarding::{form, form_type};
use crate::harness::{Magpie, Setup};

const RESPONSES: &str = "/v1/responses";
const IMAGES: &str = "/v1/images/generations";
const RERANK: &str = "/v1/rerank";

fn body(model: &str) -> String {
    json!({ "model": model, "input": "a", "prompt": "a", "query": "a", "documents": ["a"] })
        .to_string()
}

/// Two providers that are there and one that is not, with these models.
fn served(models: &str) -> (ScriptedUpstream, ScriptedUpstream, Magpie) {
    let (bad, good) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let config = [
        "open: true\nlog: { requests: false }\nproviders:\n",
        &provider("bad", &bad.base_url(), HASTY),
        &provider("good", &good.base_url(), ""),
        &provider("refusing", &Refused::base_url(), ""),
        models,
    ];
    let magpie = Setup::file(&config.concat()).start();
    (bad, good, magpie)
}

#[test]
fn a_split_divides_callers_and_each_stays_on_its_side() {
    let keys: String =
        (0..40).map(|n| format!("  - {{ name: k{n}, key: key-of-{n:016} }}\n")).collect();
    let models =
        format!("models: {{ m: {{ split: {{ bad/old: 1, good/new: 1 }} }} }}\nkeys:\n{keys}");
    let (bad, good, magpie) = served(&models);
    for path in [RESPONSES, IMAGES] {
        bad.clear();
        good.clear();
        let mut wire = magpie.connect();
        let mut sides = HashSet::new();
        for n in 0..40 {
            let bearer = format!("Bearer key-of-{n:016}");
            let headers = [("authorization", &*bearer), ("content-type", "application/json")];
            let mut ask = || {
                wire.send(&request("POST", path, &headers, body("m").as_bytes()));
                let reply = wire.reply();
                assert_eq!(reply.status(), 200, "{}", reply.text());
                reply.header("x-magpie-target").unwrap().to_owned()
            };
            let side = ask();
            assert_eq!(side, ask(), "{path}: a caller stays where it is");
            sides.insert(side);
        }
        assert_eq!(sides.len(), 2, "{path}: {sides:?}");
        for (upstream, model) in [(&bad, "old"), (&good, "new")] {
            let received = upstream.received();
            assert!(received.iter().all(|it| it.target == path && it.json()["model"] == model));
        }
        assert_eq!(bad.received().len() + good.received().len(), 80);
    }
}

/// Faults of the first target: after which the next one is asked in any case, and after which only
/// by calls that leave nothing behind.
const UNBEGUN: [&str; 7] = [
    "refusing/x",
    "bad/status:401",
    "bad/status:402",
    "bad/status:404",
    "bad/status:429:7",
    "bad/status:503",
    "bad/html:503",
];
const BEGUN: [&str; 6] = [
    "bad/status:500",
    "bad/status:502",
    "bad/hang",
    "bad/hang-headers",
    "bad/redirect",
    "bad/html:504",
];

fn plans() -> String {
    let mut text = String::from("models:\n");
    for (number, target) in UNBEGUN.iter().chain(&BEGUN).enumerate() {
        text += &format!("  m{number}: {{ fallback: ['{target}', good/ok] }}\n");
    }
    text
}

fn is_made_up_for(reply: &Reply) -> bool {
    let told = [reply.header("x-magpie-attempts"), reply.header("x-magpie-target")];
    reply.status() == 200 && told == [Some("2"), Some("good/ok")]
}

#[test]
fn a_call_fails_over_where_nobody_has_begun_with_it() {
    for path in [RESPONSES, IMAGES, RERANK] {
        // Anew for each: a key that was refused is left alone from then on.
        let (bad, good, magpie) = served(&plans());
        for (number, target) in UNBEGUN.iter().enumerate() {
            let reply = magpie.post(path, &body(&format!("m{number}")));
            assert!(is_made_up_for(&reply), "{path}, {target}: {}", reply.text());
        }
        assert_eq!(good.received().len(), UNBEGUN.len(), "{path}: once for each");
        assert!(good.received().iter().all(|it| it.target == path && it.json()["model"] == "ok"));
        assert_eq!(bad.received().len(), UNBEGUN.len() - 1);
    }
}

#[test]
fn a_call_that_may_have_been_begun_is_not_made_twice() {
    let (_bad, good, magpie) = served(&plans());
    for (number, target) in (UNBEGUN.len()..).zip(BEGUN) {
        for path in [RESPONSES, IMAGES] {
            let reply = magpie.post(path, &body(&format!("m{number}")));
            assert!(reply.status() >= 500, "{path}, {target}: {}", reply.text());
            assert_eq!(reply.header("x-magpie-attempts"), Some("1"), "{path}, {target}");
        }
        assert_eq!(good.received().len(), 0, "{target}");
        let reply = magpie.post(RERANK, &body(&format!("m{number}")));
        assert!(is_made_up_for(&reply), "{target}: {}", reply.text());
        good.clear();
    }
}

#[test]
fn a_form_goes_to_the_next_target_whole_if_the_first_cannot_be_reached() {
    let (bad, good, magpie) = served(
        "models: { m: { fallback: [refusing/x, good/whisper-large] }, n: { fallback: ['bad/status:503', good/ok] } }",
    );
    let ask = |model: &str| {
        let mut wire = magpie.connect();
        let body = form(model, 5_000_000);
        wire.send(&request(
            "POST",
            "/v1/audio/transcriptions",
            &[("content-type", &form_type())],
            &body,
        ));
        wire.reply()
    };
    let reply = ask("m");
    assert_eq!(reply.status(), 200, "{}", reply.text());
    assert_eq!(reply.header("x-magpie-attempts"), Some("2"));
    assert_eq!(reply.json()["digest"], digest_text(&form("whisper-large", 5_000_000)));
    good.clear();

    let reply = ask("n");
    assert_ne!(reply.status(), 200);
    assert_eq!(reply.header("x-magpie-attempts"), Some("1"));
    assert_eq!((bad.received().len(), good.received().len()), (1, 0), "{}", reply.text());
}
