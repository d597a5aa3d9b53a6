//! The admin API of this process, as far as it has one.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use console::Console;
use policy::directory::Directory;
use policy::{Settings, Snapshot};
use tokio::sync::{mpsc, oneshot};

use crate::admin;
use crate::books::Books;
use crate::callers::{apply_store, follow};
use crate::configuration::Source;
use crate::listener::Tls;
use crate::live::{Reloaded, Running};
use crate::measure::Measure;
use crate::past::Past;
use crate::reports::LedgerReports;

/// The admin API and its listener. Without a data folder there is neither.
pub(crate) struct Office {
    console: Option<Console>,
    listener: Option<TcpListener>,
    tls: Option<Tls>,
}

impl Office {
    /// Opens the store, fills the directory from it, and binds the listener.
    ///
    /// # Errors
    /// A sentence, if something that the owner asked for cannot be used.
    pub(crate) fn open(
        settings: &Settings,
        books: &Books,
        snapshot: &Arc<ArcSwap<Snapshot>>,
        source: &Source,
        measure: Arc<Measure>,
        reload: mpsc::Sender<oneshot::Sender<Reloaded>>,
    ) -> Result<Self, String> {
        let Some(data) = &books.data else {
            return Ok(Self { console: None, listener: None, tls: None });
        };
        let gate = &books.gate;
        let live = Running {
            directory: Arc::clone(&gate.directory),
            snapshot: Arc::clone(snapshot),
            source: source.clone(),
            past: Arc::clone(&books.past),
            epoch: gate.epoch,
            measure,
            reload,
        };
        let reports = LedgerReports::new(books.ledger.as_ref());
        let listener = settings.admin.as_ref().map(admin::bind).transpose()?.flatten();
        let tls = settings.admin.as_ref().and_then(|admin| admin.tls.as_ref());
        let tls = tls.map(|tls| Tls::open(tls, Some(data.folder()))).transpose();
        let tls = tls.map_err(|fault| format!("admin.tls: {fault}"))?;
        let admin = settings.admin.as_ref().filter(|_| listener.is_some());
        let (pepper, live, reports) = (gate.pepper.clone(), Arc::new(live), Arc::new(reports));
        let metrics = settings.metrics.clone();
        let console = admin::open(data, admin, metrics, pepper, live, reports)?;
        apply_store(&gate.directory, console.store())?;
        Ok(Self { console: Some(console), listener, tls })
    }

    /// Where the admin API listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Serves the admin API, and follows the store, until the runtime ends.
    pub(crate) fn begin(self, directory: Arc<Directory>, past: Arc<Past>) {
        let Some(console) = self.console else { return };
        tokio::spawn(follow(directory, console.clone(), past));
        if let Some(tls) = &self.tls {
            tokio::spawn(tls.clone().keep());
        }
        if let Some(listener) = self.listener {
            tokio::spawn(admin::serve(listener, self.tls, console));
        }
    }
}
