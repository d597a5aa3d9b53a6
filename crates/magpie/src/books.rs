//! What lasts longer than a request: the data folder with its ledger and its store of keys, and the
//! directory of callers that is filled from them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ledger::{Estimate, Ledger, Opening, Options, Tokens};
use policy::config::Sync;
use policy::directory::Directory;
use policy::{Settings, Snapshot};
use relay::Gate;
use tokio::time::Instant;

use crate::callers::apply_file;
use crate::data::{self, Data, pepper};
use crate::jwks::Jwks;
use crate::log::note;
use crate::past::Past;
use crate::tokens::TokenDesk;

/// How often a journal with `sync: interval` is forced to the disk.
const SYNC_EVERY: Duration = Duration::from_millis(100);

/// See the [module](self).
pub(crate) struct Books {
    pub(crate) gate: Arc<Gate>,
    pub(crate) jwks: Arc<Jwks>,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) data: Option<Data>,
    pub(crate) past: Arc<Past>,
}

impl Books {
    /// Opens what there is, brings back what a run before left, and fills the directory.
    ///
    /// # Errors
    /// A sentence, if something that the owner asked for cannot be used.
    pub(crate) fn open(snapshot: &Arc<ArcSwap<Snapshot>>) -> Result<Self, String> {
        let now = snapshot.load();
        let data = Data::open(&now.settings)?;
        let elsewhere = now.settings.data.as_deref().filter(|_| data.is_none());
        let is_guarded = elsewhere.is_some_and(has_stored_keys);
        let folder = data.as_ref().map(Data::folder);
        let pepper = pepper(folder)?;
        let ledger = match folder {
            Some(folder) if now.settings.ledger.enabled => Some(open_ledger(folder, &now)?),
            _ => None,
        };
        let directory = Arc::new(Directory::default());
        if is_guarded {
            // The folder has keys that cannot be read now: nobody gets in for want of them.
            directory.guard();
        }
        apply_file(&directory, &now.callers, &pepper);
        let jwks = Arc::new(Jwks::new());
        jwks.set(&now.issuers);
        let epoch = Instant::now();
        let tokens =
            TokenDesk::new(Arc::clone(snapshot), Arc::clone(&directory), Arc::clone(&jwks), epoch);
        let gate = Arc::new(Gate { epoch, directory, pepper, tokens: Some(Arc::new(tokens)) });
        let database = ledger.as_ref().map(|ledger| ledger.database().to_owned());
        let past = Arc::new(Past::new(database, Arc::clone(snapshot)));
        Ok(Self { gate, jwks, ledger, data, past })
    }
}

impl Books {
    /// Ends in good order, after the workers have.
    pub(crate) fn close(self) {
        if let Some(ledger) = self.ledger {
            ledger.close();
        }
    }
}

fn open_ledger(folder: &Path, snapshot: &Snapshot) -> Result<Ledger, String> {
    // For the owner alone, whatever the folder lets others see.
    data::make(&folder.join("journal"))?;
    data::touch(&folder.join("ledger.db"))?;
    let settings: &Settings = &snapshot.settings;
    let mut options = Options::new(folder);
    options.sync = match settings.ledger.sync {
        Sync::None => ledger::Sync::None,
        Sync::Interval => ledger::Sync::Interval(SYNC_EVERY),
        Sync::Always => ledger::Sync::Always,
    };
    options.retention.attempts = Some(settings.ledger.keep_days);
    let mut estimate = |opening: &Opening<'_>| estimate(opening, snapshot);
    let opened = Ledger::open(&options, &mut estimate);
    let (ledger, recovered) = opened.map_err(|fault| format!("the ledger: {fault}"))?;
    if recovered.lost > 0 {
        let lost = recovered.lost;
        note(&format!("{lost} requests were under way when Magpie ended; they are in the ledger"));
    }
    if recovered.damaged_bytes > 0 {
        let bytes = recovered.damaged_bytes;
        note(&format!("{bytes} bytes of the journal could not be read: the end of it was torn"));
    }
    Ok(ledger)
}

/// What a request that was under way when the process died is taken to have used: its input, as
/// estimated, at today's price. It costs what was reserved for it, if that was: what it has cost is
/// not known, and a budget that must hold has to hold over a crash.
fn estimate(opening: &Opening<'_>, snapshot: &Snapshot) -> Estimate {
    if opening.reserved.is_some() {
        return Estimate::reserved(opening);
    }
    let input = opening.input_estimate;
    let usage = wire::Usage { input, ..wire::Usage::default() };
    let price = snapshot.provider(opening.provider).and_then(|it| it.price(opening.upstream_model));
    let charge = price.map(|price| price.charge(&usage, opening.at_ms));
    let lines = charge.iter().flat_map(|charge| &charge.lines);
    Estimate {
        tokens: Tokens { input, ..Tokens::default() },
        charge: charge.as_ref().map(|it| (it.money.nanos, it.money.currency.code().to_owned())),
        lines: lines
            .map(|line| (line.bucket.word().to_owned(), line.count, line.nanos_per_million))
            .collect(),
    }
}

/// Whether the store in a data folder has keys that work.
pub(crate) fn has_stored_keys(folder: &Path) -> bool {
    console::store::keys::exist(&folder.join("settings.db"))
}
