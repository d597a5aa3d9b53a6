//! Single flight: identical requests at the same time share one call and its answer.

use std::rc::Rc;

use bytes::Bytes;
use relay::{Outcome, Provenance};
use tokio::time::{Instant, sleep, timeout};

use crate::idempotency::ANSWER;
use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, Answer, DONE, FINISH, LAB, World, all, chat, chunk, local, millis, seconds,
    with_header,
};

/// The same as [`LAB`], shared.
pub(crate) fn shared(more: &str) -> String {
    let long = "chat: { target: lab/up-model, single_flight: true }";
    format!("{}{more}", LAB.replace("chat: lab/up-model", long))
}

async fn ask(world: &World, body: &'static str) -> Answer {
    world.ask(chat(body)).await
}

fn slow_stream() -> Reply {
    let reply = Reply::stream().data(chunk("a")).wait(seconds(2)).data(chunk("b"));
    reply.wait(seconds(2)).data([FINISH, DONE].concat())
}

#[tokio::test(start_paused = true)]
async fn identical_requests_share_one_call_from_its_beginning() {
    local(async {
        let world = World::of(&shared(""), [slow_stream()]);
        let read = |after: u64| {
            let world = &world;
            async move {
                sleep(seconds(after)).await;
                let answer = ask(world, ASK_STREAM).await;
                let told = answer.header("x-magpie-shared").map(str::to_owned);
                assert_eq!(answer.header("idempotent-replayed"), None);
                (told, answer.frames().await)
            }
        };
        let answers = all([read(0), read(1), read(3)]).await;
        let text = |frames: &[(_, Bytes)]| -> Vec<u8> {
            frames.iter().flat_map(|(_, data)| data.to_vec()).collect()
        };
        let at = |frames: &[(std::time::Duration, Bytes)]| -> Vec<u64> {
            frames.iter().map(|(at, _)| at.as_secs()).collect()
        };
        assert_eq!(at(&answers[0].1), [0, 2, 4]);
        assert_eq!(at(&answers[1].1), [0, 1, 3]);
        assert_eq!(at(&answers[2].1), [0, 1], "what is there comes at once");
        assert!(answers.iter().all(|(_, frames)| text(frames) == text(&answers[0].1)));
        let told: Vec<Option<&str>> = answers.iter().map(|(told, _)| told.as_deref()).collect();
        assert_eq!(told, [None, Some("joined"), Some("joined")]);

        world.upstream.call();
        let records = world.take_records();
        assert_eq!(records.iter().filter(|it| it.asked).count(), 1);
        for record in records.iter().filter(|it| it.shared) {
            assert_eq!((record.asked, record.attempt, record.usage), (false, 0, None));
            assert_eq!((record.outcome, record.status), (Outcome::Complete, 200));
            assert_eq!(record.provenance, Provenance::None);
            assert!(record.stream && record.first_event.is_some());
        }
        assert_eq!(records.iter().filter(|it| it.shared).count(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_composed_of_one_that_shares_does_not() {
    local(async {
        let both = "both: { cascade: [lab/small, chat] }\n";
        let yaml = shared("").replace("models:\n", &format!("models:\n  {both}"));
        let answer = r#"{"choices":[{"message":{"content":"yes"},"finish_reason":"stop"}]}"#;
        let world = World::of(&yaml, (0..2).map(|_| Reply::json(answer).after(seconds(1))));
        let body = ASK.replace("\"chat\"", "\"both\"");
        let answers = all([world.ask(chat(body.clone())), world.ask(chat(body))]).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_eq!(world.upstream.calls().len(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_behind_the_end() {
    local(async {
        let world = World::of(&shared(""), (0..3).map(|_| Reply::json(ANSWER)));
        for calls in 1..=3 {
            let answer = ask(&world, ASK).await;
            // An answer in one piece is over when its head is there.
            let beside = ask(&world, ASK).await;
            assert_eq!(answer.header("x-magpie-shared"), None);
            drop(beside);
            answer.read().await;
            assert!(world.upstream.calls().len() >= calls);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_where_it_was_asked_for_and_only_what_is_the_same() {
    local(async {
        let slow = || (0..8).map(|_| Reply::json(ANSWER).after(seconds(1)));
        let world = World::lab(slow());
        all([ask(&world, ASK), ask(&world, ASK)]).await;
        assert_eq!(world.upstream.calls().len(), 2, "off by default");

        let calls = async |requests: Vec<http::Request<_>>| {
            let world = World::of(&shared(""), slow());
            all(requests.into_iter().map(|request| world.ask(request))).await;
            world.upstream.calls().len()
        };
        let with = |name, value| with_header(chat(ASK), name, value);
        assert_eq!(calls(vec![chat(ASK), chat(ASK), chat(ASK)]).await, 1);
        // What does not change the answer.
        let mut same = vec![chat(ASK), with("user-agent", "a"), with("traceparent", "00-1-1-00")];
        same.extend([with("x-stainless-retry-count", "1"), with("x-client-request-id", "7")]);
        assert_eq!(calls(same).await, 1);
        // What might.
        assert_eq!(calls(vec![chat(ASK), with("openai-beta", "x")]).await, 2);
        assert_eq!(calls(vec![chat(ASK), with("accept-language", "zh")]).await, 2);
        assert_eq!(
            calls(vec![chat(ASK), crate::world::post("/v1/chat/completions?a=1", ASK)]).await,
            2
        );
        assert_eq!(calls(vec![chat(ASK), chat(format!("{ASK} "))]).await, 2);
        let stream = calls(vec![
            chat(ASK),
            chat(r#"{"model":"chat","messages":[{"role":"user","content":"ho"}]}"#),
        ]);
        assert_eq!(stream.await, 2);
        // The order of headers does not.
        let two = |one, other| with_header(with(one, "1"), other, "1");
        assert_eq!(
            calls(vec![two("openai-beta", "accept"), two("accept", "openai-beta")]).await,
            1
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_call_goes_on_as_long_as_anyone_reads_it() {
    local(async {
        let world = World::of(&shared(""), [slow_stream()]);
        let (left, stayed) = tokio::join!(
            timeout(seconds(1), async { ask(&world, ASK_STREAM).await.bytes().await }),
            async { ask(&world, ASK_STREAM).await.read().await.1 },
        );
        assert!(left.is_err());
        assert_eq!(stayed, [&chunk("a"), &chunk("b"), FINISH, DONE].concat());
        assert_eq!(world.upstream.fates.cancelled.get(), 0);
        let records = world.take_records();
        assert!(records.iter().all(|it| it.outcome == Outcome::Complete));
        assert_eq!(records.len(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_call_is_cancelled_as_soon_as_all_have_left() {
    local(async {
        for (reply, body) in
            [(slow_stream(), ASK_STREAM), (Reply::json(ANSWER).after(seconds(9)), ASK)]
        {
            let world = World::of(&shared(""), [reply, slow_stream()]);
            let start = Instant::now();
            let leaving = |after: u64| {
                let world = &world;
                timeout(seconds(after), async move { ask(world, body).await.bytes().await })
            };
            let left = all([leaving(1), leaving(3), leaving(2)]).await;
            assert!(left.iter().all(Result::is_err));
            sleep(millis(1)).await;
            assert_eq!(world.upstream.fates.open.get(), 0);
            assert_eq!(world.upstream.fates.cancelled.get(), 1);
            let at = world.upstream.fates.cancelled_at.get().unwrap() - start;
            assert_eq!(at.as_secs(), 3, "when the last has left");
            let records = world.take_records();
            assert_eq!(records.len(), 3);
            assert!(records.iter().all(|it| it.outcome == Outcome::ClientGone));
            // Whoever comes now does not get what was given up.
            if body == ASK_STREAM {
                assert!(ask(&world, body).await.read().await.1.ends_with(DONE));
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_get_the_same_bytes() {
    local(async {
        let mut reply = Reply::stream();
        for number in 0..100 {
            reply = reply.wait(millis(10)).data(chunk(&number.to_string().repeat(number % 50)));
        }
        let world = World::of(&shared(""), [reply.data([FINISH, DONE].concat())]);
        let read = |number: u64| {
            let world = &world;
            async move {
                sleep(millis(number)).await;
                ask(world, ASK_STREAM).await.bytes().await
            }
        };
        let texts = all((0..1000).map(read)).await;
        assert_eq!(texts.len(), 1000);
        assert!(texts[0].ends_with(DONE.as_bytes()));
        assert!(texts.iter().all(|text| *text == texts[0]));
        world.upstream.call();
        assert_eq!(world.records(), 1000);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_waits_for_the_slowest_reader_once_nobody_can_join() {
    local(async {
        let mut reply = Reply::stream().data(chunk("a")).wait(seconds(1));
        for _ in 0..2000 {
            reply = reply.data(chunk(&"x".repeat(4_000)));
        }
        let world = Rc::new(World::of(&shared(""), [reply.data([FINISH, DONE].concat())]));
        let (quick, mut slow) = tokio::join!(ask(&world, ASK_STREAM), ask(&world, ASK_STREAM));
        slow.next().await.unwrap().unwrap();
        let reading = tokio::task::spawn_local(quick.bytes());
        sleep(seconds(5)).await;
        let taken = world.upstream.fates.taken.get();
        assert!((4 << 20..5 << 20).contains(&taken), "{taken}");
        let mut got = 0;
        for _ in 0..20 {
            got += slow.next().await.unwrap().unwrap().len();
            sleep(millis(10)).await;
        }
        assert!(got > 1 << 20 && world.upstream.fates.taken.get() == taken, "it is far behind");
        drop(slow);
        let whole = reading.await.unwrap();
        assert!(whole.ends_with(DONE.as_bytes()) && whole.len() > 8_000_000);
    })
    .await;
}
