//! What the workers have counted, added up and written.

use std::sync::Arc;

use metrics::catalogue::{self as all, BEGIN, OWN, STEP, WHOLE};
use metrics::{Count, Exposition, Family, Histogram, Scale, Total, Value};
use policy::health::Cause;
use policy::limit;
use relay::{Blame, Code, Outcome, Provenance};

use super::series::{
    BUCKETS, CALLERS_ERROR, CURRENCIES, Key, NO_CAUSE, OUTCOMES, PROVENANCES, STATUSES, Series,
};
use super::shard::{HOLDERS, Hub, MOST_COMBINATIONS, Own};

type Combinations = [(Key, Vec<Arc<Series>>)];

/// Tells what requests did.
pub(super) fn requests(told: &mut Exposition, hub: &Hub) {
    let (combinations, workers) = (hub.combinations(), hub.workers());
    totals(told, &workers);
    ends(told, &combinations);
    times(told, &combinations);
    attempts(told, &combinations);
    told.family(&all::COMBINATIONS).sample(&[], combinations.len() as u64);
    told.family(&all::MOST_COMBINATIONS).sample(&[], MOST_COMBINATIONS as u64);
}

/// What is counted without the name of a model.
fn totals(told: &mut Exposition, workers: &[Arc<Own>]) {
    let sum =
        |pick: &dyn Fn(&Own) -> &Count| workers.iter().map(|own| pick(own).get()).sum::<u64>();
    // In this order: a request that begins and ends in between must not count as less than none.
    let ended = sum(&|own| &own.ended);
    let in_flight = sum(&|own| &own.begun).saturating_sub(ended);
    told.family(&all::REQUESTS_IN_FLIGHT).sample(&[], in_flight);
    let overhead: Total = workers.iter().map(|own| &own.overhead).collect();
    told.family(&all::OVERHEAD).histogram(&[], OWN, &overhead);
    let mut rejections = told.family(&all::REJECTIONS);
    for (number, holder) in HOLDERS.iter().enumerate() {
        for (limit, name) in limit::NAMES.iter().chain(&["budget"]).enumerate() {
            let count = sum(&|own| &own.rejections[number][limit]);
            rejections.unless_zero(&[holder.word(), name], Value::Whole(count));
        }
    }
    let mut alerts = told.family(&all::BUDGET_ALERTS);
    for (number, holder) in HOLDERS.iter().enumerate() {
        let count = sum(&|own| &own.alerts[number]);
        alerts.unless_zero(&[holder.word()], Value::Whole(count));
    }
    let (open, idle) = (sum(&|own| &own.pooled.open), sum(&|own| &own.pooled.idle));
    let mut connections = told.family(&all::UPSTREAM_CONNECTIONS);
    connections.sample(&["idle"], idle);
    connections.sample(&["active"], open.saturating_sub(idle));
    told.family(&all::UPSTREAM_OPENED).sample(&[], sum(&|own| &own.pooled.opened));
    let mut busy = told.family(&all::WORKER_BUSY);
    for (number, own) in workers.iter().enumerate() {
        let time = own.runtime.worker_total_busy_duration(0);
        busy.sample(&[&number.to_string()], time.as_secs_f64());
    }
    let mut tasks = told.family(&all::WORKER_TASKS);
    for (number, own) in workers.iter().enumerate() {
        tasks.sample(&[&number.to_string()], own.runtime.num_alive_tasks() as u64);
    }
}

fn sum(of_workers: &[Arc<Series>], pick: impl Fn(&Series) -> &Count) -> Value {
    Value::Whole(of_workers.iter().map(|series| pick(series).get()).sum())
}

/// The labels that all combinations have.
fn labels(key: &Key) -> [&str; 4] {
    [&key.model, &key.provider, key.operation, &key.team]
}

/// The same and one more.
fn labels_and<'k>(key: &'k Key, more: &'k str) -> [&'k str; 5] {
    let [model, provider, operation, team] = labels(key);
    [model, provider, operation, team, more]
}

/// A counter for each combination and each of some words.
fn by_word(
    told: &mut Exposition,
    family: &'static Family,
    combinations: &Combinations,
    words: &[&str],
    pick: impl Fn(&Series, usize) -> &Count,
) {
    let mut samples = told.family(family);
    for (key, of_workers) in combinations {
        for (number, word) in words.iter().enumerate() {
            let count = sum(of_workers, |series| pick(series, number));
            samples.unless_zero(&labels_and(key, word), count);
        }
    }
}

/// A counter for each combination.
fn plain(
    told: &mut Exposition,
    family: &'static Family,
    combinations: &Combinations,
    pick: impl Fn(&Series) -> &Count,
) {
    let mut samples = told.family(family);
    for (key, of_workers) in combinations {
        samples.sample(&labels(key), sum(of_workers, &pick));
    }
}

/// Money for each combination and currency, counted in billionths.
fn money(
    told: &mut Exposition,
    family: &'static Family,
    combinations: &Combinations,
    pick: impl Fn(&Series, usize) -> &Count,
) {
    let mut samples = told.family(family);
    for (key, of_workers) in combinations {
        for (number, currency) in CURRENCIES.iter().enumerate() {
            let nanos = of_workers.iter().map(|series| pick(series, number).get()).sum();
            samples.unless_zero(&labels_and(key, currency.code()), Value::Nanos(nanos));
        }
    }
}

fn ends(told: &mut Exposition, combinations: &Combinations) {
    let mut requests = told.family(&all::REQUESTS);
    for (key, of_workers) in combinations {
        let [model, provider, operation, team] = labels(key);
        for (class, status) in STATUSES.iter().enumerate() {
            for (number, outcome) in OUTCOMES.iter().enumerate() {
                let labels = [model, provider, operation, team, status, outcome.word()];
                let count = sum(of_workers, |series| &series.requests[class][number]);
                requests.unless_zero(&labels, count);
            }
        }
    }
    let outcomes = OUTCOMES.map(Outcome::word);
    by_word(told, &all::STREAMS, combinations, &outcomes, |series, number| &series.streams[number]);
    let mut errors = told.family(&all::ERRORS);
    for (key, of_workers) in combinations {
        let [model, provider, operation, team] = labels(key);
        let codes = Code::ALL.iter().map(|code| (code.name(), code.blame()));
        let callers = (Code::ErrorInReply.name(), Blame::Caller);
        debug_assert_eq!(codes.len(), CALLERS_ERROR);
        for (number, (error, blame)) in codes.chain([callers]).enumerate() {
            let labels = [model, provider, operation, team, error, blame.word()];
            errors.unless_zero(&labels, sum(of_workers, |series| &series.errors[number]));
        }
    }
}

fn times(told: &mut Exposition, combinations: &Combinations) {
    type Pick = fn(&Series) -> &Histogram;
    let families: [(&'static Family, Scale, Pick); 4] = [
        (&all::REQUEST_DURATION, WHOLE, |series| &series.whole),
        (&all::FIRST_TOKEN, BEGIN, |series| &series.begin),
        (&all::OUTPUT_TOKEN, STEP, |series| &series.step),
        (&all::QUEUE_WAIT, WHOLE, |series| &series.queued),
    ];
    for (family, scale, pick) in families {
        let mut samples = told.family(family);
        for (key, of_workers) in combinations {
            let total: Total = of_workers.iter().map(|series| pick(series)).collect();
            samples.histogram(&labels(key), scale, &total);
        }
    }
}

fn attempts(told: &mut Exposition, combinations: &Combinations) {
    let causes = [&Cause::ALL.map(Cause::word)[..], &["none"]].concat();
    debug_assert_eq!(causes.len(), NO_CAUSE + 1);
    by_word(told, &all::ATTEMPTS, combinations, &causes, |series, number| &series.attempts[number]);
    plain(told, &all::RETRIES, combinations, |series| &series.retries);
    plain(told, &all::OVERTAKEN, combinations, |series| &series.overtaken);
    plain(told, &all::FALLBACKS, combinations, |series| &series.fallbacks);
    by_word(told, &all::TOKENS, combinations, &BUCKETS, |series, number| &series.tokens[number]);
    money(told, &all::OVERTAKEN_COST, combinations, |series, number| {
        &series.overtaken_cost[number]
    });
    money(told, &all::COST, combinations, |series, number| &series.cost[number]);
    let sources = PROVENANCES.map(Provenance::word);
    by_word(told, &all::METERED, combinations, &sources, |series, number| &series.metered[number]);
    plain(told, &all::UNPRICED, combinations, |series| &series.unpriced);
}
