//! How a balance chooses among its members.

use std::sync::atomic::Ordering::Relaxed;

use super::candidate::Reason;
use super::config::{Affinity, By};
use super::hash::{Hash64, mixed};
use super::shape::{Balance, Kind, Member, Node};
use super::walk::{Choice, Walk};

/// Members that are drawn before all are looked at in their order: enough to find two as long as
/// most can be asked.
const MOST_DRAWS: usize = 8;
/// A target keeps what belongs to it as long as it has no more to do than this share of the mean,
/// in percent.
const BOUNDED_LOAD_PERCENT: u64 = 125;
/// Members that are tried in turn for the affinity of a request.
const MOST_PULLS: usize = 8;
/// What counts as the time to first token of a busy target of which nothing is known yet, in
/// milliseconds. An idle one is tried at once.
const UNKNOWN_MS: f32 = 1_000.0;
/// Entries of the order in which members take turns.
const LONGEST_SCHEDULE: u64 = 1_024;

impl Walk<'_, '_> {
    /// A leaf of one of the members; `leaves` is the range of all their leaves.
    pub(super) fn balanced(&mut self, balance: &Balance, leaves: (u16, u16)) -> Option<Choice> {
        if let Some(choice) = self.affine(balance, leaves) {
            return Some(choice.because(Reason::Affinity));
        }
        match balance.by {
            By::Latency => self.better_of_two(&balance.members),
            By::RoundRobin => self.in_turn(balance),
            By::InFlight => self.least(balance, |walk, member, target| {
                (0, (walk.in_flight(target) + 1.0) / weight(member))
            }),
            By::Fastest => self
                .least(balance, |walk, _, target| (0, walk.first_token_ms(target).unwrap_or(0.0))),
            By::Cheapest => self.cheapest(balance),
        }
    }

    /// Draws two and takes the one that is likely to answer sooner.
    fn better_of_two(&mut self, members: &[Member]) -> Option<Choice> {
        let (index, first) = self.some_member(members, None)?;
        // Whoever is drawn while a probe is due is the probe: it would never win.
        let second = match first.is_due || members.len() == 1 {
            true => None,
            false => self.some_member(members, Some(index)),
        };
        let Some((other, second)) = second else {
            let reason = match first.is_due {
                true => Reason::Balanced(By::Latency),
                false => Reason::OnlyOneLeft,
            };
            return Some(first.because(reason));
        };
        let is_better = second.is_due
            || self.likely_ms(&members[other], self.target(&second))
                < self.likely_ms(&members[index], self.target(&first));
        let better = if is_better { second } else { first };
        Some(better.because(Reason::Balanced(By::Latency)))
    }

    /// A member at random that can be asked.
    fn some_member(
        &mut self,
        members: &[Member],
        except: Option<usize>,
    ) -> Option<(usize, Choice)> {
        for _ in 0..MOST_DRAWS.min(2 * members.len()) {
            let index = self.below(members.len());
            if Some(index) != except
                && let Some(choice) = self.choose(members[index].node)
            {
                return Some((index, choice));
            }
        }
        let start = self.below(members.len());
        (0..members.len())
            .map(|step| (start + step) % members.len())
            .filter(|index| Some(*index) != except)
            .find_map(|index| Some((index, self.choose(members[index].node)?)))
    }

    /// A random number below a count.
    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(1).max(1);
        usize::try_from(self.picker.next_random() % count).unwrap_or(0)
    }

    /// The mean time to the first token, times what is there to do, for its weight.
    fn likely_ms(&self, member: &Member, target: usize) -> f32 {
        let in_flight = self.in_flight(target);
        let unknown = if in_flight == 0.0 { 0.0 } else { UNKNOWN_MS };
        let mean = self.first_token_ms(target).unwrap_or(unknown);
        mean * (in_flight + 1.0) / weight(member)
    }

    fn in_turn(&mut self, balance: &Balance) -> Option<Choice> {
        let schedule = &balance.schedule;
        let turn = match self.is_dry {
            true => balance.turn.load(Relaxed),
            false => balance.turn.fetch_add(1, Relaxed),
        };
        let start = usize::try_from(turn).unwrap_or(0) % schedule.len().max(1);
        let mut order = schedule[start..].iter().chain(&schedule[..start]);
        let chosen =
            order.find_map(|member| self.choose(balance.members[usize::from(*member)].node));
        if chosen.is_none() && !self.is_dry {
            // Nobody's turn was taken.
            balance.turn.fetch_sub(1, Relaxed);
        }
        Some(chosen?.because(Reason::Balanced(By::RoundRobin)))
    }

    /// The member with the least cost, beginning anywhere so that equals take turns. Of targets that
    /// stand by themselves nothing is looked at but the cost, unless it is less than that of all
    /// before: that makes a hundred of them cheap.
    fn least(
        &mut self,
        balance: &Balance,
        cost: impl Fn(&Self, &Member, usize) -> (u64, f32),
    ) -> Option<Choice> {
        let (later, sooner) = balance.members.split_at(self.below(balance.members.len()));
        let mut best: Option<((u64, f32), Choice)> = None;
        for member in sooner.iter().chain(later) {
            if let Some((least, _)) = &best
                && let Some(target) = self.sole(member)
                && !self.is_due(target)
                && cost(self, member, target) >= *least
            {
                continue;
            }
            let Some(choice) = self.choose(member.node) else { continue };
            if choice.is_due {
                best = Some(((0, 0.0), choice));
                break;
            }
            let cost = cost(self, member, self.target(&choice));
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, choice));
            }
        }
        Some(best?.1.because(Reason::Balanced(balance.by)))
    }

    /// The target that is all of a member.
    fn sole(&self, member: &Member) -> Option<usize> {
        let Node { kind, leaves } = &self.plan.shape.nodes[usize::from(member.node)];
        matches!(kind, Kind::Leaf).then(|| self.target_of(leaves.0))
    }

    /// Whether a probe of a target is due.
    fn is_due(&self, target: usize) -> bool {
        self.plan.targets[target].live.health.breaker.is_due(self.now_ms)
    }

    /// The cheapest; under a latency objective, the cheapest that keeps it, or else the fastest.
    fn cheapest(&mut self, balance: &Balance) -> Option<Choice> {
        let Some(under_ms) = balance.under_ms else {
            return self.least(balance, |walk, member, target| {
                (walk.price(target), walk.likely_ms(member, target))
            });
        };
        let keeps = |walk: &Self, target: usize| {
            walk.first_token_ms(target).is_none_or(|mean| mean <= under_ms)
        };
        let choice = self.least(balance, |walk, _, target| {
            let mean = walk.first_token_ms(target).unwrap_or(0.0);
            match keeps(walk, target) {
                true => (walk.price(target), mean),
                // Dearer than any price.
                false => (u64::MAX, mean),
            }
        })?;
        match keeps(self, self.target(&choice)) {
            true => Some(choice),
            false => Some(choice.because(Reason::NearestToObjective)),
        }
    }

    /// What the request costs there, in billionths of the plan's currency. What is not known comes
    /// behind all that is.
    fn price(&self, target: usize) -> u64 {
        let (plan, facts) = (self.plan, self.facts);
        let route = &plan.targets[target].route;
        let known = route.price.as_ref().and_then(|price| {
            let money = price.estimate(facts.input_tokens, facts.output_tokens, facts.unix_ms);
            plan.exchange.convert(money, plan.currency?)
        });
        known.map_or(u64::MAX - 1, |money| money.nanos.min(u64::MAX - 2))
    }

    /// The member that the request's conversation or cache key belongs to, unless it has too much
    /// to do: then the next one that would be its own.
    fn affine(&mut self, balance: &Balance, leaves: (u16, u16)) -> Option<Choice> {
        let cache_key = || self.facts.cache_key.map(|key| Hash64::of("cache_key", key));
        let hash = match balance.affinity {
            Affinity::Off => None,
            Affinity::CacheKey => cache_key(),
            Affinity::Conversation => cache_key().or(self.facts.conversation),
        }?;
        let bound = self.bound(leaves);
        let hash = mixed(hash) ^ self.plan.salt;
        self.drawn(&balance.members, MOST_PULLS, hash, |walk, member| {
            let choice = walk.choose(member.node)?;
            (walk.in_flight(walk.target(&choice)) < bound).then_some(choice)
        })
    }

    /// Requests in flight that a target may have: a quarter more than the mean, this one included.
    fn bound(&self, (from, to): (u16, u16)) -> f32 {
        let leaves = &self.plan.shape.leaves[usize::from(from)..usize::from(to)];
        let in_flight =
            |target: u16| u64::from(self.plan.targets[usize::from(target)].live.health.in_flight());
        let sum: u64 = leaves.iter().map(|leaf| in_flight(leaf.target)).sum();
        let count = u64::try_from(leaves.len()).unwrap_or(1).max(1);
        let bound = ((sum + 1) * BOUNDED_LOAD_PERCENT).div_ceil(100 * count);
        f32::from(u16::try_from(bound).unwrap_or(u16::MAX))
    }

    fn target(&self, choice: &Choice) -> usize {
        self.target_of(choice.leaf)
    }

    fn target_of(&self, leaf: u16) -> usize {
        usize::from(self.plan.shape.leaves[usize::from(leaf)].target)
    }

    fn in_flight(&self, target: usize) -> f32 {
        let in_flight = self.plan.targets[target].live.health.in_flight();
        f32::from(u16::try_from(in_flight).unwrap_or(u16::MAX))
    }

    fn first_token_ms(&self, target: usize) -> Option<f32> {
        self.plan.targets[target].live.health.first_token.mean_ms(self.now_ms)
    }
}

fn weight(member: &Member) -> f32 {
    member.weight as f32
}

/// The order in which members of these weights take turns, as evenly as can be: smooth weighted
/// round robin over one whole round. Weights that would make it too long are rounded.
pub(super) fn schedule(members: &[Member]) -> Box<[u16]> {
    let weights: Vec<u64> = members.iter().map(|member| u64::from(member.weight)).collect();
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let sum = weights.iter().sum::<u64>() / divisor;
    let share = |weight: u64| match sum > LONGEST_SCHEDULE {
        true => (weight / divisor * LONGEST_SCHEDULE / sum).max(1),
        false => weight / divisor,
    };
    let shares: Vec<i64> =
        weights.iter().map(|weight| i64::try_from(share(*weight)).unwrap_or(1)).collect();
    let round: i64 = shares.iter().sum();
    let mut credit = vec![0_i64; shares.len()];
    let mut order = Vec::new();
    for _ in 0..round {
        for (credit, share) in credit.iter_mut().zip(&shares) {
            *credit += share;
        }
        let most = credit.iter().copied().max().unwrap_or(0);
        let Some(next) = credit.iter().position(|credit| *credit == most) else { break };
        credit[next] -= round;
        order.push(u16::try_from(next).unwrap_or(0));
    }
    order.into()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
