//! Host names to addresses, remembered for a while.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use relay::{Failure, FailureKind};
use tokio::time::Instant;

/// How long an answer is used without asking again. The system's resolver does not say how long it
/// is good for; providers move their addresses over minutes.
const FRESH: Duration = Duration::from_secs(30);
/// How long an old answer is still better than none, when asking fails.
const STALE: Duration = Duration::from_secs(3600);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// When a name was asked for, and its addresses.
type Answer = (Instant, Vec<IpAddr>);

/// The names one worker has asked for: as many as there are origins in its configurations.
#[derive(Default)]
pub(super) struct Names {
    known: RefCell<HashMap<Box<str>, Answer>>,
}

impl Names {
    /// The addresses of a host, IPv6 and IPv4 in turn.
    pub(super) async fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Failure> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let with_port = |known: &[IpAddr]| {
            known.iter().map(|address| SocketAddr::new(*address, port)).collect()
        };
        if let Some(known) = self.known(host, FRESH) {
            return Ok(with_port(&known));
        }
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => {
                let found = interleaved(found.map(|address| address.ip()).collect());
                if found.is_empty() {
                    return Err(unknown(host, "it has no address"));
                }
                let addresses = with_port(&found);
                self.known.borrow_mut().insert(host.into(), (Instant::now(), found));
                Ok(addresses)
            }
            Err(fault) => match self.known(host, STALE) {
                Some(known) => Ok(with_port(&known)),
                None => Err(unknown(host, &fault.to_string())),
            },
        }
    }

    fn known(&self, host: &str, age: Duration) -> Option<Vec<IpAddr>> {
        let known = self.known.borrow();
        let (since, addresses) = known.get(host)?;
        (since.elapsed() < age).then(|| addresses.clone())
    }
}

fn unknown(host: &str, why: &str) -> Failure {
    Failure::new(FailureKind::Dns, format!("cannot resolve {host}: {why}"))
}

/// The two families in turn (RFC 8305, section 4), beginning with the one that came first.
fn interleaved(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = found.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut ordered = Vec::new();
    for address in first {
        ordered.push(address);
        ordered.extend(second.next());
    }
    ordered.extend(second);
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 9, 9));

    /// The addresses of a host that had another one so long ago.
    fn addresses(host: &str, age: Duration) -> Result<Vec<IpAddr>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let names = Names::default();
        names.known.borrow_mut().insert(host.into(), (Instant::now() - age, vec![OLD]));
        let found = runtime.block_on(names.addresses(host, 443));
        found.map(|found| found.iter().map(SocketAddr::ip).collect())
    }

    #[test]
    fn an_address_that_changes_is_followed_and_an_old_one_is_better_than_none() {
        let second = Duration::from_secs(1);
        assert_eq!(addresses("localhost", FRESH - second).unwrap(), [OLD]);
        let found = addresses("localhost", FRESH).unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
        // Nobody knows that name any more.
        assert_eq!(addresses("provider.invalid", STALE - second).unwrap(), [OLD]);
        let fault = addresses("provider.invalid", STALE).unwrap_err();
        assert_eq!(fault.kind, FailureKind::Dns);
    }

    #[test]
    fn families_take_turns_and_addresses_are_few() {
        let all: Vec<IpAddr> =
            ["::1", "::2", "::3", "1.0.0.1", "1.0.0.2"].map(|text| text.parse().unwrap()).to_vec();
        let order: Vec<String> = interleaved(all.clone()).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["::1", "1.0.0.1", "::2", "1.0.0.2", "::3"]);
        assert_eq!(interleaved([all.clone(), all].concat()).len(), MAX_ADDRESSES);
    }
}
