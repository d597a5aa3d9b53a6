//! Error responses of providers: status, body and `retry-after` are kept, and always readable.

use relay::{FailureKind, Outcome};

use crate::scripted::Reply;
use crate::world::{ASK, ASK_STREAM, KEY, World, chat, post, seconds};

fn error_reply(status: u16, body: &str) -> Reply {
    Reply::status(status)
        .header("content-type", "application/json; charset=utf-8")
        .data(body.to_owned())
}

fn assert_provider_error(world: &World, status: u16) {
    let record = world.record();
    assert_eq!(record.outcome, Outcome::ProviderError);
    assert_eq!((record.status, record.fault), (status, None));
}

#[tokio::test(start_paused = true)]
async fn an_openai_error_passes_byte_for_byte_with_its_status_and_headers() {
    for status in [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529] {
        let body = r#"{ "error": {"message":"slow down 你","type":"t","param":null,"code":1.10}, "x":-0 }"#;
        for request in [ASK, ASK_STREAM] {
            let reply = error_reply(status, body)
                .header("retry-after", "17")
                .header("x-ratelimit-remaining-requests", "0")
                .header("x-request-id", "up-1");
            let world = World::lab([reply]);
            let answer = world.ask(chat(request)).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("retry-after"), Some("17"));
            assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("0"));
            assert_eq!(answer.header("x-upstream-request-id"), Some("up-1"));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("x-magpie-provider"), Some("lab"));
            assert_eq!(answer.read().await.1, body);
            assert_provider_error(&world, status);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn errors_in_other_words_are_put_into_the_dialect_and_kept_inside() {
    for (body, message, code) in [
        (r#"{"error_code":17,"error_msg":"quota"}"#, "quota", "17"),
        (r#"{"message":"no such app","code":"APP404"}"#, "no such app", "APP404"),
        (r#"{"error":"plain text"}"#, "plain text", "provider_error"),
        (r#"{"detail":"Not Found"}"#, "Not Found", "provider_error"),
        (r#"{"base_resp":{"status_code":1004,"status_msg":"auth"}}"#, "auth", "1004"),
        (r#"[{"error":{"code":400,"message":"gemini"}}]"#, "gemini", "400"),
    ] {
        let world = World::lab([error_reply(400, body)]);
        let (status, error) = world.ask(chat(ASK)).await.error().await;
        assert_eq!((status, error["message"].as_str()), (400, Some(message)));
        assert_eq!(error["code"].as_str(), Some(code));
        assert_eq!(error["type"], "upstream_error");
        assert_eq!(error["upstream"].to_string(), body, "nothing it said is lost");
        assert_provider_error(&world, 400);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_of_html_is_told_in_one_line() {
    let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\n<body>\n  <center>nginx</center></body></html>";
    for kind in ["text/html", "application/json"] {
        let reply = Reply::status(502).header("content-type", kind).data(page);
        let world = World::lab([reply]);
        let (status, error) = world.ask(chat(ASK)).await.error().await;
        assert_eq!((status, error["code"].as_str()), (502, Some("provider_error")));
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("lab answered with status 502"), "{message}");
        assert!(message.contains("502 Bad Gateway</title></head> <body>"), "{message}");
        assert!(error.get("upstream").is_none(), "{error}");
        assert_provider_error(&world, 502);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_text_is_told_by_its_beginning() {
    let reply = Reply::status(500).data("长 ".repeat(10_000));
    let world = World::lab([reply]);
    let (_, error) = world.ask(chat(ASK)).await.error().await;
    let message = error["message"].as_str().unwrap();
    assert!(message.chars().count() < 400, "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_error_without_a_body_still_says_what_happened() {
    for status in [401, 500, 503] {
        let world = World::lab([Reply::status(status)]);
        let (got, error) = world.ask(chat(ASK)).await.error().await;
        assert_eq!(got, status);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("lab answered with status {status}")), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_provider_echoes_never_reaches_the_client() {
    for body in [
        format!(
            r#"{{"error":{{"message":"Incorrect API key: {KEY}.","type":"t","param":null,"code":"c"}}}}"#
        ),
        format!(r#"{{"error_code":110,"error_msg":"{KEY}","again":"{KEY}"}}"#),
        format!("<p>Authorization: Bearer {KEY}</p>"),
    ] {
        for request in [chat(ASK), post("/v1/rerank", r#"{"model":"chat"}"#)] {
            let world = World::lab([error_reply(401, &body)]);
            let (status, got) = world.ask(request).await.read().await;
            assert_eq!(status, 401);
            assert!(!got.contains(KEY), "{got}");
            assert!(got.contains("***"), "{got}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_not_followed_and_becomes_502() {
    for status in [301, 302, 303, 307, 308] {
        let reply = Reply::status(status).header("location", "https://evil.test/steal");
        for request in [chat(ASK), chat(ASK_STREAM), post("/v1/files", "{}")] {
            let world = World::lab([reply.clone()]);
            let answer = world.ask(request).await;
            assert_eq!(answer.header("location"), None);
            let (got, error) = answer.error().await;
            assert_eq!((got, error["code"].as_str()), (502, Some("provider_redirect")));
            assert!(error["message"].as_str().unwrap().contains("base_url"), "{error}");
            let record = world.record();
            assert_eq!(record.outcome, Outcome::ProviderError);
            assert_eq!((record.status, record.fault), (502, Some("provider_redirect")));
            assert_eq!(world.upstream.calls().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_response_that_breaks_off_is_a_broken_answer() {
    let reply = error_reply(429, "{\"error\":").wait(seconds(1)).fail(FailureKind::Cut);
    let world = World::lab([reply]);
    let (status, error) = world.ask(chat(ASK)).await.error().await;
    assert_eq!((status, error["code"].as_str()), (502, Some("provider_truncated")));
    assert_eq!(world.record().outcome, Outcome::Truncated);
}

#[tokio::test(start_paused = true)]
async fn an_error_response_is_read_up_to_a_bound() {
    let reply = Reply::status(500).data("x".repeat(900 << 10)).data("y".repeat(900 << 10)).hang();
    let world = World::lab([reply]);
    let (status, error) = world.ask(chat(ASK)).await.error().await;
    assert_eq!((status, error["code"].as_str()), (500, Some("provider_error")));
    assert_eq!(world.upstream.fates.cancelled.get(), 1, "the rest is given up");
    assert_provider_error(&world, 500);
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_with_an_error_status_is_an_error() {
    let event = "data: {\"error\":{\"message\":\"m\"}}\n\n";
    let reply = Reply::status(400).header("content-type", "text/event-stream").data(event);
    let world = World::lab([reply]);
    let (status, error) = world.ask(chat(ASK_STREAM)).await.error().await;
    assert_eq!(status, 400);
    assert!(error["message"].as_str().unwrap().contains("\"message\":\"m\""), "{error}");
}
