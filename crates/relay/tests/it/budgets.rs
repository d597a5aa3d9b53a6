//! Budgets on the way of a request: the most that it can cost is reserved before a provider is
//! asked, and what it did cost is spent when it is over.

use policy::directory::Kind;
use policy::money::Money;
use relay::{FailureKind, Outcome, Provenance};

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, LAB, USAGE, World, all, chat, chunk, get, keyed, millis, post,
    seconds,
};

const ADA: &str = "mk-of-ada-0123456789";
const ANSWER: &str = r#"{"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;
/// What 7 tokens in and 3 out cost at $1 and $2 a million, in billionths.
const COST: u64 = 13_000;

/// The lab with prices, a cheaper model, and this budget of Ada's key.
fn funded(budget: &str) -> String {
    let lab = LAB.replace("chat: lab/up-model", "chat: lab/up-model\n  cheap: lab/small");
    format!(
        "{lab}
prices:
  lab/up-model: {{ input: \"1\", output: \"2\", max_output: 1000 }}
  lab/small: {{ input: \"0.01\", output: \"0.01\", max_output: 100 }}
exchange: {{ USD/CNY: \"7\" }}
keys: [{{ name: ada-1, key: {ADA}, limits: {{ rpm: 2000 }}, budget: {budget} }}]
"
    )
}

async fn ask(world: &World) -> crate::world::Answer {
    world.ask(keyed(chat(ASK), ADA)).await
}

fn spent(world: &World) -> (u64, u64) {
    let standing = world.budget(Kind::Key, "ada-1");
    (standing.spent, standing.reserved)
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_cost_is_spent_and_the_rest_given_back() {
    let stream = [chunk("a"), FINISH.into(), USAGE.into(), DONE.into()].concat();
    for (body, reply) in [
        (ASK, Reply::json(ANSWER).after(seconds(2))),
        (ASK_STREAM, Reply::stream().after(seconds(2)).data(stream)),
    ] {
        let world = World::of(&funded("$1/day"), [reply]);
        let (_, during) =
            tokio::join!(async { world.ask(keyed(chat(body), ADA)).await.read().await }, async {
                tokio::time::sleep(seconds(1)).await;
                spent(&world)
            });
        // The input by its bytes, and a thousand tokens of output.
        assert!((2_000_000..2_200_000).contains(&during.1), "{during:?}");
        assert_eq!((during.0, spent(&world)), (0, (COST, 0)));
        let record = world.record();
        let charge = record.charge.as_ref().unwrap();
        assert_eq!(charge.money, "$0.000013".parse::<Money>().unwrap());
        assert_eq!(record.provenance, Provenance::Reported);
        assert!(charge.formula().contains("7 input"), "{}", charge.formula());
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_used_up_refuses_with_words_that_help() {
    let world = World::of(&funded("$0.001/day"), []);
    let answer = ask(&world).await;
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let wait: u64 = answer.header("retry-after").map_or(0, |wait| wait.parse().unwrap());
    assert_eq!(wait, 0, "a reservation larger than the whole budget never fits");
    let (status, error) = answer.error().await;
    assert_eq!((status, error["code"].as_str()), (429, Some("insufficient_quota")));
    assert_eq!(error["type"], "insufficient_quota");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("key `ada-1`") && message.contains("$0.001"), "{message}");
    world.assert_refused("insufficient_quota");
    assert_eq!(spent(&world), (0, 0));

    // Spent for today: tomorrow it fits.
    let costly = r#"{"usage":{"prompt_tokens":900000,"completion_tokens":0}}"#;
    let world = World::of(&funded("$0.9/day"), [Reply::json(costly)]);
    ask(&world).await.read().await;
    assert_eq!(spent(&world), (900_000_000, 0));
    let answer = ask(&world).await;
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "{wait}");
    assert_eq!(world.upstream.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_once_never_pass_a_hard_budget() {
    let yaml = funded("$1/day").replace(
        "lab/up-model: { input: \"1\", output: \"2\", max_output: 1000 }",
        "lab/up-model: { per_request: \"0.01\", max_output: 1000 }",
    );
    let replies = std::iter::repeat_with(|| Reply::json(ANSWER).after(seconds(1))).take(1000);
    let world = World::of(&yaml, replies);
    let statuses = all((0..1000_u64).map(|index| {
        let world = &world;
        async move {
            tokio::time::sleep(millis(index % 10 * 300)).await;
            let answer = ask(world).await;
            let (spent, reserved) = spent(world);
            assert!(spent + reserved <= 1_000_000_000, "{spent} + {reserved}");
            answer.status.as_u16()
        }
    }))
    .await;
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(served, 100, "a hundred of a hundredth, to the last");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)));
    assert_eq!(spent(&world), (1_000_000_000, 0), "no reservation is stuck");
    assert_eq!(world.upstream.calls().len(), 100);
    assert_eq!(world.records(), 1000);
}

#[tokio::test(start_paused = true)]
async fn what_reached_nobody_costs_nothing() {
    for reply in [
        Reply::status(500),
        Reply::status(429),
        Reply::json(r#"{"error":{"message":"m"}}"#),
        Reply::failing(FailureKind::Connect),
        Reply::status(302),
    ] {
        let world = World::of(&funded("$1/day"), [reply]);
        ask(&world).await.read().await;
        assert_eq!(spent(&world), (0, 0));
        assert_eq!(world.record().provenance, Provenance::None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_at_any_event_pays_for_what_there_was() {
    const EVENTS: u64 = 12;
    for index in 0..=EVENTS {
        let reply = (0..EVENTS).fold(Reply::stream(), |reply, at| {
            reply.data(chunk(&format!("w{at} "))).wait(seconds(1))
        });
        let world = World::of(&funded("$1/day"), [reply.data([FINISH, USAGE, DONE].concat())]);
        let mut answer = world.ask(keyed(chat(ASK_STREAM), ADA)).await;
        for _ in 0..index {
            answer.next().await.unwrap().unwrap();
        }
        drop(answer);
        let record = world.record();
        assert_eq!(
            (record.outcome, record.provenance),
            (Outcome::ClientGone, Provenance::Estimated)
        );
        let usage = record.usage.unwrap();
        assert_eq!(usage.output, index, "a token an event");
        let bound = world.log.opened.borrow()[0].1;
        assert_eq!(usage.input, bound.input);
        assert!(usage.input > 0);
        assert_eq!(spent(&world), (bound.input * 1000 + index * 2000, 0));
        assert_eq!(world.upstream.fates.open.get(), 0, "the call is cancelled");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_pays_for_what_there_was() {
    for end in [
        Reply::stream().data(chunk("a")).fail(FailureKind::Cut),
        Reply::stream().data(chunk("a")),
        Reply::stream().data(chunk("a")).hang(),
        Reply::stream().data(chunk("a")).data("data: {\n\n"),
    ] {
        let world = World::of(&funded("$1/day"), [end]);
        world.ask(keyed(chat(ASK_STREAM), ADA)).await.read().await;
        let (spent, reserved) = spent(&world);
        assert!(spent > 2000, "{spent}");
        assert_eq!(reserved, 0);
        assert_eq!(world.record().provenance, Provenance::Estimated);
    }
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_budget_sends_to_the_cheaper_model_and_counts_the_request_once() {
    let budget = "{ amount: $0.001, period: day, on_exhausted: { downgrade: cheap } }";
    let world = World::of(&funded(budget), [Reply::json(ANSWER), Reply::json(ANSWER)]);
    let answer = ask(&world).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-magpie-target"), Some("lab/small"));
    assert!(world.upstream.call().text().contains(r#""model":"small""#));
    assert_eq!(&*world.record().model, "cheap");
    assert_eq!(spent(&world), (100, 0));
    assert_eq!(world.left(Kind::Key, "ada-1", "rpm"), 1999, "one request is one");

    // Nor is there money for the cheap one; and a scope rules both.
    let world = World::of(&funded(&budget.replace("$0.001", "$0.0000001")), []);
    assert_eq!(ask(&world).await.error().await.1["code"], "insufficient_quota");
    world.assert_refused("insufficient_quota");
    let narrow = funded(budget).replace("limits:", "models: [chat], limits:");
    let world = World::of(&narrow, []);
    assert_eq!(ask(&world).await.status, 403);
    world.assert_refused("model_not_allowed");
    assert_eq!(spent(&world), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_cheaper_model_does_not_take_a_request_out_of_its_region() {
    let yaml = |chat: &str, cheap: &str| {
        format!(
            "providers:
  home: {{ profile: openai-compatible, base_url: 'http://home.test/v1', auth: optional, region: cn }}
  own: {{ profile: openai-compatible, base_url: 'http://own.test/v1', auth: optional, region: private }}
  away: {{ profile: openai-compatible, base_url: 'http://away.test/v1', auth: optional, region: intl }}
models:
  chat: {chat}
  cheap: {cheap}
  small: away/s
prices:
  home/m: {{ currency: USD, input: '1', output: '2', max_output: 1000 }}
  '*/s': {{ currency: USD, input: '0.01', output: '0.01', max_output: 100 }}
keys:
  - name: ada-1
    key: {ADA}
    budget: {{ amount: $0.001, period: day, on_exhausted: {{ downgrade: cheap }} }}
"
        )
    };
    let here = "{ target: home/m, region: cn }";
    let inside = "{ when: [{ if: { operations: [chat] }, use: { target: home/m, region: cn } }, { use: away/m }] }";
    for (chat, cheap, leads_to) in [
        (here, "{ fallback: [home/s, own/s] }", Some("home/s")),
        (here, "{ fallback: [home/s, away/s] }", None),
        (here, "{ cascade: [own/s, small] }", None),
        (inside, "away/s", None),
        ("home/m", "away/s", Some("away/s")),
    ] {
        let world = World::of(&yaml(chat, cheap), [Reply::json(ANSWER)]);
        let answer = ask(&world).await;
        let target = answer.header("x-magpie-target").filter(|_| answer.status == 200);
        assert_eq!(target, leads_to, "{chat}, {cheap}: {}", answer.status);
        if leads_to.is_none() {
            assert_eq!(answer.error().await.1["code"], "insufficient_quota", "{chat}, {cheap}");
            world.assert_refused("insufficient_quota");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_only_alerts_refuses_nobody_and_tells_each_mark_once() {
    let budget = "{ amount: $0.00003, period: day, on_exhausted: alert, alerts: [50, 100] }";
    let replies = std::iter::repeat_with(|| Reply::json(ANSWER)).take(6);
    let world = World::of(&funded(budget), replies);
    let mut told = Vec::new();
    for _ in 0..6 {
        assert_eq!(ask(&world).await.status, 200);
        let record = world.take_records().pop().unwrap();
        told.push(record.alerts.iter().map(|alert| alert.percent).collect::<Vec<_>>());
    }
    assert_eq!(told, [vec![], vec![50], vec![100], vec![], vec![], vec![]]);
    assert_eq!(spent(&world), (6 * COST, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_price_is_refused_or_taken_for_the_agreed_amount_and_never_for_free() {
    let unpriced = |budget: &str| funded(budget).replace("lab/up-model:", "lab/other:");
    let world = World::of(&unpriced("$1/day"), []);
    let (status, error) = ask(&world).await.error().await;
    assert_eq!((status, error["code"].as_str()), (403, Some("unpriced_model")));
    assert!(error["message"].as_str().unwrap().contains("lab/up-model"), "{error}");
    world.assert_refused("unpriced_model");

    let agreed = "{ amount: $1, period: day, unpriced: $0.4 }";
    let replies = [Reply::json(ANSWER), Reply::status(500), Reply::json(ANSWER)];
    let world = World::of(&unpriced(agreed), replies);
    for (status, so_far) in [(200, 400_000_000), (500, 400_000_000), (200, 800_000_000)] {
        assert_eq!(ask(&world).await.status, status);
        assert_eq!(spent(&world), (so_far, 0));
    }
    assert_eq!(ask(&world).await.status, 429);
    assert!(world.take_records().iter().all(|record| record.charge.is_none()));

    let soft = "{ amount: $1, period: day, on_exhausted: alert }";
    let world = World::of(&unpriced(soft), [Reply::json(ANSWER)]);
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(spent(&world), (0, 0));
}

/// Pictures, speech and the like come without token counts.
#[tokio::test(start_paused = true)]
async fn what_has_no_counts_costs_what_a_request_does_or_the_agreed_amount_and_is_not_free() {
    let agreed = funded("{ amount: $1, period: day, unpriced: $0.4 }");
    let by_tokens = "lab/up-model: { input: \"1\", output: \"2\", max_output: 1000 }";
    let flat = agreed.replace(by_tokens, "lab/up-model: { per_request: \"0.01\" }");
    let free = agreed.replace(by_tokens, "lab/up-model: { input: \"0\", output: \"0\" }");
    let body = r#"{"model":"chat","input":"a"}"#;
    for (yaml, path, status, cost) in [
        (&agreed, "/v1/images/generations", 200, Some(400_000_000)),
        (&agreed, "/v1/audio/speech", 200, Some(400_000_000)),
        (&agreed, "/v1/rerank", 200, Some(400_000_000)),
        (&agreed, "/v1/videos", 200, Some(400_000_000)),
        (&agreed, "/v1/images/generations", 500, None),
        (&agreed, "/v1/moderations", 200, None),
        (&flat, "/v1/images/generations", 200, Some(10_000_000)),
        (&flat, "/v1/rerank", 500, None),
        (&free, "/v1/images/generations", 200, Some(0)),
    ] {
        let world = World::of(yaml, [Reply::status(status).data("{}")]);
        let answer = world.ask(keyed(post(path, body), ADA)).await;
        assert_eq!(answer.status, status, "{path}");
        answer.read().await;
        assert_eq!(spent(&world), (cost.unwrap_or(0), 0), "{path}");
        let record = world.record();
        let charged = record.charge.as_ref().map(|charge| charge.money.nanos);
        let is_known = *yaml != agreed;
        assert_eq!(charged, cost.filter(|_| is_known), "{path}");
        assert_eq!(record.unpriced, cost.is_some() && !is_known, "{path}");
        assert_eq!((record.provenance, record.usage), (Provenance::None, None), "{path}");
    }
    // To look at something costs nothing.
    let world = World::of(&agreed, [Reply::json("{}")]);
    world.ask(keyed(get("/v1/batches/b1"), ADA)).await.read().await;
    assert_eq!((spent(&world), world.record().unpriced), ((0, 0), false));
}

#[tokio::test(start_paused = true)]
async fn a_price_in_another_currency_is_converted_and_without_a_rate_not_known() {
    let world = World::of(&funded("¥1/day"), [Reply::json(ANSWER)]);
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(spent(&world), (7 * COST, 0));
    let world = World::of(&funded("¥1/day").replace("exchange:", "#"), []);
    assert_eq!(ask(&world).await.error().await.1["code"], "unpriced_model");
}

#[tokio::test(start_paused = true)]
async fn a_budget_binds_wherever_it_is_held() {
    let key = format!("{{ name: ada-1, key: {ADA}, user: ada }}");
    let base = |users: &str, teams: &str, orgs: &str| {
        let yaml = funded("$5/day");
        let at = yaml.find("keys:").unwrap();
        format!(
            "{}keys: [{key}]\nusers: {{ ada: {{ team: search{users} }} }}\n\
             teams: {{ search: {{ org: acme{teams} }} }}\norgs: {{ acme: {{ {orgs} }} }}\n",
            &yaml[..at]
        )
    };
    let (budget, small) = (", budget: $0.001/day", "budget: $0.001/day");
    let model = base("", "", "")
        .replace("lab/up-model\n", &format!("{{ target: lab/up-model, {small} }}\n"));
    let provider = base("", "", "").replace("    models:", &format!("    {small}\n    models:"));
    for (yaml, whose) in [
        (base(budget, "", ""), "user `ada`"),
        (base("", budget, ""), "team `search`"),
        (base("", "", small), "org `acme`"),
        (model, "model `chat`"),
        (provider, "provider `lab`"),
    ] {
        let world = World::of(&yaml, []);
        let (status, error) = ask(&world).await.error().await;
        assert_eq!(status, 429, "{whose}: {error}");
        assert!(error["message"].as_str().unwrap().contains(whose), "{error}");
        world.assert_refused("insufficient_quota");
    }
}

/// Ada and Bob share what the team, the model or the provider has: neither may hold more of it than
/// half. Ada's own budget is hers alone.
#[tokio::test(start_paused = true)]
async fn a_key_holds_no_more_of_a_shared_budget_than_its_share() {
    const BOB: &str = "mk-of-bob-0123456789";
    // A request reserves $0.002 for its output, and a little for its input.
    let shared = "budget: { amount: $0.009, period: day, key_share: 50% }";
    let keys = format!(
        ", team: search }}, {{ name: bob-1, key: {BOB}, team: search }}]\n\
         teams: {{ search: {{ limits: {{ rpm: 900 }} }} }}\n"
    );
    let base = funded("{ amount: $0.009, period: day, key_share: 50 }").replace(" }]\n", &keys);
    let of_team = base.replace("limits: { rpm: 900 }", shared);
    let of_model =
        base.replace("lab/up-model\n", &format!("{{ target: lab/up-model, {shared} }}\n"));
    let of_provider = base.replace("    models:", &format!("    {shared}\n    models:"));
    for (yaml, kind, id) in [
        (of_team, Kind::Team, "search"),
        (of_model, Kind::Model, "chat"),
        (of_provider, Kind::Provider, "lab"),
    ] {
        let replies = std::iter::repeat_with(|| Reply::json(ANSWER).after(seconds(9))).take(9);
        let world = World::of(&yaml, replies);
        let whose = format!("{} `{id}`", kind.word());
        let told = |message: &str| message.contains(&whose) && message.contains("50%");
        let ada = all([0, 1, 2].map(|_| ask(&world)));
        let late = async {
            tokio::time::sleep(seconds(1)).await;
            world.ask(keyed(chat(ASK), BOB)).await.status
        };
        let (ada, bob) = tokio::join!(ada, late);
        let statuses: Vec<_> = ada.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(statuses, [429, 200, 200], "{whose}: two of them are half");
        assert_eq!(bob, 200, "{whose}: what is left is his");
        let refused = ada.into_iter().next().unwrap();
        assert_eq!(refused.header("retry-after"), None, "it waits for Ada's own requests");
        let (_, error) = refused.error().await;
        assert_eq!(error["code"], "insufficient_quota");
        assert!(told(error["message"].as_str().unwrap()), "{error}");
        // All is given back when it is over.
        assert_eq!(world.budget(kind, id).reserved, 0);
        assert_eq!(ask(&world).await.status, 200, "{whose}");
    }

    // A cheaper model is asked where the budget says so.
    let cheaper = shared.replace("}", ", on_exhausted: { downgrade: cheap } }");
    let of_team = base.replace("limits: { rpm: 900 }", &cheaper);
    let replies = std::iter::repeat_with(|| Reply::json(ANSWER).after(seconds(9))).take(3);
    let world = World::of(&of_team, replies);
    let answers = all([0, 1, 2].map(|_| ask(&world))).await;
    let targets: Vec<_> =
        answers.iter().map(|answer| answer.header("x-magpie-target").unwrap()).collect();
    assert_eq!(targets, ["lab/up-model", "lab/up-model", "lab/small"]);
}
