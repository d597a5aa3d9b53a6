//! What an entry of the audit log means for a process that did not write it.

use policy::directory::Kind;
use rusqlite::Connection;

use super::audit::Step;
use super::{groups, keys};
use crate::auth::Reach;
use crate::fault::Fault;
use crate::live::Effect;

/// What has to happen in memory for the target of a step to be as the store has it now; nothing for
/// a step that changed no caller.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn effect(connection: &Connection, step: &Step, now_ms: u64) -> Result<Option<Effect>, Fault> {
    let what = step.action.split('.').next().unwrap_or_default();
    let Some(kind) = Kind::CALLERS.into_iter().find(|kind| kind.word() == what) else {
        return Ok(None);
    };
    let put = match kind {
        Kind::Key => match keys::get(connection, &Reach::All, &step.target)? {
            Some(key) if key.revoked_ms.is_none() => {
                let digests = keys::digests(connection, &key.id, now_ms)?;
                Some(Effect::PutKey(Box::new(key.record(digests))))
            }
            _ => None,
        },
        _ => groups::get(connection, kind, &Reach::All, &step.target)?
            .map(|group| Effect::PutGroup(kind, group.id.clone(), Box::new(group.config()))),
    };
    Ok(Some(put.unwrap_or_else(|| Effect::Remove(kind, step.target.clone()))))
}
