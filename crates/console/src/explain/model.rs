//! What the options of models have come to, in numbers.

use std::sync::Arc;

use policy::Plan;
use policy::plan::Resume;
use policy::units::milliseconds;
use schemars::JsonSchema;
use serde::Serialize;

use super::Now;

/// A model that has a plan, how it is asked, and what came of that since the process began. What a
/// pattern fits is counted together.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelView {
    /// The name that is asked for.
    pub id: String,
    /// The model of the file whose plan it is; a pattern, where that fits.
    pub plan: String,
    /// How many targets its plan has.
    pub targets: usize,
    /// Retries that it has left at this moment.
    pub retries_left: u64,
    /// What it is made of, such as `a cascade of flash, max`; null if it is not made of others.
    pub composed: Option<String>,
    /// Attempts side by side; null where there are none.
    pub side_by_side: Option<SideBySideView>,
    /// Requests that wait for room; null where none waits.
    pub queue: Option<QueueView>,
    /// Answers that were given more than once.
    pub shared: SharedView,
    /// Answers that broke off in the middle; null where they are not gone on with.
    pub resume: Option<ResumeView>,
    /// Its shadow, `provider/upstream-model`; null if it has none.
    pub mirror: Option<String>,
}

/// Attempts beside the first of their request.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SideBySideView {
    /// What goes side by side, such as `a race of 2`.
    pub how: String,
    /// Attempts that were begun beside another one.
    pub begun: u64,
    /// Those of them whose answer was the request's.
    pub won: u64,
    /// Hedges that were due and not made, because the share of the requests for them was used up.
    pub withheld: u64,
}

/// The queue of a model.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QueueView {
    /// Requests that wait now.
    pub waiting: usize,
    /// How many may.
    pub most: usize,
    /// How long one may, in milliseconds.
    pub wait_ms: u64,
    /// Requests that waited and got room.
    pub admitted: u64,
    /// Requests that waited and were refused in the end.
    pub refused: u64,
    /// Requests whose clients left while they waited.
    pub left: u64,
    /// Requests that were refused at once, because too many waited.
    pub full: u64,
}

/// Answers that were given more than once.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SharedView {
    /// Whether identical requests at the same time share one call.
    pub single_flight: bool,
    /// Requests that joined an identical one.
    pub joined: u64,
    /// Requests that had the answer of an earlier one with their `Idempotency-Key`.
    pub replayed: u64,
}

/// Answers that broke off in the middle.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ResumeView {
    /// Times that another attempt went on with one.
    pub resumed: u64,
    /// Times that none could.
    pub given_up: u64,
}

/// The models of these plans, behind the one of this name: at most `most` of them.
#[must_use]
pub fn models(
    plans: &[(Box<str>, Arc<Plan>)],
    after: Option<&str>,
    most: usize,
    now: Now,
) -> Vec<ModelView> {
    let behind = plans.iter().filter(|(name, _)| after.is_none_or(|after| **name > *after));
    behind.take(most).map(|(name, plan)| view(name, plan, now)).collect()
}

fn view(name: &str, plan: &Plan, now: Now) -> ModelView {
    let tally = plan.tally();
    ModelView {
        id: name.to_owned(),
        plan: plan.model().to_owned(),
        targets: plan.targets().len(),
        retries_left: plan.budget().left(now.ms),
        composed: plan.composed().map(ToString::to_string),
        side_by_side: plan.beside().map(|beside| SideBySideView {
            how: beside.to_string(),
            begun: tally.beside.get(),
            won: tally.won.get(),
            withheld: tally.withheld.get(),
        }),
        queue: plan.queue().map(|queue| QueueView {
            waiting: queue.line.len(),
            most: queue.waiting.most,
            wait_ms: milliseconds(queue.waiting.wait),
            admitted: tally.admitted.get(),
            refused: tally.refused.get(),
            left: tally.left.get(),
            full: tally.full.get(),
        }),
        shared: SharedView {
            single_flight: plan.first_route().single_flight,
            joined: tally.joined.get(),
            replayed: tally.replayed.get(),
        },
        resume: (plan.resume() != Resume::Off)
            .then(|| ResumeView { resumed: tally.resumed.get(), given_up: tally.given_up.get() }),
        mirror: plan.mirror().map(|mirror| mirror.target.name()),
    }
}
