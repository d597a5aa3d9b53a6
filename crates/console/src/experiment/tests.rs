//! What is said of what was counted.

use super::*;

/// So many requests of so many callers, all alike but for a little that has the mean 0.
fn measured(measure: Measure, requests: u64, callers: u64, mean: f64) -> Measured {
    let moments = |count: u64| {
        let noise = mean / 10.0;
        let number = count as f64;
        let squares = number * (mean * mean + noise * noise);
        Moments { count, sum: number * mean, squares }
    };
    Measured { measure, of: String::new(), requests: moments(requests), callers: moments(callers) }
}

fn counted(target: &str, requests: u64, callers: u64, total: f64) -> Counted {
    let measures = vec![measured(Measure::Total, requests, callers, total)];
    Counted { targets: vec![target.into()], requests, callers, strayed: 0, measures }
}

fn split(weights: [u32; 2], sticky: StickyTo) -> Setup {
    let side = |weight, model: &str| (weight, vec![("up".to_owned(), model.to_owned())]);
    let variants = vec![side(weights[0], "a"), side(weights[1], "b")];
    Setup { sticky: Some(sticky), variants }
}

fn asked() -> Asked {
    Asked { model: "m".into(), from_ms: 0, to_ms: 1, alpha: ALPHA }
}

fn of(variants: Vec<Counted>) -> Counts {
    Counts { variants, elsewhere: 0, left_out: 0 }
}

#[test]
fn the_largest_weight_is_the_baseline_and_of_equals_the_first() {
    let names = |weights, setup: fn([u32; 2]) -> Setup| {
        let counts = of(vec![counted("up/a", 100, 30, 1.0), counted("up/b", 200, 30, 1.0)]);
        let told = told(asked(), &setup(weights), counts);
        told.variants.into_iter().map(|variant| variant.name).collect::<Vec<_>>()
    };
    let by_key = |weights| split(weights, StickyTo::Key);
    assert_eq!(names([5, 95], by_key), ["up/b", "up/a"]);
    assert_eq!(names([50, 50], by_key), ["up/a", "up/b"]);
    let unknown = |_| Setup::default();
    assert_eq!(names([0, 0], unknown), ["up/b", "up/a"], "with the most requests");
}

#[test]
fn differences_are_told_in_words() {
    let setup = split([50, 50], StickyTo::Key);
    for (other, shown, words) in [
        (1200.0, true, "slower by 200 ms ("),
        (800.0, true, "faster by 200 ms ("),
        (1001.0, false, "no difference shown yet (-"),
    ] {
        let counts = of(vec![counted("up/a", 500, 40, 1000.0), counted("up/b", 500, 40, other)]);
        let told = told(asked(), &setup, counts);
        assert_eq!(told.comparisons.len(), 1);
        let found = &told.comparisons[0];
        assert_eq!((found.over, found.shown), (Over::Callers, shown), "{found:?}");
        assert!(found.words.starts_with(words), "{}", found.words);
        assert_eq!(told.warnings, Vec::<String>::new());
        let (low, high) = (found.low.unwrap(), found.high.unwrap());
        assert!(low < other - 1000.0 && other - 1000.0 < high);
        assert_eq!((found.baseline, found.mean), (Some(1000.0), Some(other)));
    }
}

#[test]
fn bounds_in_words_are_those_of_the_direction() {
    let interval = Interval { difference: -118.4, low: -160.2, high: -80.04 };
    let words = |measure, of| words::difference(measure, of, &interval);
    assert_eq!(words(Measure::FirstToken, ""), "faster by 118 ms (80 to 160)");
    assert_eq!(words(Measure::Cost, "USD"), "cheaper by $118 (80 to 160)");
    let interval = Interval { difference: 0.01234, low: 0.004, high: 0.0206 };
    let words = |measure, of| words::difference(measure, of, &interval);
    assert_eq!(words(Measure::Errors, ""), "fails more often by 1.23 points (0.4 to 2.06)");
    assert_eq!(words(Measure::Left, ""), "left more often by 1.23 points (0.4 to 2.06)");
    assert_eq!(words(Measure::Feedback, "tone"), "rated higher by 0.0123 (0.004 to 0.0206)");
    assert_eq!(words(Measure::Cost, "CNY"), "dearer by ¥0.0123 (0.004 to 0.0206)");
    assert_eq!(words(Measure::OutputTokens, ""), "longer by 0.0123 tokens (0.004 to 0.0206)");
}

#[test]
fn numbers_have_three_digits_that_count() {
    for (value, text) in [
        (0.0, "0"),
        (-0.0, "0"),
        (1234.5, "1234"),
        (100.0, "100"),
        (99.95, "100"),
        (12.345, "12.3"),
        (1.5, "1.5"),
        (-1.0, "-1"),
        (0.000_123_45, "0.000123"),
        (-0.05, "-0.05"),
    ] {
        assert_eq!(number(value), text, "{value}");
    }
}

#[test]
fn what_the_figures_lack_is_said() {
    let setup = split([50, 50], StickyTo::Key);
    let few = of(vec![counted("up/a", 500, 19, 1000.0), counted("up/b", 500, 40, 1200.0)]);
    let told_few = told(asked(), &setup, few);
    assert_eq!(told_few.comparisons[0].over, Over::Requests);
    assert!(told_few.warnings[0].starts_with("Fewer than 20 callers"), "{:?}", told_few.warnings);

    let early = of(vec![counted("up/a", 500, 40, 1000.0), counted("up/b", 99, 40, 9000.0)]);
    let early = told(asked(), &setup, early);
    let found = &early.comparisons[0];
    assert_eq!((found.difference, found.shown), (None, false));
    assert_eq!(found.words, "too few yet: 99 of 100 on one side");
    assert!(early.warnings.is_empty());

    let none = Setup::default();
    let targets = of(vec![counted("up/a", 500, 40, 1000.0)]);
    let told_none = told(asked(), &none, Counts { left_out: 7, ..targets });
    assert_eq!(told_none.comparisons.len(), 0);
    assert!(told_none.warnings[0].starts_with("The plan has no split"));
    assert!(told_none.warnings[1].starts_with("7 requests are left out"));

    let header = split([50, 50], StickyTo::Header);
    let both = of(vec![counted("up/a", 500, 40, 1000.0), counted("up/b", 500, 40, 1000.0)]);
    assert!(told(asked(), &header, both).warnings[0].contains("header"));
}

#[test]
fn a_measure_that_one_side_lacks_is_told_as_far_as_it_is_known() {
    let setup = split([50, 50], StickyTo::Key);
    let mut rated = counted("up/a", 500, 40, 1000.0);
    rated.measures.push(measured(Measure::Feedback, 300, 30, 0.5));
    let told = told(asked(), &setup, of(vec![rated, counted("up/b", 500, 40, 1000.0)]));
    let found = &told.comparisons[1];
    assert_eq!((found.measure, found.baseline, found.mean), (Measure::Feedback, Some(0.5), None));
    assert_eq!(found.words, "too few yet: 0 of 100 on one side");
}
