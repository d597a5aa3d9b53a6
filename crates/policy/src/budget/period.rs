//! Periods: the spans of time for which a budget is given.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::units;

/// Milliseconds in a day of 24 hours.
const DAY: u64 = 24 * 3_600_000;

/// The shortest rolling period, in milliseconds, and the longest: ten years.
const ROLLING: std::ops::RangeInclusive<u64> = 60_000..=3_650 * DAY;

/// For what time the amount of a budget is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// From midnight to midnight: 23 to 25 hours where clocks are changed.
    Day,
    /// From Monday to Sunday.
    Week,
    /// From the first of a month to its last day.
    Month,
    /// For all time.
    Total,
    /// The last so many hours or days, at any instant. It moves in steps of a 119th of its length,
    /// and looks back further rather than less far.
    Rolling(Duration),
}

/// From one instant up to another, which is no more part of it. In Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first instant.
    pub start_ms: u64,
    /// The first instant after it; `u64::MAX` if there is none.
    pub end_ms: u64,
}

impl Span {
    /// All time.
    pub(super) const ALL: Self = Self { start_ms: 0, end_ms: u64::MAX };
}

impl Period {
    /// The span of a calendar period that `at_ms` (Unix milliseconds) falls in, as the days of
    /// `zone` go. All time for the others, and beyond the year 9999.
    #[must_use]
    pub fn span(self, zone: &TimeZone, at_ms: u64) -> Span {
        let calendar = || {
            let at = Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()?;
            let today = at.to_zoned(zone.clone()).date();
            let (first, length) = match self {
                Self::Day => (today, 1.day()),
                Self::Week => {
                    let monday = i64::from(today.weekday().to_monday_zero_offset());
                    (today.checked_sub(monday.days()).ok()?, 1.week())
                }
                Self::Month => (today.first_of_month(), 1.month()),
                Self::Total | Self::Rolling(_) => return None,
            };
            // Where a change of the clocks crosses midnight, a date can come before its first
            // instant or after its last: then the instant belongs to a neighbour.
            [0, -1, 1].into_iter().find_map(|shift| {
                let first = first.checked_add(length * shift).ok()?;
                let start_ms = midnight(first, zone)?;
                let end_ms = midnight(first.checked_add(length).ok()?, zone)?;
                (start_ms..end_ms).contains(&at_ms).then_some(Span { start_ms, end_ms })
            })
        };
        calendar().unwrap_or(Span::ALL)
    }
}

/// The first instant of a day, in Unix milliseconds: where the clocks skip midnight, the instant to
/// which they are set.
fn midnight(day: Date, zone: &TimeZone) -> Option<u64> {
    let start = day.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond();
    Some(u64::try_from(start).unwrap_or(0))
}

impl FromStr for Period {
    type Err = String;

    /// `day`, `week`, `month`, `total`, or a duration such as `30d` or `5h` for a rolling period.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text {
            "day" => return Ok(Self::Day),
            "week" => return Ok(Self::Week),
            "month" => return Ok(Self::Month),
            "total" => return Ok(Self::Total),
            _ => {}
        }
        let days = text.strip_suffix('d').and_then(|days| days.trim_end().parse::<u64>().ok());
        let length = match days {
            Some(days) => Ok(Duration::from_millis(days.saturating_mul(DAY))),
            None => units::duration(text),
        };
        let length = length.map_err(|_| {
            format!("`{text}` is no period; write day, week, month, total, or for example 30d")
        })?;
        let fits = u64::try_from(length.as_millis()).is_ok_and(|ms| ROLLING.contains(&ms));
        if !fits {
            return Err(format!("`{text}` is out of range: a rolling period is 1m to 3650d long"));
        }
        Ok(Self::Rolling(length))
    }
}

/// As it is written in a configuration.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Month => f.write_str("month"),
            Self::Total => f.write_str("total"),
            Self::Rolling(length) => {
                let ms = length.as_millis();
                let units = [(u128::from(DAY), "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
                let whole = units.into_iter().find(|(unit, _)| ms % unit == 0);
                let (unit, name) = whole.unwrap_or((1, "ms"));
                write!(f, "{}{name}", ms / unit)
            }
        }
    }
}
