//! `GET /v1/models` and one of them.

use relay::Outcome;
use serde_json::Value;

use crate::scripted::Reply;
use crate::world::{World, get, with_header};

async fn fetched(path: &str) -> (u16, Value) {
    let world = World::lab([]);
    let answer = world.ask(get(path)).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let (status, body) = answer.read().await;
    assert_eq!(world.upstream.calls().len(), 0, "no provider is asked");
    assert_eq!(world.records(), 1);
    (status.as_u16(), serde_json::from_str(&body).unwrap())
}

fn assert_model(model: &Value, id: &str, owner: &str) {
    assert_eq!(model["id"], id);
    assert_eq!(model["object"], "model");
    assert_eq!(model["owned_by"], owner);
    assert!(model["created"].as_u64().unwrap() > 1_700_000_000);
}

#[tokio::test(start_paused = true)]
async fn the_list_holds_public_names_first_and_then_what_providers_list() {
    for path in ["/v1/models", "/v1/models/", "/v1//models", "/v1/models?limit=2"] {
        let (status, list) = fetched(path).await;
        assert_eq!((status, list["object"].as_str()), (200, Some("list")));
        let data = list["data"].as_array().unwrap();
        assert_eq!(data.len(), 4);
        assert_model(&data[0], "chat", "lab");
        assert_model(&data[1], "lab/small", "lab");
        assert_model(&data[2], "lab/large", "lab");
        assert_model(&data[3], "echo", "echo");
    }
}

#[tokio::test(start_paused = true)]
async fn one_model_is_found_by_every_name_it_can_be_asked_for() {
    for (path, id, owner) in [
        ("/v1/models/chat", "chat", "lab"),
        ("/v1/models/lab/small", "lab/small", "lab"),
        ("/v1/models/lab%2Fsmall", "lab/small", "lab"),
        ("/v1/models/lab%2fanything%2felse", "lab/anything/else", "lab"),
        ("//v1//models/chat", "chat", "lab"),
        ("/v1/models/small", "small", "lab"),
        ("/v1/models/default", "default", "echo"),
        ("/v1/models/echo", "echo", "echo"),
    ] {
        let (status, model) = fetched(path).await;
        assert_eq!(status, 200, "{path}: {model}");
        assert_model(&model, id, owner);
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_not_there_is_404_with_the_nearest_names() {
    let world = World::lab([]);
    let (status, error) = world.ask(get("/v1/models/chta")).await.error().await;
    assert_eq!((status, error["code"].as_str()), (404, Some("model_not_found")));
    assert!(error["message"].as_str().unwrap().contains("`chat`"), "{error}");
    world.assert_refused("model_not_found");
}

#[tokio::test(start_paused = true)]
async fn a_provider_named_by_the_header_is_asked_for_its_own_list() {
    let list = r#"{"object":"list","data":[]}"#;
    let world = World::lab([Reply::json(list)]);
    let request = with_header(get("/v1/models"), "x-magpie-provider", "lab");
    let (status, body) = world.ask(request).await.read().await;
    assert_eq!((status.as_u16(), body.as_str()), (200, list));
    assert_eq!(world.upstream.call().target, "/api/v1/models");
    assert_eq!(world.record().outcome, Outcome::Complete);
}
