//! Answers that are not streamed: passed as they came, and read on the side.

use relay::{FailureKind, Outcome};

use crate::scripted::Reply;
use crate::world::{ASK, ASK_STREAM, World, chat, error_in, millis, post, seconds};

#[tokio::test(start_paused = true)]
async fn an_answer_reaches_the_client_byte_for_byte() {
    for body in [
        r#"{"id":"x","choices":[{"message":{"content":"你好 \ud83d\ude00 \/"}}],"n":123456789012345678901234567890,"x":1.10,"y":-0}"#,
        "{\r\n\t\"choices\" : [ ] , \"a\":1, \"a\":2 }\r\n\r\n",
        "{}",
        "  \n\n\r\n {\"keep-alives\":\"in front, as DeepSeek sends them\"}",
        r#"{"error":null,"choices":[]}"#,
        r#"{"base_resp":{"status_code":0,"status_msg":""},"choices":[]}"#,
        r#"{"error_code":0,"choices":[]}"#,
    ] {
        let world = World::lab([Reply::json(body)]);
        let answer = world.ask(chat(ASK)).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let (status, got) = answer.read().await;
        assert_eq!((status.as_u16(), got.as_str()), (200, body));
        let record = world.record();
        assert_eq!(record.outcome, Outcome::Complete);
        assert_eq!((record.status, record.fault), (200, None));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_pieces_is_the_same_as_one_that_arrives_whole() {
    let body = r#"{"choices":[{"message":{"content":"星河🐦"}}],"usage":{"prompt_tokens":3}}"#;
    for cut in 0..=body.len() {
        let (front, back) = body.as_bytes().split_at(cut);
        let reply = Reply::json(front.to_vec()).wait(millis(1)).data(back.to_vec());
        let world = World::lab([reply]);
        let (status, got) = world.chat(ASK).await;
        assert_eq!((status.as_u16(), got.as_str()), (200, body), "cut at {cut}");
        assert_eq!(world.record().usage.unwrap().input, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_one_piece_is_not_copied() {
    let body = bytes::Bytes::from(r#"{"choices":[]}"#.to_owned());
    let world = World::lab([Reply::json(body.clone())]);
    let frames = world.ask(chat(ASK)).await.frames().await;
    assert_eq!(frames[0].1.as_ptr(), body.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn the_token_counts_of_an_answer_are_recorded() {
    for (path, request) in [
        ("/v1/chat/completions", ASK),
        ("/v1/embeddings", r#"{"model":"chat","input":"x"}"#),
        ("/v1/completions", r#"{"model":"chat","prompt":"x"}"#),
    ] {
        let body = r#"{"object":"list","usage":{"prompt_tokens":10,"completion_tokens":4,
            "total_tokens":14,"prompt_tokens_details":{"cached_tokens":6},
            "completion_tokens_details":{"reasoning_tokens":3}}}"#;
        let world = World::lab([Reply::json(body).after(seconds(2))]);
        world.ask(post(path, request)).await.read().await;
        let record = world.record();
        let usage = record.usage.unwrap();
        assert_eq!((usage.input, usage.cached_read), (4, 6), "{path}");
        assert_eq!((usage.output, usage.reasoning), (1, 3), "{path}");
        assert_eq!((record.events, record.stream), (0, false));
        assert_eq!(record.total.as_secs(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_json_object_becomes_502() {
    for body in [
        "<html><body>Welcome</body></html>",
        "",
        "   ",
        "[1,2]",
        "\"text\"",
        "{\"choices\":[",
        "{} {}",
        "null",
        "data: {}\n\ndata: [DONE]\n\n",
    ] {
        for kind in ["application/json", "text/html"] {
            let reply = Reply::status(200).header("content-type", kind).data(body);
            let world = World::lab([reply]);
            let (status, error) = world.ask(chat(ASK)).await.error().await;
            assert_eq!((status, error["code"].as_str()), (502, Some("provider_malformed")));
            assert!(error["message"].as_str().unwrap().contains("lab"), "{error}");
            let record = world.record();
            assert_eq!(record.outcome, Outcome::Truncated);
            assert_eq!((record.status, record.fault), (502, Some("provider_malformed")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_utf_8_becomes_502() {
    let world = World::lab([Reply::json(b"{\"a\":\"\xff\"}".to_vec())]);
    assert_eq!(world.chat(ASK).await.0, 502);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_becomes_502() {
    for kind in [FailureKind::Cut, FailureKind::Protocol] {
        let reply = Reply::json("{\"choices\":[]").wait(seconds(1)).fail(kind);
        let world = World::lab([reply]);
        let (status, error) = world.ask(chat(ASK)).await.error().await;
        let code = match kind {
            FailureKind::Cut => "provider_truncated",
            _ => "provider_malformed",
        };
        assert_eq!((status, error["code"].as_str()), (502, Some(code)));
        let record = world.record();
        assert_eq!((record.outcome, record.status), (Outcome::Truncated, 502));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_more_than_a_mebibyte_is_passed_as_it_comes() {
    let half = "x".repeat(700 << 10);
    let front = format!("{{\"data\":\"{half}");
    let back = format!("{half}\"}}");
    let reply = Reply::json(front.clone()).data(back.clone()).wait(seconds(10)).data("  ");
    let world = World::lab([reply]);
    let frames = world.ask(chat(ASK)).await.frames().await;
    assert!(frames[0].0 < seconds(1), "before its end has come");
    let got: Vec<u8> = frames.into_iter().flat_map(|(_, data)| data).collect();
    assert!(got == format!("{front}{back}  ").as_bytes());
    assert_eq!(world.record().outcome, Outcome::Complete);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_says_it_is_large_is_passed_from_its_first_byte_on() {
    let body = "x".repeat(2 << 20);
    let reply = Reply::json(body.clone()[..10].to_owned())
        .wait(seconds(20))
        .data(body.clone()[10..].to_owned())
        .header("content-length", &body.len().to_string())
        .sized();
    let world = World::lab([reply]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("content-length"), Some("2097152"));
    let frames = answer.frames().await;
    assert_eq!(frames[0].1.len(), 10);
    assert!(frames[0].0 < seconds(1));
    assert_eq!(world.record().outcome, Outcome::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_that_breaks_off_breaks_off_for_the_client() {
    let half = "x".repeat(700 << 10);
    let reply = Reply::json(half.clone()).data(half).wait(seconds(1)).fail(FailureKind::Cut);
    let world = World::lab([reply]);
    let mut answer = world.ask(chat(ASK)).await;
    let mut failed = false;
    while let Some(frame) = answer.next().await {
        failed = frame.is_err();
    }
    assert!(failed, "no client takes the part for the whole");
    let record = world.record();
    assert_eq!((record.outcome, record.status), (Outcome::Truncated, 200));
}

#[tokio::test(start_paused = true)]
async fn json_for_a_request_that_wants_a_stream_becomes_502() {
    let world = World::lab([Reply::json(r#"{"choices":[{"message":{}}]}"#)]);
    let answer = world.ask(chat(ASK_STREAM)).await;
    assert_eq!(answer.header("x-magpie-provider"), Some("lab"));
    let (status, error) = answer.error().await;
    assert_eq!((status, error["code"].as_str()), (502, Some("provider_not_streaming")));
    let record = world.record();
    assert_eq!(record.outcome, Outcome::ProviderError);
    assert_eq!((record.status, record.stream), (502, true));
}

#[tokio::test(start_paused = true)]
async fn an_error_for_a_request_that_wants_a_stream_keeps_its_status() {
    let said = r#"{"error":{"message":"no credit","type":"x","param":null,"code":"y"}}"#;
    let reply = Reply::status(402).header("content-type", "application/json").data(said);
    let world = World::lab([reply]);
    let (status, body) = world.chat(ASK_STREAM).await;
    assert_eq!((status.as_u16(), body.as_str()), (402, said));
    error_in(&body);
}
