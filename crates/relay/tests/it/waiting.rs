//! Trying again after a wait, where the model wants that.

use relay::{FailureKind, Outcome};
use tokio::time::Instant;

use crate::scripted::Reply;
use crate::world::{ASK, ASK_STREAM, DONE, FINISH, World, chat, chunk, millis, seconds};

fn world(model: &str, replies: impl IntoIterator<Item = Reply>) -> World {
    let yaml = format!(
        "
providers:
  one: {{ profile: openai-compatible, base_url: 'http://one.test/v1', api_key: sk-one-0123456789 }}
  two: {{ profile: openai-compatible, base_url: 'http://two.test/v1', api_key: sk-two-0123456789 }}
models: {{ chat: {model} }}
"
    );
    World::of(&yaml, replies)
}

fn down(status: u16) -> Reply {
    Reply::status(status).header("content-type", "application/json").data("{}")
}

fn good() -> Reply {
    Reply::json(r#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#)
}

const TWICE: &str = "{ target: one/a, retries: 2 }";

#[tokio::test(start_paused = true)]
async fn what_passes_is_tried_again_after_a_wait() {
    for status in [429, 500, 503, 529] {
        let world = world(TWICE, [down(status), down(status), good()]);
        let start = Instant::now();
        let answer = world.ask(chat(ASK)).await;
        assert_eq!((answer.status.as_u16(), start.elapsed() <= millis(750)), (200, true));
        assert_eq!(answer.header("x-magpie-attempts"), Some("3"));
        let overhead: u64 = answer.header("x-magpie-overhead-us").unwrap().parse().unwrap();
        assert!(overhead < 50_000, "waiting is not Magpie's own time: {overhead}");
        let records = world.take_records();
        let told: Vec<_> = records.iter().map(|it| (it.attempt, it.is_last)).collect();
        assert_eq!(told, [(1, false), (2, false), (3, true)]);
    }
    let dead = || Reply::failing(FailureKind::Connect);
    let world = world(TWICE, [dead(), dead(), good()]);
    assert_eq!(world.chat(ASK).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn the_providers_word_on_when_to_come_again_is_kept() {
    for (wait, is_kept) in [("3", true), ("30", true), ("31", false), ("600", false)] {
        let busy = down(429).header("retry-after", wait);
        let world = world(TWICE, [busy, good()]);
        let start = Instant::now();
        let answer = world.ask(chat(ASK)).await;
        assert_eq!(answer.status, if is_kept { 200 } else { 429 }, "{wait}");
        let waited = if is_kept { wait.parse().unwrap() } else { 0 };
        assert_eq!(start.elapsed().as_secs(), waited);
    }
}

#[tokio::test(start_paused = true)]
async fn all_targets_are_gone_through_before_any_comes_again() {
    let world = world(
        "{ fallback: [one/a, two/b], retries: 1 }",
        [
            down(500),
            down(500),
            down(500),
            Reply::stream().data([&chunk("hi"), FINISH, DONE].concat()),
        ],
    );
    assert_eq!(world.chat(ASK_STREAM).await.0, 200);
    let asked: Vec<String> = world.upstream.calls().into_iter().map(|it| it.provider).collect();
    assert_eq!(asked, ["one", "two", "one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_or_is_not_wanted_is_told_at_once() {
    for (model, reply) in [
        (TWICE, down(400)),
        (TWICE, down(401)),
        (TWICE, down(402)),
        (TWICE, down(500).after(seconds(11))),
        ("one/a", down(503)),
    ] {
        let world = world(model, [reply, good()]);
        assert_ne!(world.chat(ASK).await.0, 200, "{model}");
        assert_eq!(world.upstream.calls().len(), 1, "{model}");
    }
    // After as many as were wanted, the last error is told.
    let world = world(TWICE, [down(503), down(503), down(503), good()]);
    assert_eq!(world.chat(ASK).await.0, 503);
    assert_eq!(world.upstream.calls().len(), 3);
    let records = world.take_records();
    assert_eq!(records[2].outcome, Outcome::ProviderError);
    assert!(records[2].is_last);
}

#[tokio::test(start_paused = true)]
async fn retries_are_a_share_of_the_traffic_here_too() {
    let world = world(TWICE, (0..200).map(|_| down(500)));
    for _ in 0..20 {
        world.chat(ASK).await;
    }
    // Four are earned, and three a second are there in any case.
    let calls = world.upstream.calls().len();
    assert!((23..60).contains(&calls), "{calls}");
}
