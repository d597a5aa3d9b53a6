//! Names: what was meant by a misspelt one, and patterns with a star.

/// Nobody serves this model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownModel {
    /// The names nearest to it, best first.
    pub nearest: Vec<String>,
}

impl UnknownModel {
    /// In words, with the name that was asked for, as far as it is worth showing.
    #[must_use]
    pub fn told(&self, asked: &str) -> String {
        let shown: String = asked.chars().take(SHOWN_NAME).collect();
        match &*self.nearest {
            [] => format!("There is no model `{shown}`."),
            names => {
                let names = names.join("` or `");
                format!("There is no model `{shown}`. Did you mean `{names}`?")
            }
        }
    }
}

/// Characters of an unknown name that are shown.
const SHOWN_NAME: usize = 100;

/// The names nearest to a misspelt one, best first, at most `count` of them and none that is
/// farther than a third of its length. At most the first 10,000 names are looked at.
pub fn nearest<'n>(
    wanted: &str,
    names: impl Iterator<Item = &'n str>,
    count: usize,
) -> Vec<&'n str> {
    let wanted = wanted.to_lowercase();
    let mut near: Vec<(usize, &str)> = names
        .take(10_000)
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let bare = lower.rsplit('/').next().unwrap_or(&lower);
            let distance = distance(&wanted, &lower).min(distance(&wanted, bare));
            let contained = wanted.len() >= 4 && lower.contains(&wanted);
            let close = distance <= wanted.chars().count().div_ceil(3);
            (close || contained).then_some((distance, name))
        })
        .collect();
    near.sort_by(|a, b| (a.0, a.1.len(), a.1).cmp(&(b.0, b.1.len(), b.1)));
    near.into_iter().take(count).map(|(_, name)| name).collect()
}

/// Letters to insert, delete or change to get from one text to the other. Texts are cut at 64
/// characters, which bounds the work.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(LONGEST).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A pattern with one star, such as `gpt-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    before: Box<str>,
    after: Box<str>,
}

impl Pattern {
    /// Reads a pattern; `None` if there is not exactly one star in it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.split_once('*')?;
        (!after.contains('*')).then(|| Self { before: before.into(), after: after.into() })
    }

    /// What the star stands for in `name`, if the pattern fits.
    pub(crate) fn matched<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(&*self.before)?.strip_suffix(&*self.after)
    }

    /// The pattern with the star filled in.
    pub(crate) fn filled(&self, star: &str) -> String {
        format!("{}{star}{}", self.before, self.after)
    }

    /// How much of the pattern is literal: the more, the sooner it is tried.
    pub(crate) fn weight(&self) -> usize {
        self.before.len() + self.after.len()
    }
}
