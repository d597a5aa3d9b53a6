//! Records in, numbers out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use metrics::{Exposition, Form};
use policy::Snapshot;
use policy::directory::Kind;
use policy::health::Cause;
use policy::money::{Currency, Money};
use policy::price::Charge;
use policy::scope::Operation;
use relay::{Caller, Code, Limited, Outcome, Provenance, Record, RequestId};
use tokio::runtime::{Builder, LocalOptions};

use super::shard::MOST_COMBINATIONS;
use super::{Hub, Shard, models, told};

const FILE: &str = "
providers:
  lab: { profile: openai-compatible, base_url: 'http://127.0.0.1:1/v1', models: [listed] }
  spare: { profile: openai-compatible, base_url: 'http://127.0.0.1:2/v1' }
models:
  chat: { fallback: [lab/one, spare/two] }
  team-*: { target: lab/team-*, queue: 5s }
";

struct World {
    snapshot: Arc<Snapshot>,
    hub: Arc<Hub>,
    shard: Shard,
}

impl World {
    fn new() -> Self {
        let environment = policy::Environment::new();
        let config = policy::load(FILE, &environment).unwrap();
        let profiles = providers::builtin().unwrap();
        let Ok(snapshot) = policy::build(&config, &profiles, &environment) else { panic!() };
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let hub = Arc::new(Hub::new(Arc::clone(&snapshot), false));
        Self { snapshot: snapshot.load_full(), shard: shard(&hub), hub }
    }

    /// The record of a chat that was answered well, at the first target of the model.
    fn record(&self, model: &str) -> Record {
        let route = self.snapshot.route(model).ok();
        Record {
            at: SystemTime::UNIX_EPOCH,
            id: RequestId::new(),
            operation: Operation::Chat,
            model: model.into(),
            asked: route.is_some(),
            attempt: u16::from(route.is_some()),
            attempts: u16::from(route.is_some()),
            route,
            status: 200,
            stream: true,
            outcome: Outcome::Complete,
            fault: None,
            cause: None,
            limited: None,
            mirror_of: None,
            shared: false,
            caller: Caller::default(),
            is_last: true,
            usage: Some(wire::Usage { input: 10, output: 5, ..wire::Usage::default() }),
            provenance: Provenance::Reported,
            charge: None,
            likely_input: 10,
            seen_output: 5,
            reserved: None,
            unpriced: true,
            may_cost: true,
            alerts: Vec::new(),
            events: 5,
            first_event: Some(Duration::from_millis(100)),
            total: Duration::from_millis(300),
            overhead: Duration::from_micros(50),
            queued: Duration::ZERO,
        }
    }

    /// The samples that begin like this.
    fn told(&self, begin: &str) -> Vec<String> {
        let mut told = Exposition::new(Form::Prometheus);
        told::requests(&mut told, &self.hub);
        models::tell(&mut told, &self.snapshot, &self.snapshot.plans(), 0);
        let text = told.finish();
        text.lines().filter(|line| line.starts_with(begin)).map(str::to_owned).collect()
    }

    /// The one number that begins like this; 0 if there is none.
    fn number(&self, begin: &str) -> f64 {
        match &self.told(begin)[..] {
            [] => 0.0,
            [line] => line.rsplit_once(' ').unwrap().1.parse().unwrap(),
            several => panic!("{several:?}"),
        }
    }
}

fn shard(hub: &Arc<Hub>) -> Shard {
    let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
    hub.shard(runtime.handle().metrics())
}

/// A failed attempt of a request that goes on.
fn failed(of: &Record) -> Record {
    Record { is_last: false, cause: Some(Cause::Transient), usage: None, ..of.clone() }
}

#[test]
fn a_stream_that_was_answered_is_counted_once_everywhere() {
    let world = World::new();
    world.shard.begun();
    assert_eq!(world.number("magpie_requests_in_flight"), 1.0);
    world.shard.record(&world.record("chat"));
    let labels = r#"{model="chat",provider="lab",operation="chat""#;
    for (name, rest, number) in [
        ("magpie_requests_total", r#",status="2xx",outcome="complete"}"#, 1.0),
        ("magpie_streams_total", r#",outcome="complete"}"#, 1.0),
        ("magpie_attempts_total", r#",cause="none"}"#, 1.0),
        ("magpie_tokens_total", r#",bucket="input"}"#, 10.0),
        ("magpie_tokens_total", r#",bucket="output"}"#, 5.0),
        ("magpie_metered_attempts_total", r#",provenance="reported"}"#, 1.0),
        ("magpie_unpriced_attempts_total", "}", 1.0),
        ("magpie_request_duration_seconds_sum", "}", 0.3),
        ("magpie_time_to_first_token_seconds_sum", "}", 0.1),
        // 200 ms for four tokens after the first.
        ("magpie_time_per_output_token_seconds_sum", "}", 0.05),
        ("magpie_retries_total", "}", 0.0),
        ("magpie_fallbacks_total", "}", 0.0),
    ] {
        assert_eq!(world.number(&format!("{name}{labels}{rest}")), number, "{name}");
    }
    assert_eq!(world.number("magpie_overhead_seconds_sum"), 0.00005);
    assert_eq!(world.number("magpie_requests_in_flight"), 0.0);
    assert!(world.told("magpie_errors_total").is_empty());
}

#[test]
fn what_workers_count_is_added_up() {
    let world = World::new();
    let other = shard(&world.hub);
    for worker in [&world.shard, &other, &other] {
        worker.record(&world.record("chat"));
    }
    assert_eq!(world.number("magpie_requests_total"), 3.0);
    assert_eq!(world.number("magpie_request_duration_seconds_count"), 3.0);
    assert_eq!(world.number("magpie_overhead_seconds_count"), 3.0);
}

#[test]
fn an_error_has_its_code_and_whoever_is_to_blame() {
    let world = World::new();
    let ends = |outcome, fault, cause| Record { outcome, fault, cause, ..world.record("chat") };
    let of_code = |code: Code| Some(code.name());
    use Outcome::{ClientGone, Failed, ProviderError, Refused, TimedOut};
    for (record, error) in [
        (ends(Refused, of_code(Code::InvalidField), None), "invalid_field\",blame=\"caller"),
        (ends(TimedOut, of_code(Code::Timeout), None), "provider_timeout\",blame=\"provider"),
        (ends(Failed, of_code(Code::Internal), None), "internal_error\",blame=\"magpie"),
        (ends(ProviderError, None, Some(Cause::CallersFault)), "provider_error\",blame=\"caller"),
        (ends(ProviderError, None, Some(Cause::Throttled)), "provider_error\",blame=\"provider"),
    ] {
        let begin = r#"magpie_errors_total{model="chat",provider="lab",operation="chat",error=""#;
        world.shard.record(&record);
        assert_eq!(world.number(&format!("{begin}{error}\"}}")), 1.0, "{error}");
    }
    world.shard.record(&ends(ClientGone, None, None));
    assert_eq!(world.told("magpie_errors_total").len(), 5, "who leaves is no error");
}

#[test]
fn attempts_are_counted_each_and_requests_once() {
    let world = World::new();
    let last = world.record("chat");
    let spare = world.snapshot.plan("chat").unwrap().targets()[1].route.clone();
    // The same target again, with another credential: a retry and no fallback.
    world.shard.record(&failed(&last));
    world.shard.record(&Record { attempt: 2, ..last.clone() });
    assert_eq!(world.number("magpie_requests_total"), 1.0);
    assert_eq!(world.number("magpie_retries_total"), 1.0);
    assert_eq!(world.number("magpie_fallbacks_total"), 0.0);
    let again = Record { id: RequestId::new(), ..last };
    world.shard.record(&failed(&again));
    world.shard.record(&Record { attempt: 2, route: Some(spare), ..again });
    let at_spare = r#"{model="chat",provider="spare",operation="chat"}"#;
    for name in ["retries", "fallbacks"] {
        assert_eq!(world.number(&format!("magpie_{name}_total{at_spare}")), 1.0);
    }
    let causes = world.told("magpie_attempts_total");
    assert_eq!(causes.len(), 3, "{causes:?}");
    assert!(causes.iter().any(|line| line.contains(r#"cause="transient"} 2"#)), "{causes:?}");
}

#[test]
fn an_attempt_that_was_overtaken_is_no_error_and_who_overtook_it_a_fallback() {
    let world = World::new();
    let first = world.record("chat");
    let spare = world.snapshot.plan("chat").unwrap().targets()[1].route.clone();
    let outcome = Outcome::Cancelled;
    world.shard.record(&Record { outcome, is_last: false, usage: None, ..first.clone() });
    world.shard.record(&Record { attempt: 2, attempts: 2, route: Some(spare), ..first });
    let of = |name: &str, provider: &str| {
        let labels = format!("model=\"chat\",provider=\"{provider}\",operation=\"chat\"");
        world.number(&format!("magpie_{name}_total{{{labels}}}"))
    };
    assert_eq!((of("overtaken_attempts", "lab"), of("overtaken_attempts", "spare")), (1.0, 0.0));
    assert_eq!((of("fallbacks", "spare"), of("retries", "spare")), (1.0, 1.0));
    assert_eq!(world.number("magpie_requests_total"), 1.0);
    assert!(world.told("magpie_errors_total").is_empty());
}

#[test]
fn what_was_overtaken_has_its_cost_which_is_part_of_all() {
    let world = World::new();
    let money = |nanos| Money { nanos, currency: Currency::Cny };
    let charge = |nanos| Some(Charge { money: money(nanos), lines: Vec::new() });
    let won = Record { charge: charge(2_000_000_000), ..world.record("chat") };
    let outcome = Outcome::Cancelled;
    let lost = Record { outcome, is_last: false, charge: charge(500_000_000), ..won.clone() };
    world.shard.record(&lost);
    world.shard.record(&won);
    assert_eq!(world.number("magpie_overtaken_cost_total"), 0.5);
    assert_eq!(world.number("magpie_cost_total"), 2.5);
}

#[test]
fn who_waited_is_counted_with_the_time_it_took() {
    let world = World::new();
    world.shard.record(&world.record("chat"));
    let queued = Duration::from_millis(1_500);
    world.shard.record(&Record { queued, ..world.record("chat") });
    let refused = Record { outcome: Outcome::Refused, asked: false, ..world.record("chat") };
    world.shard.record(&Record { queued, ..refused });
    assert_eq!(world.number("magpie_queue_wait_seconds_count"), 2.0);
    assert_eq!(world.number("magpie_queue_wait_seconds_sum"), 3.0);
}

#[test]
fn what_options_come_to_is_told_by_names_of_the_configuration_alone() {
    let world = World::new();
    for name in ["chat", "team-a", "team-b", "lab/free"] {
        let plan = world.snapshot.plan(name).unwrap();
        plan.tally().replayed.count();
        plan.tally().left.count();
    }
    let replayed = |model: &str| {
        world.number(&format!("magpie_shared_answers_total{{model=\"{model}\",how=\"replayed\"}}"))
    };
    assert_eq!((replayed("chat"), replayed("team-*")), (1.0, 2.0));
    assert_eq!(world.told("magpie_shared_answers_total").len(), 2);
    assert_eq!(world.number(r#"magpie_queue_requests_total{model="team-*",end="left"}"#), 2.0);
    let waiting = r#"magpie_queue_waiting_requests{model="team-*"}"#;
    assert_eq!(world.told("magpie_queue_waiting_requests"), [format!("{waiting} 0")]);
}

#[test]
fn a_refusal_names_the_limit_and_what_holds_it() {
    let world = World::new();
    for (holder, limit) in [(Kind::Team, "rpm"), (Kind::Key, "concurrency"), (Kind::Org, "budget")]
    {
        let limited = Some(Limited { holder, limit });
        let outcome = Outcome::Refused;
        world.shard.record(&Record { limited, outcome, asked: false, ..world.record("chat") });
        let holder = holder.word();
        let name = format!("magpie_rejections_total{{holder=\"{holder}\",limit=\"{limit}\"}}");
        assert_eq!(world.number(&name), 1.0, "{name}");
    }
    assert!(world.told("magpie_request_duration_seconds").is_empty(), "nobody was asked");
}

#[test]
fn names_of_the_configuration_count_apart_and_others_up_to_a_bound() {
    let world = World::new();
    let mut unknown = world.record("no-such-model");
    unknown.outcome = Outcome::Refused;
    world.shard.record(&unknown);
    let early = Record { model: "".into(), ..unknown };
    world.shard.record(&early);
    for name in ["chat", "lab/listed", "listed", "", "default", "team-a", "team-b"] {
        world.shard.record(&world.record(name));
    }
    let mut names: Vec<String> = (0..1_000).map(|number| format!("lab/free-{number}")).collect();
    names.push(format!("lab/{}", "long".repeat(100)));
    for name in &names {
        world.shard.record(&world.record(name));
        world.shard.record(&world.record(name));
    }
    let model = |line: &str| line.split('"').nth(1).unwrap().to_owned();
    let told: Vec<String> =
        world.told("magpie_requests_total").iter().map(|line| model(line)).collect();
    for name in ["chat", "lab/listed", "listed", "default", "team-*", "none", "other"] {
        assert!(told.iter().any(|known| known == name), "{name}");
    }
    let free = told.iter().filter(|name| name.starts_with("lab/free-")).count();
    assert_eq!(free, 200);
    let other = r#"magpie_requests_total{model="other",provider="lab""#;
    assert_eq!(world.number(other), 2.0 * 801.0);
    let count = |model: &str| world.number(&format!("magpie_requests_total{{model=\"{model}\""));
    assert_eq!((count("default"), count("team-*")), (2.0, 2.0));
}

#[test]
fn combinations_over_the_bound_are_counted_together() {
    let world = World::new();
    let names = (0..200).map(|number| format!("lab/free-{number}"));
    for (number, name) in names.flat_map(|name| [(); 6].map(|()| name.clone())).enumerate() {
        let operation = Operation::ALL[number % 6];
        world.shard.record(&Record { operation, ..world.record(&name) });
    }
    // 200 names of 6 operations want to be counted apart; whoever came late is `other`, of which
    // there is one for each provider and operation.
    assert_eq!(world.number("magpie_metrics_combinations "), (MOST_COMBINATIONS + 6) as f64);
    let others = world.told(r#"magpie_requests_total{model="other""#);
    let sum: f64 =
        others.iter().map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum();
    assert_eq!((others.len(), sum), (6, 200.0));
}

#[test]
fn counting_takes_no_memory_once_the_names_are_known() {
    let world = World::new();
    let names = ["chat", "team-a", "", "lab/free"];
    let mut records: Vec<Record> = names.iter().map(|name| world.record(name)).collect();
    let refused = Record { outcome: Outcome::Refused, asked: false, ..world.record("chat") };
    records.push(Record { limited: Some(Limited { holder: Kind::Key, limit: "rpm" }), ..refused });
    let again = world.record("chat");
    records.extend([failed(&again), Record { attempt: 2, ..again }]);
    records.push(Record {
        outcome: Outcome::TimedOut,
        fault: Some("provider_timeout"),
        ..world.record("chat")
    });
    let count = || records.iter().for_each(|record| world.shard.record(record));
    count();
    let counts = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(0))));
    assert_eq!(counts.count_total, 1);
    let used = allocation_counter::measure(|| (0..1_000).for_each(|_| count()));
    assert_eq!(used.count_total, 0);
}
