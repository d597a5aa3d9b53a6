//! Limits of models hold for whoever asks for the same model under another name.

use policy::Snapshot;
use policy::directory::Kind;

use crate::given::snapshot;

const MODELS: &str = r#"
providers:
  lab: { profile: sglang, models: [big, small, shared], limits: { rpm: 9 } }
  far: { profile: sglang, models: [big] }
models:
  large: { target: lab/big, limits: { rpm: 1 } }
  costly: { target: lab/big, budget: $1/day }
  free: lab/big
  tiny: { target: lab/small }
  gpt-special: { target: lab/g-special, limits: { rpm: 1 } }
  "gpt-*": { target: lab/g-*, limits: { rpm: 2 } }
  "gpt-4*": { target: lab/g-4*, limits: { rpm: 3 } }
  "any-*": lab/*
"#;

/// The names of the models whose limits a request for `model` counts for.
fn held_by(snapshot: &Snapshot, model: &str) -> Vec<String> {
    let route = snapshot.route(model).unwrap();
    let models = route.holders.iter().filter(|holder| holder.kind == Kind::Model);
    models.map(|holder| holder.id.to_string()).collect()
}

#[test]
fn a_direct_name_counts_for_every_model_of_its_target() {
    let snapshot = snapshot(MODELS);
    for (model, holders) in [
        // By a name of the file: its own terms, and only these.
        ("large", vec!["large"]),
        ("costly", vec!["costly"]),
        ("free", vec![]),
        // By the provider's name, bare, or through a wildcard: those of the same target.
        ("lab/big", vec!["costly", "large"]),
        ("big", vec!["costly", "large"]),
        ("any-big", vec!["costly", "large"]),
        ("far/big", vec![]),
        ("lab/small", vec![]),
        ("lab/Big", vec![]),
        // What a wildcard sends there counts for the wildcard.
        ("gpt-3", vec!["gpt-*"]),
        ("lab/g-3", vec!["gpt-*"]),
        ("gpt-4o", vec!["gpt-4*"]),
        ("lab/g-4o", vec!["gpt-4*"]),
        ("lab/g-special", vec!["gpt-special"]),
        ("far/g-3", vec![]),
    ] {
        assert_eq!(held_by(&snapshot, model), holders, "{model}");
        assert_eq!(held_by(&snapshot, model), holders, "{model}, remembered");
        let provider = snapshot.route(model).unwrap().provider.holder.is_some();
        let all = snapshot.route(model).unwrap().holders.len();
        assert_eq!(all, holders.len() + usize::from(provider), "{model}: nobody twice");
    }
}

#[test]
fn the_default_that_the_file_does_not_name_counts_too() {
    let text = r#"
providers:
  deepseek: { api_key: sk-0123456789 }
models:
  held: { target: TARGET, limits: { rpm: 1 } }
"#;
    let free = snapshot(&text.replace("TARGET", "deepseek/some-other"));
    assert_eq!(held_by(&free, "default"), [""; 0]);
    let default = &free.default_route().upstream_model;
    let text = text.replace("TARGET", &format!("deepseek/{default}"));
    for model in ["", "default"] {
        assert_eq!(held_by(&snapshot(&text), model), ["held"]);
    }
    let named = format!("{text}  default: deepseek/{default}\n");
    assert_eq!(held_by(&snapshot(&named), "default"), [""; 0], "a name of the file");
}

/// A provider that is named by a header, without a model that is known, has no model's limits.
#[test]
fn where_no_model_is_known_no_model_counts() {
    let snapshot =
        snapshot(&MODELS.replace("any-*\": lab/*", "*\": { target: lab/*, limits: { rpm: 1 } }"));
    let lab = snapshot.provider("lab").unwrap();
    assert_eq!(snapshot.direct(lab, "").holders.len(), 1, "the provider");
    assert_eq!(snapshot.direct(lab, "x").holders.len(), 2);
}
