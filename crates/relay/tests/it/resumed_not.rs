//! Answers that break off and are not gone on with: the client gets the error that it would have got
//! anyway.

use relay::{FailureKind, Outcome};
use serde_json::json;

use crate::resumed::{ASK, RESUMING, dying, rest, stream, text};
use crate::scripted::Reply;
use crate::world::{World, chat, last_error, millis, seconds};

/// A world in which whoever is asked to go on can do so.
fn willing(yaml: &str, first: Reply) -> World {
    let world = World::of(yaml, [first]);
    let whole = text();
    world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
    world
}

/// Asserts that nobody was asked to go on.
async fn assert_told(world: &World, ask: &str, why: &str) {
    let (_, answer) = world.chat(ask.to_owned()).await;
    assert_eq!(last_error(&answer)["code"], "provider_truncated", "{why}");
    assert_eq!(world.upstream.calls().len(), 1, "{why}");
    let record = world.record();
    assert_eq!((record.outcome, record.is_last), (Outcome::Truncated, true), "{why}");
    assert_eq!((record.fault, record.status), (Some("provider_truncated"), 200), "{why}");
}

fn choice(delta: &str) -> String {
    format!(
        "data: {{\"id\":\"x\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n"
    )
}

#[tokio::test(start_paused = true)]
async fn only_a_text_is_gone_on_with() {
    let events = stream("first", &["a", "b"], "\n");
    let said = events[..3].concat();
    for (why, event) in [
        (
            "a call of a tool",
            choice(
                r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}"#,
            ),
        ),
        ("a call of a function", choice(r#"{"function_call":{"name":"f","arguments":""}}"#)),
        ("a refusal", choice(r#"{"refusal":"no"}"#)),
        ("text in parts", choice(r#"{"content":[{"type":"text","text":"x"}]}"#)),
        ("sound", choice(r#"{"audio":{"data":"x"}}"#)),
        ("another choice", choice("{\"content\":\"x\"}").replace("\"index\":0", "\"index\":1")),
        (
            "probabilities",
            choice("{\"content\":\"x\"}")
                .replace("\"finish", "\"logprobs\":{\"content\":[1]},\"finish"),
        ),
        ("too large an event", choice(&format!("{{\"content\":\"{}\"}}", "x".repeat(200_000)))),
    ] {
        let reply = Reply::stream().data([&*said, &*event].concat()).fail(FailureKind::Cut);
        assert_told(&willing(RESUMING, reply), ASK, why).await;
        // Nor if text comes behind it.
        let reply =
            Reply::stream().data([&*said, &*event, &*events[1]].concat()).fail(FailureKind::Cut);
        assert_told(&willing(RESUMING, reply), ASK, why).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_an_answer_that_has_begun_is_gone_on_with() {
    let reasons = choice(r#"{"reasoning_content":"hm"}"#);
    let reply = Reply::stream().data(reasons.clone()).fail(FailureKind::Cut);
    assert_told(&willing(RESUMING, reply), ASK, "reasoning alone").await;
    // Behind its reasoning, an answer is text like any other.
    let said = stream("first", &["Once"], "\n")[1].clone();
    let reply = Reply::stream().data([&*reasons, &*said].concat()).fail(FailureKind::Cut);
    let world = willing(RESUMING, reply);
    assert!(world.chat(ASK).await.1.ends_with("[DONE]\n\n"));
}

#[tokio::test(start_paused = true)]
async fn only_where_the_request_leaves_the_form_free() {
    let with = |more: &str| ASK.replace("\"max_tokens\":100", more);
    for more in [
        "\"n\":2",
        "\"logprobs\":true",
        "\"response_format\":{\"type\":\"json_object\"}",
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}",
        "\"response_format\":\"text\"",
        "\"guided_json\":{}",
        "\"add_generation_prompt\":false",
        "\"modalities\":[\"text\",\"audio\"]",
    ] {
        assert_told(&willing(RESUMING, dying(3)), &with(more), more).await;
    }
    let prefilled = ASK.replace("\"} ]", "\"},{\"role\":\"assistant\",\"content\":\"Well\"}]");
    assert_told(&willing(RESUMING, dying(3)), &prefilled, "the client's own beginning").await;
    for more in
        ["\"n\":1", "\"n\":null", "\"logprobs\":false", "\"response_format\":{\"type\":\"text\"}"]
    {
        let world = willing(RESUMING, dying(3));
        assert!(world.chat(with(more)).await.1.ends_with("[DONE]\n\n"), "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_where_the_file_says_so() {
    for yaml in [
        RESUMING.replace(", resume: elsewhere", ""),
        RESUMING.replace("resume: elsewhere", "resume: off"),
        RESUMING.replace("fallback: [one/a, two/b, three/c]", "target: one/a"),
        RESUMING.replace("fallback: [one/a, two/b, three/c]", "fallback: [two/b, one/a]"),
    ] {
        let world = World::of(&yaml, [dying(3)]);
        let (_, answer) = world.chat(ASK).await;
        assert_eq!(last_error(&answer)["code"], "provider_truncated");
        assert_eq!(world.upstream.calls().len(), 1, "{yaml}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_more_than_64_kib_is_not_gone_on_with() {
    for (count, is_gone_on_with) in [(63, true), (65, false)] {
        let piece = "x".repeat(1 << 10);
        let pieces: Vec<&str> = std::iter::repeat_n(&*piece, count).collect();
        let events = stream("first", &pieces, "\n");
        let reply = Reply::stream().data(events[..=count].concat()).fail(FailureKind::Cut);
        let world = World::of(RESUMING, [reply]);
        let finish = stream("second", &["y"], "\n").concat();
        world.upstream.answer(move |_| Reply::stream().data(finish.clone()));
        let (_, answer) = world.chat(ASK).await;
        assert_eq!(answer.ends_with("[DONE]\n\n"), is_gone_on_with, "{count} KiB");
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_client_gets_the_first_error() {
    let dead = || Reply::failing(FailureKind::Connect);
    let busy = Reply::status(503)
        .header("content-type", "application/json")
        .data(r#"{"error":{"message":"second","code":"busy"}}"#);
    for (replies, count) in [(vec![dead(), dead()], 3), (vec![busy, dead()], 3)] {
        let alone = World::of(&RESUMING.replace("elsewhere", "off"), [dying(3)]);
        let expected = alone.chat(ASK).await.1;
        let world = World::of(RESUMING, std::iter::once(dying(3)).chain(replies));
        let (_, answer) = world.chat(ASK).await;
        assert_eq!(answer, expected, "the same as without it");
        let records = world.take_records();
        assert_eq!(records.len(), count);
        let last: Vec<bool> = records.iter().map(|record| record.is_last).collect();
        assert_eq!(last, [false, false, true]);
        assert_eq!(records[0].outcome, Outcome::Truncated);
        assert_eq!(records[2].outcome, Outcome::Unreachable);
        assert_eq!(records[2].status, 200, "what the client has");
    }
}

#[tokio::test(start_paused = true)]
async fn when_what_goes_on_breaks_off_and_nobody_is_left_the_first_error_is_told() {
    let more = stream("second", &[" and"], "\n")[..2].concat();
    let again = || Reply::stream().data(more.clone()).fail(FailureKind::Cut);
    let world = World::of(RESUMING, [dying(3), again(), again()]);
    let (_, answer) = world.chat(ASK).await;
    let error = last_error(&answer);
    assert_eq!(error["code"], "provider_truncated");
    assert!(error["message"].as_str().unwrap().starts_with("one "), "{error}");
    assert_eq!(answer.matches(" and").count(), 2);
    let records = world.take_records();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.outcome == Outcome::Truncated));
    assert_eq!(records[2].fault, Some("provider_truncated"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_meanwhile_cancels_what_is_under_way() {
    for second in [
        Reply::stream().after(seconds(5)),
        Reply::stream().hang(),
        Reply::stream().data(stream("second", &[" and"], "\n")[..2].concat()).hang(),
    ] {
        let world = World::of(RESUMING, [dying(3), second]);
        let mut answer = world.ask(chat(ASK)).await;
        answer.next().await.unwrap().unwrap();
        let _ = tokio::time::timeout(seconds(1), answer.next()).await;
        assert_eq!(world.upstream.calls().len(), 2);
        drop(answer);
        assert_eq!(world.upstream.fates.open.get(), 0);
        assert_eq!(world.upstream.fates.cancelled.get(), 1);
        let records = world.take_records();
        let told: Vec<(Outcome, bool)> =
            records.iter().map(|record| (record.outcome, record.is_last)).collect();
        assert_eq!(told, [(Outcome::Truncated, false), (Outcome::ClientGone, true)]);
        let plan = world.snapshot.plan("chat").unwrap();
        let in_flight = plan.targets().iter().map(|target| target.live.health.in_flight());
        assert_eq!(in_flight.sum::<u32>(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_says_so_meanwhile() {
    let world = World::of(RESUMING, [dying(3), Reply::stream().hang()]);
    let mut answer = world.ask(chat(ASK)).await;
    answer.next().await.unwrap().unwrap();
    let _ = tokio::time::timeout(seconds(1), answer.next()).await;
    world.shed.set();
    let rest = String::from_utf8(answer.bytes().await).unwrap();
    assert_eq!(last_error(&rest)["code"], "shutting_down");
    let records = world.take_records();
    assert_eq!(records[1].outcome, Outcome::Shed);
    assert_eq!(world.upstream.fates.open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn retries_and_the_time_of_the_whole_request_bound_it() {
    // Three a second are there in any case.
    let told = |answer: &str| answer.ends_with("[DONE]\n\n");
    let mut count = 0;
    let world = World::of(RESUMING, []);
    let whole = text();
    world.upstream.answer(move |seen| match &*seen.provider {
        "one" => dying(3),
        _ => Reply::stream().data(rest(seen, &whole).concat()),
    });
    for _ in 0..6 {
        count += usize::from(told(&world.chat(ASK).await.1));
    }
    assert!((3..=4).contains(&count), "{count}");

    // The clocks of the whole request go on.
    let yaml = format!("{RESUMING}timeouts: {{ total: 5s }}\n");
    let events = stream("first", &["Once"], "\n");
    let first =
        Reply::stream().data(events[..2].concat()).wait(millis(4_900)).fail(FailureKind::Cut);
    let world = World::of(&yaml, [first, Reply::stream().hang(), Reply::stream().hang()]);
    let start = tokio::time::Instant::now();
    let (_, answer) = world.chat(ASK).await;
    assert_eq!(last_error(&answer)["code"], "provider_truncated");
    assert!(start.elapsed() <= millis(5_100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_admin_of_a_key_bounds_it_like_any_attempt() {
    // The second has no room, and so the third is asked.
    let yaml =
        RESUMING.replace("sk-two-0123456789,", "sk-two-0123456789, limits: { concurrency: 1 },");
    let world = World::of(&yaml, [dying(3)]);
    let whole = text();
    world.upstream.answer(move |seen| {
        let said = json!({ "role": "assistant" });
        match seen.text().contains(said["role"].as_str().unwrap()) {
            true => Reply::stream().data(rest(seen, &whole).concat()),
            false => Reply::stream().data(stream("x", &["y"], "\n")[..2].concat()).hang(),
        }
    });
    let two = r#"{"model":"two/b","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut answer = world.ask(chat(ASK)).await;
    let mut got = answer.next().await.unwrap().unwrap().to_vec();
    let mut other = world.ask(chat(two)).await;
    other.next().await.unwrap().unwrap();
    got.extend(answer.bytes().await);
    assert!(got.ends_with(b"[DONE]\n\n"), "{}", String::from_utf8_lossy(&got));
    let asked: Vec<String> =
        world.upstream.calls().iter().map(|call| call.provider.clone()).collect();
    assert_eq!(asked, ["one", "two", "three"]);
}
