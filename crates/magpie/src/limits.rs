//! How many connections the process can hold, and how many it does.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use crate::log::note;

/// Client connections if nothing else is said and the process may open enough files.
const USUAL: usize = 10_000;
/// Those that are taken however few files the process may open.
const LEAST: usize = 16;

/// The connections of clients, in all workers.
pub(crate) struct Connections {
    /// Those that are open.
    pub(crate) open: AtomicUsize,
    /// The most of them.
    pub(crate) most: usize,
    /// Those that were turned away, because there were too many.
    pub(crate) turned_away: AtomicU64,
}

impl Connections {
    /// None yet, and at most as many as are configured, but no more than the process's file
    /// descriptors allow, for each may need another one to a provider. If that is fewer than were
    /// asked for, the owner is told.
    pub(crate) fn new(configured: Option<usize>) -> Self {
        let affordable = open_files().map_or(usize::MAX, |files| (files / 100 * 45).max(LEAST));
        let most = configured.unwrap_or(USUAL).min(affordable);
        if let Some(configured) = configured.filter(|configured| *configured > most) {
            note(&format!(
                "warning: limits.connections is {configured}, but the limit on open files (`ulimit \
                 -n`) leaves room for {most}"
            ));
        }
        Self { open: AtomicUsize::new(0), most, turned_away: AtomicU64::new(0) }
    }
}

/// The soft limit on open files, where the system says it (Linux).
pub(crate) fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
