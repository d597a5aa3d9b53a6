//! The load generator as a program: one run, one line of JSON on stdout.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its interface")]

use std::process::ExitCode;
use std::time::Duration;

use testkit::load::{Closed, Open, Paced, Report, Target, closed, open, paced};

const USAGE: &str = "\
usage: load closed --address HOST:PORT [--connections 64] [--seconds 5] [--requests 0]
       load paced  --address HOST:PORT [--streams 1000] [--ramp-ms 1000] [--repeat 1] [--limit-s 60]
       load open   --address HOST:PORT [--rate 500] [--seconds 5] [--connections 64]
for all: [--model ok] [--path /v1/chat/completions] [--key sk-bench] [--body 1500]
         [--events N]  ask for a stream and expect N data events, [DONE] included";

/// The options, as given.
struct Args(Vec<String>);

impl Args {
    fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|arg| arg == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn value<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.text(name) {
            Some(text) => text.parse().map_err(|_| format!("{name}: {text} is no such value")),
            None => Ok(default),
        }
    }

    fn seconds(&self, name: &str, default: f64) -> Result<Duration, String> {
        let seconds: f64 = self.value(name, default)?;
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("{name}: {error}"))
    }

    fn target(&self) -> Result<Target, String> {
        let address = self.text("--address").ok_or("--address is missing")?;
        let text = |name, default: &str| self.text(name).unwrap_or(default).to_owned();
        let events = self.text("--events").map(str::parse).transpose();
        Ok(Target {
            address: address.parse().map_err(|error| format!("{address}: {error}"))?,
            path: text("--path", "/v1/chat/completions"),
            model: text("--model", "ok"),
            key: text("--key", "sk-bench"),
            body_bytes: self.value("--body", 1500)?,
            events: events.map_err(|error| format!("--events: {error}"))?,
        })
    }
}

fn run(mode: &str, args: &Args) -> Result<Report, String> {
    let target = args.target()?;
    match mode {
        "closed" => Ok(closed(
            target,
            Closed {
                connections: args.value("--connections", 64)?,
                time: args.seconds("--seconds", 5.0)?,
                requests: args.value("--requests", 0)?,
            },
        )),
        "paced" => Ok(paced(
            target,
            Paced {
                streams: args.value("--streams", 1000)?,
                ramp: Duration::from_millis(args.value("--ramp-ms", 1000)?),
                repeat: args.value("--repeat", 1)?,
                limit: args.seconds("--limit-s", 60.0)?,
            },
        )),
        "open" => Ok(open(
            target,
            Open {
                rate: args.value("--rate", 500.0)?,
                time: args.seconds("--seconds", 5.0)?,
                connections: args.value("--connections", 64)?,
            },
        )),
        _ => Err(format!("{mode}: no such mode\n{USAGE}")),
    }
}

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let mode = args.remove(0);
    match run(&mode, &Args(args)) {
        Ok(report) => {
            println!("{}", report.to_json());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("load: {problem}");
            ExitCode::from(2)
        }
    }
}
