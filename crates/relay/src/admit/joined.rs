//! The admission of a request that is answered along with another one.

use std::sync::Arc;

use policy::directory::{Kind, Terms};
use policy::limit::Meter;
use policy::rules::Subject;
use policy::{Route, Snapshot};

use super::told::over_limit;
use super::{Admission, Moment};
use crate::fault::Fault;
use crate::identify::Caller;

/// Takes the limits on requests and on requests at once, or none of them. No provider is asked, so
/// those of providers do not count, and neither do tokens and money. `route` is any of the model's.
pub(crate) fn admit_joined(
    caller: &Caller,
    model: &str,
    route: &Route,
    snapshot: &Snapshot,
    now: Moment,
) -> Result<Admission, Fault> {
    let mut admission = Admission::new(now);
    for level in caller.chain().levels() {
        let holder = &level.holder;
        let whose = || format!("{} `{}`", holder.kind.word(), holder.name);
        admission.take_requests(holder.kind, &level.terms, whose)?;
    }
    for holder in route.holders.iter().filter(|holder| holder.kind == Kind::Model) {
        let whose = || format!("model `{}`", holder.name);
        admission.take_requests(holder.kind, &holder.terms(), whose)?;
    }
    for rule in snapshot.rules.iter().filter(|rule| !rule.is_at_the_door() && !rule.is_of_targets())
    {
        let (provider, upstream_model) = ("", "");
        let (chain, address) = (caller.chain(), caller.address());
        let subject = Subject { chain, model, provider, upstream_model, address };
        if let Some(holder) = rule.holder(&subject, now.ns) {
            admission.take_requests(holder.kind, &holder.terms(), || holder.name.to_string())?;
        }
    }
    Ok(admission)
}

impl Admission {
    fn take_requests(
        &mut self,
        kind: Kind,
        terms: &Terms,
        whose: impl Fn() -> String,
    ) -> Result<(), Fault> {
        for counter in &terms.counters {
            if !matches!(counter.limit().meter, Meter::Requests | Meter::Concurrency) {
                continue;
            }
            match counter.take(1, self.at.ns) {
                Ok(()) => self.taken.push((Arc::clone(counter), 1)),
                Err(wait) => return Err(over_limit(counter, wait, self.at, kind, &whose())),
            }
        }
        Ok(())
    }
}
