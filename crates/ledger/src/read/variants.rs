//! How the variants of a model compare: what each of them did, in one pass over the attempts.
//!
//! Only first attempts are looked at. A request counts for the target that was asked first: if that
//! failed, it is an error of that target, whoever answered in the end; only what a target answered
//! itself says how fast, long and dear its answers are. A caller belongs to the variant that most of
//! its first attempts went to, and what it sent elsewhere is left out: a side that cannot serve
//! gives its callers to another one, and they must not count there.

mod tally;

use super::feedback::Beside;
use super::{Filter, Reader};
use crate::error::Result;
use crate::store::{number, unpack};
use tally::Tally;

/// A target: its provider and the provider's name for the model.
pub type Target = (String, String);

/// What makes up a caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// The key; without one, the user.
    #[default]
    Key,
    /// The user; without one, the key.
    User,
}

/// Which requests are compared, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trial {
    /// Which requests: their model, their time. `provider`, `upstream_model`, `outcome` and
    /// `failed` are not for this.
    pub filter: Filter,
    /// The targets of each variant; none if nothing is known of them, and then each target that was
    /// asked first is one.
    pub variants: Vec<Vec<Target>>,
    /// What makes up a caller.
    pub unit: Unit,
}

/// Count, sum and sum of squares: mean and variance follow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }
}

/// What is measured of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// 1 if the first attempt failed, else 0.
    Error,
    /// 1 if another target, asked beside it, was first to answer, else 0; of those without an error.
    Overtaken,
    /// 1 if the client left before the answer was whole, else 0; of those that answered.
    Left,
    /// Microseconds to the first event, of streams.
    FirstEvent,
    /// Microseconds to the end, of whole answers.
    Total,
    /// Output tokens, reasoning among them, of whole answers.
    Output,
    /// What a whole answer cost in this currency, in 1e-9 of its unit.
    Cost(String),
    /// Scores of this label, from 0 to 1; of answers that the first attempt gave.
    Feedback(String),
}

/// A measure of a variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What.
    pub measure: Measure,
    /// Over requests.
    pub requests: Moments,
    /// Over callers: of each caller, the mean over its requests.
    pub callers: Moments,
}

/// What a variant did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VariantSums {
    /// Its targets.
    pub targets: Vec<Target>,
    /// Requests that count for it.
    pub requests: u64,
    /// Callers that belong to it.
    pub callers: u64,
    /// Requests that asked it first, of callers that belong to another variant. They count nowhere.
    pub strayed: u64,
    /// What there is a value of.
    pub measures: Vec<Measured>,
}

/// The variants of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variants {
    /// In the order in which they were named, or in none.
    pub variants: Vec<VariantSums>,
    /// Requests that asked a target first which belongs to no variant. They count nowhere.
    pub elsewhere: u64,
    /// Requests that count nowhere because there were too many callers.
    pub left_out: u64,
}

impl Reader {
    /// Compares the variants of a model, in one pass over the attempts of that time.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn variants(&self, trial: &Trial) -> Result<Variants> {
        let _one_state = self.connection.unchecked_transaction()?;
        let mut tally = Tally::new(self, trial)?;
        let bounds = [
            number(trial.filter.from_ms.unwrap_or_default()),
            number(trial.filter.to_ms.unwrap_or(u64::MAX)),
        ];
        let feedback = match self.has_feedback()? {
            true => {
                "SELECT ended, high, low, label, score FROM feedback
                     WHERE ended >= ?1 AND ended < ?2 ORDER BY ended, high, low"
            }
            // Nothing, with the same columns.
            false => "SELECT 0, 0, 0, '', 0.0 WHERE ?1 > ?2",
        };
        let mut feedback = self.connection.prepare_cached(feedback)?;
        let mut beside = Beside::new(feedback.query(bounds)?)?;
        let mut statement = self.connection.prepare_cached(
            "SELECT ended, high, low, series, facts FROM attempt
             WHERE ended >= ?1 AND ended < ?2 AND attempt = 1 ORDER BY ended, high, low",
        )?;
        let mut rows = statement.query(bounds)?;
        while let Some(row) = rows.next()? {
            let place = (row.get(0)?, row.get(1)?, row.get(2)?);
            let Some((variant, caller)) = tally.of(row.get(3)?, place.2) else { continue };
            let blob = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            let Some((_, ending, _)) = unpack(blob) else { continue };
            let Some(cell) = tally.count(variant, caller, &ending) else { continue };
            if ending.last_of.is_some() {
                beside.at(place, |label, score| tally.rate(cell, label, score))?;
            }
        }
        let mut found = tally.sum_up();
        if trial.variants.is_empty() {
            // A target that nobody asked first in this time is nothing to tell of.
            found.variants.retain(|variant| variant.requests + variant.strayed > 0);
        }
        Ok(found)
    }
}

/// As a floating-point number: exact up to 2⁵³.
#[allow(clippy::cast_precision_loss, reason = "sums of squares are not exact anyway")]
fn float(number: u64) -> f64 {
    number as f64
}
