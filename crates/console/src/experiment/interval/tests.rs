//! Looked at after every sample, intervals miss no more often than they say, and find what is there.

use proptest::prelude::*;

use super::*;

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    /// Between 0 and 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + f64::MIN_POSITIVE
    }

    /// With the mean 0 and the variance 1.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.share(), self.share());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn take_back(&mut self, value: f64) {
        self.count -= 1;
        self.sum -= value;
        self.squares -= value * value;
    }
}

const ALPHA: f64 = 0.05;
/// Requests on each side before anybody looks.
const FIRST_LOOK: u64 = 100;

/// In how many of so many runs a difference is ever shown, looking after each of 5,000 requests.
fn shown_ever(
    runs: u32,
    are_shares: bool,
    mut draw: impl FnMut(&mut Random) -> (usize, f64),
) -> f64 {
    let mut random = Random(0x0a_b0_0b);
    let shown = (0..runs).filter(|_| {
        let mut sides = [Moments::default(); 2];
        (0..5_000).any(|_| {
            let (side, value) = draw(&mut random);
            sides[side].add(value);
            let enough = sides.iter().all(|side| side.count >= FIRST_LOOK);
            let [one, other] = sides.map(|it| Side::new(&it, &it, are_shares));
            enough && difference(&one, &other, ALPHA).excludes_nothing()
        })
    });
    f64::from(u32::try_from(shown.count()).unwrap()) / f64::from(runs)
}

#[test]
fn where_there_is_no_difference_one_is_shown_no_more_often_than_alpha() {
    let even = |random: &mut Random| usize::from(random.share() < 0.5);
    let normal = shown_ever(2_000, false, |random| (even(random), random.normal()));
    // Times to the first token are skewed, and canaries small.
    let canary = shown_ever(2_000, false, |random| {
        (usize::from(random.share() < 0.05), random.normal().exp())
    });
    let rare = shown_ever(2_000, true, |random| {
        (even(random), f64::from(u8::from(random.share() < 0.02)))
    });
    println!("shown without being there: normal {normal}, skewed canary {canary}, rare {rare}");
    assert!(normal <= ALPHA && canary <= ALPHA && rare <= ALPHA, "{normal} {canary} {rare}");
}

#[test]
fn a_difference_that_is_there_is_found() {
    let slower = |random: &mut Random| {
        let side = usize::from(random.share() < 0.5);
        // Twelve percent slower.
        (side, (random.normal() * 0.5).exp() * if side == 1 { 1.12 } else { 1.0 })
    };
    let failing = |random: &mut Random| {
        let side = usize::from(random.share() < 0.5);
        (side, f64::from(u8::from(random.share() < if side == 1 { 0.06 } else { 0.02 })))
    };
    let (slow, fails) = (shown_ever(300, false, slower), shown_ever(300, true, failing));
    println!("found within 5,000 requests: 12 % slower {slow}, 6 % for 2 % of errors {fails}");
    assert!(slow >= 0.95 && fails >= 0.95, "{slow} {fails}");
}

/// Callers who each stay on a side.
struct Callers {
    count: usize,
    /// How many of them are on the second side.
    share: f64,
    are_shares: bool,
    /// What makes a caller what it is.
    pace: fn(&mut Random) -> f64,
    /// A request of a caller.
    value: fn(&mut Random, f64) -> f64,
}

impl Callers {
    /// In how many of so many runs a difference is ever shown that is not there, over callers and
    /// over requests, looking after each of 3,000 requests.
    fn shown_ever(&self, runs: u32) -> [f64; 2] {
        let mut random = Random(0x57_1c_4b);
        let mut shown = [0_u32; 2];
        for _ in 0..runs {
            let ever = self.run(&mut random);
            shown.iter_mut().zip(ever).for_each(|(shown, ever)| *shown += u32::from(ever));
        }
        shown.map(|shown| f64::from(shown) / f64::from(runs))
    }

    fn run(&self, random: &mut Random) -> [bool; 2] {
        let mut caller = |_| (usize::from(random.share() < self.share), (self.pace)(random));
        let callers: Vec<(usize, f64)> = (0..self.count).map(&mut caller).collect();
        let mut each = vec![Moments::default(); self.count];
        let (mut requests, mut means) = ([Moments::default(); 2], [Moments::default(); 2]);
        let mut ever = [false; 2];
        for _ in 0..3_000 {
            // Some ask far more often than others.
            let skewed = self.count as f64 * random.share().powi(2);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
            let caller = skewed as usize;
            let (side, pace) = callers[caller];
            let value = (self.value)(random, pace);
            requests[side].add(value);
            if each[caller].count > 0 {
                means[side].take_back(each[caller].mean());
            }
            each[caller].add(value);
            means[side].add(each[caller].mean());
            if requests.iter().any(|side| side.count < FIRST_LOOK) {
                continue;
            }
            for (ever, units) in ever.iter_mut().zip([&means, &requests]) {
                let side = |at: usize| Side::new(&units[at], &requests[at], self.are_shares);
                *ever |= units.iter().all(|side| side.count >= 20)
                    && difference(&side(0), &side(1), ALPHA).excludes_nothing();
            }
        }
        ever
    }
}

#[test]
fn callers_are_the_units_where_each_stays_on_a_side() {
    let all_alike: fn(&mut Random) -> f64 = |_| 0.0;
    let noisy: fn(&mut Random, f64) -> f64 = |random, pace| (pace + random.normal()).exp();
    for (name, count, pace, value) in [
        ("alike", 60, all_alike, noisy),
        ("different", 60, Random::normal, |random, pace| (pace + 0.3 * random.normal()).exp()),
        ("a little different", 200, |random| 0.3 * random.normal(), noisy),
    ] {
        let callers = Callers { count, share: 0.5, are_shares: false, pace, value };
        let [over_callers, over_requests] = callers.shown_ever(400);
        println!("{name}: {over_callers} over callers, {over_requests} over requests");
        assert!(over_callers <= ALPHA, "{over_callers}");
        // Whoever takes requests for independent sees differences that are those of the callers.
        assert!(name == "alike" || over_requests > 2.0 * ALPHA, "{over_requests}");
    }
}

#[test]
fn a_few_callers_who_always_fail_are_no_difference() {
    let callers = Callers {
        count: 300,
        share: 0.1,
        are_shares: true,
        pace: |random| if random.share() < 0.05 { 0.8 } else { 0.005 },
        value: |random, pace| f64::from(u8::from(random.share() < pace)),
    };
    let [over_callers, over_requests] = callers.shown_ever(400);
    println!("{over_callers} over callers, {over_requests} over requests");
    assert!(over_callers <= ALPHA && over_requests > 2.0 * ALPHA);
}

/// The moments of some values.
fn of(values: &[f64]) -> Moments {
    let mut moments = Moments::default();
    values.iter().for_each(|value| moments.add(*value));
    moments
}

#[test]
fn mean_and_variance_are_those_of_the_book() {
    let moments = of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
    assert_eq!(moments.mean(), 5.0);
    assert!((moments.variance() - 32.0 / 7.0).abs() < 1e-12);
    assert_eq!(moments.times(2.0), of(&[4.0, 8.0, 8.0, 8.0, 10.0, 10.0, 14.0, 18.0]));
    assert_eq!((of(&[]).mean(), of(&[3.0]).variance()), (0.0, 0.0));
}

#[test]
fn the_width_is_that_of_the_formula() {
    // I = 100, c = 12.5: sqrt(112.5 · ln(112.5 / (12.5 · 0.0025))) / 100.
    let half = half_width(0.01, 1.0, 0.05);
    assert!((half - 0.303_517).abs() < 1e-5, "{half}");
    assert_eq!(half_width(0.0, 1.0, 0.05), 0.0);
    // What it costs to be allowed to look: the usual interval is 1.96 standard errors.
    let price = |number: f64| half_width(1.0 / number, 1.0, 0.05) / (1.0 / number).sqrt();
    assert!((2.9..3.2).contains(&price(100.0)), "{}", price(100.0));
    assert!((3.6..4.0).contains(&price(100_000.0)), "{}", price(100_000.0));
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.0..1.0_f64, 2..60)
}

proptest! {
    #[test]
    fn sides_and_units_do_not_matter(
        one in values(), other in values(), factor in 0.001..1000.0_f64, are_shares: bool,
    ) {
        let (one, other) = (of(&one), of(&other));
        let side = |it: &Moments| Side::new(it, it, are_shares);
        let there = difference(&side(&one), &side(&other), ALPHA);
        let back = difference(&side(&other), &side(&one), ALPHA);
        prop_assert!((there.low + back.high).abs() < 1e-9 && (there.high + back.low).abs() < 1e-9);
        prop_assert!(there.low <= there.difference && there.difference <= there.high);
        // A smaller alpha is a wider interval.
        let surer = difference(&side(&one), &side(&other), ALPHA / 10.0);
        prop_assert!(surer.low <= there.low && surer.high >= there.high);
        if !are_shares {
            let [one, other] = [one, other].map(|it| it.times(factor));
            let scaled = difference(&side(&one), &side(&other), ALPHA);
            let off = (scaled.high - there.high * factor).abs() / factor;
            prop_assert!(off < 1e-6, "{off}");
        }
    }
}
