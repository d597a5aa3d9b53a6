//! What one request remembers of its way through a plan, and the calls of the attempt loop.

use super::candidate::{Candidate, Explanation, Reason, Skip, Skipped, Why};
use super::facts::Facts;
use super::hash::mixed;
use super::walk::{Choice, Walk};
use super::{Plan, Target};
use crate::health::retry::{MOST_ATTEMPTS, is_fast};
use crate::health::{Lease, Next, Standing};
use crate::snapshot::Route;

/// The state of one request in one plan. Holds no reference, so that it can live across waits, and
/// allocates only when something is passed over.
#[derive(Debug)]
pub struct Picker {
    pub(super) random: u64,
    /// Leaves that need not be looked at again: tried, or passed over.
    pub(super) closed: Bits,
    /// Those among them that are asked if there is nothing better: for want of room, and for want
    /// of health.
    crowded: Bits,
    saturated: Bits,
    unwell: Bits,
    /// Targets that were asked.
    pub(super) tried: Bits,
    pub(super) skipped: Vec<Skipped>,
    pub(super) resort: Resort,
    /// Input tokens that a target has to be known to take more than.
    pub(super) larger_than: Option<u64>,
    /// A group of a balance, and whether too much of it is ejected.
    pub(super) stretched: Option<(u16, bool)>,
    /// A leaf that is asked again before any other.
    again: Option<u16>,
    /// The leaf of the last candidate.
    last: Option<u16>,
    /// How often that was asked again.
    repeats: usize,
    attempts: u32,
}

/// An attempt that failed before anything of an answer had gone to the caller, or in the middle of one
/// that may be [gone on with](super::Resume).
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// What the cause allows.
    pub next: Next,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Picker {
    /// For one request. All its draws follow from these random bits.
    #[must_use]
    pub fn new(random: u64) -> Self {
        Self {
            random,
            closed: Bits::default(),
            crowded: Bits::default(),
            saturated: Bits::default(),
            unwell: Bits::default(),
            tried: Bits::default(),
            skipped: Vec::new(),
            resort: Resort::Better,
            larger_than: None,
            stretched: None,
            again: None,
            last: None,
            repeats: 0,
            attempts: 0,
        }
    }

    /// What was looked at and passed over so far, in the order of looking.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Whether a target was passed over for nothing but want of room.
    #[must_use]
    pub fn is_short_of_room(&self) -> bool {
        self.skipped
            .iter()
            .any(|skipped| matches!(skipped.skip, Skip::Full { .. } | Skip::Saturated { .. }))
    }

    /// Candidates so far, without those set aside.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Milliseconds until the first of what was passed over may be asked again, for the
    /// `Retry-After` of a request that found no target.
    #[must_use]
    pub fn retry_after_ms(&self, now_ms: u64) -> Option<u64> {
        let until = self.skipped.iter().filter_map(|skipped| skipped.skip.until_ms()).min()?;
        Some(until.saturating_sub(now_ms))
    }

    /// Lets the last candidate be asked once more, before any other: after a wait, where there is
    /// no other, or with another credential.
    pub fn again(&mut self) {
        self.again = self.last;
    }

    /// Takes note that the last candidate was not asked, such as one that the caller may not use: it
    /// is no attempt, and does not come again.
    pub fn set_aside(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
    }

    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.random)
    }

    pub(super) fn skip(&mut self, leaf: u16, target: u16, skip: Skip) {
        self.closed.set(leaf);
        match skip {
            Skip::SlowStart { .. } => self.crowded.set(leaf),
            Skip::Saturated { .. } => self.saturated.set(leaf),
            skip if skip.is_soft() => self.unwell.set(leaf),
            _ => {}
        }
        self.skipped.push(Skipped { target: usize::from(target), skip });
    }

    /// Nothing was found: opens what was passed over for want of room, and then for want of health.
    /// Says whether there is any. What is not well is asked only if nothing else was: whoever got a
    /// candidate before has had the better ones. Where requests can wait for room, they wait for their first.
    fn resort(&mut self, can_wait: bool) -> bool {
        let can_wait = can_wait && self.attempts == 0;
        if self.resort == Resort::Better {
            self.resort = Resort::Crowded;
            let crowded = self.closed.remove(&mut self.crowded);
            let saturated = !can_wait && self.closed.remove(&mut self.saturated);
            if crowded || saturated {
                return true;
            }
        }
        if can_wait && self.is_short_of_room() {
            return false;
        }
        if self.resort == Resort::Crowded && self.attempts == 0 {
            self.resort = Resort::Unwell;
            return self.closed.remove(&mut self.unwell);
        }
        false
    }
}

/// What is asked for want of anything better; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resort {
    /// There is better.
    Better,
    /// Targets with much to do.
    Crowded,
    /// Targets that are ejected or benched.
    Unwell,
}

impl Plan {
    /// The next target to ask; `None` when there is none left, or after [`MOST_ATTEMPTS`]. The
    /// lease that comes with it has begun.
    pub fn next(&self, picker: &mut Picker, facts: &Facts<'_>, now_ms: u64) -> Option<Candidate> {
        if picker.attempts >= MOST_ATTEMPTS {
            return None;
        }
        if let Some(candidate) = self.repeat(picker, now_ms) {
            return Some(candidate);
        }
        loop {
            let Some(choice) = self.choose(picker, facts, now_ms, false) else {
                if picker.resort(self.queue.is_some()) {
                    continue;
                }
                return None;
            };
            let target = self.shape.leaves[usize::from(choice.leaf)].target;
            let live = &self.targets[usize::from(target)].live;
            match Lease::begin(live, choice.in_spite, now_ms) {
                Some(lease) => {
                    picker.attempts += 1;
                    picker.last = Some(choice.leaf);
                    picker.repeats = 0;
                    return Some(Candidate { target: usize::from(target), why: choice.why, lease });
                }
                // Another request took the probe in between, or the last place.
                None => {
                    let standing = live.health.breaker.standing(now_ms);
                    let unreached = standing == Standing::Probing { unreached: true };
                    let skip = match live.credentials.are_full(now_ms) {
                        true => Skip::Full { in_flight: live.health.in_flight() },
                        false => Skip::Probing { unreached },
                    };
                    picker.tried.clear(target);
                    picker.skip(choice.leaf, target, skip);
                }
            }
        }
    }

    /// Whether to go on after a failure: the cause allows it, it came fast enough, there are
    /// attempts left, and the retry budget has one. Call it once for each failure, and only before
    /// the first semantic event has gone to the caller, or for an attempt that goes on behind it.
    #[must_use]
    pub fn go_on(&self, picker: &mut Picker, failed: Failed, now_ms: u64) -> bool {
        let allows = match failed.next {
            Next::Answer => return false,
            Next::OtherTarget => true,
            Next::OtherCredential => {
                // One that may be asked again at once is not asked with the same credential.
                if let Some(target) = self.last_target(picker)
                    && picker.repeats + 1 < target.live.credentials.count()
                    && target.live.credentials.all_benched(now_ms).is_none()
                {
                    picker.again();
                }
                true
            }
            Next::LargerTarget => {
                let last = self.last_target(picker);
                let window = last.and_then(|target| target.route.model_limits.max_input);
                picker.larger_than = Some(window.unwrap_or(0).max(picker.larger_than.unwrap_or(0)));
                true
            }
        };
        allows
            && is_fast(failed.took_ms)
            && picker.attempts < MOST_ATTEMPTS
            && self.budget.spend(now_ms)
    }

    /// How a request would go, with every target in the order in which they would be asked if all
    /// of them failed. Asks none and takes nothing.
    #[must_use]
    pub fn explain(&self, facts: &Facts<'_>, random: u64, now_ms: u64) -> Explanation {
        let mut picker = Picker::new(random);
        let mut candidates = Vec::new();
        loop {
            if let Some(choice) = self.choose(&mut picker, facts, now_ms, true) {
                let target = self.shape.leaves[usize::from(choice.leaf)].target;
                picker.attempts += 1;
                candidates.push((usize::from(target), choice.why));
            } else if !picker.resort(self.queue.is_some()) {
                return Explanation { candidates, skipped: picker.skipped };
            }
        }
    }

    /// Whether a request may come to where a route goes: its case leads there. How the target
    /// is does not count.
    #[must_use]
    pub fn leads_to(&self, route: &Route, facts: &Facts<'_>, now_ms: u64) -> bool {
        let explanation = self.explain(facts, 0, now_ms);
        let goes_there = |target: usize| {
            self.targets[target].route.goes_to(&route.provider, &route.upstream_model)
        };
        let is_open = |skipped: &Skipped| skipped.skip != Skip::OtherCase;
        let candidates = explanation.candidates.iter().map(|(target, _)| *target);
        let skipped = explanation.skipped.iter().filter(|skipped| is_open(skipped));
        candidates.chain(skipped.map(|skipped| skipped.target)).any(goes_there)
    }

    /// Chooses a leaf, and closes it.
    fn choose(
        &self,
        picker: &mut Picker,
        facts: &Facts<'_>,
        now_ms: u64,
        is_dry: bool,
    ) -> Option<Choice> {
        let choice = Walk::new(self, picker, facts, now_ms, is_dry).choose(self.shape.root)?;
        picker.closed.set(choice.leaf);
        picker.tried.set(self.shape.leaves[usize::from(choice.leaf)].target);
        Some(choice)
    }

    /// The candidate that shall be asked again.
    fn repeat(&self, picker: &mut Picker, now_ms: u64) -> Option<Candidate> {
        let leaf = picker.again.take()?;
        let target = usize::from(self.shape.leaves.get(usize::from(leaf))?.target);
        let lease = Lease::begin(&self.targets[target].live, false, now_ms)?;
        picker.attempts += 1;
        picker.repeats += 1;
        Some(Candidate { target, why: Why::NOTHING.and(Reason::Again), lease })
    }

    fn last_target(&self, picker: &Picker) -> Option<&Target> {
        let leaf = self.shape.leaves.get(usize::from(picker.last?))?;
        self.targets.get(usize::from(leaf.target))
    }
}

/// A set of leaves or targets, of which a plan has at most 256 each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bits([u64; 4]);

impl Bits {
    pub(super) fn set(&mut self, index: u16) {
        if let Some(word) = self.0.get_mut(usize::from(index / 64)) {
            *word |= 1 << (index % 64);
        }
    }

    fn clear(&mut self, index: u16) {
        if let Some(word) = self.0.get_mut(usize::from(index / 64)) {
            *word &= !(1 << (index % 64));
        }
    }

    pub(super) fn has(&self, index: u16) -> bool {
        self.0.get(usize::from(index / 64)).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Takes out what is in another set, and empties that. Says whether there was any.
    fn remove(&mut self, other: &mut Self) -> bool {
        let gone = std::mem::take(other);
        for (word, gone) in self.0.iter_mut().zip(gone.0) {
            *word &= !gone;
        }
        gone.0 != [0; 4]
    }
}
