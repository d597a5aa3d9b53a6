//! Other paths of the API along the plan of their model: which target and which key they get, and
//! when another one is asked.

use http::Request;
use policy::health::Cause;
use relay::{FailureKind, Outcome};

use crate::scripted::{Reply, ScriptBody};
use crate::world::{World, bodiless, get, millis, post, seconds, upload, with_header};

const PROVIDERS: &str = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_key: sk-one-0123456789 }
  two: { profile: openai-compatible, base_url: 'http://two.test/v1', api_key: sk-two-0123456789 }
";

/// Paths whose calls may leave something behind.
const LASTING: [&str; 4] =
    ["/v1/responses", "/v1/images/generations", "/v1/audio/speech", "/v1/batches"];
/// Paths whose calls come to their answer and nothing else.
const PURE: [&str; 2] = ["/v1/rerank", "/v1/moderations"];

const BODY: &str = r#"{"model":"paint","n":1.10,"prompt":"你"}"#;

fn planned(plan: &str) -> String {
    format!("{PROVIDERS}models:\n  paint: {plan}\n")
}

fn fallback() -> String {
    planned("{ fallback: [one/a, two/b] }")
}

fn error(status: u16, code: &str) -> Reply {
    let body = format!(r#"{{"error":{{"message":"no","type":"x","param":null,"code":"{code}"}}}}"#);
    Reply::status(status).header("content-type", "application/json").data(body)
}

fn good() -> Reply {
    Reply::json(r#"{"created":1,"data":[]}"#)
}

/// Faults after which nobody has begun with the request.
fn unbegun() -> Vec<Reply> {
    let mut faults = vec![
        Reply::failing(FailureKind::Dns),
        Reply::failing(FailureKind::Connect),
        Reply::failing(FailureKind::Tls),
        error(404, "model_not_found"),
        Reply::json(r#"{"error":{"message":"slow down","code":"429"}}"#),
    ];
    faults.extend([401, 402, 403, 429, 503].map(|status| error(status, "x")));
    faults
}

/// Faults after which somebody may have begun with it.
fn begun() -> Vec<Reply> {
    let mut faults = vec![
        Reply::failing(FailureKind::NoReply),
        Reply::failing(FailureKind::Protocol),
        Reply::json("{\"crea").fail(FailureKind::Cut),
        Reply::status(307).header("location", "http://else.test/"),
    ];
    faults.extend([408, 500, 502, 504, 529].map(|status| error(status, "x")));
    faults
}

/// A form with a model and a file.
fn form(model: &str) -> String {
    let head = "--xYz\r\nContent-Disposition: form-data; name=";
    format!(
        "{head}\"model\"\r\n\r\n{model}\r\n{head}\"file\"; filename=\"a.wav\"\r\n\r\n0123\r\n--xYz--\r\n"
    )
}

/// The same, sent in two pieces.
fn transcription() -> Request<ScriptBody> {
    let body = form("paint");
    let (front, back) = body.split_at(body.len() - 12);
    let script = Reply::status(200).data(front.to_owned()).wait(millis(5)).data(back.to_owned());
    let request = upload("/v1/audio/transcriptions", &script);
    with_header(request, "content-type", "multipart/form-data; boundary=xYz")
}

fn asked(world: &World) -> Vec<String> {
    world.upstream.calls().into_iter().map(|call| call.provider).collect()
}

#[tokio::test]
async fn a_split_divides_every_path() {
    let config = planned("{ split: { one/a: 1, two/b: 1 } }");
    for path in LASTING.into_iter().chain(PURE) {
        let world = World::of(&config, []);
        for _ in 0..40 {
            assert_eq!(world.ask(post(path, BODY)).await.read().await.0, 200);
        }
        for provider in ["one", "two"] {
            let count = asked(&world).iter().filter(|asked| *asked == provider).count();
            assert!(count >= 5, "{path}: {count} of 40 at {provider}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_goes_where_its_plan_says_under_the_name_that_is_used_there() {
    let config = planned("{ split: { one/a: 1, two/another-name: 1 } }");
    let world = World::of(&config, []);
    for _ in 0..40 {
        assert_eq!(world.ask(transcription()).await.read().await.0, 200);
    }
    let calls = world.upstream.calls();
    assert!(calls.iter().any(|call| call.provider == "one"));
    assert!(calls.iter().any(|call| call.provider == "two"));
    for call in calls {
        let model = if call.provider == "one" { "a" } else { "another-name" };
        assert_eq!(call.text(), form(model));
    }
}

#[tokio::test]
async fn a_condition_looks_at_the_request() {
    let config = planned(
        "{ when: [{ if: { header: { x-tier: gold } }, use: two/b }, { if: { operations: [image] }, use: one/a }, { use: one/else }] }",
    );
    let gold = |path| with_header(post(path, BODY), "x-tier", "gold");
    for (request, target) in [
        (post("/v1/images/edits", BODY), "one/a"),
        (gold("/v1/images/edits"), "two/b"),
        (gold("/v1/responses"), "two/b"),
        (post("/v1/responses", BODY), "one/else"),
    ] {
        let world = World::of(&config, []);
        let answer = world.ask(request).await;
        assert_eq!(answer.header("x-magpie-target"), Some(target));
    }
}

#[tokio::test]
async fn keys_of_a_provider_take_turns() {
    let config = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_keys: [sk-a-0123456789, sk-b-0123456789] }
models: { paint: one/a }
";
    let world = World::of(config, []);
    for _ in 0..4 {
        world.ask(post("/v1/images/generations", BODY)).await.read().await;
        world.ask(transcription()).await.read().await;
    }
    let calls = world.upstream.calls();
    for key in ["sk-a-0123456789", "sk-b-0123456789"] {
        let bearer = format!("Bearer {key}");
        let with = |call: &&crate::scripted::Seen| call.header("authorization") == Some(&*bearer);
        assert_eq!(calls.iter().filter(with).count(), 4);
    }
    let world = World::of(config, [error(401, "invalid_api_key"), good()]);
    let answer = world.ask(post("/v1/images/generations", BODY)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-magpie-attempts")), (200, Some("2")));
    let calls = world.upstream.calls();
    assert_ne!(calls[0].header("authorization"), calls[1].header("authorization"));
}

#[tokio::test]
async fn who_has_not_begun_with_a_request_is_made_up_for_by_the_next_target() {
    for path in LASTING.into_iter().chain(PURE) {
        for fault in unbegun() {
            let world = World::of(&fallback(), [fault.clone(), good()]);
            let answer = world.ask(post(path, BODY)).await;
            assert_eq!(answer.status, 200, "{path}: {fault:?}");
            assert_eq!(answer.header("x-magpie-attempts"), Some("2"), "{path}: {fault:?}");
            assert_eq!(answer.header("x-magpie-target"), Some("two/b"));
            answer.read().await;
            let calls = world.upstream.calls();
            assert_eq!(calls[0].text(), BODY.replace("paint", "a"));
            assert_eq!(calls[1].text(), BODY.replace("paint", "b"));
            assert_eq!(calls[1].header("content-type"), Some("application/json"));
            let records = world.take_records();
            let ends: Vec<_> = records.iter().map(|it| (it.attempt, it.is_last)).collect();
            assert_eq!(ends, [(1, false), (2, true)], "{path}: {fault:?}");
            assert!(records[0].cause.is_some() && records[0].outcome != Outcome::Complete);
            assert_eq!(records[1].outcome, Outcome::Complete);
        }
    }
}

#[tokio::test]
async fn who_may_have_begun_is_not_followed_by_another_unless_nothing_is_left_behind() {
    for fault in begun() {
        for path in LASTING {
            let world = World::of(&fallback(), [fault.clone(), good()]);
            let answer = world.ask(post(path, BODY)).await;
            assert_ne!(answer.status, 200, "{path}: {fault:?}");
            assert_eq!(answer.header("x-magpie-attempts"), Some("1"), "{path}: {fault:?}");
            answer.read().await;
            assert_eq!(asked(&world), ["one"], "{path}: {fault:?}");
            let record = world.record();
            assert_eq!((record.is_last, record.cause), (true, Some(Cause::Transient)));
        }
        for path in PURE {
            let world = World::of(&fallback(), [fault.clone(), good()]);
            assert_eq!(world.ask(post(path, BODY)).await.read().await.0, 200, "{path}: {fault:?}");
            assert_eq!(asked(&world), ["one", "two"], "{path}: {fault:?}");
        }
    }
}

#[tokio::test]
async fn the_callers_own_mistake_is_told_at_once() {
    for path in LASTING.into_iter().chain(PURE) {
        for status in [400, 404, 422] {
            let world = World::of(&fallback(), [error(status, "invalid_value"), good()]);
            let (told, body) = world.ask(post(path, BODY)).await.error().await;
            assert_eq!((told, body["code"].as_str()), (status, Some("invalid_value")));
            assert_eq!(asked(&world), ["one"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_ran_out_says_nothing_of_what_was_begun() {
    let config = fallback().replace("api_key: sk-one", "timeouts: { total: 3s }, api_key: sk-one");
    for (path, asks) in [(LASTING[0], vec!["one"]), (PURE[0], vec!["one", "two"])] {
        let world = World::of(&config, [good().after(seconds(60)), good()]);
        let status = world.ask(post(path, BODY)).await.read().await.0;
        assert_eq!(status, if asks.len() == 1 { 504 } else { 200 }, "{path}");
        assert_eq!(asked(&world), asks, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_goes_on_as_long_as_no_byte_of_it_was_taken() {
    let world = World::of(&fallback(), [Reply::unreached(), good()]);
    let answer = world.ask(transcription()).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-magpie-attempts")), (200, Some("2")));
    let calls = world.upstream.calls();
    assert_eq!((calls[0].text(), calls[1].text()), ("", form("b").as_str()));
    answer.read().await;
    assert_eq!(world.take_records().len(), 2);

    for fault in unbegun().into_iter().chain(begun()) {
        let world = World::of(&fallback(), [fault.clone(), good()]);
        let answer = world.ask(transcription()).await;
        assert_ne!(answer.status, 200, "{fault:?}");
        answer.read().await;
        assert_eq!(asked(&world), ["one"], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_off_says_nothing_of_the_target() {
    let dead = || [Reply::failing(FailureKind::Connect), good()];
    let replies = (0..3).flat_map(|_| dead()).chain([good()]).chain(dead());
    let world = World::of(&fallback(), replies);
    let ask = async || world.ask(post("/v1/responses", BODY)).await.read().await;
    for _ in 0..3 {
        tokio::time::sleep(millis(400)).await;
        ask().await;
    }
    // It is to be found out whether the first is back, and this client does not find it out.
    tokio::time::sleep(seconds(10)).await;
    let script = Reply::status(200).data(form("paint")).fail(FailureKind::Cut);
    let request = upload("/v1/audio/transcriptions", &script);
    let request = with_header(request, "content-type", "multipart/form-data; boundary=xYz");
    assert_eq!(world.ask(request).await.error().await.1["code"], "body_cut");
    ask().await;
    ask().await;
    assert_eq!(asked(&world)[6..], ["one", "one", "two", "two"]);
    let records = world.take_records();
    let cut: Vec<_> = records.iter().filter(|it| it.outcome == Outcome::Refused).collect();
    assert_eq!((cut.len(), cut[0].is_last, cut[0].attempt), (1, true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_cannot_be_reached_is_left_alone_by_every_path() {
    let dead = || [Reply::failing(FailureKind::Connect), good()];
    let world = World::of(&fallback(), (0..3).flat_map(|_| dead()));
    for _ in 0..5 {
        tokio::time::sleep(millis(400)).await;
        world.ask(post("/v1/images/generations", BODY)).await.read().await;
    }
    assert_eq!(asked(&world), ["one", "two", "one", "two", "one", "two", "two", "two"]);
}

#[tokio::test]
async fn a_target_whose_provider_has_no_room_is_not_asked() {
    let config = fallback().replace("api_key: sk-one", "limits: { rpm: 1 }, api_key: sk-one");
    let world = World::of(&config, []);
    for _ in 0..3 {
        assert_eq!(world.ask(post("/v1/responses", BODY)).await.read().await.0, 200);
    }
    assert_eq!(asked(&world), ["one", "two", "two"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_forwarded_is_sent_to_one_at_a_time() {
    let config = planned("{ race: [one/a, two/b] }");
    let world = World::of(&config, [good().after(seconds(5))]);
    assert_eq!(world.ask(post("/v1/images/generations", BODY)).await.read().await.0, 200);
    assert_eq!(world.upstream.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn retries_of_a_model_keep_to_the_same_rule() {
    let config = planned("{ target: one/a, retries: 2 }");
    let all = |status| (0..3).map(move |_| error(status, "x"));
    let world = World::of(&config, all(503));
    assert_eq!(world.ask(post("/v1/responses", BODY)).await.read().await.0, 503);
    assert_eq!(world.upstream.calls().len(), 3);
    let world = World::of(&config, all(500));
    assert_eq!(world.ask(post("/v1/responses", BODY)).await.read().await.0, 500);
    assert_eq!(world.upstream.calls().len(), 1);
}

const KEYS: &str = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_keys: [sk-a-0123456789, sk-b-0123456789] }
";

#[tokio::test]
async fn calls_without_a_model_keep_to_the_first_key_as_long_as_it_works() {
    let world = World::of(KEYS, []);
    let file = || with_header(upload("/v1/files", &good()), "content-type", "text/plain");
    for request in [get("/v1/files"), file(), with_header(get("/v1/x"), "x-magpie-provider", "one")]
    {
        world.ask(request).await.read().await;
    }
    let first = Some("Bearer sk-a-0123456789");
    assert!(world.upstream.calls().iter().all(|call| call.header("authorization") == first));

    let world = World::of(KEYS, [error(401, "invalid_api_key"), good()]);
    for _ in 0..2 {
        assert_eq!(world.ask(get("/v1/files")).await.read().await.0, 200);
    }
    let keys: Vec<String> = world
        .upstream
        .calls()
        .iter()
        .map(|call| call.headers["authorization"].to_str().unwrap().to_owned())
        .collect();
    let (a, b) = ("Bearer sk-a-0123456789", "Bearer sk-b-0123456789");
    assert_eq!(keys, [a, b, b]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_cannot_be_reached_is_left_alone_by_calls_without_a_model() {
    let dead = (0..9).map(|_| Reply::failing(FailureKind::Connect));
    let world = World::of(KEYS, dead.chain([good()]));
    let mut codes = Vec::new();
    for _ in 0..6 {
        let request = bodiless(http::Method::DELETE, "/v1/files/x");
        codes.push(world.ask(request).await.error().await.1["code"].to_string());
    }
    assert_eq!(codes.first().map(String::as_str), Some("\"provider_unreachable\""));
    assert_eq!(codes.last().map(String::as_str), Some("\"no_target_available\""));
    assert!(world.upstream.calls().len() < 6);
}
