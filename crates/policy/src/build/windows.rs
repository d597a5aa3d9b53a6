//! Adaptive concurrency of the snapshot.

use super::Builder;
use crate::config::{At, ConcurrencyConfig};
use crate::health::{Range, WIDEST};

/// Where a window begins and ends if nothing is said: few providers allow less, and none asks for more.
const USUAL: Range = Range { from: 16, to: 1_000 };

impl Builder<'_> {
    /// How wide the windows of a provider's credentials may be, if they have any.
    pub(super) fn windows(&mut self, written: Option<&At<ConcurrencyConfig>>) -> Option<Range> {
        let At { value: config, place } = written?;
        let size = |written: Option<u64>, usual: u16| match written {
            None => usual,
            Some(count) => u16::try_from(count).unwrap_or(0),
        };
        let (to, from) = (size(config.to, USUAL.to), size(config.from, USUAL.from));
        let from = if config.from.is_none() { from.min(to) } else { from };
        if from == 0 || from > to || to > WIDEST {
            let message = format!("`concurrency` goes from 1 or more to at most {WIDEST}");
            self.problem(*place, message, "write for example { from: 16, to: 1000 }");
        }
        Some(Range { from, to })
    }
}
