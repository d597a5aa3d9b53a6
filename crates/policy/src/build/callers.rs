//! Who may call, and what lasts: keys, groups, issuers, prices, the data folder, the admin listener.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::Builder;
use crate::budget::Budgets;
use crate::config::{At, Config, KeyConfig, KeySecret, MetricsConfig, TeamConfig};
use crate::directory::{GroupConfig, Holder, Kind, TermsConfig};
use crate::jwt::{self, Issuer};
use crate::key;
use crate::limit::LimitsMap;
use crate::price::Overrides;
use crate::problem::Place;
use crate::rules::Rule;
use crate::snapshot::{Admin, Callers, Keyless};

/// Where the admin API listens if nothing else is said.
const DEFAULT_ADMIN: &str = "127.0.0.1:8001";
/// Characters of a key in the file: one that can be guessed is no key.
const SHORTEST_KEY: usize = 16;

impl Builder<'_> {
    /// Who is served without a key. Whoever can be reached by others has to say that it is meant.
    pub(super) fn keyless(&mut self, config: &Config, listen: SocketAddr, place: Place) -> Keyless {
        let open = config.open || self.env("MAGPIE_OPEN").is_some_and(|v| v == "true" || v == "1");
        let is_guarded = !config.keys.is_empty() || !config.jwt.is_empty();
        match (open, listen.ip().is_loopback(), is_guarded) {
            (true, ..) => Keyless::Everyone,
            (false, true, false) => Keyless::UntilKeys,
            (false, _, true) => Keyless::Nobody,
            (false, false, false) if self.has_stored_keys(config) => Keyless::Nobody,
            (false, false, false) => {
                self.problem(
                    place,
                    format!("{listen} can be reached by others, and everyone would be served"),
                    "make a key (`magpie keys new NAME`, or `keys:` in the file), listen on \
                     127.0.0.1, or say `open: true` (MAGPIE_OPEN=true) if that is meant",
                );
                Keyless::Nobody
            }
        }
    }

    fn has_stored_keys(&self, config: &Config) -> bool {
        self.data(config).0.is_some_and(|folder| (self.has_keys)(&folder))
    }

    pub(super) fn callers(&mut self, config: &Config) -> Callers {
        let mut callers = Callers::default();
        for (name, written) in &config.orgs {
            let terms = written.value.terms.clone();
            let org = GroupConfig { terms, ..GroupConfig::default() };
            callers.groups.push((Kind::Org, name.clone(), org));
        }
        for (name, written) in &config.teams {
            let TeamConfig { org, terms } = written.value.clone();
            let team = GroupConfig { org, team: None, terms };
            callers.groups.push((Kind::Team, name.clone(), team));
        }
        for (name, written) in &config.users {
            callers.groups.push((Kind::User, name.clone(), written.value.clone()));
        }
        let (mut names, mut known) = (HashSet::new(), HashMap::new());
        for written in &config.keys {
            self.checked_key(written, &mut names);
            self.new_key(written, &mut known);
            callers.keys.push(written.value.clone());
        }
        callers
    }

    /// One key cannot be two: only the last of them would be found.
    fn new_key<'k>(&mut self, written: &'k At<KeyConfig>, known: &mut HashMap<[u8; 32], &'k str>) {
        let (key, hash) = (&written.value.key, &written.value.hash);
        let of_text = || Some(key::sha256(key.as_ref()?.0.expose().as_bytes()));
        let Some(hash) = of_text().or_else(|| key::parse_sha256(hash.as_deref()?)) else { return };
        let name = &written.value.name;
        if let Some(first) = known.insert(hash, name) {
            let message = format!("the keys `{first}` and `{name}` are the same");
            self.problem(written.place, message, "give each of them a key of its own");
        }
    }

    fn checked_key<'k>(&mut self, written: &'k At<KeyConfig>, names: &mut HashSet<&'k str>) {
        let (config, place) = (&written.value, written.place);
        if config.name.is_empty() {
            self.problem(place, "a key needs a name", "for example `name: ci`");
        } else if !names.insert(&config.name) {
            let message = format!("two keys are called `{}`", config.name);
            self.problem(place, message, "names tell keys apart in the log and the ledger");
        }
        match (&config.key, &config.hash) {
            (Some(secret), None) if secret.0.expose().chars().count() < SHORTEST_KEY => {
                let message = format!("the key `{}` is shorter than 16 characters", config.name);
                self.problem(place, message, "`magpie keys new` makes one that cannot be guessed");
            }
            (None, Some(hash)) if key::parse_sha256(hash).is_none() => {
                let message = format!("`hash` of the key `{}` is no SHA-256", config.name);
                self.problem(place, message, "write sha256: and 64 hexadecimal digits");
            }
            (Some(_), None) | (None, Some(_)) => {}
            _ => {
                let message = format!("the key `{}` needs one of `key` and `hash`", config.name);
                self.problem(place, message, "for example `key: ${MAGPIE_KEY_CI}`");
            }
        }
    }

    pub(super) fn issuers(&mut self, config: &Config) -> Vec<Arc<Issuer>> {
        jwt::issuers(&config.jwt).unwrap_or_else(|problems| {
            self.problems.extend(problems);
            Vec::new()
        })
    }

    pub(super) fn rules(&mut self, config: &Config) -> Vec<Rule> {
        let mut rules = Vec::new();
        for written in &config.limit_rules {
            match Rule::new(&written.value) {
                Ok(rule) => rules.push(rule),
                Err(message) => {
                    let hint = "for example `{ per: [key, model], limits: { rpm: 60 } }`";
                    self.problem(written.place, message, hint);
                }
            }
        }
        rules
    }

    pub(super) fn prices(&mut self, config: &Config) -> Arc<Overrides> {
        let named = config.prices.iter().map(|(name, written)| (name.as_str(), &written.value));
        let read = Overrides::read(named).unwrap_or_else(|faults| {
            for (name, fault) in faults {
                let place = config.prices.get(&name).map_or(Place::NONE, |written| written.place);
                self.problem(place, format!("the price of `{name}`: {fault}"), "");
            }
            Overrides::default()
        });
        Arc::new(read)
    }

    /// The folder for what lasts, and whether the owner named it.
    pub(super) fn data(&self, config: &Config) -> (Option<PathBuf>, bool) {
        let named = self.env("MAGPIE_DATA").or(config.data.as_deref());
        if let Some(folder) = named {
            return (Some(PathBuf::from(folder)), true);
        }
        // systemd may name several, of which the first is ours.
        let state = self.env("STATE_DIRECTORY").and_then(|list| list.split(':').next());
        let usual = state.map(PathBuf::from).or_else(|| {
            let state = self.env("XDG_STATE_HOME").map(PathBuf::from);
            let home = || self.env("HOME").map(|home| PathBuf::from(home).join(".local/state"));
            Some(state.or_else(home)?.join("magpie"))
        });
        (usual, state.is_some())
    }

    pub(super) fn admin(&mut self, config: &Config) -> Option<Admin> {
        let written = &config.admin.value;
        let from_env = self.env("MAGPIE_ADMIN").map(str::to_owned);
        if !written.enabled || from_env.as_deref() == Some("off") {
            return None;
        }
        let place = written.listen.as_ref().map_or(config.admin.place, |at| at.place);
        let named = from_env.or_else(|| written.listen.as_ref().map(|at| at.value.clone()));
        let text = named.as_deref().unwrap_or(DEFAULT_ADMIN);
        let listen = text.replace("localhost:", "127.0.0.1:").parse().unwrap_or_else(|_| {
            let hint = "write for example 127.0.0.1:8001";
            self.problem(place, format!("`{text}` is not an address to listen on"), hint);
            SocketAddr::from(([127, 0, 0, 1], 8001))
        });
        let tls = written.tls.as_ref().and_then(|tls| self.tls_of_files(tls));
        if !listen.ip().is_loopback() && tls.is_none() {
            self.warnings
                .push(format!("the admin API on {listen} can be reached by others, in clear text"));
        }
        Some(Admin { listen, named: named.is_some(), hosts: written.hosts.clone(), tls })
    }

    /// The numbers for Prometheus: a token for them has to be a secret.
    pub(super) fn metrics(&mut self, config: &Config) -> MetricsConfig {
        let At { value: metrics, place } = &config.metrics;
        let too_short = |token: &KeySecret| token.0.expose().chars().count() < SHORTEST_KEY;
        if metrics.token.as_ref().is_some_and(too_short) {
            let message = "`metrics.token` is shorter than 16 characters";
            self.problem(*place, message, "`openssl rand -hex 32` makes one");
        }
        metrics.clone()
    }
}

/// The holder of a model's or a provider's own limits and budgets; `None` if it has none.
pub(super) fn holder(
    kind: Kind,
    name: &str,
    limits: Option<&LimitsMap>,
    budget: Option<&Budgets>,
) -> Option<Arc<Holder>> {
    if limits.is_none() && budget.is_none() {
        return None;
    }
    let terms =
        TermsConfig { limits: limits.cloned(), budget: budget.cloned(), ..TermsConfig::default() };
    Some(Holder::of_file(kind, name, &terms))
}
