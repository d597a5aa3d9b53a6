//! The scripted upstream as a program, for tests in other languages and for benches.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its interface")]

use std::process::ExitCode;

use testkit::{Options, ScriptedUpstream};

const USAGE: &str = "\
usage: scripted-upstream [--port N] [--no-record]
  --port N      the port on 127.0.0.1; 0, the default, takes a free one
  --no-record   keep no requests; the scripts ok, events and timed become much cheaper
The first line on stdout is the base URL, http://127.0.0.1:PORT/v1.
Control: GET /__record, DELETE /__record, POST /__script, DELETE /__script, GET /__stats.";

fn options() -> Option<Options> {
    let mut options = Options::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--port" => options.port = args.next()?.parse().ok()?,
            "--no-record" => options.record = false,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let upstream = ScriptedUpstream::start_with(options);
    println!("{}", upstream.base_url());
    upstream.run_forever();
    ExitCode::SUCCESS
}
