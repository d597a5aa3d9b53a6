//! What providers do with calls, and how they are at what time.

use std::time::Duration;

use relay::FailureKind;

use super::random::Random;
use crate::world::seconds;

/// What a provider does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Good,
    Slow,
    /// Comments for a while before the answer.
    Reluctant,
    Overbilled,
    Throttled,
    ThrottledFor(u64),
    Down(u16),
    Barred(u16),
    TooLong,
    Redirect,
    Gone(FailureKind),
    Stale,
    Silent,
    /// After so many events the connection breaks,
    Cut(usize),
    /// or in the middle of the next one,
    Torn(usize),
    /// or the stream ends,
    Short(usize),
    /// or nothing more comes,
    Stuck(usize),
    /// or an error, in the client's dialect or another.
    Error(usize, bool),
    ErrorUnder200,
    Empty,
    Garbage(usize),
    /// What was to be a stream is none.
    Whole,
    /// What was to go on with an answer begins something else.
    Astray,
}

impl Act {
    /// Whether all that is right comes, sooner or later.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Good | Self::Slow | Self::Reluctant | Self::Overbilled)
    }

    /// Whether whoever does it has certainly not begun with the request.
    pub(super) fn is_unbegun(self) -> bool {
        use FailureKind::{Connect, Dns};
        match self {
            Self::Throttled | Self::ThrottledFor(_) | Self::Barred(_) | Self::TooLong => true,
            Self::Down(status) => status == 503,
            Self::Gone(kind) => matches!(kind, Connect | Dns),
            _ => false,
        }
    }
}

/// How a target is for a while.
#[derive(Clone, Copy)]
pub(super) enum Mood {
    Well,
    Slow,
    Busy,
    Down,
    Barred,
    Gone,
    Breaking,
    /// Any of these.
    Mad,
}

const MOODS: [Mood; 8] = [
    Mood::Well,
    Mood::Slow,
    Mood::Busy,
    Mood::Down,
    Mood::Barred,
    Mood::Gone,
    Mood::Breaking,
    Mood::Mad,
];

/// How a target is in the course of two minutes.
pub(super) fn moods(seed: u64) -> Vec<(Duration, Mood)> {
    let mut random = Random::new(seed);
    let (mut from, mut moods) = (Duration::ZERO, Vec::new());
    let sound = random.of(&[0, 40, 85]);
    while from < seconds(120) {
        let mood = if random.percent(sound) { Mood::Well } else { random.of(&MOODS) };
        moods.push((from, mood));
        from += random.time(2_000, 25_000);
    }
    moods
}

impl Mood {
    /// What is done with a call; `good`, if all is well.
    pub(super) fn act(self, good: Act, random: &mut Random) -> Act {
        if random.percent(match self {
            Self::Well => 95,
            Self::Mad => 10,
            _ => 30,
        }) {
            return good;
        }
        let at = usize::try_from(random.between(0, 9)).unwrap();
        let mood = if matches!(self, Self::Mad | Self::Well) { random.of(&MOODS) } else { self };
        match mood {
            Self::Well | Self::Mad => random.of(&[good, Act::Stale, Act::TooLong, Act::Redirect]),
            Self::Slow => random.of(&[Act::Slow, Act::Reluctant, Act::Silent]),
            Self::Busy => random.of(&[Act::Throttled, Act::ThrottledFor(at as u64 * 4)]),
            Self::Down => random.of(&[Act::Down(500), Act::Down(503), Act::Down(529), Act::Empty]),
            Self::Barred => random.of(&[Act::Barred(401), Act::Barred(402), Act::Barred(404)]),
            Self::Gone => random.of(&[
                Act::Gone(FailureKind::Dns),
                Act::Gone(FailureKind::Connect),
                Act::Gone(FailureKind::NoReply),
                Act::Silent,
            ]),
            Self::Breaking => random.of(&[
                Act::Cut(at),
                Act::Torn(at),
                Act::Short(at),
                Act::Stuck(at),
                Act::Error(at, true),
                Act::Error(at, false),
                Act::ErrorUnder200,
                Act::Garbage(at),
                Act::Whole,
                Act::Astray,
            ]),
        }
    }
}
