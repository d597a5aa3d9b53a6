//! The built-in prices, and those of the configuration.
//!
//! The table is text that is searched where it lies: starting costs nothing, and a look-up takes
//! some comparisons and reads the one row that it finds.

use std::sync::{Arc, LazyLock};

use super::{Price, PriceConfig};
use crate::scope::Glob;

/// The table, as `cargo xtask prices` writes it. First the sources, one to a line: a number, a
/// date, who passed the figures on (or `-`), the page. Then an empty line, and the rows
/// in the order of their bytes: `profile/model`, the number of the source, a [`PriceConfig`].
static TABLE: &str = include_str!("../../data/prices.tsv");

/// How much a model can take and give. Unknown is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// The most input tokens.
    pub max_input: Option<u64>,
    /// The most output tokens.
    pub max_output: Option<u64>,
}

/// The prices that come with the program.
#[derive(Debug)]
pub struct PriceBook {
    sources: Vec<&'static str>,
    rows: &'static str,
}

impl PriceBook {
    /// The built-in table.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BOOK: LazyLock<PriceBook> = LazyLock::new(|| {
            let (sources, rows) = TABLE.split_once("\n\n").unwrap_or_default();
            PriceBook { sources: sources.lines().collect(), rows }
        });
        &BOOK
    }

    /// What an upstream model costs at a provider of this profile. `None`: nobody told, or what
    /// was told is not a price.
    #[must_use]
    pub fn find(&self, profile: &str, model: &str) -> Option<Arc<Price>> {
        let (source, row) = self.row(profile, model)?;
        self.read(source, &row)
    }

    /// The longest input and output of an upstream model at a provider of this profile.
    #[must_use]
    pub fn limits(&self, profile: &str, model: &str) -> Option<ModelLimits> {
        let (_, row) = self.row(profile, model)?;
        let limits = ModelLimits { max_input: row.max_input, max_output: row.max_output };
        (limits != ModelLimits::default()).then_some(limits)
    }

    /// Every row of the table as `(profile/model, price)`, in order; without a price, it tells
    /// limits alone.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, Option<Arc<Price>>)> {
        self.rows.lines().filter_map(|line| {
            let (key, rest) = line.split_once('\t')?;
            let (source, row) = parse(rest)?;
            Some((key, self.read(source, &row)))
        })
    }

    fn read(&self, source: usize, row: &PriceConfig) -> Option<Arc<Price>> {
        let mut told = self.sources.get(source)?.split('\t').skip(1);
        let (as_of, table, page) = (told.next()?, told.next()?, told.next()?);
        let source = if table == "-" { page.to_owned() } else { format!("{page} ({table})") };
        row.is_priced().then(|| row.price(&source, as_of).ok().map(Arc::new)).flatten()
    }

    /// The row of a model, or else the one for every model of the profile.
    fn row(&self, profile: &str, model: &str) -> Option<(usize, PriceConfig)> {
        let found = self.line(&format!("{profile}/{model}"));
        parse(found.or_else(|| self.line(&format!("{profile}/*")))?)
    }

    /// What stands behind a key: a binary search over the lines.
    fn line(&self, key: &str) -> Option<&'static str> {
        let mut rows = self.rows;
        while !rows.is_empty() {
            let middle = rows.as_bytes()[..rows.len() / 2].iter().rposition(|byte| *byte == b'\n');
            let (before, rest) = rows.split_at(middle.map_or(0, |newline| newline + 1));
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            let (found, row) = line.split_once('\t')?;
            match key.cmp(found) {
                std::cmp::Ordering::Equal => return Some(row),
                std::cmp::Ordering::Less => rows = before,
                std::cmp::Ordering::Greater => rows = after,
            }
        }
        None
    }
}

fn parse(row: &str) -> Option<(usize, PriceConfig)> {
    let (source, price) = row.split_once('\t')?;
    Some((source.parse().ok()?, serde_json::from_str(price).ok()?))
}

/// The prices of the configuration, which come before the built-in ones.
#[derive(Debug, Default)]
pub struct Overrides(Vec<(Glob, Option<Arc<Price>>, ModelLimits)>);

impl Overrides {
    /// Reads prices by `provider/model`, where `*` stands for any text: the provider's name in the
    /// configuration, and the upstream model.
    ///
    /// # Errors
    /// Each name whose price does not read, and a sentence that says why.
    pub fn read<'p>(
        prices: impl IntoIterator<Item = (&'p str, &'p PriceConfig)>,
    ) -> Result<Self, Vec<(String, String)>> {
        let (mut read, mut faults) = (Vec::new(), Vec::new());
        for (name, config) in prices {
            let limits = ModelLimits { max_input: config.max_input, max_output: config.max_output };
            let glob = match name.contains('/') {
                true => name.parse::<Glob>(),
                false => Err(String::from("write provider/model, with `*` for any text")),
            };
            let only_limits = !config.is_priced() && limits != ModelLimits::default();
            let price = match only_limits {
                true => Ok(None),
                false => config.price("the configuration", "").map(|price| Some(Arc::new(price))),
            };
            match glob.and_then(|glob| Ok((glob, price?, limits))) {
                Ok(row) => read.push(row),
                Err(fault) => faults.push((name.to_owned(), fault)),
            }
        }
        // The more a pattern spells out, the closer it is; the first of equals wins.
        let spelt = |glob: &Glob| glob.as_str().bytes().filter(|byte| *byte != b'*').count();
        read.sort_by_key(|(glob, ..)| (glob.as_str().contains('*'), usize::MAX - spelt(glob)));
        if faults.is_empty() { Ok(Self(read)) } else { Err(faults) }
    }

    /// The price that the configuration gives an upstream model of a provider.
    #[must_use]
    pub fn find(&self, provider: &str, model: &str) -> Option<Arc<Price>> {
        self.matching(provider, model).find_map(|(_, price, _)| price.clone())
    }

    /// The limits that the configuration gives it; `None` where it says nothing.
    #[must_use]
    pub fn limits(&self, provider: &str, model: &str) -> ModelLimits {
        let told = self.matching(provider, model).map(|(_, _, limits)| *limits);
        told.fold(ModelLimits::default(), |closer, limits| ModelLimits {
            max_input: closer.max_input.or(limits.max_input),
            max_output: closer.max_output.or(limits.max_output),
        })
    }

    fn matching(
        &self,
        provider: &str,
        model: &str,
    ) -> impl Iterator<Item = &(Glob, Option<Arc<Price>>, ModelLimits)> {
        let name = format!("{provider}/{model}");
        self.0.iter().filter(move |(glob, ..)| glob.matches(&name))
    }
}
