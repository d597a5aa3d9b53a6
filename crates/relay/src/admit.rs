//! How much: limits are taken and budgets reserved before a provider is asked, and settled once it
//! is known what was used.
//!
//! An [`Admission`] gives back what it holds when it is dropped, so a request that fails or whose
//! client vanishes never keeps a slot, a token or a reservation.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::budget::{Account, OnExhausted};
use policy::directory::{Chain, Holder, Kind, Terms};
use policy::limit::{Counter, Meter};
use policy::money::{Exchange, Money};
use policy::rules::Subject;
use policy::{Route, Snapshot};

use crate::fault::{Code, Fault, Limited};
use crate::identify::Caller;
use crate::record::unix_ms;

mod counted;
mod joined;
mod told;

pub(crate) use counted::Counted;
pub(crate) use joined::admit_joined;
use told::{exhausted_budget, over_limit, unpriced_model};
pub(crate) use told::{retry_after, stamp};

/// What a request may use at the most, and what it is likely to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    /// Input tokens, likely.
    pub input: u64,
    /// Output tokens, likely.
    pub output: u64,
    /// Input tokens, at most.
    pub most_input: u64,
    /// Output tokens, at most; `None` if nothing bounds them.
    pub most_output: Option<u64>,
}

/// The moment of a request, by both clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moment {
    /// Nanoseconds since the process began.
    pub(crate) ns: u64,
    /// Milliseconds since 1970.
    pub(crate) ms: u64,
}

impl Moment {
    pub(crate) fn new(since_start: Duration, at: SystemTime) -> Self {
        Self { ns: u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX), ms: unix_ms(at) }
    }

    pub(crate) fn plus(self, after: Duration) -> Self {
        let ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self { ns: self.ns.saturating_add(ns), ms: self.ms.saturating_add(ns / 1_000_000) }
    }
}

/// What was used in the end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// What it cost, if that is known.
    pub(crate) cost: Option<Money>,
    /// It cost something, and it is not known how much.
    pub(crate) is_unpriced: bool,
}

/// What a request holds while it runs. Only [`admit`] makes one.
pub(crate) struct Admission {
    taken: Vec<(Arc<Counter>, u64)>,
    /// What counts the request as such, until it is [taken over](Counted::add).
    of_request: Vec<(Arc<Counter>, u64)>,
    reserved: Vec<Reserved>,
    exchange: Option<Arc<Exchange>>,
    /// The most that the request can cost, once a budget that must hold has reserved it.
    most_cost: Option<Money>,
    /// When it was made.
    at: Moment,
}

/// A reservation in one account, in its currency.
struct Reserved {
    holder: Arc<Holder>,
    account: Arc<Account>,
    /// For whom, where the budget bounds what one key may reserve.
    key: Option<Arc<str>>,
    nanos: u64,
    /// What the account is charged where the price is not known.
    unpriced: Option<u64>,
}

/// What wants to be admitted.
struct Want<'r> {
    caller: &'r Caller,
    route: &'r Route,
    bound: &'r Bound,
    exchange: &'r Arc<Exchange>,
    /// What the request is counted by already.
    counted: Option<&'r Counted>,
}

impl Want<'_> {
    /// The key that shares a holder's budgets with others; `None` if they are its own. Calls without
    /// a key count as those of one.
    fn key_beside(&self, holder: &Holder) -> Option<Arc<str>> {
        let key = self.caller.chain().id(Kind::Key).cloned().unwrap_or_default();
        (holder.kind != Kind::Key).then_some(key)
    }
}

/// Why a request was not admitted.
pub(crate) enum Refusal {
    /// It is refused.
    Fault(Fault),
    /// This target has no room for it, but another one may have.
    Target(Fault),
    /// A budget is used up, and wants this model asked instead; if that is no more possible, the
    /// fault.
    Downgrade(Arc<str>, Fault),
}

impl Refusal {
    /// The same, where it concerns one target and not the request.
    fn of_target(self) -> Self {
        match self {
            Self::Fault(fault) if fault.code == Code::RateLimited => Self::Target(fault),
            refusal => refusal,
        }
    }
}

/// An alert of a budget that was crossed just now.
#[derive(Clone)]
pub struct Alert {
    /// Whose budget.
    pub holder: Arc<Holder>,
    /// The budget.
    pub account: Arc<Account>,
    /// The percentage that was reached.
    pub percent: u8,
}

/// Takes every limit and reserves in every budget that the request counts for, or none of them. Where
/// it is `counted` already, another attempt is no request more, but to its provider.
pub(crate) fn admit(
    caller: &Caller,
    model: &str,
    route: &Route,
    bound: &Bound,
    snapshot: &Snapshot,
    now: Moment,
    counted: Option<&Counted>,
) -> Result<Admission, Refusal> {
    let want = Want { caller, route, bound, exchange: &snapshot.exchange, counted };
    let mut admission = Admission::at(now);
    for level in caller.chain().levels() {
        admission.add(&level.holder, &level.terms, &want)?;
    }
    for holder in &route.holders {
        let added = admission.add(holder, &holder.terms(), &want);
        match holder.kind {
            Kind::Provider => added.map_err(Refusal::of_target)?,
            _ => added?,
        }
    }
    for rule in snapshot.rules.iter().filter(|rule| !rule.is_at_the_door()) {
        let subject = Subject {
            chain: caller.chain(),
            model,
            provider: &route.provider.id,
            upstream_model: &route.upstream_model,
            address: caller.address(),
        };
        if let Some(holder) = rule.holder(&subject, now.ns) {
            admission.add(&holder, &holder.terms(), &want)?;
        }
    }
    Ok(admission)
}

/// Counts a call at the door, by the address it comes from and before it is known who calls: so
/// that nobody can try keys at any pace.
pub(crate) fn knock(
    address: Option<IpAddr>,
    snapshot: &Snapshot,
    now: Moment,
) -> Result<(), Fault> {
    let nobody = Chain::default();
    for rule in snapshot.rules.iter().filter(|rule| rule.is_at_the_door()) {
        let (model, provider, upstream_model) = ("", "", "");
        let subject = Subject { chain: &nobody, model, provider, upstream_model, address };
        let Some(holder) = rule.holder(&subject, now.ns) else { continue };
        for counter in &holder.terms().counters {
            // Nothing else is known of a call that may not be let in.
            if counter.limit().meter == Meter::Requests
                && let Err(wait) = counter.take(1, now.ns)
            {
                return Err(over_limit(counter, wait, now, holder.kind, &holder.name));
            }
        }
    }
    Ok(())
}

impl Admission {
    /// One that holds nothing yet.
    fn at(now: Moment) -> Self {
        let (taken, of_request, reserved) = (Vec::new(), Vec::new(), Vec::new());
        Self { taken, of_request, reserved, exchange: None, most_cost: None, at: now }
    }

    /// Takes and reserves what one holder wants counted.
    fn add(&mut self, holder: &Arc<Holder>, terms: &Terms, want: &Want<'_>) -> Result<(), Refusal> {
        let whose = || match holder.kind {
            Kind::Rule => holder.name.to_string(),
            kind => format!("{} `{}`", kind.word(), holder.name),
        };
        self.take(holder.kind, terms, want, whose).map_err(Refusal::Fault)?;
        if terms.accounts.is_empty() {
            return Ok(());
        }
        self.exchange = Some(Arc::clone(want.exchange));
        self.reserve(holder, terms, want, whose)
    }

    fn take(
        &mut self,
        kind: Kind,
        terms: &Terms,
        want: &Want<'_>,
        whose: impl Fn() -> String,
    ) -> Result<(), Fault> {
        let bound = want.bound;
        for counter in &terms.counters {
            let limit = counter.limit();
            let is_of_request = Counted::is_counted_by(kind, limit.meter);
            if is_of_request && want.counted.is_some_and(|counted| counted.has(counter)) {
                continue;
            }
            let wanted = match limit.meter {
                Meter::Requests | Meter::Concurrency => 1,
                Meter::InputTokens => bound.input,
                Meter::OutputTokens => bound.output,
                Meter::Tokens => bound.input.saturating_add(bound.output),
            };
            // What can never fit at once is let through when the limit is wholly unused: the debt
            // that its settling leaves is waited off by the next.
            let wanted = wanted.min(limit.capacity().max(1));
            match counter.take(wanted, self.at.ns) {
                Ok(()) if is_of_request => self.of_request.push((Arc::clone(counter), wanted)),
                Ok(()) => self.taken.push((Arc::clone(counter), wanted)),
                Err(wait) => return Err(over_limit(counter, wait, self.at, kind, &whose())),
            }
        }
        Ok(())
    }

    fn reserve(
        &mut self,
        holder: &Arc<Holder>,
        terms: &Terms,
        want: &Want<'_>,
        whose: impl Fn() -> String,
    ) -> Result<(), Refusal> {
        let (route, bound) = (want.route, want.bound);
        let ceiling = ceiling(route, bound);
        for account in &terms.accounts {
            let budget = account.budget();
            let needed = ceiling.and_then(|ceiling| self.converted(ceiling, account));
            let (nanos, unpriced) = match (needed, &budget.unpriced) {
                (Some(nanos), _) => (nanos, None),
                (None, Some(ceiling)) => (ceiling.nanos, Some(ceiling.nanos)),
                (None, None) if budget.on_exhausted == OnExhausted::Alert => (0, None),
                (None, None) => return Err(Refusal::Fault(unpriced_model(route, bound, &whose()))),
            };
            let key = budget.key_share.and_then(|_| want.key_beside(holder));
            match account.reserve_for(key.as_ref(), nanos, self.at.ms) {
                Ok(()) => {
                    if needed.is_some() && budget.is_hard() {
                        self.most_cost = ceiling;
                    }
                    let (holder, account) = (Arc::clone(holder), Arc::clone(account));
                    self.reserved.push(Reserved { holder, account, key, nanos, unpriced });
                }
                Err(exhausted) => {
                    let fault = exhausted_budget(account, &exhausted, self.at, &whose())
                        .limited(holder.kind, Limited::BUDGET);
                    return Err(match &budget.on_exhausted {
                        OnExhausted::Downgrade(model) => {
                            Refusal::Downgrade(Arc::from(&**model), fault)
                        }
                        _ => Refusal::Fault(fault),
                    });
                }
            }
        }
        Ok(())
    }

    fn converted(&self, money: Money, account: &Account) -> Option<u64> {
        let currency = account.budget().amount.currency;
        let exchange = self.exchange.as_ref()?;
        exchange.convert(money, currency).map(|money| money.nanos)
    }

    /// The same, of a request that came at `began` and waited since.
    pub(crate) fn since(self, began: Moment) -> Self {
        let mut admission = self;
        admission.at = began;
        admission
    }

    /// The most that the request can cost, if a budget that must hold has reserved it.
    pub(crate) fn most_cost(&self) -> Option<Money> {
        self.most_cost
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.reserved.is_empty()
    }

    /// Whether it is the first to count the request somewhere.
    pub(crate) fn counts(&self) -> bool {
        !self.of_request.is_empty()
    }

    /// Settles with what was used. Returns the alerts that were crossed by it.
    pub(crate) fn settle(mut self, used: &Used, after: Duration) -> Vec<Alert> {
        self.finish(used, after)
    }

    /// Settles `after` this long.
    fn finish(&mut self, used: &Used, after: Duration) -> Vec<Alert> {
        let now = self.at.plus(after);
        for (counter, taken) in self.taken.drain(..) {
            let used = match counter.limit().meter {
                Meter::Requests => taken,
                Meter::Concurrency => 0,
                Meter::InputTokens => used.input,
                Meter::OutputTokens => used.output,
                Meter::Tokens => used.input.saturating_add(used.output),
            };
            counter.settle(taken, used, now.ns);
        }
        let mut alerts = Vec::new();
        for reserved in std::mem::take(&mut self.reserved) {
            let Reserved { holder, account, key, nanos, unpriced } = reserved;
            let cost = used.cost.and_then(|cost| self.converted(cost, &account));
            // What was used has no price, or none in this currency: the agreed ceiling is charged.
            let is_foreign = used.cost.is_some_and(|cost| cost.nanos > 0);
            let agreed = unpriced.filter(|_| used.is_unpriced || is_foreign);
            let charged = cost.or(agreed).unwrap_or(0);
            for percent in account.settle_for(key.as_ref(), nanos, charged, now.ms) {
                let (holder, account) = (Arc::clone(&holder), Arc::clone(&account));
                alerts.push(Alert { holder, account, percent });
            }
        }
        alerts
    }
}

/// The most that a request can cost; `None` if that is not known.
fn ceiling(route: &Route, bound: &Bound) -> Option<Money> {
    let price = route.price.as_ref()?;
    let free = || (!price.depends_on_output()).then_some(0);
    Some(price.ceiling(bound.most_input, bound.most_output.or_else(free)?))
}

impl Drop for Admission {
    fn drop(&mut self) {
        // Not settled: the request went no further, and counts for nothing.
        for (counter, taken) in self.taken.drain(..).chain(self.of_request.drain(..)) {
            counter.settle(taken, 0, self.at.ns);
        }
        self.finish(&Used::default(), Duration::ZERO);
    }
}
