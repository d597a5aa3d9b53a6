//! Conditions on a request: declared matches, checked when they are loaded and never evaluated as a
//! program.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use http::HeaderName;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::facts::Facts;
use crate::limit::{Count, tokens};
use crate::price::{Day, Week};
use crate::scope::{Glob, Operations};

/// What has to hold of a request, all of it. Of several texts for one thing, one is enough, and `*`
/// in them stands for any text.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Condition")]
pub struct ConditionConfig {
    /// Request headers: name and texts.
    #[schemars(extend("x-example" = {"x-tier": "gold"}))]
    pub header: BTreeMap<String, Texts>,
    /// Metadata of the caller, or of the request where the caller has none of that name.
    #[schemars(extend("x-example" = {"cost_center": ["4711", "48*"]}))]
    pub metadata: BTreeMap<String, Texts>,
    /// The name of the virtual key.
    pub key: Option<Texts>,
    /// The user.
    pub user: Option<Texts>,
    /// The team.
    pub team: Option<Texts>,
    /// The organisation.
    pub org: Option<Texts>,
    /// Operations, such as `chat` or `embedding`.
    pub operations: Option<Operations>,
    /// Estimated input tokens, more than this.
    #[serde(deserialize_with = "tokens")]
    #[schemars(with = "Option<Count>")]
    pub input_over: Option<u64>,
    /// Estimated input tokens, at most this.
    #[serde(deserialize_with = "tokens")]
    #[schemars(with = "Option<Count>")]
    pub input_up_to: Option<u64>,
    /// Whether the request offers tools.
    pub tools: Option<bool>,
    /// Whether there are images in it.
    pub images: Option<bool>,
    /// Hours of the day, such as `22:30-06:00`, which runs on into the next day.
    pub hours: Option<Texts>,
    /// Days of the week, on which the hours begin. Default: all.
    pub days: Option<Vec<Day>>,
    /// Whose hours and days these are: a name of the time zone database. Default `UTC`.
    pub zone: Option<String>,
}

/// One text or several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    /// A number or the like is a text here, such as the 4711 of a cost centre.
    fn visit_u64<E>(self, number: u64) -> Result<Texts, E> {
        Ok(Texts(vec![number.to_string()]))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Texts, E> {
        Ok(Texts(vec![number.to_string()]))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Texts, E> {
        Ok(Texts(vec![truth.to_string()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Texts")
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}

/// A condition, compiled. The cheap matches stand first.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    operations: Option<Operations>,
    tools: Option<bool>,
    images: Option<bool>,
    input_over: Option<u64>,
    input_up_to: Option<u64>,
    key: Option<Box<[Glob]>>,
    user: Option<Box<[Glob]>>,
    team: Option<Box<[Glob]>>,
    org: Option<Box<[Glob]>>,
    headers: Vec<(HeaderName, Box<[Glob]>)>,
    metadata: Vec<(Box<str>, Box<[Glob]>)>,
    time: Option<(Week, TimeZone)>,
}

impl Condition {
    /// Compiles a condition as written.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn compile(config: &ConditionConfig) -> Result<Self, String> {
        if *config == ConditionConfig::default() {
            return Err("a condition without anything in it fits everything".into());
        }
        if let (Some(over), Some(up_to)) = (config.input_over, config.input_up_to)
            && over >= up_to
        {
            return Err(format!("no input is over {over} and up to {up_to} tokens"));
        }
        let globs = |texts: &Option<Texts>| texts.as_ref().map(globs).transpose();
        Ok(Self {
            operations: config.operations,
            tools: config.tools,
            images: config.images,
            input_over: config.input_over,
            input_up_to: config.input_up_to,
            key: globs(&config.key)?,
            user: globs(&config.user)?,
            team: globs(&config.team)?,
            org: globs(&config.org)?,
            headers: headers(&config.header)?,
            metadata: metadata(&config.metadata)?,
            time: time(config)?,
        })
    }

    /// Whether it holds of a request.
    pub(crate) fn holds(&self, facts: &Facts<'_>) -> bool {
        self.operations.is_none_or(|operations| operations.contains(facts.operation))
            && self.tools.is_none_or(|tools| tools == facts.has_tools)
            && self.images.is_none_or(|images| images == facts.has_images)
            && self.input_over.is_none_or(|over| facts.input_tokens > over)
            && self.input_up_to.is_none_or(|up_to| facts.input_tokens <= up_to)
            && fits(self.key.as_deref(), facts.key)
            && fits(self.user.as_deref(), facts.user)
            && fits(self.team.as_deref(), facts.team)
            && fits(self.org.as_deref(), facts.org)
            && self.headers.iter().all(|(name, globs)| {
                let mut values = facts.headers.get_all(name).iter();
                values.any(|value| fits(Some(globs), value.to_str().ok()))
            })
            && self.metadata.iter().all(|(name, globs)| fits(Some(globs), facts.note(name)))
            && self.time.as_ref().is_none_or(|(week, zone)| is_within(week, zone, facts.unix_ms))
    }

    /// Whether it asks how long the input is.
    pub(crate) fn needs_input(&self) -> bool {
        self.input_over.is_some() || self.input_up_to.is_some()
    }

    /// Whether it asks for tools or images.
    pub(crate) fn needs_content(&self) -> bool {
        self.tools.is_some() || self.images.is_some()
    }

    /// Whether it asks for metadata.
    pub(crate) fn needs_metadata(&self) -> bool {
        !self.metadata.is_empty()
    }
}

/// Whether a text is there and one of the patterns fits, or none was asked for.
fn fits(globs: Option<&[Glob]>, text: Option<&str>) -> bool {
    let Some(globs) = globs else { return true };
    text.is_some_and(|text| globs.iter().any(|glob| glob.matches(text)))
}

fn globs(texts: &Texts) -> Result<Box<[Glob]>, String> {
    if texts.0.is_empty() {
        return Err("a list without texts fits nothing".into());
    }
    texts.0.iter().map(|text| text.parse::<Glob>().map_err(|fault| plain(&fault))).collect()
}

/// What is wrong with a pattern, said of any text.
fn plain(fault: &str) -> String {
    fault
        .replace("a model pattern", "a text")
        .replace("write `*` for every model", "write `*` for any")
}

type Named<N> = Vec<(N, Box<[Glob]>)>;

fn headers(written: &BTreeMap<String, Texts>) -> Result<Named<HeaderName>, String> {
    let header = |(name, texts): (&String, &Texts)| {
        let name = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
        Ok((name, globs(texts)?))
    };
    written.iter().map(header).collect()
}

fn metadata(written: &BTreeMap<String, Texts>) -> Result<Named<Box<str>>, String> {
    written.iter().map(|(name, texts)| Ok((name.as_str().into(), globs(texts)?))).collect()
}

fn time(config: &ConditionConfig) -> Result<Option<(Week, TimeZone)>, String> {
    let zone = match &config.zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name)
            .map_err(|_| format!("`{name}` is no time zone; write for example Asia/Shanghai"))?,
    };
    if config.hours.is_none() && config.days.is_none() {
        return match config.zone {
            None => Ok(None),
            Some(_) => Err("`zone` says nothing without `hours` or `days`".into()),
        };
    }
    let all_day = Texts(vec!["00:00-24:00".into()]);
    let hours = config.hours.as_ref().unwrap_or(&all_day);
    let days = config.days.as_deref().unwrap_or(&Day::ALL);
    if hours.0.is_empty() || days.is_empty() {
        return Err("a list without hours or days fits nothing".into());
    }
    let mut week = Week::default();
    for day in days {
        for span in &hours.0 {
            week.add(*day, span, 0)?;
        }
    }
    Ok(Some((week, zone)))
}

/// Whether a time is within these hours of the week, as they are in that zone.
fn is_within(week: &Week, zone: &TimeZone, unix_ms: u64) -> bool {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let Some(at) = at else { return false };
    let ahead_ms = i64::from(zone.to_offset(at).seconds()) * 1_000;
    week.covers(unix_ms.saturating_add_signed(ahead_ms))
}
