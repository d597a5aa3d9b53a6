//! The tree of a plan, compiled: nodes in one table, leaves in the order of the file, so that the
//! leaves under a node are a range.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use http::HeaderName;

use super::condition::Condition;
use super::config::{Affinity, By};
use super::facts::Needs;

/// No group of a balance.
pub(super) const NO_GROUP: u16 = u16::MAX;

/// The tree of a plan.
pub(super) struct Shape {
    pub(super) nodes: Box<[Node]>,
    pub(super) root: u16,
    pub(super) leaves: Box<[Leaf]>,
    /// The leaves of each balance, as a range.
    pub(super) groups: Box<[(u16, u16)]>,
    pub(super) needs: Needs,
    /// The regions that parts of it may not leave.
    pub(super) regions: Box<[Box<str>]>,
}

impl Shape {
    /// One target.
    pub(super) fn single() -> Self {
        let leaf = Leaf { target: 0, spill_at: None, group: NO_GROUP, is_final: true };
        Self {
            nodes: Box::new([Node { kind: Kind::Leaf, leaves: (0, 1) }]),
            root: 0,
            leaves: Box::new([leaf]),
            groups: Box::default(),
            needs: Needs::default(),
            regions: Box::default(),
        }
    }
}

/// A node of the tree.
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The leaves under it: from, and up to.
    pub(super) leaves: (u16, u16),
}

pub(super) enum Kind {
    /// The one leaf of its range.
    Leaf,
    Split(Split),
    Balance(Balance),
    Fallback(Box<[u16]>),
    When(Box<[Case]>),
}

/// A child with a weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) node: u16,
    /// Never 0.
    pub(super) weight: u32,
    /// What it is known by when callers are drawn to it: its targets, not its place or weight.
    pub(super) id: u64,
}

pub(super) struct Split {
    pub(super) sticky: StickyBy,
    pub(super) sides: Box<[Member]>,
    /// The sum of the weights.
    pub(super) total: u64,
}

pub(super) enum StickyBy {
    Key,
    User,
    Header(HeaderName),
}

pub(super) struct Balance {
    pub(super) by: By,
    pub(super) under_ms: Option<f32>,
    pub(super) affinity: Affinity,
    pub(super) members: Box<[Member]>,
    /// For turns: the order in which the members come.
    pub(super) schedule: Box<[u16]>,
    pub(super) turn: Arc<AtomicU32>,
}

pub(super) struct Case {
    pub(super) condition: Option<Condition>,
    pub(super) node: u16,
}

/// One mention of a target.
pub(super) struct Leaf {
    /// Which one.
    pub(super) target: u16,
    /// Requests in flight from which on others are preferred.
    pub(super) spill_at: Option<u32>,
    /// The innermost balance around it.
    pub(super) group: u16,
    /// Whether no tier of a fallback comes after it.
    pub(super) is_final: bool,
}
