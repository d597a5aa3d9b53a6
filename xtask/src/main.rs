//! The project's chores, in its own language: `cargo xtask VERB`. What a person runs and what a
//! machine runs are the same verbs.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a terminal")]

mod bench;
mod generate;
mod prices;
mod run;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask VERB

  test [--only clients|rust]   every test, with what they need installed beside the build
  ci                           what has to pass before a change lands: format, lints, tidy, test
  gen [--check]                write the generated files, or only say whether they are fresh
  tidy                         the house rules
  deny                         licences, sources and advisories of what is built in, by cargo-deny
  prices --litellm FILE --models-dev FILE
                               the table of prices, from two public ones and prices.yaml
  bench [--quick] [--gate]     CPU, memory and delays beside nginx (see bench --help)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let flag = |name: &str| rest.iter().any(|arg| arg == name);
    let result = match args.first().map(String::as_str) {
        Some("test") => run::test(rest),
        Some("ci") => run::ci(),
        Some("gen") => generate::run(flag("--check")),
        Some("tidy") => tidy::run(),
        Some("deny") => run::deny(),
        Some("prices") => prices::run(rest),
        Some("bench") => bench::run(rest),
        _ => Err(String::from(USAGE)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the checkout.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}
