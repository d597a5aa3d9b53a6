//! Money that is not to be overspent: by a thousand at once, over a restart, with a cheaper model
//! and with alerts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::ScriptedUpstream;

use crate::client::{Reply, Wire, request};
use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};
use crate::ledger::{attempts, attempts_of};

const KEY: &str = "a-key-with-a-budget-51c0";
const PRICES: &str = "prices: { 'up/*': { currency: USD, per_request: '0.01' } }";

/// Sets a flag when it goes, even if the test has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A key `ci` with a budget, and a price of a cent for each request.
fn setup(upstream: &ScriptedUpstream, budget: &str) -> Setup {
    let keys = format!(
        "keys: [{{ name: ci, key: '{KEY}', budget: {budget} }}]\n{PRICES}\nlog: {{ requests: false }}"
    );
    Setup::of(&upstream.base_url()).with_admin().and(&keys)
}

fn begin(magpie: &Magpie, model: &str, stream: bool) -> Wire {
    let mut wire = magpie.connect();
    let headers = [("authorization", &*format!("Bearer {KEY}"))];
    wire.send(&request("POST", CHAT, &headers, chat(model, stream).as_bytes()));
    wire
}

fn ask(magpie: &Magpie, model: &str) -> Reply {
    begin(magpie, model, false).reply()
}

/// Cents spent and reserved.
fn standing(magpie: &Magpie) -> (u64, u64) {
    let reply = magpie.admin("keys/ci/standing");
    assert_eq!(reply.status(), 200, "{}", reply.text());
    let budget = &reply.json()["budgets"][0];
    (cents(&budget["spent"]), cents(&budget["reserved"]))
}

fn cents(money: &Value) -> u64 {
    let text = money.as_str().unwrap().trim_start_matches('$');
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    assert!(part.len() <= 2, "{text} is not in cents");
    whole.parse::<u64>().unwrap() * 100 + format!("{part:0<2}").parse::<u64>().unwrap()
}

/// Waits until nothing is reserved any more, and says what is spent.
fn settled(magpie: &Magpie) -> u64 {
    let start = Instant::now();
    loop {
        match standing(magpie) {
            (spent, 0) => return spent,
            stuck => assert!(start.elapsed() < PATIENCE, "stuck: {stuck:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Looks at the budget all the time. Says how often, and the most that was ever spent and reserved.
fn watch(magpie: &Magpie, over: &AtomicBool, samples: &AtomicU64, most: &AtomicU64) {
    while !over.load(Ordering::SeqCst) {
        let (spent, reserved) = standing(magpie);
        assert!(spent + reserved <= 100, "{spent} spent and {reserved} reserved of 100");
        samples.fetch_add(1, Ordering::SeqCst);
        most.fetch_max(spent + reserved, Ordering::SeqCst);
    }
}

#[test]
fn a_thousand_at_once_never_overspend_a_budget() {
    const AT_ONCE: usize = 1000;
    let upstream = ScriptedUpstream::start();
    let magpie = setup(&upstream, "'$1.00/month'").start();
    let (over, samples, most) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (mut served, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| watch(&magpie, &over, &samples, &most));
        let _over = Over(&over);
        let mut wires: Vec<Wire> = (0..AT_ONCE).map(|_| magpie.connect()).collect();
        let headers = [("authorization", &*format!("Bearer {KEY}"))];
        for (number, wire) in wires.iter_mut().enumerate() {
            // Some take longer, some stream.
            let script = if number % 2 == 0 { "up/slow:300" } else { "up/events:5:20" };
            let body = chat(script, number % 3 == 0);
            wire.send(&request("POST", CHAT, &headers, body.as_bytes()));
        }
        for wire in &mut wires {
            let reply = wire.reply();
            match reply.status() {
                200 => served += 1,
                _ => {
                    reply.assert_error(429, "insufficient_quota");
                    refused += 1;
                }
            }
        }
    });
    assert_eq!(served + refused, AT_ONCE);
    assert!((95..=100).contains(&served), "{served} were served");
    assert_eq!(settled(&magpie), served as u64);
    let late = ask(&magpie, "up/ok");
    late.assert_error(429, "insufficient_quota");
    let wait: u64 = late.header("retry-after").expect("when the month is over").parse().unwrap();
    assert!((1..=31 * 86_400).contains(&wait), "{wait}");
    refused += 1;
    assert_eq!(upstream.received().len(), served, "who is refused does not reach the provider");
    let (samples, most) = (samples.into_inner(), most.into_inner());
    eprintln!("{served} served, {refused} refused; at most {most} of 100 cents in {samples} looks");

    let setup = magpie.stop();
    let found = attempts(&setup);
    let outcome = |word: &str| found.iter().filter(|it| it["outcome"] == word).count();
    assert_eq!((outcome("complete"), outcome("refused")), (served, refused));
    let complete = found.iter().filter(|it| it["outcome"] == "complete");
    assert!(complete.into_iter().all(|it| it["cost"]["amount"] == "0.01"));
}

#[test]
fn what_fails_or_is_left_gives_back_what_was_reserved() {
    let upstream = ScriptedUpstream::start();
    let magpie = setup(&upstream, "'$1.00/month'").start();
    for _ in 0..3 {
        // Reserved together they would be all that there is.
        let failing: Vec<Wire> = (0..60).map(|_| begin(&magpie, "up/status:500", false)).collect();
        let hidden: Vec<Wire> = (0..20).map(|_| begin(&magpie, "up/error200", true)).collect();
        for mut wire in failing.into_iter().chain(hidden) {
            assert!(wire.reply().status() >= 500);
        }
        assert_eq!(settled(&magpie), 0, "what the provider refused costs nothing");
    }
    // Who leaves has been served as far as the provider knows.
    let left: Vec<Wire> = (0..20).map(|_| begin(&magpie, "up/hang", true)).collect();
    let start = Instant::now();
    while standing(&magpie) != (0, 20) {
        assert!(start.elapsed() < PATIENCE, "{:?}", standing(&magpie));
        thread::sleep(Duration::from_millis(5));
    }
    drop(left);
    assert_eq!(settled(&magpie), 20);
}

#[test]
fn a_budget_goes_on_where_it_was_after_a_restart() {
    let upstream = ScriptedUpstream::start();
    let mut setup = setup(&upstream, "'$0.30/month'");
    let mut spent = 0;
    for kill in [false, true, false] {
        let magpie = setup.start();
        assert_eq!(standing(&magpie), (spent, 0));
        for _ in 0..8 {
            assert_eq!(ask(&magpie, "up/ok").status(), 200);
        }
        spent += 8;
        assert_eq!(settled(&magpie), spent);
        setup = if kill { magpie.kill() } else { magpie.stop() };
    }
    // What is under way when it is killed may be billed, and counts.
    let magpie = setup.start();
    let running = begin(&magpie, "up/hang", true);
    let start = Instant::now();
    while standing(&magpie) != (24, 1) {
        assert!(start.elapsed() < PATIENCE, "{:?}", standing(&magpie));
        thread::sleep(Duration::from_millis(5));
    }
    let setup = magpie.kill();
    drop(running);
    let magpie = setup.start();
    assert_eq!(standing(&magpie), (25, 0));
    for _ in 0..5 {
        assert_eq!(ask(&magpie, "up/ok").status(), 200);
    }
    ask(&magpie, "up/ok").assert_error(429, "insufficient_quota");
    assert_eq!(settled(&magpie), 30);
}

#[test]
fn a_budget_that_is_new_knows_what_was_spent_before_it() {
    let upstream = ScriptedUpstream::start();
    let setup = setup(&upstream, "'$5/month'");
    let magpie = setup.start();
    for _ in 0..8 {
        assert_eq!(ask(&magpie, "up/ok").status(), 200);
    }
    assert_eq!(settled(&magpie), 8);
    attempts_of(&magpie, 8);
    // Another period: the account before says nothing of it.
    let before = std::fs::read_to_string(magpie.process.setup.path()).unwrap();
    magpie.process.setup.replace(&before.replace("$5/month", "$0.10/day"));
    magpie.process.signal("HUP");
    let start = Instant::now();
    while magpie.reloads() == 0 {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(standing(&magpie), (8, 0));
    for status in [200, 200, 429] {
        assert_eq!(ask(&magpie, "up/ok").status(), status);
    }
}

#[test]
fn a_model_with_a_star_has_one_budget_over_a_restart() {
    let upstream = ScriptedUpstream::start();
    let models = "models: { 'm-*': { target: 'up/*', budget: '$0.05/month' } }";
    let magpie = setup(&upstream, "'$5/month'").and(models).start();
    for model in ["m-ok", "m-events:1:0"] {
        assert_eq!(ask(&magpie, model).status(), 200, "{model}");
    }
    let magpie = magpie.stop().start();
    for status in [200, 200, 200, 429] {
        assert_eq!(ask(&magpie, "m-ok").status(), status);
    }
}

/// Kills it while two requests are under way that may cost a dollar each. Says what the budget has
/// as spent after that, and the attempts.
fn killed_in_the_middle(on_exhausted: &str) -> (Magpie, u64, Vec<Value>) {
    let upstream = ScriptedUpstream::start();
    let budget = format!("{{ amount: '$2.50', period: month, on_exhausted: {on_exhausted} }}");
    let more = format!(
        "keys: [{{ name: ci, key: '{KEY}', budget: {budget} }}]\n\
         prices: {{ 'up/*': {{ input: 0, output: 10000, max_output: 100 }} }}"
    );
    let magpie = Setup::of(&upstream.base_url()).with_admin().and(&more).start();
    let wires = [begin(&magpie, "up/stall:3", true), begin(&magpie, "up/hang", false)];
    let start = Instant::now();
    while standing(&magpie) != (0, 200) || upstream.received().len() < wires.len() {
        assert!(start.elapsed() < PATIENCE, "{:?}", standing(&magpie));
        thread::sleep(Duration::from_millis(5));
    }
    magpie.process.signal("KILL");
    let magpie = magpie.kill().start();
    let (spent, reserved) = standing(&magpie);
    assert_eq!(reserved, 0);
    let found = attempts_of(&magpie, wires.len());
    assert!(found.iter().all(|it| it["outcome"] == "lost" && it["provenance"] == "estimated"));
    (magpie, spent, found)
}

#[test]
fn what_was_reserved_when_it_was_killed_counts_as_spent() {
    let (magpie, spent, found) = killed_in_the_middle("refuse");
    assert_eq!(spent, 200, "the provider may have made all of it");
    for attempt in &found {
        assert_eq!(attempt["formula"], "1 reserved × $1 = $1", "{attempt}");
    }
    ask(&magpie, "up/ok").assert_error(429, "insufficient_quota");
    // One that only tells has nothing to hold: the estimate is told.
    let (_magpie, spent, found) = killed_in_the_middle("alert");
    assert_eq!(spent, 0);
    assert!(found.iter().all(|it| !it["formula"].as_str().unwrap().contains("reserved")));
}

#[test]
fn a_used_up_budget_sends_requests_to_the_cheaper_model_it_names() {
    let upstream = ScriptedUpstream::start();
    let budget = "{ amount: '$0.05', period: month, on_exhausted: { downgrade: small } }";
    let keys = format!(
        "keys: [{{ name: ci, key: '{KEY}', budget: {budget} }}]\n\
         models: {{ small: up/cheap, large: up/dear }}\n\
         prices: {{ up/dear: {{ per_request: '0.02' }}, up/cheap: {{ per_request: '0.01' }} }}"
    );
    let magpie = Setup::of(&upstream.base_url()).with_admin().and(&keys).start();
    let target = |reply: &Reply| reply.header("x-magpie-target").map(str::to_owned);
    for (expected, spent) in [("up/dear", 2), ("up/dear", 4), ("up/cheap", 5)] {
        let reply = ask(&magpie, "large");
        assert_eq!(reply.status(), 200, "{}", reply.text());
        assert_eq!(target(&reply).as_deref(), Some(expected));
        assert_eq!(settled(&magpie), spent);
    }
    // The cheaper one costs something too.
    for model in ["large", "small"] {
        ask(&magpie, model).assert_error(429, "insufficient_quota");
    }
    let asked = upstream.received();
    let models: Vec<Value> = asked.iter().map(|it| it.json()["model"].clone()).collect();
    assert_eq!(models, ["dear", "dear", "cheap"]);
    let found = attempts(&magpie.stop());
    let served: Vec<&Value> = found.iter().filter(|it| it["outcome"] == "complete").collect();
    assert_eq!(served.len(), 3);
    assert_eq!(served[2]["upstream_model"], "cheap");
}

/// A webhook: takes what is posted, but says to the first that it cannot.
fn webhook() -> (SocketAddr, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, posted) = mpsc::channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                let lower = line.to_lowercase();
                let value = lower.strip_prefix("content-length:");
                length = value.map_or(length, |value| value.trim().parse().unwrap());
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let status = if number == 0 { "503 Service Unavailable" } else { "204 No Content" };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            let told = serde_json::from_slice(&body).unwrap();
            if number > 0 && sender.send(told).is_err() {
                return;
            }
        }
    });
    (address, posted)
}

#[test]
fn alerts_are_told_once_each_in_the_log_and_to_the_webhook() {
    let upstream = ScriptedUpstream::start();
    let (hook, posted) = webhook();
    let budget = format!(
        "{{ amount: '$0.10', period: month, on_exhausted: alert, alerts: [50, 80], \
         webhook: 'http://{hook}/hook' }}"
    );
    let magpie = setup(&upstream, &budget).start();
    for number in 1..=12 {
        assert_eq!(ask(&magpie, "up/ok").status(), 200, "it only tells");
        assert_eq!(settled(&magpie), number);
    }
    for (percent, spent) in [(50, "$0.05"), (80, "$0.08")] {
        let told = posted.recv_timeout(PATIENCE).expect("an alert is posted");
        assert_eq!(told["percent"], percent, "{told}");
        assert_eq!((&told["spent"], &told["amount"]), (&spent.into(), &"$0.1".into()));
        assert_eq!((&told["type"], &told["period"]), (&"budget.alert".into(), &"month".into()));
        assert_eq!(told["holder"], json!({ "kind": "key", "id": "ci", "name": "ci" }));
    }
    let log = magpie.process.stderr.so_far();
    assert_eq!(log.matches("the budget of key `ci` has reached").count(), 2, "{log}");
    assert_eq!(log.matches("could not be posted").count(), 1, "{log}");

    // After a restart nobody is told again.
    let magpie = magpie.stop().start();
    assert_eq!(ask(&magpie, "up/ok").status(), 200);
    assert_eq!(settled(&magpie), 13);
    assert!(posted.recv_timeout(Duration::from_millis(300)).is_err(), "told again");
}

/// One webhook takes connections and never answers; the other's alerts do not wait for it.
#[test]
fn a_dead_webhook_delays_nobody_elses_alerts() {
    let upstream = ScriptedUpstream::start();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let (hook, posted) = webhook();
    let budget = |at: SocketAddr| {
        format!(
            "{{ amount: '$0.10', period: month, on_exhausted: alert, alerts: [10, 20, 30, 40, 50], \
             webhook: 'http://{at}/hook' }}"
        )
    };
    let keys = format!(
        "keys: [{{ name: ci, key: '{KEY}', team: t, budget: {} }}]\nteams: {{ t: {{ budget: {} }} }}\n{PRICES}",
        budget(dead.local_addr().unwrap()),
        budget(hook),
    );
    let magpie = Setup::of(&upstream.base_url()).and(&keys).start();
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(ask(&magpie, "up/ok").status(), 200);
    }
    for percent in [10, 20, 30, 40, 50] {
        let told = posted.recv_timeout(PATIENCE).expect("an alert is posted");
        assert_eq!(told["percent"], percent, "in their order: {told}");
        assert_eq!(told["holder"]["kind"], "team");
    }
    // The first was told to come again, a second later.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}, as long as a dead one is waited for");
}
