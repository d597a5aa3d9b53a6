//! Being told that files change.

use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::log::note;

/// The folder that a file is in.
pub(crate) fn folder(file: &Path) -> Option<PathBuf> {
    Some(std::path::absolute(file).ok()?.parent()?.to_owned())
}

/// Says when something happens in a folder, as long as the watcher lives. A rename over a file, as
/// editors and Kubernetes do it, is not seen by watching the file itself.
pub(crate) fn watch(
    mut folders: Vec<PathBuf>,
    changed: mpsc::Sender<()>,
) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        // A full queue means that a look is due anyway.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = changed.try_send(());
        }
    };
    let cannot = |what: &str, fault: &dyn std::fmt::Display| {
        note(&format!("cannot watch {what}: {fault}; send SIGHUP after a change"));
    };
    let mut watcher = match notify::recommended_watcher(told) {
        Ok(watcher) => watcher,
        Err(fault) => {
            cannot("files", &fault);
            return None;
        }
    };
    folders.sort();
    folders.dedup();
    for folder in folders {
        if let Err(fault) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            cannot(&folder.display().to_string(), &fault);
        }
    }
    Some(watcher)
}
