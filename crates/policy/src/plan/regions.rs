//! Regions that a plan may not leave, for whoever would go on with another plan in its place. Within
//! a plan they were checked when it was loaded.

use super::{Plan, compile};

impl Plan {
    /// Whether all of its targets are in every region that a part of `other` names.
    #[must_use]
    pub fn stays_within(&self, other: &Self) -> bool {
        if let Some(composed) = &self.composed {
            return composed.plans().all(|plan| plan.stays_within(other));
        }
        let places = || self.targets.iter().map(|target| target.route.provider.region.as_deref());
        other.shape.regions.iter().all(|region| places().all(|it| compile::is_in(it, region)))
    }
}
