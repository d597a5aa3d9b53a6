//! Composed models: a cascade asks a cheap model first and a better one if the answer is not good
//! enough; a panel asks several at once, and a judge makes one answer of theirs. Each of them is
//! asked with its own plan, failover and all.

use std::fmt;
use std::sync::Arc;

use super::Plan;
use crate::config::JudgeBy;
use crate::directory::Holder;
use crate::health::Health;

/// Models in a cascade.
pub const MOST_STEPS: usize = 4;
/// Models in a panel.
pub const MOST_MEMBERS: usize = 8;

/// What a composed model does.
pub enum Composed {
    /// One after the other, until an answer is good enough.
    Cascade {
        /// At least two, the cheapest first.
        steps: Vec<Arc<Plan>>,
        /// When the answer of a step is not good enough.
        escalate: Escalate,
        /// Who is asked about an answer that the rules let pass.
        judge: Option<Judge>,
    },
    /// All at once.
    Panel {
        /// At least two.
        members: Vec<Arc<Plan>>,
        /// Who makes one answer of theirs.
        judge: Judge,
        /// How.
        by: JudgeBy,
    },
}

/// Who judges.
pub struct Judge {
    /// The model.
    pub plan: Arc<Plan>,
    /// What it is told, in place of the words that are built in.
    pub instructions: Option<Box<str>>,
}

/// When an answer is not good enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Escalate {
    /// Its text has fewer characters.
    pub shorter_than: u64,
    /// In lower case: one of them is in its text.
    pub contains: Vec<Box<str>>,
}

/// What is known of an answer that is whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answered<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its `finish_reason`.
    pub finish: Option<&'a str>,
    /// Whether it calls tools.
    pub calls: bool,
    /// Whether it was asked to be JSON.
    pub wants_json: bool,
}

impl Escalate {
    /// Why an answer is not good enough: it was cut off or left out, is empty, is no JSON although
    /// that was asked for, or what the file says. A call of tools is never looked at more closely.
    #[must_use]
    pub fn reason(&self, answer: &Answered<'_>) -> Option<&'static str> {
        if answer.calls {
            return None;
        }
        if matches!(answer.finish, Some("length" | "content_filter")) {
            return Some("cut off");
        }
        let text = answer.text.trim();
        if text.is_empty() {
            return Some("empty");
        }
        if answer.wants_json && serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
            return Some("no JSON");
        }
        if (text.chars().count() as u64) < self.shorter_than {
            return Some("too short");
        }
        if self.contains.is_empty() {
            return None;
        }
        let text = text.to_lowercase();
        self.contains.iter().any(|words| text.contains(&**words)).then_some("its words")
    }
}

impl Composed {
    /// Every plan in it, the judge's last.
    pub fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        let (plans, judge) = match self {
            Self::Cascade { steps, judge, .. } => (steps, judge.as_ref()),
            Self::Panel { members, judge, .. } => (members, Some(judge)),
        };
        plans.iter().chain(judge.map(|judge| &judge.plan))
    }

    /// The same, with every plan changed.
    fn map(&self, change: &dyn Fn(&Plan) -> Plan) -> Self {
        let all = |plans: &[Arc<Plan>]| plans.iter().map(|plan| Arc::new(change(plan))).collect();
        let same = |judge: &Judge| Judge {
            plan: Arc::new(change(&judge.plan)),
            instructions: judge.instructions.clone(),
        };
        match self {
            Self::Cascade { steps, escalate, judge } => Self::Cascade {
                steps: all(steps),
                escalate: escalate.clone(),
                judge: judge.as_ref().map(same),
            },
            Self::Panel { members, judge, by } => {
                Self::Panel { members: all(members), judge: same(judge), by: *by }
            }
        }
    }

    /// The same, with what another registry knows of its targets.
    pub(super) fn known_by(&self, health: &Health) -> Self {
        self.map(&|plan| plan.known_by(health))
    }

    /// The same, where the limits and budgets of the composed model hold as well.
    pub(crate) fn held_by(self, holder: Option<&Arc<Holder>>, health: &Health) -> Self {
        match holder {
            None => self,
            Some(holder) => self.map(&|plan| plan.held_by(holder, health)),
        }
    }
}

/// Such as `a cascade of flash, max`.
impl fmt::Display for Composed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, plans, judge) = match self {
            Self::Cascade { steps, judge, .. } => ("a cascade", steps, judge.as_ref()),
            Self::Panel { members, judge, .. } => ("a panel", members, Some(judge)),
        };
        write!(f, "{word} of ")?;
        for (index, plan) in plans.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", plan.model())?;
        }
        match judge {
            Some(judge) => write!(f, "; {} judges", judge.plan.model()),
            None => Ok(()),
        }
    }
}

impl Plan {
    /// What its model is composed of, if it is.
    #[must_use]
    pub fn composed(&self) -> Option<&Arc<Composed>> {
        self.composed.as_ref()
    }

    /// The plan of a composed model. Whoever looks for its targets sees those of the last one, but not
    /// its shadow.
    pub(crate) fn composed_of(name: &str, composed: Composed, health: &Health) -> Option<Self> {
        let last = match &composed {
            Composed::Cascade { steps, .. } => steps.last()?,
            Composed::Panel { judge, .. } => &judge.plan,
        };
        let mut plan = last.named(name, health);
        (plan.mirror, plan.options.mirror) = (None, None);
        plan.composed = Some(Arc::new(composed));
        Some(plan)
    }

    /// The same plan, where the limits and budgets of one more hold.
    fn held_by(&self, holder: &Arc<Holder>, health: &Health) -> Self {
        let mut plan = self.known_by(health);
        for target in &mut plan.targets {
            target.route = Arc::new(target.route.as_ref().clone().held_by(Some(holder)));
        }
        plan.first = Arc::clone(&plan.targets[0].route);
        plan
    }
}
