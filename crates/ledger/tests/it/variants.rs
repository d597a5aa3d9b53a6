//! What each variant of a model did: first attempts alone, each caller at home on one of them.

use std::time::Instant;

use ledger::{
    Amount, Bill, By, Closing, Feedback, Filter, Ledger, Measure, Moments, Opening, Trial, Unit,
    VariantSums, Variants, Who, Writer,
};
use tempfile::TempDir;

use crate::world::{closing, folder, id, open, opening, options};

fn target(model: &str) -> (String, String) {
    ("up".into(), model.into())
}

/// The model `smart`, split between `a` and `b`.
fn split() -> Trial {
    Trial { variants: vec![vec![target("a")], vec![target("b")]], ..trial() }
}

/// The model `smart`, of whose plan nothing is known.
pub(crate) fn trial() -> Trial {
    Trial { filter: Filter::only(By::Model, "smart"), ..Trial::default() }
}

/// A request under way, of a key at a target.
fn asked(number: u64, attempt: u16, key: &'static str, model: &'static str) -> Opening<'static> {
    let key = Some(key).filter(|key| !key.is_empty());
    let user = key.is_some().then_some("ann");
    let who = Who { key, user, team: None, org: None };
    Opening { attempt, who, provider: "up", upstream_model: model, ..opening(number) }
}

struct World {
    _folder: TempDir,
    ledger: Ledger,
    writer: Writer,
    next: u64,
}

impl World {
    fn new() -> Self {
        let folder = folder();
        let (ledger, _) = open(&options(folder.path()));
        let writer = ledger.writer().unwrap();
        Self { _folder: folder, ledger, writer, next: 1 }
    }

    /// A request that ended like this at its first attempt.
    fn ended(&mut self, key: &'static str, model: &'static str, end: Closing<'_>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.writer.opening(&asked(number, 1, key, model)).unwrap();
        let its = Closing { id: id(number), at_ms: closing(number).at_ms, ..end };
        self.writer.closing(&its).unwrap();
        number
    }

    fn took(&mut self, key: &'static str, model: &'static str, total_us: u64) -> u64 {
        self.ended(key, model, Closing { total_us, ..closing(0) })
    }

    fn rate(&mut self, number: u64, label: &str, score: f64) {
        let ended_ms = closing(number).at_ms;
        let at_ms = ended_ms + 1;
        let given = Feedback { id: id(number), at_ms, ended_ms, label, score, comment: None };
        self.writer.feedback(&given).unwrap();
    }

    fn compare(&self, trial: &Trial) -> Variants {
        self.ledger.flush().unwrap();
        self.ledger.reader().unwrap().variants(trial).unwrap()
    }
}

fn moments(variant: &VariantSums, measure: &Measure) -> (Moments, Moments) {
    let found = variant.measures.iter().find(|measured| measured.measure == *measure);
    found.map(|it| (it.requests, it.callers)).unwrap_or_default()
}

fn of(values: &[f64]) -> Moments {
    let sum = |of: fn(f64) -> f64| values.iter().map(|value| of(*value)).sum();
    Moments { count: values.len() as u64, sum: sum(|it| it), squares: sum(|it| it * it) }
}

#[test]
fn moments_are_of_requests_and_of_the_means_of_callers() {
    let mut world = World::new();
    for (key, model, micros) in
        [("k1", "a", 10), ("k1", "a", 30), ("k2", "a", 100), ("k3", "b", 7), ("k1", "a", 20)]
    {
        world.took(key, model, micros);
    }
    let found = world.compare(&split());
    let [a, b] = &found.variants[..] else { panic!("{found:?}") };
    assert_eq!((a.requests, a.callers, a.strayed), (4, 2, 0));
    assert_eq!((b.requests, b.callers, b.strayed), (1, 1, 0));
    let total = moments(a, &Measure::Total);
    assert_eq!(total, (of(&[10.0, 30.0, 100.0, 20.0]), of(&[20.0, 100.0])));
    assert_eq!(moments(b, &Measure::Total), (of(&[7.0]), of(&[7.0])));
    assert_eq!(moments(a, &Measure::Output).0, of(&[300.0; 4]));
    assert_eq!(moments(a, &Measure::Cost("USD".into())).0, of(&[900_000.0; 4]));
    assert_eq!(moments(a, &Measure::FirstEvent).0, of(&[400_123.0; 4]));
    assert_eq!(moments(a, &Measure::Error).0, of(&[0.0; 4]));
    // One user has all of the keys, and most requests of it went to `a`.
    let found = world.compare(&Trial { unit: Unit::User, ..split() });
    assert_eq!((found.variants[0].callers, found.variants[1].strayed), (1, 1));
}

#[test]
fn a_first_attempt_that_fails_is_an_error_of_the_side_that_was_asked() {
    let mut world = World::new();
    world.took("k1", "a", 10);
    // Another target answers: what it did counts nowhere, nor does what is said of the answer.
    let gave_way = Closing { last_of: None, outcome: "unreachable", status: 0, ..closing(0) };
    let first = world.ended("k1", "a", gave_way);
    world.writer.opening(&asked(first, 2, "k1", "b")).unwrap();
    let second = Closing { attempt: 2, last_of: Some(2), total_us: 999, ..closing(first) };
    world.writer.closing(&second).unwrap();
    world.rate(first, "", 1.0);
    world.ended("k1", "a", Closing { status: 502, fault: Some("truncated"), ..closing(0) });
    // A step of a model that is made of others answers, and another one follows.
    world.ended("k1", "a", Closing { last_of: None, total_us: 20, ..closing(0) });
    let found = world.compare(&split());
    let [a, b] = &found.variants[..] else { panic!("{found:?}") };
    assert_eq!((a.requests, b.requests, b.strayed), (4, 0, 0));
    assert_eq!(moments(a, &Measure::Error).0, of(&[0.0, 1.0, 1.0, 0.0]));
    assert_eq!(moments(a, &Measure::Total).0, of(&[10.0, 20.0]));
    assert_eq!(moments(a, &Measure::Feedback(String::new())), Default::default());
}

#[test]
fn a_target_that_was_overtaken_has_not_failed_and_its_time_is_not_known() {
    let mut world = World::new();
    world.took("k1", "a", 10);
    // Another one, asked beside it, was first.
    let late = world.ended(
        "k1",
        "a",
        Closing {
            last_of: None,
            outcome: "cancelled",
            status: 0,
            first_event_us: None,
            total_us: 5000,
            ..closing(0)
        },
    );
    world.writer.opening(&asked(late, 2, "k1", "b")).unwrap();
    let first = Closing { attempt: 2, last_of: Some(2), ..closing(late) };
    world.writer.closing(&first).unwrap();
    // And here the one beside it was not.
    let number = world.next;
    world.next += 1;
    for (attempt, model) in [(1, "a"), (2, "b")] {
        world.writer.opening(&asked(number, attempt, "k1", model)).unwrap();
    }
    let beside = Closing { attempt: 2, last_of: None, outcome: "cancelled", ..closing(number) };
    world.writer.closing(&beside).unwrap();
    let answered = Closing { last_of: Some(2), total_us: 30, ..closing(number) };
    world.writer.closing(&answered).unwrap();
    world.rate(number, "", 0.5);
    let found = world.compare(&split());
    let [a, b] = &found.variants[..] else { panic!("{found:?}") };
    assert_eq!((a.requests, b.requests), (3, 0));
    assert_eq!(moments(a, &Measure::Error).0, of(&[0.0, 0.0, 0.0]));
    assert_eq!(moments(a, &Measure::Overtaken).0, of(&[0.0, 1.0, 0.0]));
    assert_eq!(moments(a, &Measure::Total).0, of(&[10.0, 30.0]));
    assert_eq!(moments(a, &Measure::Feedback(String::new())).0, of(&[0.5]));
    // The request is told by the attempt that answered.
    let whole = world.ledger.reader().unwrap().request(id(number)).unwrap().unwrap();
    assert_eq!((whole.request.last.attempt, whole.request.last.last_of), (1, Some(2)));
    assert_eq!(whole.feedback.len(), 1);
}

#[test]
fn what_a_caller_sent_to_another_side_than_usual_is_left_out() {
    let mut world = World::new();
    for (key, model) in [("k1", "a"), ("k1", "a"), ("k1", "b"), ("k2", "b"), ("k2", "b")] {
        world.took(key, model, 10);
    }
    let astray = world.took("k1", "b", 10_000);
    world.took("k1", "a", 10);
    world.rate(astray, "", 0.0);
    let found = world.compare(&split());
    let [a, b] = &found.variants[..] else { panic!("{found:?}") };
    assert_eq!((a.requests, a.callers, a.strayed), (3, 1, 0));
    assert_eq!((b.requests, b.callers, b.strayed), (2, 1, 2));
    assert_eq!(moments(b, &Measure::Total).0, of(&[10.0, 10.0]));
    assert_eq!(moments(b, &Measure::Feedback(String::new())), Default::default());
}

#[test]
fn clients_that_leave_and_what_magpie_ends_say_nothing_of_the_time() {
    let mut world = World::new();
    for outcome in ["complete", "client_gone", "shed", "failed"] {
        world.ended("k1", "a", Closing { outcome, ..closing(0) });
    }
    let unpriced = Closing { bill: Bill::Unpriced, first_event_us: None, ..closing(0) };
    world.ended("k1", "a", unpriced);
    let found = world.compare(&split());
    let a = &found.variants[0];
    assert_eq!(a.requests, 3);
    assert_eq!(moments(a, &Measure::Left).0, of(&[0.0, 1.0, 0.0]));
    assert_eq!(moments(a, &Measure::FirstEvent).0.count, 2);
    assert_eq!(moments(a, &Measure::Total).0.count, 2);
    assert_eq!(moments(a, &Measure::Cost("USD".into())).0.count, 1);
}

#[test]
fn requests_without_a_caller_stand_each_for_itself() {
    let mut world = World::new();
    for (model, micros) in [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("b", 5)] {
        world.took("", model, micros);
    }
    let found = world.compare(&split());
    let [a, b] = &found.variants[..] else { panic!("{found:?}") };
    assert_eq!((a.callers, b.callers, a.strayed + b.strayed), (2, 3, 0));
    assert_eq!(moments(b, &Measure::Total), (of(&[2.0, 4.0, 5.0]), of(&[2.0, 4.0, 5.0])));
}

#[test]
fn scores_are_found_beside_their_answers() {
    let mut world = World::new();
    let first = world.took("k1", "a", 1);
    let second = world.took("k1", "a", 1);
    let other = world.took("k2", "b", 1);
    for (number, label, score) in
        [(first, "", 0.5), (second, "", 1.0), (second, "tone", 0.0), (other, "", 0.25)]
    {
        world.rate(number, label, score);
    }
    // One of a request that is not there, between those that are.
    world.rate(second + 1000, "", 1.0);
    let currency = Bill::Charge(Amount { nanos: 5, currency: "CNY" });
    world.ended("k2", "b", Closing { bill: currency, ..closing(0) });
    let found = world.compare(&split());
    let [a, b] = &found.variants[..] else { panic!("{found:?}") };
    assert_eq!(moments(a, &Measure::Feedback(String::new())).0, of(&[0.5, 1.0]));
    assert_eq!(moments(a, &Measure::Feedback("tone".into())).0, of(&[0.0]));
    assert_eq!(moments(b, &Measure::Feedback(String::new())), (of(&[0.25]), of(&[0.25])));
    assert_eq!(moments(b, &Measure::Cost("CNY".into())).0, of(&[5.0]));
    assert_eq!(moments(b, &Measure::Cost("USD".into())).0.count, 1);
}

#[test]
fn targets_of_one_side_are_one_variant_and_others_are_none() {
    let mut world = World::new();
    for (key, model) in [("k1", "a1"), ("k1", "a2"), ("k2", "b"), ("k3", "c"), ("k3", "b")] {
        world.took(key, model, 1);
    }
    let variants = vec![vec![target("a1"), target("a2")], vec![target("b")], vec![target("d")]];
    let told = |found: &Variants| -> Vec<_> {
        let told = |it: &VariantSums| (it.targets[0].1.clone(), it.requests, it.strayed);
        found.variants.iter().map(told).collect()
    };
    let found = world.compare(&Trial { variants, ..trial() });
    assert_eq!(told(&found), [("a1".into(), 2, 0), ("b".into(), 2, 0), ("d".into(), 0, 0)]);
    assert_eq!(found.elsewhere, 1, "`c` is no target of the experiment");
    // Without a plan each target is a variant; who asked two as often belongs to one of them.
    let mut found = told(&world.compare(&trial()));
    found.sort();
    assert_eq!(found.len(), 4);
    assert_eq!(found.iter().map(|(_, requests, strayed)| requests + strayed).sum::<u64>(), 5);
    // A refusal names no target, and is none.
    let refused = world.next;
    let none = Opening { attempt: 0, provider: "", ..asked(refused, 0, "k1", "") };
    let status = Closing { attempt: 0, status: 429, outcome: "refused", ..closing(refused) };
    world.writer.refusal(&none, &status).unwrap();
    assert_eq!(world.compare(&trial()).variants.len(), 4);
    let nobody = Trial { filter: Filter::only(By::Model, "nobody"), ..split() };
    let empty = world.compare(&nobody);
    assert!(empty.variants.iter().all(|it| it.requests == 0 && it.measures.is_empty()));
    let from_ms = Some(closing(3).at_ms);
    let filter = Filter { from_ms, ..trial().filter };
    let late = world.compare(&Trial { filter, ..trial() });
    assert_eq!(late.variants.iter().map(|it| it.requests + it.strayed).sum::<u64>(), 3);
}

#[test]
fn a_hundred_thousand_requests_are_compared_soon() {
    let mut world = World::new();
    let keys: Vec<&'static str> = (0..500).map(|key| &*format!("key_{key}").leak()).collect();
    for number in 0..100_000_u64 {
        let key = keys[(number % 500) as usize];
        let made = world.took(key, if number % 2 == 0 { "a" } else { "b" }, number);
        if number % 10 < 2 {
            world.rate(made, "", (number % 3) as f64 / 2.0);
        }
    }
    world.ledger.flush().unwrap();
    let begun = Instant::now();
    let found = world.compare(&split());
    let took = begun.elapsed();
    eprintln!("100,000 requests compared in {took:?}");
    let [a, b] = &found.variants[..] else { panic!("{found:?}") };
    assert_eq!((a.requests, b.requests, a.callers, b.callers), (50_000, 50_000, 250, 250));
    assert_eq!(moments(a, &Measure::Feedback(String::new())).0.count, 10_000);
    // A million takes about ten times as long, without the checks of a debug build a tenth of it.
    assert!(took.as_secs() < 10, "{took:?}");
}

#[test]
fn copies_for_a_shadow_are_no_part_of_an_experiment() {
    let mut world = World::new();
    world.took("k1", "a", 10);
    let number = world.next;
    let copy = Opening { operation: ledger::MIRROR, ..asked(number, 1, "k1", "b") };
    world.writer.opening(&copy).unwrap();
    world.writer.closing(&closing(number)).unwrap();
    let found = world.compare(&split());
    let requests: Vec<u64> = found.variants.iter().map(|variant| variant.requests).collect();
    assert_eq!((requests, found.elsewhere), (vec![1, 0], 0));
}
