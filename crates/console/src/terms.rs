//! What a holder may do, how much, and for how long: the terms, as the API reads and keeps them.

use std::sync::LazyLock;

use policy::directory::TermsConfig;
use policy::scope::Scope;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::fault::Fault;

/// The largest terms, in bytes of JSON: they stay in memory as long as their holder.
const MAX_BYTES: usize = 64 << 10;

/// The names of the fields of terms.
static FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let schema = TermsConfig::json_schema(&mut SchemaGenerator::default());
    let fields = schema.get("properties").and_then(Value::as_object);
    fields.map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
});

/// Terms as they were written, and known to be well-formed. What was written is kept, so that
/// `200k` is read back as `200k`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Terms(Map<String, Value>);

impl Terms {
    /// Checks terms. A field that is null is one that is absent.
    ///
    /// # Errors
    /// [`crate::fault::Code::InvalidField`] names the first field that is unknown or wrong.
    pub fn new(mut fields: Map<String, Value>) -> Result<Self, Fault> {
        if let Some(name) = fields.keys().find(|name| !FIELDS.contains(*name)) {
            return Err(Fault::field(name, format!("There is no field `{name}`.")));
        }
        fields.retain(|_, value| !value.is_null());
        let terms = Self(fields);
        if terms.to_text().len() > MAX_BYTES {
            return Err(Fault::field("metadata", format!("The terms are over {MAX_BYTES} bytes.")));
        }
        // One by one, so that the field at fault is known: each is optional.
        for (name, value) in &terms.0 {
            let one = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
            if let Err(error) = TermsConfig::deserialize(one) {
                return Err(Fault::field(name, format!("`{name}`: {error}.")));
            }
        }
        Ok(terms)
    }

    /// Terms that were stored. What an older version let in is kept as it is.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_default())
    }

    /// As they are stored.
    #[must_use]
    pub fn to_text(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// The fields as written.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// As they would have been written.
    #[must_use]
    pub fn of(config: &TermsConfig) -> Self {
        match serde_json::to_value(config) {
            Ok(Value::Object(fields)) => Self(fields),
            _ => Self::default(),
        }
    }

    /// As the directory takes them. Stored terms that this version cannot read allow nothing.
    #[must_use]
    pub fn config(&self) -> TermsConfig {
        TermsConfig::deserialize(Value::Object(self.0.clone())).unwrap_or_else(|_| closed())
    }

    /// The same from their text: for a start with a million keys.
    pub(crate) fn config_of(text: &str) -> TermsConfig {
        serde_json::from_str(text).unwrap_or_else(|_| closed())
    }

    /// These terms with fields replaced, and those that are null taken away.
    ///
    /// # Errors
    /// As [`Terms::new`].
    pub fn patched(&self, patch: Map<String, Value>) -> Result<Self, Fault> {
        let mut fields = self.0.clone();
        fields.extend(patch);
        Self::new(fields)
    }
}

/// Terms that allow nothing.
fn closed() -> TermsConfig {
    TermsConfig { enabled: Some(false), ..TermsConfig::default() }
}

/// What may be asked for.
#[must_use]
pub fn scope(terms: TermsConfig) -> Scope {
    let TermsConfig { models, operations, allow, deny, .. } = terms;
    Scope { models, operations, allow, deny }
}

/// The fields of a thing beside its terms.
pub trait Own: DeserializeOwned + JsonSchema {
    /// Their names.
    const FIELDS: &'static [&'static str];
}

/// A body in which the fields of a thing and those of its terms stand side by side, as they do in
/// the configuration file.
#[derive(Debug, Clone)]
pub struct WithTerms<T> {
    /// The fields of the thing.
    pub own: T,
    /// Those of its terms: read, but for a change not yet put together.
    pub terms: Map<String, Value>,
}

impl<'de, T: Own> Deserialize<'de> for WithTerms<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (own, terms) = Map::deserialize(deserializer)?
            .into_iter()
            .partition::<Map<_, _>, _>(|(name, _)| T::FIELDS.contains(&name.as_str()));
        let own = T::deserialize(Value::Object(own)).map_err(D::Error::custom)?;
        Ok(Self { own, terms })
    }
}

impl<T: Own> JsonSchema for WithTerms<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        add_terms(&mut schema, generator);
        schema
    }
}

/// Adds the fields of terms to the description of a thing.
pub(crate) fn add_terms(schema: &mut Schema, generator: &mut SchemaGenerator) {
    let mut terms = TermsConfig::json_schema(generator);
    let terms = terms.ensure_object().remove("properties");
    let own = schema.ensure_object().entry("properties").or_insert_with(|| Map::new().into());
    if let (Value::Object(own), Some(Value::Object(terms))) = (own, terms) {
        own.extend(terms);
    }
}

/// Reads a field that may be null: `None` for absent, `Some(None)` for null.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
