//! What a model says of how it is asked, beside its targets.

use std::sync::Arc;

use super::{Beside, Mirror, Resume, Target};
use crate::health::Health;
use crate::queue::{Queue, Waiting};
use crate::snapshot::Route;

/// The options of a model. By default there are none.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// What of its attempts goes side by side.
    pub(crate) beside: Option<Beside>,
    /// How often its plan is gone through again after all of its targets have failed.
    pub(crate) retries: u32,
    /// How long and how many requests wait for room.
    pub(crate) waiting: Option<Waiting>,
    /// Where an answer that broke off in the middle is gone on with.
    pub(crate) resume: Resume,
    /// Where a share of the requests goes as well, and that share in hundredths of a percent.
    pub(crate) mirror: Option<(Arc<Route>, u16)>,
}

impl Options {
    /// The queue of a model, which hears what becomes free at its targets.
    pub(super) fn queue(&self, model: &str, targets: &[Target], health: &Health) -> Option<Queue> {
        let queue = Queue { waiting: self.waiting?, line: health.line(model) };
        targets.iter().for_each(|target| target.live.bell.add(&queue.line));
        Some(queue)
    }

    /// The shadow of a model.
    pub(super) fn mirror(&self, model: &str, health: &Health) -> Option<Arc<Mirror>> {
        let (route, share) = self.mirror.as_ref()?;
        Some(Arc::new(Mirror::new(model, Arc::clone(route), *share, health)))
    }
}
