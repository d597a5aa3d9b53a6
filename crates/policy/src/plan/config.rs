//! Plans as written: a target alone, or a mapping with `split`, `balance`, `fallback` or `when`,
//! in each other as deep as needed.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::condition::ConditionConfig;
use crate::config::At;
use crate::problem::Place;

/// Where a model is served, or a part of its requests. The short form is the target alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlanConfig {
    /// `provider/upstream-model`; empty if the plan is one of the others.
    pub target: At<String>,
    /// Requests are divided by weight, and each caller stays on one side.
    pub split: Option<At<Parts>>,
    /// What tells callers apart in a split.
    pub sticky: Option<At<Sticky>>,
    /// Requests are divided by how the targets are doing.
    pub balance: Option<At<Parts>>,
    /// How a balance chooses.
    pub by: Option<At<By>>,
    /// The latency objective of a balance by price.
    pub under: Option<At<String>>,
    /// What a balance keeps at one target.
    pub affinity: Option<At<Affinity>>,
    /// One after the other.
    pub fallback: Option<At<Vec<At<PlanConfig>>>>,
    /// The first case that fits.
    pub when: Option<At<Vec<At<CaseConfig>>>>,
    /// Requests in flight at the target from which on others are preferred.
    pub spill_at: Option<At<u64>>,
    /// Its share in the split or balance around it.
    pub weight: Option<At<u64>>,
    /// Where all its targets have to be.
    pub region: Option<At<String>>,
}

impl PlanConfig {
    /// A plan of one target.
    pub(crate) fn of(target: String) -> Self {
        Self { target: At { value: target, place: Place::NONE }, ..Self::default() }
    }

    /// Puts targets before those of its fallback.
    pub(crate) fn put_first(&mut self, targets: &At<Vec<At<String>>>) {
        let tier =
            |target: &At<String>| At { value: Self::of(target.value.clone()), place: target.place };
        let first = targets.value.iter().map(tier);
        let fallback = self.fallback.take().map_or_else(Vec::new, |fallback| fallback.value);
        let value = first.chain(fallback).collect();
        self.fallback = Some(At { value, place: targets.place });
    }
}

/// The long form of a plan inside another one.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PlanMapping")]
struct LongPlan {
    /// `provider/upstream-model`.
    target: At<String>,
    /// Divide requests by weight; each caller stays on one side.
    split: Option<At<Parts>>,
    /// What tells callers apart in a split: `key` (the default), `user`, or `header: NAME`.
    sticky: Option<At<Sticky>>,
    /// Divide requests by how the targets are doing.
    balance: Option<At<Parts>>,
    /// How a balance chooses. Default `latency`.
    by: Option<At<By>>,
    /// With `by: cheapest`: only among targets whose first token comes within this time.
    under: Option<At<String>>,
    /// What a balance keeps at one target. Default `cache_key`.
    affinity: Option<At<Affinity>>,
    /// Ask these in their order, the next one when those before it cannot serve. Beside one of the
    /// others, they come after it.
    fallback: Option<At<Vec<At<PlanConfig>>>>,
    /// The first case that fits the request.
    when: Option<At<Vec<At<CaseConfig>>>>,
    /// With `target`: requests in flight there from which on others are preferred.
    spill_at: Option<At<u64>>,
    /// Its share in the split or balance around it. Default 1.
    weight: Option<At<u64>>,
    /// No target of it may be elsewhere. Providers in `local` and `private` are everywhere at home.
    region: Option<At<String>>,
}

impl<'de> Deserialize<'de> for PlanConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = PlanConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "`provider/model`, or a mapping with `target`, `split`, `balance`, `fallback` ",
        )?;
        f.write_str("or `when`")
    }

    fn visit_str<E>(self, target: &str) -> Result<PlanConfig, E> {
        Ok(PlanConfig::of(target.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PlanConfig, A::Error> {
        let long = LongPlan::deserialize(MapAccessDeserializer::new(map))?;
        Ok(PlanConfig {
            target: long.target,
            split: long.split,
            sticky: long.sticky,
            balance: long.balance,
            by: long.by,
            under: long.under,
            affinity: long.affinity,
            fallback: long.fallback,
            when: long.when,
            spill_at: long.spill_at,
            weight: long.weight,
            region: long.region,
        })
    }
}

impl JsonSchema for PlanConfig {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Plan")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<LongPlan>();
        json_schema!({
            "description": "Where requests go. The short form is the target alone.",
            "anyOf": [{ "type": "string", "description": "`provider/upstream-model`" }, long],
        })
    }
}

/// The parts of a split or a balance: a list of plans, or targets with their weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parts(pub Vec<At<PlanConfig>>);

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListOrMap)
    }
}

struct ListOrMap;

impl<'de> Visitor<'de> for ListOrMap {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("targets with their weights, such as { qwen/qwen-max: 95 }, or a list of plans")
    }

    fn visit_unit<E>(self) -> Result<Parts, E> {
        Ok(Parts::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Parts, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = list.next_element()? {
            parts.push(part);
        }
        Ok(Parts(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
        let mut parts = Vec::new();
        while let Some((target, weight)) = map.next_entry::<String, At<u64>>()? {
            let place = weight.place;
            let plan = PlanConfig { weight: Some(weight), ..PlanConfig::of(target) };
            parts.push(At { value: plan, place });
        }
        Ok(Parts(parts))
    }
}

impl JsonSchema for Parts {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Parts")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let plan = generator.subschema_for::<PlanConfig>();
        let weight = json_schema!({ "type": "integer", "minimum": 0, "maximum": 1_000_000 });
        json_schema!({
            "anyOf": [
                { "type": "object", "additionalProperties": weight },
                { "type": "array", "items": plan },
            ]
        })
    }
}

/// What tells callers apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// The virtual key; without one, the user.
    #[default]
    Key,
    /// The user; without one, the key.
    User,
    /// A request header; without it, the key, then the user.
    Header(String),
}

/// How a balance chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Of two that are drawn, the one whose first token is likely to come sooner: mean time to
    /// first token, times requests in flight.
    #[default]
    Latency,
    /// In turn, each as often as its weight.
    RoundRobin,
    /// The one with the fewest requests in flight for its weight.
    InFlight,
    /// The one with the lowest mean time to first token.
    Fastest,
    /// The one where the request costs least.
    Cheapest,
}

/// What a balance keeps at one target, as long as that has not much more to do than the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Requests with the same `prompt_cache_key`.
    #[default]
    CacheKey,
    /// The same, or else those of one conversation.
    Conversation,
    /// Nothing.
    Off,
}

/// Where an answer that broke off in the middle is gone on with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// Nowhere.
    #[default]
    Off,
    /// At another target of the plan.
    Elsewhere,
    /// The same, or, where the plan has one target only, there once more.
    Anywhere,
}

/// One case of a `when`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Case")]
pub struct CaseConfig {
    /// What has to hold, all of it. Only the last case goes without, for all that is left.
    #[serde(rename = "if")]
    pub condition: Option<At<ConditionConfig>>,
    /// Where requests go then.
    #[serde(rename = "use")]
    pub plan: At<PlanConfig>,
}
