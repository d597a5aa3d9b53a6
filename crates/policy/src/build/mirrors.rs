//! Mirrors of models: where they go, and how much.

use std::sync::Arc;

use super::Builder;
use super::models::spot;
use crate::config::{At, Config, MirrorConfig, ModelConfig};
use crate::plan::{PlanConfig, PlannedMirror, is_in};
use crate::provider::Provider;

impl Builder<'_> {
    /// The mirror of a model, if it has one that can be.
    pub(super) fn mirror(
        &mut self,
        written: &At<ModelConfig>,
        config: &Config,
        providers: &[Arc<Provider>],
    ) -> Option<PlannedMirror> {
        let At { value: mirror, place } = written.value.mirror.as_ref()?;
        let MirrorConfig { to, share } = mirror;
        let at = to.place.max(*place);
        let spot = match spot(&to.value, config, providers) {
            Ok(spot) => spot,
            Err(problem) => {
                if let Some((message, hint)) = problem {
                    self.problem(at, message, hint);
                }
                return None;
            }
        };
        // A copy of a request may not leave where the request may not leave.
        let mut regions = Vec::new();
        named_regions(&written.value.plan, &mut regions);
        let (id, home) = (&spot.provider.id, spot.provider.region.as_deref());
        if let Some(region) = regions.into_iter().find(|region| !is_in(home, region)) {
            let message = format!("the mirror `{id}` is not known to be in the region `{region}`");
            let hint = format!("mirror to another one, or set `region` of {id}");
            self.problem(at, message, hint);
            return None;
        }
        let Some(share) = mirror.hundredths() else {
            let at = share.as_ref().map_or(at, |share| share.place);
            let hint = "write for example 5, 0.5 or 0.01";
            self.problem(at, "`share` is 0.01 to 100 percent, in steps of 0.01", hint);
            return None;
        };
        Some(PlannedMirror { spot, share })
    }
}

/// The regions that any part of a plan names.
fn named_regions<'p>(plan: &'p PlanConfig, into: &mut Vec<&'p str>) {
    into.extend(plan.region.as_ref().map(|region| region.value.as_str()));
    let parts = plan.split.iter().chain(&plan.balance).flat_map(|parts| &parts.value.0);
    let tiers = plan.fallback.iter().flat_map(|tiers| &tiers.value);
    for part in parts.chain(tiers) {
        named_regions(&part.value, into);
    }
    for case in plan.when.iter().flat_map(|cases| &cases.value) {
        named_regions(&case.value.plan.value, into);
    }
}
