//! How many connections the process can hold.

/// Client connections if nothing else is said and the process may open enough files.
const USUAL: usize = 10_000;

/// The most client connections: what is configured, but no more than the process's file
/// descriptors allow, for each may need another one to a provider.
pub(crate) fn max_connections(configured: Option<usize>) -> usize {
    let affordable = open_files().map_or(USUAL, |files| files / 100 * 45);
    configured.unwrap_or(USUAL).min(affordable).max(16)
}

/// The soft limit on open files, where the system says it (Linux).
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
