//! Routes: where a model goes.

use crate::given::{goes, provider, snapshot, target};

const MODELS: &str = r#"
providers:
  lab: { profile: sglang, models: [small, shared, odd/name] }
  far: { profile: sglang, models: [shared, big] }
models:
  chat: lab/up-model
  fast: { target: far/x/y/z }
  "gpt-*": lab/g-*
  "gpt-4*": far/four*
  "*-mini": far/*-m
  small: far/tiny
  "lab/special": far/own
  "你好 *": lab/*
"#;

#[test]
fn an_exact_name_goes_where_it_says() {
    let snapshot = snapshot(MODELS);
    for (model, expected) in [
        ("chat", "lab/up-model"),
        ("fast", "far/x/y/z"),
        ("small", "far/tiny"),
        ("lab/special", "far/own"),
    ] {
        assert_eq!(goes(&snapshot, model).as_deref(), Ok(expected), "{model}");
    }
}

#[test]
fn a_wildcard_fills_its_star_in_and_the_longest_comes_first() {
    let snapshot = snapshot(MODELS);
    for (model, expected) in [
        ("gpt-3", "lab/g-3"),
        ("gpt-", "lab/g-"),
        ("gpt-4", "far/four"),
        ("gpt-4o", "far/fouro"),
        ("gpt-4-mini", "far/four-mini"),
        ("x-mini", "far/x-m"),
        ("-mini", "far/-m"),
        ("gpt-*", "lab/g-*"),
        ("你好 世界", "lab/世界"),
        ("lab/x-mini", "far/lab/x-m"),
    ] {
        assert_eq!(goes(&snapshot, model).as_deref(), Ok(expected), "{model}");
    }
    assert!(goes(&snapshot, "GPT-4").is_err(), "names are told apart by case");
}

#[test]
fn wildcards_of_equal_weight_are_tried_in_the_order_of_the_file() {
    for (first, second, expected) in [("a*", "*b", "lab/1-xb"), ("*b", "a*", "lab/1-ax")] {
        let text = format!(
            "providers:\n  lab: {{ profile: sglang }}\nmodels:\n  \"{first}\": lab/1-*\n  \"{second}\": lab/2-*\n"
        );
        assert_eq!(goes(&snapshot(&text), "axb").as_deref(), Ok(expected));
    }
}

#[test]
fn a_provider_and_its_model_go_there_as_they_stand() {
    let snapshot = snapshot(MODELS);
    for model in ["lab/small", "far/anything", "lab/a/b/c", "far/far/x", "echo/x", "lab/*", "lab/ "]
    {
        assert_eq!(goes(&snapshot, model).as_deref(), Ok(model));
    }
    for model in ["lab/", "nobody/x", "/x", "LAB/x"] {
        assert!(goes(&snapshot, model).is_err(), "{model}");
    }
}

#[test]
fn a_bare_name_goes_to_the_first_provider_that_lists_it() {
    let snapshot = snapshot(MODELS);
    for (model, expected) in [
        ("shared", "lab/shared"),
        ("big", "far/big"),
        ("odd/name", "lab/odd/name"),
        ("echo", "echo/echo"),
    ] {
        assert_eq!(goes(&snapshot, model).as_deref(), Ok(expected), "{model}");
    }
}

#[test]
fn no_model_and_default_are_the_default_model() {
    let named = snapshot(&format!("{MODELS}  default: lab/usual\n"));
    let catches_all = snapshot(&format!("{MODELS}  \"*\": far/*\n"));
    for model in ["", "default"] {
        assert_eq!(goes(&named, model).as_deref(), Ok("lab/usual"));
        assert_eq!(goes(&catches_all, model).as_deref(), Ok("echo/echo"), "no wildcard takes it");
    }
    assert_eq!(target(named.default_route()), "lab/usual");
    assert_eq!(goes(&catches_all, "anything").as_deref(), Ok("far/anything"));
}

#[test]
fn an_empty_name_in_the_file_is_what_no_model_means() {
    let named = snapshot("providers:\n  lab: { profile: sglang }\nmodels: { \"\": lab/m }\n");
    assert_eq!(goes(&named, "").as_deref(), Ok("lab/m"));
    assert_eq!(goes(&named, "default").as_deref(), Ok("echo/echo"));
}

#[test]
fn a_model_that_goes_nowhere_is_told_with_the_nearest_names() {
    let snapshot = snapshot(MODELS);
    assert_eq!(goes(&snapshot, "chatt").unwrap_err(), ["chat"]);
    assert_eq!(goes(&snapshot, "bigg").unwrap_err(), ["far/big"]);
    assert_eq!(goes(&snapshot, "fazt").unwrap_err(), ["fast"]);
    assert!(goes(&snapshot, "nothing-like-it").unwrap_err().is_empty());
}

#[test]
fn a_route_is_ready_to_be_sent() {
    let snapshot = snapshot(
        "providers:\n  lab: { profile: sglang }\nmodels:\n  a: 'lab/say \"你好\"'\n  b: \"lab/x\\ny\"\n",
    );
    let route = snapshot.route("a").unwrap();
    assert_eq!(&*route.upstream_model, "say \"你好\"");
    assert_eq!(&*route.upstream_json, "\"say \\\"你好\\\"\"");
    assert_eq!(route.target_header.as_bytes(), "lab/say \"你好\"".as_bytes());
    let route = snapshot.route("b").unwrap();
    assert_eq!(&*route.upstream_json, "\"x\\ny\"");
    assert_eq!(route.target_header, "lab", "what no header can hold is left out");
}

#[test]
fn a_direct_route_has_the_providers_own_edits_and_clocks() {
    let snapshot = snapshot(
        "providers:\n  lab: { profile: sglang, request: { drop: [a] }, timeouts: { idle: 7s } }\n",
    );
    let lab = snapshot.provider("lab").unwrap();
    let route = snapshot.direct(lab, "m");
    assert_eq!(target(&route), "lab/m");
    assert_eq!(route.edits, lab.edits);
    assert_eq!(route.clocks, provider(&snapshot, "lab").clocks);
    assert_eq!(route.clocks.idle.as_secs(), 7);
}
