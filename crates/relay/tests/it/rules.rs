//! Limits on combinations.

use std::net::{IpAddr, Ipv6Addr};

use crate::scripted::Reply;
use crate::world::{ASK, LAB, World, chat, get, keyed};

const ADA: &str = "mk-of-ada-0123456789";
const BOB: &str = "mk-of-bob-0123456789";
const OTHER: &str = r#"{"model":"lab/small","messages":[{"role":"user","content":"hi"}]}"#;

fn world(rules: &str) -> World {
    let answers = std::iter::repeat_with(|| Reply::json("{\"choices\":[]}")).take(50);
    let keys = format!(
        "{LAB}
keys:
  - {{ name: ada-1, key: {ADA}, user: ada }}
  - {{ name: bob-1, key: {BOB}, user: bob }}
limit_rules:
{rules}"
    );
    World::of(&keys, answers)
}

async fn status(world: &World, key: &str, body: &'static str) -> u16 {
    world.ask(keyed(chat(body), key)).await.read().await.0.as_u16()
}

#[tokio::test(start_paused = true)]
async fn each_combination_is_counted_apart() {
    let world = world("  - { per: [key, model], limits: { rpm: 1 } }\n");
    assert_eq!(status(&world, ADA, ASK).await, 200);
    assert_eq!(status(&world, ADA, ASK).await, 429);
    assert_eq!(status(&world, ADA, OTHER).await, 200);
    assert_eq!(status(&world, BOB, ASK).await, 200);
    assert_eq!(status(&world, BOB, ASK).await, 429);
    let (_, error) = world.ask(keyed(chat(ASK), ADA)).await.error().await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("key ada-1, model chat"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_rule_may_be_for_some_models_only() {
    let world = world("  - { per: [user], models: [\"lab/*\"], limits: { rpm: 1 } }\n");
    assert_eq!(status(&world, ADA, OTHER).await, 200);
    assert_eq!(status(&world, ADA, OTHER).await, 429);
    for _ in 0..3 {
        assert_eq!(status(&world, ADA, ASK).await, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_has_one_count_under_all_its_names() {
    let world = world("  - { per: [target], limits: { rpm: 1 } }\n");
    assert_eq!(status(&world, ADA, ASK).await, 200);
    let same = r#"{"model":"lab/up-model","messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(status(&world, BOB, same).await, 429);
    assert_eq!(status(&world, BOB, OTHER).await, 200);
}

#[tokio::test(start_paused = true)]
async fn strangers_are_counted_by_their_address() {
    let world = world("  - { per: [address], limits: { rpm: 2 } }\n");
    world.address.set(Some(IpAddr::from([192, 0, 2, 1])));
    assert_eq!(status(&world, "mk-guess-1", ASK).await, 401);
    assert_eq!(world.ask(get("/v1/models")).await.status.as_u16(), 401);
    let answer = world.ask(keyed(chat(ASK), "mk-guess-3")).await;
    assert_eq!(answer.header("retry-after"), Some("30"));
    assert_eq!(answer.status.as_u16(), 429);
    assert_eq!(status(&world, ADA, ASK).await, 429, "nobody comes in from there");
    world.address.set(Some(IpAddr::from([192, 0, 2, 2])));
    assert_eq!(status(&world, ADA, ASK).await, 200);
    // A network of IPv6 counts as one.
    for last in 1..4 {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last);
        world.address.set(Some(IpAddr::from(address)));
        let expected = if last < 3 { 401 } else { 429 };
        assert_eq!(status(&world, "mk-guess", ASK).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_are_given_back() {
    let world = world("  - { per: [key], limits: { concurrency: 1 } }\n");
    for _ in 0..5 {
        assert_eq!(status(&world, ADA, ASK).await, 200);
    }
}

#[test]
fn rules_that_say_nothing_are_problems() {
    for rule in [
        "{ limits: { rpm: 1 } }",
        "{ per: [key], limits: {} }",
        "{ per: [key, key], limits: { rpm: 1 } }",
        "{ per: [key, model, user], limits: { rpm: 1 } }",
    ] {
        let yaml = format!("{LAB}limit_rules:\n  - {rule}\n");
        let config = policy::load(&yaml, &policy::Environment::new()).unwrap();
        let profiles = providers::builtin().unwrap();
        let built = policy::build(&config, &profiles, &policy::Environment::new());
        let problems = built.err().unwrap();
        assert_eq!((problems.len(), problems[0].place.line), (1, 11), "{rule}: {problems:?}");
    }
}
