//! Limits as written: `rpm: 600`, `tpm: 200k`, `rps: { amount: 100, burst: 20 }`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Limit, Meter, Window};

/// What a limit may be called.
pub const NAMES: [&str; 17] = [
    "rps",
    "rpm",
    "rph",
    "rpd", //
    "tps",
    "tpm",
    "tph",
    "tpd", //
    "input_tps",
    "input_tpm",
    "input_tph",
    "input_tpd", //
    "output_tps",
    "output_tpm",
    "output_tph",
    "output_tpd", //
    "concurrency",
];

const METERS: [Meter; 5] =
    [Meter::Requests, Meter::Tokens, Meter::InputTokens, Meter::OutputTokens, Meter::Concurrency];
const WINDOWS: [Window; 4] = [Window::Second, Window::Minute, Window::Hour, Window::Day];

impl Limit {
    /// Its name in a configuration, such as `rpm`, `input_tpd` or `concurrency`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let meter = METERS.iter().position(|meter| *meter == self.meter).unwrap_or_default();
        let window = self.window.and_then(|own| WINDOWS.iter().position(|window| *window == own));
        NAMES[(meter * WINDOWS.len() + window.unwrap_or_default()).min(NAMES.len() - 1)]
    }

    /// The limit at a place in [`NAMES`].
    fn at(index: usize, Amount { amount, burst }: Amount) -> Self {
        let meter = METERS[index / WINDOWS.len()];
        let window = (meter != Meter::Concurrency).then(|| WINDOWS[index % WINDOWS.len()]);
        Self { meter, amount, window, burst }
    }
}

/// Limits by name, in the order written: requests (`rps`, `rpm`, `rph`, `rpd` for second, minute,
/// hour and day), tokens (`tpm`, or `input_tpm` and `output_tpm` apart), and `concurrency`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsMap(pub Vec<Limit>);

impl<'de> Deserialize<'de> for LimitsMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = LimitsMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("limits by name, such as `rpm: 600`")
    }

    fn visit_unit<E>(self) -> Result<LimitsMap, E> {
        Ok(LimitsMap::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LimitsMap, A::Error> {
        let mut limits = Vec::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let index = NAMES.iter().position(|known| *known == name);
            let index = index.ok_or_else(|| A::Error::unknown_field(&name, &NAMES))?;
            let limit = Limit::at(index, map.next_value()?);
            if limits.iter().any(|known: &Limit| known.name() == limit.name()) {
                return Err(A::Error::duplicate_field(NAMES[index]));
            }
            if limit.window.is_none() && limit.burst.is_some() {
                return Err(A::Error::custom("`concurrency` has no burst"));
            }
            limits.push(limit);
        }
        Ok(LimitsMap(limits))
    }
}

impl Serialize for LimitsMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for limit in &self.0 {
            match limit.burst {
                None => map.serialize_entry(limit.name(), &limit.amount)?,
                burst => {
                    let amount = limit.amount;
                    map.serialize_entry(limit.name(), &Amount { amount, burst })?;
                }
            }
        }
        map.end()
    }
}

impl JsonSchema for LimitsMap {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("LimitsMap")
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let amount = generator.subschema_for::<Amount>().to_value();
        let property = |index: usize, name: &str| {
            let mut schema = amount.clone();
            let limit = Limit::at(index, Amount { amount: 0, burst: None }).to_string();
            // "0 input tokens per minute" without its number.
            let text = limit.trim_start_matches("0 ");
            let head = text[..1].to_uppercase();
            schema["description"] = format!("{head}{}.", &text[1..]).into();
            schema["x-example"] = match limit.contains("tokens") {
                _ if name == "concurrency" => 20.into(),
                true => "200k".into(),
                false => 600.into(),
            };
            (name.to_owned(), schema)
        };
        let properties: serde_json::Map<_, _> =
            NAMES.iter().enumerate().map(|(index, name)| property(index, name)).collect();
        json_schema!({
            "description": "Limits by name. An amount is a number, `200k` or `2M`, or `{ amount: 100, burst: 20 }`.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// An amount as written.
#[derive(Debug, Clone, Copy, Serialize)]
struct Amount {
    amount: u64,
    burst: Option<u64>,
}

/// An amount that may come unevenly.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongAmount {
    /// How much in the time.
    #[schemars(extend("x-example" = 100))]
    amount: Count,
    /// How much of it may come at once after a rest. Default: all of it.
    #[schemars(extend("x-example" = 20))]
    burst: Option<Count>,
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm { long: true })
    }
}

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Amount")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (count, long) =
            (generator.subschema_for::<Count>(), generator.subschema_for::<LongAmount>());
        json_schema!({ "anyOf": [count, long] })
    }
}

struct EitherForm {
    /// Whether a mapping will do.
    long: bool,
}

impl<'de> Visitor<'de> for EitherForm {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount such as 600, 200k or 2M")?;
        if self.long { f.write_str(", or a mapping with `amount` and `burst`") } else { Ok(()) }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Amount, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Amount, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Amount, E> {
        Ok(Amount { amount: count(text).map_err(E::custom)?, burst: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Amount, A::Error> {
        if !self.long {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        let long = LongAmount::deserialize(MapAccessDeserializer::new(map))?;
        let (amount, burst) = (long.amount.0, long.burst.map(|burst| burst.0));
        match burst {
            Some(burst) if burst > amount => {
                Err(A::Error::custom(format!("the burst {burst} is more than the amount {amount}")))
            }
            burst => Ok(Amount { amount, burst }),
        }
    }
}

/// A whole number as people write it: 600, `200k`, `2M`.
pub(crate) struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = deserializer.deserialize_any(EitherForm { long: false })?;
        Ok(Self(amount.amount))
    }
}

impl JsonSchema for Count {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Count")
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 1,
            "pattern": r"^\s*[0-9]+\s*[kKM]?\s*$",
        })
    }
}

/// Reads a number of tokens, if there is one.
pub(crate) fn tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Count>::deserialize(deserializer)?.map(|count| count.0))
}

/// Reads a whole number above 0, or one in thousands (`200k`) or millions (`2M`).
fn count(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let digits = digits.trim_end();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` is no amount; write for example 600, 200k or 2M"));
    }
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        Some(0) => Err("0 lets nothing through; leave the limit out to have none".into()),
        Some(count) => Ok(count),
        None => Err(format!("`{text}` is too large an amount")),
    }
}
