//! What a caller is told of limits and budgets: that one is reached, and how much is left.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use policy::Route;
use policy::budget::{Account, Exhausted};
use policy::directory::Kind;
use policy::limit::{Counter, Meter, Wait};
use policy::money::Money;

use super::{Bound, Moment};
use crate::fault::{Code, Fault};
use crate::identify::Caller;

pub(super) fn over_limit(
    counter: &Counter,
    wait: Wait,
    now: Moment,
    kind: Kind,
    whose: &str,
) -> Fault {
    let standing = counter.standing(now.ns);
    let limit = counter.limit();
    let wait = match wait {
        Wait::Nanos(nanos) => Some(Duration::from_nanos(nanos)),
        Wait::Release => Some(Duration::from_secs(1)),
        Wait::Never => None,
    };
    let again = match wait {
        Some(wait) => format!(" Try again in {}.", seconds(wait)),
        None => String::new(),
    };
    let message = format!(
        "The limit of {whose} is reached: {limit}, {} left now.{again}",
        standing.remaining
    );
    let fault = Fault::new(Code::RateLimited, message).limited(kind, limit.name());
    match wait {
        Some(wait) => retry_after(fault, wait),
        None => fault,
    }
}

pub(super) fn exhausted_budget(
    account: &Account,
    exhausted: &Exhausted,
    now: Moment,
    whose: &str,
) -> Fault {
    let currency = account.budget().amount.currency;
    let money = |nanos| Money { nanos, currency };
    let until = exhausted.resets_at_ms.map(|at| Duration::from_millis(at.saturating_sub(now.ms)));
    let again = match until {
        Some(until) => format!(" It begins anew in {}.", seconds(until)),
        None => String::new(),
    };
    let message = match exhausted.key {
        None => format!(
            "The budget of {whose} does not cover this request: {} of {} spent, {} reserved by requests under way.{again}",
            money(exhausted.spent),
            money(exhausted.limit),
            money(exhausted.reserved),
        ),
        Some(share) => format!(
            "The budget of {whose} lets one key reserve {}% of what is not spent, {} now: this request needs {}, beside {} for those of the key under way.{again}",
            share.percent,
            money(share.most),
            money(share.wanted),
            money(share.reserved),
        ),
    };
    let fault = Fault::new(Code::BudgetExhausted, message);
    match until {
        Some(until) => retry_after(fault, until),
        None => fault,
    }
}

pub(super) fn unpriced_model(route: &Route, bound: &Bound, whose: &str) -> Fault {
    let target = format!("{}/{}", route.provider.id, route.upstream_model);
    let why = match (&route.price, bound.most_output) {
        (None, _) => format!("The price of {target} is not known"),
        (Some(_), None) => String::from("Nothing bounds the output (send `max_tokens`)"),
        (Some(price), Some(_)) => {
            let code = price.currency().code();
            format!("{target} is priced in {code}, without a rate of exchange")
        }
    };
    Fault::new(Code::Unpriced, format!("{why}, and the budget of {whose} has to hold."))
}

/// Whole seconds, rounded up, as the header has them.
pub(crate) fn retry_after(fault: Fault, wait: Duration) -> Fault {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let fault = Fault { after: Some(wait), ..fault };
    fault.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
}

/// A duration as OpenAI writes it: `12ms`, `1.5s`, `6m0s`.
pub(crate) fn seconds(wait: Duration) -> String {
    let (whole, milliseconds) = (wait.as_secs(), wait.subsec_millis());
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, 0) => format!("{}ms", milliseconds.max(1)),
        (0, 0, seconds) if milliseconds > 0 => format!("{seconds}.{:01}s", milliseconds / 100),
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// The headers that tell a client how much is left, by what they count.
const LEFT: [(Meter, [HeaderName; 3]); 2] = [
    (
        Meter::Requests,
        [
            HeaderName::from_static("x-ratelimit-limit-requests"),
            HeaderName::from_static("x-ratelimit-remaining-requests"),
            HeaderName::from_static("x-ratelimit-reset-requests"),
        ],
    ),
    (
        Meter::Tokens,
        [
            HeaderName::from_static("x-ratelimit-limit-tokens"),
            HeaderName::from_static("x-ratelimit-remaining-tokens"),
            HeaderName::from_static("x-ratelimit-reset-tokens"),
        ],
    ),
];

/// Tells a caller how much is left of its tightest limits, in OpenAI's headers.
pub(crate) fn stamp(caller: &Caller, headers: &mut HeaderMap, now: Moment) {
    for (meter, [limit, remaining, reset]) in &LEFT {
        let counters = caller.chain().levels().flat_map(|level| &level.terms.counters);
        let standing = counters
            .filter(|counter| counter.limit().meter == *meter)
            .map(|counter| counter.standing(now.ns))
            .min_by_key(|standing| standing.remaining);
        let Some(standing) = standing else { continue };
        headers.insert(limit, HeaderValue::from(standing.limit));
        headers.insert(remaining, HeaderValue::from(standing.remaining));
        let text = seconds(Duration::from_nanos(standing.reset_after));
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(reset, value);
        }
    }
}
