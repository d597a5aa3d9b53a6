//! Models that are made of others: what the client gets, who is asked what, and what is recorded.

use policy::directory::Kind;
use relay::{FailureKind, Outcome, Record};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, World, chat, chunk, keyed, millis, post, seconds,
};

const ADA: &str = "mk-of-ada-0123456789";

const PROVIDERS: &str = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_key: sk-one-0123456789 }
  two: { profile: openai-compatible, base_url: 'http://two.test/v1', api_key: sk-two-0123456789 }
  ref: { profile: openai-compatible, base_url: 'http://ref.test/v1', api_key: sk-ref-0123456789 }
prices: { '*/*': { input: '1', output: '2', max_output: 1000 } }
";

fn world(chat: &str, replies: impl IntoIterator<Item = Reply>) -> World {
    let models =
        format!("models:\n  small: one/s\n  large: two/l\n  judge: ref/j\n  chat: {chat}\n");
    World::of(&format!("{PROVIDERS}{models}"), replies)
}

fn answer(text: &str, finish: &str) -> String {
    json!({
        "id": "x", "object": "chat.completion",
        "choices": [{ "index": 0, "finish_reason": finish,
            "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10 },
    })
    .to_string()
}

fn good(text: &str) -> Reply {
    Reply::json(answer(text, "stop"))
}

fn down() -> Reply {
    Reply::status(500)
        .header("content-type", "application/json")
        .data(r#"{"error":{"message":"down","type":"x","param":null,"code":"down"}}"#)
}

fn stream(text: &str) -> Reply {
    Reply::stream().data([&chunk(text), FINISH, DONE].concat())
}

/// Providers that were asked, in their order.
fn asked(world: &World) -> Vec<String> {
    world.upstream.calls().into_iter().map(|call| call.provider).collect()
}

fn content(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{body}"));
    value["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
}

/// One record is the request's, the last; nothing is under way or held.
fn assert_settled(world: &World, attempts: u16) -> Vec<Record> {
    let records = world.take_records();
    let last: Vec<bool> = records.iter().map(|record| record.is_last).collect();
    let (end, before) = last.split_last().unwrap();
    assert!(*end && before.iter().all(|is_last| !is_last), "{last:?}");
    assert_eq!(records[records.len() - 1].attempts, attempts);
    assert!(records.iter().all(|record| &*record.model == "chat"));
    let mut numbers: Vec<u16> = records.iter().map(|record| record.attempt).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), records.len());
    for model in ["small", "large", "judge"] {
        let plan = world.snapshot.plan(model).unwrap();
        assert_eq!(plan.targets()[0].live.health.in_flight(), 0, "{model}");
    }
    assert_eq!(world.upstream.fates.open.get(), 0);
    records
}

const CASCADE: &str =
    "{ cascade: [small, large], escalate: { shorter_than: 4, contains: [\"don't know\"] } }";

#[tokio::test]
async fn a_good_answer_of_the_first_step_is_given_as_it_came() {
    let world = world(CASCADE, [good("forty-two")]);
    let reply = world.ask(chat(ASK)).await;
    assert_eq!(reply.header("x-magpie-target"), Some("one/s"));
    assert_eq!(reply.header("x-magpie-attempts"), Some("1"));
    assert_eq!(reply.read().await, (http::StatusCode::OK, answer("forty-two", "stop")));
    let records = assert_settled(&world, 1);
    assert_eq!((records.len(), records[0].outcome), (1, Outcome::Complete));
    assert_eq!(records[0].charge.as_ref().unwrap().money.nanos, 13_000);

    let world = self::world(CASCADE, [stream("forty-two")]);
    let reply = world.ask(chat(ASK_STREAM)).await;
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let text = String::from_utf8(reply.bytes().await).unwrap();
    assert_eq!(text, [&chunk("forty-two"), FINISH, DONE].concat());
    assert_settled(&world, 1);
}

#[tokio::test]
async fn a_poor_answer_is_not_given_and_the_next_step_is_asked() {
    let cases = [
        ("too short", good("no"), stream("no")),
        ("its words", good("I DON'T know."), stream("I DON'T know.")),
        ("empty", good("  "), stream("")),
        (
            "cut off",
            Reply::json(answer("forty", "length")),
            Reply::stream()
                .data([&chunk("forty"), &FINISH.replace("stop", "length") as &str, DONE].concat()),
        ),
        ("failed", down(), down()),
        ("gone", Reply::failing(FailureKind::Connect), Reply::failing(FailureKind::Connect)),
        ("torn", Reply::json("{").fail(FailureKind::Cut), Reply::stream().data(chunk("forty"))),
    ];
    for (name, whole, streamed) in cases {
        let world = world(CASCADE, [whole, good("forty-two")]);
        let reply = world.ask(chat(ASK)).await;
        assert_eq!(reply.header("x-magpie-target"), Some("two/l"), "{name}");
        assert_eq!(reply.header("x-magpie-attempts"), Some("2"), "{name}");
        assert_eq!(content(&reply.read().await.1), "forty-two", "{name}");
        assert_eq!(asked(&world), ["one", "two"], "{name}");
        assert_eq!(assert_settled(&world, 2).len(), 2, "{name}");

        let world = self::world(CASCADE, [streamed, stream("forty-two")]);
        let text = world.chat(ASK_STREAM).await.1;
        assert_eq!(text, [&chunk("forty-two"), FINISH, DONE].concat(), "{name}");
        assert_eq!(assert_settled(&world, 2).len(), 2, "{name}");
    }
}

#[tokio::test]
async fn json_that_was_asked_for_has_to_be_json() {
    let body = ASK.replace("}]", "}],\"response_format\":{\"type\":\"json_object\"}");
    for (first, target) in [("{\"a\": 1}", "one/s"), ("a is one", "two/l")] {
        let world = world(CASCADE, [good(first), good("{\"a\": 2}")]);
        let reply = world.ask(chat(body.clone())).await;
        assert_eq!(reply.header("x-magpie-target"), Some(target));
        assert_eq!(reply.status, 200);
    }
}

#[tokio::test]
async fn a_poor_answer_is_better_than_none() {
    let world = world(CASCADE, [good("no"), down()]);
    let reply = world.ask(chat(ASK)).await;
    assert_eq!(reply.header("x-magpie-target"), Some("one/s"));
    assert_eq!(reply.header("x-magpie-attempts"), Some("2"));
    assert_eq!(content(&reply.read().await.1), "no");
    let records = assert_settled(&world, 2);
    assert_eq!(records[0].outcome, Outcome::ProviderError);
    assert_eq!(records[1].outcome, Outcome::Complete);

    // Where there is none, the last error is told.
    let world = self::world(CASCADE, [down(), down()]);
    let (status, error) = world.ask(chat(ASK)).await.error().await;
    assert_eq!((status, error["code"].as_str()), (500, Some("down")));
    assert_settled(&world, 2);
}

#[tokio::test]
async fn a_judge_lets_an_answer_pass_or_not() {
    let model = "{ cascade: [small, large], judge: judge }";
    for (verdict, target, attempts) in [
        (good("Yes."), "one/s", 2),
        (good("no"), "two/l", 3),
        (down(), "two/l", 3),
        (Reply::failing(FailureKind::Connect), "two/l", 3),
    ] {
        let world = world(model, [good("forty-two"), verdict, good("at length")]);
        let reply = world.ask(chat(ASK)).await;
        assert_eq!(reply.header("x-magpie-target"), Some(target));
        assert_eq!(reply.header("x-magpie-attempts"), Some(&*attempts.to_string()));
        assert_eq!(reply.read().await.0, 200);
        let records = assert_settled(&world, attempts);
        assert_eq!(records.len(), usize::from(attempts));
        let question: Value = serde_json::from_slice(&world.upstream.calls()[1].body).unwrap();
        assert_eq!(question["model"], "j");
        let text = question["messages"][0]["content"].as_str().unwrap();
        assert!(text.contains("forty-two") && text.contains(r#""content":"hi""#), "{text}");
    }
}

const MERGE: &str = "{ panel: [small, large], judge: judge }";
const CHOOSE: &str = "{ panel: [small, large], judge: { model: judge, by: choose } }";

#[tokio::test(start_paused = true)]
async fn a_judge_makes_one_answer_of_a_panels() {
    let ask = ASK.replace("}]", "}],\"tools\":[{\"type\":\"function\"}],\"top_p\":0.10");
    let replies = [good("red").after(seconds(2)), good("blue").after(seconds(1)), good("purple")];
    let world = world(MERGE, replies);
    let start = Instant::now();
    let reply = world.ask(chat(ask)).await;
    assert_eq!(start.elapsed().as_secs(), 2, "at once");
    assert_eq!(reply.header("x-magpie-target"), Some("ref/j"));
    assert_eq!(reply.header("x-magpie-attempts"), Some("3"));
    assert_eq!(content(&reply.read().await.1), "purple");
    let merged = &world.upstream.calls()[2];
    assert!(merged.text().contains("\"top_p\":0.10"), "all else as it came: {}", merged.text());
    let merged: Value = serde_json::from_slice(&merged.body).unwrap();
    assert_eq!(merged["messages"][0], json!({ "role": "user", "content": "hi" }));
    assert!(merged.get("tools").is_none());
    let words = merged["messages"][1]["content"].as_str().unwrap();
    let (red, blue) = (words.find("red").unwrap(), words.find("blue").unwrap());
    assert!(red < blue, "in the order of the file: {words}");
    let records = assert_settled(&world, 3);
    let paid: u64 = records.iter().map(|it| it.charge.as_ref().unwrap().money.nanos).sum();
    assert_eq!((records.len(), paid), (3, 39_000));

    // Streamed, the judge's own stream is the client's.
    let world = self::world(MERGE, [stream("red"), stream("blue"), stream("purple")]);
    let text = world.chat(ASK_STREAM).await.1;
    assert_eq!(text, [&chunk("purple"), FINISH, DONE].concat());
    assert_settled(&world, 3);
}

#[tokio::test]
async fn a_judge_chooses_and_the_answer_is_given_as_it_came() {
    for (verdict, chosen) in [
        (good("2"), "blue"),
        (good("Answer 1"), "red"),
        (good("Of 2, the best is number 2."), "blue"),
        (good("none of 9"), "red"),
        (down(), "red"),
    ] {
        let replies = [stream("red"), stream("blue"), verdict];
        let world = world(CHOOSE, replies);
        let text = world.chat(ASK_STREAM).await.1;
        assert_eq!(text, [&chunk(chosen), FINISH, DONE].concat());
        assert_settled(&world, 3);
    }
}

#[tokio::test]
async fn who_fails_is_left_out_and_who_is_alone_needs_no_judge() {
    for model in [MERGE, CHOOSE] {
        let world = world(model, [down(), good("blue")]);
        let reply = world.ask(chat(ASK)).await;
        assert_eq!(reply.header("x-magpie-target"), Some("two/l"));
        assert_eq!(content(&reply.read().await.1), "blue");
        assert_eq!(asked(&world), ["one", "two"]);
        assert_settled(&world, 2);

        let world = self::world(model, [down(), Reply::status(503).data("{}")]);
        let answer = world.ask(chat(ASK)).await;
        assert_eq!(answer.header("x-magpie-attempts"), Some("2"));
        let (status, error) = answer.error().await;
        assert_eq!((status, error["code"].as_str()), (500, Some("down")));
        assert_settled(&world, 2);
    }
    let world = world(MERGE, [good("red"), good("blue"), down()]);
    let (status, text) = world.chat(ASK).await;
    assert_eq!((status.as_u16(), content(&text).as_str()), (200, "red"));
    assert_settled(&world, 3);
}

#[tokio::test]
async fn a_call_of_tools_is_not_judged() {
    let calls = json!({ "choices": [{ "index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": null,
        "tool_calls": [{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }],
    } }] })
    .to_string();
    let world = world(MERGE, [good("red"), Reply::json(calls.clone())]);
    assert_eq!(world.chat(ASK).await.1, calls);
    assert_eq!(asked(&world), ["one", "two"]);
    assert_settled(&world, 2);
    let world =
        self::world("{ cascade: [small, large], judge: judge }", [Reply::json(calls.clone())]);
    assert_eq!(world.chat(ASK).await.1, calls);
}

#[tokio::test(start_paused = true)]
async fn the_request_counts_once_and_every_model_is_paid() {
    let keys = format!(
        "keys: [{{ name: ada-1, key: {ADA}, models: [chat], limits: {{ rpm: 10, concurrency: 1 }}, budget: $1/day }}]\n"
    );
    for model in [MERGE, CHOOSE, "{ cascade: [small, large], judge: judge }"] {
        let models =
            format!("models:\n  small: one/s\n  large: two/l\n  judge: ref/j\n  chat: {model}\n");
        let replies = [good("red"), good("no, 1"), good("purple")];
        let world = World::of(&format!("{PROVIDERS}{models}{keys}"), replies);
        assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.read().await.0, 200);
        let records = assert_settled(&world, 3);
        let paid: u64 = records.iter().map(|it| it.charge.as_ref().unwrap().money.nanos).sum();
        let standing = world.budget(Kind::Key, "ada-1");
        assert_eq!((standing.spent, standing.reserved), (paid, 0), "{model}");
        assert_eq!(world.left(Kind::Key, "ada-1", "rpm"), 9, "{model}");
        assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 1, "{model}");

        // The key may ask the composed model, and none of those in it.
        let (status, _) =
            world.ask(keyed(chat(ASK.replace("chat", "small")), ADA)).await.read().await;
        assert_eq!(status, 403);
    }
}

#[tokio::test]
async fn limits_of_the_composed_model_hold() {
    for (model, calls) in [
        ("{ cascade: [small, large], limits: { rpm: 1 } }", 1),
        ("{ panel: [small, large], judge: { model: judge, by: choose }, limits: { rpm: 1 } }", 3),
    ] {
        let world = world(model, (0..4).map(|_| good("red")));
        assert_eq!(world.chat(ASK).await.0, 200);
        let (status, error) = world.ask(chat(ASK)).await.error().await;
        assert_eq!((status, error["code"].as_str()), (429, Some("rate_limit_exceeded")));
        assert_eq!(asked(&world).len(), calls);
        assert_eq!(world.chat(ASK.replace("chat", "small")).await.0, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_all_of_it_and_leaves_one_last_record() {
    let slow = || good("red").after(seconds(100));
    for (model, replies, attempts) in [
        (MERGE, vec![slow(), slow()], 2),
        (MERGE, vec![good("red"), slow()], 2),
        (MERGE, vec![good("red"), good("blue"), slow()], 3),
        ("{ cascade: [small, large], judge: judge }", vec![slow()], 1),
        ("{ cascade: [small, large], judge: judge }", vec![good("a"), slow()], 2),
        (CASCADE, vec![good("a"), slow()], 2),
    ] {
        let world = world(model, replies);
        assert!(timeout(millis(500), world.ask(chat(ASK))).await.is_err());
        let records = world.take_records();
        assert_eq!(records.len(), usize::from(attempts) + 1, "{model}");
        let (last, before) = records.split_last().unwrap();
        assert!(before.iter().all(|record| !record.is_last && record.asked), "{model}");
        assert_eq!((last.is_last, last.asked, last.attempts), (true, false, attempts), "{model}");
        assert_eq!(last.outcome, Outcome::ClientGone);
        assert_eq!(world.upstream.fates.open.get(), 0);
    }
}

#[tokio::test]
async fn each_model_in_it_has_its_own_failover() {
    let models = "models:\n  small: { fallback: [one/s, two/s] }\n  large: two/l\n  chat: { cascade: [small, large] }\n";
    let world = World::of(&format!("{PROVIDERS}{models}"), [down(), good("forty-two")]);
    let reply = world.ask(chat(ASK)).await;
    assert_eq!(reply.header("x-magpie-target"), Some("two/s"));
    assert_eq!(reply.header("x-magpie-attempts"), Some("2"));
    let records = world.take_records();
    assert_eq!(records.len(), 2);
    assert!(records[1].is_last && !records[0].is_last);
}

#[tokio::test]
async fn what_is_no_chat_goes_to_the_last_model() {
    let world = world(CASCADE, [Reply::json(r#"{"data":[]}"#)]);
    let ask = post("/v1/embeddings", r#"{"model":"chat","input":"a"}"#);
    assert_eq!(world.ask(ask).await.status, 200);
    assert_eq!(asked(&world), ["two"]);
}

#[test]
fn what_cannot_be_composed_is_told_with_its_place() {
    for (model, words) in [
        ("{ cascade: [small] }", "2 to 4 models"),
        ("{ panel: [small, large] }", "needs a `judge`"),
        ("{ cascade: [small, large], panel: [small, large], judge: judge }", "is enough"),
        ("{ target: one/s, cascade: [small, large] }", "no targets of its own"),
        ("{ cascade: [small, large], defaults: { top_p: 1 } }", "edits nothing"),
        ("{ cascade: [small, large], hedge: p95 }", "no targets of its own"),
        ("{ cascade: [small, large], queue: 5s }", "`queue` means nothing"),
        ("{ cascade: [small, large], resume: elsewhere }", "`resume` means nothing"),
        ("{ cascade: [small, large], timeouts: { idle: 5s } }", "`timeouts` means nothing"),
        ("{ cascade: [small, lrage] }", "lrage"),
        ("{ cascade: [small, chat] }", "`chat` is composed itself"),
        ("{ panel: [small, large], judge: chat }", "`chat` is composed itself"),
        ("{ cascade: [small, large], judge: { model: judge, by: merge } }", "without `panel`"),
        (
            "{ panel: [small, large], judge: judge, escalate: { shorter_than: 1 } }",
            "without `cascade`",
        ),
    ] {
        let models =
            format!("models:\n  small: one/s\n  large: two/l\n  judge: ref/j\n  chat: {model}\n");
        let environment = policy::Environment::new();
        let yaml = format!("{PROVIDERS}{models}");
        let config = policy::load(&yaml, &environment).unwrap_or_else(|it| panic!("{it:?}"));
        let profiles = providers::builtin().unwrap();
        let Err(problems) = policy::build(&config, &profiles, &environment) else {
            panic!("{model} was taken");
        };
        assert!(problems[0].message.contains(words), "{model}: {problems:?}");
        assert_eq!(problems[0].place.line, 11, "{model}: {problems:?}");
    }
}
