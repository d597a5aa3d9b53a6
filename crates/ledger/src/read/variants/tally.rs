//! What is counted on the way through the attempts, and added up at the end.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::super::Reader;
use super::{Measure, Measured, Moments, Target, Trial, Unit, VariantSums, Variants, float};
use crate::error::Result;
use crate::pair::LOST;
use crate::record::{Bill, MIRROR};
use crate::segment::Ending;

/// Callers that are told apart, on all variants together; some 400 bytes each. Later ones are left
/// out, on every variant alike.
const MAX_CALLERS: usize = 100_000;
/// What is told apart of an attempt, labels and currencies among it; what comes with others is not
/// looked at.
const MAX_MEASURES: usize = 64;
/// Units that requests without a caller are dealt to: so many that each is a draw of its own, or
/// the mean of a few that are.
const NAMELESS: u32 = 16_384;

/// The first measures, by their numbers.
const FIXED: [Measure; 6] = [
    Measure::Error,
    Measure::Overtaken,
    Measure::Left,
    Measure::FirstEvent,
    Measure::Total,
    Measure::Output,
];
const ERROR: usize = 0;
const OVERTAKEN: usize = 1;
const LEFT: usize = 2;
const FIRST_EVENT: usize = 3;
const TOTAL: usize = 4;
const OUTPUT: usize = 5;

/// A caller, by the number of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    Named(u32),
    /// Requests that no caller is known of: each was drawn by itself.
    Nameless(u32),
}

impl Caller {
    /// By the random part of a request's id.
    fn nameless(low: i64) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "a part of it will do")]
        let bits = low.cast_unsigned() as u32;
        Self::Nameless(bits % NAMELESS)
    }
}

/// A caller's requests on a variant.
struct Cell {
    caller: Caller,
    variant: usize,
    requests: u64,
    /// By the number of the measure.
    moments: Vec<Moments>,
}

/// What is counted on the way.
pub(super) struct Tally {
    /// The variant and the caller of each combination of names that is asked for.
    series: HashMap<u32, (Option<usize>, Option<Caller>)>,
    targets: Vec<Vec<Target>>,
    /// The cell of each caller on each variant.
    places: HashMap<(Caller, usize), usize>,
    cells: Vec<Cell>,
    measures: Vec<Measure>,
    elsewhere: u64,
    left_out: u64,
}

impl Tally {
    /// With the combinations of names that a filter lets through, in one question: there may be many.
    pub(super) fn new(reader: &Reader, trial: &Trial) -> Result<Self> {
        let mut targets = trial.variants.clone();
        let mut series = HashMap::new();
        let wanted = reader.series_of(&trial.filter)?.unwrap_or_default();
        let mut statement = reader.connection.prepare_cached(
            "SELECT s.id, s.key, s.user, p.text, u.text FROM json_each(?1) AS wanted
             CROSS JOIN series AS s ON s.id = wanted.value
             JOIN name AS p ON p.id = s.provider JOIN name AS u ON u.id = s.upstream_model
             JOIN name AS o ON o.id = s.operation WHERE o.text <> ?2",
        )?;
        // Copies were not divided between the variants.
        let mut rows = statement.query([serde_json::json!(wanted).to_string().as_str(), MIRROR])?;
        while let Some(row) = rows.next()? {
            let target: Target = (row.get(3)?, row.get(4)?);
            let mut variant = targets.iter().position(|variant| variant.contains(&target));
            if variant.is_none() && trial.variants.is_empty() {
                variant = Some(targets.len());
                targets.push(vec![target]);
            }
            let (key, user): (u32, u32) = (row.get(1)?, row.get(2)?);
            let (first, second) = match trial.unit {
                Unit::Key => (key, user),
                Unit::User => (user, key),
            };
            // 0 is no name.
            let name = Some(if first == 0 { second } else { first }).filter(|name| *name > 0);
            series.insert(row.get(0)?, (variant, name.map(Caller::Named)));
        }
        drop(rows);
        Ok(Self {
            series,
            targets,
            places: HashMap::new(),
            cells: Vec::new(),
            measures: FIXED.to_vec(),
            elsewhere: 0,
            left_out: 0,
        })
    }

    /// The variant and the caller of a row with these names and this second half of an id, if it is
    /// one of a variant.
    pub(super) fn of(&mut self, series: u32, low: i64) -> Option<(usize, Caller)> {
        let &(variant, caller) = self.series.get(&series)?;
        if variant.is_none() {
            self.elsewhere += 1;
        }
        Some((variant?, caller.unwrap_or_else(|| Caller::nameless(low))))
    }

    /// Counts a first attempt. Says in which cell, if it counts at all.
    pub(super) fn count(
        &mut self,
        variant: usize,
        caller: Caller,
        ending: &Ending<'_>,
    ) -> Option<usize> {
        // What ended because Magpie did says nothing of the target.
        if matches!(ending.outcome, LOST | "shed" | "failed" | "refused") {
            return None;
        }
        let cell = match self.places.get(&(caller, variant)) {
            Some(&cell) => cell,
            None if self.cells.len() >= MAX_CALLERS => {
                self.left_out += 1;
                return None;
            }
            None => {
                self.cells.push(Cell { caller, variant, requests: 0, moments: Vec::new() });
                self.places.insert((caller, variant), self.cells.len() - 1);
                self.cells.len() - 1
            }
        };
        self.cells[cell].requests += 1;
        self.measure(cell, ending);
        Some(cell)
    }

    fn measure(&mut self, cell: usize, ending: &Ending<'_>) {
        let overtaken = ending.outcome == "cancelled";
        // Whoever was followed by another one without an answer of its own has failed; a step of a
        // model that is made of others is followed though it is whole.
        let gave_way = ending.last_of.is_none() && ending.outcome != "complete";
        let failed = !overtaken && (gave_way || ending.is_error());
        self.add(cell, ERROR, f64::from(u8::from(failed)));
        if failed {
            return;
        }
        self.add(cell, OVERTAKEN, f64::from(u8::from(overtaken)));
        if overtaken {
            return;
        }
        let left = ending.outcome == "client_gone";
        self.add(cell, LEFT, f64::from(u8::from(left)));
        if let Some(first) = ending.first_event_us {
            self.add(cell, FIRST_EVENT, float(first));
        }
        // Of an answer that nobody waited for, it is not known how long it would have been.
        if left {
            return;
        }
        self.add(cell, TOTAL, float(ending.total_us));
        let output = ending.tokens.output.saturating_add(ending.tokens.reasoning);
        self.add(cell, OUTPUT, float(output));
        if let Bill::Charge(amount) = ending.bill {
            let is_it =
                |known: &Measure| matches!(known, Measure::Cost(it) if it == amount.currency);
            let index = self.number(is_it, || Measure::Cost(amount.currency.to_owned()));
            self.add(cell, index, float(amount.nanos));
        }
    }

    /// Counts feedback on what was counted in a cell.
    pub(super) fn rate(&mut self, cell: usize, label: &str, score: f64) {
        let is_it = |known: &Measure| matches!(known, Measure::Feedback(it) if it == label);
        let index = self.number(is_it, || Measure::Feedback(label.to_owned()));
        self.add(cell, index, score);
    }

    /// The number of a measure; behind all of them if it cannot be told apart any more.
    fn number(
        &mut self,
        is_it: impl Fn(&Measure) -> bool,
        make: impl FnOnce() -> Measure,
    ) -> usize {
        let known = self.measures.iter().position(is_it);
        known.unwrap_or_else(|| {
            if self.measures.len() < MAX_MEASURES {
                self.measures.push(make());
                return self.measures.len() - 1;
            }
            MAX_MEASURES
        })
    }

    fn add(&mut self, cell: usize, index: usize, value: f64) {
        if index >= MAX_MEASURES {
            return;
        }
        let moments = &mut self.cells[cell].moments;
        if moments.len() <= index {
            moments.resize(index + 1, Moments::default());
        }
        moments[index].add(value);
    }

    /// The variant that each caller belongs to. One with as many requests on two belongs to the one
    /// that was named first.
    fn homes(&self) -> HashMap<Caller, usize> {
        let mut most: HashMap<Caller, (u64, Reverse<usize>)> = HashMap::new();
        for cell in &self.cells {
            let here = (cell.requests, Reverse(cell.variant));
            let home = most.entry(cell.caller).or_insert(here);
            *home = here.max(*home);
        }
        most.into_iter().map(|(caller, (_, Reverse(variant)))| (caller, variant)).collect()
    }

    /// Adds up the callers of each variant.
    pub(super) fn sum_up(self) -> Variants {
        let homes = self.homes();
        let mut variants: Vec<VariantSums> = self
            .targets
            .into_iter()
            .map(|targets| VariantSums { targets, ..VariantSums::default() })
            .collect();
        let width = self.measures.len();
        let mut sums = vec![vec![(Moments::default(), Moments::default()); width]; variants.len()];
        for cell in &self.cells {
            let sum = &mut variants[cell.variant];
            // Requests without a caller were drawn one by one: each is where it belongs.
            let is_named = matches!(cell.caller, Caller::Named(_));
            if is_named && homes.get(&cell.caller) != Some(&cell.variant) {
                sum.strayed += cell.requests;
                continue;
            }
            sum.requests += cell.requests;
            sum.callers += 1;
            let filled = cell.moments.iter().zip(&mut sums[cell.variant]);
            for (moments, (requests, callers)) in filled.filter(|(moments, _)| moments.count > 0) {
                requests.join(moments);
                callers.add(moments.sum / float(moments.count));
            }
        }
        for (variant, sums) in variants.iter_mut().zip(sums) {
            let measured = self.measures.iter().cloned().zip(sums);
            variant.measures = measured
                .filter(|(_, (requests, _))| requests.count > 0)
                .map(|(measure, (requests, callers))| Measured { measure, requests, callers })
                .collect();
            variant.measures.sort_by(|one, other| one.measure.cmp(&other.measure));
        }
        Variants { variants, elsewhere: self.elsewhere, left_out: self.left_out }
    }
}
