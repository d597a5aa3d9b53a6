//! The shadow of a model: a target that gets a share of its requests as well.

use std::fmt;
use std::sync::Arc;

use super::Target;
use super::compile::Spot;
use super::hash::mixed;
use crate::health::Health;
use crate::health::mirrored::{Mirrored, Room};
use crate::snapshot::Route;

/// Makes this draw independent of all others by the same random bits.
const SALT: u64 = 0x6d69_7272_6f72;

/// Whether a request with these random bits is mirrored, by a share in hundredths of a percent.
#[must_use]
pub fn is_drawn(share: u16, random: u64) -> bool {
    mixed(random ^ SALT) % 10_000 < u64::from(share)
}

/// A mirror whose target has no route yet.
pub(crate) struct PlannedMirror {
    pub(crate) spot: Spot,
    /// In hundredths of a percent.
    pub(crate) share: u16,
}

/// A target that gets a share of a model's requests as well. Nobody gets its answers: they are
/// compared.
pub struct Mirror {
    /// Where the copies go.
    pub target: Target,
    /// Hundredths of a percent of the requests, from 1 to 10,000.
    share: u16,
    /// What became of them.
    pub mirrored: Arc<Mirrored>,
    /// How many may be under way.
    pub room: Arc<Room>,
}

impl Mirror {
    pub(crate) fn new(model: &str, route: Arc<Route>, share: u16, health: &Health) -> Self {
        let target = Target::new(route, health);
        let mirrored = health.mirrored(model, &target.name());
        Self { target, share, mirrored, room: health.room() }
    }

    /// Whether a request with these random bits is mirrored: always the same for the same bits.
    #[must_use]
    pub fn is_drawn(&self, random: u64) -> bool {
        is_drawn(self.share, random)
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} % to {}", f64::from(self.share) / 100.0, self.target.name())
    }
}
