//! Problems of meaning: addresses, limits, models, edits.

use crate::given::{problems, problems_in, snapshot};

const LAB: &str = "providers:\n  lab: { profile: sglang }\n";

#[test]
fn an_address_that_is_none_is_told() {
    for address in ["nonsense", "8000", "localhost", "127.0.0.1:99999", "example.com:80", "[::1]"] {
        let found = problems(&format!("# why\nlisten: \"{address}\"\n"));
        assert_eq!(
            found,
            [format!(
                "2:9 `{address}` is not an address to listen on | write for example 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000"
            )]
        );
    }
    let found = problems_in("", &[("MAGPIE_LISTEN", "nonsense")]);
    assert!(found[0].starts_with("0:0 `nonsense` is not an address"), "{found:?}");
}

#[test]
fn an_open_listener_has_to_be_meant() {
    for address in ["0.0.0.0:8000", "[::]:8000", "10.1.2.3:80"] {
        let found = problems(&format!("listen: \"{address}\"\n"));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with(&format!("1:9 {address} can be reached by others")));
        assert!(found[0].contains("`open: true`"), "{found:?}");
        let meant = snapshot(&format!("listen: \"{address}\"\nopen: true\n"));
        assert_eq!(meant.settings.listen.to_string(), address);
    }
    let found = problems_in("", &[("MAGPIE_LISTEN", "0.0.0.0:80")]);
    assert!(found[0].starts_with("0:0 0.0.0.0:80 can be reached"), "{found:?}");
}

#[test]
fn numbers_out_of_range_are_told() {
    for workers in [0, 1025, 1_000_000] {
        assert_eq!(
            problems(&format!("workers: {workers}\n")),
            ["1:10 workers must be 1 to 1024 | leave it out for one per core"]
        );
    }
    assert_eq!(
        problems("limits: { connections: 0 }\n"),
        ["1:9 limits.connections must be at least 1 | leave it out for 10000"]
    );
}

#[test]
fn durations_and_sizes_that_are_none_are_told() {
    for (text, expected) in [
        ("shutdown_grace: 5\n", "1:17 `5` is not a duration; write for example 500ms, 30s, 2m | -"),
        ("shutdown_grace: soon\n", "1:17 `soon` does not begin with a number | -"),
        ("timeouts: { idle: 0s }\n", "1:11 `0s` is out of range | -"),
        (
            "timeouts:\n  total: 3 days\n",
            "2:3 `3 days` is not a duration; write for example 500ms, 30s, 2m | -",
        ),
        ("limits: { body: 10 }\n", "1:9 `10` is not a size; write for example 64KiB, 20MB | -"),
        ("limits: { upload: 0MB }\n", "1:9 `0MB` is out of range | -"),
        (
            "providers:\n  lab: { profile: sglang, timeouts: { connect: fast } }\n",
            "2:37 `fast` does not begin with a number | -",
        ),
        (
            "providers:\n  lab: { profile: sglang }\nmodels:\n  a: { target: lab/m, timeouts: { idle: 1 } }\n",
            "4:33 `1` is not a duration; write for example 500ms, 30s, 2m | -",
        ),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
}

#[test]
fn an_origin_that_is_none_is_told() {
    for origin in ["example.com", "https://example.com/", "https://example.com/app", "null", ""] {
        let found = problems(&format!("cors:\n  origins: [\"*\", \"{origin}\"]\n"));
        assert_eq!(
            found,
            [format!(
                "2:18 `{origin}` is no origin | write scheme://host[:port] without a slash at the end, or *"
            )]
        );
    }
}

#[test]
fn a_list_that_no_header_can_hold_is_told() {
    let found = problems("cors: { methods: [\"GET\\nPUT\"], headers: [\"a\\0\"] }\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|told| told.contains("is no header")), "{found:?}");
}

#[test]
fn a_target_that_is_none_is_told() {
    for (target, place) in
        [("lab", "4:9"), ("lab/", "4:9"), ("\"\"", "4:9"), ("{ target: lab }", "4:19")]
    {
        let found = problems(&format!("{LAB}models:\n  chat: {target}\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(place), "{found:?}");
        assert!(found[0].ends_with("is no target | write provider/model"), "{found:?}");
    }
}

#[test]
fn a_long_model_without_a_target_is_told() {
    let found = problems(&format!("{LAB}models:\n  chat: {{ drop: [a] }}\n"));
    assert_eq!(found, ["4:9 `` is no target | write provider/model"]);
}

#[test]
fn a_target_of_an_unknown_provider_is_told_with_the_nearest_one() {
    let found = problems(&format!("{LAB}models:\n  a: lap/m\n  b: wholly-else/m\n"));
    assert_eq!(
        found,
        [
            "4:6 there is no provider `lap` | did you mean `lab`?",
            "5:6 there is no provider `wholly-else` | name it under providers: where a file has them, only those are served",
        ]
    );
    let found = problems("models:\n  b: wholly-else/m\n");
    assert!(
        found[0].ends_with("| name it under providers, or set the key of wholly-else"),
        "{found:?}"
    );
}

#[test]
fn a_star_on_one_side_only_is_told() {
    for (name, target) in [
        ("gpt-*", "lab/gpt"),
        ("gpt", "lab/*"),
        ("*-*", "lab/*"),
        ("gpt-*", "lab/*-*"),
        ("**", "lab/m"),
    ] {
        let found = problems(&format!("{LAB}models:\n  \"{name}\": \"{target}\"\n"));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert!(found[0].contains("must hold one * each, or none"), "{found:?}");
        assert!(found[0].starts_with("4:"), "{found:?}");
    }
}

#[test]
fn edits_of_what_magpie_decides_are_told() {
    for (edits, field) in [
        ("defaults: { model: x }", "model"),
        ("force: { stream: true }", "stream"),
        ("drop: [stream_options]", "stream_options"),
        ("drop: [messages]", "messages"),
    ] {
        let model = problems(&format!("{LAB}models:\n  a: {{ target: lab/m, {edits} }}\n"));
        let provider = problems(&format!(
            "providers:\n  lab: {{ profile: sglang, request: {{ {edits} }} }}\n"
        ));
        for found in [model, provider] {
            assert_eq!(found.len(), 1, "{found:?}");
            let expected = format!("`{field}` cannot be edited");
            assert!(found[0].contains(&expected), "{found:?}");
        }
    }
}

#[test]
fn a_field_with_two_edits_is_told() {
    for edits in [
        "defaults: { a: 1 }, force: { a: 2 }",
        "defaults: { a: 1 }, drop: [a]",
        "force: { a: 1 }, drop: [a]",
        "drop: [a, a]",
    ] {
        let found = problems(&format!("{LAB}models:\n  m: {{ target: lab/m, {edits} }}\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`a` stands in more than one of"), "{found:?}");
    }
}

#[test]
fn nothing_to_serve_by_default_is_told() {
    let found = problems("providers:\n  echo: { profile: sglang }\n");
    assert_eq!(found, ["0:0 nothing is served by default | add models.default"]);
    let helped = "providers:\n  echo: { profile: sglang }\nmodels: { default: echo/m }\n";
    assert_eq!(&*snapshot(helped).default_route().upstream_model, "m");
}

#[test]
fn all_problems_of_meaning_are_told_at_once() {
    let text = "\
listen: 0.0.0.0:1
shutdown_grace: x
workers: 0
cors: { origins: [x] }
limits: { body: x }
timeouts: { idle: x }
providers:
  lab: { profile: sglang, base_url: x }
  far: { profile: nothing }
  near: { profile: openai }
models:
  a: nobody/m
  b: x
";
    let found = problems(text);
    let places: Vec<&str> = found.iter().map(|told| told.split(' ').next().unwrap()).collect();
    assert_eq!(
        places,
        ["1:9", "2:17", "3:10", "4:19", "5:9", "6:11", "8:37", "9:19", "10:9", "12:6", "13:6"],
        "{found:#?}"
    );
}
