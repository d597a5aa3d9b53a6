//! The first minute: nothing is configured, and it starts, says what it serves, and serves it.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::ScriptedUpstream;

use crate::client::Wire;
use crate::figures::{bound, percentile, within_bounds};
use crate::harness::{CHAT, Setup, chat};
use crate::turn;

/// From the start of the process to its first answer.
fn time_to_first_answer() -> Duration {
    let setup = Setup::empty();
    let start = Instant::now();
    let magpie = setup.start();
    assert_eq!(magpie.post(CHAT, &chat("echo", false)).status(), 200);
    start.elapsed()
}

#[test]
fn it_answers_a_tenth_of_a_second_after_it_is_started() {
    let _alone = turn::alone();
    let limit = bound(Duration::from_millis(100), Duration::from_millis(300));
    within_bounds("start to first answer", || {
        let times: Vec<Duration> = (0..5).map(|_| time_to_first_answer()).collect();
        let median = percentile(&times, 50);
        let figures = format!("median {median:?} of {times:?}, limit {limit:?}");
        if median < limit { Ok(figures) } else { Err(figures) }
    });
}

#[test]
fn the_banner_says_what_is_served_where_and_a_line_to_paste_that_works() {
    let magpie = Setup::empty().start();
    let banner = &magpie.banner;
    let origin = format!("http://{}", magpie.address);
    assert!(banner.starts_with(&format!("Magpie {} on {origin}", env!("CARGO_PKG_VERSION"))));
    assert!(banner.contains("the environment"), "{banner}");
    assert!(
        banner.contains("\n  echo ") && banner.contains("default        echo/echo"),
        "{banner}"
    );
    assert!(banner.contains("export XINGHE_API_KEY="), "{banner}");

    let curl = banner.split("curl ").nth(1).unwrap();
    assert!(curl.starts_with(&format!("{origin}{CHAT} ")), "{curl}");
    let body = curl.split("-d '").nth(1).unwrap().split('\'').next().unwrap();
    let reply = magpie.post(CHAT, body);
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "hello");
}

#[test]
fn the_banner_names_the_file_and_its_providers() {
    let setup = Setup::of("http://127.0.0.1:9/v1").and("models: { default: up/big }");
    let path = setup.path();
    let banner = setup.start().banner.clone();
    assert!(banner.contains("from magpie.yaml"), "{banner} {}", path.display());
    assert!(banner.contains("\n  up  ") && banner.contains("default        up/big"), "{banner}");
    assert!(!banner.contains("export XINGHE_API_KEY"), "{banner}");
}

#[test]
fn a_second_start_on_the_same_address_fails_and_says_why() {
    let first = Setup::empty().start();
    let second = Setup::empty().env("MAGPIE_LISTEN", &first.address.to_string());
    let output = second.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    let expected = format!("cannot listen on {}", first.address);
    assert!(errors.contains(&expected) && errors.contains("in use"), "{errors}");
    assert!(output.stdout.is_empty());
    assert_eq!(first.get("/health").status(), 200);
}

#[test]
fn an_address_that_others_can_reach_has_to_be_meant() {
    let setup = Setup::empty().env("MAGPIE_LISTEN", "0.0.0.0:0");
    let output = setup.run(&[]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("can be reached by others"), "{errors}");
    assert!(errors.contains("MAGPIE_OPEN=true"), "{errors}");

    let open = setup.env("MAGPIE_OPEN", "true").start();
    let local = (std::net::Ipv4Addr::LOCALHOST, open.address.port()).into();
    let mut wire = Wire::connect(local);
    wire.chat("echo", false);
    assert_eq!(wire.reply().status(), 200);
}

/// What the issue lists, and their other names.
const VARIABLES: &[(&str, &str)] = &[
    ("XINGHE_API_KEY", "xinghe"),
    ("AISTUDIO_API_KEY", "xinghe"),
    ("QIANFAN_API_KEY", "qianfan"),
    ("DASHSCOPE_API_KEY", "qwen"),
    ("ZHIPUAI_API_KEY", "glm"),
    ("DEEPSEEK_API_KEY", "deepseek"),
    ("MOONSHOT_API_KEY", "moonshot"),
    ("ARK_API_KEY", "ark"),
    ("MINIMAX_API_KEY", "minimax"),
    ("OPENAI_API_KEY", "openai"),
    ("OPENROUTER_API_KEY", "openrouter"),
    ("OLLAMA_HOST", "ollama"),
    ("VLLM_BASE_URL", "vllm"),
];

/// The providers that `magpie providers` says are set up.
fn set_up(setup: &Setup) -> Vec<String> {
    let output = setup.run(&["providers"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1) == Some(&"yes")).map(|row| row[0].to_owned()).collect()
}

#[test]
fn each_usual_variable_sets_up_its_provider_and_no_other() {
    assert_eq!(set_up(&Setup::empty()), ["echo"]);
    for (name, provider) in VARIABLES {
        let value = if name.ends_with("_KEY") { "sk-1" } else { "http://127.0.0.1:9/v1" };
        let mut found = set_up(&Setup::empty().env(name, value));
        found.retain(|id| id != "echo");
        assert_eq!(found, [*provider], "{name}");
    }
    // Set to nothing is not set.
    assert_eq!(set_up(&Setup::empty().env("OPENAI_API_KEY", " ")), ["echo"]);
}

#[test]
fn all_variables_together_serve_all_providers_with_xinghe_first() {
    let mut setup = Setup::empty();
    for (name, _) in VARIABLES {
        let value = if name.ends_with("_KEY") { "sk-1" } else { "127.0.0.1:9" };
        setup = setup.env(name, value);
    }
    let magpie = setup.start();
    let welcome = magpie.get("/").json();
    let served: Vec<&str> =
        welcome["providers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(served.first(), Some(&"xinghe"));
    assert_eq!(served.last(), Some(&"echo"));
    assert!(VARIABLES.iter().all(|(_, provider)| served.contains(provider)), "{served:?}");
    assert!(magpie.banner.contains("default        xinghe/ernie-4.5-turbo-128k"));
    let models = magpie.get("/v1/models").text();
    assert!(models.contains("\"xinghe/ernie-4.5-turbo-128k\"") && models.contains("\"echo\""));
}

#[test]
fn a_base_url_in_the_environment_moves_xinghe_to_a_deployment() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::empty()
        .env("AISTUDIO_API_KEY", "token-of-the-owner")
        .env("XINGHE_BASE_URL", &upstream.base_url())
        .start();
    let reply = magpie.post(CHAT, r#"{"messages": [{"role": "user", "content": "hi"}]}"#);
    assert_eq!(reply.status(), 200, "{}", reply.text());
    assert_eq!(reply.header("x-magpie-target"), Some("xinghe/ernie-4.5-turbo-128k"));

    let received = &upstream.received()[0];
    assert_eq!(received.path(), CHAT);
    assert_eq!(received.header("authorization"), Some("Bearer token-of-the-owner"));
    assert_eq!(received.json()["model"], "ernie-4.5-turbo-128k");
    assert_eq!(received.json()["temperature"], 0.6);
}

#[test]
fn ollama_host_is_taken_in_the_short_forms_that_ollama_takes() {
    let upstream = ScriptedUpstream::start();
    let port = upstream.address().port();
    let hosts =
        ["http://127.0.0.1:PORT", "127.0.0.1:PORT", "0.0.0.0:PORT", "http://localhost:PORT/"];
    for host in hosts {
        upstream.clear();
        let magpie = Setup::empty().env("OLLAMA_HOST", &host.replace("PORT", &port.to_string()));
        let reply = magpie.start().post(CHAT, &chat("ollama/qwen3", false));
        assert_eq!(reply.status(), 200, "{host}: {}", reply.text());
        let received = &upstream.received()[0];
        assert_eq!((received.path(), received.header("authorization")), (CHAT, None), "{host}");
        assert_eq!(received.json()["model"], "qwen3", "{host}");
    }
}
