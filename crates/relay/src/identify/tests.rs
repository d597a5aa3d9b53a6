//! That the time of a look-up tells nothing: two kinds of wrong keys are looked up in turn, some that
//! begin like a key that is known and some that do not, and Welch's t says whether their times differ.

#![allow(clippy::cast_precision_loss, reason = "of sums of nanoseconds and of counts")]

use std::hint::black_box;
use std::time::Instant as Clock;

use policy::directory::{KeyRecord, Origin};

use super::*;

const KEYS: usize = 512;
const LOOKS: usize = 40_000;
/// Bytes of a key, and how many of them are right in a key that begins like it.
const LENGTH: usize = 52;
const ALIKE: usize = 44;
/// Beyond it, times differ by more than chance: in one of 150,000 measurements by chance alone.
const DIFFERENT: f64 = 4.5;
/// A busy moment of the machine passes, a fault does not.
const TRIES: usize = 5;

/// Numbers that look random, and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A text of the length of a key that begins with these characters.
    fn text(&mut self, begin: &str) -> String {
        let mut text = begin.to_owned();
        while text.len() < LENGTH {
            let drawn = self.next().to_le_bytes();
            text.extend(drawn.map(|byte| char::from(b'a' + byte % 26)));
        }
        text.truncate(LENGTH);
        text
    }
}

/// How many characters of a key are right, found out as slowly as that is done by hand.
fn right(key: &str, given: &str) -> usize {
    key.bytes().zip(given.bytes()).take_while(|(right, given)| right == given).count()
}

/// A gate that knows these keys, at which each of them has called.
fn callers(keys: &[String]) -> Callers {
    let (directory, pepper) = (Arc::new(Directory::default()), Pepper::new([7; 32]));
    for (number, key) in keys.iter().enumerate() {
        let (id, name) = (format!("key_{number}"), String::from("key"));
        let digests = vec![(pepper.digest(key.as_bytes()), None)];
        let record = KeyRecord { id, name, digests, ..KeyRecord::default() };
        directory.put_key(&record, Origin::Store, 0).unwrap();
    }
    let gate = Gate { epoch: Instant::now(), directory, pepper, tokens: None };
    let callers = Callers::new(Arc::new(gate));
    assert!(keys.iter().all(|key| callers.holder(key, 0).is_some()));
    callers
}

/// A wrong key beside a right one: it begins like it, or it does not.
struct Wrong<'k> {
    key: &'k str,
    given: String,
    begins_alike: bool,
}

impl<'k> Wrong<'k> {
    fn new(keys: &'k [String], random: &mut Random) -> Self {
        let drawn = random.next();
        let (key, begins_alike) = (&*keys[(drawn >> 8) as usize % KEYS], drawn >> 63 == 0);
        let given = random.text(if begins_alike { &key[..ALIKE] } else { "mk-" });
        Self { key, given, begins_alike }
    }
}

/// How many there are, their mean, and their variance.
fn moments(times: &[u64]) -> (f64, f64, f64) {
    let count = times.len() as f64;
    let mean = times.iter().sum::<u64>() as f64 / count;
    let squares: f64 = times.iter().map(|time| (*time as f64 - mean).powi(2)).sum();
    (count, mean, squares / (count - 1.0))
}

/// Welch's t of the times of both kinds, without the slowest tenth: interruptions. No key is looked
/// up twice, for what it finds in the caches is its own.
fn difference(keys: &[String], random: &mut Random, look: impl Fn(&Wrong<'_>)) -> f64 {
    let wrong: Vec<Wrong<'_>> = (0..LOOKS).map(|_| Wrong::new(keys, random)).collect();
    let time = |one: &Wrong<'_>| {
        let begun = Clock::now();
        look(black_box(one));
        (u64::try_from(begun.elapsed().as_nanos()).unwrap(), one.begins_alike)
    };
    let mut times: Vec<(u64, bool)> = wrong.iter().map(time).collect();
    times.sort_unstable();
    times.truncate(LOOKS / 10 * 9);
    let of = |alike| times.iter().filter(|it| it.1 == alike).map(|it| it.0).collect::<Vec<u64>>();
    let (alike, other) = (moments(&of(true)), moments(&of(false)));
    (alike.1 - other.1) / (alike.2 / alike.0 + other.2 / other.0).sqrt()
}

#[test]
fn the_time_of_a_look_up_does_not_tell_how_much_of_a_key_is_right() {
    let mut random = Random(0x5eed_0028);
    let keys: Vec<String> = (0..KEYS).map(|_| random.text("mk-")).collect();
    let callers = callers(&keys);
    let look = |one: &Wrong<'_>| assert!(black_box(callers.holder(&one.given, 0)).is_none());
    let leak = |one: &Wrong<'_>| {
        look(one);
        assert_eq!(black_box(right(one.key, &one.given)) >= ALIKE, one.begins_alike);
    };
    let mut seen = Vec::new();
    let is_hidden = (0..TRIES).any(|_| {
        seen.push(difference(&keys, &mut random, look));
        seen[seen.len() - 1].abs() < DIFFERENT
    });
    let told = difference(&keys, &mut random, leak);
    eprintln!("t of a look-up: {seen:.1?}; of one that compares letters: {told:.1}");
    assert!(is_hidden, "{seen:?}");
    assert!(told > DIFFERENT * 4.0, "nothing is measured: {told}");
}
