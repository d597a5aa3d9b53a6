//! The clocks: how long a provider may take, and for what. The clock of these tests is paused.

use std::time::Duration;

use relay::Outcome;
use tokio::time::{Instant, sleep};

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, LAB, World, chat, chunk, error_in, get, last_error, millis,
    seconds, upload,
};

/// Clocks of 1 s, 10 s, 5 s and 60 s.
fn clocks() -> String {
    format!("timeouts: {{ connect: 1s, first_event: 10s, idle: 5s, total: 60s }}\n{LAB}")
}

fn assert_near(time: Duration, expected: Duration) {
    let difference = time.abs_diff(expected);
    assert!(difference <= millis(100), "{time:?} instead of {expected:?}");
}

fn assert_timed_out(world: &World, status: u16) {
    let record = world.record();
    assert_eq!(record.outcome, Outcome::TimedOut);
    assert_eq!((record.status, record.fault), (status, Some("provider_timeout")));
    assert_eq!(world.upstream.fates.open.get(), 0, "the call is given up");
    assert_eq!(world.upstream.fates.cancelled.get(), 1);
}

/// The stream with its error, how long it took, and what is left of the world.
async fn stalled(reply: Reply) -> (String, Duration, World) {
    let world = World::of(&clocks(), [reply]);
    let start = Instant::now();
    let (status, answer) = world.chat(ASK_STREAM).await;
    assert_eq!(status, 200);
    assert_eq!(last_error(&answer)["code"], "provider_timeout");
    (answer, start.elapsed(), world)
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_head_does_not_come_is_given_up_with_504() {
    let world = World::of(&clocks(), [Reply::stream().after(seconds(3_600))]);
    let start = Instant::now();
    let (status, body) = world.chat(ASK_STREAM).await;
    assert_eq!(status, 504);
    assert_near(start.elapsed(), seconds(11));
    let error = error_in(&body);
    assert_eq!(
        (error["code"].as_str(), error["type"].as_str()),
        (Some("provider_timeout"), Some("upstream_error"))
    );
    assert_timed_out(&world, 504);
}

#[tokio::test(start_paused = true)]
async fn the_connect_clock_is_given_to_the_network() {
    let world = World::of(&clocks(), [Reply::json("{}")]);
    world.chat(ASK).await;
    assert_eq!(world.upstream.call().connect, seconds(1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_first_event_ends_with_an_error_event() {
    let (_, time, world) = stalled(Reply::stream().after(seconds(4)).hang()).await;
    assert_near(time, seconds(11));
    assert_timed_out(&world, 200);
}

#[tokio::test(start_paused = true)]
async fn comments_are_no_first_event() {
    let mut reply = Reply::stream();
    for _ in 0..100 {
        reply = reply.data(": keep-alive\n\n").wait(seconds(1));
    }
    let (answer, time, world) = stalled(reply).await;
    assert_near(time, seconds(11));
    assert!(answer.matches("keep-alive").count() >= 10, "they pass all the same");
    assert_timed_out(&world, 200);
}

#[tokio::test(start_paused = true)]
async fn half_an_event_is_no_event() {
    let mut reply = Reply::stream();
    for byte in chunk("a").bytes() {
        reply = reply.data(vec![byte]).wait(seconds(1));
    }
    let (answer, time, _) = stalled(reply).await;
    assert_near(time, seconds(11));
    assert!(answer.starts_with("data: {\"error\""), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn the_pause_between_two_events_is_bounded() {
    for before in [seconds(0), seconds(2), seconds(10)] {
        let reply = Reply::stream()
            .wait(before)
            .data(chunk("a"))
            .wait(millis(4_900))
            .data(chunk("b"))
            .wait(millis(5_200))
            .data([FINISH, DONE].concat());
        let (answer, time, world) = stalled(reply).await;
        assert_near(time, before + millis(9_900));
        assert!(answer.starts_with(&[chunk("a"), chunk("b")].concat()));
        assert_timed_out(&world, 200);
        assert_eq!(world.record().events, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn comments_do_not_fill_the_pause_between_two_events() {
    for pause in [millis(300), seconds(1), seconds(3)] {
        let mut reply = Reply::stream().data(chunk("a"));
        for _ in 0..40 {
            reply = reply.wait(pause).data(": keep-alive\n\n");
        }
        let (_, time, world) = stalled(reply).await;
        assert_near(time, seconds(5));
        assert_timed_out(&world, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_steady_events_may_take_all_of_the_total() {
    let mut reply = Reply::stream();
    for _ in 0..14 {
        reply = reply.data(chunk("a")).wait(millis(4_000));
    }
    let world = World::of(&clocks(), [reply.data([FINISH, DONE].concat())]);
    let (_, answer) = world.chat(ASK_STREAM).await;
    assert!(answer.ends_with(DONE));
    assert_eq!(world.record().outcome, Outcome::Complete);
    assert_eq!(world.record().total.as_secs(), 56);
}

#[tokio::test(start_paused = true)]
async fn the_total_ends_even_a_steady_stream() {
    let mut reply = Reply::stream();
    for _ in 0..200 {
        reply = reply.data(chunk("a")).wait(millis(700));
    }
    let (_, time, world) = stalled(reply).await;
    assert_near(time, seconds(60));
    assert_timed_out(&world, 200);
    assert_eq!(world.record().events, 86);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_streamed_may_take_all_of_the_total_and_no_more() {
    let world = World::of(&clocks(), [Reply::json(r#"{"a":1}"#).after(seconds(59))]);
    assert_eq!(world.chat(ASK).await.0, 200);
    let body = || Reply::json("{\"a\":").wait(seconds(40)).data("1}");
    for (reply, ok) in [
        (body().after(seconds(19)), true),
        (body().after(seconds(21)), false),
        (Reply::json("{}").after(seconds(61)), false),
    ] {
        let world = World::of(&clocks(), [reply]);
        let start = Instant::now();
        let (status, _) = world.chat(ASK).await;
        assert_eq!(status.as_u16(), if ok { 200 } else { 504 });
        if !ok {
            assert_near(start.elapsed(), seconds(60));
            assert_timed_out(&world, 504);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_no_stalled_provider() {
    let mut reply = Reply::stream();
    for _ in 0..10 {
        reply = reply.data(chunk("a")).wait(seconds(1));
    }
    let world = World::of(LAB, [reply.data([FINISH, DONE].concat())]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    answer.next().await.unwrap().unwrap();
    sleep(seconds(300)).await;
    let rest = answer.bytes().await;
    assert!(rest.ends_with(DONE.as_bytes()));
    assert_eq!(world.record().outcome, Outcome::Complete);
    assert_eq!(world.record().events, 11);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_looks_in_every_few_minutes_gets_everything() {
    let mut reply = Reply::stream();
    for _ in 0..1_000 {
        reply = reply.data(chunk(&"a".repeat(1_000)));
    }
    let world = World::of(LAB, [reply.data([FINISH, DONE].concat())]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    let mut length = 0;
    while let Some(frame) = answer.next().await {
        length += frame.unwrap().len();
        sleep(seconds(200)).await;
    }
    assert!(length > 1_000_000);
    assert_eq!(world.record().outcome, Outcome::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_falls_silent_is_noticed_behind_a_slow_client() {
    let reply = Reply::stream().data(chunk("a")).hang();
    let world = World::of(&clocks(), [reply]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    answer.next().await.unwrap().unwrap();
    sleep(seconds(30)).await;
    let rest = String::from_utf8(answer.bytes().await).unwrap();
    assert_eq!(last_error(&rest)["code"], "provider_timeout");
    assert_timed_out(&world, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_slowly_takes_nothing_from_the_providers_time() {
    let mut body = Reply::status(200);
    for piece in ASK_STREAM.as_bytes().chunks(ASK_STREAM.len() / 5 + 1) {
        body = body.data(piece.to_vec()).wait(seconds(7));
    }
    let reply = Reply::stream().after(seconds(5)).wait(seconds(3)).data([FINISH, DONE].concat());
    let world = World::of(&clocks(), [reply]);
    let answer = world.ask(upload("/v1/chat/completions", &body)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.bytes().await.ends_with(DONE.as_bytes()));
    assert_eq!(world.record().outcome, Outcome::Complete);
}

#[tokio::test(start_paused = true)]
async fn clocks_of_a_model_come_before_those_of_its_provider() {
    let yaml = "
timeouts: { first_event: 10s }
providers:
  lab:
    profile: sglang
    timeouts: { first_event: 20s, connect: 2s }
models:
  fast: { target: lab/m, timeouts: { first_event: 3s } }
";
    for (model, due) in [("fast", 5), ("lab/m", 22)] {
        let world = World::of(yaml, [Reply::stream().hang()]);
        let start = Instant::now();
        let body = format!(r#"{{"model":"{model}","messages":[1],"stream":true}}"#);
        world.chat(body).await;
        assert_near(start.elapsed(), seconds(due));
    }
}

#[tokio::test(start_paused = true)]
async fn a_passed_answer_that_falls_silent_breaks_off() {
    let reply = Reply::status(200)
        .header("content-type", "audio/mpeg")
        .data("abc")
        .wait(seconds(4))
        .data("def")
        .hang();
    let world = World::of(&clocks(), [reply]);
    let start = Instant::now();
    let mut answer = world.ask(get("/v1/audio/x")).await;
    assert_eq!(answer.next().await.unwrap().unwrap(), "abc");
    assert_eq!(answer.next().await.unwrap().unwrap(), "def");
    let failure = answer.next().await.unwrap().unwrap_err();
    assert_eq!(failure.kind, relay::FailureKind::Cut);
    assert_near(start.elapsed(), seconds(9));
    let record = world.record();
    assert_eq!((record.outcome, record.status), (Outcome::TimedOut, 200));
}
