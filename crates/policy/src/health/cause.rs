//! Why an attempt failed, and what follows from that. Every question about a cause is answered by
//! a match without a default, so that a new cause cannot be forgotten anywhere.

use super::breaker::Sign;

/// How long a credential is left alone that was refused or has no money, in milliseconds.
pub const BARRED_MS: u64 = 30 * 60_000;
/// The same after it was throttled, if the provider does not say how long.
pub const THROTTLED_MS: u64 = 5_000;
/// How long a credential is left alone where its model is missing, in milliseconds. Short: one
/// caller's odd request may have brought it up, and a model that is being put up is soon there.
pub const MISSING_MS: u64 = 60_000;
/// The longest that a provider's word on when to come again is believed, in milliseconds.
pub const LONGEST_WAIT_MS: u64 = 300_000;

/// Why an attempt failed. A provider's codes are mapped onto these as data ([`super::Causes`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The request itself is wrong: every target would say so.
    CallersFault,
    /// Too much in too short a time (429). Says nothing of the target's health.
    Throttled,
    /// It may work elsewhere or later: 408, 5xx, 529, a clock that ran out, an answer that broke
    /// off.
    Transient,
    /// The credential was refused (401, 403).
    BadCredential,
    /// The account has no money or no quota left (402).
    Billing,
    /// The target does not serve the model: there is none of that name, or the credential may not
    /// use it. No [`Cause::HardDown`], for whoever says so was reached and may serve others well,
    /// and asking the same way again changes nothing. No [`Cause::CallersFault`], for the caller
    /// named the route and not the target.
    ModelMissing,
    /// The input is longer than the model takes.
    ContextTooLong,
    /// The provider does not want to answer this.
    ContentPolicy,
    /// The target cannot be reached: DNS, connect, TLS.
    HardDown,
}

impl From<providers::Cause> for Cause {
    fn from(written: providers::Cause) -> Self {
        match written {
            providers::Cause::CallersFault => Self::CallersFault,
            providers::Cause::Throttled => Self::Throttled,
            providers::Cause::Transient => Self::Transient,
            providers::Cause::BadCredential => Self::BadCredential,
            providers::Cause::Billing => Self::Billing,
            providers::Cause::ModelMissing => Self::ModelMissing,
            providers::Cause::ContextTooLong => Self::ContextTooLong,
            providers::Cause::ContentPolicy => Self::ContentPolicy,
            providers::Cause::HardDown => Self::HardDown,
        }
    }
}

/// What an attempt loop does after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The caller gets the error.
    Answer,
    /// The same target may be asked with another credential; else another target.
    OtherCredential,
    /// Another target is asked.
    OtherTarget,
    /// Another target is asked, if it is known to take more input.
    LargerTarget,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 9] = [
        Self::CallersFault,
        Self::Throttled,
        Self::Transient,
        Self::BadCredential,
        Self::Billing,
        Self::ModelMissing,
        Self::ContextTooLong,
        Self::ContentPolicy,
        Self::HardDown,
    ];

    /// What a status means where a provider's data says nothing else; `None` for a success, and
    /// for what is neither success nor failure.
    #[must_use]
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            ..=399 => None,
            401 | 403 => Some(Self::BadCredential),
            402 => Some(Self::Billing),
            408 | 500.. => Some(Self::Transient),
            429 => Some(Self::Throttled),
            _ => Some(Self::CallersFault),
        }
    }

    /// What the attempt loop does, as long as nothing of an answer has gone to the caller.
    #[must_use]
    pub fn next(self) -> Next {
        match self {
            Self::CallersFault | Self::ContentPolicy => Next::Answer,
            Self::Throttled | Self::BadCredential | Self::Billing | Self::ModelMissing => {
                Next::OtherCredential
            }
            Self::Transient | Self::HardDown => Next::OtherTarget,
            Self::ContextTooLong => Next::LargerTarget,
        }
    }

    /// What it says of the target. Who refuses with a reason is alive.
    #[must_use]
    pub fn sign(self) -> Sign {
        match self {
            Self::CallersFault | Self::ContextTooLong | Self::ContentPolicy => Sign::Success,
            Self::Throttled | Self::BadCredential | Self::Billing | Self::ModelMissing => {
                Sign::Neutral
            }
            Self::Transient => Sign::Failure,
            Self::HardDown => Sign::Unreached,
        }
    }

    /// How long the credential is left alone at this target, in milliseconds. `asked_ms` is what
    /// the provider asked for, if it did; it is believed up to five minutes.
    #[must_use]
    pub fn bench_ms(self, asked_ms: Option<u64>) -> Option<u64> {
        let asked_ms = asked_ms.map(|wait| wait.min(LONGEST_WAIT_MS));
        match self {
            Self::CallersFault | Self::ContextTooLong | Self::ContentPolicy | Self::HardDown => {
                None
            }
            Self::Throttled => Some(asked_ms.unwrap_or(THROTTLED_MS)),
            Self::Transient => asked_ms,
            Self::BadCredential | Self::Billing => Some(BARRED_MS),
            Self::ModelMissing => Some(MISSING_MS),
        }
    }

    /// Whether the same request may do better at the same target a little later.
    #[must_use]
    pub fn passes(self) -> bool {
        match self {
            Self::Throttled | Self::Transient | Self::HardDown => true,
            Self::CallersFault
            | Self::BadCredential
            | Self::Billing
            | Self::ModelMissing
            | Self::ContextTooLong
            | Self::ContentPolicy => false,
        }
    }

    /// Its word in logs and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::CallersFault => "callers_fault",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::BadCredential => "bad_credential",
            Self::Billing => "billing",
            Self::ModelMissing => "model_missing",
            Self::ContextTooLong => "context_too_long",
            Self::ContentPolicy => "content_policy",
            Self::HardDown => "hard_down",
        }
    }
}
