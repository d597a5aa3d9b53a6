//! What tests are given: real keys, and tokens signed with them whose every byte is chosen.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use aws_lc_rs::{encoding, hmac};
use policy::jwt::{Claims, Issuer, JwtConfig, JwtFault, verify};
use serde_json::{Value, json};

/// The time of every test, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;
/// The issuer of every test.
pub(crate) const ISSUER: &str = "https://login.example.com/";
/// A secret that is long enough for every HS algorithm.
pub(crate) const SECRET: &str = "correct horse battery staple, and sixteen more words to be safe!";

/// Somebody who can sign.
pub(crate) enum Signer {
    Hmac(hmac::Algorithm),
    Rsa(&'static RsaKeyPair, &'static dyn signature::RsaEncoding),
    Ecdsa(&'static EcdsaKeyPair),
    Ed(&'static Ed25519KeyPair),
}

pub(crate) static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
pub(crate) static OTHER_RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
pub(crate) static P256: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
pub(crate) static P384: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
pub(crate) static ED: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::generate().unwrap());

/// Every algorithm there is.
pub(crate) const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

pub(crate) fn signer(algorithm: &str) -> Signer {
    match algorithm {
        "HS256" => Signer::Hmac(hmac::HMAC_SHA256),
        "HS384" => Signer::Hmac(hmac::HMAC_SHA384),
        "HS512" => Signer::Hmac(hmac::HMAC_SHA512),
        "RS256" => Signer::Rsa(&RSA, &signature::RSA_PKCS1_SHA256),
        "RS384" => Signer::Rsa(&RSA, &signature::RSA_PKCS1_SHA384),
        "RS512" => Signer::Rsa(&RSA, &signature::RSA_PKCS1_SHA512),
        "PS256" => Signer::Rsa(&RSA, &signature::RSA_PSS_SHA256),
        "PS384" => Signer::Rsa(&RSA, &signature::RSA_PSS_SHA384),
        "PS512" => Signer::Rsa(&RSA, &signature::RSA_PSS_SHA512),
        "ES256" => Signer::Ecdsa(&P256),
        "ES384" => Signer::Ecdsa(&P384),
        "EdDSA" => Signer::Ed(&ED),
        other => panic!("{other}"),
    }
}

impl Signer {
    /// The signature of a message; HMAC takes its key from `secret`.
    pub(crate) fn sign_with(&self, secret: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Hmac(algorithm) => {
                hmac::sign(&hmac::Key::new(*algorithm, secret), message).as_ref().to_vec()
            }
            Self::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Self::Ecdsa(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of exactly these texts.
    pub(crate) fn token(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
        let signature = self.sign_with(SECRET.as_bytes(), message.as_bytes());
        format!("{message}.{}", base64url(&signature))
    }
}

/// A good token of this algorithm with these claims beside the usual ones.
pub(crate) fn token(algorithm: &str, claims: &Value) -> String {
    let header = json!({ "alg": algorithm, "typ": "JWT", "kid": "one" });
    signer(algorithm).token(&header.to_string(), &payload(claims))
}

/// The usual claims with these put over them; `null` takes one away.
pub(crate) fn payload(claims: &Value) -> String {
    let mut all = json!({ "iss": ISSUER, "aud": "magpie", "sub": "ada", "exp": NOW + 600 });
    for (name, value) in claims.as_object().unwrap() {
        match value {
            Value::Null => all.as_object_mut().unwrap().remove(name),
            other => all.as_object_mut().unwrap().insert(name.clone(), other.clone()),
        };
    }
    all.to_string()
}

fn encoded(bytes: &[u8], letters: &[u8; 64]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
        let number = number << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            text.push(char::from(letters[number >> (18 - 6 * place) & 63]));
        }
    }
    text
}

pub(crate) const URL_SAFE: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Unpadded base64url.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    encoded(bytes, URL_SAFE)
}

/// A public key as PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let mut body = encoded(der, STANDARD);
    body.push_str(&"=".repeat((4 - body.len() % 4) % 4));
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The public key of an algorithm's signer as DER.
pub(crate) fn public_der(algorithm: &str) -> Vec<u8> {
    fn der(key: &impl AsDer<encoding::PublicKeyX509Der<'static>>) -> Vec<u8> {
        key.as_der().unwrap().as_ref().to_vec()
    }
    match signer(algorithm) {
        Signer::Hmac(_) => panic!("no public key"),
        Signer::Rsa(key, _) => der(key.public_key()),
        Signer::Ecdsa(key) => der(key.public_key()),
        Signer::Ed(key) => der(key.public_key()),
    }
}

pub(crate) fn public_pem(algorithm: &str) -> String {
    pem("PUBLIC KEY", &public_der(algorithm))
}

/// The key of an algorithm's signer as a JSON Web Key.
pub(crate) fn jwk(algorithm: &str, id: &str) -> Value {
    let point = |key: &EcdsaKeyPair, curve: &str| {
        let bytes = key.public_key().as_ref();
        let (x, y) = bytes[1..].split_at(bytes.len() / 2);
        json!({ "kty": "EC", "crv": curve, "kid": id, "x": base64url(x), "y": base64url(y) })
    };
    match signer(algorithm) {
        Signer::Hmac(_) => json!({ "kty": "oct", "kid": id, "k": base64url(SECRET.as_bytes()) }),
        Signer::Rsa(key, _) => {
            let parts = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
            let (n, e) = (base64url(&parts.n), base64url(&parts.e));
            json!({ "kty": "RSA", "use": "sig", "alg": algorithm, "kid": id, "n": n, "e": e })
        }
        Signer::Ecdsa(key) if algorithm == "ES256" => point(key, "P-256"),
        Signer::Ecdsa(key) => point(key, "P-384"),
        Signer::Ed(key) => {
            let x = base64url(key.public_key().as_ref());
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x })
        }
    }
}

/// A configuration of this algorithm, with a secret or a public key.
pub(crate) fn config(algorithm: &str) -> Value {
    let mut config = json!({ "issuer": ISSUER, "audience": "magpie", "algorithm": algorithm });
    match algorithm.starts_with("HS") {
        true => config["secret"] = SECRET.into(),
        false => config["public_key"] = public_pem(algorithm).into(),
    }
    config
}

/// The issuer of a configuration that is right.
pub(crate) fn issuer(config: &Value) -> Arc<Issuer> {
    let config: JwtConfig = serde_json::from_value(config.clone()).unwrap();
    Arc::new(Issuer::new(&config).unwrap_or_else(|problem| panic!("{problem}")))
}

/// Verifies at the time of the tests.
pub(crate) fn read(token: &str, issuer: &Arc<Issuer>) -> Result<Claims, JwtFault> {
    verify(token, &[Arc::clone(issuer)], &|_| None, NOW)
}

/// The name of the fault of a token, or `taken`.
pub(crate) fn verdict(token: &str, issuer: &Arc<Issuer>) -> String {
    match read(token, issuer) {
        Ok(_) => String::from("taken"),
        Err(JwtFault::Claim(name)) => format!("Claim {name}"),
        Err(fault) => format!("{fault:?}").split('(').next().unwrap().to_owned(),
    }
}
