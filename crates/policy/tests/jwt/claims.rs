//! What verified claims have to say, and what is made of them.

use std::sync::Arc;

use policy::jwt::{JwtFault, looks_like_token, verify};
use serde_json::{Value, json};

use crate::given::{ISSUER, NOW, base64url, config, issuer, read, signer, token, verdict};

#[test]
fn a_time_is_a_whole_number() {
    let issuer = issuer(&config("HS256"));
    let wrongs = [
        r#""1900000000""#,
        "1900000000.0",
        "1900000000.5",
        "1.9e9",
        "-1",
        "-1900000000",
        "true",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "253402300800",
        "1e400",
        "null",
        "[]",
        "[1900000000]",
        "{}",
        r#""""#,
        r#""never""#,
    ];
    for name in ["exp", "nbf", "iat"] {
        for wrong in wrongs {
            let rest = format!(r#""iss":"{ISSUER}","aud":"magpie","sub":"ada""#);
            let exp = if name == "exp" { String::new() } else { format!(r#","exp":{}"#, NOW + 9) };
            let payload = format!(r#"{{{rest}{exp},"{name}":{wrong}}}"#);
            let token = signer("HS256").token(r#"{"alg":"HS256"}"#, &payload);
            let said = verdict(&token, &issuer);
            // A number that no JSON reader can hold makes it no JSON.
            let no_json = wrong == "1e400" && said == "Form";
            assert!(no_json || said == format!("Claim {name}"), "{name} {wrong}: {said}");
        }
    }
    assert_eq!(verdict(&token("HS256", &json!({ "exp": null })), &issuer), "Claim exp");
}

#[test]
fn a_token_counts_from_its_beginning_to_its_end() {
    let mut config = config("HS256");
    config["leeway"] = "10s".into();
    let issuer = issuer(&config);
    for (claims, expected) in [
        (json!({ "exp": NOW + 1 }), "taken"),
        (json!({ "exp": NOW - 9 }), "taken"),
        (json!({ "exp": NOW - 10 }), "Expired"),
        (json!({ "exp": 0 }), "Expired"),
        (json!({ "exp": 253_402_300_799_u64 }), "taken"),
        (json!({ "nbf": NOW + 10 }), "taken"),
        (json!({ "nbf": NOW + 11 }), "Early"),
        (json!({ "iat": NOW + 10 }), "taken"),
        (json!({ "iat": NOW + 11 }), "Early"),
        (json!({ "iat": 0, "nbf": 0 }), "taken"),
    ] {
        assert_eq!(verdict(&token("HS256", &claims), &issuer), expected, "{claims}");
    }
    let token = token("HS256", &json!({}));
    for now in [0, 1, u64::MAX] {
        let verified = verify(&token, &[Arc::clone(&issuer)], &|_| None, now);
        assert_eq!(verified.is_ok(), now < 2, "{now}");
    }
}

#[test]
fn an_issuer_is_exactly_the_one_that_is_known() {
    let issuer = issuer(&config("HS256"));
    for wrong in [
        json!(null),
        json!(""),
        json!("https://login.example.com"),
        json!("https://login.example.com//"),
        json!("https://LOGIN.example.com/"),
        json!("https://login.example.com/ "),
        json!("https://login.example.com/\0"),
        json!("https://login.example.com.attacker.example/"),
        json!([ISSUER]),
        json!({ "iss": ISSUER }),
        json!(1),
        json!(true),
    ] {
        let token = token("HS256", &json!({ "iss": wrong }));
        assert_eq!(verdict(&token, &issuer), "Issuer", "{wrong}");
    }
}

#[test]
fn an_audience_names_us_exactly() {
    let mut config = config("HS256");
    let one = issuer(&config);
    config["audience"] = json!(["magpie", "gateway"]);
    let two = issuer(&config);
    for (audience, expected) in [
        (json!("magpie"), "taken"),
        (json!(["other", "magpie"]), "taken"),
        (json!("gateway"), "Audience"),
        (json!(null), "Audience"),
        (json!(""), "Audience"),
        (json!("Magpie"), "Audience"),
        (json!("magpie "), "Audience"),
        (json!("magpie,other"), "Audience"),
        (json!([]), "Audience"),
        (json!([["magpie"]]), "Audience"),
        (json!(["magpie", 1]), "Audience"),
        (json!({ "magpie": true }), "Audience"),
        (json!(true), "Audience"),
        (json!("*"), "Audience"),
    ] {
        let token = token("HS256", &json!({ "aud": audience }));
        assert_eq!(verdict(&token, &one), expected, "{audience}");
    }
    for (audience, expected) in [("magpie", "taken"), ("gateway", "taken"), ("other", "Audience")] {
        assert_eq!(verdict(&token("HS256", &json!({ "aud": audience })), &two), expected);
    }
}

#[test]
fn claims_are_found_by_their_paths() {
    let mut config = config("HS256");
    config["claims"] = json!({
        "user": "email",
        "team": "https://magpie.example.com/team",
        "org": "realm.org.name",
        "models": "magpie.models",
        "limits": "magpie.limits",
    });
    let issuer = issuer(&config);
    let claims = json!({
        "email": "ada@example.com",
        "https://magpie.example.com/team": "search",
        "realm": { "org": { "name": "acme" } },
        "magpie": { "models": ["chat", "gpt-*"], "limits": { "rpm": 60 } },
    });
    let read = read(&token("HS256", &claims), &issuer).unwrap();
    assert_eq!((&*read.user, read.expires_s), ("ada@example.com", NOW + 600));
    assert_eq!((read.team.as_deref(), read.org.as_deref()), (Some("search"), Some("acme")));
    assert_eq!(read.limits, Some(json!({ "rpm": 60 })));
    let models: Vec<String> = read.models.unwrap().into_iter().map(String::from).collect();
    assert_eq!(models, ["chat", "gpt-*"]);
    assert_eq!(read.issuer.name(), ISSUER);
}

#[test]
fn a_path_takes_the_whole_of_itself_for_a_name_first() {
    let mut config = config("HS256");
    config["claims"] = json!({ "user": "a.b.c" });
    let issuer = issuer(&config);
    for (claims, user) in [
        (json!({ "a.b.c": "whole", "a": { "b": { "c": "apart" } } }), Some("whole")),
        (json!({ "a": { "b.c": "half", "b": { "c": "apart" } } }), Some("half")),
        (json!({ "a": { "b": { "c": "apart" } } }), Some("apart")),
        (json!({ "a": { "b": ["c"] } }), None),
        (json!({ "a": "b.c" }), None),
        (json!({ "a.b": { "c": "never" } }), None),
    ] {
        let read = read(&token("HS256", &claims), &issuer);
        assert_eq!(read.ok().map(|read| read.user).as_deref(), user, "{claims}");
    }
}

/// A claim that decides what somebody may do is not taken for granted when it is missing.
#[test]
fn a_claim_that_is_read_has_to_be_there_and_of_its_kind() {
    let mut config = config("HS256");
    config["claims"] =
        json!({ "team": "team", "org": "org", "models": "models", "limits": "limits" });
    let issuer = issuer(&config);
    let good =
        json!({ "sub": "ada", "team": "t", "org": "o", "models": "chat", "limits": { "rpm": 1 } });
    assert_eq!(verdict(&token("HS256", &good), &issuer), "taken");
    let long = "x".repeat(257);
    let no_name = [json!(null), json!(""), json!(1), json!(["t"]), json!("a\nb"), json!(long)];
    let many: Vec<String> = (0..257).map(|number| format!("m{number}")).collect();
    let no_models = [json!(null), json!({}), json!(1), json!([1]), json!([""]), json!([long])];
    let no_limits = [json!(null), json!([]), json!("60"), json!(true)];
    let wrongs: [(&str, Vec<Value>); 5] = [
        ("sub", no_name.to_vec()),
        ("team", no_name.to_vec()),
        ("org", no_name.to_vec()),
        ("models", no_models.into_iter().chain([json!(many), json!([["chat"]])]).collect()),
        ("limits", no_limits.to_vec()),
    ];
    for (name, wrongs) in wrongs {
        for wrong in wrongs {
            let mut claims = good.clone();
            claims[name] = wrong.clone();
            let said = verdict(&token("HS256", &claims), &issuer);
            assert_eq!(said, format!("Claim {name}"), "{wrong}");
        }
    }
}

#[test]
fn no_models_in_a_token_are_no_models() {
    let mut config = config("HS256");
    config["claims"] = json!({ "models": "models" });
    let issuer = issuer(&config);
    let none = read(&token("HS256", &json!({ "models": [] })), &issuer).unwrap();
    assert_eq!(none.models, Some(Vec::new()));
}

#[test]
fn what_is_said_about_a_fault_holds_nothing_of_the_token() {
    let issuer = issuer(&config("HS256"));
    let secret = "canary-4711";
    for token in [
        secret.to_owned(),
        token("HS256", &json!({ "iss": secret })),
        token("HS256", &json!({ "aud": secret })),
        token("HS256", &json!({ "exp": secret })),
        signer("HS256").token(&json!({ "alg": secret }).to_string(), "{}"),
        format!("{}x", token("HS256", &json!({ "sub": secret }))),
    ] {
        let fault = read(&token, &issuer).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains(secret), "{fault:?}");
    }
}

#[test]
fn a_token_is_told_from_a_key_by_its_form() {
    assert!(looks_like_token(&token("HS256", &json!({}))));
    assert!(looks_like_token(&format!("{}.e30.AA", base64url(b"{\"alg\":\"none\"}"))));
    for other in ["", "mk-abc", "a.b.c", "eyJ", "eyJ.eyJ", "eyJ..AA", "eyJ.e30.", "eyJ.e30.AA.AA"] {
        assert!(!looks_like_token(other), "{other}");
    }
    assert!(!looks_like_token(&format!("eyJ.{}.AA", "A".repeat(8 << 10))));
}

#[test]
fn each_issuer_vouches_for_its_own() {
    let first = issuer(&config("HS256"));
    let mut other = config("ES256");
    other["issuer"] = "https://other.example.com".into();
    let issuers = [first, issuer(&other)];
    let read = |token: &str| verify(token, &issuers, &|_| None, NOW);
    let theirs = json!({ "iss": "https://other.example.com" });
    assert_eq!(read(&token("HS256", &json!({}))).unwrap().issuer.name(), ISSUER);
    let taken = read(&token("ES256", &theirs)).unwrap();
    assert_eq!(taken.issuer.name(), "https://other.example.com");
    // One issuer's key proves nothing about another.
    assert!(matches!(read(&token("HS256", &theirs)), Err(JwtFault::Algorithm)));
    assert!(matches!(read(&token("ES256", &json!({}))), Err(JwtFault::Algorithm)));
    assert!(matches!(verify("a.b.c", &[], &|_| None, NOW), Err(JwtFault::Form)));
}
