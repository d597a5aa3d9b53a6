//! `cargo xtask bench`: what the gateway costs, beside nginx and beside no gateway at all.
//!
//! Gateway on core 0, upstream and load generator on core 1; rounds interleaved; medians. CPU
//! time is the scheduler's own count (ns), summed over the gateway's processes and threads.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool that prints a table")]

mod gateway;
mod process;
mod report;
mod scenario;

use std::path::{Path, PathBuf};
use std::process::Command;

use gateway::{Kind, Mock};
use report::Results;
use scenario::Plan;

const USAGE: &str = "\
usage: cargo xtask bench [--quick] [--gate] [--no-build] [--rounds N] [--only NAME,NAME]
  --quick      one short round
  --gate       fail when magpie costs more than it may, or anything went wrong
  --no-build   use the programs that are there
  --rounds N   default 3
  --only ...   some of direct, nginx, magpie, team, wide";

/// A machine that is busier than this before a round gives times that mean little.
const QUIET: f64 = 0.1;

/// How the bench is run.
#[derive(Debug)]
struct Options {
    quick: bool,
    gate: bool,
    build: bool,
    rounds: usize,
    kinds: Vec<Kind>,
}

/// Where things are.
#[derive(Debug)]
pub(crate) struct Places {
    /// The release programs.
    pub(crate) programs: PathBuf,
    /// For configurations and logs; removed at the end.
    pub(crate) scratch: PathBuf,
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options =
        Options { quick: false, gate: false, build: true, rounds: 3, kinds: Kind::ALL.to_vec() };
    let mut rounds = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg}: a value is missing\n{USAGE}"));
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--gate" => options.gate = true,
            "--no-build" => options.build = false,
            "--rounds" => rounds = Some(value()?.parse().map_err(|_| USAGE.to_owned())?),
            "--only" => {
                let names = value()?.split(',').map(Kind::named);
                options.kinds = names.collect::<Option<_>>().ok_or_else(|| USAGE.to_owned())?;
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    options.rounds = rounds.unwrap_or(if options.quick { 1 } else { 3 }).max(1);
    Ok(options)
}

/// Runs the bench.
///
/// # Errors
/// When a program is missing or fails, and with `--gate` when a limit is exceeded.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let mut options = options(args)?;
    let root = root()?;
    if options.build {
        build(&root)?;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| root.join("target"));
    let scratch = std::env::temp_dir().join(format!("magpie-bench-{}", std::process::id()));
    let places = Places { programs: target.join("release"), scratch };
    options.kinds.retain(|kind| match kind.missing(&places) {
        Some(hint) => {
            eprintln!("bench: without {}: {hint}", kind.name());
            false
        }
        None => true,
    });
    if options.kinds.is_empty() {
        return Err("nothing left to measure".to_owned());
    }
    std::fs::create_dir_all(&places.scratch).map_err(|error| error.to_string())?;
    let results = measure(&options, &places);
    let _ = std::fs::remove_dir_all(&places.scratch);
    let results = results?;
    println!("{}", results.table());
    let file = target.join("bench").join("last.json");
    results.save(&file)?;
    eprintln!("bench: also in {}", file.display());
    verdict(&options, &results)
}

/// Tells what went wrong and which limits are exceeded; the latter fail only with `--gate`.
fn verdict(options: &Options, results: &Results) -> Result<(), String> {
    let failed = match options.gate || results.can_check() {
        true => results.failed_limits(),
        false => Vec::new(),
    };
    for line in results.problems.iter().chain(&failed) {
        eprintln!("bench: {line}");
    }
    if !results.problems.is_empty() {
        return Err(format!("{} scenario(s) went wrong", results.problems.len()));
    }
    if options.gate && !failed.is_empty() {
        return Err(format!("{} limit(s) failed", failed.len()));
    }
    Ok(())
}

/// The folder of the workspace.
fn root() -> Result<PathBuf, String> {
    match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => {
            let parent = Path::new(&dir).parent();
            parent.map(Path::to_path_buf).ok_or_else(|| "xtask has no parent folder".to_owned())
        }
        None => std::env::current_dir().map_err(|error| error.to_string()),
    }
}

fn build(root: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "-p", "magpie", "-p", "testkit"])
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err("the build failed".to_owned()) }
}

/// All rounds over all gateways, interleaved.
fn measure(options: &Options, places: &Places) -> Result<Results, String> {
    let plan = if options.quick { Plan::quick() } else { Plan::full() };
    let mock = Mock::start(places)?;
    let mut results = Results::new(options.kinds.clone(), options.rounds);
    for round in 1..=options.rounds {
        for kind in &options.kinds {
            eprintln!("bench: round {round} of {}: {}", options.rounds, kind.name());
            let busy = process::busy_share();
            if busy > QUIET {
                eprintln!("bench: something else keeps the machine {:.0} % busy", busy * 100.0);
            }
            results.busiest = results.busiest.max(busy);
            let (figures, problems) = scenario::round(*kind, &plan, places, &mock)?;
            results.problems.extend(problems);
            results.add(*kind, figures);
        }
    }
    Ok(results)
}
