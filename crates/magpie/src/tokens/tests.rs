//! How many tokens and bearers are known at once, and who is forgotten.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use policy::Environment;
use policy::directory::{Chain, Directory, Kind};
use relay::Tokens as _;
use serde_json::json;
use tokio::time::Instant;

use super::{Jwks, MOST_TOKENS, TokenDesk};
use console::store::now_ms;

const SECRET: &str = "a secret that two share, of sixty-four bytes and not one byte less!";

fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = |chunk: &[u8]| {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = move |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..=chunk.len()).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

/// A token of a user, in a team of its own, with a limit.
fn token(user: &str, serial: usize) -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let claims = json!({
        "iss": "test", "aud": "magpie", "exp": since.as_secs() + 600, "jti": serial,
        "sub": user, "team": format!("team of {user}"), "limits": { "rpm": 2 },
    });
    let head = encode(json!({ "alg": "HS256", "typ": "JWT" }).to_string().as_bytes());
    let text = format!("{head}.{}", encode(claims.to_string().as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = encode(hmac::sign(&key, text.as_bytes()).as_ref());
    format!("{text}.{signature}")
}

/// A desk that knows so many bearers at once.
fn desk(most_bearers: usize) -> TokenDesk {
    let text = format!(
        "jwt: [{{ issuer: test, audience: magpie, algorithm: HS256, secret: '{SECRET}', \
         claims: {{ team: team, limits: limits }} }}]"
    );
    let config = policy::load(&text, &Environment::new()).unwrap();
    let profiles = providers::builtin().unwrap();
    let snapshot = policy::build(&config, &profiles, &Environment::new()).unwrap();
    let (snapshot, directory) = (ArcSwap::from_pointee(snapshot), Arc::new(Directory::default()));
    let desk = TokenDesk::new(Arc::new(snapshot), directory, Arc::new(Jwks::new()), Instant::now());
    TokenDesk { most_bearers, ..desk }
}

fn verified(desk: &TokenDesk, token: &str) -> Result<Chain, String> {
    match desk.verify(token, now_ms()).unwrap() {
        Ok(chain) => Ok(chain),
        Err(relay::TokenRefusal::Invalid(why) | relay::TokenRefusal::NotYet(why)) => Err(why),
    }
}

/// Takes one of the two requests that a bearer has a minute.
fn take(desk: &TokenDesk, chain: &Chain) -> bool {
    let now_ns = u64::try_from(desk.epoch.elapsed().as_nanos()).unwrap();
    chain.level(Kind::Key).unwrap().terms.counters[0].take(1, now_ns).is_ok()
}

#[test]
fn beyond_so_many_bearers_those_at_rest_are_forgotten_and_nobody_else() {
    let mut desk = desk(4);
    for user in ["a", "b"] {
        drop(verified(&desk, &token(user, 0)).unwrap());
    }
    let calls = verified(&desk, &token("calls", 0)).unwrap();
    let used = verified(&desk, &token("used", 0)).unwrap();
    assert!(take(&desk, &used) && take(&desk, &used));
    drop(used);
    // Two at rest give way to as many, who take their places.
    let (c, d) = ["c", "d"].map(|user| verified(&desk, &token(user, 0)).unwrap()).into();
    let has = |desk: &TokenDesk, kind, id: &str| desk.directory.holder(kind, id).is_some();
    assert!(!has(&desk, Kind::User, "a") && !has(&desk, Kind::Team, "team of b"));
    assert!(["calls", "used", "c"].iter().all(|user| has(&desk, Kind::User, user)));
    assert_eq!(desk.known().bearers.len(), 4);
    // Nobody else can go: newcomers are refused, those who are known are not.
    desk.known().looked = None;
    let refused = verified(&desk, &token("e", 0)).err().unwrap();
    assert!(refused.contains("too many bearers"), "{refused}");
    let again = verified(&desk, &token("used", 1)).unwrap();
    assert!(!take(&desk, &again), "what it has used is not forgotten");
    drop((calls, again, c, d));
    assert!(verified(&desk, &token("e", 0)).is_err(), "it was looked a moment ago");
    desk.known().looked = None;
    assert!(verified(&desk, &token("e", 0)).is_ok());
    assert!(has(&desk, Kind::User, "used") && !has(&desk, Kind::User, "calls"));
    desk.epoch -= Duration::from_secs(60);
    assert!(take(&desk, &verified(&desk, &token("used", 1)).unwrap()));
}

#[test]
fn no_more_tokens_are_remembered_than_there_is_room_for() {
    let desk = desk(4);
    for serial in 0..=MOST_TOKENS {
        assert!(verified(&desk, &token("a", serial)).is_ok());
        assert!(desk.known().tokens.len() <= MOST_TOKENS);
    }
    assert_eq!(desk.known().tokens.len(), 1, "all are forgotten at once");
    assert_eq!(desk.known().bearers.len(), 1);
}
