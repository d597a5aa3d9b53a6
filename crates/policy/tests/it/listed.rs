//! What `GET /v1/models` lists, and the schema of the file.

use crate::given::{snapshot, snapshot_in};

fn names(text: &str) -> Vec<String> {
    let snapshot = snapshot(text);
    snapshot.models().iter().map(|(name, owner)| format!("{name} ({owner})")).collect()
}

#[test]
fn public_names_come_first_in_the_order_of_the_file_then_what_providers_list() {
    let text = "
providers:
  lab: { profile: sglang, models: [z, a, a] }
  far: { profile: sglang, models: [m] }
models:
  zeta: far/m
  \"any-*\": lab/*
  alpha: lab/a
  lab/a: far/m
";
    assert_eq!(
        names(text),
        ["zeta (far)", "alpha (lab)", "lab/a (far)", "lab/z (lab)", "far/m (far)", "echo (echo)"]
    );
}

#[test]
fn the_models_of_a_profile_are_listed() {
    let snapshot = snapshot_in("", &[("XINGHE_API_KEY", "k")]);
    let listed: Vec<&str> = snapshot.models().iter().map(|(name, _)| name.as_str()).collect();
    assert!(listed.contains(&"xinghe/ernie-4.5-turbo-128k"), "{listed:?}");
    assert_eq!(listed.last(), Some(&"echo"));
}

#[test]
fn the_schema_knows_every_option() {
    let schema = policy::config::schema();
    let options = schema["properties"].as_object().unwrap();
    for name in [
        "listen",
        "open",
        "hosts",
        "cors",
        "providers",
        "models",
        "timeouts",
        "limits",
        "metering",
        "log",
        "shutdown_grace",
        "workers",
    ] {
        let option = &options[name];
        assert!(option["description"].is_string(), "{name}: {option}");
    }
    assert_eq!(schema["additionalProperties"], false);
}
