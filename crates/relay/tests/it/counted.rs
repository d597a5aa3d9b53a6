//! What counts a request as such: once, and as long as it lasts, whatever attempts are made of it.

use policy::directory::Kind;

use crate::scripted::Reply;
use crate::world::{ASK, ASK_STREAM, DONE, FINISH, World, chat, chunk, keyed, millis, seconds};

const ADA: &str = "mk-of-ada-0123456789";

const PROVIDERS: &str = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_key: sk-one-0123456789, limits: { rpm: 60 } }
  two: { profile: openai-compatible, base_url: 'http://two.test/v1', api_key: sk-two-0123456789 }
  ref: { profile: openai-compatible, base_url: 'http://ref.test/v1', api_key: sk-ref-0123456789 }
keys: [{ name: ada-1, key: mk-of-ada-0123456789, limits: { rpm: 10, concurrency: 1 } }]
";

fn world(models: &str, replies: impl IntoIterator<Item = Reply>) -> World {
    World::of(&format!("{PROVIDERS}models: {models}\n"), replies)
}

fn stream(text: &str) -> Reply {
    Reply::stream().data(chunk(text)).wait(seconds(1)).data([FINISH, DONE].concat())
}

fn good(text: &str) -> Reply {
    Reply::json(format!(
        r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#
    ))
}

fn down() -> Reply {
    Reply::status(500).header("content-type", "application/json").data(r#"{"error":{}}"#)
}

/// A key that may ask one at a time can ask nothing else before all of an answer is there.
async fn assert_one_at_a_time(world: &World) {
    let mut answer = world.ask(keyed(chat(ASK_STREAM), ADA)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.next().await.is_some());
    assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 0);
    assert_eq!(world.left(Kind::Key, "ada-1", "rpm"), 9);
    assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.status, 429);
    assert!(answer.bytes().await.ends_with(DONE.as_bytes()));
    assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_winner_of_a_race_holds_the_place_of_its_request() {
    for (first, second) in [
        (stream("a").after(millis(100)), stream("b").after(millis(300))),
        (stream("a").after(millis(300)), stream("b").after(millis(100))),
        (down(), stream("b").after(millis(100))),
        (stream("a").after(millis(100)), down()),
    ] {
        assert_one_at_a_time(&world("{ chat: { race: [one/a, two/b] } }", [first, second])).await;
    }
    let models = "{ chat: { fallback: [one/a, two/b], hedge: { after: 1s, at_most: 100 } } }";
    assert_one_at_a_time(&world(models, [stream("a").after(seconds(9)), stream("b")])).await;
}

#[tokio::test(start_paused = true)]
async fn a_composed_model_holds_it_to_the_end_of_the_last() {
    let panel = "{ chat: { panel: [one/a, two/b], judge: ref/j } }";
    assert_one_at_a_time(&world(panel, [stream("a"), stream("b"), stream("c")])).await;
    let cascade = "{ chat: { cascade: [one/a, two/b] } }";
    assert_one_at_a_time(&world(cascade, [down(), stream("b")])).await;
}

#[tokio::test(start_paused = true)]
async fn a_model_in_another_one_is_counted_by_its_own_limits() {
    let models = "{ b: { target: two/b, limits: { rpm: 1 } }, chat: { panel: [one/a, b], judge: { model: ref/j, by: choose } } }";
    let world = world(models, [good("a"), good("b"), good("2"), good("a")]);
    assert!(world.ask(keyed(chat(ASK), ADA)).await.read().await.1.contains("\"b\""));
    assert_eq!(world.left(Kind::Model, "b", "rpm"), 0);
    // Who may not be asked is left out, and who is alone needs no judge.
    assert!(world.ask(keyed(chat(ASK), ADA)).await.read().await.1.contains("\"a\""));
    assert_eq!(world.upstream.calls().len(), 4);
    assert_eq!(world.left(Kind::Key, "ada-1", "rpm"), 8);
}

#[tokio::test(start_paused = true)]
async fn a_provider_counts_the_attempts_that_failed_as_well() {
    let world = world("{ chat: { fallback: [one/a, two/b] } }", [down(), good("b")]);
    assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.status, 200);
    assert_eq!(world.left(Kind::Provider, "one", "rpm"), 59);
    assert_eq!(world.left(Kind::Key, "ada-1", "rpm"), 9);
    assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gives_its_place_back() {
    let models = "{ chat: { race: [one/a, two/b], limits: { concurrency: 1 } } }";
    let world = world(models, [stream("a"), stream("b").after(millis(100))]);
    let mut answer = world.ask(keyed(chat(ASK_STREAM), ADA)).await;
    assert!(answer.next().await.is_some());
    assert_eq!(world.left(Kind::Model, "chat", "concurrency"), 0);
    drop(answer);
    assert_eq!(world.left(Kind::Model, "chat", "concurrency"), 1);
    assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 1);
}
