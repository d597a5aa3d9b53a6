//! A defect costs the request that meets it, and nobody else; and what cannot be recorded is not
//! sent.

use policy::directory::Kind;
use relay::{Outcome, Provenance};

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, At, DONE, LAB, World, all, chat, chunk, get, keyed, post, seconds,
};

const ADA: &str = "mk-of-ada-0123456789";

fn world(replies: impl IntoIterator<Item = Reply>) -> World {
    let yaml = format!(
        "{LAB}
prices: {{ lab/*: {{ input: \"1\", output: \"2\", max_output: 1000 }} }}
keys: [{{ name: ada-1, key: {ADA}, limits: {{ rpm: 100, tpm: 100k, concurrency: 5 }}, budget: $1/day }}]
"
    );
    World::of(&yaml, replies)
}

/// Asserts that nothing is held any more, and that the key still works.
async fn assert_well(world: &World) {
    assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 5);
    assert_eq!(world.budget(Kind::Key, "ada-1").reserved, 0);
    assert_eq!(world.upstream.fates.open.get(), 0);
    assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.status, 200);
}

async fn assert_fails(world: &World, body: &str) {
    let answer = world.ask(keyed(chat(body.to_owned()), ADA)).await;
    assert!(answer.header("x-request-id").is_some());
    let (status, error) = answer.error().await;
    assert_eq!((status, error["code"].as_str()), (500, Some("internal_error")));
    assert_eq!(error["type"], "server_error");
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_the_provider_fails_its_request_alone() {
    for body in [ASK, ASK_STREAM] {
        let world = world([Reply::panicking()]);
        assert_fails(&world, body).await;
        {
            let record = world.record();
            assert_eq!((record.outcome, record.status), (Outcome::Failed, 500));
            assert_eq!(record.fault, Some("internal_error"));
            // It was sent: what it may have used is counted.
            assert_eq!((record.asked, record.provenance), (true, Provenance::Estimated));
            assert!(record.caller.chain().id(Kind::Key).is_some());
        }
        let spent = world.budget(Kind::Key, "ada-1").spent;
        assert!(spent > 0 && spent < 100_000, "the input alone: {spent}");
        assert_well(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_an_answer_is_read_fails_its_request_alone() {
    let world = world([Reply::json(r#"{"choices":"#).wait(seconds(1)).panic()]);
    assert_fails(&world, ASK).await;
    assert_eq!((world.record().outcome, world.record().status), (Outcome::Failed, 500));
    assert_well(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_midst_of_a_stream_is_recorded_as_what_it_is() {
    let local = tokio::task::LocalSet::new();
    let world =
        std::rc::Rc::new(world([Reply::stream().data(chunk("a")).wait(seconds(1)).panic()]));
    let asking = std::rc::Rc::clone(&world);
    // As a connection does: the task that polls the body ends with it.
    let task = async move { asking.ask(keyed(chat(ASK_STREAM), ADA)).await.read().await };
    let ended = local.run_until(async { tokio::task::spawn_local(task).await }).await;
    if ended.is_ok() {
        panic!("the body was read to an end");
    }
    {
        let record = world.record();
        assert_eq!((record.outcome, record.status), (Outcome::Failed, 200));
        assert_eq!(record.usage.unwrap().output, 1);
    }
    assert_well(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_recorder_fails_its_request_alone() {
    let world = world([]);
    world.log.panics.set(Some(At::Open));
    assert_fails(&world, ASK).await;
    assert!(world.upstream.calls().is_empty(), "nothing was sent");
    {
        let record = world.record();
        assert_eq!((record.outcome, record.asked), (Outcome::Failed, false));
        assert_eq!(world.budget(Kind::Key, "ada-1").spent, 0);
    }
    assert_well(&world).await;

    world.take_records();
    world.log.panics.set(Some(At::Record));
    assert_fails(&world, ASK).await;
    assert_eq!(world.records(), 0, "the record is lost, the request is not settled twice");
    assert_well(&world).await;
}

#[tokio::test(start_paused = true)]
async fn those_beside_it_do_not_notice() {
    let replies = (0..30).map(|index| match index % 3 {
        0 => Reply::panicking().after(seconds(1)),
        _ => Reply::stream().after(seconds(1)).data(chunk("a")).wait(seconds(1)).data(DONE),
    });
    let world = World::lab(replies);
    let answers = all((0..30).map(|_| async { world.chat(ASK_STREAM).await })).await;
    let failed = answers.iter().filter(|(status, _)| *status == 500).count();
    assert_eq!(failed, 10);
    assert!(answers.iter().all(|(status, body)| *status == 500 || body.ends_with(DONE)));
    assert_eq!(world.records(), 30);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_recorded_is_not_sent() {
    for request in [
        chat(ASK),
        chat(ASK_STREAM),
        post("/v1/completions", r#"{"model":"chat","prompt":"x","max_tokens":5}"#),
        post("/v1/embeddings", r#"{"model":"chat","input":"x"}"#),
    ] {
        let world = world([]);
        world.log.full.set(true);
        let path = request.uri().to_string();
        let (status, error) = world.ask(keyed(request, ADA)).await.error().await;
        assert_eq!((status, error["code"].as_str()), (503, Some("ledger_unavailable")), "{path}");
        assert_eq!(error["type"], "server_error");
        assert!(error["message"].as_str().unwrap().contains("Nothing was sent"), "{error}");
        assert!(!world.record().asked);
        world.assert_refused("ledger_unavailable");
        assert_eq!(world.budget(Kind::Key, "ada-1").spent, 0);
        world.log.full.set(false);
        assert_well(&world).await;
    }
    for request in [get("/v1/files/f"), post("/v1/images/generations", r#"{"model":"chat"}"#)] {
        let world = World::lab([]);
        world.log.full.set(true);
        assert_eq!(world.ask(request).await.status, 503);
        world.assert_refused("ledger_unavailable");
    }
    // What asks nobody needs no record.
    let world = world([]);
    world.log.full.set(true);
    assert_eq!(world.ask(keyed(get("/v1/models"), ADA)).await.status, 200);
}
