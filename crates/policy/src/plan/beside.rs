//! Attempts side by side: a race asks several targets at once, a hedge asks a second one when the
//! first is late. The first whose answer begins is the one.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::Plan;
use crate::config::At;
use crate::health::retry::MOST_ATTEMPTS;
use crate::problem::{Place, Problem};
use crate::units;

/// The share of requests that are hedged at the most, in percent, if the file does not say.
pub const HEDGED_PERCENT: u64 = 5;

/// When a second target is asked, as written. The short form is the time alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HedgeConfig {
    /// `p95`, or a time.
    pub after: At<String>,
    /// Percent of the model's requests.
    pub at_most: Option<At<u64>>,
}

/// The long form.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "HedgeMapping")]
struct LongHedge {
    /// How long the first target has to begin its answer: a time such as `800ms`, or `p95`, the time
    /// within which it began 95 of the last 100 answers.
    #[schemars(extend("x-example" = "p95"))]
    after: At<String>,
    /// The most requests of the model that are sent twice, in percent of all. Default 5.
    #[schemars(extend("x-example" = 5))]
    at_most: Option<At<u64>>,
}

impl<'de> Deserialize<'de> for HedgeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = HedgeConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`p95`, a time such as `800ms`, or a mapping with `after` and `at_most`")
    }

    fn visit_str<E>(self, after: &str) -> Result<HedgeConfig, E> {
        let after = At { value: after.to_owned(), place: Place::NONE };
        Ok(HedgeConfig { after, at_most: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HedgeConfig, A::Error> {
        let LongHedge { after, at_most } = LongHedge::deserialize(MapAccessDeserializer::new(map))?;
        Ok(HedgeConfig { after, at_most })
    }
}

impl JsonSchema for HedgeConfig {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Hedge")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<LongHedge>();
        json_schema!({
            "description": "When a second target is asked. The short form is the time alone.",
            "anyOf": [{ "type": "string", "description": "`p95`, or a time such as `800ms`" }, long],
        })
    }
}

/// How a plan asks side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// So many targets at once.
    Race {
        /// At least two.
        width: usize,
    },
    /// A second target when the first is late.
    Hedge {
        /// How late.
        after: Late,
        /// Percent of the requests.
        at_most: u64,
    },
}

/// Such as `a race of 2`.
impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Race { width } => write!(f, "a race of {width}"),
            Self::Hedge { after: Late::After(ms), at_most } => {
                write!(f, "a hedge after {ms} ms, for {at_most} % of the requests")
            }
            Self::Hedge { after: Late::P95, at_most } => {
                write!(f, "a hedge after the 95th percentile, for {at_most} % of the requests")
            }
        }
    }
}

/// When a target is late with its first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// After this long, in milliseconds.
    After(u64),
    /// Later than 95 % of its answers.
    P95,
}

impl Beside {
    /// Reads what the file says of a model.
    pub(crate) fn read(
        hedge: Option<&At<HedgeConfig>>,
        race: Option<(usize, Place)>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let mut problem = |place, message: String, hint: &str| {
            problems.push(Problem::new(place, message, hint));
        };
        if let Some((width, place)) = race {
            if !(2..=MOST_ATTEMPTS as usize).contains(&width) {
                let message = format!("a `race` has 2 to {MOST_ATTEMPTS} targets, not {width}");
                problem(place, message, "more of them can stand under `fallback`");
            }
            if let Some(hedge) = hedge {
                let message = "`hedge` means nothing beside `race`, which is early already".into();
                problem(hedge.place, message, "leave one of them out");
            }
            return Some(Self::Race { width });
        }
        let At { value: HedgeConfig { after, at_most }, place } = hedge?;
        let place = after.place.max(*place);
        let late = match after.value.as_str() {
            "p95" => Some(Late::P95),
            text => units::duration(text)
                .map_err(|told| problem(place, told, "write `p95`, or a time such as 800ms"))
                .ok()
                .map(|after| Late::After(units::milliseconds(after))),
        };
        let percent = at_most.as_ref().map_or(HEDGED_PERCENT, |at| at.value);
        if let Some(at) = at_most.as_ref().filter(|at| !(1..=100).contains(&at.value)) {
            let message = format!("`at_most` is a percentage from 1 to 100, not {}", at.value);
            problem(at.place, message, "leave it out for 5");
        }
        Some(Self::Hedge { after: late?, at_most: percent })
    }
}

impl Plan {
    /// How its attempts go side by side, if they do.
    #[must_use]
    pub fn beside(&self) -> Option<Beside> {
        self.options.beside
    }

    /// How many targets are asked side by side where `target` is the first, and after how many
    /// milliseconds the next one is; `None` if there is none to be asked, or it is not known when
    /// `target` is late. Counts a request that may be hedged.
    #[must_use]
    pub fn side_by_side(&self, target: usize) -> Option<(usize, u64)> {
        match self.options.beside.filter(|_| self.targets.len() > 1)? {
            Beside::Race { width } => Some((width, 0)),
            Beside::Hedge { after, at_most } => {
                self.hedges.earn(at_most);
                let after_ms = match after {
                    Late::After(ms) => ms,
                    Late::P95 => self.targets.get(target)?.live.health.times.p95_ms()?,
                };
                Some((2, after_ms))
            }
        }
    }

    /// Whether another target may be asked beside the one under way, now that it is time: a race
    /// always asks, hedges have a share of the requests. Counts one that is not for want of it.
    #[must_use]
    pub fn may_ask_beside(&self) -> bool {
        match self.options.beside {
            None => false,
            Some(Beside::Race { .. }) => true,
            Some(Beside::Hedge { .. }) => {
                let may = self.hedges.spend();
                if !may {
                    self.tally.withheld.count();
                }
                may
            }
        }
    }
}
