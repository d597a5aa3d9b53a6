//! Tokens of another issuer over real sockets: its keys are fetched, its claims become users and
//! teams, and their limits and budgets bind.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use testkit::ScriptedUpstream;

use crate::client::Reply;
use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};
use crate::keys::base64;

const ISSUER: &str = "https://login.test/";

/// Without padding, in the alphabet of URLs.
fn encode(bytes: impl AsRef<[u8]>) -> String {
    base64(bytes.as_ref(), b"-_")
}

/// An issuer that publishes its keys.
struct Login {
    address: SocketAddr,
    /// Key ids and seeds of what it publishes.
    keys: Arc<Mutex<Vec<(String, u8)>>>,
}

impl Login {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let keys = Arc::new(Mutex::new(vec![("k1".to_owned(), 1)]));
        let published = Arc::clone(&keys);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let keys: Vec<Value> = published.lock().unwrap().iter().map(public).collect();
                let body = json!({ "keys": keys }).to_string();
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                     content-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { address, keys }
    }
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public((id, seed): &(String, u8)) -> Value {
    let x = encode(pair(*seed).public_key().as_ref());
    json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": id, "x": x })
}

fn signed(header: &Value, claims: &Value, seed: u8) -> String {
    let text = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = pair(seed).sign(text.as_bytes());
    format!("{text}.{}", encode(signature.as_ref()))
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// The claims of a token that is good for a while, and more.
fn claims(user: &str, team: &str, more: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "magpie", "sub": user, "team": team,
        "iat": now(), "exp": now() + 600, "models": ["up/*"],
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn token(user: &str, team: &str, more: &Value) -> String {
    let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": "k1" });
    signed(&header, &claims(user, team, more), 1)
}

fn ask(magpie: &Magpie, token: &str, script: &str) -> Reply {
    let value = format!("Bearer {token}");
    let headers = [("authorization", &*value), ("content-type", "application/json")];
    magpie.call("POST", CHAT, &headers, &chat(&format!("up/{script}"), false))
}

/// A Magpie that trusts the issuer and has fetched its keys.
fn start(login: &Login, upstream: &ScriptedUpstream) -> Magpie {
    let more = format!(
        "jwt:
  - issuer: {ISSUER}
    audience: magpie
    algorithm: EdDSA
    jwks_url: \"http://{}/jwks.json\"
    claims: {{ team: team, models: models }}
prices: {{ up/*: {{ input: \"1\", output: \"1\", max_output: 1000 }} }}
users: {{ slow: {{ limits: {{ rpd: 2 }} }} }}
teams: {{ poor: {{ budget: $0.000001/day }}, rich: {{ budget: $5/day }} }}
",
        login.address
    );
    let magpie = Setup::of(&upstream.base_url()).and(&more).start();
    let start = Instant::now();
    while ask(&magpie, &token("probe", "rich", &json!({})), "ok").status() != 200 {
        assert!(start.elapsed() < PATIENCE, "{}", magpie.process.stderr.so_far());
        thread::sleep(Duration::from_millis(5));
    }
    magpie
}

#[test]
fn the_bearer_of_a_token_is_held_to_its_user_and_team() {
    let (login, upstream) = (Login::start(), ScriptedUpstream::start());
    let magpie = start(&login, &upstream);
    // In every form in which a key may come.
    let good = token("ada", "rich", &json!({}));
    for header in ["x-api-key", "api-key", "x-goog-api-key"] {
        let headers = [(header, &*good), ("content-type", "application/json")];
        let reply = magpie.call("POST", CHAT, &headers, &chat("up/ok", true));
        assert_eq!(reply.status(), 200, "{header}");
    }
    let before = upstream.received().len();
    let reply = ask(&magpie, &token("ada", "poor", &json!({})), "ok");
    reply.assert_error(429, "insufficient_quota");
    assert!(reply.message().contains("team `poor`"), "{}", reply.text());
    assert_eq!(upstream.received().len(), before);
    // Two tokens of one user share what the user has.
    let first = token("slow", "rich", &json!({ "jti": "1" }));
    let second = token("slow", "rich", &json!({ "jti": "2", "models": ["up/ok", "x"] }));
    assert_eq!(ask(&magpie, &first, "ok").status(), 200);
    assert_eq!(ask(&magpie, &second, "ok").status(), 200);
    for token in [&first, &second] {
        let reply = ask(&magpie, token, "ok");
        reply.assert_error(429, "rate_limit_exceeded");
        assert!(reply.message().contains("user `slow`"), "{}", reply.text());
    }
    let told = upstream.received();
    assert!(told.iter().all(|it| it.headers.iter().all(|(_, value)| !value.contains("eyJ"))));
}

#[test]
fn no_token_lends_its_rights_to_another_of_the_same_user() {
    let (login, upstream) = (Login::start(), ScriptedUpstream::start());
    let magpie = start(&login, &upstream);
    let narrow = token("ada", "rich", &json!({ "models": ["up/ok"] }));
    let wide = token("ada", "rich", &json!({ "models": ["*"] }));
    let poor = token("ada", "poor", &json!({ "models": ["up/ok"] }));
    for _ in 0..3 {
        ask(&magpie, &narrow, "events:2").assert_error(403, "model_not_allowed");
        assert_eq!(ask(&magpie, &wide, "events:2").status(), 200);
        assert_eq!(ask(&magpie, &narrow, "ok").status(), 200);
        ask(&magpie, &poor, "ok").assert_error(429, "insufficient_quota");
    }
}

#[test]
fn a_token_that_does_not_hold_is_refused_and_nothing_is_sent() {
    let (login, upstream) = (Login::start(), ScriptedUpstream::start());
    let magpie = start(&login, &upstream);
    let before = upstream.received().len();
    let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": "k1" });
    let good = token("ada", "rich", &json!({}));
    let plain = claims("ada", "rich", &json!({}));
    let (front, signature) = good.rsplit_once('.').unwrap();
    let forged = front.rsplit_once('.').unwrap().0;
    let more = encode(claims("ada", "rich", &json!({ "models": ["*"] })).to_string());
    let none = json!({ "alg": "none", "typ": "JWT" });
    let secret = json!({ "alg": "HS256", "typ": "JWT", "kid": "k1" });
    let embedded = json!({ "alg": "EdDSA", "jwk": public(&("k1".to_owned(), 2)) });
    for (name, token) in [
        ("expired", token("ada", "rich", &json!({ "exp": now() - 3600 }))),
        ("not yet", token("ada", "rich", &json!({ "nbf": now() + 3600 }))),
        ("no end", token("ada", "rich", &json!({ "exp": null }))),
        ("an end in words", token("ada", "rich", &json!({ "exp": "2099-01-01" }))),
        ("another audience", token("ada", "rich", &json!({ "aud": "other" }))),
        ("another issuer", token("ada", "rich", &json!({ "iss": "https://login.test" }))),
        ("no user", token("", "rich", &json!({}))),
        ("a user that is no text", token("", "rich", &json!({ "sub": ["ada"] }))),
        ("another key", signed(&header, &plain, 2)),
        ("an unknown key", signed(&json!({ "alg": "EdDSA", "kid": "k9" }), &plain, 1)),
        ("no signature", format!("{front}.")),
        ("other claims", format!("{forged}.{more}.{signature}")),
        ("none", format!("{}.{}.", encode(none.to_string()), encode(plain.to_string()))),
        ("another algorithm", signed(&secret, &plain, 1)),
        ("a key of its own", signed(&embedded, &plain, 2)),
    ] {
        let reply = ask(&magpie, &token, "ok");
        assert_eq!(reply.status(), 401, "{name}: {}", reply.text());
        assert!(["invalid_token", "invalid_api_key"].contains(&&*reply.code()), "{name}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{name}");
        assert!(!reply.text().contains("eyJ"), "{name}: {}", reply.text());
    }
    assert_eq!(upstream.received().len(), before);
    assert_eq!(ask(&magpie, &good, "ok").status(), 200);
    let said = magpie.process.stdout.so_far() + &magpie.process.stderr.so_far();
    assert!(!said.contains("eyJ"), "a token was said:\n{said}");
}

#[test]
fn a_new_key_of_the_issuer_is_fetched_when_a_token_names_it() {
    let (login, upstream) = (Login::start(), ScriptedUpstream::start());
    // Before the first fetch, so that no rest after it is waited for.
    login.keys.lock().unwrap().push(("k2".to_owned(), 2));
    let magpie = start(&login, &upstream);
    let header = json!({ "alg": "EdDSA", "kid": "k2" });
    let token = signed(&header, &claims("ada", "rich", &json!({})), 2);
    assert_eq!(ask(&magpie, &token, "ok").status(), 200);
}

#[test]
fn a_token_of_an_issuer_that_is_trusted_no_more_opens_nothing() {
    let (login, upstream) = (Login::start(), ScriptedUpstream::start());
    let magpie = start(&login, &upstream);
    let good = token("ada", "rich", &json!({}));
    assert_eq!(ask(&magpie, &good, "ok").status(), 200);
    let key = "keys: [{ name: k, key: a-key-of-16-chars }]\n";
    let base = upstream.base_url();
    magpie.reload(&format!("providers:\n  up: {{ base_url: \"{base}\" }}\nopen: true\n{key}"));
    // Open: whoever it is, it is nobody that is known.
    assert_eq!(ask(&magpie, &good, "ok").status(), 200);
    magpie.process.setup.replace(&format!("providers:\n  up: {{ base_url: \"{base}\" }}\n{key}"));
    magpie.process.signal("HUP");
    let start = Instant::now();
    while ask(&magpie, &good, "ok").status() == 200 {
        assert!(start.elapsed() < PATIENCE);
    }
    ask(&magpie, &good, "ok").assert_error(401, "invalid_api_key");
}
