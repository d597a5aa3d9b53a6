//! The binary: the command line, and the wiring of everything else.

mod cli;
mod commands;
mod configuration;
mod control;
mod limits;
mod local;
mod log;
mod pages;
mod service;
mod stalls;
mod upstream;
mod version;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use configuration::Source;

/// Small blocks come and go with every request; this allocator hands them out in a fraction of the
/// system's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let source = Source::find(cli.config);
    let result = match cli.command.unwrap_or(Command::Run) {
        Command::Run => control::run(source),
        Command::Check { file } => commands::check(&Source::find(Some(file))),
        Command::Providers => commands::providers(&source),
        Command::Models => commands::models(&source),
        Command::Chat { model, prompt } => commands::chat(&source, &model, &prompt),
        Command::Schema => commands::schema(),
        Command::Version => commands::version(),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            log::note(&message);
            ExitCode::FAILURE
        }
    }
}
