//! `Idempotency-Key` where things go wrong: what is not worth keeping is not kept, and nothing grows.

use policy::directory::Kind;
use relay::{FailureKind, Outcome};
use tokio::time::{sleep, timeout};

use crate::idempotency::{ANSWER, named};
use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, Answer, DONE, FINISH, LAB, World, all, chat, chunk, keyed, last_error, local,
    seconds,
};

const ADA: &str = "mk-of-ada-0123456789";

async fn ask(world: &World, body: &'static str, name: &str) -> Answer {
    world.ask(named(chat(body), name)).await
}

/// Replies that end badly, and how.
fn failing() -> Vec<(Reply, &'static str, u16, Outcome)> {
    let error = |status: u16| {
        Reply::status(status)
            .header("content-type", "application/json")
            .data(r#"{"error":{"message":"no"}}"#)
            .after(seconds(1))
    };
    let stream = || Reply::stream().data(chunk("a")).wait(seconds(1));
    vec![
        (error(429), ASK, 429, Outcome::ProviderError),
        (error(500), ASK, 500, Outcome::ProviderError),
        (error(401), ASK, 401, Outcome::ProviderError),
        (Reply::failing(FailureKind::NoReply).after(seconds(1)), ASK, 502, Outcome::Unreachable),
        (stream().fail(FailureKind::Cut), ASK_STREAM, 200, Outcome::Truncated),
        (stream().hang(), ASK_STREAM, 200, Outcome::TimedOut),
        (
            stream().data("data: {\"error\":{\"message\":\"no\"}}\n\n"),
            ASK_STREAM,
            200,
            Outcome::ProviderError,
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_not_worth_keeping_is_shared_by_those_who_joined_and_asked_anew_after_that() {
    for (reply, body, status, outcome) in failing() {
        local(async {
            let stream = Reply::stream().data([&chunk("b"), FINISH, DONE].concat());
            let good = if body == ASK { Reply::json(ANSWER) } else { stream };
            let world = World::lab([reply, good]);
            let read = || async { ask(&world, body, "f").await.until_failure().await };
            let ends = all([read(), read(), read()]).await;
            assert!(ends.iter().all(|end| end.0 == ends[0].0), "{ends:?}");
            let records = world.take_records();
            assert_eq!(records.len(), 3);
            for record in &records {
                assert_eq!((record.outcome, record.status), (outcome, status));
            }
            assert!(records.iter().all(|record| record.fault == records[0].fault));
            assert_eq!(records.iter().filter(|record| record.asked).count(), 1);
            assert_eq!(world.upstream.calls().len(), 1);
            let again = ask(&world, body, "f").await;
            assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (200, None));
            assert!(!again.until_failure().await.0.contains("error"));
            assert_eq!(world.upstream.calls().len(), 2);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_at_fault_is_told_so_again_without_being_asked() {
    local(async {
        let bad = Reply::status(400)
            .header("content-type", "application/json")
            .data(r#"{"error":{"message":"temperature","type":"invalid_request_error"}}"#);
        let world = World::lab([bad]);
        let first = ask(&world, ASK, "b").await.read().await;
        let again = ask(&world, ASK, "b").await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!((again.read().await, first.0.as_u16()), (first, 400));
        world.upstream.call();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_before_any_provider_was_asked_is_not_kept() {
    local(async {
        let world = World::lab([Reply::json(ANSWER)]);
        world.log.full.set(true);
        assert_eq!(ask(&world, ASK, "r").await.status, 503);
        world.log.full.set(false);
        assert_eq!(ask(&world, "not json", "r").await.status, 400);
        assert_eq!(ask(&world, r#"{"model":"nobody/x","messages":[]}"#, "r").await.status, 404);
        assert_eq!(ask(&world, ASK, "r").await.status, 200);
        world.upstream.call();
        assert_eq!(world.records(), 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_takes_a_request_of_its_limits_and_nothing_else() {
    local(async {
        let limits = "limits: { rpm: 3, tpm: 50, concurrency: 2 }, budget: $1/day";
        let yaml = format!(
            "{LAB}prices: {{ lab/*: {{ input: \"1\", output: \"2\", max_output: 1000 }} }}
keys: [{{ name: ada-1, key: {ADA}, {limits} }}]\n"
        );
        let world = World::of(&yaml, [Reply::json(ANSWER)]);
        let ada = || world.ask(named(keyed(chat(ASK), ADA), "q"));
        ada().await.read().await;
        let (tokens, budget) =
            (world.left(Kind::Key, "ada-1", "tpm"), world.budget(Kind::Key, "ada-1"));
        for left in ["1", "0"] {
            let answer = ada().await;
            assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
            assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 1, "while it is read");
            answer.read().await;
        }
        assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 2);
        assert_eq!(world.left(Kind::Key, "ada-1", "tpm"), tokens);
        assert_eq!(world.budget(Kind::Key, "ada-1").spent, budget.spent);
        assert_eq!(ada().await.error().await.1["code"], "rate_limit_exceeded");
        world.upstream.call();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_waits_for_ends_with_its_clocks() {
    local(async {
        for (reply, body) in
            [(Reply::stream().data(chunk("a")).hang(), ASK_STREAM), (Reply::json("{").hang(), ASK)]
        {
            let world = World::of(&format!("{LAB}timeouts: {{ total: 5m, idle: 2m }}\n"), [reply]);
            let left = timeout(seconds(1), async { ask(&world, body, "c").await.read().await });
            assert!(left.await.is_err());
            sleep(seconds(100)).await;
            assert_eq!((world.upstream.fates.open.get(), world.records()), (1, 0));
            sleep(seconds(201)).await;
            assert_eq!(world.upstream.fates.open.get(), 0);
            assert_eq!(world.record().outcome, Outcome::TimedOut);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_goes_to_all_who_joined_early_and_is_not_kept() {
    local(async {
        let mut reply = Reply::stream().data(chunk("a")).wait(seconds(1));
        for _ in 0..1100 {
            reply = reply.data(chunk(&"x".repeat(4_000)));
        }
        let reply = reply.wait(seconds(5)).data([FINISH, DONE].concat());
        let world = World::lab([reply.clone(), reply]);
        let read = |after: u64| {
            let world = &world;
            async move {
                sleep(seconds(after)).await;
                let answer = ask(world, ASK_STREAM, "big").await;
                let replayed = answer.header("idempotent-replayed").is_some();
                (replayed, answer.bytes().await)
            }
        };
        let mut answers = all([read(0), read(0), read(3), read(12)]).await;
        answers.sort_by_key(|(replayed, _)| *replayed);
        let replayed: Vec<bool> = answers.iter().map(|(replayed, _)| *replayed).collect();
        // One joined the first; the third came when the beginning was gone, the last after the end.
        assert_eq!(replayed, [false, false, false, true]);
        assert!(answers[0].1.ends_with(DONE.as_bytes()) && answers[0].1 == answers[3].1);
        assert_eq!(world.upstream.calls().len(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_oldest_answers_are_forgotten_when_the_memory_is_used_up() {
    local(async {
        let yaml = format!("{LAB}idempotency: {{ size: 100KiB }}\n");
        let answer = format!(r#"{{"text":"{}"}}"#, "x".repeat(20 << 10));
        let world = World::of(&yaml, (0..50).map(|_| Reply::json(answer.clone())));
        for number in 0..20 {
            ask(&world, ASK, &format!("n{number}")).await.read().await;
        }
        assert_eq!(world.upstream.calls().len(), 20);
        let mut kept = 0;
        for number in (0..20).rev() {
            let again = ask(&world, ASK, &format!("n{number}")).await;
            match again.header("idempotent-replayed") {
                Some(_) => kept += 1,
                None => break,
            }
            again.read().await;
        }
        assert_eq!(kept, 4);
        // What does not fit at all is answered like any other.
        let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(200 << 10));
        let world = World::of(&yaml, [large.clone(), large.clone()].map(Reply::json));
        for _ in 0..2 {
            let answer = ask(&world, ASK, "large").await;
            assert_eq!(answer.header("idempotent-replayed"), None);
            assert_eq!(answer.read().await.1, large);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_the_request_and_those_who_joined_and_nobody_after_them() {
    local(async {
        let late = Reply::stream().data(chunk("a")).wait(seconds(1)).panic();
        let world = World::lab([Reply::panicking().after(seconds(1)), Reply::json(ANSWER), late]);
        let read = || async { ask(&world, ASK, "p").await.error().await };
        for (status, error) in all([read(), read()]).await {
            assert_eq!((status, error["code"].as_str()), (500, Some("internal_error")));
        }
        let records = world.take_records();
        assert!(records.iter().all(|it| it.outcome == Outcome::Failed), "{}", records.len());
        assert_eq!((records.len(), records.iter().filter(|it| it.asked).count()), (2, 1));
        assert_eq!(ask(&world, ASK, "p").await.read().await.1, ANSWER);
        world.take_records();

        // In the middle of a stream, which says so.
        let read = || async { ask(&world, ASK_STREAM, "s").await.until_failure().await };
        for (text, failure) in all([read(), read()]).await {
            assert!(failure.is_none() && text.starts_with(&chunk("a")), "{text}");
            assert_eq!(last_error(&text)["code"], "internal_error");
        }
        assert_eq!((world.records(), world.upstream.fates.open.get()), (2, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_shared_end_with_an_error_when_the_process_stops() {
    local(async {
        let world = World::lab([Reply::stream().data(chunk("a")).hang()]);
        let other = world.beside([]);
        let stops = async {
            sleep(seconds(3)).await;
            world.shed.set();
            Vec::new()
        };
        let reads = [&world, &world, &other]
            .map(|world| async move { ask(world, ASK_STREAM, "z").await.bytes().await });
        let (_, texts) = tokio::join!(stops, all(reads)) as (Vec<u8>, _);
        for text in texts {
            let text = String::from_utf8(text).unwrap();
            assert_eq!(last_error(&text)["code"], "shutting_down");
        }
        assert!(world.take_records().iter().all(|it| it.outcome == Outcome::Shed));
        assert_eq!(other.record().outcome, Outcome::Shed);
    })
    .await;
}
