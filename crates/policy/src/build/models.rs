//! The models of the snapshot: public names, and where they go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::composed::is_composed;
use super::{Builder, callers};
use crate::config::{At, Config, ModelConfig};
use crate::directory::Kind;
use crate::edits::{self, EditPlan};
use crate::health::Health;
use crate::health::retry::MOST_RETRIES;
use crate::money::Money;
use crate::names::{Pattern, nearest};
use crate::plan::{Beside, Draft, Options, Plan, Resume, Spot};
use crate::planned::{Planned, Way};
use crate::problem::Place;
use crate::provider::Provider;
use crate::queue::{QueueConfig, Waiting};
use crate::snapshot::{Route, Wildcard};
use crate::units;

/// How long a request waits for room, if nothing is said.
const WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// How many wait, if nothing is said.
const MOST_WAITING: usize = 200;
/// How many may. Each holds its body and its connection.
const MOST_WAITING_EVER: usize = 10_000;

#[derive(Default)]
pub(super) struct Models {
    pub(super) exact: HashMap<Box<str>, Arc<Plan>>,
    pub(super) wildcards: Vec<Wildcard>,
    pub(super) default: Option<Arc<Route>>,
    /// Names in the order of the file, for the list.
    pub(super) names: Vec<(String, Arc<str>)>,
}

impl Builder<'_> {
    pub(super) fn checked_edits(&mut self, edits: &At<::providers::Edits>) {
        if let Some(message) = edits::fault(&edits.value) {
            self.problem(edits.place, message, "name each field once, and leave these alone");
        }
    }

    pub(super) fn models(
        &mut self,
        config: &Config,
        providers: &[Arc<Provider>],
        health: &Health,
    ) -> Models {
        let mut models = Models::default();
        let exchange = Arc::new(config.exchange.clone());
        for (name, written) in &config.models {
            if is_composed(&written.value) {
                models.names.push((name.clone(), Arc::default()));
                continue;
            }
            let Some(draft) = self.draft(written, config, providers) else { continue };
            self.checked_edits(&written.value.edits);
            if written.value.single_flight && draft.has_split() {
                let message =
                    "a `split` keeps callers apart whose answers `single_flight` would share";
                self.problem(written.place, message, "take one of the two out");
            }
            let (limits, budget) = (written.value.limits.as_ref(), written.value.budget.as_ref());
            let holder = callers::holder(Kind::Model, name, limits, budget);
            self.holders.extend(holder.clone());
            let edits = EditPlan::compile(&written.value.edits.value);
            let options = self.options(&written.value, &draft);
            let mirror = self.mirror(written, config, providers);
            let spots = draft.spots.iter().chain(mirror.iter().map(|mirror| &mirror.spot));
            let ways = spots.map(|spot| {
                let clocks = self.clocks(spot.provider.clocks, &written.value.timeouts);
                let edits = Arc::new(edits.clone().over(&spot.provider.edits));
                let single_flight = written.value.single_flight;
                Way { edits, clocks, holder: holder.clone(), single_flight }
            });
            let ways = ways.collect();
            let model = Planned {
                name: name.as_str().into(),
                draft,
                ways,
                mirror,
                exchange: Arc::clone(&exchange),
                options,
            };
            self.check_resume(&model);
            self.place(model, written.place, &mut models, health);
        }
        models.wildcards.sort_by_key(|wildcard| std::cmp::Reverse(wildcard.pattern.weight()));
        let default = models.exact.get("default").map(|plan| Arc::clone(plan.first_route()));
        models.default = default.or_else(|| default_route(providers));
        models
    }

    /// How a model wants to be asked, but for its mirror.
    fn options(&mut self, model: &ModelConfig, draft: &Draft) -> Options {
        Options {
            beside: self.beside(model, draft),
            retries: self.retries(model),
            waiting: self.waiting(model.queue.as_ref()),
            resume: model.resume.value,
            mirror: None,
        }
    }

    /// How long and how many requests wait for a model, if they do.
    fn waiting(&mut self, written: Option<&At<QueueConfig>>) -> Option<Waiting> {
        let At { value: config, place } = written?;
        let wait = match &config.wait {
            Some(text) => self.or(*place, units::duration(text), WAIT),
            None => WAIT,
        };
        let most = config.most.unwrap_or(MOST_WAITING);
        if wait > LONGEST_WAIT {
            self.problem(*place, "a request waits at most 10m", "write for example 10s");
        }
        if !(1..=MOST_WAITING_EVER).contains(&most) {
            let message = format!("1 to {MOST_WAITING_EVER} requests may wait");
            self.problem(*place, message, "write for example most: 200");
        }
        Some(Waiting { wait, most })
    }

    /// Puts a model among the exact names or the wildcards.
    fn place(&mut self, model: Planned, place: Place, models: &mut Models, health: &Health) {
        let name = model.name.to_string();
        let stars = model.spots().map(|spot| Pattern::parse(&spot.model));
        let stars: Vec<Option<Pattern>> = stars.collect();
        match Pattern::parse(&name) {
            Some(pattern) if stars.iter().all(Option::is_some) => {
                let targets = stars.into_iter().flatten().collect();
                models.wildcards.push(Wildcard { pattern, targets, model });
            }
            None if stars.iter().all(Option::is_none) && !name.contains('*') => {
                self.check_prices(&name, &model);
                let upstream = |index: usize| {
                    model.spots().nth(index).map(|spot| spot.model.clone()).unwrap_or_default()
                };
                let Some(plan) = model.plan(&name, upstream, |route| route, health) else { return };
                models.names.push((name.clone(), Arc::clone(&plan.first_route().provider.id)));
                models.exact.insert(name.into(), Arc::new(plan));
            }
            pattern => {
                let is_wrong = |star: &Option<Pattern>| star.is_some() != pattern.is_some();
                let wrong = stars.iter().position(is_wrong).unwrap_or(0);
                let target = model.spots().nth(wrong).map_or("", |spot| &spot.model);
                self.problem(
                    place,
                    format!("`{name}` and its target `{target}` must hold one * each, or none"),
                    "for example  \"gpt-*\": openai/gpt-*",
                );
            }
        }
    }

    /// A choice by price needs prices that can be compared: the owner should know which cannot.
    fn check_prices(&mut self, name: &str, model: &Planned) {
        if !model.draft.compares_prices() {
            return;
        }
        let mut first = None;
        for Spot { provider, model: upstream } in &model.draft.spots {
            let target = format!("{}/{upstream}", provider.id);
            let Some(price) = provider.price(upstream) else {
                let told = format!("model {name}: no price of {target} is known, so it comes last");
                self.warnings.push(told);
                continue;
            };
            let (currency, first) = (price.currency(), *first.get_or_insert(price.currency()));
            let one = Money { nanos: 1, currency };
            if model.exchange.convert(one, first).is_none() {
                self.warnings.push(format!(
                    "model {name}: {target} has its price in {}, and `exchange` does not say what \
                     that is in {}, so it comes last",
                    currency.code(),
                    first.code(),
                ));
            }
        }
    }

    /// How often a model's plan is gone through again.
    fn retries(&mut self, model: &ModelConfig) -> u32 {
        let Some(At { value, place }) = &model.retries else { return 0 };
        if *value > u64::from(MOST_RETRIES) {
            let message = format!("`retries` is at most {MOST_RETRIES}, not {value}");
            self.problem(*place, message, "clients have retries of their own");
        }
        u32::try_from(*value).unwrap_or(MOST_RETRIES)
    }

    /// What of its attempts a model wants side by side.
    fn beside(&mut self, model: &ModelConfig, draft: &Draft) -> Option<Beside> {
        let (race, plan) = (model.race.as_ref(), &model.plan);
        let has_main = !plan.target.value.is_empty()
            || plan.split.is_some()
            || plan.balance.is_some()
            || plan.when.is_some();
        if let Some(race) = race.filter(|_| has_main) {
            let hint = "put the target into the list, or the others under `fallback`";
            self.problem(race.place, "`race` names its targets itself", hint);
        }
        if let Some(hedge) = model.hedge.as_ref().filter(|_| draft.spots.len() < 2) {
            let hint = "add a `fallback`, or make it a `balance`";
            self.problem(hedge.place, "`hedge` needs a second target", hint);
        }
        let race = race.map(|race| (race.value.len(), race.place));
        Beside::read(model.hedge.as_ref(), race, &mut self.problems)
    }

    /// An answer can only be gone on with where it may be, and where that is known how.
    fn check_resume(&mut self, model: &Planned) {
        let (spots, resume) = (&model.draft.spots, model.options.resume);
        let has_other = spots.len() > 1 || resume == Resume::Anywhere;
        let is_possible = has_other && spots.iter().any(|spot| spot.provider.prefill.is_some());
        if resume != Resume::Off && !is_possible {
            self.warnings.push(format!(
                "model {}: `resume` has no effect, for there is no other target whose provider can go \
                 on with an answer (`prefill`)",
                model.name
            ));
        }
    }

    fn draft(
        &mut self,
        written: &At<ModelConfig>,
        config: &Config,
        providers: &[Arc<Provider>],
    ) -> Option<Draft> {
        let plan = At { value: written.value.plan.clone(), place: written.place };
        let resolve = |target: &str| spot(target, config, providers);
        Draft::compile(&plan, &resolve, &mut self.problems)
    }
}

/// What a target means; else the problem, if it is not told elsewhere.
pub(super) fn spot(
    target: &str,
    config: &Config,
    providers: &[Arc<Provider>],
) -> Result<Spot, Option<(String, String)>> {
    let Some((id, model)) = target.split_once('/').filter(|(_, model)| !model.is_empty()) else {
        let hint = match config.models.iter().any(|(name, _)| name == target) {
            true => format!("a plan is made of targets: write those of `{target}` here"),
            false => "write provider/model".into(),
        };
        return Err(Some((format!("`{target}` is no target"), hint)));
    };
    if let Some(provider) = providers.iter().find(|provider| &*provider.id == id) {
        return Ok(Spot { provider: Arc::clone(provider), model: model.to_owned() });
    }
    // One that is named and not there has a problem of its own.
    if config.providers.as_ref().is_some_and(|named| named.contains_key(id)) {
        return Err(None);
    }
    let near = nearest(id, providers.iter().map(|provider| &*provider.id), 2);
    let hint = match near.first() {
        Some(name) => format!("did you mean `{name}`?"),
        None if config.providers.is_some() => {
            "name it under providers: where a file has them, only those are served".into()
        }
        None => format!("name it under providers, or set the key of {id}"),
    };
    Err(Some((format!("there is no provider `{id}`"), hint)))
}

/// The default model of the first provider that has one; the echo has one and stands last.
fn default_route(providers: &[Arc<Provider>]) -> Option<Arc<Route>> {
    let (chosen, model) = providers
        .iter()
        .find_map(|provider| Some((provider, provider.default_model.as_deref()?)))?;
    Some(Arc::new(Route::plain(chosen, model)))
}

/// The names of `GET /v1/models`: those of the file, then `provider/model` for what providers list.
pub(super) fn listed(models: &Models, providers: &[Arc<Provider>]) -> Vec<(String, Arc<str>)> {
    let mut listed = models.names.clone();
    for provider in providers {
        for model in &provider.models {
            let name = match &*provider.id {
                "echo" => model.clone(),
                id => format!("{id}/{model}"),
            };
            if !listed.iter().any(|(known, _)| *known == name) {
                listed.push((name, Arc::clone(&provider.id)));
            }
        }
    }
    listed
}
