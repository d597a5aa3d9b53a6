//! Other paths of the API: forwarded as they are to the provider that the header or the model names.

use http::{Method, Request};
use serde_json::Value;

use crate::scripted::{Reply, ScriptBody};
use crate::world::{World, bodiless, get, millis, post, seconds, upload, with_header};

/// Two providers, so that somebody has to say which.
const TWO: &str = "
providers:
  lab: { profile: sglang, base_url: http://lab.test/api/v1/ }
  far: { profile: sglang, base_url: http://far.test/v4, models: [painter] }
models:
  chat: lab/up-model
  paint: far/painter-2
";

async fn forwarded(request: Request<ScriptBody>) -> World {
    let world = World::of(TWO, []);
    let answer = world.ask(request).await;
    assert_eq!(answer.status, 200);
    answer.read().await;
    world
}

/// The error of a request that no provider may see.
async fn refused(request: Request<ScriptBody>, code: &str) -> (u16, Value) {
    let world = World::of(TWO, []);
    let (status, error) = world.ask(request).await.error().await;
    assert_eq!(error["code"], code, "{error}");
    world.assert_refused(code);
    (status, error)
}

#[tokio::test(start_paused = true)]
async fn a_json_body_names_its_provider_by_its_model() {
    for (model, provider, upstream) in [
        ("chat", "lab", "up-model"),
        ("paint", "far", "painter-2"),
        ("far/any", "far", "any"),
        ("painter", "far", "painter"),
    ] {
        let body =
            |name: &str| format!("{{ \"n\":1.10, \"model\" : \"{name}\",\"prompt\":\"你\"}}\n");
        let world = forwarded(post("/v1/images/generations", body(model))).await;
        let call = world.upstream.call();
        assert_eq!((call.provider.as_str(), call.text()), (provider, body(upstream).as_str()));
        assert_eq!(call.method, Method::POST);
        assert_eq!(call.header("content-type"), Some("application/json"));
        assert_eq!(&*world.record().model, model);
    }
}

#[tokio::test(start_paused = true)]
async fn the_path_goes_behind_the_providers_own_with_its_query() {
    for (path, target) in [
        (
            "/v1/responses/resp_1?include[]=a&x=%2F%20",
            "/api/v1/responses/resp_1?include[]=a&x=%2F%20",
        ),
        ("/v1/files/", "/api/v1/files/"),
        ("/v1//files//x", "/api/v1/files/x"),
        ("/v1/a%20b/%E4%BD%A0", "/api/v1/a%20b/%E4%BD%A0"),
        ("/v1/files?", "/api/v1/files?"),
        ("/v1/x;y=1/@:!$&'()*+,=~-._", "/api/v1/x;y=1/@:!$&'()*+,=~-._"),
    ] {
        let request = with_header(get(path), "x-magpie-provider", "lab");
        let world = forwarded(request).await;
        assert_eq!(world.upstream.call().target, target);
    }
    let body = r#"{"model":"chat","messages":[1]}"#;
    let world = forwarded(post("/v1/chat/completions?api-version=1", body)).await;
    assert_eq!(world.upstream.call().target, "/api/v1/chat/completions?api-version=1");
}

#[tokio::test(start_paused = true)]
async fn the_header_names_the_provider_and_the_body_passes_unread() {
    for (kind, body) in [
        ("application/json", "{\"model\":\"nobody's\" "),
        ("application/octet-stream", "\u{0}\u{1}"),
        ("multipart/form-data; boundary=b", "no form at all"),
    ] {
        let mut request = upload("/v1/x", &Reply::status(200).data(body));
        request = with_header(request, "x-magpie-provider", "far");
        request = with_header(request, "content-type", kind);
        let world = forwarded(request).await;
        let call = world.upstream.call();
        assert_eq!((call.provider.as_str(), call.text()), ("far", body));
        assert_eq!(call.target, "/v4/x");
        assert_eq!(call.header("content-type"), Some(kind));
        assert_eq!(call.header("x-magpie-provider"), None);
        assert_eq!(&*world.record().model, "");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_provider_is_refused_with_the_known_ones() {
    for name in ["fat", "", "LAB", "lab/up-model"] {
        let request = with_header(get("/v1/files"), "x-magpie-provider", name);
        let (status, error) = refused(request, "provider_not_found").await;
        assert_eq!(status, 404);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("lab, far, echo"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_header_and_model_nobody_is_asked_if_there_are_several() {
    for request in [
        get("/v1/files"),
        bodiless(Method::DELETE, "/v1/files/x"),
        bodiless(Method::POST, "/v1/batches/x/cancel"),
        post("/v1/responses", r#"{"input":"x"}"#),
        post("/v1/responses", r#"{"model":null}"#),
        with_header(upload("/v1/x", &Reply::status(200).data("x")), "content-type", "audio/wav"),
    ] {
        let (status, error) = refused(request, "provider_required").await;
        assert_eq!(status, 400);
        assert!(error["message"].as_str().unwrap().contains("x-magpie-provider"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_header_and_model_the_only_provider_is_asked() {
    for (request, body) in [
        (get("/v1/files"), ""),
        (bodiless(Method::DELETE, "/v1/files/x"), ""),
        (bodiless(Method::POST, "/v1/batches/x/cancel"), ""),
        (post("/v1/responses", r#"{"input":1.10}"#), r#"{"input":1.10}"#),
    ] {
        let method = request.method().clone();
        let world = World::lab([]);
        world.ask(request).await.read().await;
        let call = world.upstream.call();
        assert_eq!((call.provider.as_str(), call.text()), ("lab", body));
        assert_eq!(call.method, method);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_model_is_refused() {
    let (status, error) =
        refused(post("/v1/rerank", r#"{"model":"painr"}"#), "model_not_found").await;
    assert_eq!(status, 404);
    assert!(error["message"].as_str().unwrap().contains("Did you mean `paint`"), "{error}");
    let (status, _) = refused(post("/v1/rerank", r#"{"model":7}"#), "invalid_field").await;
    assert_eq!(status, 400);
    let (status, _) = refused(post("/v1/rerank", "[1]"), "invalid_json").await;
    assert_eq!(status, 400);
    let twice = r#"{"model":"chat","model":"paint"}"#;
    let (status, _) = refused(post("/v1/rerank", twice), "duplicate_field").await;
    assert_eq!(status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_passed_as_it_comes() {
    let reply = Reply::status(201)
        .header("content-type", "audio/mpeg")
        .header("content-disposition", "attachment; filename=a.mp3")
        .header("content-length", "6")
        .after(seconds(1))
        .data("abc")
        .wait(seconds(5))
        .data("def");
    let world = World::lab([reply]);
    let answer = world.ask(get("/v1/audio/x")).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-type"), Some("audio/mpeg"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=a.mp3"));
    assert_eq!(answer.header("content-length"), Some("6"));
    let frames = answer.frames().await;
    let times: Vec<u64> = frames.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!((times, frames[1].1.as_ref()), (vec![1, 6], b"def".as_ref()));
    assert_eq!(world.record().status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_another_dialect_is_passed_byte_for_byte() {
    let stream = "event: response.created\ndata: {\"type\":\"x\"}\n\nevent: done\ndata: torn";
    for cut in 1..stream.len() {
        let (front, back) = stream.split_at(cut);
        let reply = Reply::stream().data(front.to_owned()).wait(millis(2)).data(back.to_owned());
        let world = World::lab([reply]);
        let answer = world.ask(post("/v1/images/x", r#"{"model":"chat"}"#)).await;
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        let frames = answer.frames().await;
        assert_eq!(frames.len(), 2);
        assert_eq!([frames[0].1.as_ref(), frames[1].1.as_ref()].concat(), stream.as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_responses_without_its_last_event_breaks_off_behind_what_came() {
    let begun = "event: response.created\ndata: {}\n\n";
    let whole = format!("{begun}event: response.completed\ndata: {{}}\n\n");
    for (stream, ends_well) in [(begun, false), (&whole, true)] {
        let world = World::lab([Reply::stream().data(stream.to_owned())]);
        let answer = world.ask(post("/v1/responses", r#"{"model":"chat"}"#)).await;
        let (seen, failure) = answer.until_failure().await;
        assert_eq!(seen, stream);
        assert_eq!(failure.is_none(), ends_well, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_thing_that_holds_an_error_is_an_answer() {
    for body in [
        r#"{"id":"resp_1","object":"response","status":"failed","error":{"message":"no"}}"#,
        r#"{"id":"ftjob-1","status":"running","error":{"code":null,"message":null}}"#,
    ] {
        let world = World::lab([Reply::json(body)]);
        let (status, told) = world.ask(get("/v1/responses/resp_1")).await.read().await;
        assert_eq!((status.as_u16(), told.as_str()), (200, body));
    }
}

#[tokio::test(start_paused = true)]
async fn what_curl_calls_a_form_is_json_if_it_looks_like_it() {
    let request = post("/v1/moderations", r#"{"model":"chat","input":"x"}"#);
    let form = "application/x-www-form-urlencoded";
    let world = forwarded(with_header(request, "content-type", form)).await;
    let call = world.upstream.call();
    assert_eq!(call.text(), r#"{"model":"up-model","input":"x"}"#);
    assert_eq!(call.headers["content-type"], "application/json");
}

#[tokio::test(start_paused = true)]
async fn an_error_under_status_200_is_an_error_on_forwarded_paths_too() {
    let body = r#"{"error_code":336501,"error_msg":"rpm limit"}"#;
    let config = "providers:\n  baidu: { profile: qianfan, api_key: bce-v3/x }\n";
    let world = World::of(config, [Reply::json(body)]);
    let ask = post("/v1/images/generations", r#"{"model":"baidu/painter"}"#);
    let (status, error) = world.ask(ask).await.error().await;
    assert_eq!((status, error["message"].as_str()), (429, Some("rpm limit")));
}

#[tokio::test(start_paused = true)]
async fn an_upload_streams_through_as_it_comes() {
    let script = Reply::status(200)
        .data("first ")
        .wait(seconds(20))
        .data("second ")
        .wait(seconds(20))
        .data("third");
    let request = with_header(upload("/v1/audio/x", &script), "content-type", "audio/wav");
    let world = World::lab([]);
    world.ask(request).await.read().await;
    let call = world.upstream.call();
    assert_eq!(call.text(), "first second third");
    let times: Vec<u64> = call.pieces.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(times, [0, 20, 40]);
    assert_eq!(call.told_length, None);
}

#[tokio::test(start_paused = true)]
async fn an_upload_of_known_length_tells_it_to_the_provider() {
    let script = Reply::status(200).data("abc").data("def").sized();
    let request = with_header(upload("/v1/audio/x", &script), "content-type", "audio/wav");
    let world = World::lab([]);
    world.ask(request).await.read().await;
    assert_eq!(world.upstream.call().told_length, Some(6));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_turns_out_too_large_is_cut_off() {
    let yaml = format!("limits: {{ upload: 10B }}\n{}", crate::world::LAB);
    let script = Reply::status(200).data("12345").data("67890").data("1");
    let request = with_header(upload("/v1/audio/x", &script), "content-type", "audio/wav");
    let world = World::of(&yaml, []);
    let (status, error) = world.ask(request).await.error().await;
    assert_eq!((status, error["code"].as_str()), (413, Some("body_too_large")));
    assert!(error["message"].as_str().unwrap().contains("larger than allowed"), "{error}");
    assert_eq!(world.upstream.call().text(), "1234567890");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_any_path_is_readable() {
    let page = Reply::status(404).header("content-type", "text/html").data("<h1>no</h1>");
    let world = World::lab([page]);
    let (status, error) = world.ask(get("/v1/nothing")).await.error().await;
    assert_eq!((status, error["code"].as_str()), (404, Some("provider_error")));
    assert!(error["message"].as_str().unwrap().contains("<h1>no</h1>"), "{error}");
}
