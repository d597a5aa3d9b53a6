//! Whole configurations, providers and clients, drawn from a seed and run on virtual time: with
//! faults of every kind, all at once. Whatever comes of it, some things hold.
//!
//! `MAGPIE_SEEDS=17` runs one seed again, `MAGPIE_SEEDS=100-999` others than the usual ones.

mod client;
mod config;
mod provider;
mod random;
mod requests;
mod whole;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use relay::Record;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{World, seconds};
use client::{Saw, Wish};
use config::Drawn;
use provider::{Called, Clock, Providers};
use random::Random;

/// What does not hold.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn that(&mut self, holds: bool, words: impl FnOnce() -> String) {
        if !holds {
            self.0.push(words());
        }
    }
}

/// What became of it all.
struct Run {
    drawn: Rc<Drawn>,
    world: Rc<World>,
    requests: Vec<(Wish, Saw)>,
    records: Vec<Record>,
    calls: Vec<Called>,
}

impl Run {
    /// When an attempt ended, since 1970.
    fn ended(&self, record: &Record) -> Duration {
        Duration::from_millis(record.at_ms()) + record.total
    }
}

#[test]
fn whatever_providers_and_clients_do_every_request_is_settled_once_and_nothing_is_kept() {
    let mut told = Vec::new();
    for seed in seeds() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        for words in LocalSet::new().block_on(&runtime, simulate(seed)) {
            told.push(format!("MAGPIE_SEEDS={seed}: {words}"));
        }
        assert!(told.len() < 20, "{}", told.join("\n\n"));
    }
    assert!(told.is_empty(), "{}", told.join("\n\n"));
}

fn seeds() -> RangeInclusive<u64> {
    let Ok(text) = std::env::var("MAGPIE_SEEDS") else { return 0..=149 };
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    from.parse().unwrap()..=to.parse().unwrap()
}

/// One world, from its first request to its last. Says what does not hold.
async fn simulate(seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let drawn = Rc::new(Drawn::new(&mut random));
    let world = Rc::new(World::of(&drawn.text, []));
    let clock = Clock::default();
    let mut providers = Providers::new(random.next(), drawn.overbills, &clock);
    let (calls, late) = (providers.calls(), providers.late());
    world.upstream.answer(move |seen| providers.answer(seen));

    let burst = random.time(0, 50_000);
    let count = random.between(50, 300);
    let over = Rc::new(RefCell::new(Told::default()));
    let clients = (0..count).map(|number| {
        let wish = Wish::draw(number, burst, &drawn, &mut random);
        let (world, drawn) = (Rc::clone(&world), Rc::clone(&drawn));
        let (clock, late, over) = (Rc::clone(&clock), Rc::clone(&late), Rc::clone(&over));
        tokio::task::spawn_local(async move {
            let saw = wish.make(&world, &drawn, &clock).await;
            whole::in_flight(&world, late.get(), &mut over.borrow_mut());
            if !drawn.overbills {
                whole::budgets(&world, &mut over.borrow_mut());
            }
            (wish, saw)
        })
    });
    let clients: Vec<_> = clients.collect();
    if random.percent(10) {
        let world = Rc::clone(&world);
        let at = Instant::now() + random.time(30_000, 60_000);
        tokio::task::spawn_local(async move {
            sleep(at - Instant::now()).await;
            world.shed.set();
        });
    }
    let mut requests = Vec::new();
    for client in clients {
        match timeout(seconds(600), client).await {
            Ok(ended) => requests.push(ended.unwrap()),
            Err(_) => return vec!["a client waits for ever".into()],
        }
    }
    let (records, calls) = (world.take_records(), calls.take());
    let run = Run { drawn, world, requests, records, calls };
    let mut told = over.take();
    requests::check(&run, &mut told);
    whole::check(&run, &mut told);
    told.0
}
