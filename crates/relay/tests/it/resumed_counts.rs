//! What an answer costs that breaks off and is gone on with, and who may go on with it.

use policy::directory::Kind;
use relay::{FailureKind, Provenance};
use serde_json::Value;

use crate::resumed::{ASK, PIECES, RESUMING, dying, put_together, rest, stream, text};
use crate::scripted::Reply;
use crate::world::{World, chat, last_error, seconds, with_header};

#[tokio::test(start_paused = true)]
async fn the_counts_are_those_of_the_answer_that_the_client_has() {
    let world = World::of(RESUMING, [dying(10)]);
    let whole = text();
    world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
    let (_, answer) = world.chat(ASK).await;
    let usage = answer.split("\"usage\":").nth(1).unwrap().split('}').next().unwrap();
    let usage: Value = serde_json::from_str(&format!("{usage}}}")).unwrap();
    let records = world.take_records();
    let told = records[1].usage.unwrap();
    // Ten tokens were said before, which the second took for input.
    assert_eq!(records[0].seen_output, 10);
    assert_eq!(usage["prompt_tokens"], told.input_total() - 10);
    assert_eq!(usage["completion_tokens"], told.output_total() + 10);
    assert_eq!(usage["total_tokens"], told.input_total() + told.output_total());
    assert_eq!(
        (records[0].provenance, records[1].provenance),
        (Provenance::Estimated, Provenance::Reported)
    );
    assert_eq!(records[0].usage.unwrap().output, 10);

    // Counts that the client did not ask for stay here.
    let world = World::of(RESUMING, [dying(10)]);
    let whole = text();
    world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
    let ask = ASK.replace("\"stream_options\":{\"include_usage\":true},", "");
    assert!(!world.chat(ask).await.1.contains("usage"));
    assert_eq!(world.take_records()[1].usage.unwrap(), told);
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_once_and_both_attempts_are_paid() {
    let yaml = format!(
        "{RESUMING}
prices: {{ '*/*': {{ currency: USD, input: '1000000', output: '1000000' }} }}
keys: [{{ name: k, key: mk-test-0123456789, limits: {{ rpm: 10 }}, budget: $100000/day }}]
open: true
"
    );
    for pause in [0, 5, 300] {
        let events = stream("first", &PIECES, "\n");
        let first = Reply::stream()
            .data(events[..6].concat())
            .wait(seconds(pause))
            .data(events[6].clone())
            .fail(FailureKind::Cut);
        let yaml = format!("{yaml}timeouts: {{ idle: 10m }}\n");
        let world = World::of(&yaml, [first]);
        let whole = text();
        world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
        let ask = || with_header(chat(ASK), "authorization", "Bearer mk-test-0123456789");
        let (_, answer) = world.ask(ask()).await.read().await;
        assert_eq!(put_together(&answer).0, text(), "after {pause} s");
        let records = world.take_records();
        let charged: u64 =
            records.iter().map(|record| record.charge.as_ref().unwrap().money.nanos).sum();
        let budget = world.budget(Kind::Key, "k");
        assert_eq!((budget.spent, budget.reserved), (charged, 0));
        assert!(records[0].first_event == records[1].first_event);
        if pause == 0 {
            assert_eq!(world.left(Kind::Key, "k", "rpm"), 9, "one request");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_others_use_meanwhile_is_that_of_the_time() {
    let yaml = RESUMING.replace("sk-two-0123456789,", "sk-two-0123456789, limits: { rpm: 60 },")
        + "timeouts: { idle: 10m }\nopen: true\nkeys: [{ name: k, key: mk-test-0123456789, limits: { rpm: 60 } }]\n";
    let events = stream("first", &PIECES, "\n");
    let first = Reply::stream()
        .data(events[..6].concat())
        .wait(seconds(300))
        .data(events[6].clone())
        .fail(FailureKind::Cut);
    let world = World::of(&yaml, [first]);
    let whole = text();
    world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
    let ask = || with_header(chat(ASK), "authorization", "Bearer mk-test-0123456789");
    let mut answer = world.ask(ask()).await;
    let mut got = answer.next().await.unwrap().unwrap().to_vec();
    tokio::time::sleep(seconds(299)).await;
    // Another request, after which there is room for many more.
    assert_eq!(world.ask(ask()).await.status, 200);
    got.extend(answer.bytes().await);
    assert_eq!(put_together(std::str::from_utf8(&got).unwrap()).0, text());
}

#[tokio::test(start_paused = true)]
async fn the_only_target_is_asked_again_where_it_may_be() {
    let one = RESUMING.replace("fallback: [one/a, two/b, three/c]", "target: two/b");
    for (yaml, calls) in [(one.clone(), 1), (one.replace("elsewhere", "anywhere"), 2)] {
        let world = World::of(&yaml, [dying(10)]);
        let whole = text();
        world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
        let (_, answer) = world.chat(ASK).await;
        assert_eq!(world.upstream.calls().len(), calls);
        if calls == 2 {
            assert_eq!(put_together(&answer).0, text());
        } else {
            assert_eq!(last_error(&answer)["code"], "provider_truncated");
        }
    }
}
