//! The sides of a split, for whoever compares them.

use super::Plan;
use super::shape::{Kind, StickyBy};

/// What a caller is, to a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StickyTo {
    /// The key; without one, the user.
    Key,
    /// The user; without one, the key.
    User,
    /// The value of a header, which is not recorded anywhere.
    Header,
}

/// The one split of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// What callers are divided by.
    pub sticky: StickyTo,
    /// The sides, in the order of the file.
    pub sides: Vec<Side>,
}

/// A side of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Its weight.
    pub weight: u32,
    /// Where its requests go first when all is well: numbers of [`Plan::targets`].
    pub targets: Vec<usize>,
}

impl Plan {
    /// The sides of the split in the plan. `None` if there is none or more than one, or if a target
    /// stands on two sides, so that they cannot be told apart.
    #[must_use]
    pub fn sides(&self) -> Option<Sides> {
        let mut splits = self.shape.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Split(split) => Some(split),
            _ => None,
        });
        let split = splits.next().filter(|_| splits.next().is_none())?;
        let mut sides: Vec<Side> = Vec::new();
        for side in &split.sides {
            let mut targets = Vec::new();
            self.asked_first(side.node, &mut targets);
            if sides.iter().any(|other| targets.iter().any(|it| other.targets.contains(it))) {
                return None;
            }
            sides.push(Side { weight: side.weight, targets });
        }
        let sticky = match split.sticky {
            StickyBy::Key => StickyTo::Key,
            StickyBy::User => StickyTo::User,
            StickyBy::Header(_) => StickyTo::Header,
        };
        Some(Sides { sticky, sides })
    }

    /// The targets below a node that are asked when nothing has failed.
    fn asked_first(&self, node: u16, targets: &mut Vec<usize>) {
        let shape = &self.shape;
        let node = &shape.nodes[usize::from(node)];
        match &node.kind {
            Kind::Leaf => {
                let target = usize::from(shape.leaves[usize::from(node.leaves.0)].target);
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
            Kind::Split(split) => {
                split.sides.iter().for_each(|side| self.asked_first(side.node, targets));
            }
            Kind::Balance(balance) => {
                balance.members.iter().for_each(|member| self.asked_first(member.node, targets));
            }
            Kind::Fallback(tiers) => {
                tiers.iter().take(1).for_each(|tier| self.asked_first(*tier, targets));
            }
            Kind::When(cases) => {
                cases.iter().for_each(|case| self.asked_first(case.node, targets));
            }
        }
    }
}
