//! Forms with files: the model is found wherever its field stands, and the rest streams through.

use http::Request;

use crate::scripted::{Reply, ScriptBody};
use crate::world::{World, millis, seconds, upload, with_header};

const TWO: &str = "
limits: { body: 2KiB }
providers:
  lab: { profile: sglang, base_url: http://lab.test/v1 }
  far: { profile: sglang, base_url: http://far.test/v1 }
models:
  whisper: far/whisper-large
";

/// A form of named parts; a name with a dot is that of a file.
fn form(parts: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in parts {
        let disposition = match name.contains('.') {
            true => format!("name=\"file\"; filename=\"{name}\"\r\nContent-Type: audio/wav"),
            false => format!("name=\"{name}\""),
        };
        body.push_str(&format!(
            "--xYz\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n"
        ));
    }
    body + "--xYz--\r\n"
}

fn request(script: &Reply) -> Request<ScriptBody> {
    let request = upload("/v1/audio/transcriptions", script);
    with_header(request, "content-type", "multipart/form-data; boundary=xYz")
}

#[tokio::test(start_paused = true)]
async fn the_model_is_found_and_replaced_wherever_it_stands() {
    for order in [
        [("model", "M"), ("a.wav", "RIFF\r\n--not a boundary"), ("language", "zh")],
        [("a.wav", "RIFF\u{0}你"), ("model", "M"), ("language", "zh")],
        [("a.wav", "model=x\r\n\r\nmodel"), ("language", "zh"), ("model", "M")],
    ] {
        let with = |model: &str| form(&order).replace("\r\nM\r\n", &format!("\r\n{model}\r\n"));
        let body = with("whisper");
        for cut in [1, body.len() / 3, body.len() / 2, body.len() - 1] {
            let (front, back) = body.as_bytes().split_at(cut);
            let script = Reply::status(200)
                .data(front.to_vec())
                .wait(millis(10))
                .data(back.to_vec())
                .sized();
            let world = World::of(TWO, []);
            let answer = world.ask(request(&script)).await;
            assert_eq!(answer.status, 200);
            let call = world.upstream.call();
            assert_eq!(call.provider, "far");
            assert_eq!(call.text(), with("whisper-large"));
            let told = call.told_length.unwrap();
            assert_eq!(told, call.body.len() as u64, "the new length is told");
            assert_eq!(call.header("content-type"), Some("multipart/form-data; boundary=xYz"));
            answer.read().await;
            assert_eq!(&*world.record().model, "whisper");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_the_model_streams_through_as_it_comes() {
    let body = form(&[("model", "whisper"), ("a.wav", "0123456789")]);
    let (front, back) = body.split_at(body.find("0123").unwrap() + 4);
    let script = Reply::status(200).data(front.to_owned()).wait(seconds(20)).data(back.to_owned());
    let world = World::of(TWO, []);
    world.ask(request(&script)).await.read().await;
    let call = world.upstream.call();
    let times: Vec<u64> = call.pieces.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(times, [0, 20]);
}

#[tokio::test(start_paused = true)]
async fn a_large_file_behind_the_model_passes_though_it_is_over_the_json_limit() {
    let file = "x".repeat(100_000);
    let body = form(&[("model", "whisper"), ("a.wav", &file)]);
    let world = World::of(TWO, []);
    let script = Reply::status(200).data(body.clone());
    assert_eq!(world.ask(request(&script)).await.status, 200);
    assert_eq!(world.upstream.call().text(), body.replace("whisper", "whisper-large"));
}

#[tokio::test(start_paused = true)]
async fn a_model_too_far_behind_is_not_waited_for() {
    let file = "x".repeat(17 << 20);
    let body = form(&[("a.wav", &file), ("b.wav", &file), ("model", "whisper")]);
    let mut script = Reply::status(200);
    for piece in body.as_bytes().chunks(1 << 20) {
        script = script.data(piece.to_vec());
    }
    let world = World::of(TWO, []);
    let (status, error) = world.ask(request(&script)).await.error().await;
    assert_eq!((status, error["code"].as_str()), (400, Some("provider_required")));
    assert!(error["message"].as_str().unwrap().contains("33554432 bytes"), "{error}");
    world.assert_refused("provider_required");
}

#[tokio::test(start_paused = true)]
async fn a_form_without_a_model_goes_to_the_only_provider() {
    let body = form(&[("purpose", "batch"), ("a.jsonl", "{\"model\":\"whisper\"}\n")]);
    let script = Reply::status(200).data(body.clone());
    let world = World::lab([]);
    assert_eq!(world.ask(request(&script)).await.status, 200);
    assert_eq!(world.upstream.call().text(), body);
    let world = World::of(TWO, []);
    let (status, error) = world.ask(request(&script)).await.error().await;
    assert_eq!((status, error["code"].as_str()), (400, Some("provider_required")));
}

#[tokio::test(start_paused = true)]
async fn a_form_for_a_model_that_nobody_serves_is_refused() {
    let script = Reply::status(200).data(form(&[("model", "whispe"), ("a.wav", "x")]));
    let world = World::of(TWO, []);
    let (status, error) = world.ask(request(&script)).await.error().await;
    assert_eq!((status, error["code"].as_str()), (404, Some("model_not_found")));
    assert!(error["message"].as_str().unwrap().contains("`whisper`"), "{error}");
    world.assert_refused("model_not_found");
}

#[tokio::test(start_paused = true)]
async fn a_form_that_stops_in_the_middle_goes_as_it_is() {
    for body in ["--xYz\r\nContent-Dispo", "", "no form"] {
        let script = Reply::status(200).data(body);
        let world = World::lab([]);
        assert_eq!(world.ask(request(&script)).await.status, 200);
        assert_eq!(world.upstream.call().text(), body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_that_names_its_model_twice_is_refused() {
    let file = "x".repeat(50_000);
    for order in [
        [("model", "whisper"), ("model", "dear"), ("a.wav", &*file)],
        [("model", "whisper"), ("a.wav", &*file), ("model", "whisper")],
        [("a.wav", &*file), ("model", "whisper"), ("model", "dear")],
    ] {
        let body = form(&order);
        for cut in [1, body.len() / 2, body.len() - 40, body.len() - 1] {
            let (front, back) = body.split_at(cut);
            let script =
                Reply::status(200).data(front.to_owned()).wait(millis(9)).data(back.to_owned());
            let world = World::of(TWO, []);
            let (status, error) = world.ask(request(&script)).await.error().await;
            assert_eq!((status, error["code"].as_str()), (400, Some("duplicate_field")), "{error}");
            assert_eq!(error["param"], "model");
            assert_eq!(world.record().outcome, relay::Outcome::Refused);
            // Where it comes behind what was sent on, the provider never sees the end of the form.
            for call in &*world.upstream.calls() {
                assert!(!call.text().contains("--xYz--"), "{}", call.text().len());
            }
        }
    }
}
