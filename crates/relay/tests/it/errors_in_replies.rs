//! Errors under status 200: found by the provider's own marks, in answers and in streams.

use relay::Outcome;
use serde_json::Value;

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, KEY, LAB, World, chat, chunk, error_in, last_error,
};

/// Providers whose profiles say how they tell errors.
const MARKED: &str = "
providers:
  qianfan: { api_key: bce-v3/ALTAK-secret-1 }
  minimax: { api_key: minimax-secret-1 }
  lab: { profile: openai-compatible, base_url: http://lab.test/v1, api_key: sk-lab-0123456789 }
models:
  baidu: qianfan/ernie
  mini: minimax/m
  chat: lab/m
";

fn ask(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","messages":[1],"stream":{stream}}}"#)
}

/// What a client gets for a reply of status 200 that is an error.
async fn judged(model: &str, reply: &'static str) -> (u16, Value, World) {
    let world = World::of(MARKED, [Reply::json(reply)]);
    let (status, error) = world.ask(chat(ask(model, false))).await.error().await;
    {
        let record = world.record();
        assert_eq!(record.outcome, Outcome::ProviderError);
        assert_eq!(record.status, status);
    }
    (status, error, world)
}

#[tokio::test(start_paused = true)]
async fn baidus_codes_become_statuses() {
    for (code, status) in [
        ("4", 429),
        ("18", 429),
        ("336501", 429),
        ("110", 401),
        ("6", 403),
        ("336003", 400),
        ("336100", 503),
        ("336000", 500),
        ("1", 502),
    ] {
        let reply = format!(r#"{{"error_code":{code},"error_msg":"什么不对","id":"as-1"}}"#);
        let (got, error, _) = judged("baidu", reply.leak()).await;
        assert_eq!(got, status, "{code}");
        assert_eq!(error["code"], *code);
        assert_eq!(error["message"], "什么不对");
        assert_eq!(error["type"], "upstream_error");
        assert_eq!(error["upstream"]["id"], "as-1", "nothing it said is lost");
    }
}

#[tokio::test(start_paused = true)]
async fn minimaxs_base_resp_becomes_an_error() {
    let reply =
        r#"{"id":"1","choices":null,"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#;
    let (status, error, _) = judged("mini", reply).await;
    assert_eq!(status, 429);
    assert_eq!(error["code"], "1002");
    assert_eq!(error["message"], "rate limit");
    let fine = r#"{"choices":[],"base_resp":{"status_code":0,"status_msg":""}}"#;
    let world = World::of(MARKED, [Reply::json(fine)]);
    let (status, body) = world.chat(ask("mini", false)).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, fine));
}

#[tokio::test(start_paused = true)]
async fn the_marks_of_one_provider_are_not_those_of_another() {
    let reply = r#"{"choices":[],"base_resp":{"status_code":1002}}"#;
    let world = World::of(MARKED, [Reply::json(reply)]);
    let (status, body) = world.chat(ask("baidu", false)).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, reply));
}

#[tokio::test(start_paused = true)]
async fn an_openai_error_under_status_200_passes_as_it_came_with_a_status_of_its_own() {
    for (code, status) in
        [("\"x\"", 502), ("null", 502), ("429", 429), ("\"404\"", 404), ("200", 502), ("999", 502)]
    {
        let said = format!(
            r#"{{ "error" : {{"message":"m 你","type":"t","param":null,"code":{code},"more":1.10}} }}"#
        );
        let world = World::of(MARKED, [Reply::json(said.clone())]);
        let (got, body) = world.chat(ask("chat", false)).await;
        assert_eq!((got.as_u16(), body.as_str()), (status, said.as_str()));
        assert_eq!(world.record().outcome, Outcome::ProviderError);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_a_text_is_put_into_an_object() {
    let (status, error, _) = judged("chat", r#"{"error":"model not loaded"}"#).await;
    assert_eq!(status, 502);
    assert_eq!(error["message"], "model not loaded");
    assert_eq!(error["code"], "provider_error");
    assert_eq!(error["upstream"]["error"], "model not loaded");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_provider_echoes_is_taken_out() {
    let said = format!(
        r#"{{"error":{{"message":"bad key {KEY}","type":"t","param":null,"code":"401"}}}}"#
    );
    let world = World::lab([Reply::json(said.clone())]);
    let (status, body) = world.chat(ASK).await;
    assert_eq!(status, 401);
    assert_eq!(body, said.replace(KEY, "***"));
    let said = format!(r#"{{"error_code":110,"error_msg":"Access token {KEY} invalid"}}"#);
    let world = World::lab([Reply::json(said)]);
    let (_, body) = world.chat(ASK).await;
    assert!(!body.contains(KEY) && body.contains("Access token *** invalid"), "{body}");
}

/// The last event of a stream that holds an error, and its record.
async fn streamed(yaml: &str, model: &str, event: &str) -> (String, World) {
    let stream = [&chunk("a"), event, &chunk("never seen"), FINISH, DONE].concat();
    let world = World::of(yaml, [Reply::stream().data(stream).hang()]);
    let (status, answer) = world.chat(ask(model, true)).await;
    assert_eq!(status, 200);
    assert!(answer.starts_with(&chunk("a")), "{answer}");
    assert!(!answer.contains("never seen"));
    last_error(&answer);
    {
        let record = world.record();
        assert_eq!(record.outcome, Outcome::ProviderError);
        assert_eq!((record.status, record.events), (200, 1));
    }
    assert_eq!(world.upstream.fates.cancelled.get(), 1, "the call is given up");
    (answer, world)
}

#[tokio::test(start_paused = true)]
async fn an_openai_error_in_a_stream_passes_as_it_came_and_ends_it() {
    for event in [
        "data: {\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,\"code\":1.10}}\n\n",
        "event: error\ndata: { \"error\" : {\"message\":\"m\",\"type\":\"t\",\"param\":null,\"code\":\"c\"} }\n\n",
    ] {
        let stream = [&chunk("a"), event, DONE].concat();
        let world = World::lab([Reply::stream().data(stream)]);
        let (_, answer) = world.chat(ASK_STREAM).await;
        assert_eq!(answer, [&chunk("a"), event].concat());
        let record = world.record();
        assert_eq!((record.outcome, record.events), (Outcome::ProviderError, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn baidus_error_in_a_stream_is_put_into_the_dialect() {
    let event = "data: {\"error_code\":336501,\"error_msg\":\"限流\",\n\
                 data: \"id\":\"as-2\"}\n\n";
    let (answer, _) = streamed(MARKED, "baidu", event).await;
    let error = last_error(&answer);
    assert_eq!(error["message"], "限流");
    assert_eq!(error["code"], "336501");
    assert_eq!(error["upstream"]["id"], "as-2");
}

#[tokio::test(start_paused = true)]
async fn an_event_called_error_is_one_whatever_it_holds() {
    let event = "event: error\ndata: {\"message\":\"overloaded\",\"code\":\"busy\"}\n\n";
    let (answer, _) = streamed(LAB, "chat", event).await;
    let error = last_error(&answer);
    assert_eq!(error["message"], "overloaded");
    assert_eq!(error["code"], "busy");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_provider_echoes_in_a_stream_is_taken_out() {
    for event in [
        format!(
            "data: {{\"error\":{{\"message\":\"bad {KEY}\",\"type\":\"t\",\"param\":null,\"code\":\"c\"}}}}\n\n"
        ),
        format!("data: {{\"error_code\":110,\"error_msg\":\"bad {KEY}\"}}\n\n"),
    ] {
        let (answer, _) = streamed(LAB, "chat", &event).await;
        assert!(!answer.contains(KEY), "{answer}");
        assert_eq!(last_error(&answer)["message"], "bad ***");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_instead_of_a_stream_gets_its_status() {
    let reply = r#"{"error_code":18,"error_msg":"qps"}"#;
    let world = World::of(MARKED, [Reply::json(reply)]);
    let (status, body) = world.chat(ask("baidu", true)).await;
    assert_eq!(status, 429);
    assert_eq!(error_in(&body)["message"], "qps");
    assert_eq!(world.record().outcome, Outcome::ProviderError);
}

#[tokio::test(start_paused = true)]
async fn fields_that_say_that_all_is_well_are_no_errors() {
    let fine = "data: {\"choices\":[],\"error\":null,\"error_code\":0,\"base_resp\":{\"status_code\":0}}\n\n";
    let stream = [fine, FINISH, DONE].concat();
    let world = World::lab([Reply::stream().data(stream.clone())]);
    let (_, answer) = world.chat(ASK_STREAM).await;
    assert_eq!(answer, stream);
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_taken_out_however_it_is_spelt() {
    let config = "providers:\n  qianfan: { api_key: bce-v3/ALTAK-secret-1 }\n";
    let body = r#"{"model":"qianfan/m","messages":[1]}"#;
    for said in [
        r#"{"error":{"message":"bad key bce-v3\/ALTAK-secret-1"}}"#,
        r#"{"error_code":110,"error_msg":"bad key bce-v3\/ALTAK-secret-1"}"#,
        r#"{"error":{"message":"bad key \u0062ce-v3/ALTAK-secret-1"}}"#,
        "<html>bad key bce-v3/ALTAK-secret-1</html>",
    ] {
        for status in [200, 401] {
            let reply = Reply::status(status)
                .header("content-type", "application/json")
                .data(said)
                .header("openai-x", "bce-v3/ALTAK-secret-1");
            let world = World::of(config, [reply]);
            let answer = world.ask(chat(body)).await;
            assert!(!answer.headers.contains_key("openai-x"), "{said}");
            let (_, told) = answer.read().await;
            assert!(!told.contains("ALTAK-secret-1"), "{said} -> {told}");
        }
    }
    let gbk = [b"\xbb\xf5 bce-v3/ALTAK-secret-1".as_slice(), b" \xff"].concat();
    let world = World::of(config, [Reply::status(400).data(gbk)]);
    let (_, told) = world.ask(chat(body)).await.read().await;
    assert!(!told.contains("ALTAK-secret-1"), "{told}");
}
