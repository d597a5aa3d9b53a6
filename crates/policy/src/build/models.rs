//! The models of the snapshot: public names, and where they go.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Builder, callers};
use crate::config::{At, Config, ModelConfig};
use crate::directory::Kind;
use crate::edits::{self, EditPlan};
use crate::names::{Pattern, nearest};
use crate::provider::Provider;
use crate::snapshot::{Route, Wildcard};

pub(super) struct Models {
    pub(super) exact: HashMap<Box<str>, Arc<Route>>,
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

    pub(super) fn models(&mut self, config: &Config, providers: &[Arc<Provider>]) -> Models {
        let mut exact = HashMap::new();
        let mut wildcards = Vec::new();
        let mut names = Vec::new();
        for (name, written) in &config.models {
            let Some((provider, target)) = self.target(written, config, providers) else {
                continue;
            };
            self.checked_edits(&written.value.edits);
            let edits = EditPlan::compile(&written.value.edits.value).over(&provider.edits);
            let edits = Arc::new(edits);
            let clocks = self.clocks(provider.clocks, &written.value.timeouts);
            let (limits, budget) = (written.value.limits.as_ref(), written.value.budget.as_ref());
            let holder = callers::holder(Kind::Model, name, limits, budget);
            self.holders.extend(holder.clone());
            match (Pattern::parse(name), Pattern::parse(&target)) {
                (Some(pattern), Some(target)) => {
                    wildcards.push(Wildcard { pattern, provider, target, edits, clocks, holder });
                }
                (None, None) if !name.contains('*') => {
                    names.push((name.clone(), Arc::clone(&provider.id)));
                    let route =
                        Route::new(&provider, &target, edits, clocks).held_by(holder.as_ref());
                    exact.insert(name.as_str().into(), Arc::new(route));
                }
                _ => self.problem(
                    written.place,
                    format!("`{name}` and its target `{target}` must hold one * each, or none"),
                    "for example  \"gpt-*\": openai/gpt-*",
                ),
            }
        }
        wildcards.sort_by_key(|wildcard| std::cmp::Reverse(wildcard.pattern.weight()));
        let default = exact.get("default").cloned().or_else(|| default_route(providers));
        Models { exact, wildcards, default, names }
    }

    fn target(
        &mut self,
        written: &At<ModelConfig>,
        config: &Config,
        providers: &[Arc<Provider>],
    ) -> Option<(Arc<Provider>, String)> {
        let target = &written.value.target.value;
        let place = written.value.target.place.max(written.place);
        let Some((id, model)) = target.split_once('/').filter(|(_, model)| !model.is_empty())
        else {
            self.problem(place, format!("`{target}` is no target"), "write provider/model");
            return None;
        };
        let Some(provider) = providers.iter().find(|provider| &*provider.id == id) else {
            // One that is named and not there has a problem of its own.
            if config.providers.as_ref().is_some_and(|named| named.contains_key(id)) {
                return None;
            }
            let near = nearest(id, providers.iter().map(|provider| &*provider.id), 2);
            let hint = match near.first() {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("name it under providers, or set the key of {id}"),
            };
            self.problem(place, format!("there is no provider `{id}`"), hint);
            return None;
        };
        Some((Arc::clone(provider), model.to_owned()))
    }
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
