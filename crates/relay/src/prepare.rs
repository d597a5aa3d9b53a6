//! From what a client sent to what a provider gets: the declared edits, and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use policy::{Route, Snapshot, UnknownModel};
use providers::StreamUsage;
use wire::envelope::{Duplicate, Malformed};
use wire::{Edit, Envelope, Kind, splice};

use crate::admit::Bound;
use crate::estimate;
use crate::fault::{Code, Fault};
use crate::intake::Operation;

/// A JSON request, understood as far as a relay has to.
pub(crate) struct Ask {
    /// Whether it wants a stream.
    pub(crate) stream: bool,
    /// Where it goes.
    pub(crate) route: Arc<Route>,
    /// The body for the provider.
    pub(crate) body: Bytes,
    /// What it may use.
    pub(crate) bound: Bound,
    /// The provider was asked for token counts that the client did not ask for: the extra chunk
    /// stays here.
    pub(crate) hide_usage: bool,
    /// It goes on with an answer that was begun elsewhere.
    pub(crate) resumes: bool,
}

impl Ask {
    /// The path of the base URL that it goes to.
    pub(crate) fn base_path(&self) -> &str {
        let provider = &self.route.provider;
        match provider.prefill.as_ref().filter(|_| self.resumes) {
            Some(prefill) => &prefill.base_path,
            None => &provider.base_path,
        }
    }
}

/// A JSON body, read as far as choosing a target takes.
pub(crate) struct Wish<'b> {
    pub(crate) body: &'b Bytes,
    pub(crate) envelope: Envelope<'b>,
    operation: Operation,
    /// The model that it names; empty if it names none.
    pub(crate) named: String,
    /// How many bytes it has, if it is forwarded without being understood.
    pub(crate) forwarded: Option<u64>,
    stream: bool,
}

impl<'b> Wish<'b> {
    /// Reads a body.
    pub(crate) fn read(body: &'b Bytes, operation: Operation) -> Result<Self, Fault> {
        let envelope = Envelope::scan(body).map_err(|fault| malformed(&fault))?;
        let named = text_field(&envelope, "model")?.unwrap_or_default();
        Ok(Self { body, envelope, operation, named, forwarded: None, stream: false })
    }

    /// Checks what does not depend on where it goes.
    pub(crate) fn check(&mut self) -> Result<(), Fault> {
        if self.forwarded.is_some() {
            return Ok(());
        }
        check_content(&self.envelope, self.operation)?;
        self.stream = bool_field(&self.envelope, "stream")?;
        Ok(())
    }

    /// What one target gets of it: the body with the edits of its route.
    pub(crate) fn ask(
        &self,
        route: &Arc<Route>,
        snapshot: &Snapshot,
        strict: bool,
    ) -> Result<Ask, Fault> {
        let Self { envelope, stream, .. } = self;
        let mut edits: Vec<Edit<'_>> = Vec::new();
        if *self.named != *route.upstream_model {
            edits.push(Edit::set("model", &*route.upstream_json));
        }
        let mut hide_usage = false;
        if self.operation.has_choices() {
            declared_edits(envelope, route, &mut edits)?;
            hide_usage = *stream && ask_for_usage(envelope, route, snapshot, &mut edits)?;
        }
        let body = match edits.is_empty() {
            true => self.body.clone(),
            false => Bytes::from(splice(envelope, &edits)),
        };
        let has_choices = self.operation.has_choices();
        let bound = match self.forwarded {
            Some(bytes) => estimate::opaque(bytes),
            None => estimate::bound(envelope, &body, route, has_choices, strict)
                .map_err(|fault| duplicate(&fault))?,
        };
        let route = Arc::clone(route);
        Ok(Ask { stream: *stream, route, body, bound, hide_usage, resumes: false })
    }
}

/// The path and query of a call.
pub(crate) fn target(
    base_path: &str,
    rest: &str,
    query: Option<&str>,
) -> Result<PathAndQuery, Fault> {
    let text = match query {
        Some(query) => format!("{base_path}{rest}?{query}"),
        None => format!("{base_path}{rest}"),
    };
    PathAndQuery::from_maybe_shared(Bytes::from(text))
        .map_err(|_| Fault::new(Code::InvalidPath, "The path cannot be forwarded."))
}

/// The fault for a model that nobody serves.
pub(crate) fn unknown_model(model: &str, unknown: &UnknownModel) -> Fault {
    Fault::new(Code::UnknownModel, unknown.told(model)).param("model")
}

pub(crate) fn malformed(fault: &Malformed) -> Fault {
    let mut message = fault.to_string();
    message[..1].make_ascii_uppercase();
    Fault::new(Code::InvalidJson, format!("{message}."))
}

fn duplicate(fault: &Duplicate) -> Fault {
    Fault::new(Code::DuplicateField, format!("`{}` stands twice in the body.", fault.name))
        .param(&fault.name)
}

fn wrong_kind(name: &str, wanted: &str, found: Kind) -> Fault {
    let message = format!("`{name}` has to be {wanted}, not {}.", found.noun());
    Fault::new(Code::InvalidField, message).param(name)
}

/// A field that is a text if it is there; null counts as absent.
pub(crate) fn text_field(envelope: &Envelope<'_>, name: &str) -> Result<Option<String>, Fault> {
    match envelope.get(name).map_err(|fault| duplicate(&fault))? {
        None => Ok(None),
        Some(value) if value.kind() == Kind::Null => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.into_owned())),
            None if value.kind() == Kind::String => {
                let message = format!("`{name}` is no valid text.");
                Err(Fault::new(Code::InvalidField, message).param(name))
            }
            None => Err(wrong_kind(name, "a string", value.kind())),
        },
    }
}

fn bool_field(envelope: &Envelope<'_>, name: &str) -> Result<bool, Fault> {
    match envelope.get(name).map_err(|fault| duplicate(&fault))? {
        None => Ok(false),
        Some(value) if value.kind() == Kind::Null => Ok(false),
        Some(value) => {
            value.as_bool().ok_or_else(|| wrong_kind(name, "true or false", value.kind()))
        }
    }
}

/// What an operation cannot do without.
fn check_content(envelope: &Envelope<'_>, operation: Operation) -> Result<(), Fault> {
    let (name, what) = match operation {
        Operation::Chat => ("messages", "the conversation so far"),
        Operation::Completion => ("prompt", "the text to go on from"),
        Operation::Embedding => ("input", "the text to embed"),
        _ => return Ok(()),
    };
    let missing = || {
        let message = format!("`{name}` ({what}) is missing.");
        Fault::new(Code::InvalidField, message).param(name)
    };
    let Some(value) = envelope.get(name).map_err(|fault| duplicate(&fault))? else {
        // Providers know a prompt by default, and multimodal embeddings by another name.
        return if operation == Operation::Chat { Err(missing()) } else { Ok(()) };
    };
    if operation == Operation::Chat {
        if value.kind() != Kind::Array {
            return Err(wrong_kind(name, "an array", value.kind()));
        }
        if value.is_empty() {
            let message = "`messages` is empty; it has to hold at least one message.";
            return Err(Fault::new(Code::InvalidField, message).param(name));
        }
    }
    Ok(())
}

fn declared_edits<'e>(
    envelope: &Envelope<'_>,
    route: &'e Route,
    edits: &mut Vec<Edit<'e>>,
) -> Result<(), Fault> {
    let plan = &route.edits;
    for (name, value) in &plan.force {
        envelope.get(name).map_err(|fault| duplicate(&fault))?;
        edits.push(Edit::set(&**name, &**value));
    }
    for (name, value) in &plan.defaults {
        if !envelope.has(name) {
            edits.push(Edit::set(&**name, &**value));
        }
    }
    edits.extend(plan.drop.iter().map(|name| Edit::remove(&**name)));
    Ok(())
}

const STREAM_OPTIONS: &str = "stream_options";

fn set_usage(edits: &mut Vec<Edit<'_>>) -> bool {
    edits.push(Edit::set(STREAM_OPTIONS, r#"{"include_usage":true}"#));
    true
}

/// Asks for the token counts of a stream if metering wants them and the client did not ask. Says
/// whether it did.
fn ask_for_usage(
    envelope: &Envelope<'_>,
    route: &Route,
    snapshot: &Snapshot,
    edits: &mut Vec<Edit<'_>>,
) -> Result<bool, Fault> {
    let options = envelope.get(STREAM_OPTIONS).map_err(|fault| duplicate(&fault))?;
    if !snapshot.meter_streams || route.provider.stream_usage == StreamUsage::NeverAsk {
        return Ok(false);
    }
    let options = match options {
        Some(value) if value.kind() == Kind::Object => value,
        None => return Ok(set_usage(edits)),
        Some(value) if value.kind() == Kind::Null => return Ok(set_usage(edits)),
        // Not what it has to be: the provider shall say so, not Magpie repair it.
        Some(_) => return Ok(false),
    };
    // The scan of the whole has checked it, so the inner scan cannot fail.
    let inner = Envelope::scan(options.raw()).map_err(|fault| malformed(&fault))?;
    let asked = inner.get("include_usage").map_err(|fault| duplicate(&fault))?;
    if asked.and_then(|value| value.as_bool()) == Some(true) {
        return Ok(false);
    }
    let changed = splice(&inner, &[Edit::set("include_usage", "true")]);
    edits.push(Edit::set(STREAM_OPTIONS, String::from_utf8_lossy(&changed).into_owned()));
    Ok(true)
}
