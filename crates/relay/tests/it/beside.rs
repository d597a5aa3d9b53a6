//! Attempts side by side: races and hedges, what they cost, and what is recorded of them.

use policy::directory::Kind;
use relay::{FailureKind, Outcome, Provenance, Record};
use tokio::time::{Instant, timeout};

use crate::scripted::Reply;
use crate::world::{ASK, ASK_STREAM, DONE, FINISH, World, chat, chunk, keyed, millis, seconds};

const ADA: &str = "mk-of-ada-0123456789";

const PROVIDERS: &str = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_key: sk-one-0123456789 }
  two: { profile: openai-compatible, base_url: 'http://two.test/v1', api_key: sk-two-0123456789 }
  three: { profile: openai-compatible, base_url: 'http://three.test/v1', api_key: sk-three-012345 }
prices:
  one/a: { input: '1', output: '2', max_output: 1000 }
  two/b: { input: '1', output: '2', max_output: 1000 }
  three/c: { input: '1', output: '2', max_output: 1000 }
";

const RACE: &str = "models: { chat: { race: [one/a, two/b], fallback: [three/c] } }";

fn world(model: &str, replies: impl IntoIterator<Item = Reply>) -> World {
    World::of(&format!("{PROVIDERS}{model}"), replies)
}

fn good(text: &str) -> Reply {
    Reply::json(format!(
        r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}}}"#
    ))
}

fn stream(text: &str) -> Reply {
    Reply::stream().data(chunk(text)).data(FINISH).data(DONE)
}

/// Outcome, attempt, attempts, whether it is the last.
fn told(records: &[Record]) -> Vec<(Outcome, u16, u16, bool)> {
    let of = |record: &Record| (record.outcome, record.attempt, record.attempts, record.is_last);
    records.iter().map(of).collect()
}

/// Nothing is under way at any target.
fn assert_idle(world: &World) {
    for target in world.snapshot.plan("chat").unwrap().targets() {
        assert_eq!(target.live.health.in_flight(), 0, "{}", target.name());
    }
    assert_eq!(world.upstream.fates.open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_of_a_race_is_the_clients_whichever_it_is() {
    for (first, second, target, winner) in [(300, 100, "two/b", 2), (100, 300, "one/a", 1)] {
        let replies = [good("a").after(millis(first)), good("b").after(millis(second))];
        let world = world(RACE, replies);
        let start = Instant::now();
        let answer = world.ask(chat(ASK)).await;
        assert_eq!(start.elapsed().as_millis(), 100);
        assert_eq!(answer.header("x-magpie-target"), Some(target));
        assert_eq!(answer.header("x-magpie-attempts"), Some("2"));
        let (_, text) = answer.read().await;
        assert!(text.contains(if winner == 2 { r#""b""# } else { r#""a""# }), "{text}");
        let records = world.take_records();
        let loser = 3 - winner;
        let cancelled = (Outcome::Cancelled, loser, loser, false);
        let [(.., false), (outcome, attempt, attempts, true)] = told(&records)[..] else {
            panic!("{:?}", told(&records));
        };
        assert_eq!((outcome, attempt, attempts), (Outcome::Complete, winner, 2));
        assert_eq!(records[0].outcome, cancelled.0);
        assert_eq!(records[0].attempt, loser);
        // What it read it will bill, as far as anyone knows.
        assert_eq!(records[0].provenance, Provenance::Estimated);
        assert!(records[0].charge.as_ref().unwrap().money.nanos > 0);
        assert_eq!(records[1].charge.as_ref().unwrap().money.nanos, 13_000);
        assert_eq!(world.upstream.fates.cancelled.get(), 1);
        assert_idle(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_streams_the_one_that_says_something_first_wins() {
    let early = Reply::stream().data(": hello\n\n").wait(millis(500)).data(chunk("late"));
    let replies = [early, stream("soon").after(millis(200))];
    let world = world(RACE, replies);
    let (_, text) = world.chat(ASK_STREAM).await;
    assert_eq!(text, [chunk("soon").as_str(), FINISH, DONE].concat());
    assert_eq!(told(&world.take_records())[1], (Outcome::Complete, 2, 2, true));
    assert_idle(&world);
}

#[tokio::test(start_paused = true)]
async fn who_fails_in_a_race_is_out_and_the_other_goes_on() {
    for (index, fault) in [
        Reply::status(500).data("{}"),
        Reply::failing(FailureKind::Connect),
        Reply::status(400).data("{}"),
        Reply::json("<html>"),
    ]
    .into_iter()
    .enumerate()
    {
        let slow = good("b").after(millis(200));
        let late = fault.after(millis(100));
        let world = world(RACE, [late, slow]);
        let (status, text) = world.chat(ASK).await;
        assert_eq!((status.as_u16(), text.contains(r#""b""#)), (200, true), "{index}");
        let records = world.take_records();
        assert_eq!(records.len(), 2, "{index}");
        assert_eq!((records[0].attempt, records[0].is_last), (1, false), "{index}");
        assert_ne!(records[0].outcome, Outcome::Cancelled, "{index}");
        assert_eq!(told(&records)[1], (Outcome::Complete, 2, 2, true), "{index}");
        assert_idle(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_whole_race_fails_the_fallback_is_asked() {
    for (first, second) in [(100, 200), (200, 100)] {
        let fault = |after| Reply::status(503).data("{}").after(millis(after));
        let world = world(RACE, [fault(first), fault(second), good("c")]);
        let answer = world.ask(chat(ASK)).await;
        assert_eq!(answer.header("x-magpie-target"), Some("three/c"));
        assert_eq!(answer.header("x-magpie-attempts"), Some("3"));
        let told = told(&world.take_records());
        assert_eq!(told.len(), 3);
        assert_eq!(told[2], (Outcome::Complete, 3, 3, true));
        assert!(
            told[..2]
                .iter()
                .all(|(outcome, _, _, is_last)| { *outcome == Outcome::ProviderError && !is_last })
        );
        assert_idle(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_every_target_is_told() {
    let dead = || Reply::failing(FailureKind::Connect);
    let world = world(RACE, [dead(), dead(), dead()]);
    let (status, error) = world.ask(chat(ASK)).await.error().await;
    assert_eq!((status, error["code"].as_str()), (503, Some("no_target_available")));
    let message = error["message"].as_str().unwrap();
    for target in ["one/a", "two/b", "three/c"] {
        assert!(message.contains(target), "{message}");
    }
    let records = world.take_records();
    assert_eq!(records.len(), 3);
    assert_eq!(records.iter().filter(|record| record.is_last).count(), 1);
    assert!(records[2].is_last && records[2].attempts == 3);
}

const HEDGED: &str = "models: { chat: { hedge: { after: 100ms, at_most: 100 }, fallback: [one/a, two/b, three/c] } }";

#[tokio::test(start_paused = true)]
async fn a_second_target_is_asked_when_the_first_is_late_and_not_before() {
    let world = world(HEDGED, [good("a").after(millis(99))]);
    assert_eq!(world.ask(chat(ASK)).await.header("x-magpie-target"), Some("one/a"));
    assert_eq!(world.upstream.calls().len(), 1);
    assert_eq!(told(&world.take_records()), [(Outcome::Complete, 1, 1, true)]);

    for (body, first, second) in [
        (ASK, good("a"), good("b")),
        (ASK_STREAM, stream("a"), stream("b")),
        (ASK_STREAM, Reply::stream().data(": x\n\n").wait(seconds(2)).data(DONE), stream("b")),
    ] {
        let replies = [first.after(seconds(2)), second.after(millis(50))];
        let world = self::world(HEDGED, replies);
        let start = Instant::now();
        let answer = world.ask(chat(body)).await;
        assert_eq!(start.elapsed().as_millis(), 150);
        assert_eq!(answer.header("x-magpie-target"), Some("two/b"));
        answer.bytes().await;
        let records = world.take_records();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].outcome, records[0].attempt), (Outcome::Cancelled, 1));
        assert_eq!(told(&records)[1], (Outcome::Complete, 2, 2, true));
        assert_idle(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_may_still_win_and_the_hedge_is_cancelled() {
    let world = world(HEDGED, [good("a").after(millis(150)), good("b").after(seconds(9))]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("x-magpie-target"), Some("one/a"));
    let records = world.take_records();
    assert_eq!((records[0].outcome, records[0].attempt), (Outcome::Cancelled, 2));
    assert_eq!(told(&records)[1], (Outcome::Complete, 1, 2, true));
    assert_idle(&world);

    // A stream whose head was there before the other one was asked.
    let first = Reply::stream().wait(millis(150)).data([&chunk("a"), FINISH, DONE].concat());
    let world = self::world(HEDGED, [first, good("b").after(seconds(9))]);
    let answer = world.ask(chat(ASK_STREAM)).await;
    assert_eq!(answer.header("x-magpie-target"), Some("one/a"));
    assert_eq!(answer.header("x-magpie-attempts"), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn hedges_have_their_share_of_the_requests_and_no_more() {
    let model = HEDGED.replace("at_most: 100", "at_most: 10");
    let replies = (0..400).map(|_| good("x").after(millis(200)));
    let world = world(&model, replies);
    for _ in 0..200 {
        assert_eq!(world.ask(chat(ASK)).await.status, 200);
    }
    assert_eq!(world.upstream.calls().len(), 220);
}

#[tokio::test(start_paused = true)]
async fn by_the_95th_percentile_those_are_hedged_that_are_later() {
    let model = HEDGED.replace("{ after: 100ms, at_most: 100 }", "p95");
    let usual = (0..50).map(|_| good("a").after(millis(100)));
    let late = [good("a").after(seconds(5)), good("b").after(millis(100))];
    let world = world(&model, usual.chain(late));
    for _ in 0..50 {
        assert_eq!(world.ask(chat(ASK)).await.header("x-magpie-attempts"), Some("1"));
    }
    let start = Instant::now();
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("x-magpie-target"), Some("two/b"));
    assert!((200..260).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_once_and_each_attempt_is_paid() {
    let keys = format!(
        "\nkeys: [{{ name: ada-1, key: {ADA}, limits: {{ rpm: 10, tpm: 10000, concurrency: 1 }}, budget: $1/day }}]"
    );
    let replies = [good("a").after(millis(300)), good("b").after(millis(100))];
    let world = world(&format!("{RACE}{keys}"), replies);
    let ask = || world.ask(keyed(chat(ASK), ADA));
    let (answer, during) = tokio::join!(async { ask().await.read().await }, async {
        tokio::time::sleep(millis(50)).await;
        (world.left(Kind::Key, "ada-1", "rpm"), world.budget(Kind::Key, "ada-1").reserved)
    });
    assert_eq!(answer.0, 200);
    assert_eq!(during.0, 9, "one request");
    assert!((4_000_000..4_400_000).contains(&during.1), "two reservations: {}", during.1);
    let records = world.take_records();
    let paid: u64 = records.iter().map(|it| it.charge.as_ref().unwrap().money.nanos).sum();
    let standing = world.budget(Kind::Key, "ada-1");
    assert_eq!((standing.spent, standing.reserved), (paid, 0));
    assert_eq!(world.left(Kind::Key, "ada-1", "rpm"), 9);
    assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 1);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_paid_does_not_run() {
    let keys = format!("\nkeys: [{{ name: ada-1, key: {ADA}, budget: $0.003/day }}]");
    let world = world(&format!("{RACE}{keys}"), [good("a")]);
    let answer = world.ask(keyed(chat(ASK), ADA)).await;
    assert_eq!(answer.header("x-magpie-target"), Some("one/a"));
    assert_eq!(world.upstream.calls().len(), 1);
    assert_eq!(told(&world.take_records()), [(Outcome::Complete, 1, 1, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_all_of_them() {
    let slow = || good("a").after(seconds(100));
    let world = world(RACE, [slow(), slow()]);
    assert!(timeout(seconds(1), world.ask(chat(ASK))).await.is_err());
    assert_eq!(world.upstream.fates.cancelled.get(), 2);
    let records = world.take_records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.outcome == Outcome::ClientGone));
    assert_eq!((records[0].is_last, records[1].is_last), (false, true));
    assert_eq!(records[1].attempts, 2);
    assert_idle(&world);
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    for (model, words) in [
        ("race: [one/a]", "2 to 4 targets"),
        ("race: [one/a, two/b, one/c, one/d, one/e]", "2 to 4 targets"),
        ("{ target: one/a, race: [one/b, two/b] }", "names its targets itself"),
        ("{ race: [one/a, two/b], hedge: p95 }", "means nothing beside"),
        ("{ target: one/a, hedge: p95 }", "needs a second target"),
        ("{ fallback: [one/a, two/b], hedge: soon }", "does not begin with a number"),
        ("{ fallback: [one/a, two/b], hedge: { after: 1s, at_most: 0 } }", "from 1 to 100"),
    ] {
        let model =
            if model.starts_with('{') { model.to_owned() } else { format!("{{ {model} }}") };
        let yaml = format!("{PROVIDERS}models:\n  chat: {model}\n");
        let environment = policy::Environment::new();
        let config = policy::load(&yaml, &environment).unwrap_or_else(|it| panic!("{it:?}"));
        let profiles = providers::builtin().unwrap();
        let Err(problems) = policy::build(&config, &profiles, &environment) else {
            panic!("{model} was taken");
        };
        assert!(problems[0].message.contains(words), "{model}: {problems:?}");
        assert_eq!(problems[0].place.line, 11, "{model}: {problems:?}");
    }
}
