//! Health checks: providers are asked, regularly and at no cost, whether they are there.
//!
//! One task on the control thread does it for all workers; what it finds goes to the health that
//! they share. A check says nothing of a model: see [`policy::health::HealthCheck`].

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use policy::health::{Checked, Found, Health, HealthCheck};
use policy::units::milliseconds;
use policy::{Provider, Snapshot};
use relay::{Call, FailureKind, Outgoing, Upstream as _};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::data::random;
use crate::log::note;
use crate::upstream::Network;
use crate::version::USER_AGENT;

/// Checks at once. The others wait their turn.
const MOST_AT_ONCE: usize = 16;

/// See the [module](self).
pub(crate) struct Checks {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// What times of health are counted from.
    epoch: Instant,
    /// Wakes the task after a change of the configuration.
    changed: Notify,
    turns: Semaphore,
}

impl Checks {
    /// Checks the providers of a configuration that ask for it.
    pub(crate) fn new(snapshot: Arc<ArcSwap<Snapshot>>, epoch: Instant) -> Self {
        let (changed, turns) = (Notify::new(), Semaphore::new(MOST_AT_ONCE));
        Self { snapshot, epoch, changed, turns }
    }

    /// Takes over another configuration: everyone that it wants checked is checked at once.
    pub(crate) fn read_again(&self) {
        self.changed.notify_one();
    }

    /// Checks for ever. Wants a runtime that runs tasks of its own thread only.
    pub(crate) async fn run(self: Arc<Self>, network: Rc<Network>) {
        loop {
            let mut checking = JoinSet::new();
            let snapshot = self.snapshot.load_full();
            for provider in &snapshot.providers {
                let Some(how) = provider.health_check.clone() else { continue };
                let (checks, network) = (Arc::clone(&self), Rc::clone(&network));
                let (provider, health) = (Arc::clone(provider), Arc::clone(snapshot.health()));
                checking.spawn_local(async move {
                    checks.keep(&provider, &how, &health, &network).await;
                });
            }
            drop(snapshot);
            // The tasks for what there was before end with their set.
            self.changed.notified().await;
        }
    }

    /// Checks one provider, again and again.
    async fn keep(
        &self,
        provider: &Arc<Provider>,
        how: &HealthCheck,
        health: &Health,
        network: &Network,
    ) {
        let mut before = None;
        loop {
            let checked = {
                // The semaphore is never closed.
                let _turn = self.turns.acquire().await;
                self.check(provider, how, network).await
            };
            tell(provider, before.replace(checked.found), checked.found);
            let pause = health.check(&provider.id, how, checked);
            sleep(jittered(pause)).await;
        }
    }

    /// Checks once.
    async fn check(
        &self,
        provider: &Arc<Provider>,
        how: &HealthCheck,
        network: &Network,
    ) -> Checked {
        let began = Instant::now();
        // Connecting has a clock of its own, so that it is known which of the two took too long.
        let asked = timeout(2 * how.timeout, network.send(call(provider, how))).await;
        let found = match asked {
            Ok(Ok(response)) => Found::Answer(response.status().as_u16()),
            Ok(Err(failure)) => match failure.kind {
                FailureKind::Dns | FailureKind::Connect | FailureKind::Tls => Found::Unreached,
                _ => Found::NoAnswer,
            },
            Err(_) => Found::NoAnswer,
        };
        let (at, took) = (began - self.epoch, began.elapsed());
        Checked { at_ms: milliseconds(at), took_ms: milliseconds(took), found }
    }
}

/// The request of a check, with the provider's first credential.
fn call(provider: &Arc<Provider>, how: &HealthCheck) -> Call {
    let mut headers: HeaderMap = provider.headers.iter().cloned().collect();
    headers.extend(provider.header_of_credential(0).cloned());
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    // Whether it can be reached is not seen on a connection that stands.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Call {
        provider: Arc::clone(provider),
        method: Method::GET,
        target: how.target.clone(),
        headers,
        body: Outgoing::Whole(Bytes::new()),
        connect: how.timeout,
    }
}

/// A line when a provider is gone or back, or refuses the credential; not one for every check.
fn tell(provider: &Provider, before: Option<Found>, now: Found) {
    if before == Some(now) {
        return;
    }
    let id = &provider.id;
    match now {
        Found::Answer(status @ (401 | 403)) => {
            note(&format!("health check: {id} refuses its key ({status})"));
        }
        Found::Answer(..500) if before.is_some_and(|before| !before.is_there()) => {
            note(&format!("health check: {id} is there again"));
        }
        Found::Answer(..500) => {}
        Found::Answer(status) => note(&format!("health check: {id} answers {status}")),
        Found::NoAnswer => note(&format!("health check: {id} does not answer")),
        Found::Unreached => note(&format!("health check: {id} cannot be reached")),
    }
}

/// A time up to a tenth shorter or longer, so that not all are checked at the same moment.
fn jittered(time: Duration) -> Duration {
    let drawn = random().map_or(128, |bytes| u32::from(bytes[0]));
    time * 9 / 10 + time / 5 * drawn / 255
}
