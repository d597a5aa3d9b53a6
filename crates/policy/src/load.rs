//! Reading the file: every problem at once, each with its place and a hint.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_saphyr::Error;

use crate::config::Config;
use crate::names::nearest;
use crate::problem::{Place, Problem};

/// The environment, as a map, so that nothing here reads the process's own.
pub type Environment = BTreeMap<String, String>;

/// Problems found in one reading, above which the rest is left for the next.
const MAX_PROBLEMS: usize = 50;

/// Reads a configuration. `${NAME}` in values is taken from `environment`.
///
/// A reader stops at the first fault; to find the next one, the entry at fault is blanked out and
/// the file read again, until it reads.
///
/// # Errors
/// Every [`Problem`] of form, in the order of the file. What the values mean is checked by
/// [`build`](crate::build()).
pub fn load(text: &str, environment: &Environment) -> Result<Config, Vec<Problem>> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let mut blanked = BTreeSet::new();
    let mut problems = Vec::new();
    loop {
        match read(&lines.join("\n"), environment) {
            Ok(config) if problems.is_empty() => return Ok(config),
            Ok(_) => break,
            Err(fault) => {
                let problem = describe(&fault);
                let place = problem.place;
                let line = usize::try_from(place.line).unwrap_or(0);
                // An entry that lost all its members reads as null: our doing, not the file's.
                if !blanked.contains(&(line + 1)) {
                    problems.push(problem);
                }
                let gone = blank(&mut lines, line);
                if gone.is_empty() || problems.len() >= MAX_PROBLEMS || is_syntax(&fault) {
                    break;
                }
                blanked.extend(gone);
            }
        }
    }
    problems.sort();
    Err(problems)
}

fn read(text: &str, environment: &Environment) -> Result<Config, Error> {
    let properties: HashMap<String, String> = environment
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let options = serde_saphyr::options! { with_snippet: false }.with_properties(properties);
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Config::default());
    }
    serde_saphyr::from_str_with_options(text, options)
}

/// Blanks the entry that begins on `line` (from 1), with everything indented under it. Says which
/// lines it took.
fn blank(lines: &mut [&str], line: usize) -> Vec<usize> {
    let Some(first) = line.checked_sub(1).filter(|index| *index < lines.len()) else {
        return Vec::new();
    };
    if lines[first].trim().is_empty() {
        return Vec::new();
    }
    let indent = |text: &str| text.len() - text.trim_start().len();
    let depth = indent(lines[first]);
    let mut gone = vec![line];
    lines[first] = "";
    for (index, text) in lines.iter_mut().enumerate().skip(first + 1) {
        if !text.trim().is_empty() && indent(text) <= depth {
            break;
        }
        *text = "";
        gone.push(index + 1);
    }
    gone
}

/// Whether the text is no YAML at all, so that reading on makes no sense.
fn is_syntax(fault: &Error) -> bool {
    matches!(
        fault.without_snippet(),
        Error::ExternalMessage { .. } | Error::Eof { .. }
    )
}

fn describe(fault: &Error) -> Problem {
    let fault = fault.without_snippet();
    let place = fault.location().map_or(Place::NONE, |at| Place {
        line: at.line(),
        column: at.column(),
    });
    match fault {
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            let near = nearest(field, expected.iter().copied(), 1);
            let hint = match near.first() {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known here: {}", expected.join(", ")),
            };
            Problem::new(place, format!("unknown option `{field}`"), hint)
        }
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => Problem::new(
            place,
            format!("`{variant}` is not a value of this option"),
            format!("one of: {}", expected.join(", ")),
        ),
        Error::UnresolvedProperty { name, .. } => Problem::new(
            place,
            format!("the environment variable {name} is not set"),
            format!("export {name}=..., or give a fallback: ${{{name}:-text}}"),
        ),
        other => Problem {
            place,
            message: first_line(&other.to_string()),
            hint: None,
        },
    }
}

/// The message without the place that the reader appends to it.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    match line.rfind(" at line ") {
        Some(cut) => line[..cut].to_owned(),
        None => line.to_owned(),
    }
}
