//! What a model costs.
//!
//! A [`Price`] turns the tokens of an answer into a [`Charge`], and the most that an answer may
//! take into a ceiling that no such charge passes. All of it is whole numbers: rates are billionths
//! of a currency unit for a million tokens, and a sum is rounded up, once. A price that is not
//! known is absent; it is never 0.

mod book;
mod config;
mod week;

use std::fmt::Write as _;
use std::sync::Arc;

use wire::Usage;

pub use book::{ModelLimits, Overrides, PriceBook};
pub use config::{OffPeakConfig, PriceConfig, TierConfig, WindowConfig};
pub use week::Day;
pub(crate) use week::Week;

use crate::money::{Currency, Money, scaled};

/// How many tokens, requests or images a rate is for.
const MILLION: u128 = 1_000_000;

/// What is counted, each apart from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Input tokens that no cache had.
    Input,
    /// Input tokens read from the provider's cache.
    CachedRead,
    /// Input tokens written to the provider's cache.
    CacheWrite,
    /// Output tokens.
    Output,
    /// Output tokens spent on reasoning.
    Reasoning,
    /// Input tokens that are sound.
    AudioInput,
    /// Output tokens that are sound.
    AudioOutput,
    /// Images made.
    Image,
    /// Requests.
    Request,
}

impl Bucket {
    /// Its word in a formula, the same for one and for many.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CachedRead => "cached read",
            Self::CacheWrite => "cache write",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::AudioInput => "audio input",
            Self::AudioOutput => "audio output",
            Self::Image => "image",
            Self::Request => "request",
        }
    }

    /// Whether it counts input tokens.
    fn is_input(self) -> bool {
        matches!(self, Self::Input | Self::CachedRead | Self::CacheWrite | Self::AudioInput)
    }
}

/// One product of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// What was counted.
    pub bucket: Bucket,
    /// How many.
    pub count: u64,
    /// Billionths of the currency's unit for a million of them.
    pub nanos_per_million: u64,
}

impl Line {
    /// The product, a million times the billionths that it costs.
    fn product(&self) -> u128 {
        u128::from(self.count) * u128::from(self.nanos_per_million)
    }
}

/// What an answer costs, and how that comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The sum of the lines, rounded up to a billionth; at the largest amount it stays there.
    pub money: Money,
    /// The products, one for each bucket that was counted.
    pub lines: Vec<Line>,
}

impl Charge {
    fn of(currency: Currency, lines: Vec<Line>) -> Self {
        let sum = lines.iter().fold(0_u128, |sum, line| sum.saturating_add(line.product()));
        Self { money: rounded(sum, currency), lines }
    }

    /// The calculation in words: `1200 input × $0.25/M + 300 output × $2/M = $0.0009`.
    #[must_use]
    pub fn formula(&self) -> String {
        let symbol = self.money.currency.symbol();
        let mut text = String::new();
        for Line { bucket, count, nanos_per_million } in &self.lines {
            let plus = if text.is_empty() { "" } else { " + " };
            let (rate, each) = match bucket {
                Bucket::Image | Bucket::Request => (scaled(*nanos_per_million, 15), ""),
                _ => (scaled(*nanos_per_million, 9), "/M"),
            };
            let _ = write!(text, "{plus}{count} {} × {symbol}{rate}{each}", bucket.word());
        }
        if text.is_empty() {
            text.push_str("nothing");
        }
        let _ = write!(text, " = {}", self.money);
        text
    }
}

/// A sum of products in money, rounded up.
fn rounded(sum: u128, currency: Currency) -> Money {
    let nanos = u64::try_from(sum.div_ceil(MILLION)).unwrap_or(u64::MAX);
    Money { nanos, currency }
}

/// The rates of one tier, in billionths of the unit for a million tokens. Those that the price does
/// not name are those of the bucket they fall back to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rates {
    input: u64,
    cached_read: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
    audio_input: u64,
    audio_output: u64,
}

impl Rates {
    fn dearest_input(&self) -> u64 {
        self.input.max(self.cached_read).max(self.cache_write).max(self.audio_input)
    }

    fn dearest_output(&self) -> u64 {
        self.output.max(self.reasoning).max(self.audio_output)
    }
}

/// Rates for requests with more than so many input tokens. They hold for the whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tier {
    above: u64,
    rates: Rates,
}

/// The price of one model at one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    currency: Currency,
    /// By rising length; the first begins at 0 and holds for empty input too.
    tiers: Vec<Tier>,
    /// Rates for some hours of the week, in place of the tiers.
    off_peak: Option<(Week, Rates)>,
    /// Billionths for a million requests.
    request: u64,
    /// Billionths for a million images.
    image: u64,
    source: Arc<str>,
    as_of: Arc<str>,
}

impl Price {
    /// The currency that the provider bills in.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Where the price was read: a URL, with the table that passed it on, or the configuration.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// When it was read there: `2026-11` or `2026-11-22`. Empty if nobody said.
    #[must_use]
    pub fn as_of(&self) -> &str {
        &self.as_of
    }

    /// What an answer of these tokens costs, at this time (Unix, in milliseconds).
    #[must_use]
    pub fn charge(&self, usage: &Usage, at_ms: u64) -> Charge {
        let (heard, spoken) = (usage.audio_input, usage.audio_output);
        let counts = [
            (Bucket::Input, usage.input.saturating_sub(heard)),
            (Bucket::CachedRead, usage.cached_read),
            (Bucket::CacheWrite, usage.cache_write),
            (Bucket::Output, usage.output.saturating_sub(spoken)),
            (Bucket::Reasoning, usage.reasoning),
            (Bucket::AudioInput, heard),
            (Bucket::AudioOutput, spoken),
            (Bucket::Request, 1),
        ];
        self.charge_counts(&counts, at_ms)
    }

    /// What these counts cost: also of images, which [`Usage`] does not have. Each bucket at most once; a request is only charged for if it is among them.
    #[must_use]
    pub fn charge_counts(&self, counts: &[(Bucket, u64)], at_ms: u64) -> Charge {
        let inputs = counts.iter().filter(|(bucket, _)| bucket.is_input());
        let input_tokens = inputs.fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        let rates = self.rates(input_tokens, at_ms);
        let line = |&(bucket, count): &(Bucket, u64)| {
            let nanos_per_million = match bucket {
                Bucket::Input => rates.input,
                Bucket::CachedRead => rates.cached_read,
                Bucket::CacheWrite => rates.cache_write,
                Bucket::Output => rates.output,
                Bucket::Reasoning => rates.reasoning,
                Bucket::AudioInput => rates.audio_input,
                Bucket::AudioOutput => rates.audio_output,
                Bucket::Image => self.image,
                Bucket::Request => self.request,
            };
            let free = matches!(bucket, Bucket::Request | Bucket::Image) && nanos_per_million == 0;
            (count > 0 && !free).then_some(Line { bucket, count, nanos_per_million })
        };
        Charge::of(self.currency, counts.iter().filter_map(line).collect())
    }

    /// What an answer costs of which nothing was counted; `None` if that depends on its tokens or
    /// images.
    #[must_use]
    pub fn flat_charge(&self) -> Option<Charge> {
        let off_peak = self.off_peak.as_ref().map(|(_, rates)| rates);
        let mut rates = self.tiers.iter().map(|tier| &tier.rates).chain(off_peak);
        let is_flat = self.image == 0 && rates.all(|rates| *rates == Rates::default());
        is_flat.then(|| self.charge_counts(&[(Bucket::Request, 1)], 0))
    }

    /// What an answer of so many tokens costs at this time (Unix, in milliseconds), if no cache had
    /// any of them: to compare prices by.
    #[must_use]
    pub fn estimate(&self, input_tokens: u64, output_tokens: u64, at_ms: u64) -> Money {
        let rates = self.rates(input_tokens, at_ms);
        let product = |count: u64, rate: u64| u128::from(count) * u128::from(rate);
        let input = product(input_tokens, rates.input);
        let tokens = input.saturating_add(product(output_tokens, rates.output));
        rounded(tokens.saturating_add(u128::from(self.request)), self.currency)
    }

    /// The most that one answer can cost, whenever it ends, if it takes at most so many input and
    /// output tokens: every token counts as of the dearest kind, in the dearest tier within reach.
    /// Images made are not in it.
    #[must_use]
    pub fn ceiling(&self, input_tokens: u64, output_tokens: u64) -> Money {
        let reached = self.tiers.iter().filter(|tier| tier.above == 0 || tier.above < input_tokens);
        let rates = reached.map(|tier| tier.rates).chain(self.off_peak.as_ref().map(|off| off.1));
        let (input, output) = rates.fold((0, 0), |(input, output), rates| {
            (rates.dearest_input().max(input), rates.dearest_output().max(output))
        });
        let product = |count: u64, rate: u64| u128::from(count) * u128::from(rate);
        let tokens = product(input_tokens, input).saturating_add(product(output_tokens, output));
        rounded(tokens.saturating_add(u128::from(self.request)), self.currency)
    }

    /// Whether an answer costs more the more there is of it. If not, its [`ceiling`](Self::ceiling)
    /// holds for output of any length.
    #[must_use]
    pub fn depends_on_output(&self) -> bool {
        let off_peak = self.off_peak.as_ref().map(|(_, rates)| rates);
        let mut rates = self.tiers.iter().map(|tier| &tier.rates).chain(off_peak);
        self.image > 0 || rates.any(|rates| rates.dearest_output() > 0)
    }

    fn rates(&self, input_tokens: u64, at_ms: u64) -> Rates {
        if let Some((_, rates)) = self.off_peak.as_ref().filter(|(week, _)| week.covers(at_ms)) {
            return *rates;
        }
        let reached = self.tiers.partition_point(|tier| tier.above < input_tokens).max(1);
        self.tiers[reached - 1].rates
    }
}
