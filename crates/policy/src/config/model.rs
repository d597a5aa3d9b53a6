//! Models as written.

use std::collections::BTreeMap;

use providers::{Edits, Timeouts};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::{At, EscalateConfig, JudgeConfig, MirrorConfig};
use crate::budget::Budgets;
use crate::limit::LimitsMap;
use crate::plan::{Affinity, By, CaseConfig, HedgeConfig, Parts, PlanConfig, Resume, Sticky};
use crate::queue::QueueConfig;

/// A model: where a public name goes. The short form is the target alone.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(schema_with = "model_schema")]
pub struct ModelConfig {
    /// Where it is served.
    pub plan: PlanConfig,
    /// Edits to chat and completion requests; they come before the provider's.
    pub edits: At<Edits>,
    /// Clocks that differ from the provider's.
    pub timeouts: At<Timeouts>,
    /// Targets that are asked at once. They stand first among those of the plan.
    pub race: Option<At<Vec<At<String>>>>,
    /// How often all of it is tried again.
    pub retries: Option<At<u64>>,
    /// Models that are asked one after the other, until an answer is good enough.
    pub cascade: Option<At<Vec<At<String>>>>,
    /// When an answer is not good enough.
    pub escalate: Option<At<EscalateConfig>>,
    /// Models that are asked at once, for a judge to make one answer of theirs.
    pub panel: Option<At<Vec<At<String>>>>,
    /// Who judges.
    pub judge: Option<At<JudgeConfig>>,
    /// When a second target is asked beside the first.
    pub hedge: Option<At<HedgeConfig>>,
    /// How much per time, of all callers together.
    pub limits: Option<LimitsMap>,
    /// How much money per period, of all callers together.
    pub budget: Option<Budgets>,
    /// Whether requests wait for room, and how long.
    pub queue: Option<At<QueueConfig>>,
    /// Where an answer that broke off in the middle is gone on with.
    pub resume: At<Resume>,
    /// A target that gets a share of the requests as well.
    pub mirror: Option<At<MirrorConfig>>,
    /// Whether identical requests share one call.
    pub single_flight: bool,
}

/// The long form of a model.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LongModel {
    /// `provider/upstream-model`.
    #[schemars(extend("x-example" = "xinghe/ernie-4.5-turbo-128k"))]
    target: At<String>,
    /// In place of `target`: divide requests by weight, each caller staying on one side, as a canary
    /// or an A/B test does. Targets and their weights, or a list of plans with `weight`.
    #[schemars(extend(
        "x-example" = {"qwen/qwen-max": 95, "glm/glm-5": 5},
        "x-alternative" = true
    ))]
    split: Option<At<Parts>>,
    /// What tells callers apart in a split: `key` (the default), `user`, or `header: NAME`.
    #[schemars(extend("x-example" = "key", "x-alternative" = true))]
    sticky: Option<At<Sticky>>,
    /// In place of `target`: divide requests by how the targets are doing.
    #[schemars(extend("x-example" = ["glm/glm-5", "deepseek/deepseek-chat"], "x-alternative" = true))]
    balance: Option<At<Parts>>,
    /// How a balance chooses: `latency` (the default; of two that are drawn, the one that is likely
    /// to answer sooner), `round_robin`, `in_flight`, `fastest` or `cheapest`.
    #[schemars(extend("x-example" = "latency", "x-alternative" = true))]
    by: Option<At<By>>,
    /// With `by: cheapest`: only among targets whose first token comes within this time, as long as
    /// there are any.
    #[schemars(extend("x-example" = "2s", "x-alternative" = true))]
    under: Option<At<String>>,
    /// What a balance keeps at one target, so that its cache serves: `cache_key` (the default; the
    /// same `prompt_cache_key`), `conversation` or `off`.
    #[schemars(extend("x-example" = "conversation", "x-alternative" = true))]
    affinity: Option<At<Affinity>>,
    /// In place of `target`, or beside it: plans to try in their order, the next one when those
    /// before it cannot serve.
    #[schemars(extend("x-example" = ["glm/glm-5", "deepseek/deepseek-chat"], "x-alternative" = true))]
    fallback: Option<At<Vec<At<PlanConfig>>>>,
    /// In place of `target`: ask 2 to 4 targets at once, and take the first whose answer begins. The
    /// others are cancelled, and what they cost is recorded.
    #[schemars(extend("x-example" = ["glm/glm-5", "deepseek/deepseek-chat"], "x-alternative" = true))]
    race: Option<At<Vec<At<String>>>>,
    /// In place of `target`: the first case that fits the request.
    #[schemars(extend(
        "x-example" = [
            {"if": {"input_over": "32k"}, "use": "moonshot/kimi-k2"},
            {"use": "qwen/qwen-max"}
        ],
        "x-alternative" = true
    ))]
    when: Option<At<Vec<At<CaseConfig>>>>,
    /// With `target`: requests in flight there from which those of `fallback` are preferred.
    #[schemars(extend("x-example" = 64, "x-alternative" = true))]
    spill_at: Option<At<u64>>,
    /// No target may be outside this region. Providers in `local` and `private` are at home in all.
    #[schemars(extend("x-example" = "cn", "x-alternative" = true))]
    region: Option<At<String>>,
    /// Ask a second target when the first is late with its answer, and take the one that begins
    /// sooner: after a time such as `800ms`, or `p95`, the time that the target keeps in 95 of 100
    /// cases. At most 5 % of the requests, or `at_most`.
    #[schemars(extend("x-example" = {"after": "p95", "at_most": 5}, "x-alternative" = true))]
    hedge: Option<At<HedgeConfig>>,
    /// How often the targets are asked once more after all of them have failed for a while: throttled,
    /// down, or not reached. Before that Magpie waits, twice as long each time and at least as long as
    /// the provider asked for. Default 0: clients have retries of their own. At most 5.
    #[schemars(extend("x-example" = 2))]
    retries: Option<At<u64>>,
    /// In place of `target`: 2 to 4 models, of which the cheapest comes first. The next one is asked
    /// when an answer failed, is empty, was cut off, is no JSON although that was asked for, or
    /// `escalate` or the `judge` says so.
    #[schemars(extend("x-example" = ["flash", "max"], "x-alternative" = true))]
    cascade: Option<At<Vec<At<String>>>>,
    /// With `cascade`: what else is not good enough.
    #[schemars(extend("x-example" = {"shorter_than": 40, "contains": ["I don't know"]}, "x-alternative" = true))]
    escalate: Option<At<EscalateConfig>>,
    /// In place of `target`: 2 to 8 models that are asked at once, for a `judge` to make one answer
    /// of theirs.
    #[schemars(extend("x-example" = ["flash", "max"], "x-alternative" = true))]
    panel: Option<At<Vec<At<String>>>>,
    /// With `panel` or `cascade`: the model that judges.
    #[schemars(extend("x-example" = {"model": "glm/glm-5", "by": "merge"}, "x-alternative" = true))]
    judge: Option<At<JudgeConfig>>,
    /// Fill what the client left out; never override it.
    #[schemars(extend("x-example" = {"temperature": 0.6}))]
    defaults: At<BTreeMap<String, serde_json::Value>>,
    /// Set whatever the client sent.
    #[schemars(extend("x-example" = {"user": "lab"}))]
    force: At<BTreeMap<String, serde_json::Value>>,
    /// Remove from the request.
    #[schemars(extend("x-example" = ["logit_bias"]))]
    drop: Vec<String>,
    /// Clocks that differ from the provider's.
    timeouts: At<Timeouts>,
    /// How much per time, of all callers together.
    #[schemars(extend("x-example" = {"tpm": "1M"}))]
    limits: Option<LimitsMap>,
    /// How much money per period, of all callers together.
    #[schemars(extend("x-example" = "$100/month"))]
    budget: Option<Budgets>,
    /// Let requests wait where no target has room for them, instead of refusing them: how long, or a
    /// mapping. Teams take turns, and so do keys without a team; `priority` of a key, user, team or
    /// organisation says who goes first. Default: they do not wait.
    #[schemars(extend("x-example" = {"wait": "10s", "most": 200}))]
    queue: Option<At<QueueConfig>>,
    /// Where a streamed chat answer that breaks off in the middle is gone on with, from what was said,
    /// so that the client sees one answer: `elsewhere` (at another target that can do that, see
    /// `prefill` of providers), `anywhere` (where the model has one target, there once more), or
    /// `off` (the default). Never after a call of a tool.
    #[schemars(extend("x-example" = "elsewhere"))]
    resume: At<Resume>,
    /// A shadow: a target that gets a copy of a share of the requests as well, in percent. Its answers
    /// are compared with those that clients get, and thrown away. The short form is the target alone,
    /// for all requests.
    #[schemars(extend("x-example" = {"to": "xinghe/ernie-5.0", "share": 5}))]
    mirror: Option<At<MirrorConfig>>,
    /// `true` lets requests that are the same to the byte, of one team (else one key) and at the same
    /// time, share one call and its answer. Nothing is kept behind its end.
    #[schemars(extend("x-example" = false))]
    single_flight: bool,
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = ModelConfig;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "`provider/model`, or a mapping with `target`, `split`, `balance`, `fallback` ",
        )?;
        f.write_str("or `when`")
    }

    fn visit_str<E>(self, target: &str) -> Result<ModelConfig, E> {
        Ok(ModelConfig { plan: PlanConfig::of(target.to_owned()), ..ModelConfig::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModelConfig, A::Error> {
        let long = LongModel::deserialize(MapAccessDeserializer::new(map))?;
        let place = long.force.place.max(long.defaults.place);
        let edits =
            Edits { defaults: long.defaults.value, force: long.force.value, drop: long.drop };
        let mut plan = PlanConfig {
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
            weight: None,
            region: long.region,
        };
        if let Some(race) = &long.race {
            plan.put_first(race);
        }
        Ok(ModelConfig {
            plan,
            race: long.race,
            hedge: long.hedge,
            retries: long.retries,
            cascade: long.cascade,
            escalate: long.escalate,
            panel: long.panel,
            judge: long.judge,
            edits: At { value: edits, place },
            timeouts: long.timeouts,
            limits: long.limits,
            budget: long.budget,
            queue: long.queue,
            resume: long.resume,
            mirror: long.mirror,
            single_flight: long.single_flight,
        })
    }
}

fn model_schema(generator: &mut SchemaGenerator) -> Schema {
    let long = generator.subschema_for::<LongModel>();
    schemars::json_schema!({
        "description": "A model: where a public name goes. The short form is the target alone.",
        "anyOf": [
            { "type": "string", "description": "`provider/upstream-model`" },
            long,
        ]
    })
}
