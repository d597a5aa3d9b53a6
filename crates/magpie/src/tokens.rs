//! Tokens of other issuers: who their bearers are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use policy::directory::{Chain, Directory, Holder, KeyRecord, Origin, TermsConfig};
use policy::jwt::{self, Claims, JwtFault};
use policy::limit::LimitsMap;
use policy::{Snapshot, key};
use relay::{TokenRefusal, Tokens};

use crate::jwks::Jwks;

/// Bearers that are known at once. Each costs some 500 bytes.
const MOST_BEARERS: usize = 100_000;
/// Verified tokens that are remembered, so that a signature is checked once. Each costs some 100
/// bytes.
const MOST_TOKENS: usize = 20_000;

/// Knows bearers by their tokens.
pub(crate) struct TokenDesk {
    snapshot: Arc<ArcSwap<Snapshot>>,
    directory: Arc<Directory>,
    jwks: Arc<Jwks>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By the digest of the whole token: until when, and whose it is.
    tokens: HashMap<[u8; 32], (u64, Arc<Holder>)>,
    /// The generation of keys they were verified under: another may not have theirs.
    generation: u64,
    bearers: usize,
}

impl TokenDesk {
    pub(crate) fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        directory: Arc<Directory>,
        jwks: Arc<Jwks>,
    ) -> Self {
        Self { snapshot, directory, jwks, known: Mutex::default() }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
        let id = id(claims);
        let is_new = self.directory.holder(policy::directory::Kind::Key, &id).is_none();
        if is_new {
            let mut known = self.known();
            if known.bearers >= MOST_BEARERS {
                return Err(String::from("There are too many bearers of tokens at once."));
            }
            known.bearers += 1;
        }
        let text = |name: &Option<Box<str>>| name.as_deref().map(str::to_owned);
        let record = KeyRecord {
            id,
            name: claims.user.to_string(),
            digests: Vec::new(),
            user: Some(claims.user.to_string()),
            team: text(&claims.team),
            org: text(&claims.org),
            terms: TermsConfig { models: claims.models.clone(), limits, ..TermsConfig::default() },
        };
        self.directory.put_key(&record, Origin::Named, now_ms)
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
