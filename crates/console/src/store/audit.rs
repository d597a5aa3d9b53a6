//! The audit log: who changed what. Append-only by triggers, and a chain of hashes by which a
//! later change to the file is found.
//!
//! An entry's hash is SHA-256 over the hash before it and the entry as canonical JSON (members
//! sorted, no spaces). The first follows 32 zero bytes.

use aws_lc_rs::digest;
use policy::key::hex;
use rusqlite::{Connection, OptionalExtension, Row, params};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Actor, from_sql, to_sql};
use crate::fault::Fault;

/// What stands before the first entry.
const START: [u8; 32] = [0; 32];

/// An entry of the audit log.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Entry {
    /// Its number, from 1.
    pub seq: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The admin token that did it.
    pub actor: String,
    /// Its role at that time.
    pub role: String,
    /// What was done, such as `key.create`.
    pub action: String,
    /// To what: an id.
    pub target: String,
    /// What changed. Never a key or a token.
    pub detail: Value,
    /// Its hash, in hexadecimal digits: note it elsewhere, and a log that was written anew is found.
    pub hash: String,
}

/// Whether the chain is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verification {
    /// Whether every entry is there, in order, and as it was written.
    pub whole: bool,
    /// How many entries were looked at.
    pub entries: u64,
    /// The first entry that is not what it should be.
    pub broken_at: Option<u64>,
    /// The hash of the last entry, in hexadecimal digits.
    pub head: String,
}

/// Adds an entry.
pub(super) fn append(
    connection: &Connection,
    at_ms: u64,
    actor: &Actor,
    action: &str,
    target: &str,
    detail: &Value,
) -> Result<(), Fault> {
    let mut text = String::new();
    canonical(detail, &mut text);
    // The number that comes next, even if the end of the log was cut off.
    let last: Option<i64> = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'audit'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let seq = last.unwrap_or_default() + 1;
    let previous: Option<[u8; 32]> = connection
        .prepare_cached("SELECT hash FROM audit ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let role = actor.role.as_str();
    let link = Link { seq, at_ms: to_sql(at_ms), actor: &actor.id, role, action, target };
    let hash = link.hash(&previous.unwrap_or(START), &text);
    connection
        .prepare_cached("INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![seq, link.at_ms, actor.id, role, action, target, text, hash])?;
    Ok(())
}

/// What an entry's hash is over, beside its detail.
struct Link<'e> {
    seq: i64,
    at_ms: i64,
    actor: &'e str,
    role: &'e str,
    action: &'e str,
    target: &'e str,
}

impl Link<'_> {
    /// The hash over the one before and the entry in canonical JSON, `detail` being that already.
    fn hash(&self, previous: &[u8; 32], detail: &str) -> [u8; 32] {
        let quoted = |text: &str| Value::from(text).to_string();
        let entry = format!(
            r#"{{"action":{},"actor":{},"at_ms":{},"detail":{detail},"role":{},"seq":{},"target":{}}}"#,
            quoted(self.action),
            quoted(self.actor),
            self.at_ms,
            quoted(self.role),
            self.seq,
            quoted(self.target),
        );
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(previous);
        context.update(entry.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

/// JSON with its members sorted by name, and no spaces.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those before this number.
    pub before: Option<u64>,
    /// Only what was done to this id.
    pub target: Option<String>,
    /// Only what this token did.
    pub actor: Option<String>,
}

/// Entries, the newest first.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn list(connection: &Connection, filter: &Filter, limit: u32) -> Result<Vec<Entry>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, at_ms, actor, role, action, target, detail, hash FROM audit
         WHERE seq < ?1 AND (?2 IS NULL OR target = ?2) AND (?3 IS NULL OR actor = ?3)
         ORDER BY seq DESC LIMIT ?4",
    )?;
    let before = filter.before.map_or(i64::MAX, to_sql);
    let entries =
        statement.query_map(params![before, filter.target, filter.actor, limit], entry)?;
    Ok(entries.collect::<Result<_, _>>()?)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let detail: String = row.get(6)?;
    let hash: Vec<u8> = row.get(7)?;
    Ok(Entry {
        seq: from_sql(row.get(0)?),
        at_ms: from_sql(row.get(1)?),
        actor: row.get(2)?,
        role: row.get(3)?,
        action: row.get(4)?,
        target: row.get(5)?,
        // Somebody wrote into the file; the entry is shown as it stands, and `verify` finds it.
        detail: serde_json::from_str(&detail).unwrap_or(Value::String(detail)),
        hash: hex(&hash),
    })
}

/// Reads the whole log and looks at every link.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn verify(connection: &Connection) -> Result<Verification, Fault> {
    let mut statement = connection.prepare(
        "SELECT seq, at_ms, actor, role, action, target, detail, hash FROM audit ORDER BY seq",
    )?;
    let mut rows = statement.query([])?;
    let (mut previous, mut entries, mut broken) = (START, 0_i64, None);
    while let Some(row) = rows.next()? {
        entries += 1;
        let (actor, role): (String, String) = (row.get(2)?, row.get(3)?);
        let (action, target): (String, String) = (row.get(4)?, row.get(5)?);
        let (seq, at_ms): (i64, i64) = (row.get(0)?, row.get(1)?);
        let link =
            Link { seq, at_ms, actor: &actor, role: &role, action: &action, target: &target };
        let detail: String = row.get(6)?;
        let hash: [u8; 32] = row.get(7)?;
        if (link.hash(&previous, &detail) != hash || seq != entries) && broken.is_none() {
            broken = Some(from_sql(entries.min(seq)));
        }
        previous = hash;
    }
    let given: Option<i64> = connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'audit'", [], |row| row.get(0))
        .optional()?;
    if given.unwrap_or_default() != entries && broken.is_none() {
        broken = Some(from_sql(entries + 1));
    }
    let head = hex(&previous);
    Ok(Verification {
        whole: broken.is_none(),
        entries: from_sql(entries),
        broken_at: broken,
        head,
    })
}

/// What differs between two states of a thing: only the members that changed, as `[from, to]`.
#[must_use]
pub fn difference(from: &Map<String, Value>, to: &Map<String, Value>) -> Value {
    let names = from.keys().chain(to.keys().filter(|name| !from.contains_key(*name)));
    let state = |of: &Map<String, Value>, name| of.get(name).cloned().unwrap_or(Value::Null);
    let changed = names.map(|name| (name, state(from, name), state(to, name)));
    let changed = changed.filter(|(_, before, after)| before != after);
    Value::Object(changed.map(|(name, from, to)| (name.clone(), json!([from, to]))).collect())
}

/// What an entry of the audit log changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub seq: u64,
    /// What was done, such as `key.create`.
    pub action: String,
    /// To what: an id.
    pub target: String,
}

/// The number of the last entry; 0 if there is none.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn last(connection: &Connection) -> Result<u64, Fault> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM audit")?;
    Ok(from_sql(statement.query_row([], |row| row.get(0))?))
}

/// What was changed after an entry, in order: at most 1,000 changes at a time.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn since(connection: &Connection, seq: u64) -> Result<Vec<Step>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, action, target FROM audit WHERE seq > ?1 ORDER BY seq LIMIT 1000",
    )?;
    let rows = statement.query_map([to_sql(seq)], |row| {
        Ok(Step { seq: from_sql(row.get(0)?), action: row.get(1)?, target: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
