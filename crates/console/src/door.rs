//! Who tries tokens is slowed down, by the address the tries come from.
//!
//! The count is the one that limits the door of the API itself. It is looked at before a token is,
//! right or wrong: else the one right guess among many would get through.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, header};
use policy::directory::{Chain, Holder};
use policy::limit::{Limit, LimitsMap, Meter, Window};
use policy::rules::{Per, Rule, RuleConfig, Subject};
use tokio::time::Instant;

use crate::auth::Caller;
use crate::fault::{Code, Fault};

/// Wrong tokens that an address may send in a minute: somebody at a keyboard needs fewer.
const TRIES: u64 = 10;

/// Where a connection comes from. Whoever serves the [router](crate::Console::router) says so in an
/// extension of the request; where that is missing, nothing is counted.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Wrong tokens by the address that sent them; an IPv6 address stands for its /64 network.
pub(crate) struct Door {
    tries: Option<Rule>,
    /// What the counts take their time from.
    epoch: Instant,
}

impl Door {
    pub(crate) fn new() -> Self {
        let window = Some(Window::Minute);
        let limit = Limit { meter: Meter::Requests, amount: TRIES, window, burst: None };
        let limits = LimitsMap(vec![limit]);
        let config = RuleConfig { per: vec![Per::Address], models: None, limits };
        // A rule of one thing with one limit is always one.
        Self { tries: Rule::new(&config).ok(), epoch: Instant::now() }
    }

    /// Lets `identify` look at the token of a request, unless its address has sent too many wrong
    /// ones. A request without a token is no try.
    ///
    /// # Errors
    /// [`Code::TooManyTries`], and what `identify` says.
    pub(crate) fn pass(
        &self,
        peer: Option<Peer>,
        headers: &HeaderMap,
        identify: impl FnOnce() -> Result<Caller, Fault>,
    ) -> Result<Caller, Fault> {
        let holder = self.holder(peer).filter(|_| headers.contains_key(header::AUTHORIZATION));
        let Some(holder) = holder else { return identify() };
        self.look(&holder)?;
        let found = identify();
        if let Err(fault) = &found
            && fault.code == Code::NoToken
        {
            let now_ns = self.now_ns();
            for counter in &holder.terms().counters {
                // Where others were faster, the count is full already.
                let _ = counter.take(1, now_ns);
            }
        }
        found
    }

    /// Whether one more try fits.
    fn look(&self, holder: &Holder) -> Result<(), Fault> {
        let now_ns = self.now_ns();
        for counter in &holder.terms().counters {
            match counter.take(1, now_ns) {
                Ok(()) => counter.settle(1, 0, now_ns),
                Err(wait) => return Err(too_many(wait.nanos().unwrap_or_default())),
            }
        }
        Ok(())
    }

    fn holder(&self, peer: Option<Peer>) -> Option<std::sync::Arc<Holder>> {
        let nobody = Chain::default();
        let address = Some(peer?.0);
        let (model, provider, upstream_model) = ("", "", "");
        let subject = Subject { chain: &nobody, model, provider, upstream_model, address };
        self.tries.as_ref()?.holder(&subject, self.now_ns())
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn too_many(wait_ns: u64) -> Fault {
    let seconds = wait_ns.div_ceil(1_000_000_000).max(1);
    let message =
        format!("Too many wrong admin tokens came from this address. Try again in {seconds} s.");
    Fault::new(Code::TooManyTries, message).header(header::RETRY_AFTER, HeaderValue::from(seconds))
}
