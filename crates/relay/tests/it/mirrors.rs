//! Requests that go to a shadow as well: what it gets, what is written down and counted, and that
//! nobody else meets anything of it.

use std::sync::Arc;
use std::time::SystemTime;

use policy::directory::Kind;
use policy::health::Lease;
use policy::health::mirrored::{MOST_AT_ONCE, MOST_BYTES, MirrorSummary};
use relay::{Comparison, FailureKind, Outcome, Record};

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, USAGE, World, all, chat, chunk, keyed, local, millis, post,
    seconds, with_header,
};

const PAIR: &str = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_key: sk-one-0123456789 }
  two:
    profile: openai-compatible
    base_url: 'http://two.test/v1'
    api_key: sk-two-0123456789
    request: { force: { user: shadow } }
  three: { profile: openai-compatible, base_url: 'http://three.test/v1', api_key: sk-three-012345 }
prices: { '*/*': { input: 1, output: 2, max_output: 100 } }
models:
  chat: { fallback: [one/a, three/c], mirror: two/b, defaults: { top_p: 0.5 } }
  half: { target: one/a, mirror: { to: two/b, share: 50 } }
";

const GOOD: &str = r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi there"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
const OTHER: &str = r#"{"id":"y","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi you"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;

fn stream(words: &[&str]) -> Reply {
    let words = words.iter().fold(Reply::stream(), |reply, word| reply.data(chunk(word)));
    words.data(FINISH).data(USAGE).data(DONE)
}

fn busy() -> Reply {
    Reply::status(503)
        .header("content-type", "application/json")
        .data(r#"{"error":{"message":"no"}}"#)
}

/// Has the copies run to their ends.
async fn beside(world: &World) {
    all(world.take_tasks()).await;
}

fn sums(world: &World) -> MirrorSummary {
    let all = world.snapshot.health().all_mirrored();
    let (_, _, mirrored) = all.iter().find(|(model, ..)| model == "chat").unwrap();
    mirrored.summary()
}

fn compared(world: &World) -> Comparison {
    let mut compared = world.log.compared.take();
    assert_eq!(compared.len(), 1);
    compared.remove(0)
}

/// The records of requests and of copies.
fn records(world: &World) -> (Vec<Record>, Vec<Record>) {
    world.take_records().into_iter().partition(|record| record.mirror_of.is_none())
}

#[tokio::test]
async fn the_shadow_gets_the_request_with_its_own_edits_and_key_once_the_request_was_sent() {
    let world = World::of(PAIR, [Reply::json(GOOD), Reply::json(OTHER)]);
    let mut request = keyed(chat(ASK), "sk-client-secret");
    for (name, value) in
        [("x-api-key", "sk-client-secret"), ("cookie", "session=secret"), ("openai-beta", "new=v1")]
    {
        request = with_header(request, name, value);
    }
    let answer = world.ask(request).await;
    assert_eq!(world.upstream.calls().len(), 1, "the copy waits for its turn");
    assert_eq!(answer.header("x-magpie-target"), Some("one/a"));
    assert_eq!(answer.read().await, (http::StatusCode::OK, GOOD.to_owned()));
    beside(&world).await;
    let calls = world.upstream.calls();
    let [main, copy] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((&*main.provider, &*copy.provider), ("one", "two"));
    assert_eq!(copy.target, "/v1/chat/completions");
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    assert!(copy.text().contains(messages) && copy.text().contains(r#""model":"b""#));
    assert!(copy.text().contains(r#""top_p":0.5"#) && copy.text().contains(r#""user":"shadow""#));
    assert!(!main.text().contains("shadow"));
    assert_eq!(copy.header("authorization"), Some("Bearer sk-two-0123456789"));
    assert_eq!(copy.header("openai-beta"), Some("new=v1"));
    assert!(!format!("{:?}", copy.headers).contains("secret"));
}

#[tokio::test]
async fn the_shadow_is_not_told_the_idempotency_key_of_the_request() {
    local(async {
        let world = World::of(PAIR, [Reply::json(GOOD), Reply::json(OTHER)]);
        let answer = world.ask(with_header(chat(ASK), "idempotency-key", "once")).await;
        assert_eq!(answer.read().await, (http::StatusCode::OK, GOOD.to_owned()));
        while world.log.compared.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        let calls = world.upstream.calls();
        let [main, copy] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!(main.header("idempotency-key"), Some("once"));
        assert_eq!(copy.header("idempotency-key"), None);
    })
    .await;
}

#[tokio::test]
async fn both_answers_are_compared_and_written_down_each_by_itself() {
    for is_stream in [false, true] {
        let (ask, main, shadow) = match is_stream {
            false => (ASK, Reply::json(GOOD), Reply::json(OTHER)),
            true => (ASK_STREAM, stream(&["hi", " there"]), stream(&["hi ", "you"])),
        };
        let world = World::of(PAIR, [main.after(millis(5)), shadow.after(millis(40))]);
        let answer = world.ask(chat(ask)).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        let _ = answer.bytes().await;
        beside(&world).await;
        let (mains, copies) = records(&world);
        let ([main], [copy]) = (&mains[..], &copies[..]) else { panic!() };
        assert_eq!(main.id.to_string(), id);
        assert_eq!((copy.mirror_of, copy.id), (Some(main.id), main.id.mirrored()));
        assert_eq!(copy.id.mirrored(), main.id);
        assert_eq!(
            (&*copy.model, copy.stream, copy.operation),
            ("chat", is_stream, main.operation)
        );
        assert_eq!(&*copy.route.as_ref().unwrap().upstream_model, "b");
        assert!(copy.asked && copy.is_last && copy.charge.is_some());
        assert!(copy.caller.chain().levels().next().is_none());
        let comparison = compared(&world);
        assert_eq!((comparison.id, comparison.mirror), (main.id, copy.id));
        assert!(comparison.at <= SystemTime::now());
        let (main, shadow) = (&comparison.main, &comparison.shadow);
        assert_eq!((main.status, shadow.status), (200, 200));
        assert_eq!((main.outcome, shadow.outcome), (Outcome::Complete, Outcome::Complete));
        assert_eq!((main.characters, shadow.characters), (Some(8), Some(6)));
        assert_eq!(main.finish.as_deref(), Some("stop"));
        assert_eq!(shadow.finish.as_deref(), Some(if is_stream { "stop" } else { "length" }));
        assert_eq!(main.first_event.is_some(), is_stream);
        // ^hi hi-there there$, and ^hi hi-you you$
        assert!((comparison.similarity.unwrap() - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(main.cost, mains[0].charge.as_ref().map(|charge| charge.money));
        assert!(main.total >= millis(5) && shadow.total >= millis(40));
        let sums = sums(&world);
        assert_eq!((sums.drawn, sums.ended, sums.compared), (1, 1, 1));
        assert_eq!(sums.same_finish, Some(if is_stream { 1.0 } else { 0.0 }));
    }
}

#[tokio::test]
async fn what_was_not_sent_is_not_mirrored() {
    let limited = format!(
        "{PAIR}keys:\n  - {{ name: k, key: a-key-of-sixteen-letters, limits: {{ rpm: 2 }} }}\n"
    );
    let world = World::of(&limited, [Reply::json(GOOD), Reply::json(OTHER)]);
    let ask = |body: &'static str| world.ask(keyed(chat(body), "a-key-of-sixteen-letters"));
    for body in ["{", "{}", r#"{"model":"chat"}"#, r#"{"model":"nope","messages":[1]}"#] {
        assert_ne!(ask(body).await.status, 200);
    }
    world.log.full.set(true);
    assert_eq!(ask(ASK).await.status, 503);
    world.log.full.set(false);
    let _ = ask(ASK).await.bytes().await;
    assert_eq!(ask(ASK).await.status, 429);
    assert_eq!(world.take_tasks().len(), 1);
    assert_eq!(sums(&world).drawn, 1);
}

#[tokio::test]
async fn only_answers_with_a_text_are_mirrored() {
    let world = World::of(PAIR, []);
    for (path, body) in [
        ("/v1/embeddings", r#"{"model":"chat","input":"x"}"#),
        ("/v1/images/generations", r#"{"model":"chat","prompt":"x"}"#),
        ("/v1/completions", r#"{"model":"chat","prompt":"x"}"#),
    ] {
        let _ = world.ask(post(path, body)).await.bytes().await;
    }
    assert_eq!(world.take_tasks().len(), 1);
}

#[tokio::test]
async fn the_share_is_drawn_by_the_id_of_the_request() {
    let world = World::of(PAIR, []);
    let mut drawn = 0;
    for _ in 0..400 {
        let answer = world.ask(chat(ASK.replace("chat", "half"))).await;
        let id = u128::from_str_radix(&answer.header("x-request-id").unwrap()[4..], 16).unwrap();
        let random = u64::try_from(id & u128::from(u64::MAX)).unwrap();
        let is_drawn = policy::plan::is_drawn(5_000, random);
        assert_eq!(world.take_tasks().len(), usize::from(is_drawn));
        drawn += usize::from(is_drawn);
    }
    assert!((150..=250).contains(&drawn), "{drawn}");
}

#[tokio::test(start_paused = true)]
async fn a_shadow_that_fails_is_asked_once_and_costs_the_plan_no_retry() {
    for fault in [
        busy(),
        Reply::failing(FailureKind::Connect),
        Reply::json("<html>"),
        Reply::json(r#"{"error":{"message":"busy","code":"529"}}"#),
        Reply::json(GOOD).after(seconds(40 * 60)),
    ] {
        let world = World::of(PAIR, [Reply::json(GOOD), fault]);
        let plan = world.snapshot.plan("chat").unwrap();
        let now_ms = || u64::try_from(world.gate.epoch.elapsed().as_millis()).unwrap();
        let (status, _) = world.chat(ASK).await;
        let retries = plan.budget().left(now_ms());
        beside(&world).await;
        assert_eq!((status.as_u16(), world.upstream.calls().len()), (200, 2));
        assert!(plan.budget().left(now_ms()) >= retries);
        let comparison = compared(&world);
        assert_eq!(comparison.main.outcome, Outcome::Complete);
        assert_ne!(comparison.shadow.outcome, Outcome::Complete);
        assert_eq!(comparison.similarity, None);
        let sums = sums(&world);
        assert_eq!((sums.main.errors, sums.shadow.errors, sums.compared), (0, 1, 0));
        let (mains, copies) = records(&world);
        assert_eq!((mains.len(), copies.len()), (1, 1));
        assert_eq!(mains[0].attempt, 1);
    }
}

#[tokio::test]
async fn a_request_that_goes_from_target_to_target_is_mirrored_once() {
    let replies = [busy().after(millis(30)), Reply::json(GOOD), Reply::json(GOOD)];
    let world = World::of(PAIR, replies);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("x-magpie-attempts"), Some("2"));
    let _ = answer.bytes().await;
    beside(&world).await;
    let comparison = compared(&world);
    assert_eq!(&*comparison.main.route.unwrap().upstream_model, "c");
    // The client waited for the first target too.
    assert!(comparison.main.total >= millis(30));
    assert_eq!(comparison.similarity, Some(1.0));
    assert_eq!(sums(&world).drawn, 1);
}

#[tokio::test(start_paused = true)]
async fn a_race_is_mirrored_once_and_its_winner_is_compared() {
    for (ask, reply) in [(ASK, Reply::json(GOOD)), (ASK_STREAM, stream(&["hi", " there"]))] {
        let config = PAIR.replace("fallback: [one/a, three/c]", "race: [one/a, three/c]");
        let replies = [reply.clone().after(seconds(5)), reply.clone().after(millis(20)), reply];
        let world = World::of(&config, replies);
        let answer = world.ask(chat(ask)).await;
        assert_eq!(answer.header("x-magpie-target"), Some("three/c"));
        let _ = answer.bytes().await;
        beside(&world).await;
        let comparison = compared(&world);
        assert_eq!(&*comparison.main.route.unwrap().upstream_model, "c");
        assert_eq!(
            (comparison.main.outcome, comparison.similarity),
            (Outcome::Complete, Some(1.0))
        );
        assert_eq!((world.upstream.calls().len(), sums(&world).drawn), (3, 1));
        let (mains, copies) = records(&world);
        assert_eq!((mains.len(), copies.len()), (2, 1));
    }
}

#[tokio::test]
async fn what_a_composed_model_asks_is_not_mirrored() {
    let config = format!("{PAIR}  thrifty: {{ cascade: [three/c, chat] }}\n");
    let world = World::of(&config, [Reply::json(GOOD), Reply::json(GOOD)]);
    assert_eq!(
        world.chat(ASK.replace("chat", "thrifty")).await,
        (http::StatusCode::OK, GOOD.into())
    );
    // Completions go to the last of them.
    let body = r#"{"model":"thrifty","prompt":"hi"}"#;
    assert_eq!(world.ask(post("/v1/completions", body)).await.read().await.0, 200);
    assert_eq!((world.take_tasks().len(), world.upstream.calls().len()), (0, 2));
    assert_eq!(sums(&world).drawn, 0);
}

#[tokio::test]
async fn a_main_answer_that_fails_is_an_error_of_its_side() {
    let world = World::of(PAIR, [busy(), busy(), Reply::json(GOOD)]);
    assert_eq!(world.chat(ASK).await.0, 503);
    beside(&world).await;
    let comparison = compared(&world);
    assert_eq!((comparison.main.status, comparison.shadow.status), (503, 200));
    assert_eq!((sums(&world).main.errors, sums(&world).shadow.errors), (1, 0));
}

#[tokio::test]
async fn an_ejected_shadow_is_left_alone() {
    let world = World::of(PAIR, [Reply::json(GOOD)]);
    let plan = world.snapshot.plan("chat").unwrap();
    let live = &plan.mirror().unwrap().target.live;
    for _ in 0..10 {
        let lease = Lease::begin(live, true, 0).unwrap();
        let _ = lease.failed(policy::health::Cause::Transient, None, 0);
    }
    let _ = world.chat(ASK).await;
    beside(&world).await;
    assert_eq!(world.upstream.calls().len(), 1);
    assert_eq!((sums(&world).drawn, sums(&world).skipped), (1, 1));
    assert_eq!(world.records(), 1);
}

#[tokio::test]
async fn callers_pay_nothing_for_a_copy_and_model_and_provider_hold_for_it() {
    let config = PAIR.replace("  three:", "    limits: { rpm: 2 }\n    budget: $1/day\n  three:")
        + "keys:\n  - { name: k, key: a-key-of-sixteen-letters, budget: $1/day, limits: { rpm: 9, tpm: 100000 } }\n";
    let replies = (0..6).map(|_| Reply::json(GOOD));
    let world = World::of(&config, replies);
    for _ in 0..3 {
        let request = keyed(chat(ASK), "a-key-of-sixteen-letters");
        let _ = world.ask(request).await.bytes().await;
        beside(&world).await;
    }
    let sums = sums(&world);
    assert_eq!((sums.drawn, sums.compared, sums.skipped), (3, 2, 1));
    let (mains, copies) = records(&world);
    let cost = |records: &[Record]| -> u64 {
        records.iter().map(|record| record.charge.as_ref().unwrap().money.nanos).sum()
    };
    assert_eq!((mains.len(), copies.len()), (3, 2));
    assert_eq!(world.budget(Kind::Key, "k").spent, cost(&mains));
    assert_eq!(world.budget(Kind::Key, "k").reserved, 0);
    assert_eq!(world.budget(Kind::Provider, "two").spent, cost(&copies));
    assert_eq!(world.left(Kind::Key, "k", "rpm"), 6);
    assert_eq!(world.left(Kind::Provider, "two", "rpm"), 0);
}

#[tokio::test]
async fn a_client_that_leaves_takes_nothing_of_the_copy_along() {
    let main = Reply::stream().data(chunk("hi")).hang();
    let world = World::of(PAIR, [main, stream(&["hi"])]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    let _ = answer.next().await;
    drop(answer);
    beside(&world).await;
    let comparison = compared(&world);
    assert_eq!(comparison.main.outcome, Outcome::ClientGone);
    assert_eq!(comparison.shadow.outcome, Outcome::Complete);
    let sums = sums(&world);
    assert_eq!((sums.ended, sums.main.errors, sums.compared), (1, 0, 0));
}

#[tokio::test]
async fn a_copy_ends_when_the_process_stops() {
    for (ask, main, shadow) in [
        (ASK, Reply::json(GOOD), Reply::json(GOOD).after(seconds(900))),
        (ASK_STREAM, stream(&["a"]), Reply::stream().data(chunk("a")).hang()),
        (ASK, Reply::json(GOOD), Reply::json("{").hang()),
    ] {
        let world = World::of(PAIR, [main, shadow]);
        let _ = world.ask(chat(ask)).await.bytes().await;
        let mut tasks = world.take_tasks();
        let running = tokio::time::timeout(millis(30), &mut tasks[0]).await;
        assert!(running.is_err());
        world.shed.set();
        tokio::time::timeout(millis(100), &mut tasks[0]).await.unwrap();
        let (_, copies) = records(&world);
        assert_eq!(copies[0].outcome, Outcome::Shed);
        assert_eq!(world.upstream.fates.open.get(), 0);
    }
}

#[tokio::test]
async fn no_copy_begins_when_the_process_stops() {
    let world = World::of(PAIR, [Reply::json(GOOD)]);
    assert_eq!(world.chat(ASK).await.0, 200);
    world.shed.set();
    beside(&world).await;
    assert_eq!((world.upstream.calls().len(), world.records()), (1, 1));
    assert_eq!((sums(&world).drawn, sums(&world).skipped), (1, 1));
}

#[tokio::test]
async fn a_copy_that_waits_for_the_main_answer_ends_when_the_process_stops() {
    let world = World::of(PAIR, [Reply::stream().data(chunk("a")).hang(), stream(&["a"])]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    let _ = answer.next().await;
    let mut tasks = world.take_tasks();
    assert!(tokio::time::timeout(millis(30), &mut tasks[0]).await.is_err());
    world.shed.set();
    tokio::time::timeout(millis(100), &mut tasks[0]).await.unwrap();
}

#[tokio::test]
async fn there_are_so_many_copies_at_once_and_no_more() {
    let world = World::of(PAIR, (0..200).map(|_| Reply::json(GOOD)));
    let plan = world.snapshot.plan("chat").unwrap();
    for _ in 0..MOST_AT_ONCE + 10 {
        assert_eq!(world.chat(ASK).await.0, 200);
    }
    let tasks = world.take_tasks();
    assert_eq!(tasks.len(), MOST_AT_ONCE);
    assert_eq!(sums(&world).dropped, 10);
    all(tasks).await;
    assert_eq!(sums(&world).compared, MOST_AT_ONCE as u64);
    assert_eq!(plan.mirror().unwrap().target.live.health.in_flight(), 0);
    let _ = world.chat(ASK).await;
    assert_eq!(world.take_tasks().len(), 1, "there is room again");
    // A task that is dropped gives back its room too.
    assert!(Arc::clone(&plan.mirror().unwrap().room).take(MOST_BYTES).is_some());
}

#[tokio::test]
async fn long_answers_are_compared_by_their_beginning_and_huge_ones_not_at_all() {
    let word = "word ".repeat(2_000);
    let words: Vec<&str> = (0..50).map(|_| &*word).collect();
    let world = World::of(PAIR, [stream(&words), stream(&words)]);
    let _ = world.ask(chat(ASK_STREAM)).await.bytes().await;
    beside(&world).await;
    let comparison = compared(&world);
    assert_eq!(comparison.main.characters, Some(500_000));
    assert_eq!((comparison.similarity, comparison.shadow.characters), (Some(1.0), Some(500_000)));
    let huge = GOOD.replace("hi there", &"x".repeat(2 << 20));
    let world = World::of(PAIR, [Reply::json(huge.clone()).sized(), Reply::json(huge.clone())]);
    let (_, text) = world.chat(ASK).await;
    assert_eq!(text.len(), huge.len());
    beside(&world).await;
    let comparison = compared(&world);
    assert_eq!(comparison.main.outcome, Outcome::Complete);
    assert_eq!((comparison.main.characters, comparison.similarity), (None, None));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_heard_however_it_was_cut() {
    let whole: String = [chunk("one two"), chunk(" three"), FINISH.into(), DONE.into()].concat();
    for size in [1, 2, 7, 64, 1000] {
        let pieces = whole.as_bytes().chunks(size);
        let cut = pieces.fold(Reply::stream(), |reply, piece| {
            reply.data(bytes::Bytes::copy_from_slice(piece)).wait(millis(1))
        });
        let world = World::of(PAIR, [cut, stream(&["one two three"])]);
        let bytes = world.ask(chat(ASK_STREAM)).await.bytes().await;
        assert_eq!(bytes, whole.as_bytes());
        beside(&world).await;
        let comparison = compared(&world);
        assert_eq!((comparison.similarity, comparison.main.characters), (Some(1.0), Some(13)));
        assert_eq!(comparison.main.finish.as_deref(), Some("stop"));
    }
}
