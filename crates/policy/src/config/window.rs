//! Adaptive concurrency as written: `adaptive`, or where it begins and how far it goes.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

/// How many requests a credential may have under way at a model, as it is found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConcurrencyConfig {
    /// At the beginning.
    pub from: Option<u64>,
    /// At most.
    pub to: Option<u64>,
}

/// The long form of adaptive concurrency.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "AdaptiveConcurrency")]
struct LongForm {
    /// Requests at once at the beginning. Default 16.
    #[schemars(extend("x-example" = 16))]
    from: Option<u64>,
    /// Requests at once at most: up to 10000. Default 1000.
    #[schemars(extend("x-example" = 1000))]
    to: Option<u64>,
}

impl<'de> Deserialize<'de> for ConcurrencyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = ConcurrencyConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`adaptive`, or a mapping with `from` and `to`; a fixed number is `limits: { concurrency: 20 }`")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<ConcurrencyConfig, E> {
        match word {
            "adaptive" => Ok(ConcurrencyConfig::default()),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ConcurrencyConfig, A::Error> {
        let LongForm { from, to } = LongForm::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ConcurrencyConfig { from, to })
    }
}

impl JsonSchema for ConcurrencyConfig {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("ConcurrencyForms")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<LongForm>();
        json_schema!({ "anyOf": [{ "const": "adaptive" }, long] })
    }
}
