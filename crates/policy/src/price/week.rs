//! Hours of the week at which another price holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;
const MINUTE_MS: u64 = 60_000;

/// 1970-01-01 was a Thursday, and a week here begins on Monday.
const EPOCH_DAY: u64 = 3;

/// A day of the week.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// All seven, from Monday on.
    pub const ALL: [Self; 7] =
        [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];
}

/// Spans of the week, in minutes since Monday 00:00 UTC, each up to its second number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Week(Vec<(u32, u32)>);

impl Week {
    /// Adds hours such as `22:30-06:00` on a day, in a time that is `offset` minutes ahead of UTC.
    /// Hours that end no later than they begin run on into the next day; `00:00` also means
    /// midnight at the day's end.
    pub(crate) fn add(&mut self, day: Day, hours: &str, offset: i32) -> Result<(), String> {
        let wrong = || format!("{hours:?} are no hours of a day; write for example 00:30-08:30");
        let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minutes(from).ok_or_else(wrong)?, minutes(to).ok_or_else(wrong)?);
        let length = if to > from { to - from } else { to + DAY - from };
        let local = day as u32 * DAY + from % DAY;
        let start = (local + WEEK).saturating_add_signed(-offset) % WEEK;
        let end = start + length;
        self.0.push((start, end.min(WEEK)));
        if end > WEEK {
            self.0.push((0, end - WEEK));
        }
        Ok(())
    }

    /// Whether this time (Unix, in milliseconds) is within one of the spans.
    pub(crate) fn covers(&self, at_ms: u64) -> bool {
        let since_monday = at_ms / MINUTE_MS + EPOCH_DAY * u64::from(DAY);
        let minute = since_monday % u64::from(WEEK);
        self.0.iter().any(|(from, to)| (u64::from(*from)..u64::from(*to)).contains(&minute))
    }
}

/// Minutes ahead of UTC, from `+08:00`; the empty text is UTC.
pub(super) fn offset(text: &str) -> Result<i32, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let ahead = match text {
        "" => Some(0),
        _ => minutes(unsigned).filter(|minutes| *minutes <= 14 * 60),
    };
    let ahead = ahead.and_then(|minutes| i32::try_from(minutes).ok());
    let ahead = ahead.ok_or_else(|| format!("{text:?} is no offset from UTC; write +08:00"))?;
    Ok(if text.starts_with('-') { -ahead } else { ahead })
}

/// Minutes since midnight, from `08:30`; `24:00` is the day's end.
fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let (hours, minutes) = (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok()?);
    (minutes < 60 && hours * 60 + minutes <= DAY && hours <= 24).then_some(hours * 60 + minutes)
}
