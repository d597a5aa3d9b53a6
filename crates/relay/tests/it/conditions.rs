//! Conditions of a plan, on requests as clients write them: each thing that can be named is found in
//! the request, and in nothing that only looks like it.

use http::Request;

use crate::scripted::{Reply, ScriptBody};
use crate::world::{World, chat, keyed, now_ms, post, with_header};

const KEY: &str = "mk-of-ada-0123456789";

/// A model whose only case leads elsewhere, asked by a key with everything above it.
fn world(condition: &str) -> World {
    let config = format!(
        "open: true
providers:
  lab: {{ profile: openai-compatible, base_url: 'http://lab.test/v1', auth: optional }}
models:
  chat: {{ when: [{{ if: {condition}, use: lab/case }}, {{ use: lab/else }}] }}
keys: [{{ name: ada-1, key: {KEY}, user: ada, metadata: {{ plan: pro }} }}]
users: {{ ada: {{ team: search }} }}
teams: {{ search: {{ org: acme, metadata: {{ cost_center: '4711', plan: free }} }} }}
orgs: {{ acme: {{}} }}
"
    );
    World::of(&config, [Reply::json("{}")])
}

/// Whether a request is one of the case.
async fn fits(condition: &str, request: Request<ScriptBody>) -> bool {
    let answer = world(condition).ask(request).await;
    match answer.header("x-magpie-target") {
        Some("lab/case") => true,
        Some("lab/else") => false,
        other => panic!("{condition}: {} {other:?}", answer.status),
    }
}

/// A chat of one message with more fields.
fn saying(content: &str, more: &str) -> Request<ScriptBody> {
    chat(format!(r#"{{"model":"chat","messages":[{{"role":"user","content":{content}}}]{more}}}"#))
}

fn plain() -> Request<ScriptBody> {
    saying(r#""hello""#, "")
}

#[tokio::test]
async fn who_calls_is_known_by_key_user_team_and_organisation() {
    for (condition, expected) in [
        ("{ key: ada-1 }", true),
        ("{ key: 'ada-*' }", true),
        ("{ key: ada }", false),
        ("{ user: [bob, ada] }", true),
        ("{ team: search }", true),
        ("{ team: ads }", false),
        ("{ org: acme, team: search, user: ada, key: ada-1 }", true),
        ("{ org: acme, team: ads }", false),
        // The nearest counts: the key says it before its team.
        ("{ metadata: { plan: pro } }", true),
        ("{ metadata: { plan: free } }", false),
        ("{ metadata: { cost_center: ['47*'] } }", true),
    ] {
        assert_eq!(fits(condition, keyed(plain(), KEY)).await, expected, "{condition}");
        assert!(!fits(condition, plain()).await, "{condition}: of nobody");
    }
}

#[tokio::test]
async fn headers_and_metadata_of_the_request_are_looked_at() {
    let tier = |text: &'static str| with_header(plain(), "x-tier", text);
    assert!(fits("{ header: { X-Tier: [gold, 'vip-*'] } }", tier("vip-7")).await);
    assert!(!fits("{ header: { X-Tier: [gold, 'vip-*'] } }", tier("silver")).await);
    assert!(!fits("{ header: { X-Tier: '*' } }", plain()).await);
    let noted = || saying(r#""hello""#, r#","metadata":{"plan":"max","run":"7"}"#);
    assert!(fits("{ metadata: { plan: max, run: 7 } }", noted()).await);
    // Whoever has it from the key cannot make it up.
    assert!(!fits("{ metadata: { plan: max } }", keyed(noted(), KEY)).await);
    assert!(fits("{ metadata: { run: 7 } }", keyed(noted(), KEY)).await);
}

#[tokio::test]
async fn operations_are_those_of_every_path() {
    let input = r#"{"model":"chat","input":"hello","prompt":"hello","query":"hello"}"#;
    for (operation, path) in [
        ("completion", "/v1/completions"),
        ("embedding", "/v1/embeddings"),
        ("responses", "/v1/responses"),
        ("image", "/v1/images/generations"),
        ("rerank", "/v1/rerank"),
        ("moderation", "/v1/moderations"),
    ] {
        let condition = format!("{{ operations: [{operation}] }}");
        assert!(fits(&condition, post(path, input)).await, "{path}");
        assert!(!fits(&condition, plain()).await, "{path}");
        assert!(!fits("{ operations: [chat] }", post(path, input)).await, "{path}");
    }
    assert!(fits("{ operations: [chat, embedding] }", plain()).await);
}

#[tokio::test]
async fn tools_and_images_are_found_and_no_text_about_them() {
    let tools = |fields| saying(r#""hello""#, fields);
    for (fields, expected) in [
        (r#","tools":[{"type":"function","function":{"name":"f"}}]"#, true),
        (r#","functions":[{"name":"f"}]"#, true),
        (r#","tools":[]"#, false),
        (r#","tools":null"#, false),
        ("", false),
    ] {
        assert_eq!(fits("{ tools: true }", tools(fields)).await, expected, "{fields}");
        assert_eq!(fits("{ tools: false }", tools(fields)).await, !expected, "{fields}");
    }
    for (content, expected) in [
        (r#"[{"type":"image_url","image_url":{"url":"http://a.test/a.png"}}]"#, true),
        (r#"[{"type":"text","text":"hello"}]"#, false),
        (r#""what is image_url in {\"type\":\"image_url\"}, and input_image?""#, false),
    ] {
        assert_eq!(fits("{ images: true }", saying(content, "")).await, expected, "{content}");
    }
    let seen = r#"{"model":"chat","input":[{"role":"user","content":[{"type":"input_image"}]}]}"#;
    assert!(fits("{ images: true }", post("/v1/responses", seen)).await);
}

#[tokio::test]
async fn a_long_input_is_a_long_text_and_no_picture_or_sound() {
    let long = format!(r#""{}""#, "hello ".repeat(2_000));
    let base64 = "iVBORw0KGgo".repeat(50_000);
    let picture = format!(r#"{{"url":"data:image/png;base64,{base64}"}}"#);
    let picture = format!(r#"[{{"type":"image_url","image_url":{picture}}}]"#);
    let sound = format!(r#"{{"data": "{base64}","format":"wav"}}"#);
    let sound = format!(r#"[{{"type":"input_audio","input_audio":{sound}}}]"#);
    let short = || saying(r#""hello""#, "");
    for (condition, request, expected) in [
        ("{ input_over: 3k }", saying(&long, ""), true),
        ("{ input_over: 4k }", saying(&long, ""), false),
        ("{ input_up_to: 3k }", saying(&long, ""), false),
        ("{ input_over: 3k }", short(), false),
        ("{ input_up_to: 100 }", short(), true),
        // Each counts as a thousand.
        ("{ input_over: 1k, input_up_to: 1100 }", saying(&picture, ""), true),
        ("{ input_over: 1k, input_up_to: 1100 }", saying(&sound, ""), true),
    ] {
        assert_eq!(fits(condition, request).await, expected, "{condition}");
    }
}

#[tokio::test]
async fn the_time_of_day_is_that_of_the_zone() {
    let half = || now_ms() / 1000 / 3600 % 24 / 12;
    for (zone, shift) in [("UTC", 0), ("Etc/GMT-12", 1)] {
        let condition = format!("{{ hours: '12:00-24:00', zone: {zone} }}");
        let before = half();
        let is_later = fits(&condition, plain()).await;
        if before == half() {
            assert_eq!(is_later, (before + shift) % 2 == 1, "{zone}");
        }
    }
}
