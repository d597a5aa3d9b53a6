//! Where the configuration comes from: a file, or nothing but the environment.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use policy::{Environment, Place, Problem, Snapshot};

use crate::books::has_stored_keys;

/// The file that is read when none is named.
const USUAL: &str = "magpie.yaml";
/// The largest file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// A configuration that can be read again.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The file, if there is one.
    pub(crate) path: Option<PathBuf>,
    environment: Environment,
}

impl Source {
    /// The named file, else `./magpie.yaml` if it is there, else the environment alone.
    pub(crate) fn find(named: Option<PathBuf>) -> Self {
        let usual = || Some(PathBuf::from(USUAL)).filter(|path| path.exists());
        // Variables that are no text cannot be meant.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { path: named.or_else(usual), environment }
    }

    /// The text of the file; empty without one.
    ///
    /// # Errors
    /// One problem, if the file cannot be read.
    pub(crate) fn text(&self) -> Result<String, Vec<Problem>> {
        let Some(path) = &self.path else {
            return Ok(String::new());
        };
        let unreadable = |fault: std::io::Error| {
            let hint = "name another file with --config, or leave it out";
            vec![Problem::new(Place::NONE, format!("cannot be read: {fault}"), hint)]
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_BYTES {
            let message = format!("is {size} bytes large; at most {MAX_BYTES} are read");
            return Err(vec![Problem::new(Place::NONE, message, "is it the right file?")]);
        }
        std::fs::read_to_string(path).map_err(unreadable)
    }

    /// Reads, checks and resolves a text.
    ///
    /// # Errors
    /// Every problem of it.
    pub(crate) fn resolve(&self, text: &str) -> Result<Snapshot, Vec<Problem>> {
        let profiles = providers::builtin()
            .map_err(|fault| vec![Problem::new(Place::NONE, fault.to_string(), "rebuild")])?;
        policy::resolve(text, &profiles, &self.environment, &has_stored_keys)
    }

    /// Reads the file and resolves it.
    ///
    /// # Errors
    /// Every problem of it.
    pub(crate) fn load(&self) -> Result<Snapshot, Vec<Problem>> {
        self.resolve(&self.text()?)
    }

    /// Problems as lines of `file:line:column: message`, as editors read them.
    pub(crate) fn report(&self, problems: &[Problem]) -> String {
        let file = self.path.as_deref().unwrap_or(Path::new("environment")).display();
        let mut report = String::new();
        for problem in problems {
            let Place { line, column } = problem.place;
            // Writing to a String cannot fail.
            let _ = match problem.place {
                Place::NONE => writeln!(report, "{file}: {problem}"),
                _ => writeln!(report, "{file}:{line}:{column}: {problem}"),
            };
        }
        report
    }
}
