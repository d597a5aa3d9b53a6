//! `Idempotency-Key`: a request that is repeated is asked once, charged once, and has one answer.

use std::net::{IpAddr, Ipv4Addr};

use policy::directory::Kind;
use policy::directory::{KeyRecord, Origin};
use relay::{Outcome, Provenance};
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::{Reply, ScriptBody};
use crate::world::{
    ASK, ASK_STREAM, Answer, DONE, FINISH, LAB, USAGE, World, all, chat, chunk, keyed, local,
    millis, post, seconds, with_header,
};

const ADA: &str = "mk-of-ada-0123456789";
const BOB: &str = "mk-of-bob-0123456789";
pub(crate) const ANSWER: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;

/// The request with an `Idempotency-Key`.
pub(crate) fn named(request: http::Request<ScriptBody>, name: &str) -> http::Request<ScriptBody> {
    with_header(request, "idempotency-key", name)
}

/// Two keys, each with limits and a budget.
fn two(replies: impl IntoIterator<Item = Reply>) -> World {
    let terms = "limits: { rpm: 100, concurrency: 5 }, budget: $1/day";
    World::of(
        &format!(
            "{LAB}
prices: {{ lab/*: {{ input: \"1\", output: \"2\", max_output: 1000 }} }}
keys:
  - {{ name: ada-1, key: {ADA}, models: [chat], {terms} }}
  - {{ name: bob-1, key: {BOB}, {terms} }}
"
        ),
        replies,
    )
}

async fn ask(world: &World, body: &'static str, name: &str) -> Answer {
    world.ask(named(chat(body), name)).await
}

#[tokio::test(start_paused = true)]
async fn the_same_request_again_has_the_same_answer_and_costs_nothing() {
    local(async {
        let reply = Reply::json(ANSWER).header("openai-version", "2020-10-01");
        let world = two([reply.header("x-request-id", "up-1"), Reply::json(r#"{"other":1}"#)]);
        let ada = |name: &str| world.ask(named(keyed(chat(ASK), ADA), name));
        let first = ada("a").await;
        assert_eq!(first.header("idempotent-replayed"), None);
        let spent = world.budget(Kind::Key, "ada-1").spent;
        let again = ada("a").await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("openai-version"), Some("2020-10-01"));
        assert_eq!(again.header("x-upstream-request-id"), Some("up-1"));
        assert_eq!(again.header("x-magpie-target"), Some("lab/up-model"));
        assert_eq!(
            (first.header("x-magpie-attempts"), again.header("x-magpie-attempts")),
            (Some("1"), Some("0"))
        );
        assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
        assert_eq!(again.header("content-type"), first.header("content-type"));
        assert_eq!(again.header("x-ratelimit-remaining-requests"), Some("98"));
        assert_eq!(first.read().await, again.read().await);
        assert_eq!(world.upstream.call().header("idempotency-key"), Some("a"));

        let now = world.budget(Kind::Key, "ada-1");
        assert!(spent > 0);
        assert_eq!((now.spent, now.reserved), (spent, 0));
        assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 5);
        let records = world.take_records();
        let [one, two] = &records[..] else { panic!("two records") };
        assert_eq!((one.asked, one.shared, one.attempt), (true, false, 1));
        assert_eq!((two.asked, two.shared, two.attempt), (false, true, 0));
        assert_eq!((two.outcome, two.status, two.fault), (Outcome::Complete, 200, None));
        assert_eq!((two.usage, two.provenance), (None, Provenance::None));
        assert!(one.charge.is_some() && two.charge.is_none());
        assert_eq!(&*two.route.as_ref().unwrap().upstream_model, "up-model");
        assert_eq!(&*two.model, "chat");
        assert!(!two.stream && two.is_last);

        // Another key is another request, and so is no key.
        assert_eq!(ada("b").await.read().await.1, r#"{"other":1}"#);
        world.ask(keyed(chat(ASK), ADA)).await.read().await;
        assert_eq!(world.upstream.calls().len(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_replayed_to_the_byte_and_at_once() {
    local(async {
        let reply = Reply::stream().data(chunk("a")).wait(seconds(1)).data(chunk("b"));
        let reply = reply.data([FINISH, USAGE, DONE].concat());
        let world = World::lab([reply]);
        let first = ask(&world, ASK_STREAM, "s").await.read().await.1;
        assert_eq!(first, [&chunk("a"), &chunk("b"), FINISH, DONE].concat());
        let start = Instant::now();
        let again = ask(&world, ASK_STREAM, "s").await;
        for name in ["content-type", "cache-control", "x-accel-buffering", "idempotent-replayed"] {
            assert!(again.header(name).is_some(), "{name}");
        }
        assert_eq!(again.read().await.1, first);
        assert!(start.elapsed() < millis(10));
        let records = world.take_records();
        assert!(records[1].stream && records[1].shared);
        assert_eq!(records[1].outcome, Outcome::Complete);
        world.upstream.call();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cascade_is_repeated_as_a_whole() {
    local(async {
        let model = "models:\n  both: { cascade: [lab/small, lab/large] }\n";
        let answer = |text: &str| {
            let text = serde_json::to_string(text).unwrap();
            Reply::json(format!(
                r#"{{"choices":[{{"message":{{"content":{text}}},"finish_reason":"stop"}}]}}"#
            ))
        };
        let yaml = LAB.replace("models:\n  chat", &format!("{model}  chat"));
        for stream in [false, true] {
            let large = Reply::stream().data([&chunk("good"), FINISH, DONE].concat());
            let small = Reply::stream().data([FINISH, DONE].concat());
            let replies = if stream { [small, large] } else { [answer(""), answer("good")] };
            let world = World::of(&yaml, replies);
            let ask = if stream { ASK_STREAM } else { ASK };
            let body = ask.replace("\"chat\"", "\"both\"");
            let both = || world.ask(named(chat(body.clone()), "both"));
            let first = both().await.read().await;
            assert!(first.1.contains("good"), "{}", first.1);
            let again = both().await;
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.header("x-magpie-target"), Some("lab/large"));
            assert_eq!(again.read().await, first);
            assert_eq!(world.upstream.calls().len(), 2, "one each");
            let records = world.take_records();
            assert_eq!(records.iter().filter(|it| it.shared).count(), 1);
            assert_eq!(&*records.last().unwrap().model, "both");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn completions_and_embeddings_are_repeated_as_well() {
    local(async {
        let world = World::lab([Reply::json(ANSWER), Reply::json(ANSWER)]);
        for (path, body) in [
            ("/v1/completions", r#"{"model":"chat","prompt":"hi"}"#),
            ("/v1/embeddings", r#"{"model":"chat","input":"hi"}"#),
        ] {
            for replayed in [None, Some("true")] {
                let answer = world.ask(named(post(path, body), path)).await;
                assert_eq!(answer.header("idempotent-replayed"), replayed);
                assert_eq!(answer.read().await.1, ANSWER);
            }
        }
        assert_eq!(world.upstream.calls().len(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_key_belongs_to_one_request() {
    local(async {
        let slow = || Reply::json(ANSWER).after(seconds(5));
        let world = World::lab([slow(), slow()]);
        let other = r#"{"model":"chat","messages":[{"role":"user","content":"ho"}]}"#;
        // While the first is under way, and when it is over.
        let asked = all([
            Box::pin(async { ask(&world, ASK, "k").await.status })
                as std::pin::Pin<Box<dyn Future<Output = _>>>,
            Box::pin(async { ask(&world, other, "k").await.status }),
        ]);
        assert_eq!(asked.await, [422, 200]);
        let requests = [
            chat(other),
            post("/v1/completions", r#"{"model":"chat","prompt":"hi"}"#),
            post("/v1/chat/completions?x=1", ASK),
        ];
        for request in requests {
            world.take_records();
            let answer = world.ask(named(request, "k")).await;
            let (status, error) = answer.error().await;
            assert_eq!((status, error["code"].as_str()), (422, Some("idempotency_key_reused")));
            assert_eq!(error["type"], "invalid_request_error");
            assert_eq!(world.record().outcome, Outcome::Refused);
            assert!(!world.record().shared);
        }
        assert_eq!(world.upstream.calls().len(), 1);
        // Where two slashes mean one, it is the same request.
        let same = world.ask(named(post("/v1//chat/completions", ASK), "k")).await;
        assert_eq!((same.status.as_u16(), same.header("idempotent-replayed")), (200, Some("true")));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_key_belongs_to_one_caller() {
    local(async {
        let replies = ["1", "2", "3"].map(|number| Reply::json(format!(r#"{{"n":{number}}}"#)));
        let world = two(replies);
        for (key, body) in [(ADA, r#"{"n":1}"#), (BOB, r#"{"n":2}"#), (ADA, r#"{"n":1}"#)] {
            let answer = world.ask(named(keyed(chat(ASK), key), "same")).await;
            assert_eq!(answer.read().await.1, body);
        }
        // Without keys it belongs to an address.
        let world = World::lab(["1", "2"].map(|n| Reply::json(format!(r#"{{"n":{n}}}"#))));
        for (last, body) in [(1, r#"{"n":1}"#), (2, r#"{"n":2}"#), (1, r#"{"n":1}"#)] {
            world.address.set(Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))));
            assert_eq!(ask(&world, ASK, "same").await.read().await.1, body);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_way_is_joined_from_its_beginning() {
    local(async {
        let reply = Reply::stream().data(chunk("a")).wait(seconds(2)).data(chunk("b"));
        let world = World::lab([reply.wait(seconds(2)).data([FINISH, DONE].concat())]);
        let (first, second) =
            tokio::join!(async { ask(&world, ASK_STREAM, "j").await.frames().await }, async {
                sleep(seconds(1)).await;
                let answer = ask(&world, ASK_STREAM, "j").await;
                assert_eq!(answer.header("idempotent-replayed"), Some("true"));
                answer.frames().await
            },);
        let at = |frames: &[(std::time::Duration, bytes::Bytes)]| -> Vec<u64> {
            frames.iter().map(|(at, _)| at.as_secs()).collect()
        };
        assert_eq!((at(&first), at(&second)), (vec![0, 2, 4], vec![0, 1, 3]));
        let bytes = |frames: Vec<(_, bytes::Bytes)>| -> Vec<bytes::Bytes> {
            frames.into_iter().map(|(_, data)| data).collect()
        };
        assert_eq!(bytes(first), bytes(second));
        world.upstream.call();
        assert_eq!(world.records(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_and_comes_again_gets_the_answer() {
    local(async {
        let whole = Reply::json(ANSWER).after(seconds(10));
        let stream = Reply::stream().data(chunk("a")).wait(seconds(10));
        let stream = stream.data([FINISH, DONE].concat());
        for (reply, body) in [(whole, ASK), (stream, ASK_STREAM)] {
            let world = World::lab([reply]);
            let left = timeout(seconds(3), async { ask(&world, body, "l").await.read().await });
            assert!(left.await.is_err(), "the client has given up");
            assert_eq!(world.upstream.fates.cancelled.get(), 0);
            sleep(seconds(2)).await;
            let start = Instant::now();
            let again = ask(&world, body, "l").await;
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            let text = again.read().await.1;
            assert!(text == ANSWER || text.ends_with(DONE), "{text}");
            assert_eq!(start.elapsed().as_secs(), 5, "it joined what was under way");
            // And again, long after its end.
            sleep(seconds(500)).await;
            assert_eq!(ask(&world, body, "l").await.read().await.1, text);
            world.upstream.call();
            let records = world.take_records();
            let told: Vec<_> = records.iter().map(|it| (it.outcome, it.asked, it.shared)).collect();
            assert!(told.contains(&(Outcome::Complete, true, false)), "{told:?}");
            assert_eq!(told.iter().filter(|it| it.2).count(), 2);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_as_long_as_was_said_and_only_where_it_was_said() {
    local(async {
        let replies = || (0..3).map(|_| Reply::json(ANSWER));
        let calls = |world: &World| world.upstream.calls().len();
        let world = World::of(&format!("{LAB}idempotency: {{ keep: 1m }}\n"), replies());
        for (wait, expected) in [(0, 1), (59, 1), (2, 2)] {
            sleep(seconds(wait)).await;
            ask(&world, ASK, "t").await.read().await;
            assert_eq!(calls(&world), expected);
        }
        let world = World::of(&format!("{LAB}idempotency: {{ enabled: false }}\n"), replies());
        for expected in 1..=2 {
            // Not even what is no key is refused: the header is the provider's.
            let answer = ask(&world, ASK, "not a key").await;
            assert_eq!((answer.status.as_u16(), answer.header("idempotent-replayed")), (200, None));
            answer.read().await;
            assert_eq!(calls(&world), expected);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_key_is_refused() {
    local(async {
        let world = World::lab([Reply::json(ANSWER)]);
        let long = "x".repeat(256);
        let twice = named(named(chat(ASK), "a"), "a");
        let requests = ["", "a b", "\u{e4}", &long].map(|name| named(chat(ASK), name));
        for request in requests.into_iter().chain([twice]) {
            world.take_records();
            let (status, error) = world.ask(request).await.error().await;
            assert_eq!((status, error["code"].as_str()), (400, Some("invalid_idempotency_key")));
            world.assert_refused("invalid_idempotency_key");
        }
        let answer = ask(&world, ASK, &"~!\"x"[..].repeat(63)).await;
        assert_eq!(answer.status, 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_ask_any_more_gets_nothing_from_memory() {
    local(async {
        let world = two([Reply::json(ANSWER)]);
        let ada = || world.ask(named(keyed(chat(ASK), ADA), "m"));
        ada().await.read().await;
        let narrow = |models: &str, enabled: bool| {
            let terms = format!("{{ \"models\": {models}, \"enabled\": {enabled} }}");
            let record = KeyRecord {
                id: "ada-1".into(),
                name: "ada-1".into(),
                digests: vec![(world.gate.pepper.digest(ADA.as_bytes()), None)],
                user: None,
                team: None,
                org: None,
                terms: serde_json::from_str(&terms).unwrap(),
            };
            world.gate.directory.put_key(&record, Origin::File, 0).unwrap();
        };
        for (models, enabled, code) in
            [("[\"x\"]", true, "model_not_allowed"), ("[\"chat\"]", false, "key_disabled")]
        {
            narrow(models, enabled);
            let (status, error) = ada().await.error().await;
            assert_eq!((status, error["code"].as_str()), (403, Some(code)));
        }
        narrow("[\"chat\"]", true);
        assert_eq!(ada().await.header("idempotent-replayed"), Some("true"));
        world.upstream.call();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_worker_reads_what_another_one_leads() {
    local(async {
        let reply = Reply::stream().data(chunk("a")).wait(seconds(5));
        let one = World::lab([reply.data([FINISH, DONE].concat())]);
        let two = one.beside([]);
        let (first, second) =
            tokio::join!(async { ask(&one, ASK_STREAM, "w").await.read().await.1 }, async {
                sleep(seconds(1)).await;
                ask(&two, ASK_STREAM, "w").await.read().await.1
            },);
        assert_eq!(first, second);
        assert!(first.ends_with(DONE));
        assert_eq!((one.upstream.calls().len(), two.upstream.calls().len()), (1, 0));
        assert_eq!((one.records(), two.records()), (1, 1));
        assert!(two.record().shared);
    })
    .await;
}
