//! How the variants of a model compare: from what the ledger counted to what can be said.
//!
//! Every other variant is compared with the baseline, measure by measure. Each interval is a
//! [confidence sequence](interval): it holds however often one looks. It holds by itself: whoever
//! looks at twenty measures sees one of them differ by chance more easily than `alpha` says.
//!
//! A split keeps each caller on a side, so that the requests of one caller are no independent
//! samples. The units are callers, each with the mean over its requests, as long as there are enough
//! of them; else they are requests, and that is told, for then the intervals are too narrow.

mod interval;
mod words;

use std::cmp::Reverse;

use policy::Snapshot;
use policy::plan::{Sides, StickyTo};
use schemars::JsonSchema;
use serde::Serialize;

pub use interval::{Interval, Moments, Side, difference};
pub use words::number;

/// Callers on each side from which on they are the units.
pub const MIN_CALLERS: u64 = 20;
/// Requests on each side from which on anything is told.
pub const MIN_REQUESTS: u64 = 100;
/// The chance of error unless said otherwise.
pub const ALPHA: f64 = 0.05;

/// What is measured of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The share of requests whose first attempt failed.
    Errors,
    /// The share of requests that another target answered first, which was asked beside it. How
    /// long the answers would have taken is not known: with many of them, times tell too little.
    Overtaken,
    /// The share of answers that the client did not wait for.
    Left,
    /// Milliseconds to the first token, of streams.
    FirstToken,
    /// Milliseconds to the end, of whole answers.
    Total,
    /// Output tokens of whole answers.
    OutputTokens,
    /// What a whole answer cost, in units of the currency.
    Cost,
    /// The score that callers gave, from 0 to 1.
    Feedback,
}

impl Measure {
    /// Whether its values lie between 0 and 1.
    fn is_share(self) -> bool {
        matches!(self, Self::Errors | Self::Overtaken | Self::Left | Self::Feedback)
    }
}

/// A measure of a variant, as it was counted.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Measured {
    /// What.
    pub measure: Measure,
    /// Of a cost the currency, of feedback the label; empty otherwise.
    pub of: String,
    /// Over requests.
    pub requests: Moments,
    /// Over callers: of each the mean over its requests.
    pub callers: Moments,
}

/// What a variant did, as it was counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counted {
    /// Its targets, as `provider/upstream-model`.
    pub targets: Vec<String>,
    /// Requests that count for it.
    pub requests: u64,
    /// Callers that belong to it.
    pub callers: u64,
    /// Requests that asked it first, of callers that belong to another variant.
    pub strayed: u64,
    /// What was measured.
    pub measures: Vec<Measured>,
}

/// What the ledger counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// In the order of the [`Setup`], or in none if that names no variant.
    pub variants: Vec<Counted>,
    /// Requests that asked a target first which belongs to no variant.
    pub elsewhere: u64,
    /// Requests left out because there were too many callers.
    pub left_out: u64,
}

/// What is known of an experiment from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// What callers are divided by; `None` if nothing is known of it.
    pub sticky: Option<StickyTo>,
    /// The variants: weight, and targets as provider and upstream model. None if nothing is known.
    pub variants: Vec<(u32, Vec<(String, String)>)>,
}

impl Setup {
    /// The variants of a model: the sides of the one split in its plan.
    #[must_use]
    pub fn of(snapshot: &Snapshot, model: &str) -> Self {
        let Ok(plan) = snapshot.plan(model) else { return Self::default() };
        let Some(Sides { sticky, sides }) = plan.sides() else { return Self::default() };
        let target = |number: usize| {
            let route = &plan.targets()[number].route;
            (route.provider.id.to_string(), route.upstream_model.to_string())
        };
        let targets = |numbers: Vec<usize>| numbers.into_iter().map(target).collect();
        let variants = sides.into_iter().map(|side| (side.weight, targets(side.targets)));
        Self { sticky: Some(sticky), variants: variants.collect() }
    }
}

/// An experiment, as far as it can be told.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Experiment {
    /// Always `experiment`.
    pub object: &'static str,
    /// The model.
    pub model: String,
    /// From this time on, in Unix milliseconds.
    pub from: u64,
    /// Up to but without this time, in Unix milliseconds.
    pub to: u64,
    /// The chance that an interval ever misses the truth.
    pub alpha: f64,
    /// Why the figures say less than they seem to.
    pub warnings: Vec<String>,
    /// Requests that asked a target first which belongs to no variant. They count nowhere.
    pub elsewhere: u64,
    /// The variants; the first is the baseline: the one of the largest weight, or else with the most
    /// requests.
    pub variants: Vec<Variant>,
    /// Every other variant against the baseline, measure by measure.
    pub comparisons: Vec<Comparison>,
}

/// What a variant did.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Variant {
    /// What it is called: its first target.
    pub name: String,
    /// Its targets, as `provider/upstream-model`.
    pub targets: Vec<String>,
    /// Its weight in the split; null if its model is not split.
    pub weight: Option<u32>,
    /// Requests that count for it.
    pub requests: u64,
    /// Callers that belong to it.
    pub callers: u64,
    /// Requests that asked it first, of callers that belong to another variant: they were on
    /// another side than usual, and count nowhere.
    pub strayed: u64,
    /// What was measured.
    pub measures: Vec<Measured>,
}

/// What a comparison is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Callers, each with the mean over its requests.
    Callers,
    /// Requests, as if they were independent.
    Requests,
}

/// A measure of a variant against the baseline's.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Comparison {
    /// The variant.
    pub variant: String,
    /// What is compared.
    pub measure: Measure,
    /// Of a cost the currency, of feedback the label; empty otherwise.
    pub of: String,
    /// What the means are over.
    pub over: Over,
    /// The mean of the baseline; null if there is nothing to take it of.
    pub baseline: Option<f64>,
    /// The mean of the variant; null if there is nothing to take it of.
    pub mean: Option<f64>,
    /// The variant's mean less the baseline's; null as long as there are too few requests.
    pub difference: Option<f64>,
    /// Not less than that.
    pub low: Option<f64>,
    /// Not more than that.
    pub high: Option<f64>,
    /// Whether a difference is shown: the interval excludes that there is none.
    pub shown: bool,
    /// In words.
    pub words: String,
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The model.
    pub model: String,
    /// From then on, in Unix milliseconds.
    pub from_ms: u64,
    /// Until then.
    pub to_ms: u64,
    /// The chance of error.
    pub alpha: f64,
}

/// Says what can be said of what was counted.
#[must_use]
pub fn told(asked: Asked, setup: &Setup, counts: Counts) -> Experiment {
    let weights = setup.variants.iter().map(|(weight, _)| Some(*weight));
    let weights = weights.chain(std::iter::repeat(None));
    let mut variants: Vec<Variant> = counts
        .variants
        .into_iter()
        .zip(weights)
        .map(|(counted, weight)| variant(counted, weight))
        .collect();
    // The sort is stable: of equals, the one that is written first is the baseline.
    variants.sort_by_key(|variant| match variant.weight {
        Some(weight) => Reverse(u64::from(weight)),
        None => Reverse(variant.requests),
    });
    let mut comparisons = Vec::new();
    if let Some((baseline, others)) = variants.split_first() {
        for other in others {
            compare(baseline, other, asked.alpha, &mut comparisons);
        }
    }
    let warnings = warnings(setup, counts.left_out, &comparisons);
    Experiment {
        object: "experiment",
        model: asked.model,
        from: asked.from_ms,
        to: asked.to_ms,
        alpha: asked.alpha,
        warnings,
        elsewhere: counts.elsewhere,
        variants,
        comparisons,
    }
}

fn variant(counted: Counted, weight: Option<u32>) -> Variant {
    let Counted { targets, requests, callers, strayed, mut measures } = counted;
    measures.sort_by(|one, other| (one.measure, &one.of).cmp(&(other.measure, &other.of)));
    let name = targets.first().cloned().unwrap_or_default();
    Variant { name, targets, weight, requests, callers, strayed, measures }
}

/// Compares every measure that either side has.
fn compare(baseline: &Variant, other: &Variant, alpha: f64, all: &mut Vec<Comparison>) {
    let mut measures: Vec<(Measure, &str)> = [baseline, other]
        .iter()
        .flat_map(|variant| &variant.measures)
        .map(|measured| (measured.measure, &*measured.of))
        .collect();
    measures.sort_unstable();
    measures.dedup();
    for (measure, of) in measures {
        let side = |variant: &Variant| {
            let mut all = variant.measures.iter();
            let found = all.find(|measured| measured.measure == measure && measured.of == of);
            found.map(|it| (it.requests, it.callers)).unwrap_or_default()
        };
        let sides = [side(baseline), side(other)];
        // Without hedges there is nothing to tell of.
        if measure == Measure::Overtaken && sides.iter().all(|(requests, _)| requests.sum == 0.0) {
            continue;
        }
        all.push(comparison(&other.name, (measure, of), sides, alpha));
    }
}

/// One measure: of each side the moments over requests and over callers.
fn comparison(
    variant: &str,
    (measure, of): (Measure, &str),
    sides: [(Moments, Moments); 2],
    alpha: f64,
) -> Comparison {
    let has_callers = sides.iter().all(|(_, callers)| callers.count >= MIN_CALLERS);
    let over = if has_callers { Over::Callers } else { Over::Requests };
    let units = sides.map(|(requests, callers)| match over {
        Over::Callers => callers,
        Over::Requests => requests,
    });
    let mean = |units: &Moments| (units.count > 0).then(|| units.mean());
    let fewest = sides.iter().map(|(requests, _)| requests.count).min().unwrap_or_default();
    let interval = (fewest >= MIN_REQUESTS).then(|| {
        let side = |at: usize| Side::new(&units[at], &sides[at].0, measure.is_share());
        difference(&side(0), &side(1), alpha)
    });
    Comparison {
        variant: variant.to_owned(),
        measure,
        of: of.to_owned(),
        over,
        baseline: mean(&units[0]),
        mean: mean(&units[1]),
        difference: interval.map(|it| it.difference),
        low: interval.map(|it| it.low),
        high: interval.map(|it| it.high),
        shown: interval.is_some_and(|it| it.excludes_nothing()),
        words: match interval {
            Some(interval) => words::difference(measure, of, &interval),
            None => format!("too few yet: {fewest} of {MIN_REQUESTS} on one side"),
        },
    }
}

fn warnings(setup: &Setup, left_out: u64, comparisons: &[Comparison]) -> Vec<String> {
    let mut warnings = Vec::new();
    if setup.variants.is_empty() {
        warnings.push(String::from(
            "The plan has no split whose sides can be told apart: these are the targets that were \
             asked first, and nobody was divided between them by lot.",
        ));
    }
    if setup.sticky == Some(StickyTo::Header) {
        warnings.push(String::from(
            "Callers are divided by a header, which is not recorded: keys are taken for callers.",
        ));
    }
    let is_over_requests = |it: &Comparison| it.over == Over::Requests && it.difference.is_some();
    if comparisons.iter().any(is_over_requests) {
        warnings.push(format!(
            "Fewer than {MIN_CALLERS} callers on a side: some intervals are over requests, as if \
             those of one caller were independent, and are too narrow if callers differ."
        ));
    }
    if left_out > 0 {
        warnings.push(format!("{left_out} requests are left out: there are too many callers."));
    }
    warnings
}

#[cfg(test)]
mod tests;
