//! Which sums a stretch of time is made up of.

use std::ops::{Range, RangeInclusive};

pub use crate::store::Step;

/// Spans of one table, by their numbers since 1970.
pub(super) type Spans = (Step, Range<u64>);

/// Which sums there are, in Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// From when on there are sums by minute, and by hour: whole days. What is older is gone.
    pub(super) from: [u64; 2],
    /// Until when there are sums by hour, and by day: whole spans. What is younger is not yet
    /// folded.
    pub(super) until: [u64; 2],
}

/// Takes `[from_ms, to_ms)` apart into the longest spans there are, up to `coarsest`. An edge
/// within a span whose finer sums are gone takes the whole span: rather too much than too little.
pub(super) fn spans(from_ms: u64, to_ms: u64, coarsest: Step, kept: Kept) -> Vec<Spans> {
    let mut spans = Vec::new();
    let [minutes, hours] = kept.from;
    let parts = [
        (Step::Day, 0..hours),
        (Step::Hour, hours..minutes.max(hours)),
        (Step::Minute, minutes.max(hours)..u64::MAX),
    ];
    for (finest, part) in parts {
        let length = finest.length_ms();
        let (from, to) = (from_ms.max(part.start), to_ms.min(part.end));
        if from < to {
            let (from, to) = (from / length * length, to.div_ceil(length).saturating_mul(length));
            split(from, to, finest..=coarsest.max(finest), kept.until, &mut spans);
        }
    }
    spans
}

/// The middle in spans of the coarser step, both edges in finer ones. Both ends are whole spans of
/// the finest step.
fn split(from: u64, to: u64, steps: RangeInclusive<Step>, until: [u64; 2], spans: &mut Vec<Spans>) {
    if from >= to {
        return;
    }
    let (finest, step) = (*steps.start(), *steps.end());
    let length = step.length_ms();
    let (finer, ready) = match step {
        Step::Minute => (None, u64::MAX),
        Step::Hour => (Some(Step::Minute), until[0]),
        Step::Day => (Some(Step::Hour), until[1]),
    };
    let Some(finer) = finer.filter(|finer| *finer >= finest) else {
        spans.push((step, from / length..to / length));
        return;
    };
    let (first, last) = (from.div_ceil(length), to.min(ready) / length);
    if first < last {
        split(from, first * length, finest..=finer, until, spans);
        spans.push((step, first..last));
        split(last * length, to, finest..=finer, until, spans);
    } else {
        split(from, to, finest..=finer, until, spans);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;
    const HOUR: u64 = 3_600_000;
    const MINUTE: u64 = 60_000;

    /// Spans in milliseconds, which must neither overlap nor leave a gap.
    fn covered(spans: &[Spans]) -> (u64, u64) {
        let ms = |(step, at): &Spans| (at.start * step.length_ms(), at.end * step.length_ms());
        for pair in spans.windows(2) {
            assert_eq!(ms(&pair[0]).1, ms(&pair[1]).0, "{spans:?}");
        }
        (ms(&spans[0]).0, ms(&spans[spans.len() - 1]).1)
    }

    #[test]
    fn the_longest_spans_are_taken_and_the_edges_are_exact() {
        let kept = Kept { from: [0, 0], until: [u64::MAX, u64::MAX] };
        let (from, to) = (DAY - HOUR - MINUTE, 3 * DAY + 2 * HOUR + MINUTE);
        let taken = spans(from, to, Step::Day, kept);
        let minute = |ms| ms / MINUTE;
        assert_eq!(
            taken,
            [
                (Step::Minute, minute(from)..minute(DAY - HOUR)),
                (Step::Hour, 23..24),
                (Step::Day, 1..3),
                (Step::Hour, 72..74),
                (Step::Minute, minute(3 * DAY + 2 * HOUR)..minute(to)),
            ]
        );
        assert_eq!(covered(&taken), (from, to));
        assert_eq!(spans(5, 5, Step::Day, kept), []);
    }

    #[test]
    fn whatever_is_gone_or_not_yet_folded_every_stretch_is_covered_once() {
        let ends = [0, 1, 59_999, 5 * HOUR, 3 * DAY, 3 * DAY + 7 * HOUR + 3, 9 * DAY + 1, 20 * DAY];
        for minutes in [0, 2 * DAY, 4 * DAY] {
            for hours in [0, DAY, 3 * DAY] {
                for until in [[0, 0], [4 * DAY + 5 * HOUR, 4 * DAY], [u64::MAX, u64::MAX]] {
                    let kept = Kept { from: [minutes, hours], until };
                    if until[1] < minutes.max(hours) {
                        continue;
                    }
                    for from in ends {
                        for to in ends.into_iter().filter(|to| *to > from) {
                            for step in Step::ALL {
                                let taken = spans(from, to, step, kept);
                                let (start, end) = covered(&taken);
                                let slack = if from < minutes.max(hours) { DAY } else { MINUTE };
                                assert!(start <= from && from - start < slack);
                                assert!(end >= to && end - to < DAY);
                                for (step, at) in &taken {
                                    let start = at.start * step.length_ms();
                                    let end = at.end * step.length_ms();
                                    assert!(*step != Step::Minute || start >= minutes.max(hours));
                                    assert!(*step != Step::Hour || start >= hours);
                                    assert!(*step != Step::Hour || end <= until[0]);
                                    assert!(*step != Step::Day || end <= until[1]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
