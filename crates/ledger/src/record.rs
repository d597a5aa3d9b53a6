//! What is written down of each attempt: one record before it is sent, one when it is over.
//!
//! Everything is borrowed, so that writing a record allocates nothing and reading one copies
//! nothing. Times are Unix milliseconds, durations microseconds, money 1e-9 of its unit.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::pair::RESERVED;

/// The id of a request: 128 bits of which the first 48 are the millisecond it came in, so that ids
/// sort by time. Written as `req_` and 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// The millisecond the request came in, as its id says.
    #[must_use]
    pub fn at_ms(self) -> u64 {
        self.halves().0 >> 16
    }

    /// The id as two numbers, the earlier one first in the order of ids.
    pub(crate) fn halves(self) -> (u64, u64) {
        let whole = u128::from_be_bytes(self.0);
        #[allow(clippy::cast_possible_truncation, reason = "each half is 64 bits wide")]
        let halves = ((whole >> 64) as u64, whole as u64);
        halves
    }

    pub(crate) fn from_halves(high: u64, low: u64) -> Self {
        Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "req_{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for RequestId {
    /// As text for people, as bytes otherwise.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => String::deserialize(deserializer)?.parse().map_err(de::Error::custom),
            false => <[u8; 16]>::deserialize(deserializer).map(Self),
        }
    }
}

/// The text is not `req_` and 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request id is req_ and 32 hexadecimal digits")
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for RequestId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.strip_prefix("req_").unwrap_or(text);
        let is_hex = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(digits, 16).ok()).flatten();
        number.map(|number| Self(number.to_be_bytes())).ok_or(NotAnId)
    }
}

/// The operation of a copy of a request that went to a shadow, whatever the request asked for: what it
/// used and cost stands beside that of requests, and never among it.
pub const MIRROR: &str = "mirror";

/// Who asked: ids, not names, so that a renamed team keeps its past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who<'a> {
    /// The key the call came with.
    pub key: Option<&'a str>,
    /// The user it belongs to.
    pub user: Option<&'a str>,
    /// The team.
    pub team: Option<&'a str>,
    /// The organisation.
    pub org: Option<&'a str>,
}

/// An amount in 1e-9 of a currency's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount<'a> {
    /// 1e-9 of the unit.
    pub nanos: u64,
    /// The currency's code: `USD`, `CNY`.
    pub currency: &'a str,
}

/// An attempt that is about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening<'a> {
    /// The request.
    pub id: RequestId,
    /// Which attempt of it, from 1. 0 for a request that was refused before any was
    /// made, or answered along with another one.
    pub attempt: u16,
    /// When.
    pub at_ms: u64,
    /// Who asked.
    pub who: Who<'a>,
    /// What for: `chat`, `embedding`, …
    pub operation: &'a str,
    /// The model as the client named it.
    pub model: &'a str,
    /// The provider's name; empty if none was chosen.
    pub provider: &'a str,
    /// The provider's name for the model; empty if none was chosen.
    pub upstream_model: &'a str,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Input tokens, estimated.
    pub input_estimate: u64,
    /// The most output tokens that were asked for.
    pub max_output: Option<u64>,
    /// What was reserved for it.
    pub reserved: Option<Amount<'a>>,
}

/// Tokens in disjoint buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Input, neither read from nor written to a cache.
    pub input: u64,
    /// Input read from the provider's cache.
    pub cached_read: u64,
    /// Input written to the provider's cache.
    pub cache_write: u64,
    /// Output other than reasoning.
    pub output: u64,
    /// Output spent on reasoning.
    pub reasoning: u64,
}

impl Tokens {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached_read: self.cached_read.saturating_add(other.cached_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

/// Where token counts come from. Their numbers are those of the journal and the database, where 2 has
/// no meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Provenance {
    /// There are none: nothing was used.
    #[default]
    None = 0,
    /// The provider said so.
    Reported = 1,
    /// The provider never said: by the length of what was sent, and of the text that was seen.
    Estimated = 3,
}

impl Provenance {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reported => "reported",
            Self::Estimated => "estimated",
        }
    }
}

impl Serialize for Provenance {
    /// As a word for people, as a number otherwise.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(self.word()),
            false => serializer.serialize_u8(*self as u8),
        }
    }
}

impl<'de> Deserialize<'de> for Provenance {
    /// From a number: nobody reads the word back.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = [Self::None, Self::Reported, Self::Estimated];
        let number = u8::deserialize(deserializer)?;
        let known = all.into_iter().find(|it| *it as u8 == number);
        known.ok_or_else(|| de::Error::custom("no such provenance"))
    }
}

/// A line of a bill: so many of one thing at one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<'a> {
    /// Of what: `input`, `output`, …
    pub bucket: &'a str,
    /// How many.
    pub count: u64,
    /// 1e-9 of the currency's unit for a million of them.
    pub nanos_per_million: u64,
}

/// What an attempt costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bill<'a> {
    /// Nothing: it used nothing.
    #[default]
    Nothing,
    /// Something, but no price is known. Never the same as nothing.
    Unpriced,
    /// This much.
    Charge(#[serde(borrow)] Amount<'a>),
}

/// An attempt that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing<'a> {
    /// The request.
    pub id: RequestId,
    /// Which attempt of it.
    pub attempt: u16,
    /// When it ended. Sums by time go by this.
    pub at_ms: u64,
    /// `Some` on the last attempt of a request, whose record is the request's record too: how many
    /// attempts there were. A request needs exactly one.
    pub last_of: Option<u16>,
    /// Status of the response; 0 if there was none.
    pub status: u16,
    /// How it ended, in a word.
    pub outcome: &'a str,
    /// The name of the fault, if there was one. A record with a fault, or a status of 400 and
    /// above, counts as an error.
    pub fault: Option<&'a str>,
    /// What was used.
    pub tokens: Tokens,
    /// Who says so.
    pub provenance: Provenance,
    /// What it costs.
    pub bill: Bill<'a>,
    /// From the start to the first event.
    pub first_event_us: Option<u64>,
    /// From the start to the end.
    pub total_us: u64,
    /// The part of it that was Magpie's own.
    pub overhead_us: u64,
    /// Events of the stream that carried something.
    pub events: u64,
    /// How the bill came about.
    pub lines: &'a [Line<'a>],
}

/// What a caller thinks of an answer. The last one for a request and a label counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feedback<'a> {
    /// The request.
    pub id: RequestId,
    /// When it was given. The later of two counts.
    pub at_ms: u64,
    /// When the request ended, as its record has it: where the two find each other.
    pub ended_ms: u64,
    /// What it is about; empty if it is about the answer as a whole. Clipped like a name.
    pub label: &'a str,
    /// How good, from 0 to 1.
    pub score: f64,
    /// In words, as the caller sent it; at most 1,000 bytes, the rest is cut off.
    pub comment: Option<&'a str>,
}

/// How a bill came about, for people: `1200 input × $0.25/M + 300 output × $2/M = $0.0009`.
#[must_use]
pub fn formula(lines: &[Line<'_>], total: Amount<'_>) -> String {
    let mut text = String::new();
    for line in lines {
        let plus = if text.is_empty() { "" } else { " + " };
        // What is not counted in tokens is priced by the piece.
        let (per, by) = match line.bucket {
            "request" | "image" | RESERVED => ("", 1_000_000),
            _ => ("/M", 1),
        };
        let rate = Amount { nanos: line.nanos_per_million / by, currency: total.currency };
        let _ = write!(text, "{plus}{} {} × {rate}{per}", line.count, line.bucket);
    }
    let equals = if text.is_empty() { "" } else { " = " };
    let _ = write!(text, "{equals}{total}");
    text
}

impl fmt::Display for Amount<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.currency {
            "USD" => f.write_str("$")?,
            "CNY" => f.write_str("¥")?,
            other => write!(f, "{other} ")?,
        }
        f.write_str(&decimal(self.nanos))
    }
}

/// An amount of nanos as a decimal number without needless zeros.
#[must_use]
pub fn decimal(nanos: u64) -> String {
    const UNIT: u64 = 1_000_000_000;
    let text = format!("{}.{:09}", nanos / UNIT, nanos % UNIT);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
