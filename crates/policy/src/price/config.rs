//! A price as it is written: in the configuration, and in the built-in table.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::week::{Day, Week, offset};
use super::{Price, Rates, Tier};
use crate::money::{Currency, Decimal};

/// What a model costs. Amounts are for a million tokens, except those that begin with `per_`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PriceConfig {
    /// What the provider bills in: `USD` (the default) or `CNY`.
    #[schemars(extend("x-example" = "CNY"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Input tokens. A price without `input` and `output` needs `per_request` or `per_image`, and
    /// its tokens cost nothing.
    #[schemars(extend("x-example" = "0.8"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Decimal>,
    /// Input tokens read from the provider's cache. Default: as `input`.
    #[schemars(extend("x-example" = "0.2"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_read: Option<Decimal>,
    /// Input tokens written to the provider's cache. Default: as `input`.
    #[schemars(extend("x-example" = "1"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Decimal>,
    /// Output tokens.
    #[schemars(extend("x-example" = "3.2"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Decimal>,
    /// Output tokens spent on reasoning. Default: as `output`.
    #[schemars(extend("x-example" = "3.2"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Decimal>,
    /// Input tokens that are sound. Default: as `input`.
    #[schemars(extend("x-example" = "4"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<Decimal>,
    /// Output tokens that are sound. Default: as `output`.
    #[schemars(extend("x-example" = "16"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<Decimal>,
    /// Each request, beside its tokens.
    #[schemars(extend("x-example" = "0.005"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_request: Option<Decimal>,
    /// Each image made, beside the tokens.
    #[schemars(extend("x-example" = "0.2"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_image: Option<Decimal>,
    /// Other rates for requests with long input.
    #[schemars(extend("x-example" = [{"above": 32000, "input": "1.2", "output": "4.8"}]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierConfig>,
    /// Other rates at some hours, for input of any length.
    #[schemars(extend("x-example" = {
        "windows": [{"hours": "00:30-08:30"}], "offset": "+08:00", "input": "0.4", "output": "1.6"
    }))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off_peak: Option<OffPeakConfig>,
    /// The most input tokens that the model takes.
    #[schemars(extend("x-example" = 128_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_input: Option<u64>,
    /// The most output tokens that the model gives.
    #[schemars(extend("x-example" = 12_288))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
}

/// Rates for requests with more than so many input tokens; they hold for the whole request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierConfig {
    /// The number of input tokens, cached ones among them, that a request must pass.
    pub above: u64,
    /// Input tokens.
    pub input: Decimal,
    /// Input tokens read from the provider's cache. Default: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_read: Option<Decimal>,
    /// Input tokens written to the provider's cache. Default: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Decimal>,
    /// Output tokens.
    pub output: Decimal,
    /// Output tokens spent on reasoning. Default: as `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Decimal>,
}

/// Rates for some hours of the week, whatever the length of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OffPeakConfig {
    /// When these rates hold.
    pub windows: Vec<WindowConfig>,
    /// How far the hours are ahead of UTC, such as `+08:00` for Beijing. Default: they are UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub offset: String,
    /// Input tokens.
    pub input: Decimal,
    /// Input tokens read from the provider's cache. Default: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_read: Option<Decimal>,
    /// Input tokens written to the provider's cache. Default: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Decimal>,
    /// Output tokens.
    pub output: Decimal,
    /// Output tokens spent on reasoning. Default: as `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Decimal>,
}

/// Hours on days of the week.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// The days; every day if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// From and to, such as `00:30-08:30`. Hours that end no later than they begin run into the
    /// next day.
    pub hours: String,
}

/// What a price says of one span of input or of time.
struct Written {
    input: Option<Decimal>,
    cached_read: Option<Decimal>,
    cache_write: Option<Decimal>,
    output: Option<Decimal>,
    reasoning: Option<Decimal>,
    audio: [Option<Decimal>; 2],
}

impl Written {
    fn rates(&self) -> Rates {
        let or = |rate: Option<Decimal>, other: u64| rate.map_or(other, |rate| rate.nanos);
        let (input, output) = (or(self.input, 0), or(self.output, 0));
        Rates {
            input,
            cached_read: or(self.cached_read, input),
            cache_write: or(self.cache_write, input),
            output,
            reasoning: or(self.reasoning, output),
            audio_input: or(self.audio[0], input),
            audio_output: or(self.audio[1], output),
        }
    }
}

impl PriceConfig {
    /// The price that this writes, found at `source` on the day `as_of`.
    ///
    /// # Errors
    /// A sentence that says what is missing, or does not go together.
    pub fn price(&self, source: &str, as_of: &str) -> Result<Price, String> {
        if self.input.is_some() != self.output.is_some() {
            return Err(String::from("give both `input` and `output`; what is free is 0"));
        }
        if self.input.is_none() && self.per_request.is_none() && self.per_image.is_none() {
            return Err(String::from("give `input` and `output`, `per_request` or `per_image`"));
        }
        if self.input.is_none() && !(self.tiers.is_empty() && self.off_peak.is_none()) {
            return Err(String::from("`tiers` and `off_peak` need `input` and `output`"));
        }
        let each = |rate: Option<Decimal>| {
            let nanos = rate.unwrap_or_default().nanos.checked_mul(1_000_000);
            nanos.ok_or_else(|| String::from("`per_request` and `per_image` go up to 18446"))
        };
        Ok(Price {
            currency: self.currency.unwrap_or(Currency::Usd),
            tiers: self.tiers()?,
            off_peak: self.off_peak.as_ref().map(OffPeakConfig::read).transpose()?,
            request: each(self.per_request)?,
            image: each(self.per_image)?,
            source: Arc::from(source),
            as_of: Arc::from(as_of),
        })
    }

    /// Whether it writes a price at all: a row of the table may tell limits alone.
    pub(super) fn is_priced(&self) -> bool {
        self.input.is_some() || self.per_request.is_some() || self.per_image.is_some()
    }

    fn tiers(&self) -> Result<Vec<Tier>, String> {
        let audio = [self.audio_input, self.audio_output];
        let base = Written {
            input: self.input,
            cached_read: self.cached_read,
            cache_write: self.cache_write,
            output: self.output,
            reasoning: self.reasoning,
            audio,
        };
        let mut tiers = vec![Tier { above: 0, rates: base.rates() }];
        for tier in &self.tiers {
            if tiers.last().is_some_and(|before| before.above >= tier.above) {
                return Err(format!("the tier above {} must come after a smaller one", tier.above));
            }
            let written = Written {
                input: Some(tier.input),
                cached_read: tier.cached_read,
                cache_write: tier.cache_write,
                output: Some(tier.output),
                reasoning: tier.reasoning,
                audio,
            };
            tiers.push(Tier { above: tier.above, rates: written.rates() });
        }
        Ok(tiers)
    }
}

impl OffPeakConfig {
    fn read(&self) -> Result<(Week, Rates), String> {
        let mut week = Week::default();
        let offset = offset(&self.offset)?;
        for window in &self.windows {
            let days = if window.days.is_empty() { &Day::ALL[..] } else { &window.days };
            for day in days {
                week.add(*day, &window.hours, offset)?;
            }
        }
        let written = Written {
            input: Some(self.input),
            cached_read: self.cached_read,
            cache_write: self.cache_write,
            output: Some(self.output),
            reasoning: self.reasoning,
            audio: [None, None],
        };
        Ok((week, written.rates()))
    }
}
