//! Composed models as written: models made of others.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::At;

/// When the answer of one step of a cascade is not good enough.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Escalate")]
pub struct EscalateConfig {
    /// Its text has fewer characters than this.
    #[schemars(extend("x-example" = 40))]
    pub shorter_than: Option<At<u64>>,
    /// One of these is in its text, in capitals or not.
    #[schemars(extend("x-example" = ["I don't know"]))]
    pub contains: Vec<String>,
}

/// Who judges answers, as written. The short form is the model alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JudgeConfig {
    /// The model that judges.
    pub model: At<String>,
    /// What it does with the answers of a panel.
    pub by: Option<At<JudgeBy>>,
    /// What it is told, in place of the words that are built in.
    pub instructions: Option<String>,
}

/// What the judge of a panel does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeBy {
    /// It writes one answer from all of them.
    #[default]
    Merge,
    /// It names the best one, which the client gets as it is.
    Choose,
}

/// The long form.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "JudgeMapping")]
struct LongJudge {
    /// The model that judges: a name under `models`, or `provider/model`.
    #[schemars(extend("x-example" = "glm/glm-5"))]
    model: At<String>,
    /// With `panel`: `merge` (the default) writes one answer from all, `choose` names the best one.
    #[schemars(extend("x-example" = "merge"))]
    by: Option<At<JudgeBy>>,
    /// What it is told, in place of the words that are built in.
    #[schemars(extend("x-example" = "Prefer the answer that names its sources."))]
    instructions: Option<String>,
}

impl<'de> Deserialize<'de> for JudgeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = JudgeConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a model, or a mapping with `model`, `by` and `instructions`")
    }

    fn visit_str<E>(self, model: &str) -> Result<JudgeConfig, E> {
        let model = At { value: model.to_owned(), place: crate::problem::Place::NONE };
        Ok(JudgeConfig { model, ..JudgeConfig::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JudgeConfig, A::Error> {
        let LongJudge { model, by, instructions } =
            LongJudge::deserialize(MapAccessDeserializer::new(map))?;
        Ok(JudgeConfig { model, by, instructions })
    }
}

impl JsonSchema for JudgeConfig {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Judge")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<LongJudge>();
        json_schema!({
            "description": "Who judges answers. The short form is the model alone.",
            "anyOf": [{ "type": "string", "description": "a model" }, long],
        })
    }
}
