//! Whether a target is asked at all: a breaker in one atomic number.
//!
//! Closed, it lets everything through and counts. Open, it lets nothing through until a time.
//! Half-open, one live request is under way as a probe, and its end decides. A breaker says how
//! its target stands; whether a plan heeds it (never for the last target) is for the plan to say.
//! Time is that of a monotonic clock, in milliseconds.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Failures in a row that open it while there are too few attempts for their share to say anything.
pub const IN_A_ROW: u32 = 5;
/// Failures in a row that open it in any case. With many attempts, five in a row come about by chance
/// where one in three fails, and more in a row hardly.
pub const MANY_IN_A_ROW: u32 = 10;
/// Failures in a row to reach the target at all that open it.
pub const UNREACHED_IN_A_ROW: u32 = 3;
/// What was counted before counts half after this time, in milliseconds.
pub const WINDOW_MS: u64 = 1_500;
/// Attempts below which the share of failures says nothing.
pub const LEAST_VOLUME: u64 = 10;
/// Percent of failures from which it opens, if that many are more than chance: as many as the retry
/// budget pays for. One that is left alone less easily would use it up, in front of others that serve.
pub const FAILED_PERCENT: u64 = 20;
/// Two standard deviations of that share, in percent of one attempt: of ten attempts five have to
/// fail, of a hundred 28.
const CHANCE_PERCENT: u64 = 80;
/// How long it stays open the first time, in milliseconds; each relapse doubles it.
pub const OPEN_MS: u64 = 5_000;
/// The longest that it stays open, in milliseconds.
pub const LONGEST_OPEN_MS: u64 = 60_000;
/// The same for a target that could not be reached. Asking it costs little, and it may be the only
/// one, which must not be missed when it is back.
pub const UNREACHED_OPEN_MS: u64 = 1_000;
/// See [`UNREACHED_OPEN_MS`].
pub const LONGEST_UNREACHED_MS: u64 = 5_000;
/// Time closed, in milliseconds, after which a failure is no relapse.
pub const FORGOTTEN_MS: u64 = 300_000;
/// How long a target that has come back takes to get its whole share, in milliseconds.
pub const RAMP_MS: u64 = 30_000;
/// The percent of its share that it begins with.
pub const RAMP_FROM_PERCENT: u64 = 10;

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It lets this percent of its share through: less than 100 for a while after a return.
    Closed {
        /// Percent, from 10 to 100.
        percent: u64,
    },
    /// It is open, and the time has come for a probe.
    Due,
    /// It is open.
    Open {
        /// Until when.
        until_ms: u64,
        /// Whether the target could not even be reached.
        unreached: bool,
    },
    /// A probe is under way.
    Probing {
        /// Whether the target could not even be reached before.
        unreached: bool,
    },
}

/// What an attempt says of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It answered, and as a target should.
    Success,
    /// It answered badly, late, or not to the end.
    Failure,
    /// It could not be reached.
    Unreached,
    /// Nothing: the caller left, or was throttled.
    Neutral,
}

/// How an attempt was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// By a closed breaker.
    Closed,
    /// As the probe of a half-open one.
    Probe,
    /// Past an open one, for want of anything better.
    Despite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open,
    HalfOpen,
}

/// Packed as: 2 bits phase, 1 bit unreached, 5 bits trips, 56 bits time.
#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    unreached: bool,
    /// Times it opened, with no long time of health in between.
    trips: u64,
    /// Closed: since when, 0 for always. Open: until when. Half-open: since when.
    at_ms: u64,
}

const MOST_TRIPS: u64 = 31;
const MOST_MS: u64 = (1 << 56) - 1;

impl State {
    fn pack(self) -> u64 {
        let phase = match self.phase {
            Phase::Closed => 0,
            Phase::Open => 1,
            Phase::HalfOpen => 2,
        };
        let trips = self.trips.min(MOST_TRIPS);
        (self.at_ms.min(MOST_MS) << 8) | (trips << 3) | (u64::from(self.unreached) << 2) | phase
    }

    fn unpack(word: u64) -> Self {
        let phase = match word & 3 {
            0 => Phase::Closed,
            1 => Phase::Open,
            _ => Phase::HalfOpen,
        };
        let (unreached, trips) = (word & 4 != 0, (word >> 3) & MOST_TRIPS);
        Self { phase, unreached, trips, at_ms: word >> 8 }
    }

    /// The state after another trip.
    fn tripped(self, unreached: bool, now_ms: u64) -> Self {
        let is_relapse =
            self.phase != Phase::Closed || now_ms.saturating_sub(self.at_ms) < FORGOTTEN_MS;
        let trips = if is_relapse { (self.trips + 1).min(MOST_TRIPS) } else { 1 };
        let (first, most) = match unreached {
            true => (UNREACHED_OPEN_MS, LONGEST_UNREACHED_MS),
            false => (OPEN_MS, LONGEST_OPEN_MS),
        };
        let open = first.saturating_mul(1 << (trips - 1)).min(most);
        Self { phase: Phase::Open, unreached, trips, at_ms: now_ms.saturating_add(open) }
    }

    /// Whether it is open, and the time has come for a probe.
    fn is_due(self, now_ms: u64) -> bool {
        self.phase == Phase::Open && self.at_ms <= now_ms
    }

    /// Whether the probe that began then holds the slot: another may have it by now, if a request
    /// that passed in spite of it closed the breaker in between.
    fn is_probed_since(self, begun_ms: u64) -> bool {
        self.phase == Phase::HalfOpen && self.at_ms == begun_ms.min(MOST_MS)
    }

    fn closed(self, now_ms: u64) -> Self {
        Self { phase: Phase::Closed, unreached: false, at_ms: now_ms.max(1), ..self }
    }
}

/// See the [module](self). The default is closed.
#[derive(Debug, Default)]
pub struct Breaker {
    state: AtomicU64,
    window: Window,
    in_a_row: AtomicU32,
    unreached_in_a_row: AtomicU32,
}

impl Breaker {
    /// How it stands at this time.
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> Standing {
        let state = State::unpack(self.state.load(Relaxed));
        let State { phase, unreached, at_ms, .. } = state;
        match phase {
            Phase::Closed => Standing::Closed { percent: ramp(at_ms, now_ms) },
            Phase::Open if state.is_due(now_ms) => Standing::Due,
            Phase::Open => Standing::Open { until_ms: at_ms, unreached },
            Phase::HalfOpen => Standing::Probing { unreached },
        }
    }

    /// Whether it is open, and the time has come for a probe.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        State::unpack(self.state.load(Relaxed)).is_due(now_ms)
    }

    /// Takes the one slot of a probe, if it is due. Whoever gets it has to come back with
    /// [`record`](Self::record), and this time as the beginning.
    #[must_use]
    pub fn probe(&self, now_ms: u64) -> bool {
        self.change(|state| {
            let probing = State { phase: Phase::HalfOpen, at_ms: now_ms, ..state };
            state.is_due(now_ms).then_some(probing)
        })
    }

    /// Takes note that the target cannot be reached, as was found without a request: leaves it alone
    /// until then. What requests have found out is not overruled: neither failures nor a probe.
    pub fn unreached(&self, until_ms: u64, now_ms: u64) {
        self.change(|state| match state.phase {
            Phase::Closed => Some(State { at_ms: until_ms, ..state.tripped(true, now_ms) }),
            Phase::Open if state.unreached => {
                (state.at_ms < until_ms).then_some(State { at_ms: until_ms, ..state })
            }
            Phase::Open | Phase::HalfOpen => None,
        });
    }

    /// Takes note that the target can be reached, as was found without a request. Where it was left
    /// alone for no more than not to be reached, a probe is due at once.
    pub fn reached(&self) {
        self.change(|state| match state.phase {
            Phase::Open if state.unreached => Some(State { unreached: false, at_ms: 0, ..state }),
            Phase::HalfOpen if state.unreached => Some(State { unreached: false, ..state }),
            _ => None,
        });
    }

    /// Counts what an attempt, begun at `begun_ms`, says of the target.
    pub fn record(&self, sign: Sign, passage: Passage, begun_ms: u64, now_ms: u64) {
        match (sign, passage) {
            (Sign::Neutral, Passage::Probe) => self.give_back(begun_ms),
            (Sign::Neutral, _) => {}
            (Sign::Success, Passage::Closed) => self.count_success(begun_ms, now_ms),
            (Sign::Success, Passage::Probe | Passage::Despite) => self.close(now_ms),
            (sign, Passage::Probe) => {
                let unreached = sign == Sign::Unreached;
                self.change(|state| {
                    state.is_probed_since(begun_ms).then(|| state.tripped(unreached, now_ms))
                });
            }
            // The time it stays open goes on; its end brings the next probe.
            (_, Passage::Despite) => {}
            (sign, Passage::Closed) => {
                self.count_failure(sign == Sign::Unreached, begun_ms, now_ms);
            }
        }
    }

    /// Gives back the slot of a probe that ended without saying anything: the next one is due.
    fn give_back(&self, begun_ms: u64) {
        self.change(|state| {
            let due = State { phase: Phase::Open, at_ms: 0, ..state };
            state.is_probed_since(begun_ms).then_some(due)
        });
    }

    fn close(&self, now_ms: u64) {
        let closed =
            self.change(|state| (state.phase != Phase::Closed).then(|| state.closed(now_ms)));
        if closed {
            self.window.clear();
            self.in_a_row.store(0, Relaxed);
            self.unreached_in_a_row.store(0, Relaxed);
        }
    }

    fn count_success(&self, begun_ms: u64, now_ms: u64) {
        if !self.concerns(begun_ms) {
            return;
        }
        self.window.add(true, now_ms);
        // Not written if it stands already: that line of memory is everyone's.
        for counter in [&self.in_a_row, &self.unreached_in_a_row] {
            if counter.load(Relaxed) != 0 {
                counter.store(0, Relaxed);
            }
        }
    }

    fn count_failure(&self, unreached: bool, begun_ms: u64, now_ms: u64) {
        if !self.concerns(begun_ms) {
            return;
        }
        let (ok, failed) = self.window.add(false, now_ms);
        let in_a_row = self.in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        let out_of_reach = match unreached {
            true => self.unreached_in_a_row.fetch_add(1, Relaxed).saturating_add(1),
            false => {
                self.unreached_in_a_row.store(0, Relaxed);
                0
            }
        };
        let volume = ok + failed;
        let bad = volume * FAILED_PERCENT + volume.isqrt() * CHANCE_PERCENT;
        let is_bad = volume >= LEAST_VOLUME && failed * 100 >= bad;
        let is_gone = out_of_reach >= UNREACHED_IN_A_ROW;
        let enough = if volume < LEAST_VOLUME { IN_A_ROW } else { MANY_IN_A_ROW };
        if is_bad || is_gone || in_a_row >= enough {
            self.change(|state| {
                (state.phase == Phase::Closed).then(|| state.tripped(is_gone, now_ms))
            });
        }
    }

    /// Whether an attempt begun then says something of the target as it is now: what was asked
    /// before the target came back does not.
    fn concerns(&self, begun_ms: u64) -> bool {
        let state = State::unpack(self.state.load(Relaxed));
        state.phase == Phase::Closed && begun_ms >= state.at_ms
    }

    /// Changes the state, unless `next` has none; says whether it did.
    fn change(&self, next: impl Fn(State) -> Option<State>) -> bool {
        let update = |word| next(State::unpack(word)).map(State::pack);
        self.state.fetch_update(Relaxed, Relaxed, update).is_ok()
    }
}

/// The percent of its share that a target gets which is closed since then.
fn ramp(since_ms: u64, now_ms: u64) -> u64 {
    let passed = now_ms.saturating_sub(since_ms);
    if since_ms == 0 || passed >= RAMP_MS {
        return 100;
    }
    (passed * 100 / RAMP_MS).max(RAMP_FROM_PERCENT)
}

/// Successes and failures, those of each window before counted half as much as those of the next: 24
/// bits the number of the window, 20 bits each count.
#[derive(Debug, Default)]
struct Window(AtomicU64);

const COUNT: u64 = (1 << 20) - 1;
const NUMBER: u64 = (1 << 24) - 1;

impl Window {
    /// Counts one more, and says how many of both there are.
    fn add(&self, success: bool, now_ms: u64) -> (u64, u64) {
        let number = (now_ms / WINDOW_MS) & NUMBER;
        let added = |word: u64| {
            let passed = number.wrapping_sub(word >> 40) & NUMBER;
            // A thread whose clock is behind counts in the window that there is.
            let halvings = if passed > NUMBER / 2 { 0 } else { passed.min(63) };
            let (mut ok, mut failed) =
                (((word >> 20) & COUNT) >> halvings, (word & COUNT) >> halvings);
            if ok.max(failed) == COUNT {
                (ok, failed) = (ok / 2, failed / 2);
            }
            (ok + u64::from(success), failed + u64::from(!success))
        };
        let pack = |(ok, failed): (u64, u64)| (number << 40) | (ok << 20) | failed;
        let before = self.0.fetch_update(Relaxed, Relaxed, |word| Some(pack(added(word))));
        // An update that always has a value cannot fail.
        added(before.unwrap_or_else(|word| word))
    }

    fn clear(&self) {
        self.0.store(0, Relaxed);
    }
}
