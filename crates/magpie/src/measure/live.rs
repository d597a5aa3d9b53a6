//! How things stand: targets, limits, queues, connections, the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use metrics::Exposition;
use metrics::catalogue as all;
use policy::directory::{Holder, Kind};
use policy::health::{Live, Standing};
use policy::{Plan, Snapshot};

use super::Measure;
use crate::callers::now_ms;
use crate::version::VERSION;

/// Targets that are told one by one. Those of the configuration come before those that callers have
/// named.
const MOST_TARGETS: usize = 500;
/// Models whose retries are told.
const MOST_MODELS: usize = 500;
/// Limits and budgets that are told, each.
const MOST_HELD: usize = 500;

/// Tells how everything stands.
pub(super) fn tell(told: &mut Exposition, measure: &Measure) {
    let snapshot = measure.snapshot.load();
    let since = measure.gate.epoch.elapsed();
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let now_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    targets(told, &snapshot, now_ms);
    held(told, measure, &snapshot, now_ns);
    queues(told, measure);
    ledger(told, measure);
    let connections = &measure.connections;
    told.family(&all::CONNECTIONS).sample(&[], connections.open.load(Relaxed) as u64);
    told.family(&all::MOST_CONNECTIONS).sample(&[], connections.most as u64);
    let turned_away = connections.turned_away.load(Relaxed);
    told.family(&all::CONNECTIONS_REFUSED).sample(&[], turned_away);
    told.family(&all::BUILD).sample(&[VERSION], 1);
    reloads(told, measure);
}

/// A target that is told of, and its labels.
struct Told<'p> {
    labels: [&'p str; 2],
    live: &'p Live,
}

fn targets(told: &mut Exposition, snapshot: &Snapshot, now_ms: u64) {
    let plans = snapshot.plans();
    let is_named = |name: &str| snapshot.configured_name(name) == Some(name);
    let (named, others): (Vec<_>, Vec<_>) = plans.iter().partition(|(name, _)| is_named(name));
    let mut known = BTreeMap::new();
    let mut first = Vec::new();
    for (_, plan) in named.iter().chain(&others) {
        for target in plan.targets() {
            let labels = [&*target.route.provider.id, &*target.route.upstream_model];
            if known.insert(labels, ()).is_none() && first.len() < MOST_TARGETS {
                first.push(Told { labels, live: &target.live });
            }
        }
    }
    told.family(&all::TARGETS).sample(&[], known.len() as u64);
    health(told, &first, now_ms);
    let mut retries = told.family(&all::RETRIES_LEFT);
    let models: BTreeMap<&str, &Arc<Plan>> =
        named.iter().map(|(name, plan)| (&**name, plan)).collect();
    for (name, plan) in models.into_iter().take(MOST_MODELS) {
        retries.sample(&[name], plan.budget().left(now_ms));
    }
}

fn health(told: &mut Exposition, targets: &[Told<'_>], now_ms: u64) {
    let mut breaker = told.family(&all::BREAKER);
    for Told { labels, live } in targets {
        let state: u64 = match live.health.breaker.standing(now_ms) {
            Standing::Closed { .. } => 0,
            Standing::Due | Standing::Probing { .. } => 1,
            Standing::Open { .. } => 2,
        };
        breaker.sample(labels, state);
    }
    let mut share = told.family(&all::SHARE);
    for Told { labels, live } in targets {
        let percent = match live.health.breaker.standing(now_ms) {
            Standing::Closed { percent } => percent,
            Standing::Due | Standing::Probing { .. } | Standing::Open { .. } => 0,
        };
        share.sample(labels, ratio(percent, 100));
    }
    let mut in_flight = told.family(&all::TARGET_IN_FLIGHT);
    for Told { labels, live } in targets {
        in_flight.sample(labels, u64::from(live.health.in_flight()));
    }
    let mut first_token = told.family(&all::TARGET_FIRST_TOKEN);
    for Told { labels, live } in targets {
        if let Some(mean) = live.health.first_token.mean_ms(now_ms) {
            first_token.sample(labels, f64::from(mean) / 1000.0);
        }
    }
    let mut credentials = told.family(&all::CREDENTIALS);
    for Told { labels, live } in targets {
        credentials.sample(labels, live.credentials.count() as u64);
    }
    let mut benched = told.family(&all::BENCHED);
    for Told { labels, live } in targets {
        let benches = live.credentials.benches();
        let count = benches.filter(|bench| bench.benched(now_ms).is_some()).count();
        benched.sample(labels, count as u64);
    }
}

/// Limits and budgets of those of whom there are few.
fn held(told: &mut Exposition, measure: &Measure, snapshot: &Snapshot, now_ns: u64) {
    let mut holders = measure.gate.directory.holders_of(&[Kind::Team, Kind::Org]);
    holders.extend(snapshot.holders().iter().cloned());
    holders.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    let labelled = |holder: &Arc<Holder>| (holder.kind.word(), Arc::clone(&holder.name));
    let mut limits = told.family(&all::LIMIT_USED);
    let counters = holders.iter().flat_map(|holder| {
        let terms = holder.terms();
        let counters: Vec<_> = terms.counters.clone();
        counters.into_iter().map(|counter| (labelled(holder), counter))
    });
    for ((kind, name), counter) in counters.take(MOST_HELD) {
        let limit = counter.limit();
        let most = limit.capacity();
        let used = most.saturating_sub(counter.standing(now_ns).remaining);
        limits.sample(&[kind, &name, limit.name()], ratio(used, most));
    }
    let mut budgets = told.family(&all::BUDGET_USED);
    let accounts = holders.iter().flat_map(|holder| {
        let terms = holder.terms();
        let accounts: Vec<_> = terms.accounts.clone();
        accounts.into_iter().map(|account| (labelled(holder), account))
    });
    let now_ms = now_ms();
    for ((kind, name), account) in accounts.take(MOST_HELD) {
        let standing = account.standing(now_ms);
        let used = standing.spent.saturating_add(standing.reserved);
        let period = account.budget().period.to_string();
        budgets.sample(&[kind, &name, &period], ratio(used, standing.limit));
    }
}

/// A part of a whole; of nothing, all.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

fn queues(told: &mut Exposition, measure: &Measure) {
    told.family(&all::LOG_WAITING).sample(&[], measure.log.waiting());
    told.family(&all::LOG_DROPPED).sample(&[], measure.log.dropped());
    told.family(&all::ALERTS_WAITING).sample(&[], measure.alerts.waiting());
    told.family(&all::ALERTS_DROPPED).sample(&[], measure.alerts.dropped());
}

fn ledger(told: &mut Exposition, measure: &Measure) {
    let Some(ledger) = &measure.ledger else { return };
    let status = ledger.status();
    told.family(&all::UNSHIPPED).sample(&[], status.unshipped_bytes);
    told.family(&all::SHIP_LAG).sample(&[], status.lag.as_secs_f64());
    told.family(&all::SHIPPED).sample(&[], status.shipped);
    told.family(&all::KEPT).sample(&[], status.kept_bytes);
    told.family(&all::DROPPED).sample(&[], status.dropped);
    told.family(&all::DAMAGED).sample(&[], status.damaged_bytes);
    told.family(&all::WRITABLE).sample(&[], u64::from(status.healthy));
}

fn reloads(told: &mut Exposition, measure: &Measure) {
    let reloads = &measure.reloads;
    let mut count = told.family(&all::RELOADS);
    count.sample(&["applied"], reloads.applied.load(Relaxed));
    count.sample(&["refused"], reloads.refused.load(Relaxed));
    let succeeded = reloads.succeeded.load(Relaxed);
    told.family(&all::RELOAD_SUCCEEDED).sample(&[], u64::from(succeeded));
    let at = reloads.at_ms.load(Relaxed) as f64 / 1000.0;
    told.family(&all::RELOAD_TIME).sample(&[], at);
}
