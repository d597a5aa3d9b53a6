//! Key sets, written or published.

use std::sync::Arc;

use policy::jwt::{Claims, Issuer, JwtFault, KeyRing, verify};
use serde_json::{Value, json};

use crate::given::{
    ALGORITHMS, ISSUER, NOW, SECRET, base64url, issuer, jwk, signer, token, verdict,
};

fn with_set(algorithm: &str, keys: &[Value]) -> Value {
    json!({
        "issuer": ISSUER,
        "audience": "magpie",
        "algorithm": algorithm,
        "jwks": { "keys": keys },
    })
}

fn published(algorithm: &str) -> Arc<Issuer> {
    issuer(&json!({
        "issuer": ISSUER,
        "audience": "magpie",
        "algorithm": algorithm,
        "jwks_url": "https://login.example.com/jwks",
    }))
}

fn read(keys: &str) -> Result<KeyRing, String> {
    published("RS256").read_keys(keys.as_bytes())
}

#[test]
fn a_written_set_verifies_every_algorithm() {
    for algorithm in ALGORITHMS {
        let issuer = issuer(&with_set(algorithm, &[jwk(algorithm, "zero"), jwk(algorithm, "one")]));
        assert_eq!(verdict(&token(algorithm, &json!({})), &issuer), "taken", "{algorithm}");
        let single = crate::given::issuer(&with_set(algorithm, &[jwk(algorithm, "one")]));
        let header = json!({ "alg": algorithm }).to_string();
        let bare = signer(algorithm).token(&header, &crate::given::payload(&json!({})));
        assert_eq!(verdict(&bare, &single), "taken", "the only key needs no id");
        let other = crate::given::issuer(&with_set(algorithm, &[jwk(algorithm, "two")]));
        assert_eq!(verdict(&token(algorithm, &json!({})), &other), "UnknownKey", "{algorithm}");
    }
}

#[test]
fn a_published_set_is_asked_for_by_its_issuer() {
    let issuer = published("ES256");
    let good = token("ES256", &json!({}));
    let with = |ring: Option<Arc<KeyRing>>| -> Result<Claims, JwtFault> {
        verify(
            &good,
            &[Arc::clone(&issuer)],
            &move |asked| {
                assert_eq!(asked.name(), ISSUER);
                ring.clone()
            },
            NOW,
        )
    };
    assert!(matches!(with(None), Err(JwtFault::NoKeys(_))));
    let ring = |id: &str| {
        let set = json!({ "keys": [jwk("ES256", id), jwk("RS256", "rsa"), jwk("ES384", "p384")] });
        Some(Arc::new(issuer.read_keys(set.to_string().as_bytes()).unwrap()))
    };
    assert_eq!(ring("one").unwrap().len(), 1);
    assert_eq!(&*with(ring("one")).unwrap().user, "ada");
    let Err(JwtFault::UnknownKey(unknown)) = with(ring("two")) else { panic!("taken") };
    assert!(unknown.remote().unwrap().id.contains("https://login.example.com/jwks"));
}

/// A secret has no place in what is published: whoever can have one taken from there signs as the
/// issuer.
#[test]
fn a_set_of_public_keys_takes_no_secret() {
    let secret = json!({ "kty": "oct", "kid": "one", "k": base64url(SECRET.as_bytes()) });
    let set = json!({ "keys": [secret, jwk("RS256", "two")] }).to_string();
    assert_eq!(read(&set).unwrap().len(), 1);
    let only = json!({ "keys": [secret] }).to_string();
    assert_eq!(read(&only).err().unwrap(), "the key set has no usable key for RS256");
}

#[test]
fn keys_for_other_purposes_are_left_out() {
    let good = jwk("RS256", "good");
    for (name, value) in [
        ("use", json!("enc")),
        ("use", json!("other")),
        ("use", json!(1)),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!([])),
        ("key_ops", json!("verify")),
        ("alg", json!("RS512")),
        ("alg", json!("PS256")),
        ("alg", json!("RSA-OAEP")),
        ("alg", json!("HS256")),
        ("kty", json!("EC")),
        ("kty", json!("oct")),
        ("kty", json!("unknown")),
        ("kid", json!(1)),
        ("n", json!(null)),
        ("n", json!("AQAB")),
    ] {
        let mut other = jwk("RS256", "other");
        other[name] = value.clone();
        let set = json!({ "keys": [other, good, null, 1, "key", []] }).to_string();
        let ring = read(&set).unwrap_or_else(|fault| panic!("{name} {value}: {fault}"));
        assert_eq!(ring.len(), 1, "{name} {value}");
    }
    let mut plain = jwk("RS256", "plain");
    for name in ["use", "alg"] {
        plain.as_object_mut().unwrap().remove(name);
    }
    plain["key_ops"] = json!(["verify"]);
    plain["x5t"] = json!("thumbprint");
    let set = json!({ "keys": [plain, good], "more": true }).to_string();
    assert_eq!(read(&set).unwrap().len(), 2);
}

#[test]
fn a_set_that_cannot_be_relied_on_is_refused_whole() {
    let good = jwk("RS256", "good").to_string();
    let many = |count: usize| -> String {
        let keys = (0..count).map(|id| jwk("RS256", &id.to_string()).to_string());
        keys.collect::<Vec<_>>().join(",")
    };
    assert_eq!(read(&format!(r#"{{"keys":[{}]}}"#, many(100))).unwrap().len(), 100);
    for wrong in [
        String::new(),
        String::from("null"),
        String::from("[]"),
        String::from("{}"),
        String::from(r#"{"keys":{}}"#),
        String::from(r#"{"keys":[]}"#),
        String::from("<html>not found</html>"),
        format!("[{good}]"),
        format!(r#"{{"keys":[{good}]"#),
        format!(r#"{{"keys":[{good}]}} x"#),
        format!(r#"{{"keys":[],"keys":[{good}]}}"#),
        format!(r#"{{"keys":[{}]}}"#, good.replacen('{', r#"{"kid":"other","#, 1)),
        format!(r#"{{"keys":[{good},{good}]}}"#),
        format!(r#"{{"keys":[{}]}}"#, many(101)),
        format!(r#"{{"keys":{}"#, "[".repeat(100_000)),
    ] {
        assert!(read(&wrong).is_err(), "{wrong:.100}");
    }
    assert!(published("RS256").read_keys(b"{\"keys\":[\xff]}").is_err());
}

/// Read as bytes, the public key of one algorithm is a secret long enough for another.
#[test]
fn a_key_of_another_kind_is_no_key() {
    for (algorithm, others) in [
        ("HS256", ["RS256", "ES256", "ES384", "EdDSA"]),
        ("RS256", ["HS256", "ES256", "ES384", "EdDSA"]),
        ("EdDSA", ["RS256", "ES256", "ES384", "HS256"]),
    ] {
        for other in others {
            let mut key = jwk(other, "one");
            key.as_object_mut().unwrap().remove("alg");
            let config = serde_json::from_value(with_set(algorithm, &[key])).unwrap();
            let problem =
                Issuer::new(&config).err().unwrap_or_else(|| panic!("{algorithm} {other}"));
            assert!(problem.message.contains("no usable key"), "{problem}");
        }
    }
}
