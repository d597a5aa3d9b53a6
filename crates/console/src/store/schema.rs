//! The tables, and how older ones become today's.

use rusqlite::{Connection, TransactionBehavior};

use super::OpenError;

/// One step for each version of the tables; step n leads from version n to n + 1. A step that has
/// been released is never changed.
const STEPS: &[&str] = &["
    -- Orgs, teams and users. A user's team and a team's org may stand in the configuration file, so
    -- they are no foreign keys; whoever inserts looks there too.
    CREATE TABLE groups (
        kind TEXT NOT NULL CHECK (kind IN ('org', 'team', 'user')),
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        org TEXT,
        team TEXT,
        terms TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL,
        PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX groups_by_org ON groups (org) WHERE org IS NOT NULL;
    CREATE INDEX groups_by_team ON groups (team) WHERE team IS NOT NULL;

    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        org TEXT,
        team TEXT,
        user TEXT,
        last_four TEXT NOT NULL,
        terms TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL,
        revoked_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_org ON keys (org) WHERE org IS NOT NULL;
    CREATE INDEX keys_by_team ON keys (team) WHERE team IS NOT NULL;
    CREATE INDEX keys_by_user ON keys (user) WHERE user IS NOT NULL;

    -- A key has one digest that stays and, for the overlap of a rotation, others that end.
    CREATE TABLE digests (
        digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
        key TEXT NOT NULL REFERENCES keys (id),
        until_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX digests_by_key ON digests (key, until_ms);

    CREATE TABLE admins (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'auditor', 'manager')),
        team TEXT,
        digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
        last_four TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        CHECK ((role = 'manager') = (team IS NOT NULL))
    ) STRICT, WITHOUT ROWID;

    -- AUTOINCREMENT: a number is never given twice, so entries cut off at the end are missed.
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        actor TEXT NOT NULL,
        role TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        detail TEXT NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT;
    CREATE INDEX audit_by_target ON audit (target, seq);
    CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
    CREATE TRIGGER audit_stays BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"];

/// Brings the tables to this version.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    if done > STEPS.len() {
        return Err(OpenError::Newer { found });
    }
    for step in &STEPS[done..] {
        transaction.execute_batch(step)?;
    }
    let version = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()?;
    Ok(())
}
