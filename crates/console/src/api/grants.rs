//! What may be handed on: nobody gives what the group above, or they themselves, do not have.
//!
//! Limits and budgets need no rule: those of every group above are counted too. What a key does not
//! restrict, the groups above restrict for it. So only what is said and cannot come true is
//! refused, and what would act beyond the key itself.

use policy::budget::OnExhausted;
use policy::directory::{GroupConfig, Kind, TermsConfig};
use policy::scope::Scope;
use rusqlite::Connection;
use serde_json::{Map, Value};

use crate::auth::{Desk, Reach};
use crate::fault::{Code, Fault};
use crate::store::groups;
use crate::terms::{Terms, scope};

/// A group by what it is and its id.
pub(super) type Above = (Kind, String);

/// The terms of a group and of every group above it, the nearest first. The first has to be within
/// reach: one that is not is as unknown as one that is not there.
///
/// # Errors
/// [`Code::InvalidField`] if there is no such group.
pub(super) fn above(
    desk: &Desk,
    connection: &Connection,
    first: Option<&Above>,
) -> Result<Vec<TermsConfig>, Fault> {
    let mut found = Vec::new();
    let mut next = first.cloned();
    let mut reach = &desk.reach;
    while let Some((kind, id)) = next {
        let stored = groups::get(connection, kind, reach, &id)?;
        let group = stored.map(|group| group.config());
        let group = group.or_else(|| {
            let group = desk.inner.live.file_group(kind, &id)?;
            sees(reach, kind, &id, &group).then_some(group)
        });
        let Some(group) = group else {
            let word = kind.word();
            return Err(Fault::field(word, format!("There is no such {word}.")));
        };
        found.push(group.terms);
        next = match (kind, group.team, group.org) {
            (Kind::User, Some(team), _) => Some((Kind::Team, team)),
            (Kind::User | Kind::Team, _, Some(org)) => Some((Kind::Org, org)),
            _ => None,
        };
        // What is above a group that may be seen counts, seen or not.
        reach = &Reach::All;
    }
    Ok(found)
}

/// Whether a group of the file is within reach, as the store decides it of its own.
pub(super) fn sees(reach: &Reach, kind: Kind, id: &str, group: &GroupConfig) -> bool {
    let team = if kind == Kind::Team { Some(id) } else { group.team.as_deref() };
    reach.team().is_none_or(|own| kind != Kind::Org && team == Some(own))
}

/// Whether terms may be given to somebody below these groups, by this caller.
///
/// # Errors
/// [`Code::BeyondGrant`] and [`Code::FieldNotAllowed`].
pub(super) fn check(
    desk: &Desk,
    terms: &Terms,
    changed: &Map<String, Value>,
    above: Vec<TermsConfig>,
) -> Result<(), Fault> {
    let own = terms.config();
    let budgets = own.budget.clone().unwrap_or_default().0;
    // A webhook is an address that Magpie itself calls: who may set one is who runs Magpie.
    let calls = changed.contains_key("budget") && budgets.iter().any(|it| it.webhook.is_some());
    if calls && desk.reach != Reach::All {
        let fault = Fault::new(Code::FieldNotAllowed, "A manager cannot set a webhook.");
        return Err(fault.param("budget"));
    }
    let expires = own.expires.map(|expiry| expiry.0);
    let mut inner = scope(own);
    for group in above {
        let ends = group.expires.map(|expiry| expiry.0);
        if let (Some(expires), Some(ends)) = (expires, ends)
            && expires > ends
        {
            return Err(beyond("expires"));
        }
        let outer = scope(group);
        inner = within(inner, &outer)?;
    }
    for budget in &budgets {
        if let OnExhausted::Downgrade(model) = &budget.on_exhausted
            && !inner.allows_model(model)
        {
            return Err(beyond("budget"));
        }
    }
    Ok(())
}

/// What is left of `inner` under `outer`; an error names the field in which it asks for more.
fn within(mut inner: Scope, outer: &Scope) -> Result<Scope, Fault> {
    let everything = Scope::default;
    let models = |scope: &Scope| Scope { models: scope.models.clone(), ..everything() };
    if inner.models.is_some() && !models(&inner).within(&models(outer)) {
        return Err(beyond("models"));
    }
    let operations = |scope: &Scope| Scope { operations: scope.operations, ..everything() };
    if inner.operations.is_some() && !operations(&inner).within(&operations(outer)) {
        return Err(beyond("operations"));
    }
    let allow = |scope: &Scope| Scope { allow: scope.allow.clone(), ..everything() };
    if !inner.allow.is_empty() && !allow(&inner).within(&allow(outer)) {
        return Err(beyond("allow"));
    }
    inner.models = inner.models.or_else(|| outer.models.clone());
    inner.operations = inner.operations.or(outer.operations);
    if inner.allow.is_empty() {
        inner.allow.clone_from(&outer.allow);
    }
    Ok(inner)
}

fn beyond(field: &str) -> Fault {
    let message = format!("`{field}` asks for more than the groups above have.");
    Fault::new(Code::BeyondGrant, message).param(field)
}
