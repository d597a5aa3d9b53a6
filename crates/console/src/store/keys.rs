//! Keys: their digests, never their text.

use std::collections::HashMap;

use policy::directory::{KeyRecord, TermsConfig};
use policy::key::Digest;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

use super::{Change, from_sql, to_sql};
use crate::auth::Reach;
use crate::fault::Fault;
use crate::terms::Terms;

/// Texts of terms that are remembered while all keys are read.
const KNOWN_TERMS: usize = 1_000;

/// The digests of a key, and until when each is good, in Unix milliseconds; `None` for as long as
/// the key is.
pub type Digests = Vec<(Digest, Option<u64>)>;

/// A key of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its id, `key_` and 22 characters, in the order of time.
    pub id: String,
    /// For people.
    pub name: String,
    /// The org it belongs to, if it belongs to an org directly.
    pub org: Option<String>,
    /// The team it belongs to, if it belongs to a team directly.
    pub team: Option<String>,
    /// The user it belongs to.
    pub user: Option<String>,
    /// The last four characters of its text.
    pub last_four: String,
    /// What it may do.
    pub terms: Terms,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was changed last, in Unix milliseconds.
    pub updated_ms: u64,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_ms: Option<u64>,
}

impl Key {
    /// As the directory takes it, with its digests.
    #[must_use]
    pub fn record(&self, digests: Digests) -> KeyRecord {
        KeyRecord {
            id: self.id.clone(),
            name: self.name.clone(),
            digests,
            user: self.user.clone(),
            team: self.team.clone(),
            org: self.org.clone(),
            terms: self.terms.config(),
        }
    }

    /// What the audit log compares.
    #[must_use]
    pub fn state(&self) -> Map<String, Value> {
        let mut state = self.terms.fields().clone();
        state.insert("name".into(), self.name.clone().into());
        state.insert("org".into(), self.org.clone().into());
        state.insert("team".into(), self.team.clone().into());
        state.insert("user".into(), self.user.clone().into());
        state
    }
}

/// Which keys are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this org directly.
    pub org: Option<String>,
    /// Only those of this team directly.
    pub team: Option<String>,
    /// Only those of this user.
    pub user: Option<String>,
    /// Only those that are revoked, or that are not.
    pub revoked: Option<bool>,
    /// Only those with this text in their name, in any case.
    pub search: Option<String>,
    /// Only those behind this id, which are older.
    pub after: Option<String>,
}

/// Keys within reach, the newest first.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn list(
    connection: &Connection,
    reach: &Reach,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<Key>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, org, team, user, last_four, terms, created_ms, updated_ms, revoked_ms
         FROM keys
         WHERE id < coalesce(?1, '~')
           AND (?2 IS NULL OR team = ?2
                OR user IN (SELECT id FROM groups WHERE kind = 'user' AND team = ?2))
           AND (?3 IS NULL OR org = ?3) AND (?4 IS NULL OR team = ?4)
           AND (?5 IS NULL OR user = ?5) AND (?6 IS NULL OR (revoked_ms IS NOT NULL) = ?6)
           AND (?7 IS NULL OR instr(lower(name), lower(?7)) > 0)
         ORDER BY id DESC LIMIT ?8",
    )?;
    let Filter { org, team, user, revoked, search, after } = filter;
    let rows = statement
        .query_map(params![after, reach.team(), org, team, user, revoked, search, limit], key)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A key within reach. One that is out of reach is not there.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn get(connection: &Connection, reach: &Reach, id: &str) -> Result<Option<Key>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, org, team, user, last_four, terms, created_ms, updated_ms, revoked_ms
         FROM keys
         WHERE id = ?1
           AND (?2 IS NULL OR team = ?2
                OR user IN (SELECT id FROM groups WHERE kind = 'user' AND team = ?2))",
    )?;
    Ok(statement.query_row(params![id, reach.team()], key).optional()?)
}

/// What a text names.
#[derive(Debug, Clone, PartialEq)]
pub enum Named<T = Key> {
    /// Nothing.
    None,
    /// This.
    One(T),
    /// Several of the same name.
    Several,
}

/// The key within reach that has this id, or else this name and is not revoked.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn named(connection: &Connection, reach: &Reach, wanted: &str) -> Result<Named, Fault> {
    if let Some(key) = get(connection, reach, wanted)? {
        return Ok(Named::One(key));
    }
    let mut statement = connection.prepare_cached(
        "SELECT id, name, org, team, user, last_four, terms, created_ms, updated_ms, revoked_ms
         FROM keys
         WHERE name = ?1 AND revoked_ms IS NULL
           AND (?2 IS NULL OR team = ?2
                OR user IN (SELECT id FROM groups WHERE kind = 'user' AND team = ?2))
         LIMIT 2",
    )?;
    let rows = statement.query_map(params![wanted, reach.team()], key)?;
    let mut found = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(match (found.pop(), found.pop()) {
        (None, _) => Named::None,
        (Some(key), None) => Named::One(key),
        (Some(_), Some(_)) => Named::Several,
    })
}

/// The digests of a key that are good at a time, in Unix milliseconds.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn digests(connection: &Connection, id: &str, now_ms: u64) -> Result<Digests, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT digest, until_ms FROM digests
         WHERE key = ?1 AND (until_ms IS NULL OR until_ms > ?2) ORDER BY until_ms IS NULL DESC",
    )?;
    let rows = statement.query_map(params![id, to_sql(now_ms)], |row| {
        let digest: [u8; 32] = row.get(0)?;
        let until: Option<i64> = row.get(1)?;
        Ok((Digest::from(digest), until.map(from_sql)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Hands every key that is not revoked to `each`, with its digests: for the directory at start.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn for_each(
    connection: &Connection,
    now_ms: u64,
    mut each: impl FnMut(KeyRecord),
) -> Result<(), Fault> {
    // Both in the order of ids, so that one pass over each will do.
    let mut keys = connection.prepare(
        "SELECT id, name, org, team, user, terms FROM keys
         WHERE revoked_ms IS NULL ORDER BY id",
    )?;
    let mut digests = connection.prepare(
        "SELECT key, digest, until_ms FROM digests INDEXED BY digests_by_key ORDER BY key",
    )?;
    // Many keys have the same terms; of a million, few texts have to be read.
    let mut known: HashMap<String, TermsConfig> = HashMap::new();
    let mut digests = digests.query([])?;
    let mut next = digest_of(digests.next()?)?;
    let mut rows = keys.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let mut own = Vec::with_capacity(1);
        while let Some((of, digest, until)) = next.take_if(|(of, ..)| **of <= *id) {
            if of == id && until.is_none_or(|until| until > now_ms) {
                own.push((digest, until));
            }
            next = digest_of(digests.next()?)?;
        }
        let text = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
        let terms = known.get(text).cloned().unwrap_or_else(|| {
            let terms = Terms::config_of(text);
            if known.len() < KNOWN_TERMS {
                known.insert(text.to_owned(), terms.clone());
            }
            terms
        });
        each(KeyRecord {
            id,
            name: row.get(1)?,
            digests: own,
            user: row.get(4)?,
            team: row.get(3)?,
            org: row.get(2)?,
            terms,
        });
    }
    Ok(())
}

type OwnDigest = (String, Digest, Option<u64>);

fn digest_of(row: Option<&Row<'_>>) -> Result<Option<OwnDigest>, Fault> {
    let Some(row) = row else { return Ok(None) };
    let digest: [u8; 32] = row.get(1)?;
    let until: Option<i64> = row.get(2)?;
    Ok(Some((row.get(0)?, Digest::from(digest), until.map(from_sql))))
}

impl Change<'_> {
    /// Writes a key, new or changed.
    ///
    /// # Errors
    /// [`crate::fault::Code::Store`].
    pub fn put_key(&mut self, key: &Key) -> Result<(), Fault> {
        let mut statement = self.connection().prepare_cached(
            "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, terms = excluded.terms,
                last_four = excluded.last_four, updated_ms = excluded.updated_ms,
                revoked_ms = excluded.revoked_ms",
        )?;
        statement.execute(params![
            key.id,
            key.name,
            key.org,
            key.team,
            key.user,
            key.last_four,
            key.terms.to_text(),
            to_sql(key.created_ms),
            to_sql(key.updated_ms),
            key.revoked_ms.map(to_sql),
        ])?;
        Ok(())
    }

    /// Gives a key a digest that is good as long as the key is. Those it has end no later than
    /// `others_until_ms`; those that have ended are forgotten.
    ///
    /// # Errors
    /// [`crate::fault::Code::Store`].
    pub fn add_digest(
        &mut self,
        key: &str,
        digest: &Digest,
        others_until_ms: u64,
    ) -> Result<(), Fault> {
        let connection = self.connection();
        connection
            .prepare_cached(
                "UPDATE digests SET until_ms = min(coalesce(until_ms, ?2), ?2) WHERE key = ?1",
            )?
            .execute(params![key, to_sql(others_until_ms)])?;
        connection
            .prepare_cached("DELETE FROM digests WHERE key = ?1 AND until_ms <= ?2")?
            .execute(params![key, to_sql(self.at_ms)])?;
        connection
            .prepare_cached("INSERT INTO digests VALUES (?1, ?2, NULL)")?
            .execute(params![digest.as_bytes(), key])?;
        Ok(())
    }

    /// Forgets the digests of a key, which nobody can use then.
    ///
    /// # Errors
    /// [`crate::fault::Code::Store`].
    pub fn forget_digests(&mut self, key: &str) -> Result<(), Fault> {
        self.connection().prepare_cached("DELETE FROM digests WHERE key = ?1")?.execute([key])?;
        Ok(())
    }
}

fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    let terms: String = row.get(6)?;
    let revoked: Option<i64> = row.get(9)?;
    Ok(Key {
        id: row.get(0)?,
        name: row.get(1)?,
        org: row.get(2)?,
        team: row.get(3)?,
        user: row.get(4)?,
        last_four: row.get(5)?,
        terms: Terms::stored(&terms),
        created_ms: from_sql(row.get(7)?),
        updated_ms: from_sql(row.get(8)?),
        revoked_ms: revoked.map(from_sql),
    })
}

/// Whether the store at this path is there and has a key that is not revoked.
#[must_use]
pub fn exist(path: &std::path::Path) -> bool {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let found = Connection::open_with_flags(path, flags).and_then(|connection| {
        let sql = "SELECT EXISTS (SELECT 1 FROM keys WHERE revoked_ms IS NULL)";
        connection.query_row(sql, [], |row| row.get(0))
    });
    found.unwrap_or(false)
}

/// Whether there ever was a key.
///
/// # Errors
/// [`crate::fault::Code::Store`].
pub fn ever(connection: &Connection) -> Result<bool, Fault> {
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM keys)", [], |row| row.get(0))?)
}
