//! Limits on the way of a request: taken before a provider is asked, settled when it is over.

use policy::directory::Kind;
use relay::{FailureKind, Limited, Outcome};

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, LAB, USAGE, World, chat, chunk, get, keyed, post, seconds,
};

const ADA: &str = "mk-of-ada-0123456789";
const BOB: &str = "mk-of-bob-0123456789";
/// An answer that used 10 tokens, 7 of them input.
const ANSWER: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;

/// Two keys in one team, with limits for each of those that a call of Ada's counts for.
fn limited(key: &str, user: &str, team: &str, org: &str) -> String {
    format!(
        "{LAB}
keys:
  - {{ name: ada-1, key: {ADA}, user: ada, limits: {{ {key} }} }}
  - {{ name: bob-1, key: {BOB}, team: search }}
users: {{ ada: {{ team: search, limits: {{ {user} }} }} }}
teams: {{ search: {{ org: acme, limits: {{ {team} }} }} }}
orgs: {{ acme: {{ limits: {{ {org} }} }} }}
"
    )
}

fn by_key(limits: &str) -> World {
    let answers = std::iter::repeat_with(|| Reply::json(ANSWER)).take(50);
    World::of(&limited(limits, "", "", ""), answers)
}

/// The answer to a chat of Ada's.
async fn ask(world: &World) -> crate::world::Answer {
    world.ask(keyed(chat(ASK), ADA)).await
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_refusal_names_the_limit_and_what_holds_it() {
    for (text, holder, limit) in [
        (limited("rpm: 1", "", "", ""), Kind::Key, "rpm"),
        (limited("", "input_tpd: 1", "", ""), Kind::User, "input_tpd"),
        (limited("", "", "rpd: 2", ""), Kind::Team, "rpd"),
    ] {
        let world = World::of(&text, std::iter::repeat_with(|| Reply::json(ANSWER)).take(5));
        while ask(&world).await.status == 200 {}
        let records = world.take_records();
        let (last, others) = records.split_last().unwrap();
        assert_eq!(last.limited, Some(Limited { holder, limit }), "{limit}");
        assert_eq!((last.outcome, last.fault), (Outcome::Refused, Some("rate_limit_exceeded")));
        assert!(others.iter().all(|record| record.limited.is_none()), "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_told_until_nothing_is_and_again_after_the_wait() {
    let world = by_key("rpm: 3");
    for left in ["2", "1", "0"] {
        let answer = ask(&world).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("3"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None);
        answer.read().await;
    }
    let calls = world.upstream.calls().len();
    world.take_records();
    let answer = ask(&world).await;
    assert_eq!(answer.header("retry-after"), Some("20"));
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("3"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(answer.header("x-ratelimit-reset-requests"), Some("1m0s"));
    assert_eq!(answer.header("x-should-retry"), None);
    let (status, error) = answer.error().await;
    assert_eq!((status, &error["type"]), (429, &"rate_limit_error".into()));
    assert_eq!(error["code"], "rate_limit_exceeded");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("key `ada-1`"), "{message}");
    assert!(message.contains("3 requests per minute, 0 left now"), "{message}");
    assert!(message.contains("Try again in 20s"), "{message}");
    assert_eq!(world.upstream.calls().len(), calls);
    assert_eq!(world.record().outcome, Outcome::Refused);
    tokio::time::advance(seconds(20)).await;
    assert_eq!(ask(&world).await.status, 200);
    assert_eq!(ask(&world).await.status, 429);
}

#[tokio::test(start_paused = true)]
async fn whose_limit_it_is_is_said() {
    let one = "rpm: 1";
    for (yaml, whose) in [
        (limited(one, "", "", ""), "key `ada-1`"),
        (limited("", one, "", ""), "user `ada`"),
        (limited("", "", one, ""), "team `search`"),
        (limited("", "", "", one), "org `acme`"),
        (
            limited("", "", "", "")
                .replace("up-model", "up-model\n  more: { target: lab/m, limits: { rpm: 1 } }"),
            "model `more`",
        ),
        (
            limited("", "", "", "").replace("    models:", "    limits: { rpm: 1 }\n    models:"),
            "provider `lab`",
        ),
    ] {
        let world = World::of(&yaml, []);
        let body = ASK.replace("chat", if whose.contains("more") { "more" } else { "chat" });
        assert_eq!(world.ask(keyed(chat(body.clone()), ADA)).await.status, 200, "{whose}");
        let (status, error) = world.ask(keyed(chat(body), ADA)).await.error().await;
        assert_eq!(status, 429);
        assert!(error["message"].as_str().unwrap().contains(whose), "{whose}: {error}");
        assert_eq!(world.upstream.calls().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_of_one_team_share_its_limit() {
    let world = World::of(&limited("", "", "rpm: 2", ""), []);
    assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.status, 200);
    assert_eq!(world.ask(keyed(chat(ASK), BOB)).await.status, 200);
    assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.status, 429);
    assert_eq!(world.ask(keyed(chat(ASK), BOB)).await.status, 429);
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_on_every_path_and_stream() {
    for request in [
        chat(ASK),
        chat(ASK_STREAM),
        post("/v1/completions", r#"{"model":"chat","prompt":"x"}"#),
        post("/v1/embeddings", r#"{"model":"chat","input":"x"}"#),
        post("/v1/responses", r#"{"model":"chat","input":"x"}"#),
        post("/v1/rerank", r#"{"model":"chat"}"#),
        get("/v1/files/f"),
    ] {
        let world = by_key("rpm: 1");
        ask(&world).await.read().await;
        let path = request.uri().to_string();
        assert_eq!(world.ask(keyed(request, ADA)).await.status, 429, "{path}");
        assert_eq!(world.upstream.calls().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_takes_nothing_from_anyone() {
    let world = World::of(&limited("rpm: 10, tpm: 100k, concurrency: 5", "", "rpm: 1", ""), []);
    ask(&world).await.read().await;
    let left = |limit| world.left(Kind::Key, "ada-1", limit);
    let before = (left("rpm"), left("tpm"), left("concurrency"));
    assert_eq!((before.0, before.2), (9, 5));
    for _ in 0..20 {
        assert_eq!(ask(&world).await.status, 429);
    }
    assert_eq!((left("rpm"), left("tpm"), left("concurrency")), before);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_held_as_long_as_the_answer_runs_and_no_longer() {
    for (name, reply) in [
        ("done", Reply::stream().data(chunk("a")).wait(seconds(5)).data(DONE)),
        ("finished", Reply::stream().data(chunk("a")).wait(seconds(5)).data(FINISH)),
        ("cut", Reply::stream().data(chunk("a")).wait(seconds(5)).fail(FailureKind::Cut)),
        ("stalled", Reply::stream().data(chunk("a")).hang()),
    ] {
        let world = World::of(&limited("concurrency: 1", "", "", ""), [reply]);
        let mut answer = world.ask(keyed(chat(ASK_STREAM), ADA)).await;
        answer.next().await.unwrap().unwrap();
        let second = ask(&world).await;
        assert_eq!(second.status, 429, "{name}");
        assert_eq!(second.header("retry-after"), Some("1"));
        let (_, error) = second.error().await;
        assert!(error["message"].as_str().unwrap().contains("1 requests at once"), "{error}");
        while let Some(frame) = answer.next().await {
            frame.unwrap();
        }
        drop(answer);
        assert_eq!(ask(&world).await.status, 200, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gives_its_slot_and_its_tokens_back() {
    let reply = || Reply::stream().data(chunk("a")).hang();
    let world = World::of(&limited("concurrency: 1, tpm: 10k", "", "", ""), [reply(), reply()]);
    for _ in 0..2 {
        let mut answer = world.ask(keyed(chat(ASK_STREAM), ADA)).await;
        assert_eq!(answer.status, 200);
        answer.next().await.unwrap().unwrap();
        assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 0);
        drop(answer);
        assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 1);
    }
    let used: u64 = world
        .take_records()
        .iter()
        .map(|record| record.usage.unwrap().input_total() + record.usage.unwrap().output_total())
        .sum();
    assert!(used < 100, "{used}");
    assert_eq!(world.left(Kind::Key, "ada-1", "tpm"), 10_000 - used);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_reserved_by_estimate_and_settled_by_what_was_told() {
    for (limit, used) in [("tpm", 10), ("input_tpm", 7), ("output_tpm", 3)] {
        let stream = [chunk("a"), FINISH.into(), USAGE.into(), DONE.into()].concat();
        let replies = [
            Reply::json(ANSWER).after(seconds(1)),
            Reply::stream().after(seconds(1)).data(stream),
            Reply::status(500),
            Reply::failing(FailureKind::Connect),
        ];
        let world = World::of(
            &limited(&format!("{limit}: {{ amount: 1M, burst: 2000 }}"), "", "", ""),
            replies,
        );
        let left = || world.left(Kind::Key, "ada-1", limit);
        for (body, used) in [(ASK, used), (ASK_STREAM, used), (ASK, 0), (ASK, 0)] {
            let before = left();
            assert_eq!(before, 2000);
            let bounded = body.replace("\"model\"", "\"max_tokens\":900,\"model\"");
            let (answer, during) = tokio::join!(
                async { world.ask(keyed(chat(bounded), ADA)).await.read().await },
                async {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    left()
                }
            );
            let bound = world.log.opened.borrow().last().unwrap().1;
            if used > 0 {
                let reserved = match limit {
                    "tpm" => bound.input + bound.output,
                    "input_tpm" => bound.input,
                    _ => bound.output,
                };
                // A millisecond gives 16 tokens back.
                assert!(during.abs_diff(before - reserved) <= 17, "{limit}: {during} {reserved}");
                assert_eq!(bound.output, 900);
            }
            assert!(left() + used >= 2000, "{limit}: {} {answer:?}", left());
            tokio::time::advance(seconds(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_a_limit_passes_when_it_is_unused_and_is_waited_off() {
    let big = r#"{"usage":{"prompt_tokens":900,"completion_tokens":2100,"total_tokens":3000}}"#;
    let world = World::of(&limited("tpm: 1000", "", "", ""), [Reply::json(big)]);
    let long = ASK.replace("\"hi\"", &format!("\"{}\"", "x".repeat(9000)));
    let answer = world.ask(keyed(chat(long.clone()), ADA)).await;
    assert_eq!(answer.status, 200);
    answer.read().await;
    // Three minutes' worth was used, and one more is wanted.
    let answer = world.ask(keyed(chat(long.clone()), ADA)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("180")));
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some("0"));
    assert_eq!(answer.header("x-ratelimit-reset-tokens"), Some("3m0s"));
    tokio::time::advance(seconds(180)).await;
    assert_eq!(world.ask(keyed(chat(long), ADA)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_tightest_of_several_limits_is_told() {
    let world = World::of(&limited("rpm: 100, tpm: 100k", "rph: 5", "rpd: 50", ""), []);
    let answer = ask(&world).await;
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("5"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("4"));
    assert_eq!(answer.header("x-ratelimit-reset-requests"), Some("12m0s"));
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("100000"));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_once_are_admitted_up_to_the_limit_and_not_one_more() {
    let replies = std::iter::repeat_with(|| Reply::json(ANSWER).after(seconds(3))).take(1000);
    let world =
        World::of(&limited("rps: { amount: 40, burst: 10 }, concurrency: 60", "", "", ""), replies);
    let asks = (0..1000_u64).map(|index| {
        let world = &world;
        async move {
            // Four seconds, 250 in each.
            tokio::time::sleep(std::time::Duration::from_millis(index * 4)).await;
            ask(world).await.status.as_u16()
        }
    });
    let statuses = crate::world::all(asks).await;
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)));
    assert_eq!(world.upstream.calls().len(), admitted);
    // Never more than 60 run, each for three seconds: 60 in each of two rounds at the most.
    assert!((60..=120).contains(&admitted), "{admitted}");
    assert_eq!(world.left(Kind::Key, "ada-1", "concurrency"), 60);
}

/// The limits and the budget of a model cannot be avoided by its provider's name for it.
#[tokio::test(start_paused = true)]
async fn a_model_has_its_limits_by_every_name_that_the_file_does_not_spell_out() {
    let price = "prices: { \"lab/*\": { input: \"1\", output: \"1\", max_output: 10 } }\n";
    let limits = [
        ("limits: { rpm: 1 }", "rate_limit_exceeded"),
        ("budget: $0.00001/day", "insufficient_quota"),
    ];
    for ((terms, code), name) in
        limits.into_iter().flat_map(|terms| ["lab/large", "large"].map(|name| (terms, name)))
    {
        let models = format!("chat: {{ target: lab/large, {terms} }}\n  other: lab/large");
        let yaml = LAB.replace("chat: lab/up-model", &models);
        let replies = std::iter::repeat_with(|| Reply::json(ANSWER)).take(3);
        let world = World::of(&format!("{yaml}{price}"), replies);
        let ask = async |model: &str| {
            world.ask(chat(ASK.replace("\"chat\"", &format!("{model:?}")))).await
        };
        if code == "rate_limit_exceeded" {
            assert_eq!(ask("chat").await.status, 200);
            assert_eq!(world.left(Kind::Model, "chat", "rpm"), 0);
        }
        let (status, error) = ask(name).await.error().await;
        assert_eq!((status, error["code"].as_str()), (429, Some(code)), "{name}");
        assert!(error["message"].as_str().unwrap().contains("model `chat`"), "{error}");
        assert_eq!(ask("other").await.status, 200, "a name of its own");
        assert_eq!(ask("lab/small").await.status, 200, "another model");
        // Forwarded paths find their model's route the same way.
        let body = format!(r#"{{"model":"{name}","input":"x"}}"#);
        let refused = world.ask(post("/v1/responses", body)).await;
        assert!(refused.status == 429 || refused.status == 403, "{name}: {}", refused.status);
    }
}

/// Whoever is refused and asks again and again takes little from those who are not.
#[tokio::test(start_paused = true)]
async fn a_refusal_costs_microseconds() {
    let world = by_key("rpm: 1");
    assert_eq!(ask(&world).await.status, 200);
    let mut times = Vec::new();
    for _ in 0..1000 {
        let request = keyed(chat(ASK), ADA);
        let begun = std::time::Instant::now();
        let answer = world.ask(request).await;
        times.push(begun.elapsed());
        assert_eq!(answer.status, 429);
    }
    times.sort_unstable();
    let middle = times[times.len() / 2];
    eprintln!("a refusal takes {middle:?}");
    // Debug builds are several times slower, and not what anyone serves with.
    let most = if cfg!(debug_assertions) { 1000 } else { 100 };
    assert!(middle < std::time::Duration::from_micros(most), "{middle:?}");
}
