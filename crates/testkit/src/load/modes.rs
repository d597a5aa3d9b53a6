//! The ways of making load: closed loops, paced streams and an open loop.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::Target;
use super::client::{Client, Done};
use super::report::Report;

/// After so many errors a run is given up.
const TOO_MANY: u64 = 1000;
/// How long a run may go on after its time is over.
const GRACE: Duration = Duration::from_secs(30);

/// A closed loop: each connection sends its next request when it has the reply to the last.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// The number of connections.
    pub connections: usize,
    /// How long requests are started.
    pub time: Duration,
    /// How many requests are made at most; 0 for no limit.
    pub requests: u64,
}

/// Streams that are open at the same time, each read to its end.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    /// The number of streams.
    pub streams: usize,
    /// The time over which they are started.
    pub ramp: Duration,
    /// How many streams follow each other on a connection.
    pub repeat: usize,
    /// When the run is given up.
    pub limit: Duration,
}

/// An open loop: requests start at random times, whether or not earlier ones are answered.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Requests per second, on average.
    pub rate: f64,
    /// How long requests are started.
    pub time: Duration,
    /// How many connections there are at most.
    pub connections: usize,
}

/// What the tasks of a run share.
struct Shared {
    target: Target,
    request: Vec<u8>,
    report: RefCell<Report>,
    room: usize,
}

impl Shared {
    fn new(target: Target, room: usize) -> Rc<Self> {
        let request = target.request();
        Rc::new(Self { target, request, report: RefCell::new(Report::default()), room })
    }

    /// Makes one request, connecting first where needed, and reports it. `start` is when it was
    /// to start.
    async fn once(&self, client: Option<Client>, start: Instant) -> Option<Client> {
        match self.attempt(client).await {
            Ok((client, done)) => {
                let mut report = self.report.borrow_mut();
                report.requests += 1;
                report.events += done.events;
                report.bytes += done.bytes;
                report.latency.add_time(start.elapsed());
                if let Some(first) = done.first_event {
                    report.first_event.add_time(first.saturating_duration_since(start));
                }
                done.reusable.then_some(client)
            }
            Err(problem) => {
                self.report.borrow_mut().problem(problem);
                None
            }
        }
    }

    async fn attempt(&self, client: Option<Client>) -> Result<(Client, Done), String> {
        let mut client = match client {
            Some(client) => client,
            None => Client::connect(self.target.address, self.room).await?,
        };
        let mut delay = |nanos| self.report.borrow_mut().event_delay.add(nanos);
        let done = client.exchange(&self.request, self.target.events, &mut delay).await?;
        Ok((client, done))
    }

    fn hopeless(&self) -> bool {
        self.report.borrow().errors > TOO_MANY
    }
}

/// Runs the tasks that `start` spawns until all are done or `limit` has passed.
fn run(shared: &Rc<Shared>, limit: Duration, tasks: impl Future<Output = ()>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime for the load");
    let local = LocalSet::new();
    let start = Instant::now();
    let in_time = local.block_on(&runtime, async { tokio::time::timeout(limit, tasks).await });
    drop(local);
    let mut report = shared.report.take();
    report.elapsed = start.elapsed();
    if in_time.is_err() {
        report.problem(format!("not finished after {limit:?}"));
    }
    report
}

async fn join(tasks: Vec<tokio::task::JoinHandle<()>>) {
    for task in tasks {
        task.await.expect("a task of the load");
    }
}

/// Runs a closed loop.
#[must_use]
pub fn closed(target: Target, config: Closed) -> Report {
    let shared = Shared::new(target, 16 << 10);
    let started = Rc::new(RefCell::new(0));
    let tasks = async {
        let end = Instant::now() + config.time;
        let mut tasks = Vec::new();
        for _ in 0..config.connections {
            let (shared, started) = (Rc::clone(&shared), Rc::clone(&started));
            tasks.push(tokio::task::spawn_local(async move {
                let mut client = None;
                loop {
                    let start = Instant::now();
                    if start >= end || shared.hopeless() {
                        return;
                    }
                    if config.requests > 0 && *started.borrow() >= config.requests {
                        return;
                    }
                    *started.borrow_mut() += 1;
                    client = shared.once(client, start).await;
                }
            }));
        }
        join(tasks).await;
    };
    run(&shared, config.time + GRACE, tasks)
}

/// Runs paced streams.
#[must_use]
pub fn paced(target: Target, config: Paced) -> Report {
    let shared = Shared::new(target, 2048);
    let tasks = async {
        let begin = tokio::time::Instant::now();
        let mut tasks = Vec::new();
        for i in 0..config.streams {
            let shared = Rc::clone(&shared);
            let after = config.ramp.mul_f64(i as f64 / config.streams as f64);
            tasks.push(tokio::task::spawn_local(async move {
                tokio::time::sleep_until(begin + after).await;
                let mut client = None;
                for _ in 0..config.repeat {
                    if shared.hopeless() {
                        return;
                    }
                    client = shared.once(client, Instant::now()).await;
                }
            }));
        }
        join(tasks).await;
    };
    run(&shared, config.limit, tasks)
}

/// Pseudo-random numbers (xorshift), always the same ones.
struct Random(u64);

impl Random {
    /// The time to the next arrival at `rate` per second.
    fn gap(&mut self, rate: f64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let unit = ((self.0 >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        Duration::from_secs_f64(-unit.ln() / rate)
    }
}

/// Tells when requests start, from a thread of its own: its sleep is finer than the runtime's
/// timer, and nothing that the runtime does delays it.
fn arrivals(config: Open) -> mpsc::Receiver<(Instant, Duration)> {
    let (sender, receiver) = mpsc::channel(1 << 16);
    std::thread::spawn(move || {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut due = Instant::now();
        let end = due + config.time;
        loop {
            due += random.gap(config.rate);
            if due >= end {
                return;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            if sender.blocking_send((now, now.saturating_duration_since(due))).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Runs an open loop. Latencies count from the arrival, waiting for a connection included.
#[must_use]
pub fn open(target: Target, config: Open) -> Report {
    let shared = Shared::new(target, 16 << 10);
    let tasks = async {
        let (give, mut idle) = mpsc::channel(config.connections.max(1));
        for _ in 0..config.connections {
            let client = Client::connect(shared.target.address, shared.room).await.ok();
            let _ = give.try_send(client);
        }
        let mut arrivals = arrivals(config);
        let mut tasks = Vec::new();
        while let Some((start, late)) = arrivals.recv().await {
            shared.report.borrow_mut().late.add_time(late);
            let Some(client) = idle.recv().await else {
                return;
            };
            let (shared, give) = (Rc::clone(&shared), give.clone());
            tasks.push(tokio::task::spawn_local(async move {
                let client = shared.once(client, start).await;
                let _ = give.try_send(client);
            }));
        }
        join(tasks).await;
    };
    run(&shared, config.time + GRACE, tasks)
}
