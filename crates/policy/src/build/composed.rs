//! Composed models: what they are made of has to be there, and not be composed itself.

use std::sync::Arc;

use super::{Builder, callers};
use crate::config::{At, Config, JudgeConfig, ModelConfig};
use crate::directory::{Holder, Kind};
use crate::plan::{Composed, Escalate, Judge, MOST_MEMBERS, MOST_STEPS, Plan, PlanConfig, Resume};
use crate::problem::{Place, Problem};
use crate::snapshot::Snapshot;

/// A composed model, before its models are looked up.
pub(super) struct Draft<'c> {
    name: &'c str,
    written: &'c At<ModelConfig>,
    holder: Option<Arc<Holder>>,
}

impl Builder<'_> {
    /// The composed models of a file, as far as their form is right.
    pub(super) fn composed<'c>(&mut self, config: &'c Config) -> Vec<Draft<'c>> {
        let written = config.models.iter().filter(|(_, written)| is_composed(&written.value));
        let mut drafts = Vec::new();
        for (name, written) in written {
            self.check_composed(name, written);
            let (limits, budget) = (written.value.limits.as_ref(), written.value.budget.as_ref());
            let holder = callers::holder(Kind::Model, name, limits, budget);
            self.holders.extend(holder.clone());
            drafts.push(Draft { name, written, holder });
        }
        drafts
    }

    fn check_composed(&mut self, name: &str, written: &At<ModelConfig>) {
        let At { value: model, place } = written;
        if name.contains('*') {
            self.problem(
                *place,
                format!("`{name}` is composed and cannot be a wildcard"),
                "name it",
            );
        }
        let has_more = model.hedge.is_some() || model.race.is_some() || model.retries.is_some();
        let has_more = has_more || model.mirror.is_some();
        if has_more || model.plan != PlanConfig::default() {
            let hint = "leave `target` and the like to the models it names";
            self.problem(*place, "a composed model has no targets of its own", hint);
        }
        let waits = model.queue.as_ref().map(|queue| queue.place);
        let resumes = (model.resume.value != Resume::Off).then_some(model.resume.place);
        let has_clocks = model.timeouts.value != ::providers::Timeouts::default();
        let timed = has_clocks.then_some(model.timeouts.place);
        for (word, at) in [("queue", waits), ("resume", resumes), ("timeouts", timed)] {
            if let Some(at) = at {
                let message = format!("`{word}` means nothing in a composed model");
                self.problem(at.max(*place), message, "put it into the models it names");
            }
        }
        if model.edits.value != ::providers::Edits::default() {
            let hint = "put them into the models it names";
            self.problem(model.edits.place, "a composed model edits nothing", hint);
        }
        if model.single_flight {
            let message = "a composed model does not share its answers";
            self.problem(*place, message, "leave `single_flight` out");
        }
        if let (Some(_), Some(panel)) = (&model.cascade, &model.panel) {
            self.problem(panel.place, "one of `cascade` and `panel` is enough", "leave one out");
        }
        if let (Some(panel), None) = (&model.panel, &model.judge) {
            let hint = "add `judge:` with a model";
            self.problem(panel.place, "a `panel` needs a `judge`", hint);
        }
        if let (Some(escalate), None) = (&model.escalate, &model.cascade) {
            let hint = "leave it out, or make it a cascade";
            self.problem(escalate.place, "`escalate` means nothing without `cascade`", hint);
        }
        if let (Some(_), Some(by)) =
            (&model.cascade, model.judge.as_ref().and_then(|judge| judge.value.by.as_ref()))
        {
            self.problem(by.place, "`by` means nothing without `panel`", "leave it out");
        }
        self.check_count("cascade", model.cascade.as_ref(), MOST_STEPS);
        self.check_count("panel", model.panel.as_ref(), MOST_MEMBERS);
    }

    fn check_count(&mut self, word: &str, names: Option<&At<Vec<At<String>>>>, most: usize) {
        if let Some(names) = names.filter(|names| !(2..=most).contains(&names.value.len())) {
            let message = format!("a `{word}` has 2 to {most} models, not {}", names.value.len());
            self.problem(names.place, message, "one model needs no other name");
        }
    }
}

/// Whether a model is made of others.
pub(super) fn is_composed(model: &ModelConfig) -> bool {
    model.cascade.is_some() || model.panel.is_some()
}

/// Puts composed models into the snapshot that has all others.
pub(super) fn place(snapshot: &mut Snapshot, drafts: Vec<Draft<'_>>) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    let mut plans = Vec::new();
    let names: Vec<&str> = drafts.iter().map(|draft| draft.name).collect();
    for draft in drafts {
        let health = Arc::clone(snapshot.health());
        let composed = compose(snapshot, draft.written, &names, &mut problems);
        let held = composed.map(|composed| composed.held_by(draft.holder.as_ref(), &health));
        let plan = held.and_then(|composed| Plan::composed_of(draft.name, composed, &health));
        plans.extend(plan.map(|plan| (draft.name, plan)));
    }
    if !problems.is_empty() {
        problems.sort();
        return Err(problems);
    }
    for (name, plan) in plans {
        let provider = Arc::clone(&plan.first_route().provider.id);
        if let Some((_, of)) = snapshot.listed.iter_mut().find(|(listed, _)| listed == name) {
            *of = provider;
        }
        snapshot.exact.insert(name.into(), Arc::new(plan));
    }
    Ok(())
}

fn compose(
    snapshot: &Snapshot,
    written: &At<ModelConfig>,
    composed: &[&str],
    problems: &mut Vec<Problem>,
) -> Option<Composed> {
    let At { value: model, place } = written;
    let mut plan = |name: &At<String>| find(snapshot, name, *place, composed, problems);
    let judge = model.judge.as_ref().map(|judge| {
        let JudgeConfig { model, instructions, .. } = &judge.value;
        let instructions = instructions.as_deref().map(Into::into);
        Some(Judge { plan: plan(model)?, instructions })
    });
    let names = model.cascade.as_ref().or(model.panel.as_ref())?;
    let plans: Vec<Option<Arc<Plan>>> = names.value.iter().map(plan).collect();
    let plans = plans.into_iter().collect::<Option<Vec<_>>>()?;
    let judge = match judge {
        None => None,
        Some(judge) => Some(judge?),
    };
    if model.panel.is_some() {
        let by = model.judge.as_ref().and_then(|judge| judge.value.by.as_ref());
        let by = by.map(|by| by.value).unwrap_or_default();
        return Some(Composed::Panel { members: plans, judge: judge?, by });
    }
    let rule = model.escalate.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    let escalate = Escalate {
        shorter_than: rule.shorter_than.map_or(0, |at| at.value),
        contains: rule.contains.iter().map(|words| words.to_lowercase().into()).collect(),
    };
    Some(Composed::Cascade { steps: plans, escalate, judge })
}

/// The plan of a model that a composed one names.
fn find(
    snapshot: &Snapshot,
    name: &At<String>,
    around: Place,
    composed: &[&str],
    problems: &mut Vec<Problem>,
) -> Option<Arc<Plan>> {
    let place = name.place.max(around);
    let mut problem = |message: String, hint: &str| {
        problems.push(Problem::new(place, message, hint));
        None
    };
    if composed.contains(&name.value.as_str()) {
        let message = format!("`{}` is composed itself", name.value);
        return problem(message, "name a model that is not");
    }
    match snapshot.plan(&name.value) {
        Ok(plan) => Some(plan),
        Err(unknown) => problem(unknown.told(&name.value), "name it under models"),
    }
}
