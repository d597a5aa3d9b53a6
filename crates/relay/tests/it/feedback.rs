//! `POST /v1/feedback`: what is taken, what is refused, and when it is confirmed.

use std::rc::Rc;

use http::Method;
use relay::{Latch, Outcome, RequestId, Unnoted};
use serde_json::{Value, json};

use crate::world::{ASK, LAB, World, bodiless, chat, get, keyed, millis, post, upload};

/// Feedback of the simplest kind.
pub(crate) const UP: &str =
    r#"{"request_id":"req_0192f3c8a1b24c5d8e9f0a1b2c3d4e5f","rating":"up"}"#;
const ID: &str = "req_0192f3c8a1b24c5d8e9f0a1b2c3d4e5f";
const ADA: &str = "mk-of-ada-0123456789";

/// Sends a body with these fields beside the id.
async fn sent(world: &World, fields: Value) -> (u16, Value) {
    let mut body = json!({ "request_id": ID });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let answer = world.ask(post("/v1/feedback", body.to_string())).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let (status, text) = answer.read().await;
    (status.as_u16(), serde_json::from_str(&text).unwrap())
}

#[tokio::test(start_paused = true)]
async fn every_form_of_a_score_is_understood() {
    for (fields, score) in [
        (json!({ "score": 0 }), 0.0),
        (json!({ "score": 1 }), 1.0),
        (json!({ "score": 0.25, "rating": null }), 0.25),
        (json!({ "rating": "up" }), 1.0),
        (json!({ "rating": "down", "score": null }), 0.0),
        (json!({ "rating": true }), 1.0),
        (json!({ "rating": false }), 0.0),
    ] {
        let world = World::lab([]);
        let (status, answer) = sent(&world, fields.clone()).await;
        let expected =
            json!({ "object": "feedback", "request_id": ID, "score": score, "label": null });
        assert_eq!((status, answer), (200, expected), "{fields}");
        let given = &world.log.feedback.borrow()[0].0;
        assert_eq!((given.score, &*given.label, &given.comment), (score, "", &None));
        assert_eq!(Some(given.request), RequestId::parse(ID));
        let record = world.record();
        assert_eq!((record.outcome, record.status, record.asked), (Outcome::Complete, 200, false));
        assert!(world.upstream.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_label_and_a_comment_are_kept_as_they_were_sent() {
    let world = World::lab([]);
    let (label, comment) = ("l".repeat(64), "好 \n\"".repeat(166) + "four");
    let (status, answer) =
        sent(&world, json!({ "score": 0.5, "label": label, "comment": comment })).await;
    assert_eq!((status, &answer["label"]), (200, &json!(label)));
    assert!(answer.get("comment").is_none(), "content is not sent around needlessly");
    let given = &world.log.feedback.borrow()[0].0;
    assert_eq!((&*given.label, given.comment.as_deref()), (&*label, Some(&*comment)));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_named() {
    for (fields, param) in [
        (json!({}), "score"),
        (json!({ "score": null }), "score"),
        (json!({ "score": 1.01 }), "score"),
        (json!({ "score": -0.01 }), "score"),
        (json!({ "score": "1" }), "score"),
        (json!({ "score": true }), "score"),
        (json!({ "rating": "good" }), "rating"),
        (json!({ "rating": 1 }), "rating"),
        (json!({ "score": 1, "rating": "up" }), "rating"),
        (json!({ "score": 1, "label": 7 }), "label"),
        (json!({ "score": 1, "label": "l".repeat(65) }), "label"),
        (json!({ "score": 1, "comment": "c".repeat(1001) }), "comment"),
        (json!({ "score": 1, "comment": ["c"] }), "comment"),
        (json!({ "score": 1, "coment": "c" }), "coment"),
        (json!({ "score": 1, "request_id": "req_1" }), "request_id"),
        (json!({ "score": 1, "request_id": ID.to_uppercase() }), "request_id"),
        (json!({ "score": 1, "request_id": &ID[4..] }), "request_id"),
        (json!({ "score": 1, "request_id": null }), "request_id"),
    ] {
        let world = World::lab([]);
        let (status, error) = sent(&world, fields.clone()).await;
        let error = &error["error"];
        assert_eq!((status, &error["code"]), (400, &json!("invalid_field")), "{fields}");
        assert_eq!(error["param"], param, "{fields}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains(param), "{error}");
        assert!(world.log.feedback.borrow().is_empty());
        world.assert_refused("invalid_field");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_object_is_no_feedback() {
    let twice = format!(r#"{{"request_id":"{ID}","score":1,"score":0}}"#);
    for (body, status, code) in [
        ("", 400, "invalid_json"),
        ("[]", 400, "invalid_json"),
        ("{", 400, "invalid_json"),
        (&*twice, 400, "invalid_json"),
        (r#"{"request_id":"req_","score":1e999}"#, 400, "invalid_json"),
        (&*" ".repeat(16 * 1024 + 1), 413, "body_too_large"),
    ] {
        let world = World::lab([]);
        let (found, error) = world.ask(post("/v1/feedback", body.to_owned())).await.error().await;
        assert_eq!((found, error["code"].as_str()), (status, Some(code)), "{body:.40}");
        world.assert_refused(code);
    }
    let world = World::lab([]);
    let answer = world.ask(get("/v1/feedback")).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")));
    let answer = world.ask(bodiless(Method::DELETE, "/v1/feedback")).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_waited_for_no_longer_than_others() {
    let world = World::lab([]);
    let stalled = crate::scripted::Reply::status(200).data(UP).hang();
    let (status, error) = world.ask(upload("/v1/feedback", &stalled)).await.error().await;
    assert_eq!((status, error["code"].as_str()), (408, Some("body_timeout")));
    assert!(world.log.feedback.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_does_not_take_is_told() {
    for (why, status, code) in [
        (Unnoted::Unknown, 404, "request_not_found"),
        (Unnoted::TooManyLabels, 400, "invalid_field"),
        (Unnoted::Unrecorded, 503, "ledger_unavailable"),
    ] {
        let world = World::lab([]);
        world.log.refuses.set(Some(why));
        let (found, error) = sent(&world, json!({ "score": 1 })).await;
        assert_eq!((found, error["error"]["code"].as_str()), (status, Some(code)));
        world.assert_refused(code);
    }
}

#[tokio::test(start_paused = true)]
async fn whose_feedback_it_is_is_known_by_the_key_and_its_terms_count() {
    let yaml = format!(
        "{LAB}keys: [{{ name: ada, key: {ADA} }}, {{ name: chats, key: {ADA}-2, operations: [chat] }}]\n"
    );
    let world = World::of(&yaml, []);
    assert_eq!(world.ask(post("/v1/feedback", UP)).await.status, 401);
    assert_eq!(world.ask(keyed(post("/v1/feedback", UP), ADA)).await.status, 200);
    let refused = world.ask(keyed(post("/v1/feedback", UP), &format!("{ADA}-2"))).await;
    let (status, error) = refused.error().await;
    assert_eq!((status, error["code"].as_str()), (403, Some("operation_not_allowed")));
    let taken = world.log.feedback.borrow();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].1.as_deref(), Some("ada"));
}

#[tokio::test(start_paused = true)]
async fn the_id_of_an_answer_is_one_that_can_be_sent() {
    let world = World::lab([]);
    let answer = world.ask(chat(ASK)).await;
    let id = answer.header("x-request-id").unwrap().to_owned();
    let body = json!({ "request_id": id, "score": 1 }).to_string();
    assert_eq!(world.ask(post("/v1/feedback", body)).await.status, 200);
    assert_eq!(world.log.feedback.borrow()[0].0.request.to_string(), id);
}

#[tokio::test(start_paused = true)]
async fn where_records_have_to_last_it_is_confirmed_when_it_does() {
    let world = World::lab([]);
    let disk = Rc::new(Latch::default());
    *world.log.disk.borrow_mut() = Some(Rc::clone(&disk));
    let asking = world.ask(post("/v1/feedback", UP));
    let mut asking = std::pin::pin!(asking);
    assert!(tokio::time::timeout(millis(50), &mut asking).await.is_err(), "it lasts not yet");
    assert_eq!(world.log.feedback.borrow().len(), 1);
    disk.set();
    assert_eq!(asking.await.status, 200);
}
