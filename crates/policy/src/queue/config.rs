//! Queues as written: `10s`, or a mapping with `wait` and `most`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

/// How long and how many requests may wait for room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueConfig {
    /// How long one waits.
    pub wait: Option<String>,
    /// How many wait.
    pub most: Option<usize>,
}

/// The long form of a queue.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Queue")]
struct LongQueue {
    /// How long a request waits at the most: up to `10m`. Default `10s`.
    #[schemars(extend("x-example" = "10s"))]
    wait: Option<String>,
    /// How many requests wait at the most: up to 10000. Default 200.
    #[schemars(extend("x-example" = 200))]
    most: Option<usize>,
}

impl<'de> Deserialize<'de> for QueueConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = QueueConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("how long to wait, such as `10s`, or a mapping with `wait` and `most`")
    }

    fn visit_str<E>(self, wait: &str) -> Result<QueueConfig, E> {
        Ok(QueueConfig { wait: Some(wait.to_owned()), most: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<QueueConfig, A::Error> {
        let LongQueue { wait, most } = LongQueue::deserialize(MapAccessDeserializer::new(map))?;
        Ok(QueueConfig { wait, most })
    }
}

impl JsonSchema for QueueConfig {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("QueueForms")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<LongQueue>();
        json_schema!({
            "anyOf": [{ "type": "string", "description": "How long to wait: `10s`" }, long]
        })
    }
}
