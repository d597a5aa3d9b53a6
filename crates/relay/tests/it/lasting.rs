//! The end of an answer waits until its record lasts, where that is asked for.

use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::Request;
use relay::{FailureKind, Latch, Outcome};
use tokio::time::Instant;

use crate::scripted::{Reply, ScriptBody};
use crate::world::{ASK, ASK_STREAM, Answer, DONE, FINISH, World, chat, chunk, get, post, seconds};

/// A world whose records last when the latch is set.
fn world(replies: impl IntoIterator<Item = Reply>) -> (World, Rc<Latch>) {
    let (world, disk) = (World::lab(replies), Rc::<Latch>::default());
    *world.log.disk.borrow_mut() = Some(Rc::clone(&disk));
    (world, disk)
}

/// Whether nothing comes for a minute.
async fn is_held(answer: &mut Answer) -> bool {
    tokio::time::timeout(seconds(60), answer.next()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_waits() {
    for (request, reply) in [
        (chat(ASK), Reply::json("{}")),
        (chat(ASK), Reply::status(500)),
        (chat("{"), Reply::json("{}")),
        (post("/v1/embeddings", ASK), Reply::json("{}")),
        (get("/v1/models"), Reply::json("{}")),
        (get("/v1/files/f"), Reply::json("{}")),
    ] {
        let (world, disk) = world([reply]);
        let start = Instant::now();
        let (answer, ()) = tokio::join!(world.ask(request), async {
            tokio::time::sleep(seconds(30)).await;
            assert_eq!(world.records(), 1, "the record is there before it lasts");
            disk.set();
        });
        assert_eq!(start.elapsed(), seconds(30));
        answer.read().await;
        assert_eq!(world.records(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_waits_and_nothing_before_it() {
    let stream = || Reply::stream().data(chunk("a")).wait(seconds(1)).data(chunk("b"));
    for (name, reply, end, outcome) in [
        ("done", stream().wait(seconds(1)).data(DONE), Some(DONE.to_owned()), Outcome::Complete),
        (
            "all at once",
            stream().wait(seconds(1)).data([FINISH, DONE].concat()),
            Some([FINISH, DONE].concat()),
            Outcome::Complete,
        ),
        ("cut", stream().wait(seconds(1)).fail(FailureKind::Cut), None, Outcome::Truncated),
        (
            "error",
            stream().wait(seconds(1)).data("data: {\"error\":{\"message\":\"m\"}}\n\n"),
            None,
            Outcome::ProviderError,
        ),
    ] {
        let (world, disk) = world([reply]);
        let mut answer = world.ask(chat(ASK_STREAM)).await;
        for text in ["a", "b"] {
            let data = answer.next().await.unwrap().unwrap();
            assert_eq!(data, chunk(text), "{name}");
        }
        assert_eq!(world.records(), 0);
        assert!(is_held(&mut answer).await, "{name}");
        assert_eq!(world.record().outcome, outcome, "{name}");
        disk.set();
        let last = answer.next().await.unwrap().unwrap();
        assert!(end.is_none_or(|end| last == end), "{name}: {last:?}");
        assert!(answer.next().await.is_none(), "{name}");
        assert_eq!(world.records(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_just_ends_waits_with_its_end() {
    let finished = || Reply::stream().data([chunk("a"), FINISH.to_owned()].concat());
    let (world, disk) = world([finished().wait(seconds(1)).data("")]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    answer.next().await.unwrap().unwrap();
    assert_eq!(world.records(), 0, "the provider may still say something");
    assert!(is_held(&mut answer).await);
    assert_eq!(world.record().outcome, Outcome::Complete);
    disk.set();
    assert!(answer.next().await.is_none());
}

fn opaque() -> Vec<(Request<ScriptBody>, Reply)> {
    let bytes = || Reply::status(200).header("content-type", "audio/mpeg").data("abc");
    let event = "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n";
    vec![
        (get("/v1/audio/speech"), bytes().wait(seconds(1)).data("")),
        (get("/v1/files/f/content"), bytes().wait(seconds(1)).data("def")),
        (post("/v1/responses", ASK_STREAM), Reply::stream().wait(seconds(1)).data(event)),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_passed_on_unread_waits_too() {
    for (request, reply) in opaque() {
        let path = request.uri().to_string();
        let (world, disk) = world([reply]);
        let start = Instant::now();
        let mut answer = world.ask(request).await;
        let (waited, ()) = tokio::join!(
            async {
                while let Some(frame) = answer.next().await {
                    frame.unwrap();
                }
                start.elapsed()
            },
            async {
                tokio::time::sleep(seconds(30)).await;
                assert_eq!(world.record().outcome, Outcome::Complete, "{path}");
                disk.set();
            }
        );
        assert_eq!(waited, seconds(30), "{path}");
        let took = world.record().total;
        assert!(took <= seconds(2), "the wait is no part of the request: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_meanwhile_changes_nothing() {
    let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n";
    for (body, reply) in [
        (ASK, Reply::json("{}")),
        (ASK_STREAM, Reply::stream().data([FINISH, usage, DONE].concat())),
        (ASK_STREAM, Reply::stream().data(chunk("a")).data(FINISH)),
    ] {
        let (world, _disk) = world([reply]);
        {
            let mut asking = pin!(async {
                let mut answer = world.ask(chat(body)).await;
                while answer.next().await.is_some() {}
            });
            for _ in 0..20 {
                let polled = std::future::poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await;
                assert!(polled.is_pending());
                tokio::time::sleep(seconds(1)).await;
            }
        }
        let record = world.record();
        assert_eq!((record.outcome, record.status), (Outcome::Complete, 200), "{body}");
    }
}
