//! How a stream ends: only an answer that ended normally ends normally.

use relay::{FailureKind, Outcome};

use crate::scripted::Reply;
use crate::world::{ASK_STREAM, DONE, FINISH, World, chat, chunk, last_error, millis, seconds};

/// What the client gets of a stream, and how it is recorded.
async fn ended(reply: Reply) -> (String, World) {
    let world = World::lab([reply]);
    let (status, answer) = world.chat(ASK_STREAM).await;
    assert_eq!(status, 200);
    assert_eq!(world.upstream.fates.open.get(), 0, "nothing stays open");
    (answer, world)
}

fn assert_complete(world: &World, events: u64) {
    let record = world.record();
    assert_eq!(record.outcome, Outcome::Complete);
    assert_eq!((record.fault, record.status), (None, 200));
    assert_eq!(record.events, events);
}

/// Asserts that a stream ended with an error event behind `before`, and no normal end.
fn assert_broken(answer: &str, world: &World, before: &str, code: &str) {
    let error = last_error(answer);
    assert!(answer.starts_with(before), "{answer}");
    assert_eq!(answer[before.len()..].matches("data: ").count(), 1, "{answer}");
    assert_eq!(error["code"], code, "{error}");
    assert_eq!(error["type"], "upstream_error");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("lab"), "says who: {message}");
    if !before.contains("\"stop\"") {
        assert!(!answer.contains("\"finish_reason\":\"stop\""), "{answer}");
    }
    let record = world.record();
    assert_eq!(record.outcome, Outcome::Truncated);
    assert_eq!((record.fault, record.status), (Some(code), 200));
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_done_is_complete() {
    let stream = [&chunk("a"), FINISH, DONE].concat();
    let (answer, world) = ended(Reply::stream().data(stream.clone())).await;
    assert_eq!(answer, stream);
    assert_complete(&world, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_behind_a_finish_reason_is_complete_and_nothing_is_added() {
    let stream = [&chunk("a"), FINISH].concat();
    let (answer, world) = ended(Reply::stream().data(stream.clone())).await;
    assert_eq!(answer, stream);
    assert_complete(&world, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_with_neither_ends_with_an_error_event() {
    let (answer, world) = ended(Reply::stream().data(chunk("a"))).await;
    assert_broken(&answer, &world, &chunk("a"), "provider_truncated");
    assert_eq!(world.record().events, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_any_event_ends_with_an_error_event() {
    for reply in [Reply::stream(), Reply::stream().data(": hello\n\n")] {
        let (answer, world) = ended(reply).await;
        let before = if answer.starts_with(':') { ": hello\n\n" } else { "" };
        assert_broken(&answer, &world, before, "provider_truncated");
        assert_eq!((world.record().events, world.record().first_event), (0, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_in_the_middle_ends_with_an_error_event() {
    for kind in [FailureKind::Cut, FailureKind::Protocol] {
        let reply = Reply::stream().data(chunk("a")).wait(seconds(1)).fail(kind);
        let (answer, world) = ended(reply).await;
        assert_broken(&answer, &world, &chunk("a"), "provider_truncated");
        assert!(answer.contains("as the script says"), "says why: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_failure_is_passed_first() {
    let reply = Reply::stream().data(chunk("a")).fail(FailureKind::Cut);
    let (answer, world) = ended(reply).await;
    assert_broken(&answer, &world, &chunk("a"), "provider_truncated");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_behind_a_finish_reason_is_no_normal_end() {
    let before = [&chunk("a"), FINISH].concat();
    let reply = Reply::stream().data(before.clone()).fail(FailureKind::Cut);
    let (answer, world) = ended(reply).await;
    assert_broken(&answer, &world, &before, "provider_truncated");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_behind_done_has_nothing_to_break() {
    let stream = [&chunk("a"), FINISH, DONE].concat();
    for reply in [
        Reply::stream().data(stream.clone()).fail(FailureKind::Cut),
        Reply::stream().data(stream.clone()).wait(millis(5)).fail(FailureKind::Cut),
    ] {
        let (answer, world) = ended(reply).await;
        assert_eq!(answer, stream);
        assert_complete(&world, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_torn_last_event_is_never_passed() {
    for torn in
        ["data: {\"choices\":[{\"delta\":{\"con", "data: {\"choices\":[]", "data: [DON", "da"]
    {
        let before = chunk("a");
        let (answer, world) = ended(Reply::stream().data([&before, torn].concat())).await;
        assert_broken(&answer, &world, &before, "provider_malformed");
        let reply = Reply::stream().data([&before, torn].concat()).fail(FailureKind::Cut);
        let (answer, world) = ended(reply).await;
        assert_broken(&answer, &world, &before, "provider_truncated");
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_event_that_only_lacks_its_blank_line_is_passed() {
    for (last, events) in [
        ("data: [DONE]", 2),
        ("data: [DONE]\n", 2),
        ("data: [DONE]\r\n", 2),
        (FINISH.trim_end(), 3),
        (": bye", 2),
    ] {
        let before = [&chunk("a"), FINISH].concat();
        let (answer, world) = ended(Reply::stream().data([&before, last].concat())).await;
        assert_eq!(answer.trim_end(), [&before, last].concat().trim_end());
        assert!(answer.ends_with("\n\n"), "the client sees its end: {answer:?}");
        assert_complete(&world, events);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_ends_the_stream_in_its_place() {
    for bad in [
        "data: {\"choices\":[}\n\n",
        "data: nonsense\n\n",
        "data: [1,2]\n\n",
        "data: \"text\"\n\n",
        "data: {\"a\":1} {\"b\":2}\n\n",
        "data: {\"a\":1}\ndata: {\"b\":2}\n\n",
        "data\n\n",
        "<html>\n<body>503</body>\n\n",
        "HTTP/1.1 500 oops\r\n\r\n",
    ] {
        let before = chunk("a");
        let stream = [&before, bad, &chunk("never seen"), DONE].concat();
        let (answer, world) = ended(Reply::stream().data(stream).hang()).await;
        assert_broken(&answer, &world, &before, "provider_malformed");
        assert!(!answer.contains("never seen"));
        assert_eq!(world.upstream.fates.cancelled.get(), 1, "the call is given up");
        assert_eq!(world.record().events, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn text_that_is_no_utf_8_ends_the_stream() {
    let reply = Reply::stream().data(b"data: {\"a\":\"\xff\xfe\"}\n\n".to_vec());
    let (answer, world) = ended(reply).await;
    assert_broken(&answer, &world, "", "provider_malformed");
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_done_is_dropped() {
    let stream = [&chunk("a"), FINISH, DONE].concat();
    let long = format!("data: {}", "x".repeat(200_000));
    for rest in [DONE, &chunk("b"), "garbage", ": comment\n\n", &long] {
        for reply in [
            Reply::stream().data([&stream, rest].concat()),
            Reply::stream().data(stream.clone()).data(rest.to_owned()),
            Reply::stream().data(stream.clone()).wait(millis(3)).data(rest.to_owned()),
        ] {
            let (answer, world) = ended(reply).await;
            assert_eq!(answer, stream);
            assert_complete(&world, 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_end_its_stream_behind_done_is_left_after_a_second() {
    for pause in [millis(0), millis(500), seconds(30)] {
        let reply =
            Reply::stream().data([&chunk("a"), FINISH].concat()).wait(pause).data(DONE).hang();
        let world = World::lab([reply]);
        let start = tokio::time::Instant::now();
        let (_, answer) = world.chat(ASK_STREAM).await;
        assert!(answer.ends_with(DONE));
        let grace = start.elapsed() - pause;
        assert!(grace >= millis(990) && grace <= millis(1_010), "{grace:?} after {pause:?}");
        assert_complete(&world, 2);
        assert_eq!(world.upstream.fates.cancelled.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_ends_its_stream_soon_behind_done_keeps_its_connection() {
    let reply = Reply::stream()
        .data([&chunk("a"), FINISH].concat())
        .wait(seconds(30))
        .data(DONE)
        .wait(millis(900));
    // The end of the script is the end of the stream, at its own time.
    let reply = reply.data("");
    let (_, world) = ended(reply).await;
    assert_complete(&world, 2);
    assert_eq!(world.upstream.fates.cancelled.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_behind_done_had_its_whole_answer() {
    let reply = Reply::stream().data([&chunk("a"), FINISH, DONE].concat()).hang();
    let world = World::lab([reply]);
    let mut answer = world.ask(chat(ASK_STREAM)).await;
    let first = answer.next().await.unwrap().unwrap();
    assert!(first.ends_with(DONE.as_bytes()));
    drop(answer);
    assert_complete(&world, 2);
}

#[tokio::test(start_paused = true)]
async fn done_alone_is_an_end() {
    let (answer, world) = ended(Reply::stream().data(DONE)).await;
    assert_eq!(answer, DONE);
    assert_complete(&world, 0);
}

#[tokio::test(start_paused = true)]
async fn finish_reasons_that_say_nothing_end_nothing() {
    for reason in ["null", "\"\"", "\"null\""] {
        let event = format!("data: {{\"choices\":[{{\"finish_reason\":{reason}}}]}}\n\n");
        let (answer, world) = ended(Reply::stream().data(event.clone())).await;
        assert_broken(&answer, &world, &event, "provider_truncated");
    }
}

#[tokio::test(start_paused = true)]
async fn one_choice_that_has_not_finished_is_half_an_answer() {
    let first = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let half = format!("{first}{last}");
    let (answer, world) = ended(Reply::stream().data(half.clone())).await;
    assert_broken(&answer, &world, &half, "provider_truncated");
    let other = last.replace("\"index\":0", "\"index\":1");
    let (answer, world) = ended(Reply::stream().data(format!("{half}{other}"))).await;
    assert_eq!(answer, format!("{half}{other}"));
    assert_complete(&world, 3);
}
