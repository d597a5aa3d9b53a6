//! Where a request would go, and why: what a plan says of it, in words and numbers, without asking
//! a provider and without taking anything.

mod check;
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use policy::directory::{Chain, Kind};
use policy::health::retry::MOST_ATTEMPTS;
use policy::health::{Bench, Health, Live, Standing};
use policy::plan::{Facts, LIKELY_OUTPUT, Skip, Target, metadata};
use policy::scope::Operation;
use policy::units::milliseconds;
use policy::{Clocks, Plan, Route, Snapshot, UnknownModel};
use schemars::JsonSchema;
use serde::Serialize;

pub use check::CheckView;
pub use model::{ModelView, models};

/// A request that is asked about.
#[derive(Debug, Clone)]
pub struct Question {
    /// The model, as a client names it.
    pub model: String,
    /// What it asks for.
    pub operation: Operation,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its input tokens, if anything is to be said of what they cost.
    pub input_tokens: Option<u64>,
    /// Whether it offers tools.
    pub has_tools: bool,
    /// Whether there are images in it.
    pub has_images: bool,
    /// Its `prompt_cache_key`.
    pub cache_key: Option<String>,
    /// When it comes, in Unix milliseconds.
    pub at_ms: u64,
    /// What lots are drawn from.
    pub random: u64,
}

/// Now, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds of the monotonic clock that health is counted by.
    pub ms: u64,
    /// Unix milliseconds.
    pub unix_ms: u64,
}

impl Now {
    /// A time of the monotonic clock in Unix milliseconds.
    fn unix(self, ms: u64) -> u64 {
        self.unix_ms.saturating_add(ms).saturating_sub(self.ms)
    }
}

/// Where a request would go.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Explained {
    /// Always `explanation`.
    pub object: &'static str,
    /// The model that was asked about.
    pub model: String,
    /// The model of the file whose plan it is; a pattern, where that fits.
    pub plan: String,
    /// The key, if one was named.
    pub key: Option<KeyVerdict>,
    /// The most targets that one request is sent to.
    pub most_attempts: u32,
    /// Retries that the model has left at this moment.
    pub retries_left: u64,
    /// What of its attempts goes side by side, such as `a race of 2`; null if nothing does.
    pub side_by_side: Option<String>,
    /// What share of its requests goes to a shadow as well, such as `5 % to glm/glm-5`; null without a
    /// mirror.
    pub mirror: Option<String>,
    /// What a chat is answered with in place of the candidates, such as `a cascade of flash, max`;
    /// null where the model is not made of others.
    pub composed: Option<String>,
    /// The targets in the order in which they would be asked, if each of them failed.
    pub candidates: Vec<CandidateView>,
    /// The targets that were passed over, in the order of looking. One that is left for want of
    /// anything better may be among the candidates too.
    pub skipped: Vec<SkippedView>,
}

/// Whether a key may make the request.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyVerdict {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// The user it counts for.
    pub user: Option<String>,
    /// The team it counts for.
    pub team: Option<String>,
    /// The org it counts for.
    pub org: Option<String>,
    /// Whether its terms, and those of everyone above it, let the request through. Addresses are
    /// not looked at, nor what is left of limits and budgets.
    pub allowed: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// A target that would be asked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CandidateView {
    /// Why it is at this place.
    pub why: String,
    /// The target.
    #[serde(flatten)]
    pub at: TargetView,
    /// What the input costs there; null if the price or the length of the input is not known.
    pub input_cost: Option<CostView>,
    /// Its clocks.
    pub clocks: ClocksView,
}

/// A target that was passed over.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SkippedView {
    /// Why.
    pub reason: String,
    /// Until when, in Unix milliseconds, as far as that is known.
    pub until_ms: Option<u64>,
    /// Whether it is asked all the same where nothing better is left.
    pub last_resort: bool,
    /// The target.
    #[serde(flatten)]
    pub at: TargetView,
}

/// A target, and how it is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TargetView {
    /// `provider/upstream-model`.
    pub target: String,
    /// The provider.
    pub provider: String,
    /// What the provider calls the model.
    pub upstream_model: String,
    /// Where the provider is, if that is known.
    pub region: Option<String>,
    /// Whether it is asked.
    pub breaker: BreakerView,
    /// Attempts under way there.
    pub in_flight: u32,
    /// The mean time to its first token, in milliseconds, the newer the more; null before the
    /// first one.
    pub first_token_ms: Option<u64>,
    /// The time within which it began 95 of 100 answers, in milliseconds; null before there were
    /// twenty.
    pub first_token_p95_ms: Option<u64>,
    /// The provider's credentials, in their order. Without any there is one, which stands for none.
    pub credentials: Vec<CredentialView>,
    /// The last health check of the provider; null without one.
    pub check: Option<CheckView>,
}

/// How a breaker stands.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BreakerView {
    /// Whether the target is asked.
    pub state: BreakerState,
    /// Until when it is open, in Unix milliseconds.
    pub until_ms: Option<u64>,
    /// Whether the target could not even be reached.
    pub unreached: bool,
    /// The percent of its share that a closed one lets through: less than 100 for a while after a
    /// return.
    pub percent: u64,
}

/// The states of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// The target is asked.
    Closed,
    /// It is not asked, unless nothing better is left.
    Open,
    /// It was open: the next request finds out whether the target is back.
    Due,
    /// A request is finding that out.
    HalfOpen,
}

impl BreakerState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Due => "due",
            Self::HalfOpen => "half open",
        }
    }
}

/// A credential of a provider at one target. Nothing of the credential itself.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CredentialView {
    /// Until when it is left alone, in Unix milliseconds; null if it is not.
    pub benched_until_ms: Option<u64>,
    /// How many attempts it may have under way, and how many it has; null where no such number is
    /// sought.
    pub window: Option<WindowView>,
}

/// How many attempts a credential may have under way.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WindowView {
    /// As many as that.
    pub size: u32,
    /// So many it has.
    pub in_flight: u32,
}

/// What something costs. Money is written as text, so that no digit is lost.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CostView {
    /// How much, such as `¥0.0012`.
    pub amount: String,
    /// In which currency: `CNY` or `USD`.
    pub currency: &'static str,
}

/// The clocks of an attempt, in milliseconds.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ClocksView {
    /// Connecting, TLS included.
    pub connect_ms: u64,
    /// The first event of a stream, after connecting.
    pub first_event_ms: u64,
    /// Silence between events.
    pub idle_ms: u64,
    /// The whole request.
    pub total_ms: u64,
}

/// A target of a plan, and how it is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlannedTarget {
    /// The name that is asked for, and the target's number in its plan, from 0: `chat#0`.
    pub id: String,
    /// The name that is asked for.
    pub model: String,
    /// Retries that the model has left at this moment.
    pub retries_left: u64,
    /// Requests that wait for room at its targets; null where none waits.
    pub queued: Option<usize>,
    /// The target.
    #[serde(flatten)]
    pub at: TargetView,
}

/// Where a request would go, if it came from a key with this chain.
///
/// # Errors
/// [`UnknownModel`] with the nearest names.
pub fn explain(
    snapshot: &Snapshot,
    key: Option<&Chain>,
    question: &Question,
    now: Now,
) -> Result<Explained, UnknownModel> {
    let plan = snapshot.plan(&question.model)?;
    let nobody = Chain::default();
    let caller = key.unwrap_or(&nobody);
    let sent = question.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let metadata = metadata(caller, sent);
    let facts = Facts {
        metadata: &metadata,
        input_tokens: question.input_tokens.unwrap_or(0),
        output_tokens: LIKELY_OUTPUT,
        has_tools: question.has_tools,
        has_images: question.has_images,
        cache_key: question.cache_key.as_deref(),
        unix_ms: question.at_ms,
        ..Facts::new(question.operation, &question.headers).by(caller)
    };
    let told = plan.explain(&facts, question.random, now.ms);
    let (targets, health) = (plan.targets(), snapshot.health());
    // What is forwarded is sent to one target at a time, and only texts are mirrored.
    let is_text = matches!(question.operation, Operation::Chat | Operation::Completion);
    let is_understood = is_text || question.operation == Operation::Embedding;
    let candidates = told.candidates.iter().map(|(index, why)| {
        let target = &targets[*index];
        CandidateView {
            why: why.to_string(),
            at: view(target, health, now),
            input_cost: input_cost(&target.route, question),
            clocks: clocks(target.route.clocks),
        }
    });
    let skipped = told.skipped.iter().map(|skipped| SkippedView {
        reason: skipped.skip.to_string(),
        until_ms: skipped.skip.until_ms().map(|until| now.unix(until)),
        last_resort: skipped.skip.is_soft()
            && !(plan.queue().is_some() && matches!(skipped.skip, Skip::Saturated { .. })),
        at: view(&targets[skipped.target], health, now),
    });
    Ok(Explained {
        object: "explanation",
        model: question.model.clone(),
        plan: plan.model().to_owned(),
        key: key.and_then(|chain| verdict(chain, question)),
        most_attempts: MOST_ATTEMPTS,
        retries_left: plan.budget().left(now.ms),
        composed: plan.composed().map(ToString::to_string),
        side_by_side: plan.beside().filter(|_| is_understood).map(|beside| beside.to_string()),
        mirror: plan.mirror().filter(|_| is_text).map(ToString::to_string),
        candidates: candidates.collect(),
        skipped: skipped.collect(),
    })
}

/// The targets of the plans, behind the one of this name and number: at most `most` of them.
#[must_use]
pub fn targets(
    plans: &[(Box<str>, Arc<Plan>)],
    health: &Health,
    after: Option<(&str, usize)>,
    most: usize,
    now: Now,
) -> Vec<PlannedTarget> {
    let all = plans.iter().flat_map(|(name, plan)| {
        plan.targets().iter().enumerate().map(move |(number, target)| (name, number, plan, target))
    });
    let behind =
        all.filter(|(name, number, ..)| after.is_none_or(|after| (&***name, *number) > after));
    let planned = behind.take(most).map(|(name, number, plan, target)| PlannedTarget {
        id: format!("{name}#{number}"),
        model: name.to_string(),
        retries_left: plan.budget().left(now.ms),
        queued: plan.queue().map(|queue| queue.line.len()),
        at: view(target, health, now),
    });
    planned.collect()
}

/// Whether the key of a chain may make a request.
fn verdict(chain: &Chain, question: &Question) -> Option<KeyVerdict> {
    let key = &chain.level(Kind::Key)?.holder;
    let barred = chain.bar(question.operation, None, question.at_ms).map(|bar| format!("{bar}."));
    let reason = barred.or_else(|| {
        let whose = chain.bars_model(&question.model)?.word();
        Some(format!("The {whose} may not use the model `{}`.", question.model))
    });
    let name = |kind| chain.level(kind).map(|level| level.holder.name.to_string());
    Some(KeyVerdict {
        id: key.id.to_string(),
        name: key.name.to_string(),
        user: name(Kind::User),
        team: name(Kind::Team),
        org: name(Kind::Org),
        allowed: reason.is_none(),
        reason,
    })
}

fn view(target: &Target, health: &Health, now: Now) -> TargetView {
    let (route, live): (&Route, &Live) = (&target.route, &target.live);
    let credential = |bench: &Bench| CredentialView {
        benched_until_ms: bench.benched(now.ms).map(|until| now.unix(until)),
        window: live.credentials.windows().map(|range| WindowView {
            size: bench.window.size(range),
            in_flight: bench.window.in_flight(),
        }),
    };
    TargetView {
        target: target.name(),
        provider: route.provider.id.to_string(),
        upstream_model: route.upstream_model.to_string(),
        region: route.provider.region.clone(),
        breaker: breaker(live.health.breaker.standing(now.ms), now),
        in_flight: live.health.in_flight(),
        first_token_ms: live.health.first_token.mean_ms(now.ms).and_then(mean_ms),
        first_token_p95_ms: live.health.times.p95_ms(),
        credentials: live.credentials.benches().map(credential).collect(),
        check: check::view(&route.provider, health, now),
    }
}

fn breaker(standing: Standing, now: Now) -> BreakerView {
    let (state, until, unreached, percent) = match standing {
        Standing::Closed { percent } => (BreakerState::Closed, None, false, percent),
        Standing::Due => (BreakerState::Due, None, false, 0),
        Standing::Open { until_ms, unreached } => {
            (BreakerState::Open, Some(until_ms), unreached, 0)
        }
        Standing::Probing { unreached } => (BreakerState::HalfOpen, None, unreached, 0),
    };
    BreakerView { state, until_ms: until.map(|until| now.unix(until)), unreached, percent }
}

fn input_cost(route: &Route, question: &Question) -> Option<CostView> {
    let price = route.price.as_ref()?;
    let money = price.estimate(question.input_tokens?, 0, question.at_ms);
    Some(CostView { amount: money.to_string(), currency: money.currency.code() })
}

fn clocks(clocks: Clocks) -> ClocksView {
    ClocksView {
        connect_ms: milliseconds(clocks.connect),
        first_event_ms: milliseconds(clocks.first_event),
        idle_ms: milliseconds(clocks.idle),
        total_ms: milliseconds(clocks.total),
    }
}

/// A mean in whole milliseconds.
fn mean_ms(mean: f32) -> Option<u64> {
    Duration::try_from_secs_f32(mean / 1_000.0).ok().map(milliseconds)
}
