//! What the ledger costs a request, in CPU time, and how long questions to it take.
//!
//! ```sh
//! cargo run --release -p ledger --example cost -- [REQUESTS] [A_BATCH] [KEYS] [A_SECOND]
//! ```
//!
//! `A_BATCH` requests are shipped at a time, and their times are such as if `A_SECOND` of them had
//! come in each second.

#![allow(clippy::print_stdout, reason = "it prints figures")]

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use ledger::{
    Amount, Bill, By, Closing, Estimate, Filter, Ledger, Line, Opening, Options, Provenance,
    Reader, RequestId, Retention, Step, Tokens, Trial, Who, Writer,
};

const LINES: [Line<'static>; 2] = [
    Line { bucket: "input", count: 1200, nanos_per_million: 250_000_000 },
    Line { bucket: "output", count: 300, nanos_per_million: 2_000_000_000 },
];
const BEGIN: u64 = 1_790_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>());
    let mut next = |usual| numbers.next().transpose().map(|number| number.unwrap_or(usual));
    let (requests, batch, keys) = (next(400_000)?, next(10_000)?, next(10)?);
    let a_second = next(10_000)?;

    let folder = tempfile::tempdir_in(".")?;
    let retention = Retention { attempts: None, minutes: None, hours: None, days: None };
    let ship_every = Duration::from_secs(1 << 30);
    let options = Options { ship_every, retention, ..Options::new(folder.path()) };
    let (ledger, _) = Ledger::open(&options, &mut Estimate::reserved)?;
    let mut writer = ledger.writer()?;
    let keys: Vec<String> = (0..keys).map(|key| format!("key_01J8ZQ4M5N6P7Q8R{key:05}")).collect();

    let (mut writing, mut took) = (Duration::ZERO, Vec::new());
    let shipping = shipper_cpu();
    for start in (0..requests).step_by(usize::try_from(batch)?) {
        for number in start..requests.min(start + batch) {
            let key = &keys[usize::try_from(number)? % keys.len()];
            let each = one(&mut writer, number, number * 1000 / a_second, key)?;
            writing += each;
            took.push(each);
        }
        ledger.flush()?;
    }
    let shipping = shipper_cpu() - shipping;
    took.sort_unstable();
    let percentile = |share: usize| micros(took[(took.len() - 1) * share / 1000]);
    println!("{requests} requests, {batch} a batch, {} keys, {a_second} a second", keys.len());
    println!("writing   {:.2} us a request, both records", micros(writing) / requests as f64);
    println!("          p50 {:.2}, p99 {:.2}", percentile(500), percentile(990));
    println!("shipping  {:.2} us CPU a request", micros(shipping) / requests as f64);
    println!("database  {} bytes a request", fs::metadata(options.database())?.len() / requests);
    questions(&ledger.reader()?, &keys[0], BEGIN + requests * 1000 / a_second)
}

/// Writes a request, and says how long the writing took.
fn one(writer: &mut Writer, number: u64, after: u64, key: &str) -> std::io::Result<Duration> {
    let at_ms = BEGIN + after;
    let low = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = RequestId((u128::from(at_ms << 16 | low >> 48) << 64 | u128::from(low)).to_be_bytes());
    let opening = Opening {
        id,
        attempt: 1,
        at_ms,
        who: Who {
            key: Some(key),
            user: Some("user_01J8ZQ4M5N6P7Q8R9S0T1V2W3X"),
            team: Some("research"),
            org: Some("example"),
        },
        operation: "chat",
        model: "gpt-5-mini",
        provider: "openai",
        upstream_model: "gpt-5-mini-2025-08-07",
        stream: number.is_multiple_of(2),
        input_estimate: 1234,
        max_output: Some(4096),
        reserved: Some(Amount { nanos: 8_500_000, currency: "USD" }),
    };
    let closing = Closing {
        id,
        attempt: 1,
        at_ms: at_ms + 1500,
        last_of: Some(1),
        status: 200,
        outcome: "complete",
        fault: None,
        tokens: Tokens { input: 1200, output: 300, ..Tokens::default() },
        provenance: Provenance::Reported,
        bill: Bill::Charge(Amount { nanos: 900_000, currency: "USD" }),
        first_event_us: Some(400_123),
        total_us: 1_500_321,
        overhead_us: 87,
        events: 301,
        lines: &LINES,
    };
    let clock = Instant::now();
    writer.opening(&opening)?;
    writer.closing(&closing)?;
    Ok(clock.elapsed())
}

/// Asks what people ask.
fn questions(reader: &Reader, key: &str, end: u64) -> Result<(), Box<dyn Error>> {
    let utc = TimeZone::UTC;
    let all = Filter::default();
    let of_key = Filter::only(By::Key, key);
    let trial = Trial { filter: Filter::only(By::Model, "gpt-5-mini"), ..Trial::default() };
    let cut = Filter { from_ms: Some(BEGIN + 4_321_000), to_ms: Some(end), ..Filter::default() };
    let page = reader.requests(&all, None, 50)?;
    let middle =
        reader.requests(&Filter { to_ms: Some(BEGIN.midpoint(end)), ..all.clone() }, None, 1)?;
    let id = middle.requests.first().ok_or("no requests")?.last.id;
    time("usage in all", || reader.usage(&all, &[], &utc).map(|it| it.len()))?;
    time("usage by key", || reader.usage(&cut, &[By::Key], &utc).map(|it| it.len()))?;
    time("usage by day", || reader.usage(&all, &[By::Day], &utc).map(|it| it.len()))?;
    time("one key by day", || reader.usage(&of_key, &[By::Day], &utc).map(|it| it.len()))?;
    time("spent by a key", || {
        reader.spent(By::Key, key, BEGIN + 4_321_000..end, Step::Day).map(|it| it.len())
    })?;
    time("a page", || reader.requests(&all, page.next, 50).map(|it| it.requests.len()))?;
    time("a page of a key", || reader.requests(&of_key, None, 50).map(|it| it.requests.len()))?;
    time("variants", || reader.variants(&trial).map(|it| it.variants.len()))?;
    time("a request", || reader.request(id).map(|it| it.map_or(0, |it| it.attempts.len())))
}

fn time(name: &str, ask: impl Fn() -> ledger::Result<usize>) -> Result<(), Box<dyn Error>> {
    ask()?;
    let clock = Instant::now();
    let rows = ask()?;
    println!("{name:16} {:8.2} ms, {rows} rows", micros(clock.elapsed()) / 1000.0);
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// CPU time of the thread that ships, as the kernel counts it.
fn shipper_cpu() -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let read = |task: fs::DirEntry, file: &str| fs::read_to_string(task.path().join(file)).ok();
    let ships = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "ledger-ship")
    };
    let time = |task| read(task, "schedstat")?.split(' ').next()?.parse::<u64>().ok();
    Duration::from_nanos(tasks.flatten().filter(ships).filter_map(time).sum())
}
