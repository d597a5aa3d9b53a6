//! S27, and its relatives.

use serde_json::json;

use crate::given::{
    ALGORITHMS, ISSUER, NOW, OTHER_RSA, SECRET, Signer, URL_SAFE, base64url, config, issuer, jwk,
    payload, public_der, public_pem, signer, token, verdict,
};

#[test]
fn a_token_of_every_algorithm_is_taken_by_its_issuer_and_by_no_other() {
    for own in ALGORITHMS {
        let issuer = issuer(&config(own));
        for other in ALGORITHMS {
            let expected = if own == other { "taken" } else { "Algorithm" };
            assert_eq!(verdict(&token(other, &json!({})), &issuer), expected, "{own} {other}");
        }
    }
}

#[test]
fn no_algorithm_is_none() {
    for algorithm in ["HS256", "RS256", "ES256", "EdDSA"] {
        let issuer = issuer(&config(algorithm));
        let signed = token(algorithm, &json!({}));
        let (_, signature) = signed.rsplit_once('.').unwrap();
        for none in ["none", "None", "NONE", "nOnE", "", " ", "HS256 ", "hs256", "null", "RS1"] {
            let header = base64url(json!({ "alg": none, "typ": "JWT" }).to_string().as_bytes());
            let message = format!("{header}.{}", base64url(payload(&json!({})).as_bytes()));
            assert_eq!(verdict(&format!("{message}.{signature}"), &issuer), "Algorithm", "{none}");
            assert_eq!(verdict(&format!("{message}.AA"), &issuer), "Algorithm", "{none}");
            assert_eq!(verdict(&format!("{message}."), &issuer), "Form", "{none}");
            assert_eq!(verdict(&message, &issuer), "Form", "{none}");
        }
        for odd in [r#"{"typ":"JWT"}"#, r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":1}"#] {
            let token = signer(algorithm).token(odd, &payload(&json!({})));
            assert_eq!(verdict(&token, &issuer), "Header", "{odd}");
        }
    }
}

/// The public key is no secret: a token that is "signed" with it by HMAC must not pass.
#[test]
fn a_public_key_is_never_a_secret() {
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let issuer = issuer(&config(algorithm));
        let public = public_pem(algorithm);
        let secrets: [&[u8]; 4] =
            [public.as_bytes(), public.trim_end().as_bytes(), &public_der(algorithm), b""];
        for secret in secrets {
            // Under its true name, and under the name of the issuer's algorithm.
            for (named, expected) in [("HS256", "Algorithm"), (algorithm, "Signature")] {
                let header = json!({ "alg": named, "typ": "JWT" }).to_string();
                let header = base64url(header.as_bytes());
                let message = format!("{header}.{}", base64url(payload(&json!({})).as_bytes()));
                let signature = signer("HS256").sign_with(secret, message.as_bytes());
                let token = format!("{message}.{}", base64url(&signature));
                assert_eq!(verdict(&token, &issuer), expected, "{algorithm} {named}");
            }
        }
    }
}

#[test]
fn a_wrong_secret_does_not_verify() {
    let issuer = issuer(&config("HS256"));
    let header = base64url(br#"{"alg":"HS256"}"#);
    let message = format!("{header}.{}", base64url(payload(&json!({})).as_bytes()));
    let longer = format!("{SECRET}\0");
    for secret in ["", "secret", "\0", &SECRET[1..], &SECRET.to_uppercase()] {
        let signature = signer("HS256").sign_with(secret.as_bytes(), message.as_bytes());
        let token = format!("{message}.{}", base64url(&signature));
        assert_eq!(verdict(&token, &issuer), "Signature", "{secret:?}");
    }
    let signature = signer("HS256").sign_with(longer.as_bytes(), message.as_bytes());
    let token = format!("{message}.{}", base64url(&signature));
    // HMAC fills a key that is shorter than a block with zeros; this one is a block.
    assert_eq!((SECRET.len(), verdict(&token, &issuer)), (64, String::from("Signature")));
}

#[test]
fn a_token_cannot_bring_its_key_along() {
    let theirs = Signer::Rsa(&OTHER_RSA, &aws_lc_rs::signature::RSA_PKCS1_SHA256);
    let issuer = issuer(&config("RS256"));
    let plain = theirs.token(r#"{"alg":"RS256"}"#, &payload(&json!({})));
    assert_eq!(verdict(&plain, &issuer), "Signature");
    let brought = [
        ("jwk", jwk("RS256", "one")),
        ("jku", json!("https://attacker.example/jwks.json")),
        ("x5u", json!("https://attacker.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("jwk", json!(null)),
    ];
    for (name, value) in brought {
        let mut header = json!({ "alg": "RS256", "typ": "JWT", "kid": "one" });
        header[name] = value;
        // Refused even where the signature is right: nobody honest needs it.
        for signer in [&theirs, &signer("RS256")] {
            let token = signer.token(&header.to_string(), &payload(&json!({})));
            assert_eq!(verdict(&token, &issuer), "Header", "{name}");
        }
    }
}

#[test]
fn a_type_other_than_a_token_of_access_is_refused() {
    let issuer = issuer(&config("HS256"));
    for (kind, expected) in [
        (json!("JWT"), "taken"),
        (json!("jwt"), "taken"),
        (json!("at+jwt"), "taken"),
        (json!("application/at+jwt"), "taken"),
        (json!("JOSE"), "Header"),
        (json!("dpop+jwt"), "Header"),
        (json!("secevent+jwt"), "Header"),
        (json!("logout+jwt"), "Header"),
        (json!("id_token"), "Header"),
        (json!(""), "Header"),
        (json!(["JWT"]), "Header"),
        (json!(null), "Header"),
        (json!(1), "Header"),
    ] {
        let header = json!({ "alg": "HS256", "typ": kind }).to_string();
        let token = signer("HS256").token(&header, &payload(&json!({})));
        assert_eq!(verdict(&token, &issuer), expected, "{kind}");
    }
    let bare = signer("HS256").token(r#"{"alg":"HS256"}"#, &payload(&json!({})));
    assert_eq!(verdict(&bare, &issuer), "taken");
}

#[test]
fn a_key_id_is_compared_and_never_interpreted() {
    let mut config = config("RS256");
    config.as_object_mut().unwrap().remove("public_key");
    config["jwks"] = json!({ "keys": [jwk("RS256", "one"), jwk("RS256", "")] });
    let issuer = issuer(&config);
    let long = "k".repeat(257);
    for (id, expected) in [
        (json!("one"), "taken"),
        (json!(""), "taken"),
        (json!("One"), "UnknownKey"),
        (json!("one "), "UnknownKey"),
        (json!("one\0"), "UnknownKey"),
        (json!("on"), "UnknownKey"),
        (json!("../../../../dev/null"), "UnknownKey"),
        (json!("' UNION SELECT 'secret' --"), "UnknownKey"),
        (json!("|/bin/sh"), "UnknownKey"),
        (json!("https://attacker.example/key"), "UnknownKey"),
        (json!(long), "Header"),
        (json!(null), "Header"),
        (json!(0), "Header"),
        (json!(["one"]), "Header"),
        (json!({ "one": 1 }), "Header"),
    ] {
        let header = json!({ "alg": "RS256", "kid": id }).to_string();
        let token = signer("RS256").token(&header, &payload(&json!({})));
        assert_eq!(verdict(&token, &issuer), expected, "{id}");
    }
    // Of two keys, none is meant by no id.
    let token = signer("RS256").token(r#"{"alg":"RS256"}"#, &payload(&json!({})));
    assert_eq!(verdict(&token, &issuer), "UnknownKey");
}

#[test]
fn no_member_stands_twice() {
    let issuer = issuer(&config("HS256"));
    let good = payload(&json!({}));
    let open = good.trim_end_matches('}');
    let later = NOW + 10_000;
    for twice in [
        format!(r#"{open},"exp":{later}}}"#),
        format!(r#"{open},"\u0065xp":{later}}}"#),
        format!(r#"{open},"exp":null}}"#),
        format!(r#"{open},"iss":"{ISSUER}"}}"#),
        format!(r#"{open},"aud":"magpie"}}"#),
        format!(r#"{open},"sub":"root"}}"#),
        format!(r#"{open},"x":1,"x":1}}"#),
        format!(r#"{open},"x":{{"y":1,"y":2}}}}"#),
        format!(r#"{open},"x":[{{"y":1,"\u0079":2}}]}}"#),
    ] {
        let token = signer("HS256").token(r#"{"alg":"HS256"}"#, &twice);
        assert_eq!(verdict(&token, &issuer), "Form", "{twice}");
    }
    for twice in [
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","\u0061lg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
        r#"{"alg":"HS256","x":{"y":1,"y":1}}"#,
    ] {
        assert_eq!(verdict(&signer("HS256").token(twice, &good), &issuer), "Form", "{twice}");
    }
    let token = signer("HS256").token(r#"{"alg":"HS256","x5t":"a","more":{}}"#, &good);
    assert_eq!(verdict(&token, &issuer), "taken", "what is not known is not heeded");
}

#[test]
fn a_token_has_one_form() {
    let issuer = issuer(&config("HS256"));
    let good = token("HS256", &json!({}));
    let [header, body, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let signed = |header: &str, body: &str| {
        let message = format!("{header}.{body}");
        let signature = signer("HS256").sign_with(SECRET.as_bytes(), message.as_bytes());
        format!("{message}.{}", base64url(&signature))
    };
    assert_eq!(verdict(&signed(header, body), &issuer), "taken");
    for wrong in [
        String::new(),
        String::from("."),
        String::from(".."),
        format!("{header}.{body}"),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!("{good}.{signature}.{signature}"),
        format!(".{good}"),
        format!("{header}..{signature}"),
        format!(" {good}"),
        signed(&format!("{header}="), body),
        signed(&format!("{header}=="), body),
        signed(header, &format!("{body}=")),
        signed(header, &format!("{body}\n")),
        signed(header, &format!("{body}%3D")),
        signed(header, &base64url(b"[]")),
        signed(header, &base64url(b"null")),
        signed(header, &base64url(b"")),
        signed(header, &base64url(format!("{} {{}}", payload(&json!({}))).as_bytes())),
        signed(header, &base64url(format!("\u{feff}{}", payload(&json!({}))).as_bytes())),
        signed(header, &base64url(&[payload(&json!({})).as_bytes(), b"\xff"].concat())),
        signed(header, &base64url(payload(&json!({})).replace("ada", "\u{1}").as_bytes())),
        signed(header, &base64url("[".repeat(5000).as_bytes())),
        signed(header, &base64url(format!("{{\"a\":{}", "[".repeat(4000)).as_bytes())),
        signed(&base64url(br#""HS256""#), body),
        // Signed and true, but too long.
        token("HS256", &json!({ "x": "x".repeat(8 << 10) })),
    ] {
        assert_eq!(verdict(&wrong, &issuer), "Form", "{wrong}");
    }
    assert_eq!(verdict(&token("HS256", &json!({ "x": "x".repeat(5 << 10) })), &issuer), "taken");
    for tail in ["=", "==", " ", "\n", "A", "+/"] {
        assert_eq!(verdict(&format!("{good}{tail}"), &issuer), "Signature", "{tail:?}");
    }
}

/// Base64 leaves bits over at its end: the text that differs in those alone is another text.
#[test]
fn a_signature_is_spelt_one_way() {
    for algorithm in ["HS256", "ES256", "EdDSA", "RS256"] {
        let issuer = issuer(&config(algorithm));
        let good = token(algorithm, &json!({}));
        let spelt = URL_SAFE.iter().filter(|letter| {
            let other = format!("{}{}", &good[..good.len() - 1], char::from(**letter));
            verdict(&other, &issuer) == "taken"
        });
        assert_eq!(spelt.count(), 1, "{algorithm}");
    }
}

#[test]
fn a_signature_of_nothing_is_no_signature() {
    for algorithm in ["HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let issuer = issuer(&config(algorithm));
        let good = token(algorithm, &json!({}));
        let (message, _) = good.rsplit_once('.').unwrap();
        for length in [1, 16, 31, 32, 33, 48, 63, 64, 65, 96, 128, 255, 256, 257, 512] {
            for byte in [0, 1, 0x30, 0xff] {
                let forged = format!("{message}.{}", base64url(&vec![byte; length]));
                assert_eq!(verdict(&forged, &issuer), "Signature", "{algorithm} {length} {byte}");
            }
        }
    }
}

/// The order of the group can be added to the second half of an Ed25519 signature; what checks no
/// range takes both.
#[test]
fn a_stretched_signature_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let issuer = issuer(&config("EdDSA"));
    let good = token("EdDSA", &json!({}));
    let (message, _) = good.rsplit_once('.').unwrap();
    let mut signature = signer("EdDSA").sign_with(b"", message.as_bytes());
    let with = |signature: &[u8]| format!("{message}.{}", base64url(signature));
    assert_eq!(verdict(&with(&signature), &issuer), "taken");
    let mut carry = 0_u16;
    for (byte, more) in signature[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(more);
        *byte = u8::try_from(carry & 0xff).unwrap();
        carry >>= 8;
    }
    assert_eq!(verdict(&with(&signature), &issuer), "Signature");
}

/// ECDSA signatures of tokens are two numbers of fixed length, not the DER of certificates.
#[test]
fn a_signature_in_der_is_refused() {
    let issuer = issuer(&config("ES256"));
    let good = token("ES256", &json!({}));
    let (message, _) = good.rsplit_once('.').unwrap();
    let fixed = signer("ES256").sign_with(b"", message.as_bytes());
    let number = |half: &[u8]| [&[2, 33, 0][..], half].concat();
    let der = [&[0x30, 70][..], &number(&fixed[..32]), &number(&fixed[32..])].concat();
    let token = format!("{message}.{}", base64url(&der));
    assert_eq!(verdict(&token, &issuer), "Signature");
}
