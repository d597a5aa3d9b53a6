//! S26: what an issuer may not be configured with.

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
use policy::config::At;
use policy::jwt::{Issuer, JwtConfig, issuers};
use policy::{Place, Scheme};
use serde_json::{Value, json};

use crate::given::{
    ED, ISSUER, P256, RSA, SECRET, base64url, config, issuer, jwk, pem, public_der, public_pem,
};

fn parsed(config: &Value) -> JwtConfig {
    serde_json::from_value(config.clone()).unwrap_or_else(|fault| panic!("{fault}: {config}"))
}

/// What is wrong with a configuration.
fn wrong(config: &Value) -> String {
    match Issuer::new(&parsed(config)) {
        Ok(_) => panic!("{config} is taken"),
        Err(problem) => problem.message,
    }
}

/// A configuration of this algorithm with its key from `members` alone.
fn keyed(algorithm: &str, members: &Value) -> Value {
    let mut config = json!({ "issuer": ISSUER, "audience": "magpie", "algorithm": algorithm });
    for (name, value) in members.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

#[test]
fn a_secret_is_long_and_secret() {
    let long = &SECRET[..64];
    for (algorithm, least) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        issuer(&keyed(algorithm, &json!({ "secret": long[..least] })));
        for length in [0, 1, 16, least - 1] {
            let said = wrong(&keyed(algorithm, &json!({ "secret": long[..length] })));
            assert_eq!(said, format!("the secret has {length} bytes; it needs at least {least}"));
            let short =
                json!({ "kty": "oct", "kid": "a", "k": base64url(&long.as_bytes()[..length]) });
            let said = wrong(&keyed(algorithm, &json!({ "jwks": { "keys": [short] } })));
            assert_eq!(said, format!("the key set has no usable key for {algorithm}"));
        }
    }
    for poor in ["a".repeat(64), "changeme".repeat(8), "0".repeat(128), "1234567".repeat(10)] {
        let said = wrong(&keyed("HS256", &json!({ "secret": poor })));
        assert_eq!(said, "the secret repeats a few characters", "{poor}");
    }
}

#[test]
fn a_secret_that_everybody_knows_is_refused() {
    let said =
        wrong(&keyed("HS256", &json!({ "secret": "a-string-secret-at-least-256-bits-long" })));
    assert_eq!(said, "the secret stands in public examples");
}

#[test]
fn a_key_comes_from_one_place_that_fits_the_algorithm() {
    let url = "https://login.example.com/jwks";
    let set = json!({ "keys": [jwk("RS256", "one")] });
    let one_of_two = "an HS algorithm takes one of `secret` and `jwks`";
    for members in [
        json!({}),
        json!({ "public_key": public_pem("RS256") }),
        json!({ "jwks_url": url }),
        json!({ "secret": SECRET, "public_key": public_pem("RS256") }),
        json!({ "secret": SECRET, "jwks_url": url }),
        json!({ "secret": SECRET, "jwks": set }),
    ] {
        assert_eq!(wrong(&keyed("HS256", &members)), one_of_two, "{members}");
    }
    let one_of_three = "this algorithm takes one of `public_key`, `jwks` and `jwks_url`";
    for members in [
        json!({}),
        json!({ "secret": SECRET }),
        json!({ "secret": SECRET, "public_key": public_pem("RS256") }),
        json!({ "jwks": set, "jwks_url": url }),
        json!({ "jwks": set, "public_key": public_pem("RS256") }),
    ] {
        assert_eq!(wrong(&keyed("RS256", &members)), one_of_three, "{members}");
    }
}

#[test]
fn nothing_of_an_issuer_is_left_out() {
    for (name, empty) in [
        ("issuer", json!("")),
        ("audience", json!("")),
        ("audience", json!([])),
        ("audience", json!(["magpie", ""])),
    ] {
        let mut config = config("HS256");
        config[name] = empty;
        assert_eq!(wrong(&config), format!("an issuer of tokens has no `{name}`"));
        config.as_object_mut().unwrap().remove(name);
        assert_eq!(wrong(&config), format!("an issuer of tokens has no `{name}`"));
    }
    let mut unnamed = config("HS256");
    unnamed.as_object_mut().unwrap().remove("algorithm");
    assert_eq!(wrong(&unnamed), "an issuer of tokens has no `algorithm`");
    for (name, value) in [
        ("algorithm", json!("none")),
        ("algorithm", json!("hs256")),
        ("algorithm", json!(["HS256", "RS256"])),
        ("algoritm", json!("HS256")),
        ("claims", json!({ "users": "sub" })),
    ] {
        let mut config = config("HS256");
        config[name] = value;
        assert!(serde_json::from_value::<JwtConfig>(config.clone()).is_err(), "{config}");
    }
    for (name, value, said) in [
        ("leeway", json!("6m"), "`leeway` is more than 5m"),
        ("leeway", json!("30"), "`30` is not a duration; write for example 500ms, 30s, 2m"),
        ("claims", json!({ "user": "" }), "a claim has no name"),
        ("claims", json!({ "models": "" }), "a claim has no name"),
    ] {
        let mut config = config("HS256");
        config[name] = value;
        assert_eq!(wrong(&config), said);
    }
}

#[test]
fn a_public_key_is_public_and_of_the_algorithm() {
    let private = |der: &[u8]| pem("PRIVATE KEY", der);
    let rsa: Pkcs8V1Der<'_> = RSA.as_der().unwrap();
    let rsa_private = private(rsa.as_ref());
    let ed = ED.to_pkcs8v1().unwrap();
    let ed_private = private(ed.as_ref());
    let ec: EcPrivateKeyBin<'_> = P256.private_key().as_be_bytes().unwrap();
    let ec_private = pem("EC PRIVATE KEY", ec.as_ref());
    for (algorithm, text) in [("RS256", rsa_private), ("EdDSA", ed_private), ("ES256", ec_private)]
    {
        let said = wrong(&keyed(algorithm, &json!({ "public_key": text })));
        assert_eq!(said, "this is a private key, which should never leave the issuer");
    }
    let certificate = pem("CERTIFICATE", &public_der("RS256"));
    for text in ["", "key", SECRET, certificate.as_str()] {
        let said = wrong(&keyed("RS256", &json!({ "public_key": text })));
        assert_eq!(said, "the text does not hold `-----BEGIN PUBLIC KEY-----`", "{text}");
    }
    let algorithms = ["RS256", "PS512", "ES256", "ES384", "EdDSA"];
    for algorithm in algorithms {
        for other in algorithms {
            // The key of the first two is the same.
            let fits = algorithm == other
                || (algorithm.ends_with("S512") && other == "RS256")
                || (algorithm == "RS256" && other == "PS512");
            let config = keyed(algorithm, &json!({ "public_key": public_pem(other) }));
            assert_eq!(Issuer::new(&parsed(&config)).is_ok(), fits, "{algorithm} {other}");
        }
        let garbled = public_pem(algorithm).replace("\nM", "\nN");
        wrong(&keyed(algorithm, &json!({ "public_key": garbled })));
    }
}

#[test]
fn a_weak_or_broken_key_is_refused() {
    let rsa = |bytes: usize| {
        let n = base64url(&[&[0xc1][..], &vec![0x55; bytes - 1]].concat());
        json!({ "kty": "RSA", "kid": "a", "n": n, "e": "AQAB" })
    };
    let off_curve = json!({
        "kty": "EC", "crv": "P-256", "kid": "a", "x": base64url(&[1; 32]), "y": base64url(&[1; 32]),
    });
    let mut wrong_curve = jwk("ES384", "a");
    wrong_curve["crv"] = "P-256".into();
    let ed = |x: &[u8]| json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": base64url(x) });
    for (algorithm, key) in [
        ("RS256", rsa(64)),
        ("RS256", rsa(128)),
        ("RS256", rsa(255)),
        ("RS256", rsa(1025)),
        ("RS256", json!({ "kty": "RSA", "kid": "a", "n": "", "e": "" })),
        ("RS256", json!({ "kty": "RSA", "kid": "a", "n": "!!", "e": "AQAB" })),
        ("ES256", off_curve),
        ("ES256", wrong_curve),
        ("ES256", jwk("ES384", "a")),
        ("EdDSA", ed(&[1; 31])),
        ("EdDSA", ed(&[])),
    ] {
        let said = wrong(&keyed(algorithm, &json!({ "jwks": { "keys": [key] } })));
        assert_eq!(said, format!("the key set has no usable key for {algorithm}"), "{key}");
    }
    issuer(&keyed("RS256", &json!({ "jwks": { "keys": [rsa(256)] } })));
}

#[test]
fn keys_are_fetched_over_tls_or_from_this_machine() {
    for (url, host, port, target) in [
        ("https://login.example.com/a/jwks.json", "login.example.com", 443, "/a/jwks.json"),
        ("https://login.example.com:8443/?p=1&q=2", "login.example.com", 8443, "/?p=1&q=2"),
        ("https://login.example.com", "login.example.com", 443, "/"),
        ("https://10.0.0.1/k/", "10.0.0.1", 443, "/k/"),
        ("http://localhost:8080/keys", "localhost", 8080, "/keys"),
        ("http://127.0.0.1/keys", "127.0.0.1", 80, "/keys"),
        ("http://127.8.8.8/keys", "127.8.8.8", 80, "/keys"),
        ("http://[::1]:81/keys", "::1", 81, "/keys"),
    ] {
        let issuer = issuer(&keyed("RS256", &json!({ "jwks_url": url })));
        let remote = issuer.remote().unwrap();
        let origin = &remote.server.origin;
        assert_eq!((&*origin.host, origin.port), (host, port));
        assert_eq!(remote.target.as_str(), target);
        let https = origin.scheme == Scheme::Https;
        assert_eq!(https, url.starts_with("https"));
    }
    for url in [
        "",
        "login.example.com/keys",
        "http://login.example.com/keys",
        "http://localhost.attacker.example/keys",
        "http://127.0.0.1.attacker.example/keys",
        "http://10.0.0.1/keys",
        "http://[::ffff:10.0.0.1]/keys",
        "http://0.0.0.0/keys",
        "https://user:secret@login.example.com/keys",
        "https://127.0.0.1@attacker.example/keys",
        "http://localhost@attacker.example/keys",
        "file:///etc/passwd",
        "ftp://localhost/keys",
        "echo:",
        "https://",
        "https:///keys",
        "https://login.example.com:0x50/keys",
    ] {
        let said = wrong(&keyed("RS256", &json!({ "jwks_url": url })));
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn an_issuer_stands_once_and_problems_at_their_places() {
    let at = |line, config: &Value| At { value: parsed(config), place: Place { line, column: 3 } };
    let good = config("HS256");
    let mut other = config("ES256");
    other["issuer"] = "https://other.example.com".into();
    assert_eq!(issuers(&[at(1, &good), at(2, &other)]).unwrap().len(), 2);
    assert!(issuers(&[]).unwrap().is_empty());
    let bad = keyed("HS256", &json!({}));
    let problems = issuers(&[at(1, &good), at(2, &bad), at(3, &good)]).unwrap_err();
    let lines: Vec<u64> = problems.iter().map(|problem| problem.place.line).collect();
    assert_eq!(lines, [2, 3]);
    assert_eq!(problems[1].message, format!("the issuer `{ISSUER}` stands twice"));
}

#[test]
fn an_issuer_prints_its_name_alone() {
    assert_eq!(format!("{:?}", issuer(&config("HS256"))), format!("Issuer({ISSUER:?})"));
}
