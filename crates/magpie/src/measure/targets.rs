//! How targets stand, with their credentials, and what health checks of providers have found.

use std::collections::BTreeSet;

use metrics::Exposition;
use metrics::catalogue as all;
use policy::Snapshot;
use policy::health::{Live, Standing};

use super::live::{Plans, ratio};

/// Targets that are told one by one. Those of the configuration come before those that callers have
/// named.
const MOST_TARGETS: usize = 500;
/// Credentials whose windows are told, of all targets together.
const MOST_WINDOWS: usize = 500;

/// Tells how targets and their providers stand.
pub(super) fn tell(told: &mut Exposition, snapshot: &Snapshot, plans: &Plans, now_ms: u64) {
    let is_named = |name: &str| snapshot.configured_name(name) == Some(name);
    let (named, others): (Vec<_>, Vec<_>) = plans.iter().partition(|(name, _)| is_named(name));
    let mut known = BTreeSet::new();
    let mut first = Vec::new();
    for (_, plan) in named.iter().chain(&others) {
        for target in plan.targets() {
            let labels = [&*target.route.provider.id, &*target.route.upstream_model];
            if known.insert(labels) && first.len() < MOST_TARGETS {
                first.push(Told { labels, live: &target.live });
            }
        }
    }
    told.family(&all::TARGETS).sample(&[], known.len() as u64);
    health(told, &first, now_ms);
    windows(told, &first);
    checks(told, snapshot);
}

/// A target that is told of, and its labels.
struct Told<'p> {
    labels: [&'p str; 2],
    live: &'p Live,
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

/// How many attempts credentials may have under way, where that is found out.
fn windows(told: &mut Exposition, targets: &[Told<'_>]) {
    let mut windows = Vec::new();
    for Told { labels: [provider, model], live } in targets {
        let Some(range) = live.credentials.windows() else { continue };
        for (index, bench) in live.credentials.benches().enumerate() {
            let labels = (provider, model, (index + 1).to_string());
            windows.push((labels, bench.window.size(range), bench.window.in_flight()));
        }
    }
    windows.truncate(MOST_WINDOWS);
    let mut sizes = told.family(&all::WINDOW);
    for ((provider, model, number), size, _) in &windows {
        sizes.sample(&[provider, model, number], u64::from(*size));
    }
    let mut in_flight = told.family(&all::WINDOW_IN_FLIGHT);
    for ((provider, model, number), _, count) in &windows {
        in_flight.sample(&[provider, model, number], u64::from(*count));
    }
}

/// What checks have found of the providers that are checked.
fn checks(told: &mut Exposition, snapshot: &Snapshot) {
    let checked: Vec<_> = snapshot
        .providers
        .iter()
        .filter(|provider| provider.health_check.is_some())
        .filter_map(|provider| Some((&*provider.id, snapshot.health().checked(&provider.id)?)))
        .collect();
    let mut up = told.family(&all::PROVIDER_UP);
    for (provider, (last, _)) in &checked {
        up.sample(&[provider], u64::from(last.found.is_there()));
    }
    let mut found = told.family(&all::CHECKS);
    for (provider, (_, counts)) in &checked {
        for (result, count) in counts.by_word() {
            found.sample(&[provider, result], count);
        }
    }
    let mut took = told.family(&all::CHECK_DURATION);
    for (provider, (last, _)) in &checked {
        took.sample(&[provider], last.took_ms as f64 / 1000.0);
    }
}
