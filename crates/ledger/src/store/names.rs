//! Names and combinations of names become numbers.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Result;
use crate::segment::{self, names};

/// Numbers remembered. Beyond it they are forgotten and looked up again.
const MAX_REMEMBERED: usize = 50_000;

/// Numbers known so far. Forgotten when a batch fails, since they may not have been stored.
#[derive(Default)]
pub(crate) struct Names {
    names: HashMap<Box<str>, u32>,
    /// By the names' bytes in the journal, so that nothing has to be taken apart.
    series: HashMap<Box<[u8]>, u32>,
}

impl Names {
    /// The number of a name; 0 for none.
    pub(crate) fn name(&mut self, connection: &Connection, text: &str) -> Result<u32> {
        if text.is_empty() {
            return Ok(0);
        }
        if let Some(&id) = self.names.get(text) {
            return Ok(id);
        }
        let find = "SELECT id FROM name WHERE text = ?1";
        let found = connection.prepare_cached(find)?.query_row([text], |row| row.get(0));
        let id = match found.optional()? {
            Some(id) => id,
            None => connection
                .prepare_cached("INSERT INTO name (text) VALUES (?1) RETURNING id")?
                .query_row([text], |row| row.get(0))?,
        };
        if self.names.len() >= MAX_REMEMBERED {
            self.names.clear();
        }
        self.names.insert(text.into(), id);
        Ok(id)
    }

    /// The number of a combination of names.
    pub(crate) fn series(&mut self, connection: &Connection, bytes: &[u8]) -> Result<u32> {
        match self.series.get(bytes) {
            Some(&id) => Ok(id),
            None => self.new_series(connection, bytes),
        }
    }

    /// A name by its number.
    pub(crate) fn text(connection: &Connection, id: u32) -> Result<String> {
        let text = "SELECT text FROM name WHERE id = ?1";
        Ok(connection.prepare_cached(text)?.query_row([id], |row| row.get(0))?)
    }

    /// The names of a combination, in the order of the columns.
    pub(crate) fn of_series(connection: &Connection, id: u32) -> Result<[String; 8]> {
        let text = "SELECT key, user, team, org, operation, model, provider, upstream_model
            FROM series WHERE id = ?1";
        let mut statement = connection.prepare_cached(text)?;
        let ids = statement.query_row([id], |row| {
            let mut ids = [0; 8];
            for (index, id) in ids.iter_mut().enumerate() {
                *id = row.get(index)?;
            }
            Ok(ids)
        })?;
        let mut names: [String; 8] = Default::default();
        for (name, id) in names.iter_mut().zip(ids) {
            *name = Self::text(connection, id)?;
        }
        Ok(names)
    }

    fn new_series(&mut self, connection: &Connection, bytes: &[u8]) -> Result<u32> {
        let mut ids = [0; 8];
        for (id, name) in ids.iter_mut().zip(in_order(&names(bytes))) {
            *id = self.name(connection, name)?;
        }
        let [who, user, team, org, operation, model, provider, upstream] = ids;
        let values = params![who, user, team, org, operation, model, provider, upstream];
        let find = "SELECT id FROM series WHERE key = ?1 AND user = ?2 AND team = ?3 AND org = ?4
            AND operation = ?5 AND model = ?6 AND provider = ?7 AND upstream_model = ?8";
        let found = connection.prepare_cached(find)?.query_row(values, |row| row.get(0));
        let id = match found.optional()? {
            Some(id) => id,
            None => connection
                .prepare_cached(
                    "INSERT INTO series
                        (key, user, team, org, operation, model, provider, upstream_model)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING id",
                )?
                .query_row(values, |row| row.get(0))?,
        };
        if self.series.len() >= MAX_REMEMBERED {
            self.series.clear();
        }
        self.series.insert(bytes.into(), id);
        Ok(id)
    }
}

/// Names in the order of the columns.
fn in_order<'a>(names: &segment::Names<'a>) -> [&'a str; 8] {
    let who = names.who;
    [
        who.key.unwrap_or_default(),
        who.user.unwrap_or_default(),
        who.team.unwrap_or_default(),
        who.org.unwrap_or_default(),
        names.operation,
        names.model,
        names.provider,
        names.upstream_model,
    ]
}
