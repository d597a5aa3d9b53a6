//! Reading the file: every problem at once, each with its place and a hint.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::de::IgnoredAny;
use serde_saphyr::{Error, PropertySyntax};

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
    let original: Vec<&str> = text.split('\n').collect();
    let mut lines = original.clone();
    let mut blanked = BTreeSet::new();
    let mut problems = Vec::new();
    let is_yaml = serde_saphyr::from_str::<IgnoredAny>(text).is_ok();
    loop {
        match read(&lines.join("\n"), environment) {
            Ok(config) if problems.is_empty() => return Ok(config),
            Ok(_) => break,
            Err(fault) => {
                // Blanking may tear what is written over several lines: that is not the file's.
                if is_yaml && is_syntax(&fault) {
                    break;
                }
                let problem = describe(&fault);
                let line = usize::try_from(problem.place.line).unwrap_or(0);
                // Nor is an entry that lost all its members and reads as null.
                if !next_entry(&original, line).is_some_and(|next| blanked.contains(&next)) {
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
    let properties: HashMap<String, String> =
        environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    // The one syntax that reads quoted texts too.
    let options = serde_saphyr::options! {
        with_snippet: false,
        property_syntax: PropertySyntax::DockerCompose,
    }
    .with_properties(properties);
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Config::default());
    }
    serde_saphyr::from_str_with_options(&strict(text, environment), options)
}

/// The text in the reader's syntax of references, which takes `$NAME` for one as well, and reads
/// one to a variable that is not set as nothing: here the one is text, and the other a fault.
fn strict(text: &str, environment: &Environment) -> String {
    let is_name = |text: &str| text.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            out.push('$');
            rest = behind;
        } else if let Some((name, behind)) = rest.strip_prefix('{').and_then(|r| r.split_once('}'))
        {
            if is_name(name) && !environment.contains_key(name) {
                out.push_str(&format!("{{{name}?}}"));
                rest = behind;
            }
        } else if !rest.starts_with('{') {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The line of the first entry behind `line`, both from 1.
fn next_entry(lines: &[&str], line: usize) -> Option<usize> {
    let is_entry = |text: &&str| !text.trim().is_empty() && !text.trim_start().starts_with('#');
    let behind = lines.get(line..)?;
    Some(line + 1 + behind.iter().position(is_entry)?)
}

/// Blanks the entry that begins on `line` (from 1) with all that belongs to it: what is indented
/// under it, the items of its list, the rest of its brackets. Says which lines it took; none if
/// they cannot be told from what stays.
fn blank(lines: &mut [&str], line: usize) -> Vec<usize> {
    let Some(first) = line.checked_sub(1).filter(|index| *index < lines.len()) else {
        return Vec::new();
    };
    if lines[first].trim().is_empty() {
        return Vec::new();
    }
    let indent = |text: &str| text.len() - text.trim_start().len();
    let is_item = |text: &str| text.trim_start().starts_with('-');
    let (depth, begins_item) = (indent(lines[first]), is_item(lines[first]));
    let mut open = 0;
    let mut end = first;
    for (index, text) in lines.iter().enumerate().skip(first) {
        let belongs = index == first
            || open > 0
            || text.trim().is_empty()
            || indent(text) > depth
            || (indent(text) == depth && is_item(text) && !begins_item);
        if !belongs {
            break;
        }
        open += text.matches(['[', '{']).count() as i64 - text.matches([']', '}']).count() as i64;
        end = index + 1;
    }
    if open != 0 {
        return Vec::new();
    }
    lines[first..end].fill("");
    (first + 1..=end).collect()
}

/// Whether the text is no YAML at all, so that reading on makes no sense.
fn is_syntax(fault: &Error) -> bool {
    matches!(
        fault.without_snippet(),
        Error::ExternalMessage { .. } | Error::Eof { .. } | Error::MultipleDocuments { .. }
    )
}

fn describe(fault: &Error) -> Problem {
    let fault = fault.without_snippet();
    let place =
        fault.location().map_or(Place::NONE, |at| Place { line: at.line(), column: at.column() });
    match fault {
        Error::SerdeUnknownField { field, expected, .. } => {
            let near = nearest(field, expected.iter().copied(), 1);
            let hint = match near.first() {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known here: {}", expected.join(", ")),
            };
            Problem::new(place, format!("unknown option `{field}`"), hint)
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => Problem::new(
            place,
            format!("`{variant}` is not a value of this option"),
            format!("one of: {}", expected.join(", ")),
        ),
        Error::PropertyRequiredButUnset { name, .. } => Problem::new(
            place,
            format!("the environment variable {name} is not set"),
            format!("export {name}=..., or give a fallback: ${{{name}:-text}}"),
        ),
        Error::InvalidPropertyName { .. } => Problem::new(
            place,
            "`${` begins no reference to an environment variable",
            "write ${NAME}, or $${ for the text ${",
        ),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            Problem::new(place, format!("`{key}` stands twice"), "keep one of them")
        }
        Error::MultipleDocuments { .. } => {
            Problem::new(place, "a second document begins here", "remove the `---`")
        }
        Error::Unexpected { expected, .. } => wrong_kind(place, expected),
        Error::InvalidScalar { ty, .. } => wrong_kind(place, ty),
        other => Problem { place, message: first_line(&other.to_string()), hint: None },
    }
}

/// A value of a wrong kind; `wanted` is the reader's word for the right one.
fn wrong_kind(place: Place, wanted: &str) -> Problem {
    let (message, hint) = match wanted {
        "mapping start" => ("this has to be a mapping", "write `name: value`, one a line"),
        "sequence start" => ("this has to be a list", "write [a, b], or `- a`, one a line"),
        "string scalar" => ("this has to be a text", "write one value"),
        "boolean" => ("this has to be true or false", "write true or false"),
        "u64" | "u16" => ("this has to be a whole number", "write digits only"),
        other => (other, "see the documentation of this option"),
    };
    Problem::new(place, message, hint)
}

/// The message without the place that the reader appends to it.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    match line.rfind(" at line ") {
        Some(cut) => line[..cut].to_owned(),
        None => line.to_owned(),
    }
}
