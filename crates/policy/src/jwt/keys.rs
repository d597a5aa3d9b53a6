//! The keys of an issuer.

use aws_lc_rs::rsa::PublicKey;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde_json::Value;

use crate::json::Unique;

/// Keys in one set. The largest issuers publish about ten.
const MAX_KEYS: usize = 100;
/// Bytes of an RSA modulus; what the library verifies with.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// Different bytes in a secret that somebody has drawn and not typed.
const MIN_DIFFERENT: usize = 8;
/// Secrets that stand in everybody's examples.
const KNOWN_SECRETS: [&str; 2] = [
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
];

/// The published keys of an issuer that fit its algorithm, by their ids.
pub struct KeyRing {
    keys: Vec<(Option<Box<str>>, DecodingKey)>,
}

impl KeyRing {
    /// Reads a JSON Web Key Set. Keys for other purposes and algorithms are left out, as they
    /// belong there.
    ///
    /// # Errors
    /// A sentence, for a text that is no key set, a set without a usable key, with more than 100
    /// keys, or with two usable keys of one id.
    pub(super) fn parse(json: &[u8], algorithm: Algorithm) -> Result<Self, String> {
        match serde_json::from_slice(json) {
            Ok(Unique(set)) => Self::read(&set, algorithm),
            Err(fault) => Err(format!("the key set is no JSON to rely on: {fault}")),
        }
    }

    /// Reads a key set that is in memory; see [`KeyRing::parse`].
    pub(super) fn read(set: &Value, algorithm: Algorithm) -> Result<Self, String> {
        let Some(listed) = set.get("keys").and_then(Value::as_array) else {
            return Err(String::from("the key set has no list `keys`"));
        };
        if listed.len() > MAX_KEYS {
            return Err(format!("the key set has more than {MAX_KEYS} keys"));
        }
        let keys: Vec<_> = listed.iter().filter_map(|key| usable(key, algorithm)).collect();
        if keys.is_empty() {
            return Err(format!("the key set has no usable key for {algorithm:?}"));
        }
        let twice = |at: usize| keys[..at].iter().any(|(id, _)| *id == keys[at].0);
        if (1..keys.len()).any(twice) {
            return Err(String::from("two keys of the set have the same id"));
        }
        Ok(Self { keys })
    }

    /// The key with this id; without one, the only key there is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&DecodingKey> {
        match (id, &self.keys[..]) {
            (None, [(_, key)]) => Some(key),
            (None, _) => None,
            (Some(id), keys) => {
                keys.iter().find(|(known, _)| known.as_deref() == Some(id)).map(|(_, key)| key)
            }
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none, which cannot be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// A key of a set that may verify signatures of this algorithm, and its id.
fn usable(key: &Value, algorithm: Algorithm) -> Option<(Option<Box<str>>, DecodingKey)> {
    let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
    let common = &jwk.common;
    let purpose = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|ops| ops.contains(&KeyOperations::Verify))
        && common.key_algorithm.is_none_or(|it| it == KeyAlgorithm::from(algorithm));
    let family = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(_) => AlgorithmFamily::Ec,
        AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa,
        AlgorithmParameters::OctetKey(_) => AlgorithmFamily::Hmac,
        AlgorithmParameters::OctetKeyPair(_) => AlgorithmFamily::Ed,
        _ => return None,
    };
    if !purpose || family != algorithm.family() {
        return None;
    }
    let decoded = DecodingKey::from_jwk(&jwk).ok()?;
    check(&decoded, algorithm).ok()?;
    Some((jwk.common.key_id.map(Into::into), decoded))
}

/// The key of the HS algorithms.
///
/// # Errors
/// A sentence, for a secret that is too short or not secret.
pub(super) fn from_secret(secret: &str, algorithm: Algorithm) -> Result<DecodingKey, String> {
    if KNOWN_SECRETS.contains(&secret) {
        return Err(String::from("the secret stands in public examples"));
    }
    let key = DecodingKey::from_secret(secret.as_bytes());
    check(&key, algorithm).map(|()| key)
}

/// The public key in a PEM text.
///
/// # Errors
/// A sentence, for a text that holds no public key for this algorithm.
pub(super) fn from_pem(pem: &str, algorithm: Algorithm) -> Result<DecodingKey, String> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(String::from("this is a private key, which should never leave the issuer"));
    }
    if !pem.contains("-----BEGIN PUBLIC KEY-----")
        && !pem.contains("-----BEGIN RSA PUBLIC KEY-----")
    {
        return Err(String::from("the text does not hold `-----BEGIN PUBLIC KEY-----`"));
    }
    let key = match algorithm.family() {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem.as_bytes()),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem.as_bytes()),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem.as_bytes()),
        AlgorithmFamily::Hmac => return Err(format!("{algorithm:?} takes `secret`")),
    };
    let key = key.map_err(|_| format!("the text holds no public key for {algorithm:?}"))?;
    check(&key, algorithm).map(|()| key)
}

/// Whether a key is strong enough and what the algorithm takes. A key that could never verify
/// anything should be found now, and a weak one before somebody else finds it.
fn check(key: &DecodingKey, algorithm: Algorithm) -> Result<(), String> {
    let unusable = || Err(format!("this is no key for {algorithm:?}"));
    match (algorithm, key.kind()) {
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => check_secret(secret, 32),
        (Algorithm::HS384, DecodingKeyKind::SecretOrDer(secret)) => check_secret(secret, 48),
        (Algorithm::HS512, DecodingKeyKind::SecretOrDer(secret)) => check_secret(secret, 64),
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map(drop).or_else(|_| unusable())
        }
        (Algorithm::ES384, DecodingKeyKind::SecretOrDer(point)) => {
            ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).map(drop).or_else(|_| unusable())
        }
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => match point.len() {
            32 => Ok(()),
            _ => unusable(),
        },
        (_, DecodingKeyKind::SecretOrDer(der)) => match PublicKey::from_der(der) {
            Ok(key) => check_modulus(key.modulus_len()),
            Err(_) => unusable(),
        },
        (_, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
            check_modulus(n.iter().skip_while(|byte| **byte == 0).count())
        }
    }
}

fn check_secret(secret: &[u8], least: usize) -> Result<(), String> {
    let mut different = secret.to_vec();
    different.sort_unstable();
    different.dedup();
    match (secret.len() < least, different.len() < MIN_DIFFERENT) {
        (true, _) => {
            Err(format!("the secret has {} bytes; it needs at least {least}", secret.len()))
        }
        (_, true) => Err(String::from("the secret repeats a few characters")),
        _ => Ok(()),
    }
}

fn check_modulus(bytes: usize) -> Result<(), String> {
    match RSA_BYTES.contains(&bytes) {
        true => Ok(()),
        false => Err(format!("the RSA key has {} bits; 2048 to 8192 are taken", bytes * 8)),
    }
}
