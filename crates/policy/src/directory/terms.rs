//! Terms as written, in the file and through the admin API alike.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::budget::Budgets;
use crate::limit::LimitsMap;
use crate::queue::Priority;
use crate::scope::{Glob, Network, Operations, Scope};

/// Entries of `metadata`.
const MAX_NOTES: usize = 32;
/// Bytes of a name or a value in `metadata`.
const MAX_NOTE: usize = 256;

/// What a key, a user, a team or an organisation may do, and how much of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TermsConfig {
    /// Models that may be asked for, by their public names; `*` stands for any text. Default: all.
    #[schemars(extend("x-example" = ["chat", "gpt-*"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<Glob>>,
    /// Operations that may be asked for. Default: all.
    #[schemars(extend("x-example" = ["chat", "embedding", "models"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Operations>,
    /// Addresses and networks that calls may come from. Default: anywhere.
    #[schemars(extend("x-example" = ["10.0.0.0/8"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Network>,
    /// Addresses and networks that calls may not come from; counts before `allow`.
    #[schemars(extend("x-example" = ["10.0.9.0/24"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Network>,
    /// Until when, as `2027-01-31` (its end, UTC) or `2027-01-31T12:00:00Z`. Default: for good.
    #[schemars(extend("x-example" = "2027-12-31"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expiry>,
    /// `false` refuses every call.
    #[schemars(extend("x-example" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How much per time.
    #[schemars(extend("x-example" = {"rpm": 600, "tpm": "200k", "concurrency": 20}))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsMap>,
    /// How much money per period; one budget or several.
    #[schemars(extend("x-example" = "¥50/day"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budgets>,
    /// Who goes first where requests for a model wait in its `queue`: `high`, `normal` or `low`. What a
    /// key does not say comes from its user, then its team, then its organisation. Default `normal`.
    #[schemars(extend("x-example" = "normal"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Your own notes, such as a cost centre. At most 32 entries of 256 bytes.
    #[schemars(extend("x-example" = {"cost_center": "4711"}))]
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl TermsConfig {
    /// What may be asked for, and from where.
    pub(super) fn scope(&self) -> Scope {
        Scope {
            models: self.models.clone(),
            operations: self.operations,
            allow: self.allow.clone(),
            deny: self.deny.clone(),
        }
    }
}

/// A moment, in milliseconds since 1970; a date stands for its end in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expiry(pub u64);

impl TryFrom<String> for Expiry {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        expiry(&text).map(Self)
    }
}

impl From<Expiry> for String {
    fn from(expiry: Expiry) -> Self {
        let millisecond = i64::try_from(expiry.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millisecond).unwrap_or(jiff::Timestamp::MAX).to_string()
    }
}

impl JsonSchema for Expiry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Expiry".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// Notes of the owner's, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = String;

    fn try_from(entries: BTreeMap<String, String>) -> Result<Self, String> {
        if entries.len() > MAX_NOTES {
            return Err(format!("metadata has more than {MAX_NOTES} entries"));
        }
        let fits = |text: &String| text.len() <= MAX_NOTE && !text.chars().any(char::is_control);
        match entries.iter().all(|(name, value)| fits(name) && fits(value)) {
            true => Ok(Self(entries)),
            false => Err(format!(
                "metadata holds control characters, or a text of more than {MAX_NOTE} bytes"
            )),
        }
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
    }
}

impl JsonSchema for Metadata {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, String>::json_schema(generator)
    }
}

/// The last moment of a date, or the moment itself, in milliseconds since 1970.
fn expiry(text: &str) -> Result<u64, String> {
    let moment = match text.parse::<jiff::civil::Date>() {
        Ok(date) if text.len() == 10 => date
            .tomorrow()
            .and_then(|next| next.to_zoned(jiff::tz::TimeZone::UTC))
            .map(|next| next.timestamp()),
        _ => text.parse::<jiff::Timestamp>(),
    };
    let unreadable = || format!("`{text}` is no date; write 2027-12-31 or 2027-12-31T12:00:00Z");
    let moment = moment.map_err(|_| unreadable())?;
    u64::try_from(moment.as_millisecond()).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use super::expiry;

    #[test]
    fn a_date_lasts_to_its_end() {
        assert_eq!(expiry("1970-01-01"), Ok(86_400_000));
        assert_eq!(expiry("1970-01-01T00:00:01Z"), Ok(1000));
        assert_eq!(expiry("1970-01-01T08:00:00+08:00"), Ok(0));
        for wrong in ["", "soon", "2027-13-01", "1969-01-01", "2027-02-30"] {
            assert!(expiry(wrong).is_err(), "{wrong}");
        }
    }
}
