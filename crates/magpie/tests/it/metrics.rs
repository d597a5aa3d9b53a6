//! The metrics of a Magpie that runs: what they say is so, and nothing in them is a secret.

use std::time::Instant;

use testkit::ScriptedUpstream;

use crate::client::{Reply, Wire, request};
use crate::harness::{ADMIN_TOKEN, CHAT, Magpie, PATIENCE, PROVIDER_KEY, Setup, chat};

const KEY: &str = "mk-caller-canary-93c1f07a";

impl Magpie {
    fn metrics_by(&self, headers: &[(&str, &str)]) -> Reply {
        let mut wire = Wire::connect(self.admin_address().parse().unwrap());
        wire.send(&request("GET", "/metrics", headers, b""));
        wire.reply()
    }

    fn metrics(&self) -> String {
        let token = format!("Bearer {ADMIN_TOKEN}");
        let reply = self.metrics_by(&[("authorization", &token)]);
        assert_eq!(reply.status(), 200, "{}", reply.text());
        reply.text()
    }

    /// The sum of the samples that begin like this.
    pub(crate) fn number(&self, begin: &str) -> f64 {
        let text = self.metrics();
        let lines = text.lines().filter(|line| line.starts_with(begin));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// Waits until a number is what it should be: counting ends a moment after the answer does.
    pub(crate) fn becomes(&self, begin: &str, number: f64) {
        let start = Instant::now();
        loop {
            let found = self.number(begin);
            if (found - number).abs() < 1e-9 {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{begin} is {found}, not {number}");
        }
    }
}

#[test]
fn requests_and_connections_are_counted_while_they_last() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and("workers: 1").with_admin().start();
    let mut waiting: Vec<_> = (0..3).map(|_| magpie.begin("slow:1500", false)).collect();
    magpie.becomes("magpie_requests_in_flight", 3.0);
    magpie.becomes(r#"magpie_target_in_flight{provider="up",upstream_model="slow:1500"}"#, 3.0);
    magpie.becomes(r#"magpie_upstream_connections{state="active"}"#, 3.0);
    assert_eq!(magpie.number("magpie_connections "), 3.0);
    for wire in &mut waiting {
        assert_eq!(wire.reply().status(), 200);
    }
    magpie.becomes("magpie_requests_in_flight", 0.0);
    magpie.becomes(r#"magpie_upstream_connections{state="idle"}"#, 3.0);
    magpie.becomes(r#"magpie_upstream_connections{state="active"}"#, 0.0);
    assert_eq!(magpie.number("magpie_upstream_connections_opened_total"), 3.0);
    let of_model = r#"{model="up/slow:1500",provider="up",operation="chat""#;
    assert_eq!(magpie.number(&format!("magpie_requests_total{of_model}")), 3.0);
    let quick = format!("magpie_request_duration_seconds_bucket{of_model},le=\"1.28\"}}");
    assert_eq!(magpie.number(&quick), 0.0);
    assert_eq!(magpie.number("magpie_overhead_seconds_count"), 3.0);
    let cut = magpie.ask("close-after", false);
    assert_eq!(cut.status(), 200);
    magpie.becomes("magpie_ledger_shipped_attempts_total", 4.0);
    assert_eq!(magpie.number("magpie_ledger_writable"), 1.0);
    assert!(magpie.number("process_resident_memory_bytes") > 1e6);
    assert!(magpie.number("process_open_fds") > 5.0);
    assert!(magpie.number("magpie_worker_busy_seconds_total") > 0.0);
}

#[test]
fn limits_budgets_and_money_are_told_by_team() {
    let upstream = ScriptedUpstream::start();
    let other = KEY.replace("caller", "other");
    let setup = Setup::of(&upstream.base_url()).with_admin().and(&format!(
        "models:\n  chat: {{ fallback: [up/status:503, up/ok] }}\n\
         teams:\n  search: {{ budget: ¥5/day }}\n  ops: {{ limits: {{ rpd: 2 }} }}\n\
         prices:\n  up/*: {{ currency: CNY, input: 10000, output: 10000 }}\n\
         keys:\n  - {{ name: ci, key: {KEY}, team: search }}\n  - {{ name: op, key: {other}, team: ops }}\n\
         metrics: {{ teams: true }}\n"
    ));
    let magpie = setup.start();
    let ask = |key: &str, model: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        let body = chat(model, false).replace("\"stream\"", "\"max_tokens\":1,\"stream\"");
        magpie.call("POST", CHAT, &headers, &body).status()
    };
    assert_eq!(ask(KEY, "chat"), 200);
    let of = |name: &str, rest: &str| {
        let labels = r#"model="chat",provider="up",operation="chat",team="search""#;
        format!("magpie_{name}_total{{{labels}{rest}}}")
    };
    magpie.becomes(&of("fallbacks", ""), 1.0);
    assert_eq!(magpie.number(&of("retries", "")), 1.0);
    assert_eq!(magpie.number(&of("requests", r#",status="2xx",outcome="complete""#)), 1.0);
    let cost = magpie.number(&of("cost", r#",currency="CNY""#));
    let tokens = magpie.number(r#"magpie_tokens_total{model="chat""#);
    assert!(tokens > 0.0 && (cost - tokens / 100.0).abs() < 1e-9, "{cost} for {tokens}");
    while ask(KEY, "up/ok") == 200 {}
    for status in [200, 200, 429, 429] {
        assert_eq!(ask(&other, "up/ok"), status);
    }
    let rejections = r#"magpie_rejections_total{holder="team",limit="#;
    magpie.becomes(&format!("{rejections}\"budget\"}}"), 1.0);
    magpie.becomes(&format!("{rejections}\"rpd\"}}"), 2.0);
    let limit = r#"magpie_limit_used_ratio{holder="team",name="ops",limit="rpd"}"#;
    assert_eq!(magpie.number(limit), 1.0);
    let budget = r#"magpie_budget_used_ratio{holder="team",name="search",period="day"}"#;
    assert!(magpie.number(budget) > 0.5);
    let refused = r#"magpie_errors_total{model="up/ok",provider="up",operation="chat",team="search",error="insufficient_quota",blame="caller"}"#;
    assert_eq!(magpie.number(refused), 1.0);
}

#[test]
fn a_breaker_that_opens_and_a_bench_that_fills_show() {
    let upstream = ScriptedUpstream::start();
    let models = "models: { chat: { fallback: [up/status:503, up/ok] } }";
    let magpie = Setup::of(&upstream.base_url()).with_admin().and(models).start();
    let target = r#"{provider="up",upstream_model="status:503"}"#;
    magpie.becomes(&format!("magpie_target_breaker_state{target}"), 0.0);
    assert_eq!(magpie.number(&format!("magpie_target_share_ratio{target}")), 1.0);
    // Not all are tried again: the retry budget is small.
    let ask = |_: &i32| magpie.post(CHAT, &chat("chat", true)).status() == 200;
    let answered = (0..8).filter(ask).count();
    magpie.becomes(&format!("magpie_target_breaker_state{target}"), 2.0);
    assert_eq!(magpie.number(&format!("magpie_target_share_ratio{target}")), 0.0);
    let benched = r#"magpie_target_credentials_benched{provider="up",upstream_model="status:429"}"#;
    assert_eq!(magpie.ask("status:429", false).status(), 429);
    magpie.becomes(benched, 1.0);
    let causes = r#"magpie_attempts_total{model="chat",provider="up",operation="chat",cause="#;
    assert!(magpie.number(&format!("{causes}\"transient\"}}")) >= 5.0);
    assert_eq!(magpie.number(&format!("{causes}\"none\"}}")), answered as f64);
}

#[test]
fn a_configuration_that_is_refused_shows() {
    let magpie = Setup::file("models: { a: echo/echo }\n").with_admin().start();
    let since = magpie.number("magpie_config_last_reload_success_timestamp_seconds");
    magpie.process.setup.replace("models: [");
    magpie.process.signal("HUP");
    magpie.becomes("magpie_config_last_reload_successful", 0.0);
    assert!(magpie.number(r#"magpie_config_reloads_total{result="refused"}"#) >= 1.0);
    assert_eq!(magpie.number("magpie_config_last_reload_success_timestamp_seconds"), since);
    magpie.reload("models: { a: echo/echo }\n");
    assert!(magpie.number(r#"magpie_config_reloads_total{result="applied"}"#) >= 1.0);
    assert_eq!(magpie.number("magpie_config_last_reload_successful"), 1.0);
}

#[test]
fn the_file_that_is_deployed_beside_prometheus_lets_it_in() {
    let file = include_str!("../../../../deploy/magpie.yaml");
    let file = file.replace("0.0.0.0:8001", "127.0.0.1:0");
    let setup = Setup::file(&file).env("MAGPIE_METRICS_TOKEN", "a-token-of-the-environment");
    let magpie = setup.env("MAGPIE_ADMIN", "127.0.0.1:0").start();
    let bearer = ("authorization", "Bearer a-token-of-the-environment");
    // By the name that it has in the network of the containers.
    assert_eq!(magpie.metrics_by(&[("host", "magpie:8001"), bearer]).status(), 200);
    assert_eq!(magpie.metrics_by(&[("host", "other:8001"), bearer]).status(), 403);
}

#[test]
fn nothing_in_them_is_a_secret_or_a_callers_words() {
    let upstream = ScriptedUpstream::start();
    let setup = Setup::of(&upstream.base_url()).with_admin().and(&format!(
        "keys: [{{ name: ci-canary, key: {KEY}, user: ada-canary }}]\n\
         metrics: {{ token: metrics-token-canary-51b7 }}\n"
    ));
    let magpie = setup.start();
    let bearer = format!("Bearer {KEY}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    for (model, status) in [("up/ok", 200), ("prompt-canary-model", 404), ("up/status:500", 500)] {
        let body = chat(model, false).replace("\"hi\"", "\"prompt-canary\"");
        assert_eq!(magpie.call("POST", CHAT, &headers, &body).status(), status);
    }
    magpie.becomes("magpie_requests_in_flight", 0.0);
    let reply = magpie.metrics_by(&[("authorization", "Bearer metrics-token-canary-51b7")]);
    let text = reply.text();
    assert!(text.contains(r#"error="model_not_found",blame="caller"} 1"#), "{text}");
    assert!(!text.contains("canary"), "{text}");
    assert!(!text.contains(PROVIDER_KEY) && !text.contains(ADMIN_TOKEN), "{text}");
    assert_eq!(magpie.metrics_by(&[]).status(), 401);
    assert_eq!(magpie.admin_by("metrics-token-canary-51b7", "me").status(), 401);
}
