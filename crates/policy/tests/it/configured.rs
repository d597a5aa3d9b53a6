//! The name of the configuration that a model's name comes from: few, however many are asked for.

use policy::directory::{Directory, GroupConfig, KeyRecord, Kind, Origin, TermsConfig};

use crate::given::{problems, snapshot};

#[test]
fn names_of_the_file_are_their_own_and_those_of_callers_are_none() {
    let text = "
providers:
  lab: { profile: sglang, models: [listed] }
models:
  chat: lab/a
  \"any-*\": lab/*
  \"any-longer-*\": lab/b-*
";
    let snapshot = snapshot(text);
    for (asked, name) in [
        ("chat", Some("chat")),
        ("", Some("default")),
        ("default", Some("default")),
        ("any-thing", Some("any-*")),
        ("any-longer-thing", Some("any-longer-*")),
        ("any-*", Some("any-*")),
        ("lab/listed", Some("lab/listed")),
        ("listed", Some("listed")),
        ("echo", Some("echo")),
        ("lab/passed-on", None),
        ("nobody/listed", None),
        ("nothing", None),
    ] {
        assert_eq!(snapshot.configured_name(asked), name, "{asked}");
        if name.is_some() {
            assert!(snapshot.plan(asked).is_ok(), "{asked} is served");
        }
    }
}

#[test]
fn a_token_for_the_metrics_has_to_be_a_secret() {
    let told = problems("metrics: { token: short }\n");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("1:"), "{told:?}");
    assert!(told[0].contains("`metrics.token` is shorter than 16 characters"), "{told:?}");
    let settings =
        snapshot("metrics: { open: true, token: sixteen-letters-, teams: true }").settings;
    assert!(settings.metrics.open && settings.metrics.teams);
    assert!(!format!("{:?}", settings.metrics).contains("sixteen"), "it cannot be printed");
    let usual = snapshot("").settings.metrics;
    assert!(!usual.open && usual.token.is_none() && !usual.teams);
}

#[test]
fn holders_of_a_kind_are_found_without_the_keys() {
    let directory = Directory::default();
    let record = KeyRecord {
        id: "key_1".into(),
        name: "ci".into(),
        digests: Vec::new(),
        user: None,
        team: Some("search".into()),
        org: None,
        terms: TermsConfig::default(),
    };
    directory.put_key(&record, Origin::Store, 0).unwrap();
    directory.put_group(Kind::Org, "acme", &GroupConfig::default(), Origin::File, 0).unwrap();
    let names = |kinds: &[Kind]| {
        let holders = directory.holders_of(kinds);
        let mut names: Vec<String> = holders.iter().map(|holder| holder.id.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&[Kind::Team, Kind::Org]), ["acme", "search"]);
    assert_eq!(names(&[Kind::Key]), ["key_1"]);
}
