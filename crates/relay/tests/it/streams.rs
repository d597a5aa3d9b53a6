//! Streams that go well: what arrives leaves, at once and as it came.

use bytes::Bytes;
use relay::Outcome;

use crate::scripted::Reply;
use crate::world::{ASK, ASK_STREAM, DONE, FINISH, LAB, World, chat, chunk, millis, post, seconds};

#[tokio::test(start_paused = true)]
async fn each_event_leaves_as_soon_as_it_is_complete() {
    let event = chunk("a");
    let (front, back) = event.split_at(20);
    let reply = Reply::stream()
        .wait(seconds(1))
        .data(event.clone())
        .wait(seconds(2))
        .data(front.to_owned())
        .wait(seconds(3))
        .data(back.to_owned())
        .wait(seconds(4))
        .data([": keep-alive\n\n", FINISH].concat())
        .wait(seconds(5))
        .data(DONE);
    let world = World::lab([reply]);
    let frames = world.ask(chat(ASK_STREAM)).await.frames().await;
    let times: Vec<u64> = frames.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(times, [1, 6, 10, 15]);
    assert!(frames.iter().all(|(at, _)| at.subsec_millis() <= 2));
    let sent: Vec<&[u8]> = frames.iter().map(|(_, data)| &data[..]).collect();
    let comment_and_end = [": keep-alive\n\n", FINISH].concat();
    assert_eq!(
        sent,
        [event.as_bytes(), event.as_bytes(), comment_and_end.as_bytes(), DONE.as_bytes()]
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_beginning_of_an_event_waits_for_its_end() {
    let reply = Reply::stream()
        .data([&chunk("one"), &chunk("two")[..9]].concat())
        .wait(seconds(7))
        .data([&chunk("two")[9..], FINISH, DONE].concat());
    let world = World::lab([reply]);
    let frames = world.ask(chat(ASK_STREAM)).await.frames().await;
    assert_eq!(frames[0].1, Bytes::from(chunk("one")));
    assert!(frames[0].0 < millis(5));
    assert_eq!(frames[1].1, [&chunk("two"), FINISH, DONE].concat());
    assert_eq!(frames.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn comments_leave_at_once_too() {
    let reply = Reply::stream()
        .data(": one\n\n")
        .wait(seconds(9))
        .data(":\n\n")
        .wait(seconds(9))
        .data([FINISH, DONE].concat());
    let world = World::lab([reply]);
    let frames = world.ask(chat(ASK_STREAM)).await.frames().await;
    let sent: Vec<&[u8]> = frames.iter().map(|(_, data)| &data[..]).collect();
    assert_eq!(sent, [b": one\n\n" as &[u8], b":\n\n", [FINISH, DONE].concat().as_bytes()]);
    assert_eq!(world.record().events, 1);
}

#[tokio::test(start_paused = true)]
async fn what_piled_up_leaves_in_one_piece() {
    let mut reply = Reply::stream();
    for word in ["a", "b", "c"] {
        reply = reply.data(chunk(word));
    }
    let world = World::lab([reply.data(FINISH).data(DONE)]);
    let frames = world.ask(chat(ASK_STREAM)).await.frames().await;
    assert_eq!(frames.len(), 1);
    assert_eq!(world.record().events, 4);
}

#[tokio::test(start_paused = true)]
async fn an_event_in_one_piece_is_not_copied() {
    let event = Bytes::from(chunk("a"));
    let reply = Reply::stream().data(event.clone()).wait(millis(1)).data([FINISH, DONE].concat());
    let world = World::lab([reply]);
    let frames = world.ask(chat(ASK_STREAM)).await.frames().await;
    assert_eq!(frames[0].1.as_ptr(), event.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ended_well_is_recorded_with_its_counts_and_times() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\
        \"prompt_tokens_details\":{\"cached_tokens\":4},\
        \"completion_tokens_details\":{\"reasoning_tokens\":5}}}\n\n";
    let reply = Reply::stream()
        .after(seconds(1))
        .wait(seconds(2))
        .data(chunk("a"))
        .wait(seconds(3))
        .data([FINISH, usage, DONE].concat());
    let world = World::lab([reply]);
    let answer = world.ask(chat(ASK_STREAM)).await;
    assert_eq!(world.records(), 0, "not before its end");
    answer.bytes().await;
    let record = world.record();
    assert_eq!(record.outcome, Outcome::Complete);
    assert_eq!((record.status, record.stream, record.fault), (200, true, None));
    assert_eq!((&*record.model, record.events), ("chat", 2));
    assert_eq!(record.route.as_ref().unwrap().upstream_model.as_ref(), "up-model");
    assert_eq!(record.first_event.unwrap().as_secs(), 3);
    assert_eq!(record.total.as_secs(), 6);
    let usage = record.usage.unwrap();
    assert_eq!((usage.input, usage.cached_read), (6, 4));
    assert_eq!((usage.output, usage.reasoning), (15, 5));
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_stream_says_that_it_is_one() {
    let reply = Reply::stream()
        .header("content-length", "999999")
        .header("cache-control", "max-age=60")
        .data([FINISH, DONE].concat());
    let world = World::lab([reply]);
    let answer = world.ask(chat(ASK_STREAM)).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("content-length"), None);
    answer.bytes().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_one_whatever_else_its_content_type_says() {
    for kind in ["text/event-stream; charset=utf-8", "Text/Event-Stream"] {
        let reply = Reply::status(200).header("content-type", kind).data([FINISH, DONE].concat());
        let world = World::lab([reply]);
        let answer = world.ask(chat(ASK_STREAM)).await;
        assert_eq!(answer.header("content-type"), Some(kind));
        assert_eq!(answer.bytes().await, [FINISH, DONE].concat().as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_asked_for_is_passed_all_the_same() {
    let world = World::lab([Reply::stream().data([FINISH, DONE].concat())]);
    let (status, answer) = world.chat(ASK).await;
    assert_eq!((status.as_u16(), answer), (200, [FINISH, DONE].concat()));
    let record = world.record();
    assert_eq!((record.outcome, record.stream), (Outcome::Complete, false));
}

#[tokio::test(start_paused = true)]
async fn completions_are_streamed_as_chats_are() {
    let event = "data: {\"object\":\"text_completion\",\"choices\":[{\"text\":\"a\",\
        \"finish_reason\":\"length\"}]}\n\n";
    let world = World::lab([Reply::stream().data([event, DONE].concat())]);
    let body = r#"{"model":"chat","prompt":"p","stream":true}"#;
    let answer = world.ask(post("/v1/completions", body)).await;
    assert_eq!(answer.bytes().await, [event, DONE].concat().as_bytes());
    assert_eq!(world.record().operation.word(), "completion");
}

#[tokio::test(start_paused = true)]
async fn a_large_stream_of_small_events_arrives_whole() {
    let mut reply = Reply::stream();
    let mut expected = String::new();
    for index in 0..5_000 {
        let event = chunk(&format!("{index} 星"));
        expected.push_str(&event);
        reply = reply.data(event);
    }
    expected.push_str(FINISH);
    expected.push_str(DONE);
    let world = World::of(LAB, [reply.data(FINISH).data(DONE)]);
    let frames = world.ask(chat(ASK_STREAM)).await.frames().await;
    let longest = frames.iter().map(|(_, data)| data.len()).max().unwrap();
    assert!(longest <= 65 << 10, "{longest} bytes in one piece");
    let got: Vec<u8> = frames.into_iter().flat_map(|(_, data)| data).collect();
    assert_eq!(got, expected.as_bytes());
    assert_eq!(world.record().events, 5_001);
}
