//! One walk from the root of a plan to a leaf.
//!
//! Whatever yields nothing has closed all its leaves on the way, each with its reason: that is what
//! lets a walk go on beside it and end.

use super::Plan;
use super::candidate::{Reason, Skip, Why};
use super::facts::Facts;
use super::hash::{liking, mixed, pull};
use super::picker::{Picker, Resort};
use super::shape::{Case, Kind, Leaf, Member, NO_GROUP, Node, Split, StickyBy};
use crate::health::Standing;

/// Percent of a balance's targets that may be ejected where no further tier could take their
/// requests. If more are, the rest could not bear it, and ejection is not heeded.
pub(super) const MOST_EJECTED_PERCENT: usize = 50;

/// A leaf that was chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) leaf: u16,
    pub(super) why: Why,
    /// It is ejected, and a probe is due.
    pub(super) is_due: bool,
    /// Whether an open breaker is passed.
    pub(super) in_spite: bool,
}

impl Choice {
    pub(super) fn because(mut self, reason: Reason) -> Self {
        // Seen from the root, the nearer reason comes first.
        let nearer = Why::NOTHING.and(reason);
        self.why = self.why.reasons().iter().fold(nearer, |why, reason| why.and(*reason));
        self
    }
}

/// The member that a caller is drawn to most, so far.
struct Drawn {
    /// How much, and its place.
    pull: (f64, usize),
    liking: f64,
    weight: u32,
}

pub(super) struct Walk<'w, 'r> {
    pub(super) plan: &'w Plan,
    pub(super) picker: &'w mut Picker,
    pub(super) facts: &'w Facts<'r>,
    pub(super) now_ms: u64,
    /// Whether this is only to be told: no turn is taken.
    pub(super) is_dry: bool,
    /// Who calls, below a split: a caller comes back to a recovered target once, and stays.
    caller: Option<u64>,
}

impl<'w, 'r> Walk<'w, 'r> {
    pub(super) fn new(
        plan: &'w Plan,
        picker: &'w mut Picker,
        facts: &'w Facts<'r>,
        now_ms: u64,
        is_dry: bool,
    ) -> Self {
        Self { plan, picker, facts, now_ms, is_dry, caller: None }
    }

    /// Chooses a leaf under a node; `None` if none is left.
    pub(super) fn choose(&mut self, node: u16) -> Option<Choice> {
        let plan = self.plan;
        let Node { kind, leaves } = &plan.shape.nodes[usize::from(node)];
        match kind {
            Kind::Leaf => self.look(leaves.0),
            Kind::Split(split) => self.side(split),
            Kind::Balance(balance) => self.balanced(balance, *leaves),
            Kind::Fallback(tiers) => self.tier(tiers),
            Kind::When(cases) => self.case(cases),
        }
    }

    /// Whether a leaf can be asked.
    fn look(&mut self, index: u16) -> Option<Choice> {
        if self.picker.closed.has(index) {
            return None;
        }
        let plan = self.plan;
        let leaf = &plan.shape.leaves[usize::from(index)];
        match self.fitness(leaf) {
            Ok((is_due, in_spite)) => {
                let choice = Choice { leaf: index, why: Why::NOTHING, is_due, in_spite };
                Some(match (is_due, in_spite) {
                    (true, _) => choice.because(Reason::Probe),
                    (_, true) => choice.because(Reason::InSpite),
                    _ => choice,
                })
            }
            Err(skip) => {
                self.picker.skip(index, leaf.target, skip);
                None
            }
        }
    }

    /// Whether a probe is due and whether ejection is passed; or why it is passed over.
    fn fitness(&mut self, leaf: &Leaf) -> Result<(bool, bool), Skip> {
        let plan = self.plan;
        let target = &plan.targets[usize::from(leaf.target)];
        if self.picker.tried.has(leaf.target) {
            return Err(Skip::Tried);
        }
        if let Some(least) = self.picker.larger_than
            && target.route.model_limits.max_input.is_none_or(|window| window <= least)
        {
            return Err(Skip::TooSmall);
        }
        let (heeds_room, heeds_health) =
            (self.picker.resort < Resort::Crowded, self.picker.resort < Resort::Unwell);
        if let Some(until_ms) = target.live.credentials.all_benched(self.now_ms)
            && heeds_health
        {
            return Err(Skip::Benched { until_ms });
        }
        let in_flight = target.live.health.in_flight();
        if target.live.credentials.are_full(self.now_ms) {
            return Err(Skip::Full { in_flight });
        }
        if heeds_room && leaf.spill_at.is_some_and(|spill_at| in_flight >= spill_at) {
            return Err(Skip::Saturated { in_flight });
        }
        let standing = target.live.health.breaker.standing(self.now_ms);
        self.passage(leaf, standing, heeds_room, heeds_health)
    }

    fn passage(
        &mut self,
        leaf: &Leaf,
        standing: Standing,
        heeds_room: bool,
        heeds_health: bool,
    ) -> Result<(bool, bool), Skip> {
        let skip = match standing {
            Standing::Due => return Ok((true, !heeds_health)),
            Standing::Closed { percent } => {
                if heeds_room && percent < 100 && self.lot() >= percent {
                    return Err(Skip::SlowStart { percent });
                }
                return Ok((false, false));
            }
            Standing::Open { until_ms, unreached } => Skip::Ejected { until_ms, unreached },
            Standing::Probing { unreached } => Skip::Probing { unreached },
        };
        let passes = skip.is_soft() && (!heeds_health || self.is_stretched(leaf));
        if passes { Ok((false, true)) } else { Err(skip) }
    }

    /// A number below 100: for a caller always the same, else drawn.
    fn lot(&mut self) -> u64 {
        let lot = self.caller.map(mixed);
        lot.unwrap_or_else(|| self.picker.next_random()) % 100
    }

    /// Whether so much of the balance around a leaf is ejected that the rest could not bear it.
    /// Counted once for each request that meets an ejected target there.
    fn is_stretched(&mut self, leaf: &Leaf) -> bool {
        if leaf.group == NO_GROUP || !leaf.is_final {
            return false;
        }
        if let Some((group, is_stretched)) = self.picker.stretched
            && group == leaf.group
        {
            return is_stretched;
        }
        let (from, to) = self.plan.shape.groups[usize::from(leaf.group)];
        let leaves = &self.plan.shape.leaves[usize::from(from)..usize::from(to)];
        let is_ejected = |leaf: &&Leaf| {
            let live = &self.plan.targets[usize::from(leaf.target)].live;
            !matches!(live.health.breaker.standing(self.now_ms), Standing::Closed { .. })
        };
        let ejected = leaves.iter().filter(is_ejected).count();
        let is_stretched = ejected * 100 > leaves.len() * MOST_EJECTED_PERCENT;
        self.picker.stretched = Some((leaf.group, is_stretched));
        is_stretched
    }

    /// The caller's side of a split; where it cannot serve, the one that would be theirs if that
    /// one were not there.
    fn side(&mut self, split: &Split) -> Option<Choice> {
        let caller = match &split.sticky {
            StickyBy::Key => self.facts.key_hash(),
            StickyBy::User => self.facts.user_hash(),
            StickyBy::Header(name) => self.facts.header_hash(name),
        };
        let sticky = caller.is_some();
        let caller = caller.unwrap_or_else(|| self.picker.next_random());
        let before = self.caller.replace(caller);
        let (all, hash) = (split.sides.len(), caller ^ self.plan.salt);
        let mut is_first = true;
        let chosen = self.drawn(&split.sides, all, hash, |walk, side| {
            let is_first = std::mem::take(&mut is_first);
            let reason = Reason::Side { weight: side.weight, of: split.total, sticky, is_first };
            Some(walk.choose(side.node)?.because(reason))
        });
        self.caller = before;
        chosen
    }

    /// Goes through `most` members, those first that a caller is drawn to most, until one is taken.
    pub(super) fn drawn(
        &mut self,
        members: &[Member],
        most: usize,
        caller: u64,
        mut take: impl FnMut(&mut Self, &Member) -> Option<Choice>,
    ) -> Option<Choice> {
        let mut below = (f64::INFINITY, usize::MAX);
        for _ in 0..most.min(members.len()) {
            let mut best: Option<Drawn> = None;
            for (index, member) in members.iter().enumerate() {
                let liking = liking(caller, member.id);
                // What is liked less and weighs less pulls less: mostly the logarithm is not needed.
                let is_behind =
                    |best: &Drawn| liking <= best.liking && member.weight <= best.weight;
                if best.as_ref().is_some_and(is_behind) {
                    continue;
                }
                let pull = (pull(liking, member.weight), index);
                if pull < below && best.as_ref().is_none_or(|best| pull > best.pull) {
                    best = Some(Drawn { pull, liking, weight: member.weight });
                }
            }
            let best = best?.pull;
            if let Some(choice) = take(self, &members[best.1]) {
                return Some(choice);
            }
            below = best;
        }
        None
    }

    fn tier(&mut self, tiers: &[u16]) -> Option<Choice> {
        let count = u16::try_from(tiers.len()).unwrap_or(u16::MAX);
        (1..=count).zip(tiers).find_map(|(number, node)| {
            Some(self.choose(*node)?.because(Reason::Tier(number, count)))
        })
    }

    /// The first case that holds, and no other: if its targets fail, the request fails.
    fn case(&mut self, cases: &[Case]) -> Option<Choice> {
        let holds = |case: &Case| case.condition.as_ref().is_none_or(|it| it.holds(self.facts));
        let chosen = cases.iter().position(holds);
        for (index, case) in cases.iter().enumerate() {
            if Some(index) != chosen {
                self.close(case.node);
            }
        }
        let index = chosen?;
        let number = u16::try_from(index + 1).unwrap_or(u16::MAX);
        Some(self.choose(cases[index].node)?.because(Reason::Case(number)))
    }

    /// Closes all leaves under a node. It is only noted for whoever asks how a request would go: for
    /// a request itself, other cases are nothing to tell.
    fn close(&mut self, node: u16) {
        let plan = self.plan;
        let (from, to) = plan.shape.nodes[usize::from(node)].leaves;
        for leaf in from..to {
            if !self.is_dry {
                self.picker.closed.set(leaf);
            } else if !self.picker.closed.has(leaf) {
                let target = plan.shape.leaves[usize::from(leaf)].target;
                self.picker.skip(leaf, target, Skip::OtherCase);
            }
        }
    }
}
