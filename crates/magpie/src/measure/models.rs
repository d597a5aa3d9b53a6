//! What the options of models come to: queues, attempts side by side, shared answers, answers that
//! are gone on with, shadows.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::catalogue as all;
use metrics::{Exposition, Family, Value};
use policy::health::{Tally, Tick};
use policy::{Plan, Snapshot};

use super::live::Plans;

/// Models that are told one by one: those of the configuration, in the order of names.
const MOST_MODELS: usize = 500;
/// Shadows that are told.
const MOST_SHADOWS: usize = 100;

/// Tells what the options of models come to.
pub(super) fn tell(told: &mut Exposition, snapshot: &Snapshot, plans: &Plans, now_ms: u64) {
    let is_configured = |name: &str| snapshot.configured_name(name) == Some(name);
    let models: BTreeMap<&str, &Plan> = plans
        .iter()
        .map(|(_, plan)| (plan.model(), &**plan))
        .filter(|(name, _)| is_configured(name))
        .collect();
    let mut retries = told.family(&all::RETRIES_LEFT);
    for (name, plan) in models.iter().take(MOST_MODELS) {
        retries.sample(&[name], plan.budget().left(now_ms));
    }
    let mut waiting = told.family(&all::WAITING);
    for (name, plan) in models.iter().take(MOST_MODELS) {
        if let Some(queue) = plan.queue() {
            waiting.sample(&[name], queue.line.len() as u64);
        }
    }
    // Not those of plans: these may have to be made again for what a pattern fits.
    let mut tallies = snapshot.health().tallies();
    tallies.retain(|(name, tally)| is_configured(name) && !tally.is_empty());
    tallies.truncate(MOST_MODELS);
    tally(told, &tallies);
    mirrors(told, snapshot);
}

type Tallies = [(Box<str>, Arc<Tally>)];

fn tally(told: &mut Exposition, tallies: &Tallies) {
    by_word(told, &all::QUEUED, tallies, |tally| {
        vec![
            ("admitted", &tally.admitted),
            ("refused", &tally.refused),
            ("left", &tally.left),
            ("full", &tally.full),
        ]
    });
    plain(told, &all::BESIDE, tallies, |tally| &tally.beside);
    plain(told, &all::BESIDE_WON, tallies, |tally| &tally.won);
    plain(told, &all::WITHHELD, tallies, |tally| &tally.withheld);
    by_word(told, &all::SHARED, tallies, |tally| {
        vec![("joined", &tally.joined), ("replayed", &tally.replayed)]
    });
    by_word(told, &all::RESUMES, tallies, |tally| {
        vec![("resumed", &tally.resumed), ("given_up", &tally.given_up)]
    });
}

fn plain(
    told: &mut Exposition,
    family: &'static Family,
    tallies: &Tallies,
    pick: impl Fn(&Tally) -> &Tick,
) {
    let mut samples = told.family(family);
    for (model, tally) in tallies {
        samples.unless_zero(&[model], Value::Whole(pick(tally).get()));
    }
}

fn by_word(
    told: &mut Exposition,
    family: &'static Family,
    tallies: &Tallies,
    pick: impl Fn(&Tally) -> Vec<(&'static str, &Tick)>,
) {
    let mut samples = told.family(family);
    for (model, tally) in tallies {
        for (word, tick) in pick(tally) {
            samples.unless_zero(&[model, word], Value::Whole(tick.get()));
        }
    }
}

fn mirrors(told: &mut Exposition, snapshot: &Snapshot) {
    let all_mirrored = snapshot.health().all_mirrored().into_iter().take(MOST_SHADOWS);
    let mirrored: Vec<_> =
        all_mirrored.map(|(model, shadow, sums)| (model, shadow, sums.summary())).collect();
    let mut requests = told.family(&all::MIRRORED);
    for (model, shadow, sums) in &mirrored {
        for (end, count) in [
            ("compared", sums.compared),
            ("incomplete", sums.ended.saturating_sub(sums.compared)),
            ("dropped", sums.dropped),
            ("skipped", sums.skipped),
        ] {
            requests.sample(&[model, shadow, end], count);
        }
    }
    let mut errors = told.family(&all::MIRROR_ERRORS);
    for (model, shadow, sums) in &mirrored {
        errors.sample(&[model, shadow, "main"], sums.main.errors);
        errors.sample(&[model, shadow, "shadow"], sums.shadow.errors);
    }
    let mut similarity = told.family(&all::SIMILARITY);
    for (model, shadow, sums) in &mirrored {
        if let Some(mean) = sums.similarity {
            similarity.sample(&[model, shadow], mean);
        }
    }
}
