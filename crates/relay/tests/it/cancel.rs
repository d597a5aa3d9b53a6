//! Ends from this side: the client leaves, the process stops, nobody reads.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use relay::Outcome;
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, World, chat, chunk, get, last_error, millis, seconds, upload,
};

fn assert_gone(world: &World, status: u16) {
    let record = world.record();
    assert_eq!(record.outcome, Outcome::ClientGone);
    assert_eq!((record.status, record.fault), (status, None));
    assert_eq!(world.upstream.fates.open.get(), 0);
    assert_eq!(world.upstream.fates.cancelled.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_the_head_cancels_the_call_at_once() {
    for body in [ASK, ASK_STREAM] {
        let world = World::lab([Reply::json("{}").after(seconds(100))]);
        let asked = timeout(seconds(3), world.ask(chat(body))).await;
        assert!(asked.is_err());
        assert_gone(&world, 0);
        let left = world.upstream.fates.cancelled_at.get().unwrap();
        assert!(left.elapsed() < millis(1));
        assert_eq!(world.record().total.as_secs(), 3);
        assert_eq!(&*world.record().model, "chat");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_an_answer_cancels_the_call_at_once() {
    let reply = Reply::json("{\"a\":").wait(seconds(100)).data("1}");
    let world = World::lab([reply]);
    assert!(timeout(seconds(3), world.ask(chat(ASK))).await.is_err());
    assert_gone(&world, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_a_stream_cancels_the_call_at_once() {
    let reply = Reply::stream()
        .data([chunk("a"), chunk("b")].concat())
        .wait(seconds(100))
        .data([FINISH, DONE].concat());
    let world = World::lab([reply]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    answer.next().await.unwrap().unwrap();
    assert!(timeout(seconds(2), answer.next()).await.is_err());
    assert_eq!(world.records(), 0);
    assert_eq!(world.upstream.fates.cancelled.get(), 0);
    drop(answer);
    assert_gone(&world, 200);
    assert_eq!(world.record().events, 2);
    assert_eq!(world.record().total.as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_its_stream_cancels_the_call_when_it_leaves() {
    let world = World::lab([Reply::stream().data(chunk("a")).hang()]);
    let answer = world.ask(chat(ASK_STREAM)).await;
    drop(answer);
    assert_gone(&world, 200);
    assert_eq!(world.record().events, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_passed_answer_cancels_the_call() {
    let reply = Reply::status(200).data("abc").hang();
    let world = World::lab([reply]);
    let mut answer = world.ask(get("/v1/files/x/content")).await;
    assert_eq!(answer.next().await.unwrap().unwrap(), "abc");
    drop(answer);
    assert_gone(&world, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_its_body_never_reaches_a_provider() {
    let world = World::lab([]);
    let script = Reply::status(200).data(&ASK.as_bytes()[..20]).hang();
    let request = upload("/v1/chat/completions", &script);
    assert!(timeout(seconds(3), world.ask(request)).await.is_err());
    assert_eq!(world.upstream.calls().len(), 0);
    assert_eq!(world.record().outcome, Outcome::ClientGone);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_from_a_provider_whose_client_does_not_read() {
    let mut reply = Reply::stream();
    for _ in 0..400 {
        reply = reply.data(chunk(&"x".repeat(4_000)));
    }
    let world = World::lab([reply.data([FINISH, DONE].concat())]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    sleep(seconds(10)).await;
    let taken = &world.upstream.fates.taken;
    assert_eq!(taken.get(), 0);
    let mut got = 0;
    for _ in 0..5 {
        got += answer.next().await.unwrap().unwrap().len();
        sleep(seconds(10)).await;
        let held = taken.get() - got;
        assert!(held <= 64 << 10, "{held} bytes are held");
    }
    let rest = answer.bytes().await;
    assert!(rest.ends_with(DONE.as_bytes()));
}

/// Polls once and expects nothing.
fn assert_pending(future: impl Future) {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_to_end_because_the_process_stops_says_so() {
    let reply = Reply::stream().data(chunk("a")).wait(seconds(50)).data([FINISH, DONE].concat());
    let world = World::lab([reply]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    answer.next().await.unwrap().unwrap();
    assert_pending(answer.next());
    world.shed.set();
    let rest = String::from_utf8(answer.bytes().await).unwrap();
    let error = last_error(&rest);
    assert_eq!(error["code"], "shutting_down");
    assert_eq!(error["type"], "server_error");
    let record = world.record();
    assert_eq!(record.outcome, Outcome::Shed);
    assert_eq!((record.status, record.fault), (200, Some("shutting_down")));
    assert_eq!(record.events, 1);
    assert_eq!(world.upstream.fates.cancelled.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_had_its_normal_end_gets_no_error_behind_it_when_the_process_stops() {
    let stream = [&chunk("a"), FINISH, DONE].concat();
    let world = World::lab([Reply::stream().data(stream.clone()).hang()]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    assert_eq!(answer.next().await.unwrap().unwrap(), stream);
    world.shed.set();
    assert!(answer.next().await.is_none());
    assert_eq!(world.record().outcome, Outcome::Complete);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_not_streamed_are_finished_though_the_process_stops() {
    let world = World::lab([Reply::json(r#"{"a":1}"#).after(seconds(5))]);
    world.shed.set();
    let start = Instant::now();
    assert_eq!(world.chat(ASK).await.0, 200);
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(world.record().outcome, Outcome::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_is_woken_when_the_process_stops() {
    let world = World::lab([Reply::stream().data(chunk("a")).hang()]);
    let shed = std::rc::Rc::clone(&world.shed);
    let start = Instant::now();
    let local = tokio::task::LocalSet::new();
    let answer = local.run_until(async {
        tokio::task::spawn_local(async move {
            sleep(seconds(7)).await;
            shed.set();
        });
        world.ask(chat(ASK_STREAM)).await.read().await.1
    });
    assert_eq!(last_error(&answer.await)["code"], "shutting_down");
    assert_eq!(start.elapsed().as_secs(), 7);
    assert_eq!(world.record().outcome, Outcome::Shed);
}

#[tokio::test(start_paused = true)]
async fn a_passed_answer_breaks_off_when_the_process_stops() {
    let world = World::lab([Reply::status(200).data("abc").hang()]);
    let mut answer = world.ask(get("/v1/files/x/content")).await;
    assert_eq!(answer.next().await.unwrap().unwrap(), "abc");
    assert_pending(answer.next());
    world.shed.set();
    assert!(answer.next().await.unwrap().is_err());
    assert!(answer.next().await.is_none());
    assert_eq!(world.record().outcome, Outcome::Shed);
    assert_eq!(world.upstream.fates.cancelled.get(), 1);
}
