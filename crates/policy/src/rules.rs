//! Limits on combinations: each key on each model, each address, and the like.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::{Chain, Holder, Kind, TermsConfig};
use crate::limit::{LimitsMap, Meter};
use crate::scope::Glob;

/// Combinations of one rule that are counted apart. Beyond them, those at rest are forgotten; if
/// none is, the newcomers share one count.
const MOST: usize = 100_000;
/// How often those at rest are looked for when there are too many, in nanoseconds.
const LOOK_NS: u64 = 1_000_000_000;

/// What a rule tells calls apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The virtual key.
    Key,
    /// The user.
    User,
    /// The team.
    Team,
    /// The organisation.
    Org,
    /// The model, by the name that was asked for.
    Model,
    /// The provider.
    Provider,
    /// The provider and its model.
    Target,
    /// The address that the call comes from.
    Address,
}

/// A limit for each combination of things. Requests `per: [address]` are counted at
/// the door, also those without a key that is known.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// What is counted apart: one or two of `key`, `user`, `team`, `org`, `model`, `provider`,
    /// `target`, `address`.
    #[schemars(extend("x-example" = ["key", "model"]))]
    pub per: Vec<Per>,
    /// Only calls for these models; `*` stands for any text. Default: all.
    #[schemars(extend("x-example" = ["gpt-*"]))]
    pub models: Option<Vec<Glob>>,
    /// How much per time, for each combination.
    #[schemars(extend("x-example" = {"rpm": 60}))]
    pub limits: LimitsMap,
}

/// What a call is about, as rules see it.
pub struct Subject<'s> {
    /// Who calls.
    pub chain: &'s Chain,
    /// The model, by the name that was asked for.
    pub model: &'s str,
    /// The provider.
    pub provider: &'s str,
    /// What the provider calls the model.
    pub upstream_model: &'s str,
    /// Where the call comes from.
    pub address: Option<IpAddr>,
}

/// One rule, with its counts.
pub struct Rule {
    config: RuleConfig,
    /// Kept across reloads, as long as the rule stays as it is.
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    by_name: HashMap<Box<str>, Arc<Holder>>,
    /// When those at rest were looked for last, in nanoseconds.
    looked_ns: u64,
}

impl Rule {
    /// The rule as it is written.
    ///
    /// # Errors
    /// A sentence, for one that tells nothing apart, or limits nothing.
    pub fn new(config: &RuleConfig) -> Result<Self, &'static str> {
        let (per, limits) = (&config.per, &config.limits.0);
        let twice = per.iter().enumerate().any(|(index, one)| per[..index].contains(one));
        if per.is_empty() || per.len() > 2 || twice {
            return Err("`per` takes one or two different things to tell calls apart by");
        }
        if limits.is_empty() {
            return Err("a rule without limits limits nothing");
        }
        Ok(Self { config: config.clone(), counts: Arc::default() })
    }

    /// Takes over the counts of the same rule in the configuration before.
    pub(crate) fn inherit(&mut self, before: &[Self]) {
        if let Some(same) = before.iter().find(|rule| rule.config == self.config) {
            self.counts = Arc::clone(&same.counts);
        }
    }

    /// Whether it counts calls before it is known who calls.
    #[must_use]
    pub fn is_at_the_door(&self) -> bool {
        let only_requests = self.config.limits.0.iter().all(|limit| limit.meter == Meter::Requests);
        only_requests && self.config.per == [Per::Address] && self.config.models.is_none()
    }

    /// Whether it tells calls apart by the target that is asked.
    #[must_use]
    pub fn is_of_targets(&self) -> bool {
        self.config.per.iter().any(|per| matches!(per, Per::Provider | Per::Target))
    }

    /// The count that a call belongs to; `None` if the rule is not about it. `now_ns` is by the
    /// clock of the limits.
    #[must_use]
    pub fn holder(&self, subject: &Subject<'_>, now_ns: u64) -> Option<Arc<Holder>> {
        let models = self.config.models.as_ref();
        if models.is_some_and(|models| !models.iter().any(|glob| glob.matches(subject.model))) {
            return None;
        }
        let mut name = String::new();
        for per in &self.config.per {
            let (what, value) = told(*per, subject)?;
            let and = if name.is_empty() { "" } else { ", " };
            name.push_str(and);
            name.push_str(what);
            name.push(' ');
            name.push_str(&value);
        }
        Some(self.count(&name, now_ns))
    }

    fn count(&self, name: &str, now_ns: u64) -> Arc<Holder> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = counts.by_name.get(name) {
            return Arc::clone(holder);
        }
        let is_due = now_ns.saturating_sub(counts.looked_ns) >= LOOK_NS;
        if counts.by_name.len() >= MOST && is_due {
            counts.looked_ns = now_ns;
            // Whoever holds one beside this map is in the middle of a request.
            let in_use = |holder: &Arc<Holder>| Arc::strong_count(holder) > 1;
            counts.by_name.retain(|_, holder| in_use(holder) || !holder.is_at_rest(now_ns));
        }
        let name = if counts.by_name.len() < MOST { name } else { "everyone else" };
        let terms =
            TermsConfig { limits: Some(self.config.limits.clone()), ..TermsConfig::default() };
        let made = || Holder::of_file(Kind::Rule, name, &terms);
        Arc::clone(counts.by_name.entry(name.into()).or_insert_with(made))
    }
}

fn told<'s>(per: Per, subject: &Subject<'s>) -> Option<(&'static str, Cow<'s, str>)> {
    let holder = |kind: Kind| {
        let id = subject.chain.id(kind)?;
        Some((kind.word(), Cow::Owned(id.to_string())))
    };
    match per {
        Per::Key => holder(Kind::Key),
        Per::User => holder(Kind::User),
        Per::Team => holder(Kind::Team),
        Per::Org => holder(Kind::Org),
        Per::Model => Some(("model", Cow::Borrowed(subject.model))),
        Per::Provider => Some(("provider", Cow::Borrowed(subject.provider))),
        Per::Target => {
            let target = format!("{}/{}", subject.provider, subject.upstream_model);
            Some(("target", Cow::Owned(target)))
        }
        Per::Address => {
            // Whoever has an IPv6 network has any number of addresses in it.
            let address = match subject.address?.to_canonical() {
                IpAddr::V6(address) => {
                    let [a, b, c, d, ..] = address.segments();
                    format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
                }
                address @ IpAddr::V4(_) => address.to_string(),
            };
            Some(("address", Cow::Owned(address)))
        }
    }
}
