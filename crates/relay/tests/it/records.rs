//! Exactly one record for every request, however it ends.

use http::Request;
use policy::health::Cause;
use relay::{FailureKind, Operation, Outcome};

use crate::scripted::{Reply, ScriptBody};
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, World, bodiless, chat, chunk, get, post, seconds, with_header,
};

/// What a scenario has to leave: outcome, status, fault, model, provider.
type Left = (Outcome, u16, Option<&'static str>, &'static str, Option<&'static str>);

async fn assert_leaves(name: &str, request: Request<ScriptBody>, reply: Reply, left: Left) {
    let world = World::lab([reply]);
    let mut answer = world.ask(request).await;
    while let Some(frame) = answer.next().await {
        if frame.is_err() {
            break;
        }
    }
    let status = answer.status.as_u16();
    drop(answer);
    let record = world.record();
    let route = record.route.as_ref();
    let provider = route.map(|route| route.provider.id.to_string());
    assert_eq!(
        (record.outcome, record.status, record.fault, &*record.model, provider.as_deref()),
        left,
        "{name}"
    );
    assert_eq!(record.status, status, "{name}");
    assert_eq!(world.upstream.fates.open.get(), 0, "{name}");
}

/// Where the chats of these tests go: the model as named, and the provider.
const fn at_lab(outcome: Outcome, status: u16, fault: Option<&'static str>) -> Left {
    (outcome, status, fault, "chat", Some("lab"))
}

#[tokio::test(start_paused = true)]
async fn every_answer_leaves_one_record() {
    use Outcome::{Complete, ProviderError, Refused, TimedOut, Truncated, Unreachable};
    let hidden = Reply::json(r#"{"error":{"message":"m"}}"#);
    let refused = Reply::failing(FailureKind::Connect);
    let late = Reply::json("{}").after(seconds(9_999));
    let cut = Reply::json("{}").fail(FailureKind::Cut);
    let html = Reply::status(200).data("<p>");
    for (name, reply, left) in [
        ("answer", Reply::json("{}"), at_lab(Complete, 200, None)),
        ("status", Reply::status(500), at_lab(ProviderError, 500, None)),
        ("hidden error", hidden, at_lab(ProviderError, 502, None)),
        ("redirect", Reply::status(302), at_lab(ProviderError, 502, Some("provider_redirect"))),
        ("refused", refused, at_lab(Unreachable, 502, Some("provider_unreachable"))),
        ("late", late, at_lab(TimedOut, 504, Some("provider_timeout"))),
        ("cut", cut, at_lab(Truncated, 502, Some("provider_truncated"))),
        ("html", html, at_lab(Truncated, 502, Some("provider_malformed"))),
    ] {
        assert_leaves(name, chat(ASK), reply, left).await;
    }
    for (name, body, left) in [
        ("no body", "", (Refused, 400, Some("invalid_json"), "", None)),
        (
            "no model",
            r#"{"model":"?","messages":[1]}"#,
            (Refused, 404, Some("model_not_found"), "?", None),
        ),
    ] {
        assert_leaves(name, chat(body), Reply::json("{}"), left).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_stream_leaves_one_record() {
    use Outcome::{Complete, ProviderError, TimedOut, Truncated};
    let stream = || Reply::stream().data(chunk("a"));
    let error = stream().data("data: {\"error\":{\"message\":\"m\"}}\n\n");
    let cut = stream().fail(FailureKind::Cut);
    for (name, reply, left) in [
        ("stream", stream().data(DONE), at_lab(Complete, 200, None)),
        (
            "no stream",
            Reply::json("{}"),
            at_lab(ProviderError, 502, Some("provider_not_streaming")),
        ),
        ("short", stream(), at_lab(Truncated, 200, Some("provider_truncated"))),
        ("cut", cut, at_lab(Truncated, 200, Some("provider_truncated"))),
        ("bad", stream().data("data: x\n\n"), at_lab(Truncated, 200, Some("provider_malformed"))),
        ("stalled", stream().hang(), at_lab(TimedOut, 200, Some("provider_timeout"))),
        ("error", error, at_lab(ProviderError, 200, None)),
    ] {
        assert_leaves(name, chat(ASK_STREAM), reply, left).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_other_request_leaves_one_record() {
    use Outcome::{Complete, ProviderError, Refused, Truncated};
    let lab = Some("lab");
    let scenarios: Vec<(&str, Request<ScriptBody>, Reply, Left)> = vec![
        ("models", get("/v1/models"), Reply::status(500), (Complete, 200, None, "", None)),
        ("model", get("/v1/models/chat"), Reply::status(500), (Complete, 200, None, "", None)),
        (
            "unknown model",
            get("/v1/models/zzz"),
            Reply::status(500),
            (Refused, 404, Some("model_not_found"), "", None),
        ),
        ("path", get("/v2/x"), Reply::status(500), (Refused, 404, Some("unknown_path"), "", None)),
        (
            "file",
            get("/v1/files/x"),
            Reply::status(200).data("abc"),
            (Complete, 200, None, "", lab),
        ),
        (
            "no file",
            get("/v1/files/x"),
            Reply::status(404).data("{}"),
            (ProviderError, 404, None, "", lab),
        ),
        (
            "torn file",
            get("/v1/files/x"),
            Reply::status(200).data("abc").wait(seconds(1)).fail(FailureKind::Cut),
            (Truncated, 200, None, "", lab),
        ),
        (
            "rerank",
            post("/v1/rerank", r#"{"model":"chat"}"#),
            Reply::json("{}"),
            (Complete, 200, None, "chat", lab),
        ),
    ];
    for (name, request, reply, left) in scenarios {
        assert_leaves(name, request, reply, left).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_have_a_body_is_complete_without_one() {
    for (method, path, reply) in [
        (http::Method::DELETE, "/v1/files/x", Reply::status(204).sized()),
        (
            http::Method::HEAD,
            "/v1/files/x",
            Reply::status(200).header("content-length", "4096").sized(),
        ),
    ] {
        let world = World::lab([reply]);
        let answer = world.ask(bodiless(method.clone(), path)).await;
        if method == http::Method::HEAD {
            assert_eq!(answer.header("content-length"), Some("4096"));
        }
        // Servers do not ask for a body that may not be.
        drop(answer);
        assert_eq!(world.record().outcome, Outcome::Complete, "{method}");
        assert_eq!(world.upstream.fates.cancelled.get(), 0, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_operation_is_recorded_by_its_word() {
    for (request, operation, word) in [
        (chat(ASK), Operation::Chat, "chat"),
        (post("/v1/completions", r#"{"model":"chat"}"#), Operation::Completion, "completion"),
        (post("/v1/embeddings", r#"{"model":"chat"}"#), Operation::Embedding, "embedding"),
        (get("/v1/models"), Operation::Models, "models"),
        (post("/v1/feedback", crate::feedback::UP), Operation::Feedback, "feedback"),
        (get("/v1/files"), Operation::File, "file"),
        (get("/v1/audio/voices"), Operation::Transcription, "transcription"),
        (get("/v1/audio/speech"), Operation::Speech, "speech"),
        (get("/v1/threads"), Operation::Other, "other"),
        (get("/v3"), Operation::Other, "other"),
    ] {
        let world = World::lab([]);
        world.ask(request).await.read().await;
        let record = world.record();
        assert_eq!((record.operation, record.operation.word()), (operation, word));
    }
}

#[test]
fn every_outcome_has_a_word_of_its_own() {
    let words = [
        Outcome::Complete,
        Outcome::Refused,
        Outcome::ProviderError,
        Outcome::Unreachable,
        Outcome::Truncated,
        Outcome::TimedOut,
        Outcome::ClientGone,
        Outcome::Shed,
    ]
    .map(Outcome::word);
    let unique: std::collections::BTreeSet<&str> = words.into_iter().collect();
    assert_eq!(unique.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn many_requests_at_once_leave_one_record_each() {
    let replies: Vec<Reply> = (0..50)
        .map(|index| {
            Reply::stream()
                .after(seconds(index % 7))
                .data(chunk("a"))
                .wait(seconds(index % 5))
                .data([FINISH, DONE].concat())
        })
        .collect();
    let world = World::lab(replies);
    let asks: Vec<_> = (0..50)
        .map(|index| {
            let world = &world;
            Box::pin(async move {
                let mut answer = world.ask(chat(ASK_STREAM)).await;
                answer.next().await.unwrap().unwrap();
                if index % 3 == 0 {
                    return;
                }
                while let Some(frame) = answer.next().await {
                    frame.unwrap();
                }
            })
        })
        .collect();
    let mut asks = asks;
    std::future::poll_fn(|cx| {
        asks.retain_mut(|ask| ask.as_mut().poll(cx).is_pending());
        match asks.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    assert_eq!(world.records(), 50);
    assert_eq!(world.upstream.fates.open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_leaves_its_cause() {
    let stored = || with_header(get("/v1/files/f"), "x-magpie-provider", "lab");
    let error = |status: u16, body: &'static str| {
        Reply::status(status).header("content-type", "application/json").data(body)
    };
    let late = Reply::json("{}").after(seconds(9_999));
    let gone = r#"{"error":{"message":"m","type":"insufficient_quota","code":null}}"#;
    for (name, request, reply, cause) in [
        ("answer", chat(ASK), Reply::json("{}"), None),
        ("refused", chat(ASK), Reply::failing(FailureKind::Tls), Some(Cause::HardDown)),
        ("no reply", chat(ASK), Reply::failing(FailureKind::NoReply), Some(Cause::Transient)),
        ("late", chat(ASK), late, Some(Cause::Transient)),
        ("html", chat(ASK), Reply::status(200).data("<p>"), Some(Cause::Transient)),
        ("status", chat(ASK), Reply::status(429), Some(Cause::Throttled)),
        ("code", stored(), error(429, gone), Some(Cause::Billing)),
        ("hidden", stored(), error(200, r#"{"error_code":336103}"#), Some(Cause::ContextTooLong)),
        ("cut", stored(), Reply::json("{").fail(FailureKind::Cut), Some(Cause::Transient)),
        ("stored", stored(), Reply::json("{}"), None),
    ] {
        let world = World::lab([reply]);
        let _ = world.ask(request).await.read().await;
        assert_eq!(world.record().cause, cause, "{name}");
    }
    let world = World::lab([]);
    let _ = world.ask(chat("{}")).await.read().await;
    assert_eq!(world.record().cause, None, "no provider was asked");
}
