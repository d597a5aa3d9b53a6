//! From target to target: what a client sees of a provider that fails, and what is recorded of it.

use policy::directory::Kind;
use policy::health::Cause;
use relay::{FailureKind, Outcome, Provenance};
use tokio::time::{Instant, sleep};

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, World, chat, chunk, error_in, keyed, last_error, local, millis,
    seconds, with_header,
};

const THREE: &str = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_key: sk-one-0123456789 }
  two: { profile: openai-compatible, base_url: 'http://two.test/v1', api_key: sk-two-0123456789 }
  three: { profile: openai-compatible, base_url: 'http://three.test/v1', api_key: sk-three-012345 }
models:
  chat: { fallback: [one/a, two/b, three/c] }
";

const GOOD: &str = r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

fn good() -> Reply {
    Reply::json(GOOD)
}

fn error(status: u16, code: &str) -> Reply {
    let body = format!(r#"{{"error":{{"message":"no","type":"x","param":null,"code":"{code}"}}}}"#);
    Reply::status(status).header("content-type", "application/json").data(body)
}

fn whole_stream() -> Reply {
    Reply::stream().data(chunk("hel")).data(chunk("lo")).data(FINISH).data(DONE)
}

/// The first chunk of OpenAI's streams.
const ROLE: &str = "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";

/// Every way to fail that another target makes up for.
fn faults() -> Vec<(&'static str, Reply)> {
    let mut faults = vec![
        ("dns", Reply::failing(FailureKind::Dns)),
        ("connect", Reply::failing(FailureKind::Connect)),
        ("tls", Reply::failing(FailureKind::Tls)),
        ("no reply", Reply::failing(FailureKind::NoReply)),
        ("no http", Reply::failing(FailureKind::Protocol)),
        ("unreadable", Reply::json("<html>")),
        ("cut", Reply::json(r#"{"id":"#).fail(FailureKind::Cut)),
        ("error under 200", Reply::json(r#"{"error":{"message":"busy","code":"529"}}"#)),
    ];
    for status in [408, 429, 500, 502, 503, 504, 529] {
        faults.push(("status", error(status, "busy")));
    }
    for (status, code) in [(401, "invalid_api_key"), (402, "insufficient_balance")] {
        faults.push(("credential", error(status, code)));
    }
    faults
}

#[tokio::test]
async fn whatever_fails_before_an_answer_is_made_up_for_by_the_next_target() {
    for (name, fault) in faults() {
        for (ask, reply) in [(ASK, good()), (ASK_STREAM, whole_stream())] {
            let world = World::of(THREE, [fault.clone(), reply]);
            let keyed = with_header(chat(ask), "idempotency-key", "once");
            let answer = local(world.ask(keyed)).await;
            assert_eq!(answer.status, 200, "{name}");
            assert_eq!(answer.header("x-magpie-attempts"), Some("2"), "{name}");
            assert_eq!(answer.header("x-magpie-target"), Some("two/b"), "{name}");
            let text = String::from_utf8(answer.bytes().await).unwrap();
            assert!(text == GOOD || text.ends_with("[DONE]\n\n"), "{name}: {text}");
            let calls = world.upstream.calls();
            let asked: Vec<&str> = calls.iter().map(|call| call.provider.as_str()).collect();
            assert_eq!(asked, ["one", "two"], "{name}");
            assert!(calls[0].text().contains(r#""model":"a""#), "{name}");
            let keys = [calls[0].header("idempotency-key"), calls[1].header("idempotency-key")];
            assert_eq!(keys, [Some("once"), None], "{name}: with the first attempt alone");
            assert!(calls[1].text().contains(r#""model":"b""#), "{name}");
            let records = world.take_records();
            assert_eq!(records.len(), 2, "{name}");
            assert_eq!((records[0].attempt, records[0].is_last), (1, false), "{name}");
            assert_ne!(records[0].outcome, Outcome::Complete, "{name}");
            assert_eq!((records[1].attempt, records[1].is_last), (2, true), "{name}");
            assert_eq!(records[1].outcome, Outcome::Complete, "{name}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_fails_before_it_says_anything_is_made_up_for_unseen() {
    for (name, fault) in [
        ("empty", Reply::stream()),
        ("cut at once", Reply::stream().fail(FailureKind::Cut)),
        ("cut behind a comment", Reply::stream().data(": hi\n\n").fail(FailureKind::Cut)),
        ("cut behind the role", Reply::stream().data(ROLE).fail(FailureKind::Cut)),
        ("ended behind the role", Reply::stream().data(ROLE)),
        ("cut inside an event", Reply::stream().data("data: {\"cho").fail(FailureKind::Cut)),
        ("no stream", good()),
        ("nothing that can be read", Reply::stream().data("data: <html>\n\n")),
        ("gibberish behind the role", Reply::stream().data(ROLE).data("data: {\"cho\n\n")),
        ("no events", Reply::stream().data("<html>\n\n")),
        (
            "an error event",
            Reply::stream().data("data: {\"error\":{\"message\":\"busy\",\"code\":\"503\"}}\n\n"),
        ),
    ] {
        let world = World::of(THREE, [fault, whole_stream()]);
        let answer = world.ask(chat(ASK_STREAM)).await;
        assert_eq!(answer.header("x-magpie-attempts"), Some("2"), "{name}");
        let text = String::from_utf8(answer.bytes().await).unwrap();
        assert!(text.starts_with(&chunk("hel")) && text.ends_with("[DONE]\n\n"), "{name}: {text}");
    }
}

#[tokio::test]
async fn the_last_target_whose_stream_cannot_be_read_is_told_with_a_status() {
    for (name, reply, code) in [
        ("no stream", good(), "provider_not_streaming"),
        ("unreadable", Reply::stream().data("data: <html>\n\n"), "provider_malformed"),
    ] {
        let world = World::of(THREE, [reply.clone(), reply.clone(), reply]);
        let answer = world.ask(chat(ASK_STREAM)).await;
        assert_eq!(answer.header("x-magpie-attempts"), Some("3"), "{name}");
        let (status, error) = answer.error().await;
        assert_eq!((status, error["code"].as_str()), (503, Some("no_target_available")), "{name}");
        let records = world.take_records();
        assert_eq!(records.len(), 3);
        assert!(records.iter().all(|record| record.cause == Some(Cause::Transient)), "{name}");
        assert_eq!(records[0].fault, Some(code), "{name}");
    }
}

#[tokio::test]
async fn nothing_is_repeated_once_a_word_was_said() {
    let world = World::of(
        THREE,
        [Reply::stream().data(ROLE).data(chunk("hel")).fail(FailureKind::Cut), whole_stream()],
    );
    let (status, text) = world.chat(ASK_STREAM).await;
    assert_eq!(status, 200);
    assert_eq!(last_error(&text)["code"], "provider_truncated");
    assert_eq!(world.upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_failure_that_comes_with_the_first_words_is_no_normal_end() {
    for said in [[&chunk("hel"), FINISH].concat(), chunk("hel")] {
        let world = World::of(THREE, [Reply::stream().data(said).fail(FailureKind::Cut)]);
        let (_, text) = world.chat(ASK_STREAM).await;
        assert_eq!(last_error(&text)["code"], "provider_truncated");
        assert_eq!(world.record().outcome, Outcome::Truncated);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_comes_whole_and_is_held_for_ten_seconds_at_most() {
    let slow =
        Reply::stream().data(ROLE).wait(seconds(20)).data(chunk("lo")).data(FINISH).data(DONE);
    let world = World::of(THREE, [slow]);
    let start = Instant::now();
    let answer = world.ask(chat(ASK_STREAM)).await;
    assert!(start.elapsed() <= seconds(10) + millis(50), "{:?}", start.elapsed());
    let text = String::from_utf8(answer.bytes().await).unwrap();
    assert_eq!(text, format!("{ROLE}{}{FINISH}{DONE}", chunk("lo")));
}

#[tokio::test]
async fn the_callers_own_mistakes_are_told_at_once() {
    for (status, code) in [(400, "invalid_value"), (422, "bad"), (413, "too_large")] {
        let world = World::of(THREE, [error(status, code), good()]);
        let (told, body) = world.chat(ASK).await;
        assert_eq!(told, status);
        assert_eq!(error_in(&body)["code"], code);
        assert_eq!(world.upstream.calls().len(), 1);
        assert!(world.record().is_last);
    }
}

#[tokio::test]
async fn when_all_fail_the_last_answer_is_told_or_what_was_tried() {
    let world = World::of(THREE, [error(500, "a"), error(502, "b"), error(503, "c")]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("x-magpie-attempts"), Some("3"));
    let (status, error) = answer.error().await;
    assert_eq!((status, error["code"].as_str()), (503, Some("c")));
    let records = world.take_records();
    let last: Vec<bool> = records.iter().map(|record| record.is_last).collect();
    assert_eq!(last, [false, false, true]);
    assert_eq!((records[2].attempt, records[2].status), (3, 503));

    let dead = || Reply::failing(FailureKind::Connect);
    let world = World::of(THREE, [dead(), dead(), dead()]);
    let answer = world.ask(chat(ASK)).await;
    assert!(answer.header("retry-after").is_some());
    let (status, error) = answer.error().await;
    assert_eq!((status, error["code"].as_str()), (503, Some("no_target_available")));
    let message = error["message"].as_str().unwrap();
    for target in ["one/a", "two/b", "three/c"] {
        assert!(message.contains(target), "{message}");
    }
    assert_eq!(world.take_records().iter().filter(|record| record.is_last).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_took_its_clients_time_is_told_and_not_made_up_for() {
    for (clock, told) in [("8s", (200, "2")), ("11s", (504, "1"))] {
        let yaml = format!("{THREE}timeouts: {{ connect: 1s, first_event: {clock} }}");
        let world = World::of(&yaml, [Reply::stream().after(seconds(60)), whole_stream()]);
        let answer = world.ask(chat(ASK_STREAM)).await;
        let attempts = answer.header("x-magpie-attempts").unwrap().to_owned();
        assert_eq!((answer.status.as_u16(), &*attempts), told, "{clock}");
        let (_, text) = answer.read().await;
        assert_eq!(text.contains("\"provider_timeout\""), told.0 == 504, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_retries_are_used_up_it_is_told_who_was_asked_and_that_nobody_else_was() {
    let world = World::of(THREE, (0..5).map(|_| Reply::failing(FailureKind::NoReply)));
    // Each failure takes a retry, of which there are three without traffic.
    for (attempts, told, untold) in [
        ("3", &["one/a", "two/b", "three/c"][..], &["nobody else"][..]),
        ("1", &["one/a", "nobody else was asked"], &["two/b", "three/c"]),
    ] {
        let answer = world.ask(chat(ASK)).await;
        assert_eq!(answer.header("x-magpie-attempts"), Some(attempts));
        assert_eq!(answer.header("retry-after"), Some("1"));
        let (status, error) = answer.error().await;
        assert_eq!((status, error["code"].as_str()), (503, Some("no_target_available")));
        let message = error["message"].as_str().unwrap();
        assert!(told.iter().all(|words| message.contains(words)), "{message}");
        assert!(!untold.iter().any(|words| message.contains(words)), "{message}");
    }
    assert_eq!(world.upstream.calls().len(), 4);
    let records = world.take_records();
    let last = records.last().unwrap();
    assert_eq!((last.outcome, last.attempt, last.is_last), (Outcome::Unreachable, 1, true));
    assert_eq!((last.status, last.fault), (503, Some("provider_no_reply")));
}

#[tokio::test(start_paused = true)]
async fn targets_that_cannot_be_reached_are_left_alone_and_asked_again_later() {
    let dead = (0..9).map(|_| Reply::failing(FailureKind::Connect));
    let world = World::of(THREE, dead.chain([good()]));
    for _ in 0..3 {
        // Retries are counted: three a second are always there.
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(world.chat(ASK).await.0, 503);
    }
    let asked = world.upstream.calls().len();
    assert_eq!(asked, 9);
    let start = Instant::now();
    let answer = world.ask(chat(ASK)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    assert!(start.elapsed() < millis(20));
    assert_eq!(world.upstream.calls().len(), asked, "nobody was asked");
    assert_eq!(world.take_records().last().unwrap().attempt, 0);
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(world.chat(ASK).await.0, 200);
}

#[tokio::test]
async fn a_request_counts_once_and_every_attempt_is_paid() {
    let yaml = format!(
        "{THREE}
prices: {{ '*/*': {{ currency: USD, input: '1000000', output: '1000000' }} }}
keys: [{{ name: k, key: mk-test-0123456789, limits: {{ rpm: 10 }}, budget: $100000/day }}]
open: true
"
    );
    // The first breaks off behind its head: it may have been billed for the input.
    let world = World::of(&yaml, [Reply::json("{\"id\"").fail(FailureKind::Cut), good()]);
    let mut request =
        chat(r#"{"model":"chat","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#);
    request.headers_mut().insert("authorization", "Bearer mk-test-0123456789".parse().unwrap());
    assert_eq!(world.ask(request).await.status, 200);
    let records = world.take_records();
    assert_eq!(records[0].provenance, Provenance::Estimated);
    assert_eq!(records[1].provenance, Provenance::Reported);
    let charged: u64 =
        records.iter().map(|record| record.charge.as_ref().unwrap().money.nanos).sum();
    let budget = world.budget(Kind::Key, "k");
    assert_eq!((budget.spent, budget.reserved), (charged, 0));
    assert_eq!(world.left(Kind::Key, "k", "rpm"), 9, "one request, however often it was tried");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_let_in_is_not_refused_for_those_that_were_let_in_after_it() {
    let keys = "keys: [{ name: k, key: mk-test-0123456789, limits: { rpm: 10 } }]\n";
    let late = error(500, "late").after(seconds(8));
    let world =
        World::of(&format!("{THREE}{keys}"), std::iter::once(late).chain((0..11).map(|_| good())));
    let ask = || async { world.ask(keyed(chat(ASK), "mk-test-0123456789")).await };
    let others = async {
        // All that is left, and what has come back after seven seconds.
        for _ in 0..9 {
            assert_eq!(ask().await.status, 200);
        }
        sleep(seconds(7)).await;
        assert_eq!(ask().await.status, 200);
        assert_eq!(ask().await.status, 429);
    };
    let (first, ()) = tokio::join!(ask(), others);
    assert_eq!((first.status.as_u16(), first.header("x-magpie-attempts")), (200, Some("2")));
}

#[tokio::test]
async fn a_target_whose_limit_is_reached_gives_way_to_the_next() {
    let yaml = THREE.replace("sk-one-0123456789 }", "sk-one-0123456789, limits: { rpm: 1 } }");
    let world = World::of(&yaml, [good(), good()]);
    assert_eq!(world.ask(chat(ASK)).await.header("x-magpie-target"), Some("one/a"));
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("x-magpie-target"), Some("two/b"));
    assert_eq!(answer.header("x-magpie-attempts"), Some("1"), "the first was not asked");
}

#[tokio::test]
async fn in_flight_comes_back_to_nothing() {
    let world = World::of(
        THREE,
        [error(500, "a"), whole_stream(), Reply::stream().data(chunk("x")).hang()],
    );
    world.chat(ASK_STREAM).await;
    let mut left = world.ask(chat(ASK_STREAM)).await;
    left.next().await.unwrap().unwrap();
    let plan = world.snapshot.plan("chat").unwrap();
    let in_flight =
        || -> u32 { plan.targets().iter().map(|target| target.live.health.in_flight()).sum() };
    assert_eq!(in_flight(), 1);
    drop(left);
    assert_eq!(in_flight(), 0);
}

const TWO_KEYS: &str = "
providers:
  lab: { profile: openai-compatible, base_url: 'http://lab.test/v1', api_keys: [sk-first-0123456789, sk-second-012345678] }
models:
  chat: lab/a
";

#[tokio::test]
async fn a_key_that_is_throttled_or_refused_gives_way_to_the_providers_other_key() {
    for status in [429, 401, 402] {
        let world = World::of(TWO_KEYS, [error(status, "no"), good(), good(), good()]);
        let answer = world.ask(chat(ASK)).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-magpie-attempts")), (200, Some("2")));
        for _ in 0..2 {
            world.chat(ASK).await;
        }
        let calls = world.upstream.calls();
        let keys: Vec<&str> =
            calls.iter().map(|call| call.header("authorization").unwrap()).collect();
        let (first, second) = (keys[0], keys[1]);
        assert_ne!(first, second);
        assert_eq!(keys[2..], [second, second], "the other one is left alone for a while");
    }
}

#[tokio::test]
async fn keys_take_turns_and_none_is_shown() {
    let world = World::of(TWO_KEYS, (0..4).map(|_| good()));
    for _ in 0..4 {
        world.chat(ASK).await;
    }
    let calls = world.upstream.calls();
    let with = |key: &str| {
        let bearer = format!("Bearer {key}");
        calls.iter().filter(|call| call.header("authorization") == Some(&bearer)).count()
    };
    assert_eq!((with("sk-first-0123456789"), with("sk-second-012345678")), (2, 2));

    let echo = Reply::status(400)
        .header("content-type", "application/json")
        .header("x-trace-id", "sk-second-012345678")
        .data(r#"{"error":{"message":"sk-second-012345678 and sk-first-0123456789"}}"#);
    let world = World::of(TWO_KEYS, [echo]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("x-trace-id"), None);
    let (_, body) = answer.read().await;
    assert!(!body.contains("sk-"), "{body}");
}

#[tokio::test]
async fn when_every_key_is_throttled_the_provider_is_heard() {
    let throttled = || error(429, "slow_down").header("retry-after", "7");
    let world = World::of(TWO_KEYS, [throttled(), throttled(), good()]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("7")));
    assert_eq!(world.upstream.calls().len(), 2);
}

#[tokio::test]
async fn a_target_that_may_be_asked_again_at_once_gives_way_to_the_next_all_the_same() {
    let throttled = || error(429, "slow_down").header("retry-after", "0");
    let world = World::of(THREE, [throttled(), good()]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-magpie-target")), (200, Some("two/b")));

    // Each of a provider's keys is asked once.
    let world = World::of(TWO_KEYS, [throttled(), throttled(), good()]);
    assert_eq!(world.ask(chat(ASK)).await.status, 429);
    assert_eq!(world.upstream.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_when_the_time_for_the_whole_request_is_over() {
    let yaml = format!("{THREE}timeouts: {{ total: 5s }}");
    let world = World::of(&yaml, [Reply::json("").hang(), good()]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("x-magpie-attempts"), Some("1"));
    assert_eq!(answer.header("x-magpie-target"), Some("one/a"));
    let (status, error) = answer.error().await;
    assert_eq!((status, error["code"].as_str()), (503, Some("no_target_available")));
    assert_eq!(world.upstream.calls().len(), 1);
    let [record] = world.take_records().try_into().ok().unwrap();
    assert_eq!((record.outcome, record.attempt, record.is_last), (Outcome::TimedOut, 1, true));

    // Another provider may have more time.
    let yaml = THREE.replace("sk-one-0123456789 }", "sk-one-0123456789, timeouts: { total: 5s } }");
    let world = World::of(&yaml, [Reply::json("").hang(), good()]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-magpie-target")), (200, Some("two/b")));
}
