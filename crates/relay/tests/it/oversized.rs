//! Events too large to be held back: they pass in parts, and break in a way that can be read.

use relay::{FailureKind, Outcome};
use serde_json::Value;

use crate::scripted::Reply;
use crate::world::{
    ASK_STREAM, DONE, FINISH, LAB, World, chat, chunk, error_in, millis, seconds, snapshot,
};

const KIB: usize = 1 << 10;

/// An event of about so many bytes.
fn large(size: usize) -> String {
    chunk(&"长x\\\"".repeat(size / 8))
}

/// `bytes` in pieces of `size`, one after the other.
fn in_pieces(mut reply: Reply, bytes: impl AsRef<[u8]>, size: usize) -> Reply {
    for piece in bytes.as_ref().chunks(size) {
        reply = reply.data(piece.to_vec()).wait(millis(1));
    }
    reply
}

#[tokio::test(start_paused = true)]
async fn an_oversized_event_passes_whole_and_intact() {
    let snapshot = snapshot(LAB);
    for size in [60 * KIB, 66 * KIB, 300 * KIB] {
        let stream = [&chunk("a"), &large(size), &chunk("b"), FINISH, DONE].concat();
        for piece in [1_000, 16 * KIB, 65_537, 1 << 20] {
            let reply = in_pieces(Reply::stream(), &stream, piece);
            let world = World::with(&snapshot, [reply]);
            let (_, answer) = world.chat(ASK_STREAM).await;
            assert!(answer == stream, "{size} bytes in pieces of {piece}");
            let record = world.record();
            assert_eq!(record.outcome, Outcome::Complete);
            assert_eq!(record.events, 4, "{size} bytes in pieces of {piece}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_beginning_of_an_event_is_held_back_up_to_a_bound() {
    let event = large(512 * KIB);
    let reply = in_pieces(Reply::stream(), &event, 10 * KIB).hang();
    let world = World::lab([reply]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    let first = answer.next().await.unwrap().unwrap();
    assert!(first.len() > 64 * KIB && first.len() <= 75 * KIB, "{}", first.len());
    let second = answer.next().await.unwrap().unwrap();
    assert_eq!(second.len(), 10 * KIB, "then it passes as it comes");
}

#[tokio::test(start_paused = true)]
async fn an_error_inside_an_oversized_event_is_an_event_of_its_own() {
    for piece in [5_000, 70_000, 1 << 20] {
        for cut in [70 * KIB, 130 * KIB + 1] {
            let event = large(200 * KIB);
            let torn = &event.as_bytes()[..cut];
            for failure in [Some(FailureKind::Cut), None] {
                let mut reply = in_pieces(Reply::stream().data(chunk("a")), torn, piece);
                if let Some(kind) = failure {
                    reply = reply.fail(kind);
                }
                let world = World::lab([reply]);
                let answer = world.ask(chat(ASK_STREAM)).await.bytes().await;
                let answer = String::from_utf8_lossy(&answer);
                assert!(!answer.contains("[DONE]"));
                let last = answer.trim_end().rsplit("\n\n").next().unwrap();
                let error = error_in(last.strip_prefix("data: ").unwrap());
                assert_eq!(error["code"], "provider_truncated");
                assert_eq!(world.record().outcome, Outcome::Truncated);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_oversized_event_that_is_torn_is_no_normal_end_even_behind_a_finish_reason() {
    let event = large(200 * KIB);
    let torn = &event.as_bytes()[..100 * KIB];
    let reply = in_pieces(Reply::stream().data(FINISH), torn, 20 * KIB);
    let world = World::lab([reply]);
    let answer = world.ask(chat(ASK_STREAM)).await.bytes().await;
    let answer = String::from_utf8_lossy(&answer);
    let last = answer.trim_end().rsplit("\n\n").next().unwrap();
    error_in(last.strip_prefix("data: ").unwrap());
    assert_eq!(world.record().outcome, Outcome::Truncated);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_grows_large_in_one_piece_passes_too() {
    let event = large(90 * KIB);
    let (front, back) = event.as_bytes().split_at(event.len() - 40);
    let rest = [back, FINISH.as_bytes(), DONE.as_bytes()].concat();
    let reply = Reply::stream().data(front.to_vec()).wait(seconds(1)).data(rest.clone());
    let world = World::lab([reply]);
    let frames = world.ask(chat(ASK_STREAM)).await.frames().await;
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].1, front);
    assert_eq!(frames[1].1, rest);
    assert_eq!(world.record().events, 2);
}

#[tokio::test(start_paused = true)]
async fn an_oversized_first_event_stops_the_clock_of_the_first_event() {
    let event = large(100 * KIB);
    let (front, back) = event.as_bytes().split_at(80 * KIB);
    let reply = Reply::stream()
        .wait(seconds(110))
        .data(front.to_vec())
        .wait(seconds(30))
        .data(back.to_vec())
        .wait(seconds(50))
        .data([FINISH, DONE].concat());
    let world = World::lab([reply]);
    let (_, answer) = world.chat(ASK_STREAM).await;
    assert!(answer == [&event, FINISH, DONE].concat());
    let record = world.record();
    assert_eq!((record.outcome, record.events), (Outcome::Complete, 2));
}

#[tokio::test(start_paused = true)]
async fn what_follows_an_oversized_event_is_looked_at_again() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\n";
    let event = large(100 * KIB);
    let stream = [&event, FINISH, usage, DONE].concat();
    let world = World::lab([in_pieces(Reply::stream(), &stream, 4 * KIB)]);
    let (_, answer) = world.chat(ASK_STREAM).await;
    assert!(answer == [&event, FINISH, DONE].concat(), "the counts stay here");
    assert_eq!(world.record().usage.unwrap().input, 5);
    let bad = [&event, "data: nonsense\n\n"].concat();
    let world = World::lab([in_pieces(Reply::stream(), &bad, 4 * KIB)]);
    let (_, answer) = world.chat(ASK_STREAM).await;
    let rest = answer.strip_prefix(&event).unwrap();
    let error: Value = serde_json::from_str(rest.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "provider_malformed");
}
