//! The directory of callers: who counts for whom, what a change keeps, and what a million keys
//! cost.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::directory::{
    Chain, Directory, GroupConfig, Holder, KeyRecord, Kind, Origin, TermsConfig,
};
use policy::key::{Digest, Pepper, sha256};

/// Terms as written.
fn terms(json: &str) -> TermsConfig {
    serde_json::from_str(json).unwrap()
}

fn group(json: &str) -> GroupConfig {
    serde_json::from_str(json).unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::from(sha256(text.as_bytes()))
}

/// A key of this id whose text is its name.
fn key(id: &str, name: &str, json: &str) -> KeyRecord {
    KeyRecord {
        id: id.to_owned(),
        name: name.to_owned(),
        digests: vec![(digest(id), None)],
        terms: terms(json),
        ..KeyRecord::default()
    }
}

fn put(directory: &Directory, record: &KeyRecord) -> Arc<Holder> {
    directory.put_key(record, Origin::File, 0).unwrap()
}

/// The ids of a chain: key, user, team, org.
fn ids(holder: &Arc<Holder>) -> [Option<String>; 4] {
    let chain = Chain::from(holder);
    Kind::CALLERS.map(|kind| chain.id(kind).map(ToString::to_string))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

const LIMITED: &str = r#"{"limits": {"rpm": 10}, "budget": "$1/day"}"#;

/// Uses four requests and a tenth of a dollar, and keeps as much reserved.
fn use_some(holder: &Holder) {
    let terms = holder.terms();
    terms.counters[0].take(4, 1).unwrap();
    terms.accounts[0].reserve(200_000_000, 1).unwrap();
    assert!(terms.accounts[0].settle(100_000_000, 100_000_000, 1).is_empty());
}

/// What is left of the first limit, and spent and reserved of the first budget.
fn standing(holder: &Holder) -> (u64, u64, u64) {
    let terms = holder.terms();
    let budget = terms.accounts[0].standing(1);
    (terms.counters[0].standing(1).remaining, budget.spent, budget.reserved)
}

const USED: (u64, u64, u64) = (6, 100_000_000, 100_000_000);

#[test]
fn a_chain_goes_from_the_key_to_those_it_or_its_user_or_team_names() {
    let directory = Directory::default();
    let put_group = |kind, id, json: &str| {
        directory.put_group(kind, id, &group(json), Origin::File, 0).unwrap();
    };
    put_group(Kind::User, "ada", r#"{"team": "search"}"#);
    put_group(Kind::Team, "search", r#"{"org": "acme"}"#);
    put_group(Kind::User, "loner", "{}");
    for (user, team, org, expected) in [
        ("", "", "", [some("k"), None, None, None]),
        ("ada", "", "", [some("k"), some("ada"), some("search"), some("acme")]),
        ("", "search", "", [some("k"), None, some("search"), some("acme")]),
        ("ada", "ads", "", [some("k"), some("ada"), some("ads"), None]),
        ("ada", "ads", "beta", [some("k"), some("ada"), some("ads"), some("beta")]),
        ("loner", "", "beta", [some("k"), some("loner"), None, some("beta")]),
        ("new", "", "", [some("k"), some("new"), None, None]),
    ] {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let record = KeyRecord {
            user: named(user),
            team: named(team),
            org: named(org),
            ..key("k", "k", "{}")
        };
        assert_eq!(ids(&put(&directory, &record)), expected);
    }
}

#[test]
fn what_is_named_before_it_is_known_counts_from_then_on() {
    let directory = Directory::default();
    let record = KeyRecord { user: some("ada"), ..key("k", "k", "{}") };
    let holder = put(&directory, &record);
    assert_eq!(ids(&holder), [some("k"), some("ada"), None, None]);
    let config = group(r#"{"team": "search", "models": ["m"]}"#);
    directory.put_group(Kind::User, "ada", &config, Origin::Store, 0).unwrap();
    assert_eq!(ids(&holder), [some("k"), some("ada"), some("search"), None]);
    let chain = Chain::from(&holder);
    assert!(!chain.level(Kind::User).unwrap().terms.scope.allows_model("other"));
    // Taken out it counts for nothing, and is itself again when it returns.
    directory.remove(Kind::User, "ada");
    assert!(Chain::from(&holder).levels().all(|level| level.terms.scope.allows_model("other")));
    directory.put_group(Kind::User, "ada", &config, Origin::Store, 0).unwrap();
    assert!(!Chain::from(&holder).levels().all(|level| level.terms.scope.allows_model("other")));
}

#[test]
fn a_change_of_terms_forgets_nothing_that_stayed_the_same() {
    for changed in [
        LIMITED,
        r#"{"limits": {"rpm": 10, "tpm": 5}, "budget": "$1/day", "models": ["m"]}"#,
        r#"{"limits": {"rpm": 10}, "budget": "$1/day", "enabled": false}"#,
    ] {
        let directory = Directory::default();
        let holder = put(&directory, &key("k", "k", LIMITED));
        use_some(&holder);
        let again = put(&directory, &key("k", "k", changed));
        assert!(Arc::ptr_eq(&holder, &again));
        assert_eq!(standing(&holder), USED, "{changed}");
    }
    let directory = Directory::default();
    let holder = put(&directory, &key("k", "k", LIMITED));
    use_some(&holder);
    // Another limit begins anew, another amount of the same budget goes on.
    put(&directory, &key("k", "k", r#"{"limits": {"rpm": 20}, "budget": "$3/day"}"#));
    assert_eq!(standing(&holder), (20, USED.1, USED.2));
    // Another period is another budget.
    put(&directory, &key("k", "k", r#"{"limits": {"rpm": 20}, "budget": "$3/month"}"#));
    assert_eq!(standing(&holder), (20, 0, 0));
}

#[test]
fn another_name_or_another_digest_is_no_fresh_start() {
    let directory = Directory::default();
    use_some(&put(&directory, &key("k", "old name", LIMITED)));
    let renamed = put(&directory, &key("k", "new name", LIMITED));
    assert_eq!(&*renamed.name, "new name");
    assert_eq!(standing(&renamed), USED);
    let mut rotated = key("k", "new name", LIMITED);
    rotated.digests = vec![(digest("new"), None), (digest("k"), Some(1000))];
    put(&directory, &rotated);
    let by = |text: &str, now_ms| directory.find(&digest(text), now_ms);
    assert_eq!(standing(&by("new", 0).unwrap()), USED);
    assert!(by("k", 999).is_some());
    assert!(by("k", 1000).is_none(), "the overlap is over");
    assert!(by("new", u64::MAX).is_some());
    assert_eq!(directory.key_count(), 2);
    rotated.digests.pop();
    put(&directory, &rotated);
    assert!(by("k", 0).is_none());
    assert_eq!(directory.key_count(), 1);
}

#[test]
fn a_key_that_is_taken_out_lets_nobody_through_that_has_found_it_already() {
    let directory = Directory::default();
    put(&directory, &key("k", "k", r#"{"models": ["m"]}"#));
    let found = directory.find(&digest("k"), 0).unwrap();
    directory.remove(Kind::Key, "k");
    assert!(directory.find(&digest("k"), 0).is_none());
    assert!(directory.holder(Kind::Key, "k").is_none());
    assert_eq!(directory.key_count(), 0);
    assert!(Chain::from(&found).levels().any(|level| level.terms.disabled));
    assert!(directory.is_guarded(), "the last key's end lets nobody in");
}

#[test]
fn a_group_of_the_same_name_takes_no_key_with_it() {
    let directory = Directory::default();
    put(&directory, &key("ci", "ci", r#"{"models": ["m"]}"#));
    directory.put_group(Kind::Team, "ci", &group("{}"), Origin::File, 0).unwrap();
    directory.remove(Kind::Team, "ci");
    assert!(directory.find(&digest("ci"), 0).is_some());
    directory.remove(Kind::Key, "ci");
    assert!(directory.find(&digest("ci"), 0).is_none(), "what is revoked is revoked");
}

#[test]
fn a_key_of_the_file_that_is_called_something_else_stays_good() {
    let directory = Directory::default();
    let old = KeyRecord { digests: vec![(digest("text"), None)], ..key("old", "old", "{}") };
    let new = KeyRecord { digests: vec![(digest("text"), None)], ..key("new", "new", "{}") };
    put(&directory, &old);
    // As a reload does: what the file says is put, and then what it does not say is taken out.
    put(&directory, &new);
    directory.retain_of_file(|kind, id| (kind, id) == (Kind::Key, "new"));
    let found = directory.find(&digest("text"), 0).unwrap();
    assert_eq!(&*found.id, "new");
    assert_eq!(directory.key_count(), 1);
}

#[test]
fn only_what_the_file_owned_goes_with_the_file() {
    let directory = Directory::default();
    put(&directory, &key("of-file", "of-file", "{}"));
    directory.put_key(&key("of-store", "of-store", "{}"), Origin::Store, 0).unwrap();
    directory.put_key(&key("of-token", "of-token", "{}"), Origin::Named, 0).unwrap();
    directory.put_group(Kind::Team, "t", &group(LIMITED), Origin::File, 0).unwrap();
    directory.put_group(Kind::Team, "s", &group(LIMITED), Origin::Store, 0).unwrap();
    directory.retain_of_file(|_, _| false);
    for (id, there) in [("of-file", false), ("of-store", true), ("of-token", true)] {
        assert_eq!(directory.find(&digest(id), 0).is_some(), there, "{id}");
    }
    let counters = |id| directory.holder(Kind::Team, id).unwrap().terms().counters.len();
    assert_eq!((counters("t"), counters("s")), (0, 1));
}

/// The bearer of a token, as whoever verifies tokens puts it there.
fn bearer(directory: &Directory, user: &str, team: &str) -> Arc<Holder> {
    let record = KeyRecord {
        digests: Vec::new(),
        user: some(user),
        team: some(team),
        ..key(&format!("jwt_{user}"), user, r#"{"limits": {"rpm": 10}}"#)
    };
    directory.put_key(&record, Origin::Named, 0).unwrap()
}

#[test]
fn a_bearer_at_rest_is_forgotten_with_those_whom_it_alone_has_named() {
    let directory = Directory::default();
    directory.put_group(Kind::Team, "written", &group(LIMITED), Origin::File, 0).unwrap();
    drop(bearer(&directory, "ada", "written"));
    drop(bearer(&directory, "bob", "shared"));
    drop(bearer(&directory, "eve", "shared"));
    let known = |kind, id: &str| directory.holder(kind, id).is_some();
    assert!(directory.forget_at_rest("jwt_ada", 0) && !directory.forget_at_rest("jwt_ada", 0));
    assert!(!known(Kind::Key, "jwt_ada") && !known(Kind::User, "ada"));
    assert!(known(Kind::Team, "written"), "it has terms");
    assert!(directory.forget_at_rest("jwt_bob", 0));
    assert!(!known(Kind::User, "bob") && known(Kind::Team, "shared"), "another one is in it");
    assert!(directory.forget_at_rest("jwt_eve", 0));
    assert_eq!(directory.holders().len(), 1);
}

#[test]
fn nobody_is_forgotten_whose_limits_have_not_come_back_who_calls_or_who_is_written_down() {
    let directory = Directory::default();
    let (minute_ns, used) = (60_000_000_000, bearer(&directory, "ada", "t"));
    used.terms().counters[0].take(4, 1).unwrap();
    assert!(!directory.forget_at_rest("jwt_ada", minute_ns), "it is in the middle of a call");
    drop(used);
    assert!(!directory.forget_at_rest("jwt_ada", 2), "it would begin its minute anew");
    assert!(directory.forget_at_rest("jwt_ada", minute_ns));
    for origin in [Origin::File, Origin::Store] {
        directory.put_key(&key("k", "k", "{}"), origin, 0).unwrap();
        assert!(!directory.forget_at_rest("k", minute_ns));
    }
    let record = KeyRecord { digests: Vec::new(), ..key("rich", "rich", LIMITED) };
    directory.put_key(&record, Origin::Named, 0).unwrap();
    assert!(!directory.forget_at_rest("rich", minute_ns), "its budget would begin anew");
}

#[test]
fn names_that_would_spoil_a_log_are_refused_and_change_nothing() {
    let directory = Directory::default();
    for name in ["", "a\nb", "a\u{0}", &"x".repeat(129)] {
        assert!(directory.put_key(&key("k", name, "{}"), Origin::Store, 0).is_err(), "{name:?}");
        let put = directory.put_group(Kind::Team, name, &group("{}"), Origin::Store, 0);
        assert!(put.is_err(), "{name:?}");
    }
    assert_eq!((directory.key_count(), directory.holders().len()), (0, 0));
    assert!(!directory.is_guarded());
}

#[test]
fn many_at_once_are_the_same_as_each_alone() {
    let directory = Directory::default();
    let mut records: Vec<KeyRecord> =
        (0..300).map(|index| key(&format!("k{index}"), &format!("n{index}"), LIMITED)).collect();
    records[7].name = "a\nb".to_owned();
    records[8].digests.push((digest("old"), Some(1000)));
    let left_out = directory.fill(&records, Origin::Store, 0);
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].0, "a\nb");
    assert_eq!(directory.key_count(), 300);
    assert!(directory.is_guarded());
    for (index, record) in records.iter().enumerate() {
        let found = directory.find(&digest(&record.id), 0);
        assert_eq!(
            found.map(|holder| holder.name.to_string()),
            (index != 7).then(|| record.name.clone())
        );
    }
    assert!(directory.find(&digest("old"), 999).is_some());
    directory.remove(Kind::Key, "k8");
    assert_eq!(directory.key_count(), 298);
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() << 10
}

fn texts(count: u64) -> impl Iterator<Item = String> + Clone {
    (0..count).map(|index| format!("mk-{index:040}"))
}

fn filled(pepper: &Pepper, count: u64) -> Directory {
    let directory = Directory::default();
    let records: Vec<KeyRecord> = texts(count)
        .enumerate()
        .map(|(index, text)| KeyRecord {
            id: format!("key_{index:012}"),
            name: format!("key {index}"),
            digests: vec![(pepper.digest(text.as_bytes()), None)],
            user: Some(format!("user {}", index % 1000)),
            ..KeyRecord::default()
        })
        .collect();
    for records in records.chunks(50_000) {
        assert!(directory.fill(records, Origin::Store, 0).is_empty());
    }
    directory
}

/// The best of several runs of what it takes to know one of these callers.
fn look_up(directory: &Directory, pepper: &Pepper, texts: &[String]) -> Duration {
    let run = || {
        let start = Instant::now();
        for text in texts {
            let holder = directory.find(&pepper.digest(text.as_bytes()), 1).unwrap();
            black_box(Chain::from(&holder));
        }
        start.elapsed() / u32::try_from(texts.len()).unwrap()
    };
    (0..5).map(|_| run()).min().unwrap()
}

/// With a million in a release build: `cargo test --release -p policy --test it a_million -- --nocapture`.
#[test]
#[allow(clippy::print_stderr, reason = "a measurement is shown")]
fn a_million_keys_are_looked_up_like_ten() {
    const MILLION: u64 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
    // A request costs some 25 µs of CPU: a twentieth of it is the room there is.
    const ROOM: Duration = Duration::from_nanos(if cfg!(debug_assertions) { 12_500 } else { 1250 });
    let pepper = Pepper::new([7; 32]);
    let few = filled(&pepper, 10);
    let before = resident();
    let start = Instant::now();
    let many = filled(&pepper, MILLION);
    let filling = start.elapsed();
    let memory = resident() - before;
    let ten: Vec<String> = texts(10).cycle().take(20_000).collect();
    // Callers of a busy hour, spread over all keys, and all keys in turn.
    let spread: Vec<String> = (0..20_000_u64)
        .map(|index| format!("mk-{:040}", index * 7919 % 1000 * (MILLION / 1003)))
        .collect();
    let cold: Vec<String> =
        (0..20_000_u64).map(|index| format!("mk-{:040}", index * 48_271 % MILLION)).collect();
    let (ten, spread, cold) = (
        look_up(&few, &pepper, &ten),
        look_up(&many, &pepper, &spread),
        look_up(&many, &pepper, &cold),
    );
    let start = Instant::now();
    for index in 0..1000_u64 {
        put(&many, &key(&format!("more-{index}"), "more", "{}"));
    }
    let insertion = start.elapsed() / 1000;
    let start = Instant::now();
    many.retain_of_file(|_, _| true);
    let sweep = start.elapsed();
    eprintln!(
        "ten keys {ten:?}; of a million, 1,000 in use {spread:?}, all in turn {cold:?}; filled in \
         {filling:?}, one more {insertion:?}, sweep {sweep:?}; {} bytes a key",
        memory / MILLION
    );
    assert_eq!(many.key_count() as u64, MILLION + 1000);
    assert!(spread < ten + ROOM, "{spread:?} {ten:?}");
    assert!(cold < ten + ROOM * 2, "{cold:?} {ten:?}");
    assert!(insertion < Duration::from_millis(5), "{insertion:?}");
}

#[test]
fn as_many_keys_as_a_company_has_are_looked_up_like_ten() {
    let pepper = Pepper::new([7; 32]);
    let (few, many) = (filled(&pepper, 10), filled(&pepper, 20_000));
    let ten: Vec<String> = texts(10).cycle().take(2000).collect();
    let all: Vec<String> = texts(20_000).step_by(10).collect();
    let (few, many) = (look_up(&few, &pepper, &ten), look_up(&many, &pepper, &all));
    // Not a measurement: it fails when the cost grows with the number.
    assert!(many < few * 20 + Duration::from_micros(20), "{few:?} {many:?}");
}
