//! A provider: its profile, and what the file says instead.

use ::providers::StreamUsage;
use policy::{HttpVersions, Scheme};

use crate::given::{base_url, ids, provider, snapshot, snapshot_in};

#[test]
fn a_provider_starts_from_the_profile_of_its_name() {
    let snapshot = snapshot_in("providers:\n  qianfan: {}\n", &[("QIANFAN_API_KEY", " k-1 \n")]);
    let qianfan = provider(&snapshot, "qianfan");
    assert_eq!(qianfan.profile, "qianfan");
    assert_eq!(qianfan.name, "Baidu Qianfan");
    assert_eq!(base_url(qianfan), "https://qianfan.baidubce.com:443/v2");
    assert_eq!(&*qianfan.origin.authority, "qianfan.baidubce.com");
    assert_eq!(qianfan.credential.as_ref().unwrap().expose(), "k-1");
    assert_eq!(qianfan.region.as_deref(), Some("cn"));
    assert_eq!(qianfan.stream_usage, StreamUsage::OnRequest);
    assert!(qianfan.forward.allows("appid") && !qianfan.forward.allows("cookie"));
    assert_eq!(qianfan.error_marks[0].field, "error_code");
    assert!(qianfan.error_statuses.contains(&("17".into(), 429)));
    assert!(qianfan.models.iter().any(|model| model == "ernie-4.5-turbo-128k"));
    assert_eq!(qianfan.id_header, "qianfan");
}

#[test]
fn a_provider_of_another_name_starts_from_the_profile_it_names() {
    let text = "providers:\n  work: { profile: openai, api_key: sk-work }\n  home: { profile: openai, api_key: sk-home }\n";
    let snapshot = snapshot_in(text, &[("OPENAI_API_KEY", "sk-env")]);
    assert_eq!(ids(&snapshot), ["work", "home", "echo"]);
    for (id, key) in [("work", "sk-work"), ("home", "sk-home")] {
        let found = provider(&snapshot, id);
        assert_eq!(found.profile, "openai");
        assert_eq!(found.credential.as_ref().unwrap().expose(), key);
        assert_eq!(base_url(found), "https://api.openai.com:443/v1");
    }
}

#[test]
fn a_provider_of_an_unknown_name_is_any_openai_compatible_one() {
    let snapshot = snapshot("providers:\n  lab: { base_url: http://10.0.0.5:8000/v1/ }\n");
    let lab = provider(&snapshot, "lab");
    assert_eq!(lab.profile, "openai-compatible");
    assert_eq!(base_url(lab), "http://10.0.0.5:8000/v1");
    assert!(lab.credential_header.is_none() && lab.credential.is_none());
}

#[test]
fn what_the_file_says_replaces_what_the_profile_says() {
    let text = r#"
providers:
  lab:
    profile: qianfan
    api_key: k
    base_url: http://[::1]:9/x/y/
    http: http2
    ca_file: /etc/ca.pem
    headers: { set: { X-A: "1" }, forward: [X-B, X-Y-*] }
    models: [one]
    stream_usage: never_ask
    errors: [{ path: a.b, ok: "1", status: { "7": 418 } }]
    auth: { header: X-Key }
"#;
    let snapshot = snapshot(text);
    let lab = provider(&snapshot, "lab");
    assert_eq!(base_url(lab), "http://::1:9/x/y");
    assert_eq!(&*lab.origin.authority, "[::1]:9");
    assert_eq!(lab.origin.scheme, Scheme::Http);
    assert_eq!(lab.origin.http, HttpVersions::Http2);
    assert_eq!(lab.origin.ca_file.as_deref(), Some("/etc/ca.pem"));
    assert_eq!(lab.headers.len(), 1);
    assert_eq!((lab.headers[0].0.as_str(), lab.headers[0].1.to_str().unwrap()), ("x-a", "1"));
    for (name, passes) in
        [("x-b", true), ("x-y-1", true), ("x-y-", true), ("appid", true), ("x-y", false)]
    {
        assert_eq!(lab.forward.allows(name), passes, "{name}");
    }
    assert_eq!(lab.models, ["one"]);
    assert_eq!(lab.stream_usage, StreamUsage::NeverAsk);
    let mark = &lab.error_marks[0];
    assert_eq!(
        (mark.field.as_str(), mark.inner.as_deref(), mark.ok.as_deref()),
        ("a", Some("b"), Some("1"))
    );
    assert_eq!(lab.error_marks.len(), 1);
    assert_eq!(lab.error_statuses, [("7".into(), 418)]);
    let (name, value) = lab.credential_header.as_ref().unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-key", "k"));
}

#[test]
fn the_providers_of_a_file_replace_those_of_the_environment() {
    let variables = [("OPENAI_API_KEY", "a"), ("DEEPSEEK_API_KEY", "b")];
    let named = snapshot_in("providers:\n  deepseek: {}\n", &variables);
    assert_eq!(ids(&named), ["deepseek", "echo"]);
    let none = snapshot_in("providers: {}\n", &variables);
    assert_eq!(ids(&none), ["echo"]);
    let found = snapshot_in("open: false\n", &variables);
    assert_eq!(ids(&found), ["deepseek", "openai", "echo"]);
}

#[test]
fn the_echo_is_always_there_and_stands_last() {
    let first = snapshot("");
    assert_eq!(ids(&first), ["echo"]);
    let echo = provider(&first, "echo");
    assert_eq!(echo.origin.scheme, Scheme::Echo);
    assert!(first.only_provider().is_none(), "it is no real provider");
    let own = snapshot("providers:\n  echo: {}\n  lab: { base_url: http://h/v1 }\n");
    assert_eq!(ids(&own), ["echo", "lab"]);
    assert_eq!(&*own.only_provider().unwrap().id, "lab");
    assert_eq!(own.real_providers().count(), 1);
    let two =
        snapshot("providers:\n  a: { base_url: http://h/v1 }\n  b: { base_url: http://h/v1 }\n");
    assert!(two.only_provider().is_none());
    assert_eq!(provider(&two, "a").origin, provider(&two, "b").origin, "connections are shared");
}

#[test]
fn every_built_in_profile_makes_a_provider() {
    for (id, profile) in ::providers::builtin().unwrap() {
        let base_url = match &profile.base_url {
            Some(_) => String::new(),
            None => String::from(", base_url: https://h.test/v1"),
        };
        // vLLM's usual port is that of Magpie.
        let text = format!(
            "listen: 127.0.0.1:7999\nproviders:\n  {id}: {{ api_key: sk-test-key{base_url} }}\n"
        );
        let snapshot = snapshot(&text);
        let made = provider(&snapshot, &id);
        assert_eq!(made.profile, id);
        assert!(made.credential_header.is_some(), "{id}");
        assert!(!made.base_path.ends_with('/'), "{id}");
    }
}

#[test]
fn a_profile_without_credential_sends_none_even_if_the_file_gives_an_empty_one() {
    let text = "providers:\n  lab: { profile: sglang, api_key: \"${LAB_KEY:-}\" }\n";
    let none = snapshot(text);
    assert!(provider(&none, "lab").credential_header.is_none());
    let some = snapshot_in(text, &[("LAB_KEY", "k-1")]);
    assert_eq!(provider(&some, "lab").credential.as_ref().unwrap().expose(), "k-1");
}
