//! Admin tokens: their digests, never their text.

use policy::key::Digest;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Change, from_sql, to_sql};
use crate::fault::Fault;
use crate::table::Role;

/// An admin token of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Its id, `adm_` and 22 characters, in the order of time.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// The team of a manager; nobody else has one.
    pub team: Option<String>,
    /// The last four characters of its text.
    pub last_four: String,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// Which token made it.
    pub created_by: String,
}

/// The token that has this digest.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn find(connection: &Connection, digest: &Digest) -> Result<Option<Admin>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, role, team, last_four, created_ms, created_by FROM admins
         WHERE digest = ?1",
    )?;
    Ok(statement.query_row([digest.as_bytes()], admin).optional()?)
}

/// The token of this id.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn get(connection: &Connection, id: &str) -> Result<Option<Admin>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, role, team, last_four, created_ms, created_by FROM admins WHERE id = ?1",
    )?;
    Ok(statement.query_row([id], admin).optional()?)
}

/// Tokens, the newest first, behind an id.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn list(connection: &Connection, after: Option<&str>, limit: u32) -> Result<Vec<Admin>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, role, team, last_four, created_ms, created_by FROM admins
         WHERE id < coalesce(?1, '~') ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after, limit], admin)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many owners there are.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn owners(connection: &Connection) -> Result<u32, Fault> {
    let count = "SELECT count(*) FROM admins WHERE role = 'owner'";
    Ok(connection.query_row(count, [], |row| row.get(0))?)
}

impl Change<'_> {
    /// Writes a new token.
    ///
    /// # Errors
    /// [`crate::fault::Code::Store`].
    pub fn insert_admin(&mut self, admin: &Admin, digest: &Digest) -> Result<(), Fault> {
        self.connection()
            .prepare_cached("INSERT INTO admins VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                admin.id,
                admin.name,
                admin.role.as_str(),
                admin.team,
                digest.as_bytes(),
                admin.last_four,
                to_sql(admin.created_ms),
                admin.created_by,
            ])?;
        Ok(())
    }

    /// Deletes a token.
    ///
    /// # Errors
    /// [`crate::fault::Code::Store`].
    pub fn delete_admin(&mut self, id: &str) -> Result<(), Fault> {
        self.connection().prepare_cached("DELETE FROM admins WHERE id = ?1")?.execute([id])?;
        Ok(())
    }
}

fn admin(row: &Row<'_>) -> rusqlite::Result<Admin> {
    let role: String = row.get(2)?;
    // The table has no other word; one would be the weakest role rather than the strongest.
    let role = Role::ALL.into_iter().find(|known| known.as_str() == role);
    Ok(Admin {
        id: row.get(0)?,
        name: row.get(1)?,
        role: role.unwrap_or(Role::Manager),
        team: row.get(3)?,
        last_four: row.get(4)?,
        created_ms: from_sql(row.get(5)?),
        created_by: row.get(6)?,
    })
}
