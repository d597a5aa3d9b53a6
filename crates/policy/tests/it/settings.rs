//! Settings, access and limits, from the file and the environment.

use policy::config::LogFormat;

use crate::given::{problems, snapshot, snapshot_in};

#[test]
fn without_a_word_it_listens_on_loopback_with_the_documented_bounds() {
    let snapshot = snapshot("");
    let settings = &snapshot.settings;
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8000");
    assert_eq!((settings.workers, settings.grace.as_secs()), (None, 30));
    assert_eq!((settings.log_requests, settings.log_format), (true, LogFormat::Auto));
    assert_eq!((snapshot.limits.body, snapshot.limits.upload), (20 << 20, 200 << 20));
    assert_eq!(snapshot.limits.connections, None);
    assert!(snapshot.meter_streams);
    let access = &snapshot.access;
    assert_eq!(access.hosts.as_deref(), Some(&["127.0.0.1".into()][..]));
    assert!(access.origins.is_none() && access.methods.is_none() && access.headers.is_none());
}

#[test]
fn every_setting_is_read() {
    let text = "
listen: localhost:9000
hosts: [A.example.com]
cors: { origins: [\"https://App.example.com\", \"*\"], methods: [GET, POST], headers: [x-a] }
limits: { body: 1KiB, upload: 2KiB, connections: 7 }
metering: { stream_usage: false }
log: { requests: false, format: json }
shutdown_grace: 5s
workers: 2
";
    let snapshot = snapshot(text);
    let settings = &snapshot.settings;
    assert_eq!(settings.listen.to_string(), "127.0.0.1:9000");
    assert_eq!((settings.workers, settings.grace.as_secs()), (Some(2), 5));
    assert_eq!((settings.log_requests, settings.log_format), (false, LogFormat::Json));
    let limits = snapshot.limits;
    assert_eq!((limits.body, limits.upload, limits.connections), (1_024, 2_048, Some(7)));
    assert!(!snapshot.meter_streams);
    let access = &snapshot.access;
    assert_eq!(access.hosts.as_deref().unwrap(), ["a.example.com".into(), "127.0.0.1".into()]);
    assert_eq!(access.origins.as_deref().unwrap(), ["https://app.example.com".into(), "*".into()]);
    assert_eq!(access.methods.as_ref().unwrap(), "GET, POST");
    assert_eq!(access.headers.as_ref().unwrap(), "x-a");
}

#[test]
fn the_environment_comes_before_the_file() {
    let snapshot = snapshot_in(
        "listen: 127.0.0.1:1\n",
        &[("MAGPIE_LISTEN", "0.0.0.0:9000"), ("MAGPIE_OPEN", "true")],
    );
    assert_eq!(snapshot.settings.listen.to_string(), "0.0.0.0:9000");
}

#[test]
fn open_is_meant_by_true_and_one_alone() {
    let listen = ("MAGPIE_LISTEN", "0.0.0.0:9000");
    for (value, meant) in [("true", true), ("1", true), ("yes", false), ("0", false), ("", false)] {
        let built = crate::given::resolved("", &[listen, ("MAGPIE_OPEN", value)]);
        assert_eq!(built.is_ok(), meant, "{value:?}");
    }
}

#[test]
fn a_public_listener_takes_every_host_unless_some_are_named() {
    let open = "open: true\nlisten: 0.0.0.0:8000\n";
    assert!(snapshot(open).access.hosts.is_none());
    let named = snapshot(&format!("{open}hosts: [a.lan]\n"));
    assert_eq!(named.access.hosts.unwrap(), ["a.lan".into(), "0.0.0.0".into()]);
    let local = snapshot("open: true\nlisten: \"[::1]:8000\"\n");
    assert_eq!(local.access.hosts.unwrap(), ["::1".into()], "loopback is never open to names");
}

#[test]
fn answers_are_kept_for_ten_minutes_unless_something_else_is_said() {
    let kept = |text: &str| {
        let kept = snapshot(text).sharing;
        (kept.keep.map(|keep| keep.as_secs()), kept.size)
    };
    assert_eq!(kept(""), (Some(600), 64 << 20));
    assert_eq!(kept("idempotency: { keep: 1h, size: 1GiB }"), (Some(3600), 1 << 30));
    assert_eq!(kept("idempotency: { enabled: false, size: 1MiB }"), (None, 1 << 20));
    for (text, expected) in [
        ("keep: 0s", "1:14 `0s` is out of range | to keep nothing, write `enabled: false`"),
        (
            "keep: 25h",
            "1:14 `keep` is at most 24h | they are in memory, and minutes are enough for who tries again",
        ),
        ("size: many", "1:14 `many` does not begin with a number | -"),
    ] {
        assert_eq!(problems(&format!("idempotency: {{ {text} }}")), [expected]);
    }
}

#[test]
fn a_model_shares_answers_only_if_it_says_so_and_under_its_own_name() {
    let text = "providers: { a: { profile: sglang } }
models:
  plain: a/x
  one: { target: a/x, single_flight: true }
  two: { fallback: [a/x, a/y], single_flight: true }
  many-*: { target: a/*, single_flight: true }
";
    let snapshot = snapshot(text);
    assert!(snapshot.sharing.single_flight);
    let shares = |name: &str| snapshot.plan(name).unwrap().first_route().single_flight;
    for (name, expected) in
        [("plain", false), ("one", true), ("two", true), ("many-z", true), ("a/x", false)]
    {
        assert_eq!(shares(name), expected, "{name}");
    }
    assert!(!crate::given::snapshot("").sharing.single_flight);
    let composed = "providers: { a: { profile: sglang } }
models:
  one: { target: a/x, single_flight: true }
  m: { cascade: [a/y, one], single_flight: true }
";
    assert_eq!(
        problems(composed),
        ["4:6 a composed model does not share its answers | leave `single_flight` out"]
    );
    let split = "providers: { a: { profile: sglang } }
models:
  m: { fallback: [{ split: { a/x: 9, a/y: 1 } }], single_flight: true }
";
    assert_eq!(
        problems(split),
        [
            "3:6 a `split` keeps callers apart whose answers `single_flight` would share | take one of the two out"
        ]
    );
}
