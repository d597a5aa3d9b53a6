//! Processes pinned to a core, and what the kernel tells of them.

use std::collections::HashMap;
use std::fs::{File, read_dir, read_to_string};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Raises the limit of open files as far as is allowed and needed, then runs the rest.
const RAISE: &str = "ulimit -n 20000 2>/dev/null || ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"";

/// A running process with its children. It is ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

/// How a process is started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) core: usize,
    pub(crate) program: &'a Path,
    pub(crate) args: &'a [String],
    pub(crate) dir: &'a Path,
    /// The file for its error output (and its output, unless `piped`), within `dir`.
    pub(crate) log: &'a str,
    pub(crate) piped: bool,
}

impl Process {
    pub(crate) fn start(start: &Start<'_>) -> Result<Self, String> {
        let problem = |error: std::io::Error| format!("{}: {error}", start.program.display());
        let log = File::create(start.dir.join(start.log)).map_err(problem)?;
        let copy = log.try_clone().map_err(problem)?;
        let child = Command::new("sh")
            .args(["-c", RAISE, "sh", "taskset", "-c", &start.core.to_string()])
            .arg(start.program)
            .args(start.args)
            .current_dir(start.dir)
            .stdin(Stdio::null())
            .stdout(if start.piped { Stdio::piped() } else { copy.into() })
            .stderr(log)
            .spawn()
            .map_err(problem)?;
        Ok(Self { child })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The process and everything that descends from it.
    pub(crate) fn tree(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(parent) = parent_of(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut tree = vec![self.child.id()];
        let mut at = 0;
        while at < tree.len() {
            tree.extend(children.remove(&tree[at]).unwrap_or_default());
            at += 1;
        }
        tree
    }

    /// The CPU time in ns that all its threads have used.
    pub(crate) fn cpu_ns(&self) -> u64 {
        let mut total = 0;
        for pid in self.tree() {
            for task in read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let text = read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let first = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
                total += first.unwrap_or(0);
            }
        }
        total
    }

    /// Asks it to end, and ends it when it does not.
    pub(crate) fn stop(&mut self) {
        let tree = self.tree();
        signal("-TERM", &tree[..1]);
        let limit = Instant::now() + Duration::from_secs(3);
        while !self.ended() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Children outlive a parent that was ended by force; none does one that ended by itself.
        if !self.ended() {
            signal("-KILL", &tree);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended() {
            self.stop();
        }
    }
}

/// Which part of the machine's time was not idle during the next half second.
pub(crate) fn busy_share() -> f64 {
    let times = || -> Vec<u64> {
        let text = read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        line.split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect()
    };
    let before = times();
    std::thread::sleep(Duration::from_millis(500));
    let passed: Vec<u64> =
        times().iter().zip(&before).map(|(now, then)| now.saturating_sub(*then)).collect();
    // The fourth and the fifth are the time without work and that of waiting for a disk.
    let idle: u64 = passed.iter().skip(3).take(2).sum();
    let all: u64 = passed.iter().take(8).sum();
    if all == 0 { 0.0 } else { 1.0 - idle as f64 / all as f64 }
}

fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(name).args(pids).stderr(Stdio::null()).status();
}

fn parent_of(pid: u32) -> Option<u32> {
    let text = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may contain anything; the state and the parent follow it.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The resident memory in bytes of these processes together.
pub(crate) fn rss(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| rss_of(*pid)).sum()
}

fn rss_of(pid: u32) -> u64 {
    let text = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
