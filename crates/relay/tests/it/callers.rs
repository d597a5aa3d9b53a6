//! Who calls, and whether they may: the same decision for every path and every form of a key.

use http::Request;
use policy::directory::Kind;
use relay::Outcome;
use serde_json::Value;

use crate::scripted::{Reply, ScriptBody};
use crate::world::{ASK, ASK_STREAM, DONE, LAB, World, chat, chunk, get, keyed, post, with_header};

const ADA: &str = "mk-of-ada-0123456789";
const FORMS: [(&str, &str); 4] =
    [("authorization", "Bearer "), ("x-api-key", ""), ("api-key", ""), ("x-goog-api-key", "")];

/// The lab with one key, and these terms for it and those above it.
fn guarded(key: &str, user: &str, team: &str, org: &str) -> String {
    format!(
        "{LAB}
keys: [{{ name: ada-1, key: {ADA}, user: ada{key} }}]
users: {{ ada: {{ team: search{user} }} }}
teams: {{ search: {{ org: acme{team} }} }}
orgs: {{ acme: {{ {org} }} }}
"
    )
}

fn plain() -> String {
    guarded("", "", "", "")
}

/// A request of every kind there is.
fn every_kind() -> Vec<(&'static str, Request<ScriptBody>)> {
    vec![
        ("chat", chat(ASK)),
        ("stream", chat(ASK_STREAM)),
        ("completion", post("/v1/completions", r#"{"model":"chat","prompt":"x"}"#)),
        ("embedding", post("/v1/embeddings", r#"{"model":"chat","input":"x"}"#)),
        ("responses", post("/v1/responses", r#"{"model":"chat","input":"x"}"#)),
        ("image", post("/v1/images/generations", r#"{"model":"chat","prompt":"x"}"#)),
        ("rerank", post("/v1/rerank", r#"{"model":"chat"}"#)),
        ("file", get("/v1/files/f")),
        ("other", get("/v1/anything")),
        ("models", get("/v1/models")),
        ("model", get("/v1/models/chat")),
        ("feedback", post("/v1/feedback", crate::feedback::UP)),
        ("by provider", with_header(get("/v1/models"), "x-magpie-provider", "lab")),
    ]
}

/// Asks, and checks that it was refused in full: status, code, record, and nothing sent.
async fn refused(world: &World, request: Request<ScriptBody>, status: u16, code: &str) -> String {
    let answer = world.ask(request).await;
    assert_eq!(answer.header("www-authenticate"), (status == 401).then_some("Bearer"), "{code}");
    let (got, error) = answer.error().await;
    assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{error}");
    let kind = if status == 401 { "authentication_error" } else { "permission_error" };
    assert_eq!(error["type"], kind);
    assert!(world.upstream.calls().is_empty(), "a provider was asked");
    let records = world.take_records();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].outcome, records[0].status), (Outcome::Refused, status));
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_key_opens_every_path_in_every_form() {
    for (header, scheme) in FORMS {
        for (kind, request) in every_kind() {
            let world = World::of(&plain(), [Reply::stream().data(chunk("a")).data(DONE)]);
            let world = if kind == "stream" { world } else { World::of(&plain(), []) };
            let request = with_header(request, header, &format!("{scheme}{ADA}"));
            let (status, body) = world.ask(request).await.read().await;
            assert_eq!(status, 200, "{kind} {header}: {body}");
            let record = world.record();
            let chain = record.caller.chain();
            for (level, id) in [
                (Kind::Key, "ada-1"),
                (Kind::User, "ada"),
                (Kind::Team, "search"),
                (Kind::Org, "acme"),
            ] {
                assert_eq!(chain.id(level).map(|id| &**id), Some(id), "{kind} {header}");
            }
            let told = world.upstream.calls();
            let told = told.iter().flat_map(|call| call.headers.values());
            assert!(told.into_iter().all(|value| value.as_bytes() != ADA.as_bytes()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_key_and_a_wrong_one_are_refused_on_every_path() {
    for (kind, request) in every_kind() {
        let world = World::of(&plain(), []);
        let message = refused(&world, request, 401, "missing_api_key").await;
        assert!(message.starts_with("No key was sent."), "{kind}: {message}");
    }
    for (header, scheme) in FORMS {
        for (kind, request) in every_kind() {
            let world = World::of(&plain(), []);
            let request = with_header(request, header, &format!("{scheme}{ADA}x"));
            let message = refused(&world, request, 401, "invalid_api_key").await;
            assert!(!message.contains(ADA), "{kind} {header}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_misspelt_key_is_told_from_an_unknown_one() {
    let world = World::of(&plain(), []);
    let known = policy::key::KeyText::generate([9; 32]);
    let unknown = refused(&world, keyed(chat(ASK), known.expose()), 401, "invalid_api_key").await;
    assert!(unknown.contains("not known"), "{unknown}");
    let cut = &known.expose()[..known.expose().len() - 1];
    let misspelt = refused(&world, keyed(chat(ASK), cut), 401, "invalid_api_key").await;
    assert!(misspelt.contains("checksum"), "{misspelt}");
}

#[tokio::test(start_paused = true)]
async fn two_keys_at_once_are_refused_even_if_both_are_good() {
    let yaml = format!("{LAB}keys: [{{ name: a, key: {ADA} }}, {{ name: b, key: {ADA}-2 }}]\n");
    let world = World::of(&yaml, []);
    for (first, scheme) in FORMS {
        for (second, other) in FORMS {
            let request = with_header(chat(ASK), first, &format!("{scheme}{ADA}"));
            let request = with_header(request, second, &format!("{other}{ADA}-2"));
            let message = refused(&world, request, 401, "invalid_api_key").await;
            assert!(message.contains("Two different keys"), "{first} {second}");
        }
    }
    // The same key twice is what some clients do.
    for (second, other) in FORMS {
        let world = World::of(&yaml, []);
        let request = with_header(keyed(chat(ASK), ADA), second, &format!("{other}{ADA}"));
        assert_eq!(world.ask(request).await.status, 200, "{second}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheme_is_spelt_in_any_case_and_is_no_other() {
    for good in [format!("bearer {ADA}"), format!("BEARER   {ADA}  ")] {
        let world = World::of(&plain(), []);
        let request = with_header(chat(ASK), "authorization", &good);
        assert_eq!(world.ask(request).await.status, 200, "{good}");
    }
    let world = World::of(&plain(), []);
    for bad in [ADA.to_owned(), format!("Basic {ADA}"), format!("Bearer{ADA}"), "Bearer".into()] {
        let request = with_header(chat(ASK), "authorization", &bad);
        let answer = world.ask(request).await;
        assert_eq!(answer.status, 401, "{bad}");
    }
    assert!(world.upstream.calls().is_empty());
}

/// Terms that rule a chat from 10.0.0.1 out, with what is answered then.
const RULED_OUT: [(&str, u16, &str); 6] = [
    ("expires: \"2020-01-01\"", 401, "key_expired"),
    ("enabled: false", 403, "key_disabled"),
    ("allow: [10.1.0.0/16]", 403, "address_not_allowed"),
    ("deny: [10.0.0.0/8]", 403, "address_not_allowed"),
    ("operations: [embedding]", 403, "operation_not_allowed"),
    ("models: [other-*, chat2]", 403, "model_not_allowed"),
];

#[tokio::test(start_paused = true)]
async fn the_terms_of_everyone_above_count() {
    for (terms, status, code) in RULED_OUT {
        let more = format!(", {terms}");
        for (level, yaml) in [
            ("key", guarded(&more, "", "", "")),
            ("user", guarded("", &more, "", "")),
            ("team", guarded("", "", &more, "")),
            ("org", guarded("", "", "", terms)),
        ] {
            for body in [ASK, ASK_STREAM] {
                for (header, scheme) in FORMS {
                    let world = World::of(&yaml, []);
                    world.address.set(Some([10, 0, 0, 1].into()));
                    let request = with_header(chat(body), header, &format!("{scheme}{ADA}"));
                    let answer = world.ask(request).await;
                    let (got, error) = answer.error().await;
                    assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{level}");
                    let message = error["message"].as_str().unwrap();
                    let named = code == "model_not_allowed" || message.contains(level);
                    assert!(named, "{level}: {message}");
                    world.assert_refused(code);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_counts_for_what_it_is() {
    let yaml = guarded(", allow: [10.0.0.0/8]", "", "", "");
    let mapped: std::net::IpAddr = "::ffff:10.0.0.1".parse().unwrap();
    let world = World::of(&yaml, []);
    world.address.set(Some(mapped));
    assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.status, 200);
    // Nothing that a client says of itself counts, and who has no address is nowhere.
    for address in [None, Some("::1".parse().unwrap()), Some([11, 0, 0, 1].into())] {
        let world = World::of(&yaml, []);
        world.address.set(address);
        let request = keyed(chat(ASK), ADA);
        let request = with_header(request, "x-forwarded-for", "10.0.0.1");
        let request = with_header(request, "x-real-ip", "10.0.0.1");
        let request = with_header(request, "forwarded", "for=10.0.0.1");
        refused(&world, request, 403, "address_not_allowed").await;
    }
}

#[tokio::test(start_paused = true)]
async fn models_that_may_not_be_used_are_neither_listed_nor_shown() {
    let yaml = guarded(", models: [chat]", "", "", "");
    let world = World::of(&yaml, []);
    let (_, body) = world.ask(keyed(get("/v1/models"), ADA)).await.read().await;
    let listed: Value = serde_json::from_str(&body).unwrap();
    let names: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["chat"]);
    world.take_records();
    for path in ["/v1/models/small", "/v1/models/lab%2Fsmall", "/v1/models/no-such"] {
        refused(&world, keyed(get(path), ADA), 403, "model_not_allowed").await;
    }
    // The name that is asked for counts: no other way to the same provider is a way around.
    for model in ["small", "lab/up-model", "lab/chat", "default", "", "chat "] {
        let body = format!(r#"{{"model":"{model}","messages":[1],"input":"x"}}"#);
        for path in ["/v1/chat/completions", "/v1/embeddings", "/v1/rerank", "/v1/responses"] {
            let answer = world.ask(keyed(post(path, body.clone()), ADA)).await;
            let status = answer.status.as_u16();
            assert!(status == 403 || status == 404, "{path} {model}: {status}");
        }
    }
    let by_header = with_header(post("/v1/rerank", ASK), "x-magpie-provider", "lab");
    assert_eq!(world.ask(keyed(by_header, ADA)).await.status, 403);
    let text = with_header(post("/v1/rerank", ASK), "content-type", "text/plain");
    assert_ne!(world.ask(keyed(text, ADA)).await.status, 404);
    assert!(world.upstream.calls().iter().all(|call| call.text().contains("up-model")));
}

#[tokio::test(start_paused = true)]
async fn without_keys_anything_will_do_and_with_the_first_one_nothing_else() {
    let world = World::lab([]);
    for (header, value) in
        [("authorization", "Bearer sk-none"), ("authorization", "Basic eA=="), ("x-api-key", "?")]
    {
        assert_eq!(world.ask(with_header(chat(ASK), header, value)).await.status, 200);
    }
    let guarded = World::lab([]);
    guarded.gate.directory.guard();
    refused(&guarded, chat(ASK), 401, "missing_api_key").await;
    refused(&guarded, keyed(chat(ASK), "sk-none"), 401, "invalid_api_key").await;
}

#[tokio::test(start_paused = true)]
async fn an_open_gateway_serves_everyone_and_knows_those_with_a_key() {
    let yaml = format!("open: true\n{}", guarded(", models: [small]", "", "", ""));
    let world = World::of(&yaml, []);
    assert_eq!(world.ask(chat(ASK)).await.status, 200);
    assert_eq!(world.ask(keyed(chat(ASK), "sk-none")).await.status, 200);
    assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.status, 403, "a key brings its terms");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_taken_out_opens_nothing_from_then_on() {
    let world = World::of(&guarded(", models: [chat]", "", "", ""), []);
    assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.status, 200);
    world.gate.directory.remove(Kind::Key, "ada-1");
    world.take_records();
    let before = world.upstream.calls().len();
    assert_eq!(world.ask(keyed(chat(ASK), ADA)).await.status, 401);
    assert_eq!(world.upstream.calls().len(), before);
}

#[tokio::test(start_paused = true)]
async fn hostile_credentials_are_refused_like_any_other() {
    let world = World::of(&plain(), []);
    let parts = ["'", "\"", "--", "/*", "%00", "\\", "{}", "${x}", "ａｄａ", "é", "\t", ";", "../"];
    for first in parts {
        for second in parts {
            let text = format!("mk-{first}{ADA}{second}");
            for (header, scheme) in FORMS {
                let request = with_header(chat(ASK), header, &format!("{scheme}{text}"));
                refused(&world, request, 401, "invalid_api_key").await;
            }
        }
    }
    for length in [511, 512, 513, 4096, 30_000] {
        refused(&world, keyed(chat(ASK), &"x".repeat(length)), 401, "invalid_api_key").await;
    }
}
