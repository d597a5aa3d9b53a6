//! Killed under load, again and again: nothing that was answered or billed is missing, nothing is
//! there twice.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Received, ScriptedUpstream};

use crate::client::{Wire, request};
use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};
use crate::ledger::{Tokens, attempts, by_model, sums};

/// Clients at once, and how often each of them asks.
const CLIENTS: u64 = 24;
const EVERY: Duration = Duration::from_millis(80);
const KEY: &str = "a-key-for-the-load-9f31";

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What a client knows of a request that it sent.
struct Sent {
    /// The model, which is another for each request.
    model: String,
    /// Its id, once the head of the answer has come.
    id: Option<String>,
    /// The end of a good answer has come.
    ended: bool,
}

/// Asks again and again until the process is dead.
fn client(magpie: &Magpie, name: &str, mut random: Random, dead: &AtomicBool) -> Vec<Sent> {
    let (mut all, mut wire) = (Vec::new(), None);
    let mut due = Instant::now() + EVERY.mul_f64(random.below(100) as f64 / 100.0);
    while !dead.load(Ordering::SeqCst) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due = (due + EVERY).max(Instant::now());
        let Some(mut open) = wire.take().or_else(|| Wire::try_connect(magpie.address)) else {
            break;
        };
        let (events, pause) = (1 + random.below(16), random.below(8));
        let model = format!("events:{events}:{pause}:0:{name}-{}", all.len());
        let stream = random.below(2) == 0;
        let headers = [("authorization", &*format!("Bearer {KEY}"))];
        let body = chat(&format!("up/{model}"), stream);
        let mut sent = Sent { model, id: None, ended: false };
        let reply = open
            .try_send(&request("POST", CHAT, &headers, body.as_bytes()))
            .then(|| open.try_reply())
            .flatten();
        if let Some(reply) = reply {
            assert_eq!(reply.status(), 200, "{}", reply.text());
            sent.id = reply.header("x-request-id").map(str::to_owned);
            sent.ended = if stream { reply.is_done() } else { reply.whole };
            wire = reply.whole.then_some(open);
        }
        all.push(sent);
    }
    all
}

/// Serves the load for a while, and is killed. Says how long it had taken to start, and served.
fn round(
    setup: Setup,
    number: u64,
    random: &mut Random,
    all: &Mutex<Vec<Sent>>,
) -> (Setup, Duration, Duration) {
    let begun = Instant::now();
    let magpie = setup.start();
    let started = begun.elapsed();
    let dead = AtomicBool::new(false);
    let lasts = Duration::from_millis(50 + random.below(1950));
    let seeds: Vec<u64> = (0..CLIENTS).map(|_| 1 + random.below(u64::MAX - 1)).collect();
    thread::scope(|scope| {
        for (client_number, seed) in seeds.into_iter().enumerate() {
            let (magpie, dead) = (&magpie, &dead);
            scope.spawn(move || {
                let name = format!("{number}-{client_number}");
                let sent = client(magpie, &name, Random(seed), dead);
                all.lock().unwrap().extend(sent);
            });
        }
        thread::sleep(lasts);
        magpie.process.signal("KILL");
        dead.store(true, Ordering::SeqCst);
    });
    (magpie.kill(), started, lasts)
}

/// Starts it, and kills it while it brings back what the last one left.
fn kill_at_the_start(setup: Setup, random: &mut Random) -> Setup {
    let mut process = setup.spawn(&[]);
    thread::sleep(Duration::from_millis(random.below(60)));
    process.signal("KILL");
    process.wait(PATIENCE);
    std::mem::replace(&mut process.setup, Setup::empty())
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// Billionths of a dollar.
fn nanos(amount: &str) -> u64 {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
    let part = format!("{part:0<9}");
    whole.parse::<u64>().unwrap() * 1_000_000_000 + part.parse::<u64>().unwrap()
}

fn cost(attempt: &Value) -> u64 {
    assert_eq!(attempt["cost"]["currency"], "USD", "{attempt}");
    nanos(text(&attempt["cost"], "amount"))
}

/// What tokens cost here, in billionths of a dollar.
fn price(Tokens { input, cached, output }: Tokens) -> u64 {
    input * 1000 + cached * 500 + output * 2000
}

/// What is known when all is over.
struct Aftermath {
    sent: Vec<Sent>,
    /// What the provider was asked, by the model.
    received: HashMap<String, Received>,
    /// The attempts in the ledger, and the sums beside them.
    found: Vec<Value>,
    sums: Value,
    /// The budget of the key.
    budget: Value,
}

/// Kills it so many times while it serves. `MAGPIE_TEST_SEED` makes another run of it.
fn kill_under_load(rounds: u64, config: &str) -> Aftermath {
    let upstream = ScriptedUpstream::start();
    let mut setup = Setup::of(&upstream.base_url()).with_admin().and(&format!(
        "keys: [{{ name: load, key: '{KEY}', budget: '$1000/total' }}]\n\
         prices: {{ 'up/*': {{ input: 1, cached_read: '0.5', output: 2, max_output: 100 }} }}\n\
         log: {{ requests: false }}\n{config}"
    ));
    let seed = std::env::var("MAGPIE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut random = Random(seed.unwrap_or(0x5eed_0003));
    let all = Mutex::new(Vec::new());
    let (mut slowest, mut served) = (Duration::ZERO, Duration::ZERO);
    for number in 0..rounds {
        let (started, lasted);
        (setup, started, lasted) = round(setup, number, &mut random, &all);
        (slowest, served) = (slowest.max(started), served + lasted);
        if number % 4 == 3 {
            setup = kill_at_the_start(setup, &mut random);
        }
    }
    let magpie = setup.start();
    let budget = magpie.admin("keys/load/standing").json()["budgets"][0].clone();
    let setup = magpie.stop();
    let sent = all.into_inner().unwrap();
    let rate = sent.len() as f64 / served.as_secs_f64();
    let more = rounds / 4;
    eprintln!("{rounds} and {more} kills at {rate:.0} requests/s; slowest start {slowest:?}");
    let (found, received) = (attempts(&setup), by_model(upstream.received()));
    Aftermath { sent, received, found, sums: sums(&setup), budget }
}

impl Aftermath {
    fn check(&self) {
        let records = self.records();
        let mut ended = 0;
        for sent in self.sent.iter().filter(|sent| sent.ended) {
            // Whoever saw the end of an answer finds its record, settled.
            let record = records.get(&*sent.model).unwrap_or_else(|| panic!("no {}", sent.model));
            assert_eq!(Some(text(record, "id")), sent.id.as_deref(), "{record}");
            assert_eq!(text(record, "outcome"), "complete", "{record}");
            assert_eq!(text(record, "provenance"), "reported", "{record}");
            ended += 1;
        }
        for model in self.received.keys() {
            assert!(records.contains_key(&**model), "{model} was asked, but is not recorded");
        }
        let asked: HashSet<&str> = self.sent.iter().map(|sent| &*sent.model).collect();
        for model in records.keys() {
            assert!(asked.contains(model), "{model} is recorded, but nobody asked");
        }
        let (settled, lost, tokens) = self.check_counts();
        self.check_sums();
        assert!(ended > 500 && lost > 4, "too little load: {ended} ended, {lost} lost");
        eprintln!(
            "{} sent, {ended} ended at the client, {} reached the provider; {settled} settled with \
             {tokens} tokens, {lost} lost",
            self.sent.len(),
            self.received.len(),
        );
    }

    /// The records by the model. None is there twice.
    fn records(&self) -> HashMap<&str, &Value> {
        let (mut records, mut ids) = (HashMap::new(), HashSet::new());
        for record in &self.found {
            assert!(ids.insert(text(record, "id")), "twice: {record}");
            assert!(records.insert(text(record, "upstream_model"), record).is_none(), "{record}");
            assert_eq!((text(record, "key"), &record["last_of"]), ("load", &json!(1)));
        }
        records
    }

    /// What is settled is what the provider counted; what is lost costs what was reserved. Says how many there
    /// are of each, and how many tokens were settled.
    fn check_counts(&self) -> (usize, usize, u64) {
        let is_lost = |record: &&Value| text(record, "outcome") == "lost";
        let (lost, settled): (Vec<&Value>, Vec<&Value>) = self.found.iter().partition(is_lost);
        for record in &lost {
            let input = Tokens::of(record).input;
            assert!(input > 0 && record["provenance"] == "estimated", "{record}");
            // The budget had it reserved: no less than the provider can bill.
            let received = self.received.get(text(record, "upstream_model"));
            let billed = received.map_or(0, |received| price(Tokens::billed(received)));
            assert!(cost(record) >= billed.max(input * 1000 + 100 * 2000), "{record}");
            assert!(text(record, "formula").starts_with("1 reserved × $"), "{record}");
        }
        let mut sum = Tokens::default();
        for record in &settled {
            let counted = Tokens::billed(&self.received[text(record, "upstream_model")]);
            assert_eq!(Tokens::of(record), counted, "{record}");
            assert_eq!(cost(record), price(counted), "{record}");
            sum = sum.plus(counted);
        }
        (settled.len(), lost.len(), sum.input + sum.cached + sum.output)
    }

    /// The sums that are kept beside the records say the same, and so does the budget.
    fn check_sums(&self) {
        let Self { found, sums, budget, .. } = self;
        assert_eq!(sums["attempts"].as_u64(), Some(found.len() as u64), "{sums}");
        assert_eq!(sums["requests"].as_u64(), Some(found.len() as u64), "{sums}");
        let tokens = found.iter().map(Tokens::of).fold(Tokens::default(), Tokens::plus);
        assert_eq!(Tokens::of(sums), tokens);
        let money: u64 = found.iter().map(cost).sum();
        assert_eq!(nanos(text(&sums["costs"][0], "amount")), money, "{sums}");
        assert_eq!(nanos(text(budget, "spent").trim_start_matches('$')), money, "{budget}");
        assert_eq!(text(budget, "reserved"), "$0");
    }
}

#[test]
fn killed_twenty_times_under_load_the_ledger_is_what_the_provider_counted() {
    kill_under_load(20, "").check();
}

#[test]
fn nor_does_anything_get_lost_where_answers_wait_for_the_disk() {
    kill_under_load(4, "ledger: { sync: always }").check();
}
