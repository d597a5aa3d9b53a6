//! Orgs, teams and users.

use policy::directory::{GroupConfig, Kind};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

use super::{Change, from_sql, to_sql};
use crate::auth::Reach;
use crate::fault::Fault;
use crate::terms::Terms;

/// An org, team or user of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Which of them; never a key.
    pub kind: Kind,
    /// Its id, unique among its kind.
    pub id: String,
    /// For people.
    pub name: String,
    /// The org that it is in: of a team, or of a user without a team.
    pub org: Option<String>,
    /// The team that a user is in.
    pub team: Option<String>,
    /// What its members may do together.
    pub terms: Terms,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was changed last, in Unix milliseconds.
    pub updated_ms: u64,
}

impl Group {
    /// As the directory takes it.
    #[must_use]
    pub fn config(&self) -> GroupConfig {
        let (org, team) = (self.org.clone(), self.team.clone());
        GroupConfig { org, team, terms: self.terms.config() }
    }

    /// What the audit log compares.
    #[must_use]
    pub fn state(&self) -> Map<String, Value> {
        let mut state = self.terms.fields().clone();
        state.insert("name".into(), self.name.clone().into());
        state.insert("org".into(), self.org.clone().into());
        state.insert("team".into(), self.team.clone().into());
        state
    }
}

/// Which groups are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this org.
    pub org: Option<String>,
    /// Only those of this team.
    pub team: Option<String>,
    /// Only those with this text in their name, in any case.
    pub search: Option<String>,
    /// Only those behind this id.
    pub after: Option<String>,
}

/// Groups of a kind within reach, by id.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn list(
    connection: &Connection,
    kind: Kind,
    reach: &Reach,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<Group>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, id, name, org, team, terms, created_ms, updated_ms FROM groups
         WHERE kind = ?1 AND id > ?2
           AND (?3 IS NULL OR (kind = 'team' AND id = ?3) OR (kind = 'user' AND team = ?3))
           AND (?4 IS NULL OR org = ?4) AND (?5 IS NULL OR team = ?5)
           AND (?6 IS NULL OR instr(lower(name), lower(?6)) > 0)
         ORDER BY id LIMIT ?7",
    )?;
    let after = filter.after.as_deref().unwrap_or_default();
    let rows = statement.query_map(
        params![kind.word(), after, reach.team(), filter.org, filter.team, filter.search, limit],
        |row| group(kind, row),
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Hands every group to `each`: for the directory at start.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn for_each(connection: &Connection, mut each: impl FnMut(Group)) -> Result<(), Fault> {
    for kind in [Kind::Org, Kind::Team, Kind::User] {
        let mut statement = connection.prepare(
            "SELECT kind, id, name, org, team, terms, created_ms, updated_ms FROM groups
             WHERE kind = ?1 ORDER BY id",
        )?;
        for found in statement.query_map([kind.word()], |row| group(kind, row))? {
            each(found?);
        }
    }
    Ok(())
}

/// A group within reach. One that is out of reach is not there.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn get(
    connection: &Connection,
    kind: Kind,
    reach: &Reach,
    id: &str,
) -> Result<Option<Group>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, id, name, org, team, terms, created_ms, updated_ms FROM groups
         WHERE kind = ?1 AND id = ?2
           AND (?3 IS NULL OR (kind = 'team' AND id = ?3) OR (kind = 'user' AND team = ?3))",
    )?;
    let found = statement.query_row(params![kind.word(), id, reach.team()], |row| group(kind, row));
    Ok(found.optional()?)
}

/// Everything that is in it directly: groups, keys that are not revoked, and managers.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn is_empty(connection: &Connection, kind: Kind, id: &str) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT NOT EXISTS (SELECT 1 FROM groups WHERE (?1 = 'org' AND org = ?2)
                                                    OR (?1 = 'team' AND team = ?2))
            AND NOT EXISTS (SELECT 1 FROM keys WHERE revoked_ms IS NULL
                                                 AND ((?1 = 'org' AND org = ?2)
                                                   OR (?1 = 'team' AND team = ?2)
                                                   OR (?1 = 'user' AND user = ?2)))
            AND NOT EXISTS (SELECT 1 FROM admins WHERE ?1 = 'team' AND team = ?2)",
    )?;
    Ok(statement.query_row(params![kind.word(), id], |row| row.get(0))?)
}

impl Change<'_> {
    /// Writes a group, new or changed.
    ///
    /// # Errors
    /// [`crate::fault::Code::Store`].
    pub fn put_group(&mut self, group: &Group) -> Result<(), Fault> {
        let mut statement = self.connection().prepare_cached(
            "INSERT INTO groups VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, org = excluded.org,
                team = excluded.team, terms = excluded.terms, updated_ms = excluded.updated_ms",
        )?;
        statement.execute(params![
            group.kind.word(),
            group.id,
            group.name,
            group.org,
            group.team,
            group.terms.to_text(),
            to_sql(group.created_ms),
            to_sql(group.updated_ms),
        ])?;
        Ok(())
    }

    /// Deletes a group.
    ///
    /// # Errors
    /// [`crate::fault::Code::Store`].
    pub fn delete_group(&mut self, kind: Kind, id: &str) -> Result<(), Fault> {
        let delete = "DELETE FROM groups WHERE kind = ?1 AND id = ?2";
        self.connection().prepare_cached(delete)?.execute(params![kind.word(), id])?;
        Ok(())
    }
}

fn group(kind: Kind, row: &Row<'_>) -> rusqlite::Result<Group> {
    let terms: String = row.get(5)?;
    Ok(Group {
        kind,
        id: row.get(1)?,
        name: row.get(2)?,
        org: row.get(3)?,
        team: row.get(4)?,
        terms: Terms::stored(&terms),
        created_ms: from_sql(row.get(6)?),
        updated_ms: from_sql(row.get(7)?),
    })
}
