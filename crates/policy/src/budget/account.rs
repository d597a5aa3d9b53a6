//! What a budget has left, exact for any number of requests at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Budget;
use super::period::{Period, Span};
use crate::units::milliseconds;

/// Steps that a rolling period is counted in: all of its length, and the step that is running.
const STEPS: u64 = 120;

/// Why nothing more can be reserved. Amounts are in billionths of the budget's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Spent in the period.
    pub spent: u64,
    /// Reserved by requests that are running.
    pub reserved: u64,
    /// The budget's amount.
    pub limit: u64,
    /// When it would fit if nothing more were spent, in Unix milliseconds. None if time alone
    /// does not help: for a total, and when it is more than the budget less what is reserved.
    pub resets_at_ms: Option<u64>,
    /// The bound of one key that it would go over, where that is the reason.
    pub key: Option<KeyShare>,
}

/// What one key may reserve of what is not spent. Amounts are in billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyShare {
    /// In percent of what is not spent.
    pub percent: u8,
    /// The same as an amount, now.
    pub most: u64,
    /// Reserved by the key's requests that are running.
    pub reserved: u64,
    /// What was to be reserved beside that.
    pub wanted: u64,
}

/// How an account stands. Amounts are in billionths of the budget's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Spent in the period.
    pub spent: u64,
    /// Reserved by requests that are running.
    pub reserved: u64,
    /// The budget's amount.
    pub limit: u64,
    /// When the period began, in Unix milliseconds.
    pub period_start_ms: u64,
    /// When it ends, in Unix milliseconds; for a rolling one, when the first money spent in it
    /// leaves it. None for a total, or when there is nothing to leave.
    pub resets_at_ms: Option<u64>,
}

/// The state of one budget.
///
/// Of a budget that refuses or downgrades, `spent + reserved <= limit` holds after every
/// [`Account::reserve`], whatever else happens at once; only a provider that charges more than was
/// reserved can take `spent` past it. The account's time is the latest it was told: if the clock
/// goes back, the period stays.
#[derive(Debug)]
pub struct Account {
    budget: Budget,
    /// Shared with the accounts that follow this one when the budget is changed, so that what is
    /// running settles with them too.
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// In the running period.
    spent: u64,
    reserved: u64,
    /// What each key has reserved, where the budget bounds that. As many as have requests running.
    by_key: HashMap<Arc<str>, u64>,
    /// The running period; all time for a rolling one.
    span: Span,
    rolling: Option<Rolling>,
    /// The latest time told, in Unix milliseconds.
    now_ms: u64,
    /// What amounts were told when they were reached, and when.
    told: Vec<(u64, u64)>,
    /// Whether what was spent before is known.
    restored: bool,
}

impl Account {
    /// An account of which nothing is spent.
    #[must_use]
    pub fn new(budget: Budget, now_ms: u64) -> Self {
        let rolling = match budget.period {
            Period::Rolling(length) => Some(Rolling::new(milliseconds(length), now_ms)),
            _ => None,
        };
        let span = budget.period.span(&budget.zone, now_ms);
        let (told, restored) = (Vec::new(), false);
        let by_key = HashMap::new();
        let state = State { spent: 0, reserved: 0, by_key, span, rolling, now_ms, told, restored };
        Self { budget, state: Arc::new(Mutex::new(state)) }
    }

    /// What it is an account of.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The account for a budget that takes this one's place, with all that is spent and reserved.
    /// None if it is for another period or currency: then it begins with what the ledger says.
    #[must_use]
    pub fn changed(&self, budget: Budget) -> Option<Self> {
        let same = budget.period == self.budget.period
            && budget.zone == self.budget.zone
            && budget.amount.currency == self.budget.amount.currency;
        same.then(|| {
            let of_either = |amount: u64| {
                [&budget, &self.budget].into_iter().any(|b| thresholds(b).any(|(_, t)| t == amount))
            };
            self.at(0).told.retain(|(amount, _)| of_either(*amount));
            Self { budget, state: Arc::clone(&self.state) }
        })
    }

    /// Whether it has to be told what was spent before: true once, for it is expected to be told
    /// then. An account that follows another knows already.
    #[must_use]
    pub fn wants_restoring(&self) -> bool {
        !std::mem::replace(&mut self.at(0).restored, true)
    }

    /// Adds what the ledger says was spent, as (Unix milliseconds, billionths) in any order: once,
    /// after a start. A time to come counts as the first instant of the next period at the latest,
    /// so that a wrong clock of the past does no harm for long. No alert is told for it again.
    pub fn restore(&self, spent: impl IntoIterator<Item = (u64, u64)>, now_ms: u64) {
        let mut state = self.at(now_ms);
        let latest = match &state.rolling {
            Some(_) => state.now_ms,
            None => state.span.end_ms,
        };
        for (at_ms, nanos) in spent {
            let at_ms = at_ms.min(latest);
            state.advance(&self.budget, at_ms);
            state.spend(nanos, at_ms);
        }
        let _ = state.alerts(&self.budget);
    }

    /// Reserves the most that a request can cost. A budget that only alerts never refuses.
    ///
    /// # Errors
    /// When it does not fit beside what is spent and reserved; then nothing is reserved.
    pub fn reserve(&self, nanos: u64, now_ms: u64) -> Result<(), Exhausted> {
        self.reserve_for(None, nanos, now_ms)
    }

    /// The same for a request of this key, which may reserve no more than its share.
    ///
    /// # Errors
    /// When it does not fit beside what is spent and reserved, or beside what the key has reserved;
    /// then nothing is reserved.
    pub fn reserve_for(
        &self,
        key: Option<&Arc<str>>,
        nanos: u64,
        now_ms: u64,
    ) -> Result<(), Exhausted> {
        let mut state = self.at(now_ms);
        if self.budget.is_hard() {
            state.check(self.budget.amount.nanos, nanos)?;
        }
        if let Some((key, percent)) = key.zip(self.budget.key_share) {
            if self.budget.is_hard() {
                state.check_share(self.budget.amount.nanos, key, percent, nanos)?;
            }
            let held = state.by_key.entry(Arc::clone(key)).or_default();
            *held = held.saturating_add(nanos);
        }
        state.reserved = state.reserved.saturating_add(nanos);
        Ok(())
    }

    /// Sets what was used in the place of what was reserved for it: 0 gives all of it back. What a
    /// request used is spent in the period in which it ends, whenever it was reserved.
    ///
    /// Returns the percents of the budget that are reached now, lowest first, each once in a
    /// period.
    #[must_use = "alerts have to be told"]
    pub fn settle(&self, reserved: u64, used: u64, now_ms: u64) -> Vec<u8> {
        self.settle_for(None, reserved, used, now_ms)
    }

    /// The same for what was reserved for a key, by this very account.
    #[must_use = "alerts have to be told"]
    pub fn settle_for(
        &self,
        key: Option<&Arc<str>>,
        reserved: u64,
        used: u64,
        now_ms: u64,
    ) -> Vec<u8> {
        let mut state = self.at(now_ms);
        state.reserved = state.reserved.saturating_sub(reserved);
        // An account that has no share has counted nothing for the key.
        if let Some(key) = key.filter(|_| self.budget.key_share.is_some()) {
            state.give_back(key, reserved);
        }
        if used == 0 {
            return Vec::new();
        }
        let now_ms = state.now_ms;
        state.spend(used, now_ms);
        state.alerts(&self.budget)
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> Standing {
        let state = self.at(now_ms);
        let period_start_ms = match &state.rolling {
            Some(rolling) => rolling.start(),
            None => state.span.start_ms,
        };
        Standing {
            spent: state.spent,
            reserved: state.reserved,
            limit: self.budget.amount.nanos,
            period_start_ms,
            resets_at_ms: state.resets(state.spent.saturating_sub(1)),
        }
    }

    /// The state at an instant. No code that could fail runs under the lock, so that a poisoned one
    /// is as good.
    fn at(&self, now_ms: u64) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(&self.budget, now_ms);
        state
    }
}

impl State {
    /// Lets time pass up to an instant; one in the past changes nothing.
    fn advance(&mut self, budget: &Budget, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        if let Some(rolling) = &mut self.rolling {
            self.spent = self.spent.saturating_sub(rolling.advance(self.now_ms));
        } else if self.now_ms >= self.span.end_ms && self.span != Span::ALL {
            self.span = budget.period.span(&budget.zone, self.now_ms);
            self.spent = 0;
        }
    }

    /// Whether so much fits beside what is spent and reserved.
    fn check(&self, limit: u64, nanos: u64) -> Result<(), Exhausted> {
        let (spent, reserved) = (self.spent, self.reserved);
        if nanos <= limit.saturating_sub(spent).saturating_sub(reserved) {
            return Ok(());
        }
        let held = reserved.checked_add(nanos).and_then(|held| limit.checked_sub(held));
        let resets_at_ms = held.and_then(|room| self.resets(room));
        Err(Exhausted { spent, reserved, limit, resets_at_ms, key: None })
    }

    /// Whether so much fits beside what the key has reserved. What is free always does.
    fn check_share(
        &self,
        limit: u64,
        key: &Arc<str>,
        percent: u8,
        nanos: u64,
    ) -> Result<(), Exhausted> {
        let left = limit.saturating_sub(self.spent);
        // It converts: it is a hundred percent of `left` at most.
        let most = u64::try_from(u128::from(left) * u128::from(percent) / 100).unwrap_or(left);
        let reserved = self.by_key.get(key).copied().unwrap_or_default();
        if nanos == 0 || reserved.checked_add(nanos).is_some_and(|held| held <= most) {
            return Ok(());
        }
        // What would fit alone waits for requests to end, and not for the period.
        let alone = nanos <= most;
        let needed = (u128::from(nanos) * 100).div_ceil(u128::from(percent.max(1)));
        let room = u64::try_from(needed).ok().and_then(|needed| limit.checked_sub(needed));
        let resets_at_ms = room.filter(|_| !alone).and_then(|room| self.resets(room));
        let key = Some(KeyShare { percent, most, reserved, wanted: nanos });
        let (spent, reserved) = (self.spent, self.reserved);
        Err(Exhausted { spent, reserved, limit, resets_at_ms, key })
    }

    /// Gives back what a key had reserved.
    fn give_back(&mut self, key: &Arc<str>, nanos: u64) {
        if let Some(held) = self.by_key.get_mut(key) {
            *held = held.saturating_sub(nanos);
            if *held == 0 {
                self.by_key.remove(key);
            }
        }
    }

    /// Spends at an instant; what is before the period is not part of it.
    fn spend(&mut self, nanos: u64, at_ms: u64) {
        let counts = match &mut self.rolling {
            Some(rolling) => rolling.spend(nanos, at_ms),
            None => at_ms >= self.span.start_ms,
        };
        if counts {
            self.spent = self.spent.saturating_add(nanos);
        }
    }

    /// When no more than `room` of what is spent is left in the period.
    fn resets(&self, room: u64) -> Option<u64> {
        match &self.rolling {
            Some(rolling) => rolling.resets(self.spent, room),
            None => Some(self.span.end_ms).filter(|end| *end != u64::MAX),
        }
    }

    /// The percents reached and not told in this period, which are told now.
    fn alerts(&mut self, budget: &Budget) -> Vec<u8> {
        let Self { spent, span, rolling, now_ms, told, .. } = self;
        let start_ms = rolling.as_ref().map_or(span.start_ms, Rolling::start);
        let mut reached = Vec::new();
        for (percent, amount) in thresholds(budget).filter(|(_, amount)| amount <= spent) {
            match told.iter_mut().find(|(known, _)| *known == amount) {
                Some((_, at_ms)) if *at_ms >= start_ms => continue,
                Some((_, at_ms)) => *at_ms = *now_ms,
                None => told.push((amount, *now_ms)),
            }
            reached.push(percent);
        }
        reached
    }
}

/// The percents that are told, and the amounts that they are.
fn thresholds(budget: &Budget) -> impl Iterator<Item = (u8, u64)> {
    let limit = u128::from(budget.amount.nanos);
    budget.alerts.iter().map(move |percent| {
        let amount = (limit * u128::from(*percent)).div_ceil(100);
        (*percent, u64::try_from(amount).unwrap_or(u64::MAX))
    })
}

/// What was spent in each step of a rolling period.
#[derive(Debug)]
struct Rolling {
    /// Length of a step in milliseconds.
    step_ms: u64,
    /// The step that is running, counted from 1970.
    newest: u64,
    /// By the step's number modulo [`STEPS`].
    spent: Box<[u64]>,
}

impl Rolling {
    fn new(length_ms: u64, now_ms: u64) -> Self {
        let step_ms = length_ms.div_ceil(STEPS - 1).max(1);
        Self { step_ms, newest: now_ms / step_ms, spent: (0..STEPS).map(|_| 0).collect() }
    }

    fn slot(&mut self, step: u64) -> &mut u64 {
        &mut self.spent[(step % STEPS) as usize]
    }

    /// Moves on to an instant. Returns what has left the period by that.
    fn advance(&mut self, now_ms: u64) -> u64 {
        let now = (now_ms / self.step_ms).max(self.newest);
        let passed = (now - self.newest).min(STEPS);
        self.newest = now;
        let slots = (0..passed).map(|back| std::mem::take(self.slot(now.saturating_sub(back))));
        slots.fold(0, u64::saturating_add)
    }

    /// Whether the instant is in the period, and so counts.
    fn spend(&mut self, nanos: u64, at_ms: u64) -> bool {
        let step = (at_ms / self.step_ms).min(self.newest);
        let counts = self.newest - step < STEPS;
        if counts {
            let slot = self.slot(step);
            *slot = slot.saturating_add(nanos);
        }
        counts
    }

    /// The first instant that counts.
    fn start(&self) -> u64 {
        self.newest.saturating_sub(STEPS - 1).saturating_mul(self.step_ms)
    }

    /// When no more than `room` of `spent` is left, if any has to leave.
    fn resets(&self, spent: u64, room: u64) -> Option<u64> {
        let mut left = spent;
        for step in self.newest.saturating_sub(STEPS - 1)..=self.newest {
            left = left.saturating_sub(self.spent[(step % STEPS) as usize]);
            if spent > room && left <= room {
                return Some(step.saturating_add(STEPS).saturating_mul(self.step_ms));
            }
        }
        None
    }
}
