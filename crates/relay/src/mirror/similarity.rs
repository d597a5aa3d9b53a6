//! How alike two texts are.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bytes of each text that are compared.
pub(crate) const COMPARED: usize = 64 << 10;

/// From here on (CJK radicals) each letter is a word of its own: these scripts put no spaces.
const SINGLE: char = '\u{2e80}';

/// The similarity of two texts, from 0 (no two neighbours in common) to 1 (the same words in the
/// same order): the Sørensen–Dice coefficient over pairs of neighbouring words,
/// `2 * |A ∩ B| / (|A| + |B|)`, in which each pair counts as often as it stands there. A word is a
/// run of letters and digits, or any other sign but white space; the beginning and the end of a text
/// count as words, so that a text of one word, or of none, has pairs too. Of each text the first
/// 64 KiB are looked at, once.
pub(crate) fn similarity(a: &str, b: &str) -> f64 {
    let mut counts: HashMap<u64, u64> = HashMap::new();
    let mut all = 0_u64;
    for pair in pairs(a) {
        *counts.entry(pair).or_default() += 1;
        all += 1;
    }
    let mut common = 0_u64;
    for pair in pairs(b) {
        all += 1;
        if let Some(left) = counts.get_mut(&pair)
            && *left > 0
        {
            *left -= 1;
            common += 1;
        }
    }
    2.0 * common as f64 / all as f64
}

/// Each pair of neighbouring words, hashed.
fn pairs(text: &str) -> impl Iterator<Item = u64> {
    let text = &text[..text.floor_char_boundary(COMPARED)];
    let all = words(text).map(Some).chain([None]);
    all.scan(None, |before, word| {
        let mut hasher = DefaultHasher::new();
        (*before, word).hash(&mut hasher);
        *before = word;
        Some(hasher.finish())
    })
}

/// The words of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let is_run = |letter: char| letter.is_alphanumeric() && letter < SINGLE;
        let length = match is_run(first) {
            true => rest.find(|letter| !is_run(letter)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, behind) = rest.split_at(length);
        rest = behind;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn near(a: &str, b: &str, expected: f64) {
        let found = similarity(a, b);
        assert!((found - expected).abs() < 1e-9, "{a:?} and {b:?}: {found}");
    }

    #[test]
    fn it_is_the_share_of_neighbours_in_common() {
        near("", "", 1.0);
        near("", "a", 0.0);
        near("yes", "yes", 1.0);
        near("yes", "no", 0.0);
        near("yes", "Yes", 0.0);
        // ^yes yes$, and ^yes yes. .$
        near("yes", "yes.", 0.4);
        near("a b c", "a\n b \t c", 1.0);
        // ^a ab bc c$, and ^a ab bd d$
        near("a b c", "a b d", 0.5);
        near("a b c", "c b a", 0.0);
        // ^a aa a$, and ^a aa aa aa a$
        near("a a", "a a a a", 0.75);
        near("你好世界", "你好朋友", 0.4);
        near("f(x)", "f ( x )", 1.0);
    }

    #[test]
    fn only_the_beginning_is_looked_at_and_at_any_size_in_time() {
        let long = |word: &str| word.repeat(4_000_000 / word.len());
        near(&long("a "), &long("a "), 1.0);
        near(&long("好"), &long("坏"), 0.0);
        let (a, b) = ("x".repeat(COMPARED), "x".repeat(COMPARED + 1));
        near(&a, &b, 1.0);
        assert!(similarity(&long(". "), &long(".")) > 0.6);
    }

    /// The same, slowly.
    fn plainly(a: &str, b: &str) -> f64 {
        let pairs = |text: &'static str| {
            let words: Vec<&str> = words(text).collect();
            let ends = [Some("")].into_iter().chain(words.into_iter().map(Some)).chain([None]);
            let all: Vec<_> = ends.collect();
            all.windows(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>()
        };
        let (a, mut b) = (pairs(a.to_owned().leak()), pairs(b.to_owned().leak()));
        let all = a.len() + b.len();
        let mut common = 0;
        for pair in a {
            if let Some(at) = b.iter().position(|other| *other == pair) {
                b.swap_remove(at);
                common += 2;
            }
        }
        common as f64 / all as f64
    }

    proptest! {
        #[test]
        fn it_is_a_likeness(a in "[ab .好]{0,12}", b in "[ab .好]{0,12}") {
            let likeness = similarity(&a, &b);
            prop_assert!((0.0..=1.0).contains(&likeness));
            prop_assert_eq!(likeness.to_bits(), similarity(&b, &a).to_bits());
            prop_assert_eq!(likeness.to_bits(), similarity(&a, &b).to_bits());
            prop_assert_eq!(similarity(&a, &a).to_bits(), 1_f64.to_bits());
            prop_assert!((likeness - plainly(&a, &b)).abs() < 1e-12);
        }

        #[test]
        fn any_text_will_do(a in ".{0,100}", b in ".{0,100}") {
            prop_assert!((0.0..=1.0).contains(&similarity(&a, &b)));
        }
    }
}
