//! Health checks: providers that go and come back are found out without a request.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Options, Received, Refused, ScriptedUpstream};

use crate::failover::{ask, is_good, provider};
use crate::harness::{Magpie, PATIENCE, PROVIDER_KEY, Setup};
use crate::raw::RawUpstream;

const EVERY: Duration = Duration::from_secs(1);
/// A tenth of jitter, and what a busy machine takes.
const SLACK: Duration = Duration::from_millis(600);
const CHECKED: &str = "health_check: 1s";

/// The first target of the model, as the admin API tells it.
fn first(magpie: &Magpie) -> Value {
    magpie.admin("targets?model=chat").json()["data"][0].clone()
}

/// Waits until the first target of the model is as it should be, and says how long that took.
fn wait_until(magpie: &Magpie, what: &str, is_so: impl Fn(&Value) -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let target = first(magpie);
        if is_so(&target) {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "not {what}: {target}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn is_gone(target: &Value) -> bool {
    target["breaker"]["state"] == "open" && target["breaker"]["unreached"] == true
}

fn config(providers: &[String], plan: &str) -> String {
    format!("providers:\n{}models: {{ chat: {plan} }}\n", providers.concat())
}

/// How often it was checked.
fn checks(upstream: &ScriptedUpstream) -> usize {
    let is_check = |got: &&Received| got.method == "GET" && got.target == "/v1/models";
    upstream.received().iter().filter(is_check).count()
}

#[test]
fn a_provider_that_goes_without_traffic_is_passed_over_by_the_first_request_after_it() {
    let (first_one, second) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let providers =
        [provider("a", &first_one.base_url(), CHECKED), provider("b", &second.base_url(), CHECKED)];
    let magpie = Setup::file(&config(&providers, "{ fallback: [a/x, b/x] }")).with_admin().start();
    wait_until(&magpie, "checked", |target| target["check"]["result"] == "ok");
    let up = r#"magpie_provider_up{provider="a"}"#;
    assert_eq!(magpie.number(up), 1.0);
    drop(first_one);
    let took = wait_until(&magpie, "gone", is_gone);
    // One check that was not due yet, and two that follow soon.
    assert!(took < 3 * EVERY + SLACK, "{took:?}");
    let told = first(&magpie);
    assert_eq!(told["check"]["result"], "unreached", "{told}");
    assert_eq!(told["check"]["status"], Value::Null);
    assert_eq!(magpie.number(up), 0.0);
    let unreached = r#"magpie_health_checks_total{provider="a",result="unreached"}"#;
    assert!(magpie.number(unreached) >= told["check"]["counts"]["unreached"].as_f64().unwrap());
    assert!(told["check"]["counts"]["unreached"].as_u64() >= Some(3), "{told}");
    for _ in 0..20 {
        let reply = ask(&magpie, "chat", false);
        assert!(is_good(&reply, false), "{}", reply.text());
        assert_eq!(reply.header("x-magpie-provider"), Some("b"));
        assert_eq!(reply.header("x-magpie-attempts"), Some("1"), "nobody has waited for it");
        // Longer than a provider is left alone that requests have not reached.
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_provider_that_comes_back_without_traffic_is_back_within_the_time_between_checks() {
    let address = Refused::address();
    let there = ScriptedUpstream::start();
    let providers = [
        provider("a", &format!("http://{address}/v1"), CHECKED),
        provider("b", &there.base_url(), ""),
    ];
    let magpie = Setup::file(&config(&providers, "{ fallback: [a/x, b/x] }")).with_admin().start();
    wait_until(&magpie, "gone", is_gone);
    let back = Options { port: address.port(), ..Options::default() };
    let back = ScriptedUpstream::start_with(back);
    let took = wait_until(&magpie, "due", |target| target["breaker"]["state"] == "due");
    assert!(took < EVERY + SLACK, "{took:?}");
    let reply = ask(&magpie, "chat", false);
    assert_eq!(reply.header("x-magpie-provider"), Some("a"), "{}", reply.text());
    assert_eq!(reply.header("x-magpie-attempts"), Some("1"));
    assert_eq!(first(&magpie)["breaker"]["state"], "closed");
    let check = back.received().into_iter().find(|got| got.method == "GET").unwrap();
    assert_eq!(check.header("authorization"), Some("Bearer sk-a-0123456789"));
    assert!(check.header("user-agent").unwrap().starts_with("magpie/"));
    // Only what asks for it is checked.
    assert_eq!(checks(&there), 0);
}

#[test]
fn a_credential_that_is_refused_is_shown_and_benches_nothing() {
    let refusing = RawUpstream::start(|mut peer, _| {
        while peer.head().is_some() {
            let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}";
            if !peer.write(refusal) {
                return;
            }
        }
    });
    let base_url = format!("base_url: \"{}\"", refusing.base_url());
    let setup = Setup::provider(&[&base_url, "health_check: { path: /here, every: 1s }"]);
    let magpie = setup.and("models: { chat: up/x }").with_admin().start();
    wait_until(&magpie, "refused", |target| target["check"]["result"] == "refused");
    let target = first(&magpie);
    assert_eq!(target["check"]["status"], 401);
    assert_eq!(target["breaker"]["state"], "closed");
    assert_eq!(target["credentials"][0]["benched_until_ms"], Value::Null);
    let url = format!("http://{}/", magpie.admin_address());
    let output = magpie.process.setup.run(&["explain", "chat", "--admin", &url]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("CHECK") && text.contains("refused, 401"), "{text}");
    assert!(!text.contains(PROVIDER_KEY));
    let told = magpie.process.stderr.so_far();
    assert!(told.contains("health check: up refuses its key (401)"), "{told}");
}

#[test]
fn checks_follow_the_configuration_and_run_once_for_all_workers() {
    let upstream = ScriptedUpstream::start();
    let with = |check: &str| config(&[provider("a", &upstream.base_url(), check)], "a/x");
    let setup = Setup::file(&format!("workers: 3\n{}", with(""))).with_admin();
    let mut magpie = setup.start();
    assert_eq!(first(&magpie)["check"], Value::Null);
    assert_eq!(checks(&upstream), 0);
    magpie.reload(&with(CHECKED));
    wait_until(&magpie, "checked", |target| target["check"]["result"] == "ok");
    let before = checks(&upstream);
    thread::sleep(3 * EVERY);
    let made = checks(&upstream) - before;
    assert!((2..=4).contains(&made), "{made} checks in three seconds");
    magpie.reload(&with("health_check: { every: 1s, path: /nothing }"));
    wait_until(&magpie, "elsewhere", |target| target["check"]["status"] == 404);
    magpie.reload(&with(""));
    assert_eq!(first(&magpie)["check"], Value::Null);
    let before = upstream.received().len();
    thread::sleep(2 * EVERY);
    assert_eq!(upstream.received().len(), before);
    magpie.process.signal("TERM");
    magpie.process.wait(PATIENCE);
}
