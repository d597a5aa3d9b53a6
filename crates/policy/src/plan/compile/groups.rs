//! Splits, balances and cases, compiled.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::super::balance::schedule;
use super::super::condition::Condition;
use super::super::config::{Affinity, By, CaseConfig, Parts, PlanConfig, Sticky};
use super::super::shape::{Balance, Case, Kind, Member, Split, StickyBy};
use super::{Around, Compiler, MOST_WEIGHT, Made, joined};
use crate::config::At;
use crate::problem::{Place, Problem};
use crate::units;

impl Compiler<'_> {
    pub(super) fn split(
        &mut self,
        plan: &PlanConfig,
        sides: &At<Parts>,
        around: &Around<'_>,
    ) -> Option<Made> {
        let around = self.deeper(sides.place, around)?;
        let first = self.leaves.len();
        let sticky = match plan.sticky.as_ref().map(|at| (&at.value, at.place)) {
            None | Some((Sticky::Key, _)) => StickyBy::Key,
            Some((Sticky::User, _)) => StickyBy::User,
            Some((Sticky::Header(name), place)) => match name.parse() {
                Ok(name) => StickyBy::Header(name),
                Err(_) => {
                    let message = format!("`{name}` is no name of a header");
                    self.problem(place, message, "for example `sticky: { header: x-user }`");
                    return None;
                }
            },
        };
        let sides = self.members("split", sides, &around)?;
        let id = joined("split", sides.iter().map(|side| side.id));
        let total = sides.iter().map(|side| u64::from(side.weight)).sum();
        let split = Split { sticky, sides: sides.into(), total };
        Some((self.enter(Kind::Split(split), first)?, id))
    }

    pub(super) fn balance(
        &mut self,
        plan: &PlanConfig,
        members: &At<Parts>,
        around: &Around<'_>,
    ) -> Option<Made> {
        let mut around = self.deeper(members.place, around)?;
        let first = self.leaves.len();
        around.group = u16::try_from(self.groups.len()).ok()?;
        self.groups.push((u16::try_from(first).ok()?, 0));
        let by = plan.by.as_ref().map(|at| at.value).unwrap_or_default();
        let affinity = plan.affinity.as_ref().map(|at| at.value).unwrap_or_default();
        let under_ms = plan.under.as_ref().and_then(|at| match units::duration(&at.value) {
            Ok(under) => Some(under.as_secs_f32() * 1_000.0),
            Err(message) => {
                self.problems.push(Problem { place: at.place, message, hint: None });
                None
            }
        });
        let members = self.members("balance", members, &around)?;
        let end = u16::try_from(self.leaves.len()).ok()?;
        if let Some(group) = self.groups.get_mut(usize::from(around.group)) {
            group.1 = end;
        }
        self.needs.tokens |= by == By::Cheapest;
        self.needs.cache_key |= affinity != Affinity::Off;
        self.needs.conversation |= affinity == Affinity::Conversation;
        let id = joined("balance", members.iter().map(|member| member.id));
        let order = if by == By::RoundRobin { schedule(&members) } else { Box::default() };
        let turn = Arc::new(AtomicU32::new(0));
        let members = members.into();
        let balance = Balance { by, under_ms, affinity, members, schedule: order, turn };
        Some((self.enter(Kind::Balance(balance), first)?, id))
    }

    /// The parts of a split or a balance that have a weight. Those without are checked all the
    /// same, and then left out.
    fn members(
        &mut self,
        word: &str,
        parts: &At<Parts>,
        around: &Around<'_>,
    ) -> Option<Vec<Member>> {
        if parts.value.0.is_empty() {
            let hint = "for example { qwen/qwen-max: 95, glm/glm-5: 5 }";
            self.problem(parts.place, format!("`{word}` names no target"), hint);
            return None;
        }
        let around = Around { is_weighted: true, ..around.clone() };
        let mut made: Vec<Option<(Made, u32)>> = Vec::new();
        for part in &parts.value.0 {
            let weight = part.value.weight.as_ref().map_or(1, |at| at.value);
            if weight > MOST_WEIGHT {
                let message = format!("a weight is at most {MOST_WEIGHT}");
                self.problem(part.place, message, "weights count in relation to each other");
            }
            let marks = (self.nodes.len(), self.leaves.len(), self.groups.len(), self.spots.len());
            let node = self.node(part, &around);
            if weight == 0 && node.is_some() {
                self.nodes.truncate(marks.0);
                self.leaves.truncate(marks.1);
                self.groups.truncate(marks.2);
                self.spots.truncate(marks.3);
                continue;
            }
            made.push(node.map(|node| (node, u32::try_from(weight).unwrap_or(u32::MAX))));
        }
        let made: Vec<(Made, u32)> = made.into_iter().collect::<Option<_>>()?;
        if made.is_empty() {
            self.problem(parts.place, "every weight is 0", "give one of them a weight");
            return None;
        }
        let nodes: Vec<Made> = made.iter().map(|(node, _)| *node).collect();
        self.check_twice(&nodes, parts.place);
        Some(
            made.iter()
                .map(|((node, id), weight)| Member { node: *node, weight: *weight, id: *id })
                .collect(),
        )
    }

    /// Of two equal parts beside each other one is a slip of the pen.
    pub(super) fn check_twice(&mut self, made: &[Made], place: Place) {
        let twice = made
            .iter()
            .enumerate()
            .find(|(index, (_, id))| made[..*index].iter().any(|(_, known)| known == id));
        if let Some((index, _)) = twice {
            let message = format!("part {} stands there before", index + 1);
            self.problem(
                place,
                message,
                "name each once, and give it a weight if it shall count more",
            );
        }
    }

    pub(super) fn when(
        &mut self,
        cases: &At<Vec<At<CaseConfig>>>,
        around: &Around<'_>,
    ) -> Option<Made> {
        let around = self.deeper(cases.place, around)?;
        let first = self.leaves.len();
        let is_open = cases.value.last().is_none_or(|case| case.value.condition.is_some());
        if is_open {
            let message = "a request that fits no case has no target";
            self.problem(cases.place, message, "end with a case that has `use` alone");
        }
        let mut made: Vec<Option<(Case, u64)>> = Vec::new();
        for (index, case) in cases.value.iter().enumerate() {
            if case.value.condition.is_none() && index + 1 < cases.value.len() {
                let hint = "give it an `if`, or put it at the end";
                self.problem(case.place, "no case behind this one is ever reached", hint);
            }
            made.push(self.case(case, &around));
        }
        let made: Vec<(Case, u64)> = made.into_iter().collect::<Option<_>>()?;
        let id = joined("when", made.iter().map(|(_, id)| *id));
        let cases = made.into_iter().map(|(case, _)| case).collect();
        Some((self.enter(Kind::When(cases), first)?, id))
    }

    fn case(&mut self, written: &At<CaseConfig>, around: &Around<'_>) -> Option<(Case, u64)> {
        let condition = match &written.value.condition {
            None => Some(None),
            Some(at) => match Condition::compile(&at.value) {
                Ok(condition) => Some(Some(condition)),
                Err(message) => {
                    self.problem(
                        at.place,
                        message,
                        "for example { header: { x-tier: gold }, input_over: 32k }",
                    );
                    None
                }
            },
        };
        let plan = &written.value.plan;
        let plan = At { value: plan.value.clone(), place: plan.place.max(written.place) };
        let node = self.node(&plan, around);
        let condition = condition?;
        if let Some(condition) = &condition {
            self.needs.tokens |= condition.needs_input();
            self.needs.content |= condition.needs_content();
            self.needs.metadata |= condition.needs_metadata();
        }
        let (node, id) = node?;
        Some((Case { condition, node }, id))
    }
}
