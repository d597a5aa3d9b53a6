//! Budgets as written: `¥50/day`, a mapping, or a list of these.

use std::borrow::Cow;
use std::fmt;

use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Period;
use crate::money::Money;

/// Money for a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// How much, in the currency it is counted in.
    #[schemars(extend("x-example" = "¥50"))]
    pub amount: Money,
    /// For what time: `day`, `week` (from Monday), `month`, `total` for all time, or the last so
    /// many hours or days at any instant, such as `5h` or `30d`.
    #[schemars(extend("x-example" = "day"))]
    pub period: Period,
    /// Whose days, weeks and months are meant: a name of the time zone database. Default `UTC`.
    #[serde(default = "utc", deserialize_with = "zone", serialize_with = "zone_name")]
    #[schemars(with = "Option<String>", extend("x-example" = "Asia/Shanghai"))]
    pub zone: TimeZone,
    /// What becomes of a request that there is no money for: `refuse` (the default);
    /// `downgrade: MODEL`, which sends it to this cheaper model while the money does for that; or
    /// `alert`, which only tells.
    #[serde(default)]
    #[schemars(extend("x-example" = {"downgrade": "chat-small"}))]
    pub on_exhausted: OnExhausted,
    /// Percents of the amount that are told when so much is spent, each once in a period.
    #[serde(default, deserialize_with = "percents", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-example" = [50, 80]))]
    pub alerts: Vec<u8>,
    /// The URL alerts are posted to. Without one they are only logged.
    #[serde(default, deserialize_with = "url", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-example" = "https://hooks.example.com/budget"))]
    pub webhook: Option<String>,
    /// What a request costs whose price is not known, in the currency of the amount. Without it,
    /// such a request is refused, unless the budget only alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-example" = "¥0.05"))]
    pub unpriced: Option<Money>,
    /// The most that the running requests of one key may have reserved, in percent of what is not
    /// spent yet, so that no key holds all that others share with it. Default: no such bound. Says
    /// nothing in a key's own budget, and in one that only alerts.
    #[serde(default, deserialize_with = "share", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u8>", range(min = 1, max = 100), extend("x-example" = 50))]
    pub key_share: Option<u8>,
}

/// What becomes of a request that a budget has no money for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// It is refused.
    #[default]
    Refuse,
    /// It goes to this model, while the money does for that.
    Downgrade(String),
    /// It goes on; only alerts are sent.
    Alert,
}

/// One budget, or a list of them that all have to have the money.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Budgets(pub Vec<Budget>);

impl Budget {
    /// Whether it holds back what does not fit.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        self.on_exhausted != OnExhausted::Alert
    }

    /// Reads the short form.
    fn short(text: &str) -> Result<Self, String> {
        let (amount, period) = text
            .split_once('/')
            .ok_or_else(|| format!("`{text}` is no budget; write for example ¥50/day"))?;
        Ok(Self {
            amount: amount.trim().parse()?,
            period: period.parse()?,
            zone: TimeZone::UTC,
            on_exhausted: OnExhausted::Refuse,
            alerts: Vec::new(),
            webhook: None,
            unpriced: None,
            key_share: None,
        })
    }

    fn checked(self) -> Result<Self, &'static str> {
        match self.unpriced {
            Some(money) if money.currency != self.amount.currency => {
                Err("`unpriced` has to be in the currency of `amount`")
            }
            _ => Ok(self),
        }
    }
}

/// One budget in either form.
struct Entry(Budget);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut budgets = deserializer.deserialize_any(Forms { list: false })?.0;
        budgets.pop().map(Self).ok_or_else(|| D::Error::custom("no budget"))
    }
}

impl<'de> Deserialize<'de> for Budgets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Forms { list: true })
    }
}

struct Forms {
    /// Whether a list will do.
    list: bool,
}

impl<'de> Visitor<'de> for Forms {
    type Value = Budgets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a budget such as ¥50/day, or a mapping with `amount` and `period`")
    }

    fn visit_unit<E: Error>(self) -> Result<Budgets, E> {
        if self.list { Ok(Budgets::default()) } else { Err(E::custom("nothing stands here")) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Budgets, E> {
        Budget::short(text).map(|budget| Budgets(vec![budget])).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Budgets, A::Error> {
        let budget = Budget::deserialize(MapAccessDeserializer::new(map))?;
        budget.checked().map(|budget| Budgets(vec![budget])).map_err(A::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Budgets, A::Error> {
        if !self.list {
            return Err(A::Error::custom("a list in a list of budgets"));
        }
        let mut budgets = Vec::new();
        while let Some(Entry(budget)) = list.next_element()? {
            budgets.push(budget);
        }
        Ok(Budgets(budgets))
    }
}

impl Serialize for Budgets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl JsonSchema for Budgets {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Budgets")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<Budget>();
        let short = json_schema!({ "type": "string", "examples": ["¥50/day", "$200/month"] });
        json_schema!({
            "anyOf": [short, long, { "type": "array", "items": { "anyOf": [short, long] } }]
        })
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Period")
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*(day|week|month|total|[0-9]+\s*(ms|s|m|h|d))\s*$",
        })
    }
}

fn utc() -> TimeZone {
    TimeZone::UTC
}

fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(deserializer)?;
    TimeZone::get(&name).map_err(|_| {
        D::Error::custom(format!("`{name}` is no time zone; write for example Asia/Shanghai"))
    })
}

fn zone_name<S: Serializer>(zone: &TimeZone, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.iana_name().unwrap_or("UTC"))
}

fn percents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let mut percents = Vec::<u8>::deserialize(deserializer)?;
    if percents.contains(&0) {
        return Err(D::Error::custom("an alert is at 1 percent or more"));
    }
    percents.sort_unstable();
    percents.dedup();
    Ok(percents)
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    deserializer.deserialize_any(Percent)
}

/// A part of something: `50`, or `50%`.
struct Percent;

impl<'de> Visitor<'de> for Percent {
    type Value = Option<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a percentage of 1 to 100, such as 50")
    }

    fn visit_unit<E: Error>(self) -> Result<Option<u8>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, percent: u64) -> Result<Option<u8>, E> {
        let fits = u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent));
        let wrong = || E::custom(format!("`{percent}` is no percentage of 1 to 100"));
        fits.map(Some).ok_or_else(wrong)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<u8>, E> {
        let number = text.trim().trim_end_matches('%').trim_end().parse();
        let wrong = |_| E::custom(format!("`{text}` is no percentage; write for example 50"));
        number.map_err(wrong).and_then(|percent| self.visit_u64(percent))
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let scheme = |url: http::Uri| url.scheme_str().map(str::to_owned);
    match text.parse().ok().and_then(scheme).as_deref() {
        Some("http" | "https") => Ok(Some(text)),
        _ => Err(D::Error::custom(format!("`{text}` is no http or https URL"))),
    }
}
