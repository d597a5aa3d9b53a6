//! An issuer, checked.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::config::{ClaimPaths, JwtConfig};
use super::keys::{self, KeyRing};
use crate::config::At;
use crate::problem::{Place, Problem};
use crate::provider::{HttpVersions, Origin, Provider, Scheme};
use crate::units;

/// How far clocks may differ, unless written otherwise.
const LEEWAY: Duration = Duration::from_secs(30);
/// The most that may be written.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// An issuer whose tokens are taken. Never printed beyond its name.
pub struct Issuer {
    pub(super) name: Box<str>,
    pub(super) audiences: Vec<String>,
    pub(super) algorithm: Algorithm,
    pub(super) keys: Keys,
    pub(super) claims: ClaimPaths,
    pub(super) leeway_s: u64,
}

/// Where the keys of an issuer are.
pub(super) enum Keys {
    /// One, whatever id a token names.
    One(Box<DecodingKey>),
    /// A set.
    Set(KeyRing),
    /// Published.
    Remote(Box<Remote>),
}

/// Where an issuer publishes its keys.
pub struct Remote {
    /// What tells this from other key sets: the algorithm, the URL, and who is trusted to serve it.
    pub id: Box<str>,
    /// The server: over TLS, or on this machine.
    pub server: Arc<Provider>,
    /// Path and query.
    pub target: PathAndQuery,
}

impl Issuer {
    /// Checks what is written.
    ///
    /// # Errors
    /// The first problem, without a place.
    pub fn new(config: &JwtConfig) -> Result<Self, Problem> {
        super::install_provider();
        let wrong = |message: String, hint: &str| Problem::new(Place::NONE, message, hint);
        let missing = |what: &str| wrong(format!("an issuer of tokens has no `{what}`"), MISSING);
        let Some(algorithm) = config.algorithm.map(Algorithm::from) else {
            return Err(missing("algorithm"));
        };
        if config.issuer.is_empty() {
            return Err(missing("issuer"));
        }
        let audiences = config.audience.all().to_vec();
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(missing("audience"));
        }
        let leeway = config.leeway.as_deref().map_or(Ok(LEEWAY), units::duration);
        let leeway = leeway.map_err(|message| wrong(message, "write for example 30s"))?;
        if leeway > MAX_LEEWAY {
            return Err(wrong(String::from("`leeway` is more than 5m"), "set the clocks instead"));
        }
        let paths = [&config.claims.team, &config.claims.org, &config.claims.models];
        let mut paths = paths.into_iter().chain([&config.claims.limits]).flatten();
        if config.claims.user.is_empty() || paths.any(String::is_empty) {
            return Err(wrong(
                String::from("a claim has no name"),
                "write for example `user: sub`",
            ));
        }
        Ok(Self {
            name: config.issuer.as_str().into(),
            audiences,
            algorithm,
            keys: keys_of(config, algorithm)?,
            claims: config.claims.clone(),
            leeway_s: leeway.as_secs(),
        })
    }

    /// What `iss` has to be.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its keys are published, if they are not written in the configuration.
    #[must_use]
    pub fn remote(&self) -> Option<&Remote> {
        match &self.keys {
            Keys::Remote(remote) => Some(remote),
            Keys::One(_) | Keys::Set(_) => None,
        }
    }

    /// Reads what it publishes.
    ///
    /// # Errors
    /// A sentence about why there is nothing to use in it.
    pub fn read_keys(&self, json: &[u8]) -> Result<KeyRing, String> {
        KeyRing::parse(json, self.algorithm)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Issuer").field(&self.name).finish()
    }
}

/// The issuers of a configuration.
///
/// # Errors
/// Every problem, each at its issuer's place: also an issuer that stands twice, since a token has
/// to belong to one.
pub fn issuers(written: &[At<JwtConfig>]) -> Result<Vec<Arc<Issuer>>, Vec<Problem>> {
    let mut issuers: Vec<Arc<Issuer>> = Vec::with_capacity(written.len());
    let mut problems = Vec::new();
    for At { value, place } in written {
        match Issuer::new(value) {
            Ok(issuer) if issuers.iter().any(|known| known.name == issuer.name) => {
                let message = format!("the issuer `{}` stands twice", issuer.name);
                problems.push(Problem::new(*place, message, "give one of them all audiences"));
            }
            Ok(issuer) => issuers.push(Arc::new(issuer)),
            Err(problem) => problems.push(Problem { place: *place, ..problem }),
        }
    }
    if problems.is_empty() { Ok(issuers) } else { Err(problems) }
}

const MISSING: &str = "needed are issuer, audience, algorithm, and where the key is";

fn keys_of(config: &JwtConfig, algorithm: Algorithm) -> Result<Keys, Problem> {
    let wrong = |hint: &'static str| move |message| Problem::new(Place::NONE, message, hint);
    let shared = algorithm.family() == AlgorithmFamily::Hmac;
    match (&config.secret, &config.public_key, &config.jwks, &config.jwks_url) {
        (Some(secret), None, None, None) if shared => keys::from_secret(secret, algorithm)
            .map(|key| Keys::One(Box::new(key)))
            .map_err(wrong("draw one: openssl rand -base64 64 | tr -d '\\n'")),
        (None, Some(pem), None, None) if !shared => keys::from_pem(pem, algorithm)
            .map(|key| Keys::One(Box::new(key)))
            .map_err(wrong("paste the issuer's public key, from BEGIN to END")),
        (None, None, Some(set), None) => KeyRing::read(set, algorithm)
            .map(Keys::Set)
            .map_err(wrong("paste what the issuer publishes, `{\"keys\": [...]}`")),
        (None, None, None, Some(url)) if !shared => remote(url, config, algorithm)
            .map(|remote| Keys::Remote(Box::new(remote)))
            .map_err(wrong("write the `jwks_uri` of the issuer")),
        _ => {
            let message = String::from(match shared {
                true => "an HS algorithm takes one of `secret` and `jwks`",
                false => "this algorithm takes one of `public_key`, `jwks` and `jwks_url`",
            });
            Err(Problem::new(Place::NONE, message, MISSING))
        }
    }
}

fn remote(url: &str, config: &JwtConfig, algorithm: Algorithm) -> Result<Remote, String> {
    let base = url.split(['?', '#']).next().unwrap_or_default();
    let (server, _) = Provider::bare(base)?;
    let origin = &*server.origin;
    let address = origin.host.parse::<IpAddr>().map(|address| address.to_canonical());
    let here = &*origin.host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if origin.scheme != Scheme::Https && !(origin.scheme == Scheme::Http && here) {
        return Err(format!(
            "`{base}` must begin with https://: whoever answers it can let in all"
        ));
    }
    let uri: http::Uri = url.parse().map_err(|fault| format!("`{base}` is not a URL: {fault}"))?;
    let target = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let ca_file: Option<Box<str>> = config.ca_file.as_deref().map(Into::into);
    let id = format!("{algorithm:?} {url} {}", ca_file.as_deref().unwrap_or_default());
    let origin = Arc::new(Origin { http: HttpVersions::Http1, ca_file, ..origin.clone() });
    Ok(Remote { id: id.into(), server: Arc::new(Provider { origin, ..server }), target })
}
