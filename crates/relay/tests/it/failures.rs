//! Calls that fail before a reply has begun, and the one kind that is made again.

use relay::{FailureKind, Outcome};

use crate::scripted::Reply;
use crate::world::{ASK, ASK_STREAM, World, chat, error_in, post, seconds, upload, with_header};

#[tokio::test(start_paused = true)]
async fn each_kind_of_failure_has_its_status_code_and_outcome() {
    for (kind, code, outcome) in [
        (FailureKind::Dns, "provider_unreachable", Outcome::Unreachable),
        (FailureKind::Connect, "provider_unreachable", Outcome::Unreachable),
        (FailureKind::Tls, "provider_unreachable", Outcome::Unreachable),
        (FailureKind::NoReply, "provider_no_reply", Outcome::Unreachable),
        (FailureKind::Cut, "provider_truncated", Outcome::Truncated),
        (FailureKind::Protocol, "provider_malformed", Outcome::Truncated),
    ] {
        for request in [chat(ASK), chat(ASK_STREAM), post("/v1/rerank", r#"{"model":"chat"}"#)] {
            let world = World::lab([Reply::failing(kind).after(seconds(1))]);
            let answer = world.ask(request).await;
            assert_eq!(answer.header("x-magpie-provider"), Some("lab"));
            let (status, error) = answer.error().await;
            assert_eq!((status, error["code"].as_str()), (502, Some(code)), "{kind:?}");
            assert_eq!(error["type"], "upstream_error");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("lab: as the script says"), "{message}");
            let record = world.record();
            assert_eq!((record.outcome, record.fault), (outcome, Some(code)));
            assert_eq!(record.status, 502);
            assert_eq!(record.total.as_secs(), 1);
            assert_eq!(world.upstream.calls().len(), 1, "{kind:?} is not tried again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_met_a_connection_closed_while_idle_is_made_again() {
    for stale in 1..3 {
        let mut replies = vec![Reply::failing(FailureKind::Stale); stale];
        replies.push(Reply::json(r#"{"choices":[]}"#));
        let world = World::lab(replies);
        assert_eq!(world.chat(ASK).await.0, 200);
        let calls = world.upstream.calls();
        assert_eq!(calls.len(), stale + 1);
        for call in &calls {
            assert_eq!(call.body, calls[0].body);
            assert_eq!(call.headers, calls[0].headers);
            assert_eq!(call.target, calls[0].target);
        }
        assert_eq!(world.record().outcome, Outcome::Complete);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_only_meets_closed_connections_is_given_up() {
    let world = World::lab(vec![Reply::failing(FailureKind::Stale); 9]);
    let (status, body) = world.chat(ASK).await;
    assert_eq!(status, 502);
    assert_eq!(error_in(&body)["code"], "provider_no_reply");
    assert_eq!(world.upstream.calls().len(), 3);
    assert_eq!(world.record().outcome, Outcome::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn an_upload_on_its_way_through_is_never_sent_again() {
    let world = World::lab(vec![Reply::failing(FailureKind::Stale); 3]);
    let script = Reply::status(200).data("abc");
    let request = with_header(upload("/v1/files", &script), "content-type", "audio/wav");
    let (status, _) = world.ask(request).await.read().await;
    assert_eq!(status, 502);
    assert_eq!(world.upstream.calls().len(), 1);
    let json = post("/v1/rerank", r#"{"model":"chat"}"#);
    let world = World::lab([Reply::failing(FailureKind::Stale), Reply::json("{}")]);
    assert_eq!(world.ask(json).await.status, 200, "what was in memory is");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_off_is_the_callers_fault() {
    let script = Reply::status(200).data("abc").fail(FailureKind::Cut);
    let request = with_header(upload("/v1/files", &script), "content-type", "audio/wav");
    let world = World::lab([]);
    let (status, error) = world.ask(request).await.error().await;
    assert_eq!((status, error["code"].as_str()), (400, Some("body_cut")));
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(world.record().outcome, Outcome::Refused);
}
