//! How things stand: limits, queues, connections, the configuration.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use console::store::now_ms;
use metrics::Exposition;
use metrics::catalogue as all;
use policy::directory::{Holder, Kind};
use policy::units::milliseconds;
use policy::{Plan, Snapshot};

use super::{Measure, models, targets};
use crate::version::VERSION;

/// Limits and budgets that are told, each.
const MOST_HELD: usize = 500;

/// The plans that there are, by the name that is asked for.
pub(super) type Plans = [(Box<str>, Arc<Plan>)];

/// Tells how everything stands.
pub(super) fn tell(told: &mut Exposition, measure: &Measure) {
    let snapshot = measure.snapshot.load();
    let since = measure.gate.epoch.elapsed();
    let now_ms = milliseconds(since);
    let now_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let plans = snapshot.plans();
    targets::tell(told, &snapshot, &plans, now_ms);
    models::tell(told, &snapshot, &plans, now_ms);
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
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
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
