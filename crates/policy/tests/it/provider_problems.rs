//! Problems of providers.

use crate::given::{base_url, ids, problems, provider, snapshot, snapshot_in};

#[test]
fn an_unknown_profile_is_told_with_the_nearest_ones() {
    assert_eq!(
        problems("providers:\n  lab: { profile: opena }\n"),
        ["2:19 there is no profile `opena` | did you mean openai or openai-compatible?"]
    );
    assert_eq!(
        problems("providers:\n  lab: { profile: wholly-different }\n"),
        ["2:19 there is no profile `wholly-different` | `magpie providers` lists them"]
    );
}

#[test]
fn a_name_that_no_provider_can_have_is_told() {
    for name in ["a/b", "a*", "", "a\\nb"] {
        let found = problems(&format!("providers:\n  \"{name}\": {{ base_url: http://h/v1 }}\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("cannot name a provider | use letters and dashes"), "{found:?}");
    }
    let snapshot = snapshot("providers:\n  \"my lab.2_X\": { base_url: http://h/v1 }\n");
    assert!(snapshot.provider("my lab.2_X").is_some());
}

#[test]
fn a_provider_without_a_base_url_is_told_how_to_get_one() {
    assert_eq!(
        problems("providers:\n  lab: { models: [m] }\n"),
        ["2:8 the provider `lab` needs a base_url | add base_url, or set LAB_BASE_URL"]
    );
    assert_eq!(
        problems("providers:\n  my-lab: { profile: openai-compatible }\n"),
        ["2:11 the provider `my-lab` needs a base_url | add base_url, or set MY_LAB_BASE_URL"]
    );
    assert_eq!(
        problems("providers:\n  azure: { api_key: sk-x }\n"),
        [
            "2:10 the provider `azure` needs a base_url | add base_url, or set AZURE_BASE_URL or AZURE_OPENAI_BASE_URL"
        ]
    );
}

#[test]
fn a_base_url_that_is_none_is_told() {
    for (url, what) in [
        ("", "is not a URL"),
        ("h/v1", "is not a URL"),
        ("h", "must begin with http:// or https://"),
        ("localhost:8000/v1", "is not a URL"),
        ("ftp://h/v1", "must begin with http:// or https://"),
        ("http://", "is not a URL"),
        ("http://h h/v1", "is not a URL"),
        ("http://h:99999/v1", "has no port from 1 to 65535"),
        ("http://h:x/v1", "has no port from 1 to 65535"),
        ("https://me@h/v1", "must not hold a user name or password"),
        ("https://h/v1?a=b", "must not hold a query"),
        ("https://h/v1/chat/completions", "must end before /chat/completions, so at `/v1`"),
        ("https://h/v1/chat/completions/", "must end before /chat/completions"),
    ] {
        let found = problems(&format!(
            "providers:\n  lab:\n    profile: sglang\n    base_url: \"{url}\"\n"
        ));
        assert_eq!(found.len(), 1, "{url}: {found:?}");
        assert!(found[0].starts_with("4:15 "), "{url}: {found:?}");
        assert!(found[0].contains(what), "{url}: {found:?}");
        assert!(found[0].contains("https://host/v1"), "{url}: {found:?}");
    }
}

#[test]
fn a_wrong_variable_leaves_its_provider_out_and_the_others_in() {
    for wrong in [
        ("OLLAMA_HOST", "http://h:x"),
        ("OPENAI_API_KEY", "sk-1\nsk-2"),
        ("GROQ_BASE_URL", "http://127.0.0.1:8000/v1"),
    ] {
        let snapshot = snapshot_in("", &[wrong, ("GROQ_API_KEY", "k"), ("DEEPSEEK_API_KEY", "k")]);
        assert!(ids(&snapshot).contains(&"deepseek"), "{wrong:?}");
        let told: Vec<&String> =
            snapshot.warnings.iter().filter(|told| told.contains("left out")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(!told[0].contains("sk-"), "{told:?}");
    }
}

#[test]
fn a_base_url_without_a_scheme_has_the_usual_one_and_keeps_its_path() {
    for (variable, text, url) in [
        ("XINGHE_BASE_URL", "app.aistudio-app.com/v1", "https://app.aistudio-app.com:443/v1"),
        ("XINGHE_BASE_URL", "h:444", "https://h:444/llm/lmapi/v3"),
        ("OLLAMA_HOST", "10.0.0.5/x", "http://10.0.0.5:11434/x"),
    ] {
        let snapshot = snapshot_in("", &[(variable, text), ("XINGHE_API_KEY", "k")]);
        let id = if variable == "OLLAMA_HOST" { "ollama" } else { "xinghe" };
        assert_eq!(base_url(provider(&snapshot, id)), url);
    }
}

#[test]
fn a_provider_without_a_key_is_told_how_to_give_one() {
    assert_eq!(
        problems("providers:\n  openai: { models: [m] }\n"),
        ["2:11 the provider `openai` has no key | set OPENAI_API_KEY, or write api_key"]
    );
    assert_eq!(
        problems("providers:\n  openai: { api_key: \"\" }\n"),
        ["2:11 the provider `openai` has no key | set OPENAI_API_KEY, or write api_key"]
    );
    assert_eq!(
        problems("providers:\n  lab: { auth: bearer, base_url: http://h/v1 }\n"),
        ["2:8 the provider `lab` has no key | write api_key, or `auth: optional` if it needs none"]
    );
    for text in [
        "providers:\n  lab: { base_url: http://h/v1 }\n",
        "providers:\n  openai: { auth: optional }\n",
    ] {
        assert_eq!(snapshot(text).providers.len(), 2, "{text}");
    }
}

#[test]
fn a_key_that_no_header_can_hold_is_told_without_it() {
    for text in [
        "providers:\n  openai: { api_key: \"sk-1\\nsk-2\" }\n",
        "providers:\n  openai: { api_key: sk-1, auth: { header: \"a b\" } }\n",
    ] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("2:11 the key of `openai` cannot be sent in a header"),
            "{found:?}"
        );
        assert!(!found[0].contains("sk-"), "{found:?}");
    }
}

#[test]
fn a_header_that_is_none_is_told() {
    let text = "providers:\n  lab:\n    profile: sglang\n    headers:\n      set: { \"a b\": x, ok: y, bad: \"x\\ny\" }\n";
    let found = problems(text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("`a b` is no header"), "{found:?}");
    assert!(found[1].contains("`bad` is no header"), "{found:?}");
}

#[test]
fn a_header_of_the_connection_or_a_credential_is_never_let_through() {
    for name in [
        "Host",
        "connection",
        "content-length",
        "Transfer-Encoding",
        "te",
        "expect",
        "Authorization",
        "proxy-authorization",
        "Cookie",
        "x-api-key",
        "*",
        "x-*",
        "c*",
        "content-*",
    ] {
        let text = format!(
            "providers:\n  lab: {{ profile: sglang, headers: {{ forward: [\"{name}\"] }} }}\n"
        );
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let told = format!("2:8 the header `{name}` is not forwarded");
        assert!(found[0].starts_with(&told), "{found:?}");
    }
    for name in ["host", "Connection", "content-length", "transfer-encoding"] {
        let text = format!(
            "providers:\n  lab: {{ profile: sglang, headers: {{ set: {{ {name}: x }} }} }}\n"
        );
        assert!(problems(&text)[0].contains(&format!("`{name}` is no header")), "{name}");
    }
}

#[test]
fn the_address_of_magpie_itself_is_no_provider() {
    for (listen, url) in [
        ("127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("127.0.0.1:8000", "http://localhost:8000/v1"),
        ("\"[::1]:80\"", "http://localhost/v1"),
        ("0.0.0.0:9000\nopen: true", "http://127.0.0.1:9000/v1"),
    ] {
        let text = format!("listen: {listen}\nproviders:\n  lab: {{ base_url: \"{url}\" }}\n");
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        let told = format!("`{url}` is the address Magpie itself listens on");
        assert!(found[0].contains(&told), "{found:?}");
    }
    snapshot("providers:\n  lab: { base_url: \"http://127.0.0.1:8001/v1\" }\n");
}

#[test]
fn a_model_of_a_provider_that_has_a_problem_is_none_of_its_own() {
    let text = "providers:\n  lab: { profile: sglang, base_url: x }\nmodels:\n  a: lab/m\n";
    let found = problems(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("2:37 "), "{found:?}");
}
