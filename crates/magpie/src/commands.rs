//! The commands beside `run`.

use std::io::{self, Write};
use std::process::ExitCode;

use policy::Snapshot;

use crate::configuration::Source;
use crate::version::VERSION;

mod ab;
mod chat;
mod explain;
mod keys;
mod usage;

pub(crate) use ab::{AbQuestion, ab};
pub(crate) use chat::chat;
pub(crate) use explain::{Question, explain};
pub(crate) use keys::{KeysCommand, keys};
pub(crate) use usage::{UsageQuestion, usage};

type Outcome = Result<ExitCode, String>;

/// Writes to standard output. A reader that has gone (`| head`) is no failure.
fn say(text: &str) -> Outcome {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(fault) => Err(fault.to_string()),
    }
}

fn load(source: &Source) -> Result<Snapshot, String> {
    let load = source.load();
    load.map_err(|problems| format!("the configuration has problems\n{}", source.report(&problems)))
}

/// `magpie check FILE`
pub(crate) fn check(source: &Source) -> Outcome {
    match source.load() {
        Ok(snapshot) => {
            let warnings: String =
                snapshot.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            say(&format!(
                "{warnings}ok: {} providers, {} models, default {}/{}\n",
                snapshot.providers.len(),
                snapshot.models().len(),
                snapshot.default_route().provider.id,
                snapshot.default_route().upstream_model,
            ))
        }
        Err(problems) => {
            let count = problems.len();
            let noun = if count == 1 { "problem" } else { "problems" };
            say(&format!("{}{count} {noun}\n", source.report(&problems)))?;
            Ok(ExitCode::from(2))
        }
    }
}

/// `magpie providers`
pub(crate) fn providers(source: &Source) -> Outcome {
    let snapshot = load(source)?;
    let profiles = providers::builtin().map_err(|fault| fault.to_string())?;
    let mut text = format!("{:<18} {:<3} {:<34} {}\n", "PROVIDER", "SET", "KEY FROM", "BASE URL");
    for (id, profile) in &profiles {
        let set = snapshot.providers.iter().any(|provider| provider.profile == *id);
        let from = match profile.env.key.is_empty() {
            true => String::from("-"),
            false => profile.env.key.join(", "),
        };
        let mark = if set { "yes" } else { "" };
        let base_url = profile.base_url.as_deref().unwrap_or("(to be set)");
        text.push_str(&format!("{id:<18} {mark:<3} {from:<34} {base_url}\n"));
    }
    say(&text)
}

/// `magpie models`
pub(crate) fn models(source: &Source) -> Outcome {
    let snapshot = load(source)?;
    let default = snapshot.default_route();
    let mut text = format!("default -> {}/{}\n", default.provider.id, default.upstream_model);
    for (name, _) in snapshot.models() {
        if let Ok(route) = snapshot.route(name) {
            let target = format!("{}/{}", route.provider.id, route.upstream_model);
            match target == *name {
                true => text.push_str(&format!("{name}\n")),
                false => text.push_str(&format!("{name} -> {target}\n")),
            }
        }
    }
    say(&text)
}

/// `magpie schema`
pub(crate) fn schema() -> Outcome {
    let schema = serde_json::to_string_pretty(&policy::config::schema());
    say(&format!("{}\n", schema.map_err(|fault| fault.to_string())?))
}

/// `magpie version`
pub(crate) fn version() -> Outcome {
    say(&format!("magpie {VERSION}\n"))
}
