//! Headers: what may pass in each direction, and what Magpie adds.

use http::HeaderName;

use crate::scripted::Reply;
use crate::world::{
    ASK, ASK_STREAM, DONE, FINISH, KEY, World, chat, get, local, millis, post, with_header,
};

/// Headers that a client may send and no provider may see.
const NEVER_UP: [(&str, &str); 22] = [
    ("authorization", "Bearer sk-client"),
    ("proxy-authorization", "Basic x"),
    ("api-key", "sk-client"),
    ("x-api-key", "sk-client"),
    ("cookie", "session=1"),
    ("host", "magpie.local"),
    ("connection", "keep-alive, x-private"),
    ("keep-alive", "timeout=5"),
    ("te", "trailers"),
    ("trailer", "x-sum"),
    ("transfer-encoding", "chunked"),
    ("content-length", "7"),
    ("accept-encoding", "gzip"),
    ("accept-language", "zh"),
    ("origin", "http://localhost:3000"),
    ("referer", "http://localhost:3000/x"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-forwarded-host", "a"),
    ("x-real-ip", "10.0.0.1"),
    ("forwarded", "for=10.0.0.1"),
    ("x-request-id", "mine"),
    ("x-private", "1"),
];

/// Headers that pass to the provider as they are.
const UP: [(&str, &str); 9] = [
    ("accept", "text/event-stream"),
    ("user-agent", "OpenAI/Python 2.1"),
    ("idempotency-key", "stainless-1"),
    ("openai-beta", "assistants=v2"),
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "a,b"),
    ("x-client-request-id", "c-1"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "a=1"),
];

#[tokio::test(start_paused = true)]
async fn only_headers_of_the_list_reach_the_provider() {
    local(async {
        for path in ["/v1/chat/completions", "/v1/rerank"] {
            let mut request = post(path, ASK);
            for (name, value) in NEVER_UP.iter().chain(&UP) {
                request = with_header(request, name, value);
            }
            let world = World::lab([]);
            world.ask(request).await.read().await;
            let call = world.upstream.call();
            for (name, value) in UP {
                assert_eq!(call.header(name), Some(value), "{name}");
            }
            let mut names: Vec<&str> = call.headers.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            let mut expected: Vec<&str> = UP.iter().map(|(name, _)| *name).collect();
            expected.extend(["authorization", "content-type"]);
            expected.sort_unstable();
            assert_eq!(names, expected);
            assert_eq!(call.header("authorization"), Some("Bearer sk-lab-0123456789"));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn several_values_of_a_header_all_pass() {
    let request = with_header(chat(ASK), "tracestate", "a=1");
    let request = with_header(request, "tracestate", "b=2");
    let world = World::lab([]);
    world.ask(request).await.read().await;
    let call = world.upstream.call();
    let values: Vec<_> = call.headers.get_all("tracestate").iter().collect();
    assert_eq!(values, ["a=1", "b=2"]);
}

#[tokio::test(start_paused = true)]
async fn the_credential_is_marked_sensitive_and_sent_as_the_profile_says() {
    let world = World::lab([]);
    world.chat(ASK).await;
    let call = world.upstream.call();
    let credential = call.headers.get("authorization").unwrap();
    assert!(credential.is_sensitive());
    assert!(!format!("{:?}", call.headers).contains(KEY), "not even when printed");
    let yaml = "
providers:
  azure: { base_url: https://x.openai.azure.com/openai/v1, api_key: azure-secret-1 }
  open: { profile: sglang }
";
    for (model, name, value) in [
        ("azure/m", "api-key", Some("azure-secret-1")),
        ("azure/m", "authorization", None),
        ("open/m", "authorization", None),
    ] {
        let world = World::of(yaml, []);
        let body = format!(r#"{{"model":"{model}","messages":[1]}}"#);
        let request = with_header(chat(body), "authorization", "Bearer sk-client");
        world.ask(request).await.read().await;
        assert_eq!(world.upstream.call().header(name), value, "{model}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_may_set_headers_and_let_more_of_them_through() {
    let yaml = "
providers:
  lab:
    profile: sglang
    headers:
      set: { x-plan: gold, user-agent: magpie }
      forward: [X-Team, x-lab-*]
";
    let mut request = chat(r#"{"model":"lab/m","messages":[1]}"#);
    for (name, value) in [
        ("x-plan", "client's"),
        ("user-agent", "client's"),
        ("x-team", "red"),
        ("x-lab-one", "1"),
        ("x-lab-", "2"),
        ("x-la", "3"),
    ] {
        request = with_header(request, name, value);
    }
    let world = World::of(yaml, []);
    world.ask(request).await.read().await;
    let call = world.upstream.call();
    for (name, value) in [
        ("x-plan", Some("gold")),
        ("user-agent", Some("magpie")),
        ("x-team", Some("red")),
        ("x-lab-one", Some("1")),
        ("x-lab-", Some("2")),
        ("x-la", None),
    ] {
        assert_eq!(call.header(name), value, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefix_that_fits_a_credential_does_not_let_it_through() {
    let yaml = "
providers:
  lab:
    profile: sglang
    headers: { forward: [x-api*, x-goog-*] }
";
    let mut request = chat(r#"{"model":"lab/m","messages":[1]}"#);
    for name in ["x-api-key", "x-goog-api-key", "x-api-version", "x-goog-user-project"] {
        request = with_header(request, name, "1");
    }
    let world = World::of(yaml, []);
    world.ask(request).await.read().await;
    let call = world.upstream.call();
    for (name, value) in [
        ("x-api-key", None),
        ("x-goog-api-key", None),
        ("x-api-version", Some("1")),
        ("x-goog-user-project", Some("1")),
    ] {
        assert_eq!(call.header(name), value, "{name}");
    }
}

/// Headers of a reply that pass, and headers that do not.
const DOWN: [(&str, &str); 12] = [
    ("retry-after", "3"),
    ("retry-after-ms", "3000"),
    ("x-should-retry", "true"),
    ("x-ratelimit-limit-requests", "60"),
    ("x-ratelimit-remaining-tokens", "9"),
    ("ratelimit-reset", "1"),
    ("openai-processing-ms", "12"),
    ("openai-version", "2020-10-01"),
    ("x-ds-trace-id", "d"),
    ("x-tt-logid-request-id", "t"),
    ("eagleeye-traceid", "e"),
    ("modelscope-ratelimit-requests-limit", "5"),
];
const NEVER_DOWN: [(&str, &str); 14] = [
    ("set-cookie", "a=1"),
    ("access-control-allow-origin", "*"),
    ("access-control-allow-credentials", "true"),
    ("location", "https://evil.test"),
    ("server", "nginx"),
    ("via", "1.1 x"),
    ("connection", "close"),
    ("keep-alive", "timeout=5"),
    ("transfer-encoding", "chunked"),
    ("content-encoding", "identity"),
    ("strict-transport-security", "max-age=1"),
    ("alt-svc", "h3=\":443\""),
    ("www-authenticate", "Bearer"),
    ("x-magpie-provider", "fake"),
];

#[tokio::test(start_paused = true)]
async fn only_headers_of_the_list_reach_the_client() {
    let replies = [
        (chat(ASK), Reply::json("{}")),
        (chat(ASK_STREAM), Reply::stream().data([FINISH, DONE].concat())),
        (chat(ASK), Reply::status(429).data("{}")),
        (get("/v1/files"), Reply::json("{}")),
        (get("/v1/files"), Reply::status(404).data("{}")),
    ];
    for (request, mut reply) in replies {
        for (name, value) in DOWN.iter().chain(&NEVER_DOWN) {
            reply = reply.header(name, value);
        }
        let world = World::lab([reply.header("x-request-id", "up-1")]);
        let answer = world.ask(request).await;
        for (name, value) in DOWN {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        for (name, _) in &NEVER_DOWN[..13] {
            assert_eq!(answer.header(name), None, "{name}");
        }
        assert_eq!(answer.header("x-magpie-provider"), Some("lab"));
        assert_eq!(answer.header("x-upstream-request-id"), Some("up-1"));
        assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
        answer.read().await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_says_who_gave_it_and_what_magpie_added() {
    let world = World::lab([Reply::json("{}").after(millis(250))]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("x-magpie-provider"), Some("lab"));
    assert_eq!(answer.header("x-magpie-target"), Some("lab/up-model"));
    assert_eq!(answer.header("x-magpie-attempts"), Some("1"));
    let overhead: u64 = answer.header("x-magpie-overhead-us").unwrap().parse().unwrap();
    assert_eq!(overhead, 0, "the provider's time is not Magpie's");
    let id = answer.header("x-request-id").unwrap().to_owned();
    assert_eq!(world.record().id.to_string(), id);
    assert_eq!(id.len(), 36);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_client_or_the_provider_is_no_overhead_of_magpies() {
    let reply = Reply::json("{\"a\":").wait(millis(40)).data("1}");
    let world = World::lab([reply]);
    let answer = world.ask(chat(ASK)).await;
    assert_eq!(answer.header("x-magpie-overhead-us"), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn request_ids_are_unique_and_sort_by_time() {
    let mut last = String::new();
    for _ in 0..3 {
        let world = World::lab([]);
        let answer = world.ask(get("/v1/models")).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(id[..16] >= last[..last.len().min(16)], "{id} behind {last}");
        assert_ne!(id, last);
        assert!(id[4..].bytes().all(|byte| byte.is_ascii_hexdigit()));
        last = id;
    }
}
