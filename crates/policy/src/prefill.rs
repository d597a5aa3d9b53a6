//! How a provider is given the beginning of an answer to go on with.

use crate::edits::{EditPlan, RESERVED};

/// A provider's marks for the last message, of the role `assistant`, that it is to go on with; ready to
/// be spliced in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefill {
    /// Members of that message: name and JSON text.
    pub message: Vec<(Box<str>, Box<str>)>,
    /// Members of the request: name and JSON text.
    pub request: Vec<(Box<str>, Box<str>)>,
    /// The path of the base URL that takes them.
    pub base_path: Box<str>,
    /// What it answers begins with what it was given.
    pub repeats: bool,
}

/// Members of the message that are there already.
const OF_MESSAGE: [&str; 2] = ["role", "content"];
/// Members of the request that say how long the answer may be: they are made to fit what is left.
const OF_LENGTH: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// What is wrong with a prefill as written, in a sentence.
pub(crate) fn fault(written: &providers::Prefill) -> Option<String> {
    let taken = |name: &&String| OF_MESSAGE.contains(&name.as_str());
    if let Some(name) = written.message.keys().find(taken) {
        return Some(format!("`{name}` of the message is Magpie's to set"));
    }
    let taken = |name: &&String| [&RESERVED[..], &OF_LENGTH].concat().contains(&name.as_str());
    if let Some(name) = written.request.keys().find(taken) {
        return Some(format!("`{name}` of the request is Magpie's to set"));
    }
    let path = written.path.as_deref().filter(|path| !is_path(path))?;
    Some(format!("`{path}` is no path"))
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok() && !path.contains('?')
}

impl Prefill {
    /// Compiles what is written, for a provider whose base URL has this path. `knows_path` says
    /// whether a path that is written is there, too.
    pub(crate) fn compile(
        written: &providers::Prefill,
        base_path: &str,
        knows_path: bool,
    ) -> Option<Self> {
        let path = written.path.as_deref().map_or(base_path, |path| path.trim_end_matches('/'));
        (knows_path || path == base_path).then(|| Self {
            message: EditPlan::pairs(&written.message),
            request: EditPlan::pairs(&written.request),
            base_path: path.into(),
            repeats: written.repeats,
        })
    }
}
