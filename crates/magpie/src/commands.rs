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

/// So many things, in words.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// `magpie check FILE`
pub(crate) fn check(source: &Source) -> Outcome {
    match source.load() {
        Ok(snapshot) => {
            let warnings: String =
                snapshot.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            say(&format!(
                "{warnings}ok: {}, {}, default {}/{}\n",
                counted(snapshot.providers.len(), "provider"),
                counted(snapshot.models().len(), "model"),
                snapshot.default_route().provider.id,
                snapshot.default_route().upstream_model,
            ))
        }
        Err(problems) => {
            let count = counted(problems.len(), "problem");
            say(&format!("{}{count}\n", source.report(&problems)))?;
            Ok(ExitCode::from(2))
        }
    }
}

/// `magpie providers`
pub(crate) fn providers(source: &Source) -> Outcome {
    let snapshot = load(source)?;
    let profiles = providers::builtin().map_err(|fault| fault.to_string())?;
    let url = |profile: &providers::Profile| {
        profile.base_url.clone().unwrap_or_else(|| String::from("(to be set)"))
    };
    let width = profiles.iter().map(|(_, profile)| url(profile).len()).max().unwrap_or_default();
    let mut text =
        format!("{:<18} {:<3} {:<width$} {}\n", "PROVIDER", "SET", "BASE URL", "VARIABLES");
    for (id, profile) in &profiles {
        let set = snapshot.providers.iter().any(|provider| provider.profile == *id);
        let env = &profile.env;
        let from = if env.key.is_empty() { &env.base_url } else { &env.key };
        let from = if from.is_empty() { String::from("-") } else { from.join(", ") };
        let mark = if set { "yes" } else { "" };
        text.push_str(&format!("{id:<18} {mark:<3} {:<width$} {from}\n", url(profile)));
    }
    text.push_str(
        "\nA provider is served when one of its variables is set. <NAME>_BASE_URL gives it another\n\
         address, as XINGHE_BASE_URL does for xinghe; one that needs no key is set up by it alone.\n",
    );
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
