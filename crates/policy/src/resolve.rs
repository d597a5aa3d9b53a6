//! From a text to the snapshot: every problem at once, of form and of meaning.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use ::providers::Profile;

use crate::build::build_beside;
use crate::load::{Environment, MAX_PROBLEMS, Readable, entry};
use crate::problem::{Place, Problem};
use crate::snapshot::Snapshot;

/// Reads a text and builds its snapshot, beside a store as in [`build_beside`].
///
/// # Errors
/// Every [`Problem`] of form; and of what reads all the same, every one of meaning that cannot come
/// from what does not. In the order of the file, fifty at most.
pub fn resolve(
    text: &str,
    profiles: &[(String, Profile)],
    environment: &Environment,
    has_keys: &dyn Fn(&Path) -> bool,
) -> Result<Snapshot, Vec<Problem>> {
    let Readable { config, mut problems, blanked } = Readable::of(text, environment);
    let Some(config) = config else { return Err(problems) };
    let built = build_beside(&config, profiles, environment, has_keys);
    if problems.is_empty() {
        return built;
    }
    let gaps = Gaps::new(text, blanked);
    problems.extend(built.err().into_iter().flatten().filter(|problem| !gaps.may_explain(problem)));
    problems.sort();
    problems.truncate(MAX_PROBLEMS);
    Err(problems)
}

/// What is missing from a configuration that was read without the entries at fault.
struct Gaps<'t> {
    lines: Vec<&'t str>,
    /// The lines that are missing, from 1.
    blanked: BTreeSet<usize>,
    /// The words that stand in them.
    words: BTreeSet<&'t str>,
}

impl<'t> Gaps<'t> {
    fn new(text: &'t str, blanked: BTreeSet<usize>) -> Self {
        let lines: Vec<&str> = text.split('\n').collect();
        let missing = blanked.iter().filter_map(|line| lines.get(line.checked_sub(1)?));
        let words = missing.flat_map(|line| words(line)).collect();
        Self { lines, blanked, words }
    }

    /// Whether a problem of meaning may be there only because something is missing: that has no
    /// place, whose place has lost a part, or that speaks of what is missing.
    fn may_explain(&self, problem: &Problem) -> bool {
        let Some(stands) = self.stands(problem.place) else { return true };
        let lost = stands.into_iter().any(|index| self.blanked.contains(&(index + 1)));
        let told = [Some(problem.message.as_str()), problem.hint.as_deref()];
        let quoted = told.into_iter().flatten().flat_map(|text| text.split('`').skip(1).step_by(2));
        lost || quoted.flat_map(words).any(|word| self.words.contains(word))
    }

    /// The lines of the entry that a place belongs to, by their indexes. A mapping that is written
    /// in lines of its own has the place of its first member: then it is what stands above.
    fn stands(&self, place: Place) -> Option<Range<usize>> {
        let line = usize::try_from(place.line).ok()?;
        let text = self.lines.get(line.checked_sub(1)?)?;
        let depth = indent(text);
        if depth == 0 || place.column != depth as u64 + 1 {
            return entry(&self.lines, line);
        }
        let above = self.lines[..line - 1].iter().rposition(|text| {
            let text = text.split('#').next().unwrap_or_default();
            !text.trim().is_empty() && indent(text) < depth
        });
        entry(&self.lines, above? + 1)
    }
}

fn indent(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// Names and numbers in a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.split(move |c| !is_part(c)).filter(|word| !word.is_empty())
}
