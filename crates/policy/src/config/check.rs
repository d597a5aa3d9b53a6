//! Health checks as written: `true`, `10s`, or a mapping.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

/// Whether, how often and where a provider is asked if it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthCheckConfig {
    /// Whether it is asked at all.
    pub is_on: bool,
    /// The path below the base URL.
    pub path: Option<String>,
    /// How often.
    pub every: Option<String>,
    /// How long connecting may take, and the answer after it.
    pub timeout: Option<String>,
}

/// The long form of a health check.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "HealthCheck")]
struct LongCheck {
    /// What is asked for with GET, below the base URL. It has to cost nothing. Default: what the
    /// profile says, else `/models`.
    #[schemars(extend("x-example" = "/models"))]
    path: Option<String>,
    /// How often: `1s` to `1h`. Default `10s`.
    #[schemars(extend("x-example" = "10s"))]
    every: Option<String>,
    /// How long connecting may take, and the answer after it: at most `60s`. Default `2s`.
    #[schemars(extend("x-example" = "2s"))]
    timeout: Option<String>,
}

impl<'de> Deserialize<'de> for HealthCheckConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyForm)
    }
}

struct AnyForm;

impl<'de> Visitor<'de> for AnyForm {
    type Value = HealthCheckConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true`, a time such as `10s`, or a mapping with `path`, `every`, `timeout`")
    }

    fn visit_bool<E>(self, is_on: bool) -> Result<HealthCheckConfig, E> {
        Ok(HealthCheckConfig { is_on, ..HealthCheckConfig::default() })
    }

    fn visit_str<E>(self, every: &str) -> Result<HealthCheckConfig, E> {
        let every = Some(every.to_owned());
        Ok(HealthCheckConfig { is_on: true, every, ..HealthCheckConfig::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HealthCheckConfig, A::Error> {
        let long = LongCheck::deserialize(MapAccessDeserializer::new(map))?;
        let LongCheck { path, every, timeout } = long;
        Ok(HealthCheckConfig { is_on: true, path, every, timeout })
    }
}

impl JsonSchema for HealthCheckConfig {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("HealthCheckForms")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<LongCheck>();
        json_schema!({
            "anyOf": [
                { "type": "boolean" },
                { "type": "string", "description": "How often: `10s`" },
                long,
            ]
        })
    }
}
