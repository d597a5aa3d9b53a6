//! Single flight between callers: nobody gets an answer that was not for them.

use policy::directory::Kind;
use relay::Outcome;
use tokio::time::sleep;

use crate::idempotency::ANSWER;
use crate::scripted::Reply;
use crate::single_flight::shared;
use crate::world::{ASK, Answer, LAB, World, all, chat, keyed, local, millis, seconds};

const ADA: &str = "mk-of-ada-0123456789";
const BOB: &str = "mk-of-bob-0123456789";
const CAT: &str = "mk-of-cat-0123456789";

fn slow() -> impl Iterator<Item = Reply> {
    (1..9).map(|number| Reply::json(format!(r#"{{"n":{number}}}"#)).after(seconds(1)))
}

async fn ask(world: &World, key: &str) -> Answer {
    world.ask(keyed(chat(ASK), key)).await
}

/// Ada asks, and the other one a moment later.
async fn both(world: &World, key: &str) -> (Answer, Answer) {
    tokio::join!(ask(world, ADA), async {
        sleep(millis(10)).await;
        ask(world, key).await
    })
}

fn joined(answer: &Answer) -> bool {
    answer.header("x-magpie-shared") == Some("joined")
}

#[tokio::test(start_paused = true)]
async fn a_team_shares_and_nobody_else() {
    local(async {
        let keys = format!(
            "keys:
  - {{ name: ada-1, key: {ADA}, team: search, budget: $1/day }}
  - {{ name: bob-1, key: {BOB}, team: search, budget: $1/day }}
  - {{ name: cat-1, key: {CAT} }}
teams: {{ search: {{}} }}
prices: {{ lab/*: {{ input: \"1\", output: \"2\", max_output: 1000 }} }}\n"
        );
        let answers = (0..9).map(|_| Reply::json(ANSWER).after(seconds(1)));
        let world = World::of(&shared(&keys), answers);
        let (ada, bob) = both(&world, BOB).await;
        assert!(!joined(&ada) && joined(&bob));
        assert_eq!(ada.read().await, bob.read().await);
        assert!(world.budget(Kind::Key, "ada-1").spent > 0);
        let (spent, reserved) = {
            let budget = world.budget(Kind::Key, "bob-1");
            (budget.spent, budget.reserved)
        };
        assert_eq!((spent, reserved), (0, 0), "one charge");
        let record = world.take_records().into_iter().find(|it| it.shared).unwrap();
        assert_eq!(record.caller.chain().id(Kind::Key).map(|id| &**id), Some("bob-1"));

        let (ada, cat) = both(&world, CAT).await;
        assert!(!joined(&ada) && !joined(&cat));
        let (cat, again) = tokio::join!(ask(&world, CAT), ask(&world, CAT));
        assert!(joined(&cat) != joined(&again), "one key alone");
        assert_eq!(world.upstream.calls().len(), 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_ask_for_the_model_does_not_get_its_answer() {
    local(async {
        let keys = format!(
            "keys:
  - {{ name: ada-1, key: {ADA}, team: search }}
  - {{ name: bob-1, key: {BOB}, team: search, models: [other] }}
  - {{ name: cat-1, key: {CAT}, team: search, limits: {{ rpm: 1 }} }}
teams: {{ search: {{}} }}\n"
        );
        let world = World::of(&shared(&keys), slow());
        let (ada, bob) = both(&world, BOB).await;
        assert_eq!(ada.status, 200);
        assert_eq!(bob.error().await.1["code"], "model_not_allowed");
        // And a limit on requests holds for those who join.
        let (_, cat) = both(&world, CAT).await;
        assert!(joined(&cat));
        let (_, cat) = both(&world, CAT).await;
        assert_eq!(cat.error().await.1["code"], "rate_limit_exceeded");
        assert!(!world.take_records().last().unwrap().shared);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_another_caller_was_refused_is_not_shared() {
    local(async {
        let keys = format!(
            "keys:
  - {{ name: ada-1, key: {ADA}, team: search, limits: {{ tpm: 1 }} }}
  - {{ name: bob-1, key: {BOB}, team: search }}
teams: {{ search: {{}} }}\n"
        );
        let answers = (0..9).map(|_| Reply::json(ANSWER).after(seconds(1)));
        let world = World::of(&shared(&keys), answers);
        ask(&world, ADA).await.read().await;
        // Ada has used more than her minute has: her call is refused, and Bob's goes alone.
        let (ada, bob) = tokio::join!(ask(&world, ADA), ask(&world, BOB));
        assert_eq!(ada.error().await.1["code"], "rate_limit_exceeded");
        assert_eq!((bob.status.as_u16(), joined(&bob)), (200, false));
        assert_eq!(world.upstream.calls().len(), 2);
        let records = world.take_records();
        assert_eq!(records.len(), 3);
        assert!(records.iter().all(|it| !it.shared));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_model_is_not_shared() {
    local(async {
        let spent = "budget: { amount: $0.000001, period: total, on_exhausted: { downgrade: small } }";
        let keys = format!(
            "prices: {{ lab/up-model: {{ input: 1, output: 1, max_output: 100 }}, lab/small: {{ input: 0, output: 0 }} }}
keys:
  - {{ name: ada-1, key: {ADA}, team: search, {spent} }}
  - {{ name: bob-1, key: {BOB}, team: search }}
teams: {{ search: {{}} }}\n"
        );
        let yaml = shared(&keys).replace("models:\n  chat", "models:\n  small: lab/small\n  chat");
        let world = World::of(&yaml, slow());
        let (ada, bob) = both(&world, BOB).await;
        assert_eq!(ada.header("x-magpie-target"), Some("lab/small"));
        assert_eq!(bob.header("x-magpie-target"), Some("lab/up-model"));
        assert!(!joined(&bob));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_target_that_is_not_for_the_caller_is_not_shared() {
    local(async {
        let keys = format!(
            "keys:
  - {{ name: ada-1, key: {ADA}, team: search }}
  - {{ name: bob-1, key: {BOB}, team: search }}
  - {{ name: cat-1, key: {CAT}, team: search }}
teams: {{ search: {{}} }}\n"
        );
        let cases = "chat: { when: [{ if: { key: ada-1 }, use: lab/large }, { if: { key: bob-1 }, use: lab/small }, { use: { fallback: [lab/small, lab/large] } }], single_flight: true }";
        let yaml = format!("{}{keys}", LAB.replace("chat: lab/up-model", cases));
        let world = World::of(&yaml, slow());
        let (ada, bob) = both(&world, BOB).await;
        assert_eq!(ada.header("x-magpie-target"), Some("lab/large"));
        assert_eq!((bob.header("x-magpie-target"), joined(&bob)), (Some("lab/small"), false));
        // Cat's request might have come to either.
        let (_, cat) = both(&world, CAT).await;
        assert_eq!((cat.header("x-magpie-target"), joined(&cat)), (Some("lab/large"), true));
        assert_eq!(world.upstream.calls().len(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn those_who_joined_end_as_the_first_where_a_provider_failed() {
    local(async {
        let error = Reply::status(503)
            .header("content-type", "application/json")
            .header("retry-after", "7")
            .data(r#"{"error":{"message":"busy"}}"#)
            .after(seconds(1));
        let world = World::of(&shared(""), [error]);
        let answers = all((0..5).map(|_| world.ask(chat(ASK)))).await;
        for answer in answers {
            assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("7")));
            answer.read().await;
        }
        world.upstream.call();
        let records = world.take_records();
        assert_eq!(records.len(), 5);
        assert!(records.iter().all(|it| it.outcome == Outcome::ProviderError && it.status == 503));
    })
    .await;
}
