//! Bad input: a clear error in the OpenAI dialect, and no provider hears of it.

use http::Method;
use relay::FailureKind;
use serde_json::Value;
use tokio::time::Instant;

use crate::scripted::{Reply, ScriptBody};
use crate::world::{ASK, LAB, World, bodiless, chat, get, post, seconds, upload, with_header};

/// The error a request is refused with, after checks that hold for every refusal.
async fn refused(world: &World, request: http::Request<ScriptBody>, code: &str) -> (u16, Value) {
    let answer = world.ask(request).await;
    assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
    let (status, error) = answer.error().await;
    assert_eq!(error["code"], code, "{error}");
    assert_eq!(error["type"], "invalid_request_error");
    world.assert_refused(code);
    let record = world.record();
    assert_eq!(record.status, status);
    assert_eq!(record.events, 0);
    (status, error)
}

/// Refuses a chat body with 400, and gives message and param.
async fn refused_chat(body: &str, code: &str) -> (String, Option<String>) {
    let world = World::lab([]);
    let (status, error) = refused(&world, chat(body.to_owned()), code).await;
    assert_eq!(status, 400);
    let text = |name: &str| error[name].as_str().map(str::to_owned);
    (text("message").unwrap(), text("param"))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_json_object_is_refused_with_line_and_column() {
    for (body, what) in [
        ("", "The body is empty at line 1, column 1"),
        (" \n ", "The body is empty at line 2, column 2"),
        ("[]", "The body is not a JSON object at line 1, column 1"),
        ("hello", "The body is not a JSON object at line 1, column 1"),
        ("{\"a\":1,}", "Expected a name in double quotes at line 1, column 8"),
        ("{\n  \"a\": nope\n}", "line 2, column"),
        ("{\"你\": tru}", "line 1, column"),
        ("{'a':1}", "Expected a name in double quotes at line 1, column 2"),
        ("{\"a\":1", "The JSON ends too early at line 1, column 7"),
        ("{\"a\" 1}", "Expected `:` at line 1, column 6"),
        ("{\"a\":1 \"b\":2}", "Expected `,` or `}` at line 1, column 8"),
        ("{\"a\":01}", "Not a JSON number at line 1, column"),
        ("{\"a\":\"\\x\"}", "Not a JSON escape at line 1, column"),
        ("{\"a\":\"\t\"}", "A control character in a string has to be escaped at line 1"),
        ("{\"a\":1}\n{\"b\":2}", "Unexpected text after the JSON object at line 2, column 1"),
        ("\u{feff}{\"model\":\"chat\"}", "line 1, column 1"),
    ] {
        let (message, param) = refused_chat(body, "invalid_json").await;
        assert!(message.contains(what), "{body:?}: {message}");
        assert!(message.contains("Send one JSON object."), "{message}");
        assert_eq!(param, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_utf_8_is_refused_with_its_place() {
    let world = World::lab([]);
    let request = chat(b"{\n \"a\":\"\xff\"}".to_vec());
    let (status, error) = refused(&world, request, "invalid_json").await;
    assert_eq!(status, 400);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("not UTF-8 at line 2, column 7"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_body_nested_too_deep_is_refused() {
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"model":"chat","messages":[1],"x":{open}{close}}}"#)
    };
    let (message, _) = refused_chat(&deep(100_000), "invalid_json").await;
    assert!(message.contains("Nested deeper than 128 levels"), "{message}");
    let world = World::lab([]);
    assert_eq!(world.chat(deep(100)).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_with_too_many_fields_is_refused() {
    let fields: Vec<String> = (0..10_001).map(|index| format!("\"f{index}\":0")).collect();
    let (message, _) = refused_chat(&format!("{{{}}}", fields.join(",")), "invalid_json").await;
    assert!(message.contains("More than 10000 fields"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn missing_or_empty_messages_are_refused() {
    for (body, what) in [
        (r#"{"model":"chat"}"#, "`messages` (the conversation so far) is missing."),
        (r#"{"model":"chat","messages":[ ]}"#, "`messages` is empty"),
        (r#"{"model":"chat","messages":null}"#, "`messages` has to be an array, not null."),
        (r#"{"model":"chat","messages":"hi"}"#, "not a string."),
        (r#"{"model":"chat","messages":{"role":"user"}}"#, "not an object."),
        (r#"{"model":"chat","Messages":[1]}"#, "is missing."),
    ] {
        let (message, param) = refused_chat(body, "invalid_field").await;
        assert!(message.contains(what), "{message}");
        assert_eq!(param.as_deref(), Some("messages"));
    }
}

#[tokio::test(start_paused = true)]
async fn fields_of_a_wrong_kind_are_refused_by_name() {
    for (member, param, what) in [
        (r#""model":7"#, "model", "`model` has to be a string, not a number."),
        (r#""model":["chat"]"#, "model", "not an array."),
        (r#""model":true"#, "model", "not a boolean."),
        (
            r#""model":"chat","stream":"true""#,
            "stream",
            "`stream` has to be true or false, not a string.",
        ),
        (r#""model":"chat","stream":1"#, "stream", "not a number."),
        (r#""model":"\ud800""#, "model", "`model` is no valid text."),
    ] {
        let body = format!(r#"{{"messages":[1],{member}}}"#);
        let (message, named) = refused_chat(&body, "invalid_field").await;
        assert!(message.contains(what), "{message}");
        assert_eq!(named.as_deref(), Some(param));
    }
}

#[tokio::test(start_paused = true)]
async fn fields_that_are_read_may_stand_only_once() {
    for (name, value) in
        [("model", "\"chat\""), ("messages", "[1]"), ("stream", "true"), ("stream_options", "{}")]
    {
        let body = format!(
            r#"{{"{name}":{value},"model":"chat","messages":[1],"stream":true,"stream_options":{{}}}}"#
        );
        let (message, param) = refused_chat(&body, "duplicate_field").await;
        assert!(message.contains(&format!("`{name}` stands twice")), "{message}");
        assert_eq!(param.as_deref(), Some(name));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_model_is_refused_with_the_nearest_names() {
    for (model, nearest) in [
        ("chatt", "Did you mean `chat`?"),
        ("smal", "Did you mean `lab/small`?"),
        ("lap/small", "Did you mean `lab/small`?"),
        ("wholly-different", "GET /v1/models lists what there is."),
    ] {
        let world = World::lab([]);
        let body = format!(r#"{{"model":"{model}","messages":[1]}}"#);
        let (status, error) = refused(&world, chat(body), "model_not_found").await;
        assert_eq!((status, error["param"].as_str()), (404, Some("model")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("There is no model `{model}`.")), "{message}");
        assert!(message.contains(nearest), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_very_long_model_name_is_cut_in_the_message() {
    let body = format!(r#"{{"model":"{}","messages":[1]}}"#, "长".repeat(50_000));
    let world = World::lab([]);
    let (_, error) = refused(&world, chat(body), "model_not_found").await;
    assert!(error["message"].as_str().unwrap().chars().count() < 300);
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_refused_with_the_limit() {
    let yaml = format!("limits: {{ body: 200B, upload: 300B }}\n{LAB}");
    let padded = |size: usize| {
        let rest = size - ASK.len() - r#","x":"""#.len();
        ASK.replace("}]}", &format!("}}],\"x\":\"{}\"}}", "x".repeat(rest)))
    };
    assert_eq!(padded(200).len(), 200);
    let world = World::of(&yaml, []);
    assert_eq!(world.chat(padded(200)).await.0, 200, "the limit itself is allowed");
    let told = chat(padded(201));
    let piece = Reply::status(200).data(padded(201));
    let pieces = Reply::status(200)
        .data(padded(201)[..150].to_owned())
        .data(padded(201)[150..].to_owned())
        .hang();
    for request in [
        told,
        upload("/v1/chat/completions", &piece),
        upload("/v1/chat/completions", &pieces),
        post("/v1/rerank", padded(201)),
    ] {
        let world = World::of(&yaml, []);
        let (status, error) = refused(&world, request, "body_too_large").await;
        assert_eq!(status, 413);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("larger than 200 bytes"), "{message}");
        assert!(message.contains("`limits`"), "says what to do: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_says_it_is_over_the_limit_is_refused_before_it_is_read() {
    let yaml = format!("limits: {{ upload: 300B }}\n{LAB}");
    for kind in ["audio/wav", "multipart/form-data; boundary=b"] {
        let script = Reply::status(200).data("x".repeat(301)).sized().hang();
        let request = with_header(upload("/v1/audio/x", &script), "content-type", kind);
        let world = World::of(&yaml, []);
        let (status, error) = refused(&world, request, "body_too_large").await;
        assert_eq!(status, 413, "{kind}");
        assert!(error["message"].as_str().unwrap().contains("300 bytes"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_pauses_too_long_is_refused() {
    let script = Reply::status(200).data("{\"model\":").hang();
    let world = World::lab([]);
    let start = Instant::now();
    let request = upload("/v1/chat/completions", &script);
    let (status, error) = refused(&world, request, "body_timeout").await;
    assert_eq!((status, start.elapsed().as_secs()), (408, 30));
    assert!(error["message"].as_str().unwrap().contains("30 s"), "{error}");
    let mut slow = Reply::status(200);
    for piece in ASK.as_bytes().chunks(ASK.len() / 3 + 1) {
        slow = slow.data(piece.to_vec()).wait(seconds(29));
    }
    let world = World::lab([]);
    let answer = world.ask(upload("/v1/chat/completions", &slow)).await;
    assert_eq!(answer.status, 200, "a slow body is read to its end");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_refused() {
    let script = Reply::status(200).data("{\"model\":").wait(seconds(1)).fail(FailureKind::Cut);
    let world = World::lab([]);
    let request = upload("/v1/chat/completions", &script);
    let (status, error) = refused(&world, request, "body_cut").await;
    assert_eq!(status, 400);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("broke off: as the script says"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_compressed_body_is_refused() {
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        for path in ["/v1/chat/completions", "/v1/files"] {
            let request = with_header(post(path, ASK), "content-encoding", encoding);
            let world = World::lab([]);
            let (status, error) = refused(&world, request, "compressed_body").await;
            assert_eq!(status, 415);
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(encoding), "{message}");
            assert!(message.contains("uncompressed"), "{message}");
        }
    }
    let world = World::lab([]);
    let plain = with_header(chat(ASK), "content-encoding", "identity");
    assert_eq!(world.ask(plain).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_method_is_refused_with_the_right_ones() {
    for (method, path, allowed) in [
        (Method::GET, "/v1/chat/completions", "POST"),
        (Method::PUT, "/v1/completions", "POST"),
        (Method::OPTIONS, "/v1/embeddings", "POST"),
        (Method::POST, "/v1/models", "GET, HEAD"),
        (Method::DELETE, "/v1/models/chat", "GET, HEAD"),
        (Method::TRACE, "/v1/files", "GET, HEAD, POST, PUT, PATCH, DELETE"),
        (Method::CONNECT, "/v1/files", "GET, HEAD, POST, PUT, PATCH, DELETE"),
    ] {
        let world = World::lab([]);
        let request = bodiless(method.clone(), path);
        let answer = world.ask(request).await;
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
        let (status, error) = answer.error().await;
        assert_eq!((status, error["code"].as_str()), (405, Some("method_not_allowed")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(path) && message.contains(method.as_str()), "{message}");
        world.assert_refused("method_not_allowed");
    }
}

#[tokio::test(start_paused = true)]
async fn an_offer_to_speak_websocket_is_refused() {
    for word in ["websocket", "WebSocket"] {
        for path in ["/v1/realtime?model=chat", "/v1/chat/completions"] {
            let request = match path.contains("realtime") {
                true => get(path),
                false => post(path, ASK),
            };
            let request = with_header(request, "upgrade", word);
            let world = World::lab([]);
            let (status, error) = refused(&world, request, "websocket_unsupported").await;
            assert_eq!(status, 404);
            assert!(error["message"].as_str().unwrap().contains("Use POST"), "{error}");
        }
    }
}
