//! A file with many models: how long it takes to read it again, and what a look-up costs.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use policy::Snapshot;

use crate::given::{goes, snapshot};

const MANY: usize = 10_000;

/// Models with a target and a limit of their own.
fn text(models: usize) -> String {
    let mut text = String::from("providers: { lab: { profile: sglang } }\nmodels:\n");
    for number in 0..models {
        let target = format!("target: lab/up-{number}");
        let _ = writeln!(text, "  model-{number}: {{ {target}, limits: {{ rpm: 60 }} }}");
    }
    text
}

/// The best of several runs of what it takes to find the plan of one of these models.
fn look_up(snapshot: &Snapshot, names: &[String]) -> Duration {
    let run = || {
        let begun = Instant::now();
        for name in names {
            black_box(snapshot.plan(name).unwrap());
        }
        begun.elapsed() / u32::try_from(names.len()).unwrap()
    };
    (0..5).map(|_| run()).min().unwrap()
}

#[test]
fn ten_thousand_models_are_read_again_in_two_seconds_and_looked_up_like_ten() {
    // A request costs some 25 µs of CPU: a twentieth of it is the room there is, in a debug build ten
    // times that.
    const ROOM: Duration = Duration::from_nanos(if cfg!(debug_assertions) { 12_500 } else { 1250 });
    // Debug builds are several times slower, and not what anyone serves with.
    let bound = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 });
    let (few, before) = (snapshot(&text(10)), snapshot(&text(MANY)));
    let used = before.plan("model-9999").unwrap();
    used.first_route().holders[0].terms().counters[0].take(7, 1).unwrap();
    let begun = Instant::now();
    let mut many = snapshot(&text(MANY));
    many.inherit(&before);
    let reading = begun.elapsed();
    assert_eq!(goes(&many, "model-9999").as_deref(), Ok("lab/up-9999"));
    let plan = many.plan("model-9999").unwrap();
    let left = plan.first_route().holders[0].terms().counters[0].standing(1).remaining;
    assert_eq!(left, 53, "what was used is not forgotten");
    assert_eq!(many.health().known_targets(), MANY, "nor how targets are");
    let ten: Vec<String> = (0..20_000).map(|number| format!("model-{}", number % 10)).collect();
    // Those of a busy hour, spread over all.
    let spread: Vec<String> =
        (0..20_000).map(|number| format!("model-{}", number * 7919 % 1000 * 10)).collect();
    let (ten, spread) = (look_up(&few, &ten), look_up(&many, &spread));
    eprintln!(
        "{MANY} models read again in {reading:?}; 1,000 looked up in {spread:?}, ten in {ten:?}"
    );
    assert!(reading < bound, "{reading:?}");
    assert!(spread < ten + ROOM, "{spread:?} {ten:?}");
}
