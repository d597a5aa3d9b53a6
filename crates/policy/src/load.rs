//! Reading the file: every problem at once, each with its place and a hint.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use serde::de::IgnoredAny;
use serde_saphyr::{Error, PropertySyntax};

use crate::config::Config;
use crate::names::nearest;
use crate::problem::{Place, Problem};

/// The environment, as a map, so that nothing here reads the process's own.
pub type Environment = BTreeMap<String, String>;

/// Problems found in one reading, above which the rest is left for the next.
pub(crate) const MAX_PROBLEMS: usize = 50;

/// Reads a configuration. `${NAME}` in values is taken from `environment`.
///
/// # Errors
/// Every [`Problem`] of form, in the order of the file. What the values mean is checked by
/// [`build`](crate::build()).
pub fn load(text: &str, environment: &Environment) -> Result<Config, Vec<Problem>> {
    let Readable { config, problems, .. } = Readable::of(text, environment);
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

/// What of a text can be read, and what of it cannot.
pub(crate) struct Readable {
    /// The configuration without the entries at fault; none if the rest cannot be told from them.
    pub(crate) config: Option<Config>,
    /// Every problem of form, in the order of the file.
    pub(crate) problems: Vec<Problem>,
    /// The lines of the entries at fault, from 1.
    pub(crate) blanked: BTreeSet<usize>,
}

impl Readable {
    /// Reads a text. A reader stops at the first fault; to find the next one, the entry at fault is
    /// blanked out and the file read again, until it reads.
    pub(crate) fn of(text: &str, environment: &Environment) -> Self {
        let original: Vec<&str> = text.split('\n').collect();
        let mut lines = original.clone();
        let mut blanked = BTreeSet::new();
        let mut problems = Vec::new();
        let torn = serde_saphyr::from_str::<IgnoredAny>(text).err();
        let mut torn = torn.filter(is_syntax).map(|fault| describe(&fault));
        let is_yaml = torn.is_none();
        let mut config = None;
        loop {
            match read(&lines.join("\n"), environment) {
                Ok(read) => {
                    config = Some(read);
                    break;
                }
                Err(fault) => {
                    // Blanking may tear what is written over several lines: that is not the file's.
                    if is_yaml && is_syntax(&fault) {
                        break;
                    }
                    if is_syntax(&fault) {
                        torn = None;
                    }
                    let problem = told(&fault, &lines, environment);
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
        // Where an entry at fault has no end that could be seen, the reader does not come to it.
        problems.extend(torn.filter(|_| config.is_none() || !blanked.is_empty()));
        problems.sort();
        Self { config, problems, blanked }
    }
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
    let Some(entry) = entry(lines, line) else { return Vec::new() };
    lines[entry.clone()].fill("");
    entry.map(|index| index + 1).collect()
}

/// The entry that begins on `line`, by the indexes of its lines.
pub(crate) fn entry(lines: &[&str], line: usize) -> Option<Range<usize>> {
    let first = line.checked_sub(1).filter(|index| *index < lines.len())?;
    if lines[first].trim().is_empty() {
        return None;
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
    (open == 0).then_some(first..end)
}

/// What the reader says where a value from the environment could be in its words: as good as
/// nothing, for all that stands beside one, too.
const HIDDEN: [&str; 4] = [
    "invalid interpolated scalar value",
    "an interpolated value",
    "an interpolated variant",
    "an interpolated field",
];

/// The problem in words. Beside a reference the reader hides what is wrong, and it takes every `$`
/// for one: so such an entry is read once more as it is written, in which nothing needs hiding.
fn told(fault: &Error, lines: &[&str], environment: &Environment) -> Problem {
    let problem = describe(fault);
    let line = usize::try_from(problem.place.line).unwrap_or(0);
    let Some(entry) = entry(lines, line) else { return problem };
    let written = lines[entry.clone()].join("\n");
    let is_hidden = HIDDEN.iter().any(|words| problem.message.contains(words));
    if !(is_hidden || written.contains('$')) || is_syntax(fault) || is_of_reference(fault) {
        return problem;
    }
    // Elsewhere the values count: what is wrong without them is not this entry's problem.
    let text = lines.iter().enumerate().map(|(index, line)| match entry.contains(&index) {
        true => (*line).to_owned(),
        false => in_place(line, environment),
    });
    let text: Vec<String> = text.collect();
    let options = serde_saphyr::options! { with_snippet: false };
    if let Err(plain) = serde_saphyr::from_str_with_options::<Config>(&text.join("\n"), options) {
        let plain = describe(&plain);
        // What speaks of a reference may be wrong about what it stands for.
        if plain.place == problem.place && !plain.message.contains("${") {
            return plain;
        }
    }
    if is_hidden { hidden(problem.place, &written) } else { problem }
}

/// Whether a reference itself is at fault.
fn is_of_reference(fault: &Error) -> bool {
    let fault = fault.without_snippet();
    matches!(fault, Error::PropertyRequiredButUnset { .. } | Error::InvalidPropertyName { .. })
}

/// The line with values in the place of references to them, as far as an option could need them to
/// be read: numbers, amounts, dates. A text will do as it is, and a secret is a text.
fn in_place(line: &str, environment: &Environment) -> String {
    const LONGEST: usize = 12;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let is_number = |value: &str| {
        value.len() <= LONGEST
            && value.starts_with(|first: char| first.is_ascii_digit())
            && value.chars().all(is_plain)
    };
    let mut out = line.to_owned();
    for (name, value) in environment.iter().filter(|_| line.contains("${")) {
        if is_number(value) || matches!(&**value, "true" | "false") {
            out = out.replace(&format!("${{{name}}}"), value);
        }
    }
    out
}

/// The problem of an entry of which nothing more can be said without telling what is in the
/// environment.
fn hidden(place: Place, written: &str) -> Problem {
    let named = written.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    let names: BTreeSet<String> = named.map(|(name, _)| format!("${{{name}}}")).collect();
    let message = match names.is_empty() {
        true => String::from("a value here is not what it has to be"),
        false => {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            format!("{names}, or a value beside it, is not what it has to be here")
        }
    };
    let hint = "values of the environment are not shown; write one out to see what is wrong";
    Problem::new(place, message, hint)
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
            Problem::new(place, format!("unknown option `{}`", shown(field)), hint)
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => Problem::new(
            place,
            format!("`{}` is not a value of this option", shown(variant)),
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
        other => {
            let message = first_line(&other.to_string());
            // A number, or a word that YAML reads as true or false, such as `no`.
            let is_text = ["expected a string", "expected `provider/model`"]
                .iter()
                .any(|wanted| message.contains(wanted));
            let hint = is_text.then(|| String::from("put it in quotes"));
            Problem { place, message, hint }
        }
    }
}

/// A text of the file on one line, and not all of it if it is long.
fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    text.replace(char::is_control, " ").chars().take(LONGEST).collect()
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
