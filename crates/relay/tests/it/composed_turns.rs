//! What becomes of a composed model where a budget is used up, or an answer in it breaks off.

use relay::{Outcome, Record};

use crate::resumed::{ASK as ASK_HALF, RESUMING, dying, put_together, rest, text};
use crate::scripted::Reply;
use crate::world::{ASK, World, chat, keyed, local, with_header};

const ADA: &str = "mk-of-ada-0123456789";

/// With a thousandth of a dollar left, and a model that costs nothing.
const CONFIG: &str = "
providers:
  one: { profile: openai-compatible, base_url: 'http://one.test/v1', api_key: sk-one-0123456789 }
  two: { profile: openai-compatible, base_url: 'http://two.test/v1', api_key: sk-two-0123456789 }
prices:
  one/free: { input: '0', output: '0' }
  '*/*': { input: '1', output: '2', max_output: 1000 }
keys:
  - name: ada-1
    key: mk-of-ada-0123456789
    models: [chat, cheap, more]
    budget: { amount: $0.001, period: day, on_exhausted: { downgrade: cheap } }
models:
  cheap: one/free
  small: one/s
  large: two/l
";

fn world(models: &str, replies: impl IntoIterator<Item = Reply>) -> World {
    World::of(&format!("{CONFIG}{models}"), replies)
}

fn good(text: &str) -> Reply {
    Reply::json(format!(
        r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#
    ))
}

fn down() -> Reply {
    Reply::status(500).header("content-type", "application/json").data(r#"{"error":{}}"#)
}

fn ends(records: &[Record]) -> Vec<(Outcome, &str, bool)> {
    records.iter().map(|record| (record.outcome, &*record.model, record.is_last)).collect()
}

#[tokio::test]
async fn an_exhausted_budget_has_another_model_answer_in_its_place() {
    for model in [
        "  chat: { cascade: [small, large] }\n",
        "  chat: { panel: [small, large], judge: large }\n",
    ] {
        let world = world(model, [good("cheap")]);
        let answer = world.ask(keyed(chat(ASK), ADA)).await;
        assert_eq!(answer.header("x-magpie-target"), Some("one/free"), "{model}");
        assert_eq!(answer.header("x-magpie-attempts"), Some("1"), "{model}");
        assert!(answer.read().await.1.contains("cheap"), "{model}");
        assert_eq!(ends(&world.take_records()), [(Outcome::Complete, "cheap", true)], "{model}");
    }
}

#[tokio::test]
async fn what_is_there_already_is_given_before_another_model_is_asked() {
    let cascade = "  chat: { cascade: [cheap, large], escalate: { shorter_than: 40 } }\n";
    let poor = world(cascade, [good("poor")]);
    assert!(poor.ask(keyed(chat(ASK), ADA)).await.read().await.1.contains("poor"));
    assert_eq!(ends(&poor.take_records()), [(Outcome::Complete, "chat", true)]);

    // Where there is nothing, it is asked, though others were asked before.
    let none = world(cascade, [down(), good("cheap")]);
    let answer = none.ask(keyed(chat(ASK), ADA)).await;
    assert_eq!(answer.header("x-magpie-attempts"), Some("2"));
    assert!(answer.read().await.1.contains("cheap"));
    let records = none.take_records();
    assert_eq!(
        ends(&records),
        [(Outcome::ProviderError, "chat", false), (Outcome::Complete, "cheap", true)]
    );
    assert_eq!((records[0].attempt, records[1].attempt), (1, 2));
}

#[tokio::test]
async fn another_model_is_named_once() {
    let models = "  chat: { cascade: [small, large] }\n  more: { cascade: [small, large] }\n";
    let world =
        World::of(&format!("{CONFIG}{models}").replace("downgrade: cheap", "downgrade: more"), []);
    let (status, error) = world.ask(keyed(chat(ASK), ADA)).await.error().await;
    assert_eq!((status, error["code"].as_str()), (429, Some("insufficient_quota")));
    assert_eq!((world.records(), world.upstream.calls().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_gone_on_with_as_its_model_says() {
    for chat in ["cascade: [one/x, inner]", "panel: [one/x, inner], judge: one/x"] {
        let config = RESUMING.replace("  chat: {", &format!("  chat: {{ {chat} }}\n  inner: {{"));
        let world = World::of(&config, [down(), dying(10)]);
        let whole = text();
        world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
        let (_, answer) = world.chat(ASK_HALF).await;
        assert_eq!(put_together(&answer).0, text(), "{chat}");
        let mut records = world.take_records();
        records.sort_by_key(|record| record.attempt);
        let told: Vec<_> = records.iter().map(|it| (it.attempt, it.outcome, it.is_last)).collect();
        let [first, broken, last] = &told[..] else { panic!("{told:?}") };
        assert_eq!(*first, (1, Outcome::ProviderError, false), "{chat}");
        assert_eq!(*broken, (2, Outcome::Truncated, false), "{chat}");
        assert_eq!(*last, (3, Outcome::Complete, true), "{chat}");
        assert_eq!(world.upstream.fates.open.get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_gone_on_with_is_told_again_as_it_was() {
    local(async {
        let chat = "chat: { panel: [one/x, inner], judge: one/x }\n  inner:";
        let world = World::of(&RESUMING.replace("chat:", chat), [down(), dying(10)]);
        let whole = text();
        world.upstream.answer(move |seen| Reply::stream().data(rest(seen, &whole).concat()));
        let ask =
            || world.ask(with_header(crate::world::chat(ASK_HALF), "idempotency-key", "once"));
        let (first, again) = (ask().await, ask().await);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("x-magpie-attempts"), Some("0"));
        for name in ["x-magpie-target", "x-magpie-provider"] {
            assert_eq!(first.header(name), again.header(name), "{name}");
        }
        assert_eq!(first.bytes().await, again.bytes().await);
    })
    .await;
}
