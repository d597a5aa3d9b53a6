//! Tokens of other issuers: who their bearers are.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use policy::directory::{Chain, Directory, Holder, KeyRecord, Origin, TermsConfig};
use policy::jwt::{self, Claims, JwtFault};
use policy::limit::LimitsMap;
use policy::{Snapshot, key};
use relay::{TokenRefusal, Tokens};
use tokio::time::Instant;

use crate::jwks::Jwks;

/// Bearers that are known at once. Each costs some 500 bytes. Beyond them, those at rest are
/// forgotten; if none is, newcomers are refused.
const MOST_BEARERS: usize = 100_000;
/// How often those at rest are looked for when there are too many.
const LOOK: Duration = Duration::from_secs(5);
/// Verified tokens that are remembered, so that a signature is checked once. Each costs some 100
/// bytes.
const MOST_TOKENS: usize = 20_000;

/// Knows bearers by their tokens.
pub(crate) struct TokenDesk {
    snapshot: Arc<ArcSwap<Snapshot>>,
    directory: Arc<Directory>,
    jwks: Arc<Jwks>,
    /// What the times of limits are counted from.
    epoch: Instant,
    most_bearers: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By the digest of the whole token: until when, and whose it is.
    tokens: HashMap<[u8; 32], (u64, Arc<Holder>)>,
    /// The generation of keys they were verified under: another may not have theirs.
    generation: u64,
    /// The ids of those that the directory has been told of.
    bearers: HashSet<Arc<str>>,
    /// When bearers at rest were looked for last.
    looked: Option<Instant>,
}

impl TokenDesk {
    pub(crate) fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        directory: Arc<Directory>,
        jwks: Arc<Jwks>,
        epoch: Instant,
    ) -> Self {
        let (most_bearers, known) = (MOST_BEARERS, Mutex::default());
        Self { snapshot, directory, jwks, epoch, most_bearers, known }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for one more bearer. Says whether there is any.
    fn make_room(&self, known: &mut Known) -> bool {
        if known.bearers.len() < self.most_bearers {
            return true;
        }
        let now = Instant::now();
        if known.looked.is_some_and(|looked| now - looked < LOOK) {
            return false;
        }
        known.looked = Some(now);
        // A remembered token holds its bearer.
        known.tokens.clear();
        let now_ns = u64::try_from((now - self.epoch).as_nanos()).unwrap_or(u64::MAX);
        known.bearers.retain(|id| !self.directory.forget_at_rest(id, now_ns));
        known.bearers.len() < self.most_bearers
    }

    /// The bearer of claims that were verified: a holder like a key, with the terms the token has.
    fn bearer(&self, claims: &Claims, now_ms: u64) -> Result<Arc<Holder>, String> {
        let limits = match &claims.limits {
            None => None,
            Some(limits) => {
                let read = serde_json::from_value::<LimitsMap>(limits.clone());
                Some(read.map_err(|fault| format!("The limits in the token: {fault}."))?)
            }
        };
        let text = |name: &Option<Box<str>>| name.as_deref().map(str::to_owned);
        let record = KeyRecord {
            id: id(claims),
            name: claims.user.to_string(),
            digests: Vec::new(),
            user: Some(claims.user.to_string()),
            team: text(&claims.team),
            org: text(&claims.org),
            terms: TermsConfig { models: claims.models.clone(), limits, ..TermsConfig::default() },
        };
        // Held until the directory knows it: a bearer that is being met is not at rest.
        let mut known = self.known();
        if !known.bearers.contains(&*record.id) && !self.make_room(&mut known) {
            return Err(String::from("There are too many bearers of tokens at once."));
        }
        let holder = self.directory.put_key(&record, Origin::Named, now_ms)?;
        known.bearers.insert(Arc::clone(&holder.id));
        Ok(holder)
    }
}

impl Tokens for TokenDesk {
    fn verify(&self, token: &str, now_ms: u64) -> Option<Result<Chain, TokenRefusal>> {
        if !jwt::looks_like_token(token) {
            return None;
        }
        let snapshot = self.snapshot.load();
        if snapshot.issuers.is_empty() {
            return None;
        }
        let digest = key::sha256(token.as_bytes());
        let generation = self.jwks.generation();
        {
            let mut known = self.known();
            if known.generation != generation {
                known.tokens.clear();
                known.generation = generation;
            }
            if let Some((until, holder)) = known.tokens.get(&digest)
                && now_ms / 1000 < *until
            {
                return Some(Ok(Chain::from(holder)));
            }
        }
        let rings = |issuer: &jwt::Issuer| self.jwks.ring(issuer);
        let claims = match jwt::verify(token, &snapshot.issuers, &rings, now_ms / 1000) {
            Ok(claims) => claims,
            Err(fault) => {
                if let JwtFault::UnknownKey(issuer) | JwtFault::NoKeys(issuer) = &fault {
                    self.jwks.wanted(issuer);
                }
                let why = format!("The token is refused: {fault}.");
                return Some(Err(match fault {
                    JwtFault::NoKeys(_) => TokenRefusal::NotYet(why),
                    _ => TokenRefusal::Invalid(why),
                }));
            }
        };
        let bearer = self.bearer(&claims, now_ms).map_err(TokenRefusal::Invalid);
        Some(bearer.map(|holder| {
            let mut known = self.known();
            if known.tokens.len() >= MOST_TOKENS {
                known.tokens.clear();
            }
            // It was verified under keys that may have been replaced meanwhile.
            if known.generation == generation {
                known.tokens.insert(digest, (claims.expires_s, Arc::clone(&holder)));
            }
            Chain::from(&holder)
        }))
    }
}

/// What a bearer is known by. Tokens of one user that say different things of what it may do have
/// bearers of their own, so that none lends its rights to another.
fn id(claims: &Claims) -> String {
    let rights = (&claims.team, &claims.org, &claims.models, &claims.limits);
    let whole = format!("{:?} {:?} {rights:?}", claims.issuer.name(), claims.user);
    format!("jwt_{}", key::hex(&key::sha256(whole.as_bytes())[..12]))
}

#[cfg(test)]
mod tests;
