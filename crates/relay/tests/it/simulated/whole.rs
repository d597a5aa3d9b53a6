//! What has to hold of the whole, once all clients have gone: nothing is held any more, all that was
//! charged is spent, and retries were a share of the traffic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use policy::Plan;
use policy::budget::Account;
use policy::directory::{Chain, Holder, Kind};
use policy::health::Standing;
use policy::limit::Meter;
use policy::plan::Target;
use policy::rules::Subject;
use relay::Record;

use super::client::{Around, Wish};
use super::config::CHEAP;
use super::{Run, Told};
use crate::world::{World, now_ms};

pub(super) fn check(run: &Run, told: &mut Told) {
    let open = run.world.upstream.fates.open.get();
    told.that(open == 0, || format!("{open} calls are open"));
    let (opened, asked) =
        (run.world.log.opened.borrow().len(), written(run).filter(|it| it.asked).count());
    told.that(opened == asked, || format!("{opened} attempts opened, {asked} recorded"));
    targets(run, told);
    holders(run, told);
    retries(run, told);
}

/// The records of requests and copies.
fn written(run: &Run) -> impl Iterator<Item = &Record> {
    run.records.iter().chain(&run.copies)
}

/// The plans of all models, and those inside them.
fn plans(world: &World) -> Vec<Arc<Plan>> {
    let direct = ["p0/a", "p0/b"].map(|name| world.snapshot.plan(name).unwrap());
    let named = world.snapshot.plans().into_iter().map(|(_, plan)| plan).chain(direct);
    let inner = |plan: Arc<Plan>| {
        let inner: Vec<_> = plan.composed().iter().flat_map(|it| it.plans().cloned()).collect();
        inner.into_iter().chain([plan])
    };
    named.flat_map(inner).collect()
}

fn targets(run: &Run, told: &mut Told) {
    let now_ms = u64::try_from(run.world.gate.epoch.elapsed().as_millis()).unwrap();
    for plan in plans(&run.world) {
        let waiting = plan.queue().map_or(0, |queue| queue.line.len());
        told.that(waiting == 0, || format!("{waiting} wait for {}", plan.model()));
        let shadow = plan.mirror().map(|mirror| &mirror.target);
        for Target { live, route } in plan.targets().iter().chain(shadow) {
            let name = format!("{}/{}", route.provider.id, route.upstream_model);
            let in_flight = live.health.in_flight();
            told.that(in_flight == 0, || format!("{in_flight} in flight at {name}"));
            let standing = live.health.breaker.standing(now_ms);
            let is_probed = matches!(standing, Standing::Probing { .. });
            told.that(!is_probed, || format!("{name} is probed for ever"));
            for index in 0..live.credentials.count() {
                let in_flight = live.credentials.get(index).window.in_flight();
                told.that(in_flight == 0, || format!("{in_flight} in the window of {name}"));
            }
        }
    }
}

/// All who hold limits and budgets, but for rules.
fn everybody(world: &World) -> Vec<Arc<Holder>> {
    let directory = world.gate.directory.holders();
    directory.into_iter().chain(world.snapshot.holders().iter().cloned()).collect()
}

fn holders(run: &Run, told: &mut Told) {
    let world = &run.world;
    let now_ns = u64::try_from(world.gate.epoch.elapsed().as_nanos()).unwrap();
    let mut all = everybody(world);
    for key in &run.drawn.keys {
        let chain = Chain::from(&world.holder(Kind::Key, &key.name));
        for model in run.drawn.models.keys() {
            let (provider, upstream_model, address) = ("", "", None);
            let subject = Subject { chain: &chain, model, provider, upstream_model, address };
            all.extend(world.snapshot.rules.iter().filter_map(|it| it.holder(&subject, now_ns)));
        }
    }
    for holder in all {
        let whose = format!("{} {}", holder.kind.word(), holder.name);
        for counter in &holder.terms().counters {
            if counter.limit().meter == Meter::Concurrency {
                let (left, all) = (counter.standing(now_ns).remaining, counter.limit().amount);
                told.that(left == all, || format!("{whose} has {left} of {all} slots"));
            }
        }
        for account in &holder.terms().accounts {
            let standing = account.standing(now_ms());
            let (reserved, spent) = (standing.reserved, standing.spent);
            told.that(reserved == 0, || format!("{whose} has {reserved} reserved"));
            let charged = charged(written(run), &holder);
            told.that(spent == charged, || format!("{whose} spent {spent}, of {charged} charged"));
        }
    }
}

/// What is charged to a holder by what is recorded.
fn charged<'r>(records: impl Iterator<Item = &'r Record>, holder: &Arc<Holder>) -> u64 {
    let counts = |record: &&Record| {
        let is_it = |other: &Arc<Holder>| other.kind == holder.kind && other.id == holder.id;
        record.caller.chain().levels().any(|level| is_it(&level.holder))
            || record.route.iter().any(|route| route.holders.iter().any(is_it))
    };
    let charges = records.filter(counts).filter_map(|record| record.charge.as_ref());
    charges.map(|charge| charge.money.nanos).sum()
}

/// What has to hold at any time.
pub(super) fn at_any_time(around: &Around, late: usize, told: &mut Told) {
    in_flight(&around.world, late, told);
    if !around.drawn.overbills {
        budgets(&around.world, told);
    }
    slots(around, told);
}

/// Each answer that is being read holds a slot of its key.
fn slots(around: &Around, told: &mut Told) {
    let now_ns = u64::try_from(around.world.gate.epoch.elapsed().as_nanos()).unwrap();
    for (key, reading) in &*around.reading.borrow() {
        let name = &around.drawn.keys[*key].name;
        for counter in &around.world.holder(Kind::Key, name).terms().counters {
            let limit = counter.limit();
            let held = limit.amount - counter.standing(now_ns).remaining;
            let holds = limit.meter != Meter::Concurrency || held >= reading.get();
            told.that(holds, || format!("{name} holds {held} slots and reads {}", reading.get()));
        }
    }
}

/// What is under way at providers is in flight at their targets, at any time; but for `late` calls
/// that went on behind the end of their answer. What is in flight may be read already, if its client
/// does not read.
fn in_flight(world: &World, late: usize, told: &mut Told) {
    let plans = plans(world);
    let shadows = plans.iter().filter_map(|plan| plan.mirror()).map(|mirror| &mirror.target);
    let targets = plans.iter().flat_map(|plan| plan.targets()).chain(shadows);
    let counts: BTreeMap<_, _> =
        targets.map(|target| (target.name(), target.live.health.in_flight())).collect();
    let (counted, open) = (counts.values().sum::<u32>() as usize, world.upstream.fates.open.get());
    told.that(counted + late >= open, || format!("{open} calls, in flight {counts:?}"));
}

/// No budget that holds back has less than nothing left, now. What providers bill beyond what they
/// said they could is beyond anybody's power.
fn budgets(world: &World, told: &mut Told) {
    for holder in everybody(world) {
        for account in holder.terms().accounts.iter().filter(|account| is_hard(account)) {
            let standing = account.standing(now_ms());
            let held = standing.spent + standing.reserved;
            told.that(held <= standing.limit, || {
                format!("{} {} is over: {standing:?}", holder.kind.word(), holder.name)
            });
        }
    }
}

fn is_hard(account: &Account) -> bool {
    account.budget().is_hard()
}

/// In any stretch of time, retries are what it allows, and what requests have earned so far.
fn retries(run: &Run, told: &mut Told) {
    let model = |name: &str| run.drawn.models.get(name).cloned().unwrap_or_default();
    let mut before: BTreeMap<[u8; 16], &Record> = BTreeMap::new();
    let mut by_model: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for record in run.records.iter().filter(|record| record.asked) {
        // The plan of the attempt that failed pays, when it has failed.
        let Some(failed) = before.insert(record.id.to_bytes(), record) else { continue };
        if !model(&failed.model).is_beside && !model(&failed.model).is_composed {
            by_model.entry(&failed.model).or_default().push(run.ended(failed));
        }
    }
    for (name, mut times) in by_model {
        times.sort_unstable();
        // A composed model may ask one of those in it, and the same as its judge, three times.
        let asks = |wish: &Wish| match model(&wish.asked.model).is_composed {
            true => 4,
            false => usize::from(wish.asked.model == name || name == CHEAP),
        };
        let came = run.requests.iter().flat_map(|(wish, _)| vec![wish.came(); asks(wish)]);
        let mut came: Vec<_> = came.collect();
        came.sort_unstable();
        for (first, from) in times.iter().enumerate() {
            for (count, to) in (1_usize..).zip(&times[first..]) {
                let earned = came.partition_point(|came| came <= to) / 5;
                let floor = 3 + 3 * usize::try_from((*to - *from).as_millis()).unwrap() / 1_000;
                told.that(count <= floor + earned, || {
                    format!("{count} retries of {name} in {:?}, {earned} earned", *to - *from)
                });
            }
        }
    }
}
