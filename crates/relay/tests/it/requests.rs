//! Requests: what the client sent reaches the provider byte for byte, but for the declared edits.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use crate::scripted::Reply;
use crate::world::{World, chat, millis, post, upload, with_header};

/// A provider that takes every model by its own name, and is not asked for token counts.
const AS_IT_IS: &str = r#"
metering: { stream_usage: false }
providers:
  lab: { profile: openai-compatible, base_url: "http://lab.test/v1" }
models:
  "*": lab/*
  default: lab/default
"#;

/// Bodies that a reader and writer of JSON would change.
const NASTY: [&str; 9] = [
    r#"{"model":"m","messages":[1],"seed":123456789012345678901234567890}"#,
    r#"{"model":"m","messages":[1],"temperature":1.10,"x":-0,"y":1E+2,"z":0.1e-99999}"#,
    r#"{"messages":[{"content":"\u4f60\u597d \ud83d\ude00 \/ \u007f \u0000"}],"model":"m"}"#,
    "{\r\n\t\"model\" : \"m\" ,\r\n\t\"messages\" : [ { } ]\r\n}\r\n",
    r#" {"a":1,"a":2,"model":"m","A":{"model":"other","model":2},"messages":[null],"a":3} "#,
    "{\"model\":\"m\",\"messages\":[{\"content\":\"\u{feff}\u{2028}\u{1F426}\u{10FFFF} <>&'\"}]}",
    r#"{"":0,"model":"m","messages":[[[[[[[[]]]]]]]],"__proto__":{},"constructor":"x"}"#,
    r#"{"model":"m","messages":[{"content":"lone \ud800 surrogate"}],"enable_thinking":false}"#,
    r#"{"model":"m","messages":[{}],"stream":true,"stream_options":{"include_usage":false}}"#,
];

/// The requests of the corpus that `wire` keeps.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/fixtures/openai_chat/requests");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 20, "the corpus is there");
    files
}

/// The model of a body, if it is a text.
fn model_of(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        model: Value,
    }
    let body: Body = serde_json::from_slice(body).unwrap();
    body.model.as_str().map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_model_keeps_its_name_reaches_the_provider_byte_for_byte() {
    let world = World::of(AS_IT_IS, []);
    let snapshot = &world.snapshot;
    for body in NASTY {
        let world = World::with(snapshot, []);
        let (status, said) = world.chat(body).await;
        assert_eq!(world.upstream.calls().len(), 1, "{body}: {said}");
        assert_eq!(world.upstream.call().text(), body, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_corpus_reaches_the_provider_byte_for_byte() {
    let snapshot = crate::world::snapshot(AS_IT_IS);
    let mut compared = 0;
    for (name, body) in corpus() {
        let world = World::with(&snapshot, []);
        let keeps = model_of(&body).is_some_and(|model| !model.is_empty());
        // Embeddings check nothing of their input, so that every body of the corpus can pass.
        world.ask(post("/v1/embeddings", body.clone())).await.read().await;
        if keeps {
            assert_eq!(world.upstream.call().body, body, "{name}");
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared} bodies");
}

#[tokio::test(start_paused = true)]
async fn only_the_bytes_of_the_model_change_when_it_is_called_otherwise_upstream() {
    for (name, body) in corpus() {
        let Some(model) = model_of(&body).filter(|model| !model.is_empty()) else {
            continue;
        };
        let alias = serde_json::to_string(&model).unwrap();
        let yaml = format!(
            "providers:\n  lab: {{ profile: sglang }}\nmodels:\n  {alias}: \"lab/新 \\\"name\\\"\"\n"
        );
        let world = World::of(&yaml, []);
        world.ask(post("/v1/embeddings", body.clone())).await.read().await;
        let sent = world.upstream.call().body;
        assert_eq!(model_of(&sent).unwrap(), "新 \"name\"", "{name}");
        let (old, new) = changed(&body, &sent);
        assert!(old.len() <= alias.len(), "{name}: {old:?} for {new:?}");
        assert!(new.len() <= "新 \"name\"".len() + 2, "{name}: {new:?}");
    }
}

/// The parts of two texts between their common beginning and their common end.
fn changed<'t>(old: &'t [u8], new: &'t [u8]) -> (&'t [u8], &'t [u8]) {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[front..], &new[front..]);
    let ends = old.iter().rev().zip(new.iter().rev());
    let back = ends.take_while(|(a, b)| a == b).count();
    (&old[..old.len() - back], &new[..new.len() - back])
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_model_gets_the_default_one_and_keeps_the_rest() {
    for body in [
        r#"{"messages":[{"n":1.10}]}"#,
        r#"{"messages":[1],"model":null,"z":-0}"#,
        r#"{"messages":[1],"model":"","z":-0}"#,
        r#"{"messages":[1],"model":"default"}"#,
    ] {
        let world = World::of(&AS_IT_IS.replace("lab/default", "lab/usual"), []);
        world.chat(body).await;
        let sent = world.upstream.call().body;
        assert_eq!(model_of(&sent).unwrap(), "usual", "{body}");
        let (_, new) = changed(body.as_bytes(), &sent);
        let new = std::str::from_utf8(new).unwrap();
        assert!(new.len() <= r#","model":"usual""#.len(), "{new}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_of_two_spellings_of_the_model_cannot_differ_from_the_first() {
    let world = World::of(AS_IT_IS, []);
    let body = r#"{"model":"a","messages":[1],"\u006dodel":"b"}"#;
    let (status, said) = world.chat(body).await;
    assert_eq!(status, 400);
    assert!(said.contains("`model` stands twice"), "{said}");
    world.assert_refused("duplicate_field");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_arrives_in_pieces_is_the_same_as_one_that_arrives_whole() {
    let body = NASTY[2].as_bytes();
    for cut in 0..=body.len() {
        let world = World::of(AS_IT_IS, []);
        let (front, back) = body.split_at(cut);
        let script =
            Reply::status(200).data(front.to_vec()).wait(millis(1)).data("").data(back.to_vec());
        let request = upload("/v1/chat/completions", &script);
        world.ask(request).await.read().await;
        assert_eq!(world.upstream.call().body, body, "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_length_of_the_body_is_told_to_the_provider() {
    let world = World::of(AS_IT_IS, []);
    world.chat(NASTY[0]).await;
    let call = world.upstream.call();
    assert_eq!(call.told_length, Some(NASTY[0].len() as u64));
    assert_eq!(call.header("content-type"), Some("application/json"));
    assert_eq!(call.header("content-length"), None, "framing is not ours");
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_as_json_whatever_its_content_type_says() {
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let world = World::of(AS_IT_IS, []);
        let mut request = chat(NASTY[0]);
        request.headers_mut().remove("content-type");
        let request = match kind {
            "" => request,
            kind => with_header(request, "content-type", kind),
        };
        assert_eq!(world.ask(request).await.status, 200);
        let call = world.upstream.call();
        assert_eq!(call.header("content-type"), Some("application/json"));
        assert_eq!(call.text(), NASTY[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn completions_and_embeddings_go_to_paths_of_their_own() {
    for (path, body) in [
        ("/v1/completions", r#"{"model":"m","prompt":"p"}"#),
        ("/v1/completions", r#"{"model":"m"}"#),
        ("/v1/embeddings", r#"{"model":"m","input":[[1,2],[3]]}"#),
        ("/v1/chat/completions", r#"{"model":"m","messages":[1]}"#),
    ] {
        let world = World::of(AS_IT_IS, []);
        world.ask(post(path, body)).await.read().await;
        let call = world.upstream.call();
        assert_eq!((call.target.as_str(), call.text()), (path, body));
        assert_eq!(call.method, http::Method::POST);
        assert_eq!(call.provider, "lab");
    }
}

/// Any JSON, with names that collide and texts that need escapes.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?",
        ".{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        "(\\\\u[0-9a-f]{4}|\\\\n|\\\\/){0,3}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec(("[a-z]{0,3}", inner), 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("\"{name}\" :{value}")).collect();
                format!("{{{}}}", members.join(",\n"))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_members_around_the_model_reach_the_provider_untouched(
        before in prop::collection::vec(("x[a-z]{0,3}", json()), 0..4),
        after in prop::collection::vec(("y[a-z]{0,3}", json()), 0..4),
        space in "[ \t\r\n]{0,3}",
    ) {
        let member = |(name, value): &(String, String)| format!("\"{name}\":{space}{value}");
        let before: String = before.iter().map(|m| member(m) + ",").collect();
        let after: String = after.iter().map(|m| format!("{space},{}", member(m))).collect();
        let body = |model: &str| {
            format!("{space}{{{before}\"messages\":[0],\"model\":{space}\"{model}\"{after}}}{space}")
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let sent = runtime.block_on(async {
            let yaml = "providers:\n  lab: { profile: sglang }\nmodels:\n  chat: lab/other\n";
            let world = World::of(yaml, []);
            world.chat(body("chat")).await;
            world.upstream.call().body
        });
        prop_assert_eq!(String::from_utf8(sent).unwrap(), body("other"));
    }
}
