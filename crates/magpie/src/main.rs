//! The binary: the command line, and the wiring of everything else.

mod admin;
mod alerts;
mod books;
mod callers;
mod checks;
mod cli;
mod commands;
mod configuration;
mod control;
mod data;
mod feedback;
mod jwks;
mod limits;
mod listener;
mod live;
mod local;
mod log;
mod measure;
mod office;
mod pages;
mod past;
mod reading;
mod recording;
mod reports;
mod service;
mod stalls;
mod tasks;
mod tokens;
mod unread;
mod upstream;
mod version;
mod watching;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use configuration::Source;

/// Small blocks come and go with every request; this allocator hands them out in a fraction of the
/// system's time. Tests bring one that counts.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let source = Source::find(cli.config);
    let result = match cli.command.unwrap_or(Command::Run) {
        Command::Run => control::run(source),
        Command::Check { file: None } => commands::check(&source),
        Command::Check { file } => commands::check(&Source::find(file)),
        Command::Providers => commands::providers(&source),
        Command::Models => commands::models(&source),
        Command::Explain(question) => commands::explain(&source, &question),
        Command::Chat { model, prompt } => commands::chat(&source, &model, &prompt),
        Command::Keys { command } => commands::keys(&source, command),
        Command::Usage(question) => commands::usage(&source, &question),
        Command::Ab(question) => commands::ab(&source, &question),
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
