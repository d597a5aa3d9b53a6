//! Whether providers are there, found out without asking a model.
//!
//! A check says that a provider can be reached, and whether it takes the credential; not that any
//! model answers. So it may eject the targets of a provider that cannot be reached, and it may end
//! an ejection that says no more than that; what requests have found out it never overrules.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::Serialize;

use super::breaker::{LONGEST_UNREACHED_MS, UNREACHED_IN_A_ROW};
use super::{Health, TargetHealth};
use crate::units::milliseconds;

/// How a provider is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for with GET: path and query, those of the base URL included.
    pub target: PathAndQuery,
    /// How often.
    pub every: Duration,
    /// How long connecting may take, and the answer after it.
    pub timeout: Duration,
}

/// How soon a check is repeated that did not reach its provider, as long as that is not sure.
const SOON: Duration = Duration::from_secs(1);
/// How often a provider is checked that cannot be reached: as often as a request would try it.
const WHILE_GONE: Duration = Duration::from_millis(LONGEST_UNREACHED_MS);
/// How much later than meant the next check may come.
const LATE: Duration = Duration::from_secs(2);

/// What a check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It answered with this status.
    Answer(u16),
    /// It was reached, and did not answer in time, or with nothing that can be read.
    NoAnswer,
    /// It could not be reached: DNS, connect, TLS.
    Unreached,
}

impl Found {
    /// Whether it is there and able to answer. Who says that he is broken is not, though nothing is
    /// known of his models; 401, 404 and 429 are answers like any other.
    #[must_use]
    pub fn is_there(self) -> bool {
        matches!(self, Self::Answer(..500))
    }

    /// The same in a word.
    #[must_use]
    pub fn result(self) -> CheckResult {
        match self {
            Self::Answer(401 | 403) => CheckResult::Refused,
            Self::Answer(500..) => CheckResult::Failing,
            Self::Answer(_) => CheckResult::Ok,
            Self::NoAnswer => CheckResult::NoAnswer,
            Self::Unreached => CheckResult::Unreached,
        }
    }
}

/// What a health check can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// The provider is there.
    Ok,
    /// It is there, and refuses the credential (401, 403). No credential is benched for that.
    Refused,
    /// It answers with an error of its own (5xx).
    Failing,
    /// It was reached, and did not answer in time, or with nothing that can be read.
    NoAnswer,
    /// It could not be reached.
    Unreached,
}

/// How often the checks of a provider have found what, since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckCounts {
    /// The provider was there.
    pub ok: u64,
    /// It refused the credential.
    pub refused: u64,
    /// It answered with an error of its own.
    pub failing: u64,
    /// It did not answer.
    pub no_answer: u64,
    /// It could not be reached.
    pub unreached: u64,
}

impl CheckCounts {
    fn count(&mut self, result: CheckResult) {
        *match result {
            CheckResult::Ok => &mut self.ok,
            CheckResult::Refused => &mut self.refused,
            CheckResult::Failing => &mut self.failing,
            CheckResult::NoAnswer => &mut self.no_answer,
            CheckResult::Unreached => &mut self.unreached,
        } += 1;
    }

    /// Each with the word for what was found.
    #[must_use]
    pub fn by_word(self) -> [(&'static str, u64); 5] {
        let Self { ok, refused, failing, no_answer, unreached } = self;
        [
            ("ok", ok),
            ("refused", refused),
            ("failing", failing),
            ("no_answer", no_answer),
            ("unreached", unreached),
        ]
    }
}

/// The last check of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// When it began, in milliseconds of the monotonic clock.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What it found.
    pub found: Found,
}

/// What is known of a provider by checks.
#[derive(Debug, Default)]
pub(super) struct CheckState(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Checked>,
    counts: CheckCounts,
    unreached_in_a_row: u32,
    /// When the first of those began.
    since_ms: u64,
}

impl CheckState {
    fn last(&self) -> Option<(Checked, CheckCounts)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some((state.last?, state.counts))
    }

    /// Takes note of a check. Says since when the provider has not been reached, once that is sure,
    /// and how many checks in a row it was not.
    fn note(&self, checked: Checked) -> (u32, u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = Some(checked);
        state.counts.count(checked.found.result());
        if checked.found != Found::Unreached {
            state.unreached_in_a_row = 0;
        } else {
            if state.unreached_in_a_row == 0 {
                state.since_ms = checked.at_ms;
            }
            state.unreached_in_a_row = state.unreached_in_a_row.saturating_add(1);
        }
        (state.unreached_in_a_row, state.since_ms)
    }
}

impl Health {
    /// Takes note of a check, lets the provider's targets know, and says after what time to check
    /// again.
    pub fn check(&self, provider: &str, how: &HealthCheck, checked: Checked) -> Duration {
        let (in_a_row, since_ms) = self.checks.get(provider).note(checked);
        let now_ms = checked.at_ms.saturating_add(checked.took_ms);
        if checked.found.is_there() {
            self.each_target(provider, |target| target.breaker.reached());
        }
        if in_a_row < UNREACHED_IN_A_ROW {
            return if in_a_row == 0 { how.every } else { how.every.min(SOON) };
        }
        // Until the next check has told more: no request meanwhile finds out at its own cost.
        let next = how.every.min(WHILE_GONE);
        let until = now_ms.saturating_add(milliseconds(next + 2 * how.timeout + LATE));
        self.each_target(provider, |target| {
            if !target.has_answered_since(since_ms) {
                target.breaker.unreached(until, now_ms);
            }
        });
        next
    }

    /// The last check of a provider, and what all of them have found; `None` before the first one.
    #[must_use]
    pub fn checked(&self, provider: &str) -> Option<(Checked, CheckCounts)> {
        self.checks.find(provider)?.last()
    }

    fn each_target(&self, provider: &str, tell: impl Fn(&TargetHealth)) {
        self.targets.each(&format!("{provider}\0"), tell);
    }
}
