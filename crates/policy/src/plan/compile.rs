//! From a plan as written to its tree: every problem at once, each with its place.

mod groups;

use std::sync::Arc;

use super::Plan;
use super::config::{By, PlanConfig};
use super::facts::Needs;
use super::hash::{Hash64, mixed};
use super::options::Options;
use super::shape::{Kind, Leaf, NO_GROUP, Node, Shape};
use crate::config::At;
use crate::health::Health;
use crate::money::Exchange;
use crate::problem::{Place, Problem};
use crate::provider::Provider;
use crate::snapshot::Route;

/// How deep splits, balances, fallbacks and cases may stand in each other.
pub const MOST_DEPTH: usize = 4;
/// Mentions of targets in the plan of one model.
pub const MOST_TARGETS: usize = 256;
/// The largest weight.
pub const MOST_WEIGHT: u64 = 1_000_000;

/// A target, before its route is made.
#[derive(Clone)]
pub(crate) struct Spot {
    pub(crate) provider: Arc<Provider>,
    /// What the provider calls the model; of a wildcard, with a star in it.
    pub(crate) model: String,
}

/// Finds what `provider/model` means; else what is wrong with it and a hint, or nothing if that is
/// told elsewhere.
pub(crate) type Resolve<'r> = dyn Fn(&str) -> Result<Spot, Option<(String, String)>> + 'r;

/// A plan whose targets have no routes yet.
#[derive(Clone)]
pub(crate) struct Draft {
    shape: Arc<Shape>,
    pub(crate) spots: Vec<Spot>,
}

impl Draft {
    /// Compiles a plan; `None` if there are problems.
    pub(crate) fn compile(
        written: &At<PlanConfig>,
        resolve: &Resolve<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let before = problems.len();
        let mut compiler = Compiler::new(resolve, problems);
        let around = Around {
            depth: 0,
            regions: Vec::new(),
            is_final: true,
            group: NO_GROUP,
            is_weighted: false,
        };
        let (root, _) = compiler.node(written, &around)?;
        let Compiler { nodes, leaves, groups, spots, needs, regions, .. } = compiler;
        let shape = Shape {
            nodes: nodes.into(),
            root,
            leaves: leaves.into(),
            groups: groups.into(),
            needs,
            regions: regions.into(),
        };
        (problems.len() == before).then(|| Self { shape: Arc::new(shape), spots })
    }

    /// The plan, with a route for each target, by its number; `None` if the first has none.
    pub(crate) fn plan(
        &self,
        model: &str,
        mut route: impl FnMut(usize, &Spot) -> Option<Arc<Route>>,
        exchange: &Arc<Exchange>,
        options: Options,
        health: &Health,
    ) -> Option<Plan> {
        let mut routes = self.spots.iter().enumerate().map(|(index, spot)| route(index, spot));
        let first = routes.next()??;
        let others = routes.collect::<Option<Vec<_>>>()?;
        let shape = Arc::clone(&self.shape);
        Some(Plan::new(model, shape, (first, others), Arc::clone(exchange), options, health))
    }

    /// Where its targets are.
    pub(crate) fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// Whether it divides callers.
    pub(crate) fn has_split(&self) -> bool {
        self.shape.nodes.iter().any(|node| matches!(node.kind, Kind::Split(_)))
    }

    /// Whether it compares prices.
    pub(crate) fn compares_prices(&self) -> bool {
        self.shape.nodes.iter().any(|node| match &node.kind {
            Kind::Balance(balance) => balance.by == By::Cheapest,
            _ => false,
        })
    }
}

/// Whether a provider in `place` is in a region. Whoever runs it at home is in all of them; whoever
/// does not say where it is, in none.
pub(crate) fn is_in(place: Option<&str>, region: &str) -> bool {
    place.is_some_and(|place| {
        ["local", "private", region].iter().any(|known| known.eq_ignore_ascii_case(place))
    })
}

/// What stands around a part of a plan.
#[derive(Clone)]
struct Around<'a> {
    depth: usize,
    regions: Vec<&'a str>,
    is_final: bool,
    group: u16,
    /// Whether a weight means something here.
    is_weighted: bool,
}

struct Compiler<'c> {
    resolve: &'c Resolve<'c>,
    problems: &'c mut Vec<Problem>,
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    groups: Vec<(u16, u16)>,
    spots: Vec<Spot>,
    needs: Needs,
    regions: Vec<Box<str>>,
}

/// A node, and what it is known by.
type Made = (u16, u64);

impl<'c> Compiler<'c> {
    fn new(resolve: &'c Resolve<'c>, problems: &'c mut Vec<Problem>) -> Self {
        let needs = Needs::default();
        let (nodes, leaves, groups, spots) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { resolve, problems, nodes, leaves, groups, spots, needs, regions: Vec::new() }
    }

    fn problem(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(place, message, hint));
    }

    fn node(&mut self, written: &At<PlanConfig>, around: &Around<'_>) -> Option<Made> {
        let At { value: plan, place } = written;
        let mut around = around.clone();
        self.check_strays(plan, *place, &around);
        if let Some(region) = &plan.region {
            around.regions.push(&region.value);
            self.regions.push(region.value.as_str().into());
        }
        around.is_weighted = false;
        match &plan.fallback {
            None => self.main(plan, *place, &around),
            Some(tiers) => self.fallback(plan, *place, tiers, &around),
        }
    }

    /// What is said but means nothing here.
    fn check_strays(&mut self, plan: &PlanConfig, place: Place, around: &Around<'_>) {
        let has_target = !plan.target.value.is_empty();
        let mains = [has_target, plan.split.is_some(), plan.balance.is_some(), plan.when.is_some()];
        if mains.iter().filter(|is_there| **is_there).count() > 1 {
            let hint = "put one into the other, or `fallback` beside it";
            self.problem(place, "one of `target`, `split`, `balance` and `when` is enough", hint);
        }
        let strays: [(&str, Option<Place>, bool, &str); 6] = [
            ("sticky", plan.sticky.as_ref().map(|at| at.place), plan.split.is_some(), "`split`"),
            ("by", plan.by.as_ref().map(|at| at.place), plan.balance.is_some(), "`balance`"),
            (
                "affinity",
                plan.affinity.as_ref().map(|at| at.place),
                plan.balance.is_some(),
                "`balance`",
            ),
            ("spill_at", plan.spill_at.as_ref().map(|at| at.place), has_target, "`target`"),
            (
                "under",
                plan.under.as_ref().map(|at| at.place),
                plan.by.as_ref().is_some_and(|by| by.value == By::Cheapest),
                "`by: cheapest`",
            ),
            (
                "weight",
                plan.weight.as_ref().map(|at| at.place),
                around.is_weighted,
                "a part of a `split` or `balance`",
            ),
        ];
        for (name, stands, is_at_home, home) in strays {
            if let Some(stands) = stands
                && !is_at_home
            {
                let message = format!("`{name}` means nothing without {home}");
                self.problem(stands, message, format!("leave it out, or add {home}"));
            }
        }
    }

    /// What a plan is beside its fallback.
    fn main(&mut self, plan: &PlanConfig, place: Place, around: &Around<'_>) -> Option<Made> {
        match (&plan.split, &plan.balance, &plan.when) {
            (None, None, None) => self.leaf(plan, place, around),
            (Some(sides), ..) => self.split(plan, sides, around),
            (_, Some(members), _) => self.balance(plan, members, around),
            (.., Some(cases)) => self.when(cases, around),
        }
    }

    fn deeper<'a>(&mut self, place: Place, around: &Around<'a>) -> Option<Around<'a>> {
        if around.depth >= MOST_DEPTH {
            let message = format!("a plan is at most {MOST_DEPTH} levels deep");
            self.problem(
                place,
                message,
                "put parts of one kind beside each other instead of in each other",
            );
            return None;
        }
        Some(Around { depth: around.depth + 1, ..around.clone() })
    }

    /// Enters a node over the leaves from `first` on.
    fn enter(&mut self, kind: Kind, first: usize) -> Option<u16> {
        let leaves = (u16::try_from(first).ok()?, u16::try_from(self.leaves.len()).ok()?);
        self.nodes.push(Node { kind, leaves });
        u16::try_from(self.nodes.len() - 1).ok()
    }

    fn leaf(&mut self, plan: &PlanConfig, place: Place, around: &Around<'_>) -> Option<Made> {
        let place = plan.target.place.max(place);
        let spot = match (self.resolve)(&plan.target.value) {
            Ok(spot) => spot,
            Err(problem) => {
                let told = problem.map(|(message, hint)| Problem::new(place, message, hint));
                self.problems.extend(told);
                return None;
            }
        };
        for region in &around.regions {
            let where_it_is = spot.provider.region.as_deref();
            if !is_in(where_it_is, region) {
                let id = &spot.provider.id;
                let message = match where_it_is {
                    Some(other) => format!("`{id}` is in the region `{other}`, outside `{region}`"),
                    None => format!(
                        "nobody says in which region `{id}` is, and it has to be `{region}`"
                    ),
                };
                self.problem(place, message, format!("take it out, or set `region` of {id}"));
                return None;
            }
        }
        if self.leaves.len() >= MOST_TARGETS {
            let message = format!("a model has at most {MOST_TARGETS} targets");
            self.problem(place, message, "make several models of it");
            return None;
        }
        let spill_at = plan.spill_at.as_ref().map(|at| {
            if at.value == 0 {
                self.problem(at.place, "`spill_at: 0` would never prefer it", "write 1 or more");
            }
            u32::try_from(at.value).unwrap_or(u32::MAX)
        });
        let same =
            |known: &Spot| known.provider.id == spot.provider.id && known.model == spot.model;
        let target = self.spots.iter().position(same).unwrap_or(self.spots.len());
        let id = Hash64::of("target", &format!("{}/{}", spot.provider.id, spot.model));
        if target == self.spots.len() {
            self.spots.push(spot);
        }
        let target = u16::try_from(target).ok()?;
        let (group, is_final) = (around.group, around.is_final);
        self.leaves.push(Leaf { target, spill_at, group, is_final });
        Some((self.enter(Kind::Leaf, self.leaves.len() - 1)?, id))
    }

    fn fallback(
        &mut self,
        plan: &PlanConfig,
        place: Place,
        tiers: &At<Vec<At<PlanConfig>>>,
        around: &Around<'_>,
    ) -> Option<Made> {
        let around = self.deeper(tiers.place.max(place), around)?;
        if tiers.value.is_empty() {
            self.problem(tiers.place, "`fallback` names no target", "list at least one");
        }
        let first = self.leaves.len();
        let has_main = !plan.target.value.is_empty()
            || plan.split.is_some()
            || plan.balance.is_some()
            || plan.when.is_some();
        let mut made: Vec<Option<Made>> = Vec::new();
        if has_main {
            let around = Around { is_final: false, ..around.clone() };
            made.push(self.main(plan, place, &around));
        }
        for (index, tier) in tiers.value.iter().enumerate() {
            let is_final = around.is_final && index + 1 == tiers.value.len();
            made.push(self.node(tier, &Around { is_final, ..around.clone() }));
        }
        let made: Vec<Made> = made.into_iter().collect::<Option<_>>()?;
        self.check_twice(&made, tiers.place);
        let id = joined("fallback", made.iter().map(|(_, id)| *id));
        let nodes = made.into_iter().map(|(node, _)| node).collect();
        Some((self.enter(Kind::Fallback(nodes), first)?, id))
    }
}

/// What a part is known by: what it is and what is in it, but not the weights.
fn joined(word: &str, parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(Hash64::of("part", word), |hash, part| mixed(hash ^ part))
}
