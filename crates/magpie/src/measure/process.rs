//! What the process uses, under the names that all exporters have for it. Linux says so in `/proc`;
//! elsewhere only the start is told.

use std::fs;
use std::time::SystemTime;

use metrics::catalogue as all;
use metrics::{Exposition, Family};

use crate::limits::open_files;

/// In how many parts of a second Linux tells processor time, on every platform that there is.
const TICKS: u64 = 100;

/// Tells what the process uses.
pub(super) fn tell(told: &mut Exposition, started: SystemTime) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may hold anything; what follows it is numbers.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number)?.parse::<u64>().ok();
    if let (Some(user), Some(system)) = (field(11), field(12)) {
        let seconds = (user + system) as f64 / TICKS as f64;
        told.family(&all::CPU).sample(&[], seconds);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let files = open_files().and_then(|files| u64::try_from(files).ok());
    // The folder itself is open while it is looked through.
    let open = fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1));
    let gauges: [(&'static Family, Option<u64>); 5] = [
        (&all::RESIDENT, resident.map(|kib| kib * 1024)),
        (&all::VIRTUAL, field(20)),
        (&all::OPEN_FILES, open),
        (&all::MOST_FILES, files),
        (&all::THREADS, field(17)),
    ];
    for (family, value) in gauges {
        if let Some(value) = value {
            told.family(family).sample(&[], value);
        }
    }
    let since = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    told.family(&all::STARTED).sample(&[], since.as_secs_f64());
}
