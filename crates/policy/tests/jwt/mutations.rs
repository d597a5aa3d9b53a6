//! Tokens that were changed, and texts that never were tokens.

use std::sync::{Arc, LazyLock};

use policy::jwt::Issuer;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

use crate::given::{URL_SAFE, base64url, config, issuer, read, signer, token};

type Pair = (Arc<Issuer>, String);

/// An issuer and a good token of it, for one algorithm of each family.
static GOOD: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    ["HS256", "RS256", "ES256", "EdDSA"]
        .map(|algorithm| (issuer(&config(algorithm)), token(algorithm, &json!({}))))
        .into()
});

#[test]
fn no_single_character_can_be_changed() {
    for (issuer, good) in GOOD.iter() {
        assert!(read(good, issuer).is_ok());
        for at in 0..good.len() {
            let mut wrong = good.clone().into_bytes();
            let place = URL_SAFE.iter().position(|letter| *letter == wrong[at]);
            wrong[at] = place.map_or(b'A', |place| URL_SAFE[(place + 1) % 64]);
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(read(&wrong, issuer).is_err(), "{at}");
            assert!(read(&good[..at], issuer).is_err(), "cut at {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn changed_tokens_are_refused(
        pair in select(GOOD.clone()),
        cuts in [any::<Index>(), any::<Index>()],
        put in "[A-Za-z0-9._=-]{0,20}",
    ) {
        let (issuer, good) = pair;
        let mut cuts = cuts.map(|cut| cut.index(good.len() + 1));
        cuts.sort_unstable();
        let changed = format!("{}{put}{}", &good[..cuts[0]], &good[cuts[1]..]);
        prop_assert!(changed == good || read(&changed, &issuer).is_err(), "{changed}");
    }

    #[test]
    fn no_text_is_trouble(text in "\\PC{0,200}", bytes: [Vec<u8>; 3]) {
        for (issuer, _) in GOOD.iter() {
            prop_assert!(read(&text, issuer).is_err());
            let parts = bytes.each_ref().map(|part| base64url(part)).join(".");
            prop_assert!(read(&parts, issuer).is_err());
        }
    }

    /// Signed, so that everything behind the signature is reached.
    #[test]
    fn no_claims_are_trouble(payload in "\\{(\"(exp|nbf|iat|aud|iss|sub|x)\":(1|-1|1e9|\"\"|\\[\\]|null|\\{\\}),?){0,6}\\}") {
        let token = signer("HS256").token(r#"{"alg":"HS256"}"#, &payload);
        prop_assert!(read(&token, &GOOD[0].0).is_err());
    }
}
