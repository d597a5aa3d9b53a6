//! Models of the file whose plans are still to be made: once for an exact name, and for each name that
//! a wildcard fits.

use std::sync::Arc;

use crate::directory::Holder;
use crate::edits::EditPlan;
use crate::health::Health;
use crate::money::Exchange;
use crate::plan::{Draft, Options, Plan, PlannedMirror, Spot};
use crate::provider::Clocks;
use crate::snapshot::Route;

/// A model of the file, from which its plan is made.
pub(crate) struct Planned {
    pub(crate) name: Box<str>,
    pub(crate) draft: Draft,
    /// One for each target of the draft, and one for the mirror.
    pub(crate) ways: Vec<Way>,
    pub(crate) mirror: Option<PlannedMirror>,
    pub(crate) exchange: Arc<Exchange>,
    /// All but the mirror, whose route is made with those of the targets.
    pub(crate) options: Options,
}

/// What of a model applies to one of its targets.
pub(crate) struct Way {
    pub(crate) edits: Arc<EditPlan>,
    pub(crate) clocks: Clocks,
    pub(crate) holder: Option<Arc<Holder>>,
    pub(crate) single_flight: bool,
}

impl Planned {
    /// Where its targets are, and behind them its mirror.
    pub(crate) fn spots(&self) -> impl Iterator<Item = &Spot> {
        self.draft.spots().iter().chain(self.mirror.iter().map(|mirror| &mirror.spot))
    }

    /// The plan, where `upstream` says what the provider of each target calls the model.
    pub(crate) fn plan(
        &self,
        name: &str,
        upstream: impl Fn(usize) -> String,
        finish: impl Fn(Route) -> Route,
        health: &Health,
    ) -> Option<Plan> {
        let route = |index: usize, spot: &Spot| {
            let way = self.ways.get(index)?;
            let (name, edits) = (upstream(index), Arc::clone(&way.edits));
            let mut route = Route::new(&spot.provider, &name, edits, way.clocks);
            route.single_flight = way.single_flight;
            Some(Arc::new(finish(route.held_by(way.holder.as_ref()))))
        };
        let mut options = self.options.clone();
        if let Some(mirror) = &self.mirror {
            options.mirror = Some((route(self.draft.spots().len(), &mirror.spot)?, mirror.share));
        }
        self.draft.plan(name, &route, &self.exchange, options, health)
    }
}
