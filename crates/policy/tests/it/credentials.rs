//! Several credentials of one provider.

use policy::Secret;
use policy::health::{Cause, Lease};

use crate::given::{problems, provider, snapshot, snapshot_in};

/// A provider with these credentials, and one model of it.
fn text(keys: &str) -> String {
    format!(
        "providers:\n  lab: {{ profile: openai-compatible, base_url: 'http://lab/v1', {keys} }}\n\
         models:\n  m: lab/m\n"
    )
}

#[test]
fn they_are_read_in_their_order_and_each_has_its_header() {
    let keys = "api_keys: ['${FIRST}', \" k-2 \", k-3], auth: { header: x-key }";
    let snapshot = snapshot_in(&text(keys), &[("FIRST", "k-1")]);
    let lab = provider(&snapshot, "lab");
    assert_eq!(lab.secrets().map(Secret::expose).collect::<Vec<_>>(), ["k-1", "k-2", "k-3"]);
    for (number, expected) in [(0, "k-1"), (1, "k-2"), (2, "k-3"), (9, "k-1")] {
        let (name, value) = lab.header_of_credential(number).unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-key", expected));
        assert!(value.is_sensitive());
    }
}

#[test]
fn what_is_wrong_with_them_is_told_without_them() {
    let many: Vec<String> = (0..65).map(|number| format!("secret-{number}")).collect();
    for (keys, expected) in [
        ("api_key: secret-a, api_keys: [secret-b]".to_owned(), "one of `api_key` and `api_keys`"),
        ("api_keys: [secret-a, '']".to_owned(), "credential 2 of `lab` is empty"),
        ("api_keys: [secret-a, secret-a]".to_owned(), "credential 2 of `lab` stands there before"),
        (format!("api_keys: [{}]", many.join(", ")), "`api_keys` takes at most 64 credentials"),
        ("api_keys: [], auth: bearer".to_owned(), "the provider `lab` has no key"),
        ("api_keys: [secret-a, \"secret\\nb\"]".to_owned(), "cannot be sent in a header"),
    ] {
        let found = problems(&text(&keys));
        assert_eq!(found.len(), 1, "{keys}: {found:?}");
        assert!(found[0].contains(expected) && !found[0].contains("secret-"), "{found:?}");
    }
}

#[test]
fn a_bench_belongs_to_a_credential_and_not_to_its_place() {
    let before = snapshot(&text("api_keys: [k-1, k-2]"));
    let plan = before.plan("m").unwrap();
    let lease = Lease::begin(&plan.targets()[0].live, false, 0).unwrap();
    assert_eq!(lease.credential(), 0);
    let _ = lease.failed(Cause::BadCredential, None, 0);
    for (keys, benched) in [
        ("api_keys: [k-1, k-2]", vec![true, false]),
        ("api_keys: [k-3, k-2, k-1]", vec![false, false, true]),
        ("api_key: k-4", vec![false]),
    ] {
        let mut after = snapshot(&text(keys));
        after.inherit(&before);
        let plan = after.plan("m").unwrap();
        let credentials = &plan.targets()[0].live.credentials;
        let found: Vec<bool> =
            (0..benched.len()).map(|number| credentials.get(number).benched(1).is_some()).collect();
        assert_eq!(found, benched, "{keys}");
    }
}
