//! From target to target over real sockets: every way to fail before an answer is made up for, none
//! after it is hidden, and what a client sees says which.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use testkit::{DEFAULT_TEXT, Refused, ScriptedUpstream};

use crate::client::Reply;
use crate::harness::{CHAT, Magpie, Setup, chat};
use crate::raw::RawUpstream;

/// Clocks of a provider that is short enough to wait for.
pub(crate) const HASTY: &str =
    "timeouts: { connect: 300ms, first_event: 300ms, idle: 300ms, total: 600ms }";

/// A provider of a file, with more options or none.
pub(crate) fn provider(name: &str, base_url: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!("  {name}: {{ base_url: '{base_url}', api_key: sk-{name}-0123456789{comma}{more} }}\n")
}

/// Models of a file: names and plans.
pub(crate) fn models(plans: impl IntoIterator<Item = (String, String)>) -> String {
    let mut text = String::from("models:\n");
    for (name, plan) in plans {
        writeln!(text, "  {name}: {plan}").unwrap();
    }
    text
}

/// Asks a model by its name.
pub(crate) fn ask(magpie: &Magpie, model: &str, stream: bool) -> Reply {
    magpie.post(CHAT, &chat(model, stream))
}

/// Whether a reply is the whole answer of the script `ok`.
pub(crate) fn is_good(reply: &Reply, stream: bool) -> bool {
    let text = match stream {
        true => Some(reply.content()).filter(|_| reply.is_done() && reply.is_finished()),
        false if reply.status() != 200 => None,
        false => reply.json()["choices"][0]["message"]["content"].as_str().map(str::to_owned),
    };
    reply.status() == 200 && reply.whole && text.as_deref() == Some(DEFAULT_TEXT)
}

/// An address where nobody answers, not even to refuse: as many wait to be taken in as may, so whoever
/// else knocks is not heard.
struct BlackHole {
    address: SocketAddr,
    _socket: Socket,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    fn open() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let knock = |_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let waiting: Vec<TcpStream> = (0..16).map_while(knock).collect();
        assert!(waiting.len() < 16, "everybody is taken in");
        Self { address, _socket: socket, _waiting: waiting }
    }
}

/// Each fault's target is tried first, and then one that is well.
struct Fleet {
    magpie: Magpie,
    bad: ScriptedUpstream,
    good: ScriptedUpstream,
    /// Its certificate is nobody's whom Magpie trusts.
    untrusted: ScriptedUpstream,
    _black_hole: BlackHole,
    /// What plays a part that the scripted one cannot.
    _raw: Vec<RawUpstream>,
}

impl Fleet {
    /// Models `m0`, `m1` and so on, whose first targets are these.
    fn of(targets: &[&str]) -> Self {
        let (bad, good) = (ScriptedUpstream::start(), ScriptedUpstream::start());
        let (untrusted, _) = ScriptedUpstream::start_tls();
        let silent = RawUpstream::start(|mut peer, _| while peer.read().is_some() {});
        let closing = RawUpstream::start(|mut peer, _| drop(peer.request()));
        // What was not read when a socket is closed makes it a reset.
        let resetting = RawUpstream::start(|peer, _| {
            let _ = peer.stream.peek(&mut [0]);
        });
        // It says that it is there, and never anything else.
        let pinging = RawUpstream::start(|mut peer, _| {
            peer.request();
            peer.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
            while peer.write(": keep-alive\n\n") {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let tls = format!("https://127.0.0.1:{}/v1", silent.address().port());
        let black_hole = BlackHole::open();
        let unheard = format!("http://{}/v1", black_hole.address);
        let config = [
            "log: { requests: false }\nproviders:\n",
            &provider("bad", &bad.base_url(), HASTY),
            &provider("good", &good.base_url(), ""),
            &provider("refusing", &Refused::base_url(), ""),
            &provider("unnamed", "http://provider.invalid/v1", ""),
            &provider("unheard", &unheard, HASTY),
            &provider("mute", &tls, HASTY),
            &provider("untrusted", &untrusted.base_url(), ""),
            &provider("closing", &closing.base_url(), ""),
            &provider("resetting", &resetting.base_url(), ""),
            &provider("pinging", &pinging.base_url(), HASTY),
            &models(targets.iter().enumerate().map(|(number, target)| {
                (format!("m{number}"), format!("{{ fallback: ['{target}', good/ok] }}"))
            })),
        ];
        let magpie = Setup::file(&config.concat()).start();
        let raw = vec![silent, closing, resetting, pinging];
        Self { magpie, bad, good, untrusted, _black_hole: black_hole, _raw: raw }
    }
}

/// Faults that another target makes up for, whether a stream was asked for or not.
const EITHER: [&str; 27] = [
    "refusing/x",
    "unnamed/x",
    "unheard/x",
    "mute/x",
    "untrusted/x",
    "closing/x",
    "resetting/x",
    "bad/hang",
    "bad/hang-headers",
    "bad/drip:200",
    "bad/status:401",
    "bad/status:402",
    "bad/status:403",
    "bad/status:404",
    "bad/status:408",
    "bad/status:429:7",
    "bad/status:500",
    "bad/status:502",
    "bad/status:503",
    "bad/status:504",
    "bad/status:520",
    "bad/status:529",
    "bad/error200",
    "bad/error200:baidu",
    "bad/error200:minimax",
    "bad/html:503",
    "bad/redirect",
];
/// Of streams that end, fall silent or fail before they say anything.
const STREAMED: [&str; 12] = [
    "bad/json-for-stream",
    "bad/malformed:0",
    "bad/cut:0",
    "bad/reset:0",
    "bad/eof:0",
    "bad/stall:0",
    "bad/error-event:0",
    "bad/error-event:0:baidu",
    "bad/not-sse",
    "bad/role-cut",
    "bad/role-reset",
    "pinging/x",
];
/// Of answers in one piece that do not come whole, or are none.
const WHOLE: [&str; 6] = [
    "bad/cut:3",
    "bad/reset:3",
    "bad/stall:3",
    "bad/truncated-body",
    "bad/error-event:3",
    "bad/html:200",
];

/// The first event of OpenAI's streams, which says no more than whose turn it is.
fn role() -> Value {
    let delta = json!({ "role": "assistant", "content": "" });
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
    json!({ "id": "x", "object": "chat.completion.chunk", "choices": [choice] })
}

/// Each target and whether a stream is asked for, all at once; says what is not as it should be.
fn wrong(
    targets: &[&str],
    streams: &[bool],
    check: impl Fn(&str, bool, &Reply) -> Option<String> + Sync,
    fleet: &Fleet,
) -> Vec<String> {
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (number, target) in targets.iter().enumerate() {
            let (wrong, check) = (&wrong, &check);
            scope.spawn(move || {
                for &stream in streams {
                    let reply = ask(&fleet.magpie, &format!("m{number}"), stream);
                    if let Some(words) = check(target, stream, &reply) {
                        let (head, text) = (&reply.head.headers, reply.text());
                        let all = format!("{target}, stream {stream}: {words}: {head:?} {text}");
                        wrong.lock().unwrap().push(all);
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

fn made_up_for(_: &str, stream: bool, reply: &Reply) -> Option<String> {
    let told = [reply.header("x-magpie-attempts"), reply.header("x-magpie-target")];
    if !is_good(reply, stream) {
        return Some(format!("no good answer, status {}", reply.status()));
    }
    (told != [Some("2"), Some("good/ok")]).then(|| format!("{told:?}"))
}

#[test]
fn whatever_fails_before_an_answer_is_made_up_for_and_the_answer_is_whole() {
    for (targets, stream) in
        [(&EITHER[..], false), (&EITHER, true), (&STREAMED, true), (&WHOLE, false)]
    {
        let fleet = Fleet::of(targets);
        for (name, ending) in [("role-cut", "cut"), ("role-reset", "reset")] {
            fleet.bad.script(name, [json!({ "events": [role()], "ending": ending })]);
        }
        let wrong = wrong(targets, &[stream], made_up_for, &fleet);
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(fleet.good.received().len(), targets.len(), "once for each");
        let scripted = targets.iter().filter(|target| target.starts_with("bad/")).count();
        assert_eq!(fleet.bad.received().len(), scripted, "and so is the bad one");
        assert!(fleet.untrusted.received().is_empty(), "a key went to a stranger");
    }
}

#[test]
fn once_a_word_was_said_a_stream_ends_with_an_error_and_nobody_else_is_asked() {
    let targets = [
        "bad/cut:3",
        "bad/reset:3",
        "bad/eof:3",
        "bad/stall:3",
        "bad/malformed:3",
        "bad/error-event:3",
        "bad/cut:1",
    ];
    let codes = |target: &str| match target {
        "bad/malformed:3" => "provider_malformed",
        "bad/stall:3" => "provider_timeout",
        "bad/error-event:3" => "server_error",
        _ => "provider_truncated",
    };
    let fleet = Fleet::of(&targets);
    let check = |target: &str, _: bool, reply: &Reply| {
        assert_eq!((reply.status(), reply.header("x-magpie-attempts")), (200, Some("1")));
        assert_eq!(reply.header("x-magpie-target"), Some(target));
        reply.assert_broken_off(codes(target));
        let words = if target.ends_with(":1") { "w1 " } else { "w1 w2 w3 " };
        (!words.starts_with(&reply.content())).then(|| String::from("other words"))
    };
    let wrong = wrong(&targets, &[true], check, &fleet);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(fleet.good.received().len(), 0, "nothing is said twice");
}

#[test]
fn what_is_wrong_with_the_request_is_told_at_once() {
    let targets = ["bad/status:400", "bad/status:413", "bad/status:422"];
    let fleet = Fleet::of(&targets);
    let check = |target: &str, _: bool, reply: &Reply| {
        let told = (format!("bad/status:{}", reply.status()), reply.header("x-magpie-attempts"));
        (told != (target.to_owned(), Some("1"))).then(|| format!("{told:?}"))
    };
    let wrong = wrong(&targets, &[false, true], check, &fleet);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(fleet.good.received().len(), 0);
}

/// Now and so many seconds, as HTTP writes it.
fn date_in(seconds: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[test]
fn a_throttled_target_is_left_alone_for_as_long_as_it_asks() {
    // Each form, and whether the target is asked again right after it.
    let forms = [
        (vec![("retry-after", "7".to_owned())], false),
        (vec![("retry-after", date_in(60))], false),
        (vec![("retry-after", "1000000000".to_owned())], false),
        (vec![("retry-after-ms", "7000".to_owned())], false),
        (vec![("retry-after", "soon".to_owned())], false),
        (vec![], false),
        (vec![("retry-after", "0".to_owned())], true),
        (vec![("retry-after", "-1".to_owned())], false),
    ];
    let targets: Vec<String> =
        (0..forms.len()).map(|number| format!("bad/throttled-{number}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let fleet = Fleet::of(&targets);
    let body = json!({ "error": { "message": "slow down", "type": "x", "code": "slow" } });
    for (number, (headers, _)) in forms.iter().enumerate() {
        let headers: serde_json::Map<String, Value> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let reply = json!({ "status": 429, "headers": headers, "body": body });
        fleet.bad.script(&format!("throttled-{number}"), [reply]);
    }
    let wrong = wrong(&targets, &[true], made_up_for, &fleet);
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (number, (headers, is_asked)) in forms.iter().enumerate() {
        let reply = ask(&fleet.magpie, &format!("m{number}"), false);
        assert!(is_good(&reply, false), "{headers:?}: {}", reply.text());
        let attempts = if *is_asked { "2" } else { "1" };
        assert_eq!(reply.header("x-magpie-attempts"), Some(attempts), "{headers:?}");
    }
}

#[test]
fn an_input_that_is_too_long_goes_to_a_target_that_takes_more_and_to_no_other() {
    let (bad, good) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let body = json!({ "error": { "message": "too long", "code": "context_length_exceeded" } });
    bad.script("short", [json!({ "status": 400, "body": body })]);
    let config = [
        "providers:\n",
        &provider("bad", &bad.base_url(), HASTY),
        &provider("good", &good.base_url(), ""),
        "models: { chat: { fallback: [bad/short, good/shorter, good/unknown, good/long] } }\n",
        "prices:\n  bad/short: { max_input: 8000 }\n  good/shorter: { max_input: 4000 }\n",
        "  good/long: { max_input: 128000 }\n",
    ];
    let magpie = Setup::file(&config.concat()).start();
    for stream in [false, true] {
        let reply = ask(&magpie, "chat", stream);
        assert!(is_good(&reply, stream), "{}", reply.text());
        assert_eq!(reply.header("x-magpie-target"), Some("good/long"));
        assert_eq!(reply.header("x-magpie-attempts"), Some("2"));
    }
}

#[test]
fn an_embedding_is_made_up_for_too() {
    let fleet = Fleet::of(&["bad/status:503"]);
    let body = json!({ "model": "m0", "input": "hello" }).to_string();
    let reply = fleet.magpie.post("/v1/embeddings", &body);
    assert_eq!((reply.status(), reply.header("x-magpie-attempts")), (200, Some("2")));
    assert!(!reply.json()["data"][0]["embedding"].is_null(), "{}", reply.text());
}

#[test]
fn when_all_fail_the_last_words_are_told() {
    let (one, two) = (ScriptedUpstream::start(), ScriptedUpstream::start());
    let config = [
        "providers:\n",
        &provider("one", &one.base_url(), HASTY),
        &provider("two", &two.base_url(), HASTY),
        "models:\n  busy: { fallback: ['one/status:500', 'two/status:429:7'] }\n",
        "  late: { fallback: ['one/status:503', 'two/hang'] }\n",
    ];
    let magpie = Setup::file(&config.concat()).start();
    let reply = ask(&magpie, "busy", false);
    assert_eq!((reply.status(), reply.header("retry-after")), (429, Some("7")));
    assert_eq!(reply.message(), "scripted error 429");
    assert_eq!(reply.header("x-magpie-attempts"), Some("2"));
    let reply = ask(&magpie, "late", true);
    reply.assert_error(503, "no_target_available");
    assert_eq!(reply.header("x-magpie-attempts"), Some("2"));
    for words in ["one/status:503: answered with 503", "two/hang: two did not send"] {
        assert!(reply.message().contains(words), "{}", reply.message());
    }
}
