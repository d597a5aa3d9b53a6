//! Mirrors as written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::At;
use crate::problem::Place;

/// A target that gets a share of a model's requests as well, and whose answers nobody gets. The short
/// form is the target alone, for all requests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MirrorConfig {
    /// `provider/upstream-model`.
    pub to: At<String>,
    /// Percent of the requests; all of them if nothing is said.
    pub share: Option<At<f64>>,
}

/// The long form of a mirror.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "MirrorMapping")]
struct LongMirror {
    /// `provider/upstream-model`.
    to: At<String>,
    /// Percent of the requests, 0.01 to 100; 100 if absent.
    share: Option<At<f64>>,
}

impl MirrorConfig {
    /// Its share in hundredths of a percent; `None` if it is none that can be.
    pub(crate) fn hundredths(&self) -> Option<u16> {
        let percent = self.share.as_ref().map_or(100.0, |share| share.value);
        let hundredths = (percent * 100.0).round();
        let is_whole = (percent * 100.0 - hundredths).abs() < 1e-6;
        let number = format!("{hundredths:.0}").parse().ok();
        number.filter(|number| is_whole && (1..=10_000).contains(number))
    }
}

impl<'de> Deserialize<'de> for MirrorConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = MirrorConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`provider/model`, or a mapping with `to` and `share`")
    }

    fn visit_str<E>(self, to: &str) -> Result<MirrorConfig, E> {
        let to = At { value: to.to_owned(), place: Place::NONE };
        Ok(MirrorConfig { to, share: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MirrorConfig, A::Error> {
        let LongMirror { to, share } = LongMirror::deserialize(MapAccessDeserializer::new(map))?;
        Ok(MirrorConfig { to, share })
    }
}

impl JsonSchema for MirrorConfig {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Mirror")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<LongMirror>();
        json_schema!({
            "description": "A target that gets a share of the requests as well. The short form is the target alone, for all of them.",
            "anyOf": [{ "type": "string", "description": "`provider/upstream-model`" }, long],
        })
    }
}
