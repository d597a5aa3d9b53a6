//! Token counts of a stream: asked for upstream when the client did not, and kept from it then.

use http::StatusCode;
use relay::{Outcome, Provenance};
use serde_json::Value;

use crate::scripted::Reply;
use crate::world::{ASK, ASK_STREAM, DONE, FINISH, LAB, USAGE, World, chunk, millis};

/// A stream that tells its token counts, as providers do when they are asked.
fn telling() -> Reply {
    let events = [chunk("你好"), FINISH.into(), USAGE.into(), DONE.into()];
    Reply::stream().data(events.concat())
}

fn asking_with(options: &str) -> String {
    format!(r#"{{"model":"chat","messages":[1],"stream":true,"stream_options":{options}}}"#)
}

/// What the provider is sent as `stream_options`, and whether the client sees the counts.
async fn exchange(yaml: &str, body: &str) -> (Option<Value>, bool, World) {
    let world = World::of(yaml, [telling()]);
    let (status, answer) = world.chat(body.to_owned()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer.ends_with(DONE), "{answer}");
    let sent: Value = serde_json::from_slice(&world.upstream.call().body).unwrap();
    let options = sent.get("stream_options").cloned();
    let shown = answer.contains("prompt_tokens");
    (options, shown, world)
}

fn assert_counted(world: &World) {
    let record = world.record();
    let usage = record.usage.unwrap();
    assert_eq!((usage.input_total(), usage.output_total()), (7, 3));
    assert_eq!(record.outcome, Outcome::Complete);
}

#[tokio::test(start_paused = true)]
async fn counts_are_asked_for_recorded_and_kept_from_a_client_that_did_not_ask() {
    let world = World::lab([telling()]);
    let (_, answer) = world.chat(ASK_STREAM).await;
    assert_eq!(answer, [&chunk("你好"), FINISH, DONE].concat());
    assert_eq!(
        world.upstream.call().text(),
        r#"{"model":"up-model","stream":true,"messages":[{"role":"user","content":"hi"}],"stream_options":{"include_usage":true}}"#
    );
    assert_counted(&world);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asked_gets_its_counts_and_its_options_untouched() {
    let options = r#"{ "x":1.10, "include_usage" : true }"#;
    let world = World::lab([telling()]);
    let (_, answer) = world.chat(asking_with(options)).await;
    assert!(answer.contains(USAGE), "{answer}");
    assert!(world.upstream.call().text().contains(options));
    assert_counted(&world);
}

#[tokio::test(start_paused = true)]
async fn other_keys_of_the_options_are_kept() {
    for (options, expected) in [
        (
            r#"{"include_obfuscation":false, "k":[1.10]}"#,
            r#"{"include_obfuscation":false, "k":[1.10],"include_usage":true}"#,
        ),
        (r#"{"include_usage":false,"x":1}"#, r#"{"include_usage":true,"x":1}"#),
        (r#"{"include_usage":null}"#, r#"{"include_usage":true}"#),
        (r"{ }", r#"{"include_usage":true }"#),
        ("null", r#"{"include_usage":true}"#),
    ] {
        let world = World::lab([telling()]);
        let (_, answer) = world.chat(asking_with(options)).await;
        let sent = world.upstream.call();
        let wanted = format!(r#""stream_options":{expected}}}"#);
        assert!(sent.text().ends_with(&wanted), "{}", sent.text());
        assert!(!answer.contains("prompt_tokens"), "{answer}");
        assert_counted(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn options_of_a_wrong_kind_are_left_for_the_provider_to_refuse() {
    for options in ["[]", "\"yes\"", "true", "7"] {
        let (sent, shown, world) = exchange(LAB, &asking_with(options)).await;
        assert_eq!(sent.unwrap().to_string(), options);
        assert!(shown, "nothing is kept from the client");
        assert_counted(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn options_that_stand_twice_are_refused() {
    for body in [
        r#"{"model":"chat","messages":[1],"stream":true,"stream_options":{},"stream_options":{}}"#
            .to_owned(),
        asking_with(r#"{"include_usage":true,"include_usage":false}"#),
    ] {
        let world = World::lab([]);
        let (status, said) = world.chat(body).await;
        assert_eq!(status, 400);
        assert!(said.contains("stands twice"), "{said}");
        world.assert_refused("duplicate_field");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_never_to_be_asked_is_not() {
    let yaml = LAB.replace("    models:", "    stream_usage: never_ask\n    models:");
    let (sent, shown, world) = exchange(&yaml, ASK_STREAM).await;
    assert_eq!(sent, None);
    assert!(shown, "what it tells by itself passes");
    assert_counted(&world);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_when_metering_is_off() {
    let yaml = format!("metering: {{ stream_usage: false }}\n{LAB}");
    let (sent, shown, _) = exchange(&yaml, ASK_STREAM).await;
    assert_eq!((sent, shown), (None, true));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_when_the_answer_is_not_streamed() {
    let reply = r#"{"choices":[{}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
    let world = World::lab([Reply::json(reply)]);
    let (_, answer) = world.chat(ASK).await;
    assert_eq!(answer, reply);
    let sent = world.upstream.call();
    assert!(!sent.text().contains("stream_options"), "{}", sent.text());
    assert_counted(&world);
}

#[tokio::test(start_paused = true)]
async fn counts_beside_choices_are_never_kept_from_the_client() {
    let last =
        FINISH.replace("]}\n\n", "],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n");
    let world = World::lab([Reply::stream().data([&chunk("a"), &last, DONE].concat())]);
    let (_, answer) = world.chat(ASK_STREAM).await;
    assert_eq!(answer, [&chunk("a"), &last, DONE].concat());
    assert_counted(&world);
}

#[tokio::test(start_paused = true)]
async fn an_event_without_choices_that_tells_no_counts_passes() {
    let filter = "data: {\"choices\":[],\"prompt_filter_results\":[],\"usage\":null}\n\n";
    let stream = [filter, &chunk("a"), FINISH, DONE].concat();
    let world = World::lab([Reply::stream().data(stream.clone())]);
    let (_, answer) = world.chat(ASK_STREAM).await;
    assert_eq!(answer, stream);
    // Nobody told, so it is estimated: what was sent, and one text.
    assert_eq!(world.record().provenance, Provenance::Estimated);
    assert_eq!(world.record().usage.unwrap().output, 1);
}

#[tokio::test(start_paused = true)]
async fn the_counts_are_kept_from_the_client_wherever_the_stream_is_cut() {
    let stream = [&chunk("你"), FINISH, USAGE, DONE].concat();
    let expected = [&chunk("你"), FINISH, DONE].concat();
    let snapshot = crate::world::snapshot(LAB);
    for cut in 1..stream.len() {
        let (front, back) = stream.as_bytes().split_at(cut);
        let reply = Reply::stream().data(front.to_vec()).wait(millis(5)).data(back.to_vec());
        let world = World::with(&snapshot, [reply]);
        let (_, answer) = world.chat(ASK_STREAM).await;
        assert_eq!(answer, expected, "cut at {cut}");
        assert_counted(&world);
        assert_eq!(world.record().events, 2, "the extra event is not counted");
    }
}
