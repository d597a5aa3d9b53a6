//! Reading the configuration again while it is in use.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use policy::directory::Origin;
use policy::{Problem, Settings};
use tokio::time::sleep;

use crate::callers::apply_file;
use crate::checks::Checks;
use crate::commands::counted;
use crate::configuration::Source;
use crate::jwks::Jwks;
use crate::live::Reloaded;
use crate::log::note;
use crate::past::Past;
use crate::worker::Shared;

/// Editors write a file in several steps: how long to wait for the last one.
pub(crate) const SETTLE: Duration = Duration::from_millis(100);
/// How often a file that goes on changing is looked at before it is taken as it is.
const LOOKS: usize = 10;

/// What a new configuration takes the place of.
pub(crate) struct Reading {
    pub(crate) source: Source,
    /// Those that the process was started with.
    pub(crate) settings: Settings,
    pub(crate) shared: Shared,
    pub(crate) jwks: Arc<Jwks>,
    pub(crate) past: Arc<Past>,
    pub(crate) checks: Arc<Checks>,
}

impl Reading {
    /// The text of the file for whoever asks that it be read now, which may be while it is written:
    /// it is looked at until it stays the same.
    ///
    /// # Errors
    /// One problem, if the file cannot be read.
    pub(crate) async fn whole(&self) -> Result<String, Vec<Problem>> {
        let mut text = self.source.text();
        for _ in 0..LOOKS {
            sleep(SETTLE).await;
            let now = self.source.text();
            if now == text {
                break;
            }
            text = now;
        }
        text
    }

    /// Swaps the configuration whole, or keeps the one there is. `current` is the text that was
    /// looked at last.
    ///
    /// # Errors
    /// The problems of the new one.
    pub(crate) fn again(
        &self,
        text: Result<String, Vec<Problem>>,
        current: &mut String,
    ) -> Reloaded {
        let read = self.read(text, current);
        self.shared.measure.reloads.note(read.is_ok());
        read
    }

    fn read(&self, text: Result<String, Vec<Problem>>, current: &mut String) -> Reloaded {
        let read = text.and_then(|text| {
            current.clone_from(&text);
            self.source.resolve(&text)
        });
        let mut snapshot = match read {
            Ok(snapshot) => snapshot,
            Err(problems) => {
                note("the new configuration is not used, the one before stays:");
                let report = self.source.report(&problems);
                let _ = io::stderr().write_all(report.as_bytes());
                return Err(report.lines().map(str::to_owned).collect());
            }
        };
        let before = self.shared.snapshot.load_full();
        let fixed = |settings: &Settings| Settings { grace: Duration::ZERO, ..settings.clone() };
        if fixed(&snapshot.settings) != fixed(&self.settings)
            || snapshot.limits.connections != before.limits.connections
        {
            note(
                "listen, tls, admin, metrics, data, ledger, workers, log and limits.connections \
                 take a restart",
            );
        }
        for warning in &snapshot.warnings {
            note(&format!("warning: {warning}"));
        }
        let (models, providers) = (snapshot.models().len(), snapshot.providers.len());
        snapshot.inherit(&before);
        let gate = &self.shared.gate;
        apply_file(&gate.directory, &snapshot.callers, &gate.pepper);
        let snapshot = Arc::new(snapshot);
        let of_file = gate.directory.holders();
        let of_file = of_file.iter().filter(|holder| holder.terms().origin == Origin::File);
        of_file.chain(snapshot.holders()).for_each(|holder| self.past.catch_up(holder));
        self.shared.snapshot.store(Arc::clone(&snapshot));
        // After it: what is verified under the new keys has to be of an issuer that is still named.
        self.jwks.set(&snapshot.issuers);
        self.shared.tls.forget();
        self.checks.read_again();
        let (providers, models) = (counted(providers, "provider"), counted(models, "model"));
        note(&format!("configuration read: {providers}, {models}"));
        Ok(())
    }
}
