//! Answers that break off in the middle and are gone on with: the client has one answer, no letter
//! twice or missing, wherever and however it breaks off.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use relay::{FailureKind, Outcome};
use serde_json::{Value, json};

use crate::scripted::{Reply, Seen};
use crate::world::{DONE, World, last_error};

/// The first cannot go on with anything, the others can, each in its way.
pub(crate) const RESUMING: &str = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_key: sk-one-0123456789 }
  two: { profile: openai-compatible, base_url: 'http://two.test/v1', api_key: sk-two-0123456789, prefill: { message: { partial: true } } }
  three: { profile: openai-compatible, base_url: 'http://three.test/v1', api_key: sk-three-0123456789, prefill: { request: { continue_final_message: true, add_generation_prompt: false }, path: /beta } }
models:
  chat: { fallback: [one/a, two/b, three/c], resume: elsewhere }
";

pub(crate) const ASK: &str = r#"{"model":"chat", "stream":true,"stream_options":{"include_usage":true},"max_tokens":100,"messages":[{"role":"user","content":"h\u00ef"} ]}"#;

/// Thirty pieces of one text, as JSON writes them.
pub(crate) const PIECES: [&str; 30] = [
    "Once",
    " upon",
    " a",
    " time",
    ",\\n",
    "星",
    "河",
    "🐦",
    "é",
    "\\u00e9",
    "\\\"so\\\"",
    "\\\\",
    "\\/",
    "\\t",
    "\\ud83d\\ude00",
    "\\ud83d",
    "\\ude01",
    "data: x",
    "\\n\\n",
    "",
    "[DONE]",
    " {\\\"a\\\":1}",
    "👩‍👩‍👧",
    "\\r\\n",
    "\\u2028",
    " the end",
    " is",
    " not",
    " near",
    ".",
];

/// So many events end with half a letter, with which no provider can go on.
const HALF: usize = 17;

/// What they say.
pub(crate) fn text() -> String {
    decoded(&PIECES.concat())
}

fn decoded(escaped: &str) -> String {
    serde_json::from_str(&format!("\"{escaped}\"")).unwrap()
}

/// One chunk of an answer.
fn event(id: &str, delta: &str, finish: &str, end: &str) -> String {
    format!(
        "data: {{\"id\":\"{id}\",\"object\":\"chat.completion.chunk\",\"created\":{created},\
         \"model\":\"m-{id}\",\"choices\":[{{\"index\":0,\"delta\":{delta},\
         \"finish_reason\":{finish}}}],\"x\":1.50}}{end}{end}",
        created = id.len(),
    )
}

fn content(id: &str, escaped: &str, end: &str) -> String {
    event(id, &format!("{{\"content\":\"{escaped}\"}}"), "null", end)
}

/// A stream of these pieces, event by event.
pub(crate) fn stream(id: &str, pieces: &[&str], end: &str) -> Vec<String> {
    let role = event(id, r#"{"role":"assistant","content":""}"#, "null", end);
    let said = pieces.iter().map(|piece| content(id, piece, end));
    let usage = format!(
        "data: {{\"id\":\"{id}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":40,\
         \"completion_tokens\":{},\"total_tokens\":{}}}}}{end}{end}",
        pieces.len(),
        40 + pieces.len()
    );
    let last = [event(id, "{}", "\"stop\"", end), usage, format!("data: [DONE]{end}{end}")];
    std::iter::once(role).chain(said).chain(last).collect()
}

/// What a provider says that is asked to go on, if what it is given is right.
pub(crate) fn rest(seen: &Seen, whole: &str) -> Vec<String> {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages[0], json!({ "role": "user", "content": "hï" }));
    let said = match messages.get(1) {
        None => "",
        Some(last) => {
            let said = last["content"].as_str().unwrap();
            let plain = json!({ "role": "assistant", "content": said });
            let marked = json!({ "role": "assistant", "content": said, "partial": true });
            let (body, last) = (&body, last.clone());
            match &*seen.provider {
                "two" => assert_eq!(last, marked),
                "three" => {
                    assert_eq!(last, plain);
                    assert_eq!(body["continue_final_message"], json!(true));
                    assert_eq!(body["add_generation_prompt"], json!(false));
                    assert_eq!(seen.target, "/beta/chat/completions");
                }
                other => panic!("{other} cannot go on"),
            }
            said
        }
    };
    assert!(messages.len() <= 2);
    let rest = whole.strip_prefix(said).unwrap_or_else(|| panic!("{said:?} of {whole:?}"));
    let pieces: Vec<char> = rest.chars().collect();
    let pieces: Vec<String> = pieces
        .chunks(3)
        .map(|piece| serde_json::to_string(&piece.iter().collect::<String>()).unwrap())
        .map(|quoted| quoted[1..quoted.len() - 1].to_owned())
        .collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    stream(&format!("of-{}", seen.provider), &pieces, "\n")
}

/// How a stream dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Cut,
    Eof,
    Silence,
    Error,
    OwnError,
    Nonsense,
}

impl Death {
    fn of(self, stream: &[u8]) -> Reply {
        let reply = Reply::stream().data(stream.to_vec());
        match self {
            Self::Cut => reply.fail(FailureKind::Cut),
            Self::Eof => reply,
            Self::Silence => reply.hang(),
            Self::Error => reply.data("data: {\"error\":{\"message\":\"busy\"}}\n\n").hang(),
            Self::OwnError => reply.data("data: {\"error_code\":17}\n\n").hang(),
            Self::Nonsense => reply.data("data: {nonsense\n\n").hang(),
        }
    }
}

/// The text that a client puts together, and the ids of its chunks.
pub(crate) fn put_together(stream: &str) -> (String, Vec<String>) {
    let (mut text, mut ids) = (String::new(), Vec::new());
    let lines = stream.split(['\r', '\n']).filter_map(|line| line.strip_prefix("data: "));
    for data in lines.filter(|data| *data != "[DONE]") {
        let delta = data.split("\"content\":\"").nth(1);
        text.push_str(delta.map_or("", |rest| rest.split("\"},\"finish").next().unwrap()));
        let id = data.split("\"id\":\"").nth(1);
        ids.extend(id.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    (decoded(&text), ids)
}

/// Asserts that the answer is whole and one, though its stream died behind `said`.
async fn assert_one(said: &[u8], death: Death, has_finished: bool) {
    // One of its own, for what is known of the targets outlasts a request.
    let world = World::of(RESUMING, [death.of(said)]);
    let whole = text();
    world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
    let (status, answer) = world.chat(ASK).await;
    let why = || format!("{death:?} behind {:?}: {answer}", String::from_utf8_lossy(said));
    assert_eq!(status, 200, "{}", why());
    let (got, ids) = put_together(&answer);
    assert_eq!(got, text(), "{}", why());
    assert!(ids.iter().all(|id| *id == ids[0]), "{}", why());
    assert_eq!(answer.matches("\"role\"").count(), 1, "{}", why());
    let records = world.take_records();
    if has_finished {
        // The answer was there, but for its end: nothing can be added.
        assert_eq!(records.len(), 1, "{}", why());
        return;
    }
    assert!(answer.ends_with(DONE) && answer.matches("[DONE]\n").count() == 1, "{}", why());
    assert_eq!(answer.matches("\"stop\"").count(), 1, "{}", why());
    let is_last: Vec<bool> = records.iter().map(|record| record.is_last).collect();
    assert_eq!(is_last, [false, true], "{}", why());
    assert_ne!(records[0].outcome, Outcome::Complete, "{}", why());
    assert_eq!(records[1].outcome, Outcome::Complete, "{}", why());
    assert_eq!(world.upstream.fates.open.get(), 0, "{}", why());
}

#[tokio::test(start_paused = true)]
async fn wherever_a_stream_is_cut_its_answer_is_one() {
    for (end, step) in [("\n", 5), ("\r\n", 11), ("\r", 11)] {
        let events = stream("first", &PIECES, end);
        let whole = events.concat();
        // An event is there with its blank line, of which the last LF may still be missing; of a
        // stream that ends, without that line.
        let there = |count: usize, death| {
            let missing = if death == Death::Eof { 2 * end.len() } else { end.len() - 1 };
            events[..count].concat().len() - missing
        };
        // Around the ends of events everywhere, inside them here and there.
        let ends: Vec<usize> =
            (1..events.len()).map(|count| events[..count].concat().len()).collect();
        let is_near =
            |at: usize| ends.iter().any(|end| (end.saturating_sub(6)..end + 8).contains(&at));
        for at in (1..whole.len()).filter(|at| at % step == 0 || is_near(*at)) {
            for death in [Death::Cut, Death::Eof] {
                let is_half = (there(HALF, death)..there(HALF + 1, death)).contains(&at);
                let has_finished = at >= there(32, death);
                // A stream that ends behind its finish is whole.
                let is_whole = has_finished && death == Death::Eof;
                if !is_half && !is_whole {
                    assert_one(&whole.as_bytes()[..at], death, has_finished).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn however_a_stream_dies_its_answer_is_one() {
    for end in ["\n", "\r\n"] {
        let events = stream("first", &PIECES, end);
        for count in 1..32 {
            let said = events[..count].concat();
            for death in [
                Death::Cut,
                Death::Eof,
                Death::Silence,
                Death::Error,
                Death::OwnError,
                Death::Nonsense,
            ] {
                // Behind its role alone there is nothing to go on with.
                let is_held = !matches!(death, Death::Silence | Death::Nonsense);
                if count == HALF || (count == 1 && !is_held) {
                    continue;
                }
                assert_one(said.as_bytes(), death, false).await;
                if death == Death::Silence {
                    let said = [&said, &events[count][..20]].concat();
                    assert_one(said.as_bytes(), death, false).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_letters_cut_at_half_of_one_is_told_to_have_broken_off() {
    let events = stream("first", &PIECES[..16], "\n");
    let world = World::of(RESUMING, [Death::Cut.of(events[..17].concat().as_bytes())]);
    let (_, answer) = world.chat(ASK).await;
    assert_eq!(last_error(&answer)["code"], "provider_truncated");
    assert_eq!(world.upstream.calls().len(), 1);
}

#[test]
fn random_answers_cut_anywhere_are_one() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let pieces = prop::collection::vec("\\PC{0,6}|[\\n\"\\\\\u{1}-\u{20}]{0,3}|(ab){1,3}", 1..30);
    let pieces = ("\\PC{1,3}", pieces).prop_map(|(first, rest)| [vec![first], rest].concat());
    let given = (pieces, 0.0..1.0f64, 1..40usize, any::<bool>());
    let mut runner = TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
    let run = runner.run(&given, |(pieces, share, size, is_eof)| {
        let quoted: Vec<String> =
            pieces.iter().map(|piece| serde_json::to_string(piece).unwrap()).collect();
        let escaped: Vec<&str> = quoted.iter().map(|quoted| &quoted[1..quoted.len() - 1]).collect();
        let events = stream("first", &escaped, "\n");
        let whole = events[..=escaped.len()].concat();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let at = 1 + ((whole.len() - 1) as f64 * share) as usize;
        let mut reply = Reply::stream();
        for piece in whole.as_bytes()[..at].chunks(size) {
            reply = reply.data(piece.to_vec());
        }
        let reply = if is_eof { reply } else { reply.fail(FailureKind::Cut) };
        let text = pieces.concat();
        let world = World::of(RESUMING, [reply]);
        let expected = text.clone();
        world.upstream.answer(move |seen| {
            let mut reply = Reply::stream();
            for piece in rest(seen, &text).concat().as_bytes().chunks(size) {
                reply = reply.data(piece.to_vec());
            }
            reply
        });
        let (_, answer) = runtime.block_on(world.chat(ASK));
        prop_assert_eq!(put_together(&answer).0, expected);
        prop_assert!(answer.ends_with(DONE));
        Ok(())
    });
    run.unwrap();
}

/// A stream that dies behind so many pieces.
pub(crate) fn dying(count: usize) -> Reply {
    let events = stream("first", &PIECES, "\n");
    Death::Cut.of(events[..=count].concat().as_bytes())
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_bears_the_name_of_the_first_and_is_otherwise_as_it_came() {
    let world = World::of(RESUMING, [dying(3)]);
    let fingerprint = "data:{\"id\":\"z\",\"system_fingerprint\":\"f\",\"choices\":[ {\"index\":0,\"delta\":{\"role\":\"assistant\", \
         \"content\":\" one\"},\"y\":[1.0e3]}]}\r\n: hi\r\n\r\n: there\n\n";
    let finish = "id: 7\ndata: {\"choices\":[{\"delta\":{\"role\":null},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let role = ": at first\n\ndata: {\"id\":\"z\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n";
    world.upstream.answer(move |_| {
        Reply::stream().data("\u{feff}").data(role).data(fingerprint).data(finish)
    });
    let (_, answer) = world.chat(ASK).await;
    let said = stream("first", &PIECES[..3], "\n");
    let expected = [
        &*said[..4].concat(),
        ": at first\n\n",
        "data:{\"id\":\"first\",\"choices\":[ {\"index\":0,\"delta\":{\"content\":\" one\"},\"y\":[1.0e3]}],\"created\":5,\"model\":\"m-first\"}\r\n: hi\r\n\r\n: there\n\n",
        "id: 7\ndata: {\"choices\":[{\"delta\":{\"role\":null},\"finish_reason\":\"stop\"}],\"id\":\"first\",\"created\":5,\"model\":\"m-first\"}\n\n",
        DONE,
    ];
    assert_eq!(answer, expected.concat());
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_is_the_same_with_what_was_said_behind_it_and_less_to_say() {
    let world = World::of(RESUMING, [dying(10)]);
    let whole = text();
    world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
    world.chat(ASK).await;
    let calls = world.upstream.calls();
    let asked = calls[1].text();
    assert_eq!(
        asked,
        "{\"model\":\"b\", \"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":90,\
         \"messages\":[{\"role\":\"user\",\"content\":\"h\\u00ef\"} ,{\"role\":\"assistant\",\
         \"content\":\"Once upon a time,\\n星河🐦é\\u00e9\",\"partial\":true}]}"
    );
    assert_eq!(world.log.opened.borrow()[1].1.most_output, Some(90));

    // At least one token is left.
    let world = World::of(RESUMING, [dying(10)]);
    let whole = text();
    world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
    world.chat(ASK.replace("\"max_tokens\":100", "\"max_completion_tokens\":4")).await;
    assert!(world.upstream.calls()[1].text().contains("\"max_completion_tokens\":1,"));
}

#[tokio::test(start_paused = true)]
async fn the_third_makes_up_for_what_the_second_cannot_or_breaks_off_itself() {
    let bad = |status: u16| {
        let body = r#"{"error":{"message":"no","type":"x","param":null,"code":"x"}}"#;
        Reply::status(status).header("content-type", "application/json").data(body)
    };
    let more = stream("second", &PIECES[10..14], "\n");
    for (name, second) in [
        ("refuses what it is asked", bad(400)),
        ("is busy", bad(503)),
        ("cannot be reached", Reply::failing(FailureKind::Connect)),
        ("says nothing", Reply::stream().data(more[0].clone()).fail(FailureKind::Cut)),
        ("ends at once", Reply::stream().data([&*more[0], DONE].concat())),
        ("streams no events", Reply::json(r#"{"choices":[]}"#)),
        ("begins to reason", {
            let reasons = event("x", "{\"reasoning_content\":\"hm\"}", "null", "\n");
            Reply::stream().data(reasons).data(more[1].clone()).data(DONE)
        }),
        ("breaks off", Reply::stream().data(more[..5].concat()).fail(FailureKind::Cut)),
        ("breaks off in the middle", Reply::stream().data(more[..3].concat() + "data: {")),
    ] {
        let world = World::of(RESUMING, [dying(10), second]);
        let whole = text();
        world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
        let (_, answer) = world.chat(ASK).await;
        let (got, ids) = put_together(&answer);
        assert_eq!(got, text(), "{name}: {answer}");
        assert!(ids.iter().all(|id| id == "first"), "{name}");
        assert!(answer.ends_with(DONE), "{name}");
        let asked: Vec<String> =
            world.upstream.calls().iter().map(|call| call.provider.clone()).collect();
        assert_eq!(asked, ["one", "two", "three"], "{name}");
        let records = world.take_records();
        let told: Vec<(u16, bool)> =
            records.iter().map(|record| (record.attempt, record.is_last)).collect();
        assert_eq!(told, [(1, false), (2, false), (3, true)], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_repeats_what_it_is_given_says_it_once() {
    let yaml = RESUMING.replace("message: { partial: true }", "repeats: true");
    let said = decoded(&PIECES[..10].concat());
    for size in 1..=said.chars().count() + 3 {
        let world = World::of(&yaml, [dying(10)]);
        world.upstream.answer(move |_| {
            let chars: Vec<char> = text().chars().collect();
            let pieces = chars.chunks(size).map(|piece| {
                let quoted = serde_json::to_string(&piece.iter().collect::<String>()).unwrap();
                quoted[1..quoted.len() - 1].to_owned()
            });
            let pieces: Vec<String> = pieces.collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            Reply::stream().data(stream("second", &pieces, "\n").concat())
        });
        let (_, answer) = world.chat(ASK).await;
        assert_eq!(put_together(&answer).0, text(), "in pieces of {size}: {answer}");
        assert!(answer.ends_with(DONE));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_like_what_was_said_is_left_alone_where_nothing_is_repeated() {
    // The second part is the first once more, and both belong there.
    let world = World::of(RESUMING, [dying(4)]);
    world.upstream.answer(|_| Reply::stream().data(stream("x", &PIECES[..4], "\n").concat()));
    let (_, answer) = world.chat(ASK).await;
    assert_eq!(put_together(&answer).0, "Once upon a timeOnce upon a time");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_repeat_though_it_should_is_not_taken() {
    let yaml = RESUMING.replace("message: { partial: true }", "repeats: true");
    for pieces in [["On", "ce upon b"].as_slice(), &["x"], &["Once upon a"], &[]] {
        let second = Reply::stream().data(stream("second", pieces, "\n").concat());
        let world = World::of(&yaml, [dying(10), second]);
        let whole = text();
        world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
        let (_, answer) = world.chat(ASK).await;
        assert_eq!(put_together(&answer).0, text(), "{pieces:?}");
        assert_eq!(world.upstream.calls().len(), 3);
    }
}
