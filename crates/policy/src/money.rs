//! Money: whole billionths of a currency's unit, never negative, never a float.
//!
//! Amounts are read and written as decimals exactly. What has to be rounded (an exchange, a charge)
//! is rounded up, and what has to be cut off stays at the largest amount there is: an error here
//! may refuse too early, but never let a budget be passed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Billionths in one unit.
pub const NANOS: u64 = 1_000_000_000;

/// A currency in which providers bill.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Currency {
    /// United States dollar.
    Usd,
    /// Chinese yuan.
    Cny,
}

impl Currency {
    /// Its sign: `$` or `¥`.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Usd => "$",
            Self::Cny => "¥",
        }
    }

    /// Its ISO 4217 code: `USD` or `CNY`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Usd => "USD",
            Self::Cny => "CNY",
        }
    }
}

impl FromStr for Currency {
    type Err = String;

    /// A code in any case, or a sign (`¥` also in its full width).
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "$" => Ok(Self::Usd),
            "¥" | "￥" => Ok(Self::Cny),
            _ if text.eq_ignore_ascii_case("USD") => Ok(Self::Usd),
            _ if text.eq_ignore_ascii_case("CNY") => Ok(Self::Cny),
            _ => Err(format!("{text:?} is no currency known here; write USD or CNY, $ or ¥")),
        }
    }
}

/// An exact decimal number with at most nine places, from 0 to 18,446,744,073.709551615: an amount
/// without its currency, or a rate. In a file it is a string or a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal {
    /// The number in billionths.
    pub nanos: u64,
}

impl FromStr for Decimal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && places.is_empty()) || !digits(whole) || !digits(places) {
            return Err(format!("{text:?} is no amount; write digits, such as 50 or 0.25"));
        }
        let places = places.trim_end_matches('0');
        if places.len() > 9 {
            return Err(format!("{text:?} has more than nine decimal places"));
        }
        let nanos = format!("{whole}{places:0<9}").parse();
        nanos.map(|nanos| Self { nanos }).map_err(|_| format!("{text:?} is too large an amount"))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&scaled(self.nanos, 9))
    }
}

/// `value` divided by ten to the `scale`, exactly, without needless zeros.
pub(crate) fn scaled(value: u64, scale: usize) -> String {
    let digits = format!("{value:0>width$}", width = scale + 1);
    let (whole, places) = digits.split_at(digits.len() - scale);
    match places.trim_end_matches('0') {
        "" => whole.to_owned(),
        places => format!("{whole}.{places}"),
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DecimalVisitor)
    }
}

struct DecimalVisitor;

impl Visitor<'_> for DecimalVisitor {
    type Value = Decimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal number, such as \"0.8\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Decimal, E> {
        text.trim().parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, whole: u64) -> Result<Decimal, E> {
        self.visit_str(&whole.to_string())
    }

    fn visit_i64<E: Error>(self, whole: i64) -> Result<Decimal, E> {
        self.visit_str(&whole.to_string())
    }

    /// The shortest decimal that means this float is what was written.
    fn visit_f64<E: Error>(self, number: f64) -> Result<Decimal, E> {
        self.visit_str(&number.to_string())
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Decimal {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Decimal")
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let digits = r"^\s*[0-9]*\.?[0-9]*\s*$";
        json_schema!({"type": ["string", "number"], "minimum": 0, "pattern": digits})
    }
}

/// An amount of money. Amounts of different currencies do not compare: convert them first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// The amount in billionths of the currency's unit, so at most 18.4 thousand million units.
    pub nanos: u64,
    /// The currency.
    pub currency: Currency,
}

impl FromStr for Money {
    type Err = String;

    /// `$1.5`, `¥50`, `50 CNY` or `USD 50`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (currency, amount) = if text.starts_with(is_number) {
            let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
            (&text[end..], &text[..end])
        } else {
            let end = text.find(|c: char| is_number(c) || c == '-' || c.is_whitespace());
            text.split_at(end.unwrap_or(text.len()))
        };
        if currency.trim().is_empty() || amount.trim().is_empty() {
            return Err(format!("{text:?} is no amount of money; write $1.5, ¥50 or 50 CNY"));
        }
        let Decimal { nanos } = amount.trim().parse()?;
        Ok(Self { nanos, currency: currency.trim().parse()? })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.currency.symbol(), scaled(self.nanos, 9))
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Money {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Money")
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "examples": ["$1.50", "¥50", "50 CNY"]})
    }
}

/// What one currency is worth in another, as the operator set it: `USD/CNY: "7.12"` means that one
/// dollar is 7.12 yuan, and serves both directions. There is no built-in rate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exchange {
    /// By the currency given and the one got: how many billionths of the latter for one unit of the
    /// former. Never 0, and only one direction of each pair.
    rates: BTreeMap<(Currency, Currency), u64>,
}

impl Exchange {
    /// Sets the rate of a pair, such as `USD/CNY`.
    ///
    /// # Errors
    ///
    /// A sentence, when the pair is not two currencies, the rate is 0, or the pair has a rate.
    pub fn set(&mut self, pair: &str, rate: Decimal) -> Result<(), String> {
        let two = pair.split_once('/').ok_or_else(|| {
            format!("{pair:?} is no pair of currencies; write USD/CNY for the price of a dollar")
        })?;
        let (from, to): (Currency, Currency) = (two.0.trim().parse()?, two.1.trim().parse()?);
        if from == to || rate.nanos == 0 {
            return Err(format!("{pair} {rate} is no rate of exchange"));
        }
        if self.rates.contains_key(&(to, from)) || self.rates.contains_key(&(from, to)) {
            return Err(format!(
                "{pair} has a rate already; each direction follows from the other"
            ));
        }
        self.rates.insert((from, to), rate.nanos);
        Ok(())
    }

    /// The same money in another currency, rounded up to a billionth; at the largest amount it
    /// stays there. None when no rate was set for the two.
    #[must_use]
    pub fn convert(&self, money: Money, currency: Currency) -> Option<Money> {
        if money.currency == currency {
            return Some(money);
        }
        let (nanos, unit) = (u128::from(money.nanos), u128::from(NANOS));
        let converted = if let Some(rate) = self.rates.get(&(money.currency, currency)) {
            (nanos * u128::from(*rate)).div_ceil(unit)
        } else {
            let rate = self.rates.get(&(currency, money.currency))?;
            (nanos * unit).div_ceil(u128::from(*rate))
        };
        Some(Money { nanos: u64::try_from(converted).unwrap_or(u64::MAX), currency })
    }
}

impl<'de> Deserialize<'de> for Exchange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut exchange = Self::default();
        for (pair, rate) in BTreeMap::<String, Decimal>::deserialize(deserializer)? {
            exchange.set(&pair, rate).map_err(D::Error::custom)?;
        }
        Ok(exchange)
    }
}

impl JsonSchema for Exchange {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Exchange")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rate = Decimal::json_schema(generator);
        json_schema!({
            "type": "object",
            "additionalProperties": rate,
            "examples": [{"USD/CNY": "7.12"}]
        })
    }
}
