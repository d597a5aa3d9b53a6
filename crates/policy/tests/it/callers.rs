//! Who may call, as written: keys, groups, and who is served without a key.

use policy::directory::Kind;
use policy::{Keyless, build_beside};

use crate::given::{config, problems, problems_in, resolved, snapshot, snapshot_in};

const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[test]
fn keys_and_groups_are_read_with_all_their_terms() {
    let snapshot = snapshot_in(
        &format!(
            "keys:
  - name: ci
    key: ${{KEY_CI}}
    user: ada
    models: [gpt-*, chat]
    operations: [chat, models]
    allow: [10.0.0.0/8, \"::1\"]
    deny: [10.0.9.0/24]
    expires: 2027-12-31
    enabled: false
    limits: {{ rpm: 600, tpm: 200k, concurrency: 20 }}
    budget: ¥50/day
    metadata: {{ cost_center: \"4711\" }}
  - {{ name: hashed, hash: \"{HASH}\" }}
users: {{ ada: {{ team: search, limits: {{ rps: 5 }} }} }}
teams: {{ search: {{ org: acme, budget: [$10/day, $100/month] }} }}
orgs: {{ acme: {{ }} }}
"
        ),
        &[("KEY_CI", "  a-key-of-16-chars  ")],
    );
    let [ci, hashed] = &snapshot.callers.keys[..] else { panic!("two keys") };
    assert_eq!(ci.key.as_ref().unwrap().0.expose(), "a-key-of-16-chars");
    assert_eq!((ci.user.as_deref(), ci.team.as_deref()), (Some("ada"), None));
    assert_eq!(ci.terms.limits.as_ref().unwrap().0.len(), 3);
    assert_eq!(ci.terms.enabled, Some(false));
    assert_eq!(ci.terms.expires.unwrap().0, 1_830_297_600_000);
    assert_eq!(ci.terms.budget.as_ref().unwrap().0[0].amount.to_string(), "¥50");
    assert_eq!(hashed.hash.as_deref(), Some(HASH));
    assert!(hashed.key.is_none());
    let groups: Vec<(Kind, &str)> =
        snapshot.callers.groups.iter().map(|(kind, name, _)| (*kind, name.as_str())).collect();
    assert_eq!(groups, [(Kind::Org, "acme"), (Kind::Team, "search"), (Kind::User, "ada")]);
    assert_eq!(snapshot.callers.groups[1].2.terms.budget.as_ref().unwrap().0.len(), 2);
    assert_eq!(snapshot.keyless, Keyless::Nobody);
}

#[test]
fn a_key_in_the_file_is_not_shown_by_anything() {
    let secret = "a-canary-of-a-key-0815";
    let text = format!("keys: [{{ name: ci, key: {secret} }}]\n");
    let shown = format!("{:?} {:?}", config(&text), snapshot(&text).callers);
    assert!(!shown.contains(secret), "{shown}");
    for wrong in [
        format!("keys: [{{ name: ci, key: {secret}, hash: x }}]\n"),
        format!("keys: [{{ name: ci, key: [{secret}] }}]\n"),
        format!("keys: [{{ key: {secret}, nmae: ci }}]\n"),
        format!("keys: [{{ name: ci, key: {secret}, expires: never }}]\n"),
        format!("keys: [{{ name: a, key: {secret} }}, {{ name: b, key: {secret} }}]\n"),
    ] {
        let told = problems(&wrong).join("\n");
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn every_problem_is_told_at_once_with_its_line() {
    let found = problems(&format!(
        "keys:
  - {{ name: ci, key: short }}
  - {{ name: ci, key: a-key-of-16-chars }}
  - {{ name: none }}
  - {{ name: both, key: b-key-of-16-chars, hash: \"{HASH}\" }}
  - {{ name: odd, hash: \"sha256:12\" }}
  - {{ key: c-key-of-16-chars }}
  - {{ name: again, key: a-key-of-16-chars }}
"
    ));
    let starts = [
        "2:5 the key `ci` is shorter than 16 characters",
        "3:5 two keys are called `ci`",
        "4:5 the key `none` needs one of `key` and `hash`",
        "5:5 the key `both` needs one of `key` and `hash`",
        "6:5 `hash` of the key `odd` is no SHA-256",
        "7:5 a key needs a name",
        "8:5 the keys `ci` and `again` are the same",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found} | {start}");
        assert!(!found.ends_with(" | -"), "no hint: {found}");
    }
}

#[test]
fn one_key_under_two_names_is_told_in_either_form() {
    let (text, hash) = ("test", HASH);
    let upper = hash.to_uppercase().replace("SHA256", "sha256");
    // A key of four characters is too short, and still the same.
    let found = problems(&format!(
        "keys: [{{ name: a, hash: \"{hash}\" }}, {{ name: b, key: {text} }}, \
         {{ name: c, hash: \"{upper}\" }}]\n"
    ));
    let same = found.iter().filter(|told| told.contains("are the same")).count();
    assert_eq!(same, 2, "{found:?}");
}

#[test]
fn a_value_that_cannot_be_is_told_where_it_stands() {
    for (terms, part) in [
        ("limits: { rpn: 5 }", "rpn"),
        ("limits: { rpm: -5 }", "5"),
        ("limits: { rpm: 0 }", "0 lets nothing through"),
        ("budget: 5", "a budget such as"),
        ("budget: \"¥5/fortnight\"", "fortnight"),
        ("allow: [10.0.0.0/33]", "10.0.0.0/33"),
        ("deny: [localhost]", "localhost"),
        ("operations: [chatting]", "chatting"),
        ("expires: soon", "soon"),
        ("models: [\"\"]", "empty"),
        ("enabled: perhaps", "perhaps"),
    ] {
        let text = format!("keys:\n  - name: ci\n    key: a-key-of-16-chars\n    {terms}\n");
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{terms}: {found:?}");
        assert!(found[0].contains(part), "{terms}: {found:?}");
        let line: usize = found[0].split(':').next().unwrap().parse().unwrap();
        assert!((2..=4).contains(&line), "{terms}: {found:?}");
    }
}

#[test]
fn who_can_be_reached_by_others_has_to_say_who_may_call() {
    let key = "keys: [{ name: ci, key: a-key-of-16-chars }]\n";
    let jwt = "jwt: [{ issuer: i, audience: a, algorithm: HS256, secret: 0123456789abcdef0123456789abcdef }]\n";
    for (text, keyless) in [
        ("listen: 127.0.0.1:8000\n".to_owned(), Keyless::UntilKeys),
        ("listen: \"[::1]:8000\"\n".to_owned(), Keyless::UntilKeys),
        (format!("listen: 127.0.0.1:8000\n{key}"), Keyless::Nobody),
        (format!("listen: 0.0.0.0:8000\n{key}"), Keyless::Nobody),
        (format!("listen: 0.0.0.0:8000\n{jwt}"), Keyless::Nobody),
        (format!("listen: 127.0.0.1:8000\n{jwt}"), Keyless::Nobody),
        ("listen: 0.0.0.0:8000\nopen: true\n".to_owned(), Keyless::Everyone),
        (format!("open: true\n{key}"), Keyless::Everyone),
    ] {
        assert_eq!(snapshot(&text).keyless, keyless, "{text}");
    }
    for address in
        ["0.0.0.0:8000", "\"[::]:8000\"", "192.0.2.1:8000", "\"[::ffff:127.0.0.1]:8000\""]
    {
        let text = format!("# who\nlisten: {address}\n");
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("2:9 ") && found[0].contains("open: true"), "{found:?}");
        assert!(found[0].contains("magpie keys new"), "{found:?}");
    }
    assert!(problems_in("", &[("MAGPIE_LISTEN", "0.0.0.0:8000")])[0].contains("can be reached"));
    let opened = [("MAGPIE_LISTEN", "0.0.0.0:8000"), ("MAGPIE_OPEN", "true")];
    assert_eq!(snapshot_in("", &opened).keyless, Keyless::Everyone);
    let half = [("MAGPIE_LISTEN", "0.0.0.0:8000"), ("MAGPIE_OPEN", "no")];
    assert!(resolved("", &half).is_err());
}

#[test]
fn keys_in_the_store_are_keys_too() {
    let environment = crate::given::environment(&[("MAGPIE_DATA", "/data")]);
    let config = policy::load("listen: 0.0.0.0:8000\n", &environment).unwrap();
    let profiles = providers::builtin().unwrap();
    let beside = |there: bool| {
        let look = move |folder: &std::path::Path| there && folder.ends_with("data");
        build_beside(&config, &profiles, &environment, &look)
    };
    assert_eq!(beside(true).ok().unwrap().keyless, Keyless::Nobody);
    assert!(beside(false).is_err());
}
