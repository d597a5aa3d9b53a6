//! What is known of a request when it is over.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::Route;
use policy::health::Cause;
use policy::money::Money;
use policy::price::Charge;
use policy::scope::Operation;
use policy::units::milliseconds;
use wire::Usage;

use crate::admit::{Alert, Used};
use crate::fault::Limited;
use crate::identify::Caller;
use crate::request_id::RequestId;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is whole.
    Complete,
    /// Refused before any provider was asked.
    Refused,
    /// The provider answered with an error.
    ProviderError,
    /// The provider could not be reached, or did not answer.
    Unreachable,
    /// The answer broke off, or could not be read.
    Truncated,
    /// One of the clocks ran out.
    TimedOut,
    /// The client went away.
    ClientGone,
    /// Cut short because the process is stopping.
    Shed,
    /// The request needed this attempt no more: another one was faster.
    Cancelled,
    /// Magpie itself failed.
    Failed,
}

impl Outcome {
    /// The word for it in logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Refused => "refused",
            Self::ProviderError => "provider_error",
            Self::Unreachable => "unreachable",
            Self::Truncated => "truncated",
            Self::TimedOut => "timed_out",
            Self::ClientGone => "client_gone",
            Self::Shed => "shed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Where token counts come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Provenance {
    /// Nothing was used, as far as is known.
    #[default]
    None,
    /// The provider told.
    Reported,
    /// From what was sent and what was seen of the answer: the provider never told.
    Estimated,
}

impl Provenance {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reported => "reported",
            Self::Estimated => "estimated",
        }
    }
}

/// What is known of a request when it is over, or of an attempt of it that failed. Holds no prompt,
/// no answer and no key.
#[derive(Clone)]
pub struct Record {
    /// When it came.
    pub at: SystemTime,
    /// Its id.
    pub id: RequestId,
    /// What it asked for.
    pub operation: Operation,
    /// The model as the client named it.
    pub model: Box<str>,
    /// Where it went.
    pub route: Option<Arc<Route>>,
    /// Status of the response; 0 if there was none.
    pub status: u16,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// The name of the fault, if any.
    pub fault: Option<&'static str>,
    /// Why the attempt failed, if it did.
    pub cause: Option<Cause>,
    /// The limit or budget that refused it, if one did.
    pub limited: Option<Limited>,
    /// Who called; nobody, if it is the copy of a request.
    pub caller: Caller,
    /// The request that it is a copy of, for a shadow.
    pub mirror_of: Option<RequestId>,
    /// A provider was asked: there is a record of the attempt.
    pub asked: bool,
    /// The answer is that of another request: no provider was asked, and it costs nothing.
    pub shared: bool,
    /// Which attempt it was, from 1, and of how many if it is the last; 0 if there was none.
    pub attempt: u16,
    /// How many attempts were made of the request so far.
    pub attempts: u16,
    /// Whether the request is over with it. A record of which this is not so is of an attempt that
    /// another one followed, or took the place of.
    pub is_last: bool,
    /// Token counts.
    pub usage: Option<Usage>,
    /// Where they come from.
    pub provenance: Provenance,
    /// What they cost; `None` if the price is not known, or nothing was used.
    pub charge: Option<Charge>,
    /// The provider may have billed it, and nobody knows how much. Never the same as nothing.
    pub unpriced: bool,
    /// Whether a provider may bill such a call at all.
    pub may_cost: bool,
    /// Input tokens, by what was sent.
    pub likely_input: u64,
    /// Output tokens, by the text that was seen.
    pub seen_output: u64,
    /// What budgets that must hold have set aside for the attempt: the most that it can cost.
    pub reserved: Option<Money>,
    /// Budgets whose alerts this request crossed.
    pub alerts: Vec<Alert>,
    /// Events of the stream that carried something.
    pub events: u64,
    /// From the request to the first event.
    pub first_event: Option<Duration>,
    /// From the request to the end.
    pub total: Duration,
    /// The part of it that was Magpie's own, up to the head of the response.
    pub overhead: Duration,
    /// The part of it that was spent in the queue of the model.
    pub queued: Duration,
}

/// Milliseconds from 1970 to a time.
pub(crate) fn unix_ms(at: SystemTime) -> u64 {
    milliseconds(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

impl Record {
    /// The record of a request that has just come. As long as nothing else is known, its client is
    /// gone.
    pub(crate) fn new(id: RequestId, operation: Operation, at: SystemTime) -> Self {
        Self {
            at,
            id,
            operation,
            model: "".into(),
            route: None,
            status: 0,
            stream: false,
            outcome: Outcome::ClientGone,
            fault: None,
            cause: None,
            limited: None,
            caller: Caller::default(),
            mirror_of: None,
            asked: false,
            shared: false,
            attempt: 0,
            attempts: 0,
            is_last: true,
            usage: None,
            provenance: Provenance::None,
            charge: None,
            unpriced: false,
            may_cost: operation.may_cost(),
            likely_input: 0,
            seen_output: 0,
            reserved: None,
            alerts: Vec::new(),
            events: 0,
            first_event: None,
            total: Duration::ZERO,
            overhead: Duration::ZERO,
            queued: Duration::ZERO,
        }
    }

    /// The same request, of which nothing was asked yet.
    pub(crate) fn afresh(&self) -> Self {
        Self {
            model: self.model.clone(),
            stream: self.stream,
            caller: self.caller.clone(),
            overhead: self.overhead,
            queued: self.queued,
            may_cost: self.may_cost,
            ..Self::new(self.id, self.operation, self.at)
        }
    }

    /// Milliseconds from 1970 to when the request came.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        unix_ms(self.at)
    }

    /// The record of a request whose last attempt has failed, unless another one is under way. What
    /// was told to the client is in `self`.
    pub(crate) fn behind(self: Box<Self>, failed: Box<Self>) -> Box<Self> {
        let outcome = match self.outcome {
            // What became of the request says less than what became of its last attempt.
            Outcome::Refused | Outcome::ProviderError | Outcome::Unreachable => failed.outcome,
            outcome => outcome,
        };
        Box::new(Self {
            outcome,
            status: self.status,
            total: self.total,
            is_last: self.is_last,
            attempts: self.attempts,
            ..*failed
        })
    }

    /// Works out what was used and what it cost.
    pub(crate) fn account(&mut self) -> Used {
        let is_billed = self.asked && self.may_have_been_billed();
        if self.asked {
            self.provenance = match self.usage {
                Some(_) => Provenance::Reported,
                None if is_billed && self.operation.has_tokens() => Provenance::Estimated,
                None => Provenance::None,
            };
            if self.provenance == Provenance::Estimated {
                let (input, output) = (self.likely_input, self.seen_output);
                self.usage = Some(Usage { input, output, ..Usage::default() });
            }
        }
        let price = self.route.as_ref().and_then(|route| route.price.as_ref());
        self.charge = match (&self.usage, price) {
            (Some(usage), Some(price)) => Some(price.charge(usage, self.at_ms())),
            (None, Some(price)) if is_billed => price.flat_charge(),
            _ => None,
        };
        self.unpriced = self.charge.is_none() && (is_billed || self.usage.is_some());
        let usage = self.usage.unwrap_or_default();
        Used {
            input: usage.input_total(),
            output: usage.output_total(),
            cost: self.charge.as_ref().map(|charge| charge.money),
            is_unpriced: self.unpriced,
        }
    }

    /// Whether a provider that never told its counts may bill the request all the same: what it
    /// answered with an error, and what never reached it, it does not.
    fn may_have_been_billed(&self) -> bool {
        use Outcome::{ProviderError, Refused, Unreachable};
        self.may_cost && !matches!(self.outcome, Refused | ProviderError | Unreachable)
    }
}
