//! Which records a question is about.

use serde::{Deserialize, Serialize};

use super::Reader;
use crate::error::Result;

/// What sums are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The key.
    Key,
    /// The user.
    User,
    /// The team.
    Team,
    /// The organisation.
    Org,
    /// What was asked for.
    Operation,
    /// The model as the client named it.
    Model,
    /// The provider.
    Provider,
    /// The provider's name for the model.
    UpstreamModel,
    /// The minute, in UTC.
    Minute,
    /// The hour, in UTC.
    Hour,
    /// The day, in the zone of the question.
    Day,
}

impl By {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Team => "team",
            Self::Org => "org",
            Self::Operation => "operation",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::UpstreamModel => "upstream_model",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The column of `series`, which has the same name; none for a span of time.
    pub(super) fn column(self) -> Option<&'static str> {
        (!matches!(self, Self::Minute | Self::Hour | Self::Day)).then(|| self.word())
    }
}

/// Which records. What is not given is not looked at; an empty name is for records without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// From then on, in Unix milliseconds.
    pub from_ms: Option<u64>,
    /// Until then, exclusively.
    pub to_ms: Option<u64>,
    /// Of this key.
    pub key: Option<String>,
    /// Of this user.
    pub user: Option<String>,
    /// Of this team.
    pub team: Option<String>,
    /// Of this organisation.
    pub org: Option<String>,
    /// For this operation.
    pub operation: Option<String>,
    /// For this model.
    pub model: Option<String>,
    /// Sent to this provider.
    pub provider: Option<String>,
    /// Sent as this model.
    pub upstream_model: Option<String>,
    /// That ended so. Not for sums.
    pub outcome: Option<String>,
    /// That failed (true) or did not (false). Not for sums.
    pub failed: Option<bool>,
}

impl Filter {
    /// A filter by one name.
    #[must_use]
    pub fn only(by: By, name: &str) -> Self {
        let mut filter = Self::default();
        let slot = match by {
            By::Key => &mut filter.key,
            By::User => &mut filter.user,
            By::Team => &mut filter.team,
            By::Org => &mut filter.org,
            By::Operation => &mut filter.operation,
            By::Model => &mut filter.model,
            By::Provider => &mut filter.provider,
            By::UpstreamModel => &mut filter.upstream_model,
            By::Minute | By::Hour | By::Day => return filter,
        };
        *slot = Some(name.to_owned());
        filter
    }

    fn names(&self) -> [(&'static str, Option<&String>); 8] {
        [
            ("key", self.key.as_ref()),
            ("user", self.user.as_ref()),
            ("team", self.team.as_ref()),
            ("org", self.org.as_ref()),
            ("operation", self.operation.as_ref()),
            ("model", self.model.as_ref()),
            ("provider", self.provider.as_ref()),
            ("upstream_model", self.upstream_model.as_ref()),
        ]
    }
}

impl Reader {
    /// The combinations of names that a filter lets through; none if it lets all through.
    pub(super) fn series_of(&self, filter: &Filter) -> Result<Option<Vec<u32>>> {
        let mut text = String::from("SELECT id FROM series WHERE true");
        let mut values = Vec::new();
        for (column, name) in filter.names() {
            let Some(name) = name else { continue };
            let Some(id) = self.number_of(name)? else { return Ok(Some(Vec::new())) };
            text.push_str(&format!(" AND {column} = ?"));
            values.push(id);
        }
        if values.is_empty() {
            return Ok(None);
        }
        let mut statement = self.connection.prepare_cached(&text)?;
        let ids = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(0))?;
        Ok(Some(ids.collect::<rusqlite::Result<_>>()?))
    }
}
