//! Whole configurations, providers and clients, drawn from a seed and run on virtual time: with
//! faults of every kind, all at once. Whatever comes of it, some things hold.
//!
//! `MAGPIE_SEEDS=17` runs one seed again, `MAGPIE_SEEDS=100-999` others than the usual ones.

mod act;
mod client;
mod config;
mod provider;
mod random;
mod requests;
mod saying;
mod shared;
mod whole;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use relay::Record;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{World, local, seconds};
use client::{Around, Saw, Wish};
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
    beginning: Instant,
    requests: Vec<(Wish, Saw)>,
    /// Of the requests, and of the copies that went to shadows.
    records: Vec<Record>,
    copies: Vec<Record>,
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
        for words in runtime.block_on(local(simulate(seed))) {
            told.push(format!("MAGPIE_SEEDS={seed}: {words}"));
        }
        assert!(told.len() < 20, "{}", told.join("\n\n"));
    }
    assert!(told.is_empty(), "{}", told.join("\n\n"));
}

fn seeds() -> RangeInclusive<u64> {
    let Ok(text) = std::env::var("MAGPIE_SEEDS") else { return 0..=119 };
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    from.parse().unwrap()..=to.parse().unwrap()
}

/// One world, from its first request to its last. Says what does not hold.
async fn simulate(seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let drawn = Rc::new(Drawn::new(&mut random));
    let world = Rc::new(World::of(&drawn.text, []));
    let clock = Clock::default();
    let mut providers = Providers::new(random.next(), &drawn, &clock);
    let (calls, late, log) = (providers.calls(), providers.late(), Rc::clone(&world.log));
    world.upstream.answer(move |seen| {
        // Whoever has opened an attempt calls in the same moment.
        let by = log.opened.borrow().last().unwrap().0;
        providers.answer(seen, by)
    });

    let beginning = Instant::now();
    let burst = random.time(0, 50_000);
    let mut wishes: Vec<Wish> = Vec::new();
    for _ in 0..random.between(50, 300) {
        wishes.push(Wish::draw(&wishes, burst, &drawn, &mut random));
    }
    let over = Rc::new(RefCell::new(Told::default()));
    let (around_world, reading) = (Rc::clone(&world), RefCell::default());
    let around = Around { world: around_world, drawn: Rc::clone(&drawn), clock, reading };
    let around = Rc::new(around);
    let clients = wishes.into_iter().map(|wish| {
        let (around, late, over) = (Rc::clone(&around), Rc::clone(&late), Rc::clone(&over));
        tokio::task::spawn_local(async move {
            let saw = wish.make(&around).await;
            whole::at_any_time(&around, late.get(), &mut over.borrow_mut());
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
    // Calls that nobody waits for go on: for shadows, and for whoever comes again.
    sleep(seconds(100)).await;
    let records = world.take_records();
    let (records, copies) = records.into_iter().partition(|record| record.mirror_of.is_none());
    let calls = calls.take();
    let run = Run { drawn, world, beginning, requests, records, copies, calls };
    let mut told = over.take();
    requests::check(&run, &mut told);
    shared::check(&run, &mut told);
    whole::check(&run, &mut told);
    told.0
}
