//! Declared edits: `defaults` fill what is missing, `force` sets, `drop` removes, and nothing else
//! is touched.

use crate::world::{World, post};

const EDITS: &str = r#"
metering: { stream_usage: false }
providers:
  lab:
    profile: openai-compatible
    base_url: http://lab.test/v1
    request:
      defaults: { temperature: 0.6, top_p: 1.0 }
      force: { user: provider }
      drop: [logit_bias]
models:
  plain: lab/m
  own:
    target: lab/m
    defaults: { temperature: 0.25, stop: ["\n", "你"] }
    force: { seed: 7 }
    drop: [user, top_p]
"#;

async fn sent(path: &str, body: &str) -> String {
    let world = World::of(EDITS, []);
    let answer = world.ask(post(path, body.to_owned())).await;
    assert_eq!(answer.status, 200);
    world.upstream.call().text().to_owned()
}

async fn chat(body: &str) -> String {
    sent("/v1/chat/completions", body).await
}

#[tokio::test(start_paused = true)]
async fn defaults_are_added_behind_the_last_member() {
    assert_eq!(
        chat(r#"{"model":"plain","messages":[1] }"#).await,
        r#"{"model":"m","messages":[1],"user":"provider","temperature":0.6,"top_p":1.0 }"#
    );
}

#[tokio::test(start_paused = true)]
async fn defaults_never_override_what_the_client_sent_not_even_null() {
    let body = r#"{"model":"plain","messages":[1],"user":"u","temperature":null,"top_p":1e-1}"#;
    let expected = body.replace("\"plain\"", "\"m\"").replace("\"u\"", "\"provider\"");
    assert_eq!(chat(body).await, expected);
    let twice = r#"{"model":"plain","messages":[1],"temperature":1,"temperature":2,"top_p":0}"#;
    let sent = chat(twice).await;
    assert!(!sent.contains("0.6"), "{sent}");
    assert!(sent.contains(r#""temperature":1,"temperature":2,"top_p":0"#), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_default_counts_as_sent_in_any_spelling_of_its_name() {
    let sent = chat(r#"{"model":"plain","messages":[1],"t\u0065mperature":2,"top_p":0}"#).await;
    assert!(!sent.contains("0.6"), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_member_of_an_inner_object_is_no_member_of_the_request() {
    let sent = chat(r#"{"model":"plain","messages":[{"temperature":2,"logit_bias":1}]}"#).await;
    assert!(sent.contains(r#""messages":[{"temperature":2,"logit_bias":1}]"#), "{sent}");
    assert!(sent.contains(r#""temperature":0.6"#), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn forced_members_replace_what_the_client_sent_in_its_place() {
    assert_eq!(
        chat(r#"{"user":{"deep":[1,2]},"model":"plain","temperature":0,"top_p":0,"messages":[1]}"#)
            .await,
        r#"{"user":"provider","model":"m","temperature":0,"top_p":0,"messages":[1]}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_forced_member_that_stands_twice_is_refused() {
    let world = World::of(EDITS, []);
    let body = r#"{"model":"plain","messages":[1],"user":1,"\u0075ser":2}"#;
    let (status, said) = world.chat(body).await;
    assert_eq!(status, 400);
    assert!(said.contains("`user` stands twice"), "{said}");
    world.assert_refused("duplicate_field");
}

#[tokio::test(start_paused = true)]
async fn dropped_members_go_wherever_they_stand() {
    for (body, expected) in [
        (
            r#"{"logit_bias":{"50256":-100},"model":"plain","messages":[1],"temperature":1,"top_p":1}"#,
            r#"{"model":"m","messages":[1],"temperature":1,"top_p":1,"user":"provider"}"#,
        ),
        (
            r#"{"model":"plain","logit_bias":1,"messages":[1],"temperature":1,"top_p":1,"logit_bias":2}"#,
            r#"{"model":"m","messages":[1],"temperature":1,"top_p":1,"user":"provider"}"#,
        ),
    ] {
        assert_eq!(chat(body).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_edits_of_a_model_come_before_those_of_its_provider() {
    assert_eq!(
        chat(r#"{"model":"own","messages":[1],"user":"u","top_p":0.5,"seed":1,"logit_bias":0}"#)
            .await,
        r#"{"model":"m","messages":[1],"seed":7,"stop":["\n","你"],"temperature":0.25}"#
    );
}

#[tokio::test(start_paused = true)]
async fn completions_are_edited_as_chats_are() {
    let sent = sent("/v1/completions", r#"{"model":"plain","prompt":"p"}"#).await;
    assert!(sent.contains(r#""temperature":0.6"#), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn embeddings_and_other_operations_are_not_edited() {
    for path in ["/v1/embeddings", "/v1/responses", "/v1/rerank"] {
        let body = r#"{"model":"plain","input":"x","logit_bias":1}"#;
        let expected = r#"{"model":"m","input":"x","logit_bias":1}"#;
        assert_eq!(sent(path, body).await, expected, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_of_a_built_in_profile_is_added() {
    let yaml = "
metering: { stream_usage: false }
providers:
  xinghe: { api_key: sk-test-xinghe }
";
    let world = World::of(yaml, []);
    world.chat(r#"{"model":"xinghe/ernie-4.5-turbo-128k","messages":[1]}"#).await;
    assert_eq!(
        world.upstream.call().text(),
        r#"{"model":"ernie-4.5-turbo-128k","messages":[1],"temperature":0.6}"#
    );
    assert_eq!(world.upstream.call().target, "/llm/lmapi/v3/chat/completions");
}
