//! Secrets: never in a problem, a warning or a printed header.

use crate::given::{resolved, snapshot_in, told};

const SECRET: &str = "sk-very-secret-0123456789";

/// Everything that is said of a text in which `${KEY}` holds the secret.
fn said(text: &str) -> String {
    match resolved(text, &[("KEY", SECRET), ("OPENAI_API_KEY", SECRET)]) {
        Ok(snapshot) => snapshot.warnings.join("\n"),
        Err(problems) => {
            let printed: Vec<String> = problems.iter().map(ToString::to_string).collect();
            [told(&problems), printed].concat().join("\n")
        }
    }
}

#[test]
fn problems_do_not_hold_the_key_of_a_provider() {
    let literal = |text: &str| text.replace("${KEY}", SECRET);
    for text in [
        "providers:\n  openai:\n    api_key: ${KEY}\n    base_url: nonsense\n    opne: 1\n",
        "providers:\n  openai: { api_key: \"${KEY}\", http: x }\n",
        "providers:\n  openai:\n    api_key: [\"${KEY}\"]\n",
        "providers:\n  openai:\n    api_key: { a: \"${KEY}\" }\n",
        "providers:\n  openai:\n    api_key: \"${KEY}\\nmore\"\n",
        "providers:\n  openai:\n    api_key: ${KEY}\n    api_key: ${KEY}\n",
        "providers:\n  openai: \"${KEY}\"\n",
        "providers: ${KEY}\n",
        "providers:\n  openai: { api_key: x, headers: { set: { \"a b\": \"${KEY}\" } } }\n",
        "providers:\n  openai: { api_key: x, headers: { set: { a: \"${KEY}\\n\" } } }\n",
        "providers:\n  openai: { api_key: x, headers: { set: [\"${KEY}\"] } }\n",
        "providers:\n  lab: { profile: sglang, base_url: \"https://h/v1?key=${KEY}\" }\n",
        "providers:\n  lab: { profile: sglang, base_url: \"https://me:${KEY}@h/v1\" }\n",
        "providers:\n  lab: { profile: sglang, base_url: \"ftp://me:${KEY}@h/v1\" }\n",
        "providers:\n  lab: { profile: sglang, base_url: \"https://me:${KEY}@h/ v1\" }\n",
        "providers:\n  lab: { profile: openai, api_key: \"${KEY}\", base_url: \"http://h/v1#${KEY}\" }\n",
        "providers:\n  openai: { auth: { header: \"a b\" }, api_key: \"${KEY}\" }\n",
        "open: ${KEY}\n",
        "workers: ${KEY}\n",
        "log: { format: \"${KEY}\" }\n",
    ] {
        assert!(!said(text).contains("very-secret"), "{text}{}", said(text));
        let is_value_of_an_enum = text.contains("format");
        if !is_value_of_an_enum {
            let text = literal(text);
            assert!(!said(&text).contains("very-secret"), "{text}{}", said(&text));
        }
    }
}

#[test]
fn a_key_that_was_never_closed_is_not_told() {
    for text in [
        format!("providers:\n  openai:\n    api_key: \"{SECRET}\n"),
        format!("providers:\n  openai: {{ api_key: {SECRET}\n"),
        format!("providers:\n  openai:\n    api_key: ab${{{SECRET}\n"),
        format!("providers:\n  openai:\n    api_key: {SECRET}\n   x: y\n"),
    ] {
        assert!(!said(&text).contains("very-secret"), "{}", said(&text));
    }
}

#[test]
fn a_credential_header_is_sensitive() {
    for auth in ["bearer", "optional", "{ header: api-key }"] {
        let text = format!("providers:\n  openai: {{ auth: {auth} }}\n");
        let snapshot = snapshot_in(&text, &[("OPENAI_API_KEY", SECRET)]);
        let provider = snapshot.provider("openai").unwrap();
        let (name, value) = provider.credential_header.as_ref().unwrap();
        assert!(value.is_sensitive());
        assert!(!format!("{value:?}").contains("very-secret"));
        let plain = auth.contains("header");
        assert_eq!(name.as_str(), if plain { "api-key" } else { "authorization" });
        let expected = if plain { SECRET.to_owned() } else { format!("Bearer {SECRET}") };
        assert_eq!(value.to_str().unwrap(), expected);
    }
}

#[test]
fn a_key_sent_in_the_open_is_warned_of() {
    let text = "providers:\n  openai: { base_url: \"http://gateway.lan/v1\" }\n";
    let snapshot = snapshot_in(text, &[("OPENAI_API_KEY", SECRET)]);
    assert_eq!(snapshot.warnings, ["openai: the key travels unencrypted to http://gateway.lan/v1"]);
    for local in
        ["http://127.0.0.1:9/v1", "http://localhost/v1", "http://[::1]:9/v1", "https://x/v1"]
    {
        let text = format!("providers:\n  openai: {{ base_url: \"{local}\" }}\n");
        let snapshot = snapshot_in(&text, &[("OPENAI_API_KEY", SECRET)]);
        assert!(snapshot.warnings.is_empty(), "{local}: {:?}", snapshot.warnings);
    }
}
