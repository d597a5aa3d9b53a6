//! What is done to a gateway in one round, and the figures that come of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Places;
use super::gateway::{Gateway, Kind, LOAD_CORE, Mock};
use super::process::{Process, Start, rss};

/// The figures of one round by their names (see [`super::report::FIGURES`]).
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Between two looks at the memory of a gateway under load.
const SAMPLE: Duration = Duration::from_millis(20);
/// The data events of a stream of N content events: role, finish and `[DONE]` besides.
const EXTRA_EVENTS: usize = 3;
const SMALL_BODY: usize = 1500;
const LARGE_BODY: usize = 100 << 10;

/// How long and how big the scenarios are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    warm_up: f64,
    closed: f64,
    open: f64,
    repeat: usize,
}

impl Plan {
    pub(crate) fn full() -> Self {
        Self { warm_up: 1.0, closed: 4.0, open: 5.0, repeat: 2 }
    }

    pub(crate) fn quick() -> Self {
        Self { warm_up: 0.3, closed: 1.5, open: 2.0, repeat: 1 }
    }
}

/// One run of the load generator.
struct Run {
    report: Value,
    /// CPU time of the gateway, in µs.
    cpu_us: f64,
    /// The most memory the gateway had while it ran.
    peak_rss: u64,
}

impl Run {
    fn number(&self, pointer: &str) -> f64 {
        self.report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
    }
}

/// One round with one gateway: everything but the 5,000 streams in one life, those in another.
/// With the figures come the problems: replies that were wrong or missing.
pub(crate) fn round(
    kind: Kind,
    plan: &Plan,
    places: &Places,
    mock: &Mock,
) -> Result<(Figures, Vec<String>), String> {
    let mut figures = Figures::new();
    let mut bench = Bench { places, mock, gateway: Gateway::start(kind, places, mock)? };
    bench.settle(&mut figures);
    bench.run("closed", "ok", &[("--seconds", plan.warm_up.to_string())], None)?;
    let mut problems = Vec::new();
    problems.extend(bench.closed_loops(plan, &mut figures).err());
    problems.extend(bench.paced(plan, &mut figures).err());
    problems.extend(bench.open_loops(plan, &mut figures).err());
    if kind != Kind::Direct {
        drop(bench.gateway);
        bench.gateway = Gateway::start(kind, places, mock)?;
    }
    problems.extend(bench.many_streams(&mut figures).err());
    if kind == Kind::Direct {
        figures.retain(|name, _| !name.ends_with("cpu_us") && !name.ends_with("rss_kib"));
    }
    figures.retain(|_, value| !value.is_nan());
    Ok((figures, problems))
}

struct Bench<'a> {
    places: &'a Places,
    mock: &'a Mock,
    gateway: Gateway,
}

impl Bench<'_> {
    /// Start time and idle memory.
    fn settle(&self, figures: &mut Figures) {
        if self.gateway.kind != Kind::Direct {
            std::thread::sleep(Duration::from_secs(1));
            figures.insert("start_ms", self.gateway.start_time.as_secs_f64() * 1000.0);
            figures.insert("idle_rss_mib", self.gateway.rss() as f64 / f64::from(1 << 20));
        }
    }

    /// (a) small bodies, (b) large bodies, (c) streams whose events are piled up.
    fn closed_loops(&self, plan: &Plan, figures: &mut Figures) -> Result<(), String> {
        let seconds = ("--seconds", plan.closed.to_string());
        let small = self.run("closed", "ok", std::slice::from_ref(&seconds), None)?;
        figures.insert("small_cpu_us", small.cpu_us / small.number("/requests"));
        figures.insert("small_per_s", small.number("/requests_per_second"));
        figures.insert("small_p50_us", small.number("/latency/p50_us"));
        figures.insert("small_p99_us", small.number("/latency/p99_us"));
        let body = ("--body", LARGE_BODY.to_string());
        let large = self.run("closed", "ok", &[seconds.clone(), body], None)?;
        figures.insert("large_cpu_us", large.cpu_us / large.number("/requests"));
        figures.insert("large_per_s", large.number("/requests_per_second"));
        figures.insert("large_p50_us", large.number("/latency/p50_us"));
        let piled = self.run("closed", "events:64:0", &[seconds], Some(64))?;
        figures.insert("piled_event_cpu_us", piled.cpu_us / piled.number("/events"));
        figures.insert("piled_events_per_s", piled.number("/events_per_second"));
        Ok(())
    }

    /// (d) 1,000 streams of 20 events 100 ms apart.
    fn paced(&self, plan: &Plan, figures: &mut Figures) -> Result<(), String> {
        let options = [
            ("--streams", "1000".to_owned()),
            ("--ramp-ms", "1000".to_owned()),
            ("--repeat", plan.repeat.to_string()),
        ];
        let run = self.run("paced", "timed:20:100", &options, Some(20))?;
        figures.insert("paced_event_cpu_us", run.cpu_us / run.number("/events"));
        figures.insert("paced_first_p50_us", run.number("/first_event/p50_us"));
        figures.insert("paced_first_p99_us", run.number("/first_event/p99_us"));
        figures.insert("paced_delay_p50_us", run.number("/event_delay/p50_us"));
        figures.insert("paced_delay_p99_us", run.number("/event_delay/p99_us"));
        Ok(())
    }

    /// (e) requests that do not wait for each other, at a low rate and at half of the most.
    fn open_loops(&self, plan: &Plan, figures: &mut Figures) -> Result<(), String> {
        let half = figures.get("small_per_s").copied().unwrap_or(1000.0) / 2.0;
        let low =
            ["open_low_p50_us", "open_low_p99_us", "open_low_add_p50_us", "open_low_add_p99_us"];
        let high = [
            "open_half_p50_us",
            "open_half_p99_us",
            "open_half_add_p50_us",
            "open_half_add_p99_us",
        ];
        for (rate, names) in [(500.0, low), (half, high)] {
            let options = [("--rate", format!("{rate:.1}")), ("--seconds", plan.open.to_string())];
            let through = self.run("open", "ok", &options, None)?;
            let (p50, p99) = (through.number("/latency/p50_us"), through.number("/latency/p99_us"));
            figures.insert(names[0], p50);
            figures.insert(names[1], p99);
            if self.gateway.kind != Kind::Direct {
                let bare = self.run_at(self.mock.address, "open", "ok", &options, None)?;
                figures.insert(names[2], p50 - bare.number("/latency/p50_us"));
                figures.insert(names[3], p99 - bare.number("/latency/p99_us"));
            }
        }
        figures.insert("open_half_rate", half);
        Ok(())
    }

    /// (d5) 5,000 streams at once, in a gateway that has not done anything else.
    fn many_streams(&self, figures: &mut Figures) -> Result<(), String> {
        const STREAMS: u32 = 5000;
        std::thread::sleep(Duration::from_millis(500));
        let idle = self.gateway.rss();
        let options = [("--streams", STREAMS.to_string()), ("--ramp-ms", "2000".to_owned())];
        let run = self.run("paced", "timed:20:250", &options, Some(20))?;
        let grown = run.peak_rss.saturating_sub(idle) as f64 / 1024.0;
        figures.insert("many_stream_rss_kib", grown / f64::from(STREAMS));
        figures.insert("many_event_cpu_us", run.cpu_us / run.number("/events"));
        figures.insert("many_delay_p50_us", run.number("/event_delay/p50_us"));
        figures.insert("many_delay_p99_us", run.number("/event_delay/p99_us"));
        Ok(())
    }

    /// Runs the load generator through the gateway.
    fn run(
        &self,
        mode: &str,
        model: &str,
        options: &[(&str, String)],
        events: Option<usize>,
    ) -> Result<Run, String> {
        let model = self.gateway.kind.model(model);
        self.run_at(self.gateway.address, mode, &model, options, events)
    }

    fn run_at(
        &self,
        address: std::net::SocketAddr,
        mode: &str,
        model: &str,
        options: &[(&str, String)],
        events: Option<usize>,
    ) -> Result<Run, String> {
        let mut args = vec![mode.to_owned(), "--address".to_owned(), address.to_string()];
        args.extend(["--model".to_owned(), model.to_owned()]);
        if !options.iter().any(|(name, _)| *name == "--body") {
            args.extend(["--body".to_owned(), SMALL_BODY.to_string()]);
        }
        if let Some(events) = events {
            args.extend(["--events".to_owned(), (events + EXTRA_EVENTS).to_string()]);
        }
        for (name, value) in options {
            args.extend([(*name).to_owned(), value.clone()]);
        }
        let before = self.gateway.cpu_ns();
        let (text, peak_rss) = self.load(&args)?;
        let cpu_us = self.gateway.cpu_ns().saturating_sub(before) as f64 / 1000.0;
        let report: Value =
            serde_json::from_str(&text).map_err(|error| format!("the load's report: {error}"))?;
        let name = self.gateway.kind.name();
        if report["errors"] != 0 {
            let problems = &report["problems"];
            return Err(format!("{name}, {mode} {model}: {} errors: {problems}", report["errors"]));
        }
        Ok(Run { report, cpu_us, peak_rss })
    }

    /// Runs the load generator to its end, watching the gateway's memory.
    fn load(&self, args: &[String]) -> Result<(String, u64), String> {
        const LIMIT: Duration = Duration::from_secs(120);
        let program = self.places.programs.join("load");
        let mut load = Process::start(&Start {
            core: LOAD_CORE,
            program: &program,
            args,
            dir: &self.places.scratch,
            log: "load.log",
            piped: true,
        })?;
        // Looked up once: going through all processes again and again would be load itself.
        let pids = self.gateway.pids();
        let (begin, mut peak) = (Instant::now(), 0);
        while !load.ended() {
            if begin.elapsed() > LIMIT {
                return Err(format!("the load generator runs for more than {LIMIT:?}"));
            }
            peak = peak.max(rss(&pids));
            std::thread::sleep(SAMPLE);
        }
        let mut text = String::new();
        if let Some(mut output) = load.child().stdout.take() {
            output.read_to_string(&mut text).map_err(|error| error.to_string())?;
        }
        if text.is_empty() {
            let log = std::fs::read_to_string(self.places.scratch.join("load.log"));
            return Err(format!("the load generator failed: {}", log.unwrap_or_default()));
        }
        Ok((text, peak))
    }
}
