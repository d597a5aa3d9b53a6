//! Keys over real sockets: every path and every form of a credential is decided alike, and no
//! credential is seen where it does not belong.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use policy::key::KeyText;
use testkit::ScriptedUpstream;

use crate::client::{Reply, Wire, request};
use crate::harness::{CHAT, Magpie, PATIENCE, PROVIDER_KEY, Setup, chat};

/// The forms in which SDKs send a key.
const FORMS: [(&str, &str); 4] =
    [("Authorization", "Bearer "), ("x-api-key", ""), ("api-key", ""), ("x-goog-api-key", "")];
const JSON: (&str, &str) = ("content-type", "application/json");

/// The text of the key whose terms rule out what the number says.
fn text(number: u8) -> String {
    KeyText::generate([number; 32]).expose().to_owned()
}

/// What is sent, and what comes of it: a key's terms, status and code.
const CASES: [(&str, Option<u8>, u16, &str); 9] = [
    ("no key", None, 401, "missing_api_key"),
    ("unknown", Some(99), 401, "invalid_api_key"),
    ("misspelt", Some(98), 401, "invalid_api_key"),
    ("expires: \"2020-01-01\"", Some(1), 401, "key_expired"),
    ("enabled: false", Some(2), 403, "key_disabled"),
    ("allow: [192.0.2.0/24]", Some(3), 403, "address_not_allowed"),
    ("models: [another-model]", Some(4), 403, "model_not_allowed"),
    ("operations: [realtime]", Some(5), 403, "operation_not_allowed"),
    ("metadata: { good: \"yes\" }", Some(6), 200, ""),
];

/// The keys of the cases.
fn keys() -> String {
    let terms = CASES.iter().filter_map(|(terms, number, ..)| Some((terms, (*number)?)));
    let known = terms.filter(|(_, number)| *number < 90);
    let lines = known.map(|(terms, number)| {
        format!("  - {{ name: k{number}, key: {}, {terms} }}\n", text(number))
    });
    format!("keys:\n{}", lines.collect::<String>())
}

/// What a case sends.
fn sent(name: &str, number: Option<u8>) -> Option<String> {
    let mut text = text(number?);
    if name == "misspelt" {
        text.pop();
        text.push('#');
    }
    Some(text)
}

/// Every endpoint form: method, path, body, and whether it has to have a model.
fn endpoints(stream: bool) -> Vec<(&'static str, &'static str, String)> {
    let model = |more: &str| format!(r#"{{"model":"up/ok","stream":{stream},{more}}}"#);
    vec![
        ("POST", CHAT, chat("up/ok", stream)),
        ("POST", "//v1//chat/completions/", chat("up/ok", stream)),
        ("POST", "/v1/completions", model(r#""prompt":"x""#)),
        ("POST", "/v1/embeddings", model(r#""input":"x""#)),
        ("POST", "/v1/responses", model(r#""input":"x""#)),
        ("POST", "/v1/images/generations", model(r#""prompt":"x""#)),
        ("POST", "/v1/audio/speech", model(r#""input":"x","voice":"y""#)),
        ("POST", "/v1/rerank", model(r#""query":"x","documents":[]"#)),
        ("POST", "/v1/moderations", model(r#""input":"x""#)),
        ("POST", "/v1/batches", model(r#""input_file_id":"f""#)),
        ("POST", "/v1/anything/else", model(r#""x":1"#)),
        ("GET", "/v1/files", String::new()),
        ("DELETE", "/v1/files/f", String::new()),
        ("GET", "/v1/models/up%2Fok", String::new()),
        ("GET", "/v1/models", String::new()),
    ]
}

/// Checks that a refusal is told as OpenAI tells it.
fn assert_refused(reply: &Reply, status: u16, code: &str, case: &str) {
    assert_eq!((reply.status(), &*reply.code()), (status, code), "{case}: {}", reply.text());
    reply.assert_error(status, code);
    let kind = if status == 401 { "authentication_error" } else { "permission_error" };
    assert_eq!(reply.json()["error"]["type"], kind, "{case}");
    assert_eq!(reply.header("www-authenticate"), (status == 401).then_some("Bearer"), "{case}");
    assert!(reply.header("x-request-id").is_some(), "{case}");
    assert_eq!(reply.text().contains("checksum"), case.contains("misspelt"), "{case}");
}

#[test]
fn every_path_and_every_form_of_a_key_is_decided_alike() {
    let upstream = ScriptedUpstream::start();
    let setup = Setup::of(&upstream.base_url()).and(&keys()).and("workers: 1");
    let magpie = setup.start();
    let mut wire = magpie.connect();
    let mut decided = 0;
    for (case, number, status, code) in CASES {
        let key = sent(case, number);
        for stream in [false, true] {
            for (method, path, body) in endpoints(stream) {
                for (header, scheme) in FORMS {
                    let value = key.as_ref().map(|key| format!("{scheme}{key}"));
                    let headers = value.iter().map(|value| (header, value.as_str()));
                    let headers: Vec<_> = headers.chain([JSON]).collect();
                    let before = upstream.received().len();
                    wire.send(&request(method, path, &headers, body.as_bytes()));
                    let reply = wire.reply_to(method);
                    let name = format!("{case}, {method} {path}, {header}, {stream}");
                    let asked = upstream.received().len() - before;
                    // The list leaves out what may not be used.
                    let is_list = path == "/v1/models" && code == "model_not_allowed";
                    if status == 200 || is_list {
                        assert!(!matches!(reply.status(), 401 | 403 | 429), "{name}");
                        assert_eq!(asked, usize::from(!path.contains("models")), "{name}");
                        if is_list {
                            assert_eq!(reply.json()["data"].as_array().map(Vec::len), Some(0));
                        }
                    } else {
                        assert_refused(&reply, status, code, &name);
                        assert_eq!(asked, 0, "{name}: something was sent");
                    }
                    decided += 1;
                }
            }
        }
    }
    assert_eq!(decided, 9 * 2 * 15 * 4);
    for received in upstream.received() {
        assert_eq!(received.header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
        assert!(!received.headers.iter().any(|(_, value)| value.contains("mk-")));
    }
}

#[test]
fn two_different_keys_are_refused_and_the_same_one_twice_is_not() {
    let upstream = ScriptedUpstream::start();
    let keys = format!("keys: [{{ name: a, key: {} }}, {{ name: b, key: {} }}]", text(1), text(2));
    let magpie = Setup::of(&upstream.base_url()).and(&keys).start();
    for (first, scheme) in FORMS {
        for (second, other) in FORMS {
            for (number, status) in [(2, 401), (1, 200)] {
                let values = [format!("{scheme}{}", text(1)), format!("{other}{}", text(number))];
                let headers = [(first, &*values[0]), (second, &*values[1]), JSON];
                let reply = magpie.call("POST", CHAT, &headers, &chat("up/ok", false));
                assert_eq!(reply.status(), status, "{first} {second}: {}", reply.text());
            }
        }
    }
    assert_eq!(upstream.received().len(), 16);
}

/// Texts that have opened, or shut, a gateway somewhere.
fn hostile() -> Vec<Vec<u8>> {
    let good = text(6);
    let mut all: Vec<Vec<u8>> = [
        "' OR '1'='1",
        "'; DROP TABLE keys;--",
        "\" OR \"\"=\"",
        "admin'--",
        "1/*",
        "%",
        "_",
        "*",
        "null",
        "undefined",
        "true",
        "0",
        "[]",
        "{}",
        "[object Object]",
        "${jndi:ldap://x}",
        "{{7*7}}",
        "<script>",
        "../../etc/passwd",
        "..%2f",
        "%00",
        "%0d%0aX: y",
        "\\",
        "\\x00",
        "mk-",
        "mk",
        "mat-",
        "sk-",
        ".",
        "..",
        "a.b.c",
        "eyJhbGciOiJub25lIn0.e30.",
        "Bearer",
        "Bearer Bearer",
        "Basic eDp5",
        ",",
        ";",
        "=",
        ":",
        "a,b",
        "\u{202e}",
        "мк-",
        "ｍｋ-",
        "é",
        "\u{feff}",
        "\t",
        "$2b$10$",
        "-1",
        "18446744073709551616",
        "1e999",
        "NaN",
        "'||'1",
    ]
    .iter()
    .flat_map(|text| {
        [text.as_bytes().to_vec(), format!("{good}{text}").into(), format!("{text}{good}").into()]
    })
    .collect();
    // Cut, doubled, in another case, one bit off.
    all.extend((0..good.len()).step_by(4).map(|end| good.as_bytes()[..end].to_vec()));
    all.extend([good.repeat(2), good.to_uppercase(), good.to_lowercase()].map(Vec::from));
    all.extend((3..good.len()).step_by(2).map(|at| {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        bytes
    }));
    all.extend([vec![0xff; 52], vec![0x80, 0xc3], [good.as_bytes(), &[0xc3, 0x28]].concat()]);
    all.extend([511, 512, 513, 1000, 16_000].map(|length| vec![b'x'; length]));
    all.retain(|bytes| bytes.trim_ascii() != good.as_bytes());
    all
}

#[test]
fn hostile_credentials_are_strangers_and_nothing_worse() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and(&keys()).start();
    let hostile = hostile();
    assert!(hostile.len() >= 200, "{}", hostile.len());
    let body = chat("up/ok", false);
    let mut wire = magpie.connect();
    for credential in &hostile {
        for (header, scheme) in FORMS {
            let shown = String::from_utf8_lossy(&credential[..credential.len().min(80)]);
            wire.send(&raw(header, scheme, credential, &body));
            let reply = wire.reply();
            assert_eq!(reply.status(), 401, "{header} {shown:?}: {}", reply.text());
            let code = reply.code();
            let known = ["missing_api_key", "invalid_api_key", "invalid_token"];
            assert!(known.contains(&&*code), "{header} {shown:?}: {code}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    // What is no HTTP is refused before it is looked at, and so is what is too long.
    for (credential, status) in [
        (&b"a\0b"[..], 400),
        (b"a\x7fb", 400),
        (b"a\nb", 400),
        (&[b'x'; 40_000], 431),
        (&[b'x'; 1 << 20], 431),
    ] {
        let mut wire = magpie.connect();
        wire.try_send(&raw("Authorization", "Bearer ", credential, &body));
        if let Some(reply) = wire.try_reply() {
            assert_eq!(reply.status(), status);
        }
    }
    assert!(upstream.received().is_empty());
    let headers = [("x-api-key", &*text(6)), JSON];
    assert_eq!(magpie.call("POST", CHAT, &headers, &body).status(), 200);
}

fn raw(header: &str, scheme: &str, credential: &[u8], body: &str) -> Vec<u8> {
    let length = body.len();
    let front = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{header}: {scheme}");
    let back =
        format!("\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    [front.as_bytes(), credential, back.as_bytes()].concat()
}

#[test]
fn limits_hold_on_the_wire_and_say_when_to_come_again() {
    let upstream = ScriptedUpstream::start();
    let keys = format!(
        "keys:\n  - {{ name: slow, key: {}, limits: {{ rps: {{ amount: 2, burst: 1 }} }} }}\n  \
         - {{ name: one, key: {}, limits: {{ concurrency: 1, tpm: 100k }} }}\n",
        text(1),
        text(2)
    );
    let magpie = Setup::of(&upstream.base_url()).and(&keys).start();
    let ask = |number: u8| {
        let key = text(number);
        magpie.call("POST", CHAT, &[("x-api-key", &key), JSON], &chat("up/ok", false))
    };
    let began = Instant::now();
    let mut refused = 0;
    let mut served = 0;
    while began.elapsed() < Duration::from_millis(1600) {
        let reply = ask(1);
        assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("2"));
        match reply.status() {
            200 => served += 1,
            _ => {
                reply.assert_error(429, "rate_limit_exceeded");
                assert_eq!(reply.header("retry-after"), Some("1"));
                assert!(reply.message().contains("key `slow`"), "{}", reply.text());
                refused += 1;
            }
        }
    }
    assert!((3..=5).contains(&served) && refused > 10, "{served} {refused}");

    let key = text(2);
    let mut wire = magpie.connect();
    let headers = [("authorization", &*format!("Bearer {key}")), JSON];
    wire.send(&request("POST", CHAT, &headers, chat("up/stall:1", true).as_bytes()));
    assert_eq!(wire.head().status, 200);
    wire.chunks_until("data:");
    let reply = ask(2);
    reply.assert_error(429, "rate_limit_exceeded");
    assert!(reply.message().contains("1 requests at once"), "{}", reply.text());
    drop(wire);
    let start = Instant::now();
    while ask(2).status() != 200 {
        assert!(start.elapsed() < PATIENCE, "the slot of one that left is not free");
    }
}

/// Every file below a folder, but the secret itself.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false if name.ends_with("/secret") => {}
            false => all.push((name, std::fs::read(&path).unwrap())),
        }
    }
    all
}

/// Base 64 without padding.
pub(crate) fn base64(bytes: &[u8], last: &[u8; 2]) -> String {
    let alphabet: Vec<u8> =
        (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*last).collect();
    let digit = |value: u32, shift: u32| char::from(alphabet[((value >> shift) & 63) as usize]);
    let encoded = bytes.chunks(3).flat_map(|chunk| {
        let value =
            (0..3).fold(0, |value, at| value << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        (0..=chunk.len()).map(move |at| (value, 18 - 6 * u32::try_from(at).unwrap()))
    });
    encoded.map(|(value, shift)| digit(value, shift)).collect()
}

/// A secret in every form in which it might be kept or told.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_vec(), hex.to_uppercase().into(), hex.into()];
    for skip in 0..3 {
        for last in [b"+/", b"-_"] {
            // Whatever stands before it: whole groups of three bytes look the same.
            let whole = &secret[skip..secret.len() - (secret.len() - skip) % 3];
            forms.push(base64(whole, last).into());
        }
    }
    forms
}

fn ask_around(address: SocketAddr, keys: &[&str]) -> String {
    let mut told = String::new();
    for key in keys {
        for (header, scheme) in FORMS {
            for script in ["ok", "status:401", "cut:1", "error200", "redirect"] {
                let value = format!("{scheme}{key}");
                let headers = [(header, &*value), JSON];
                let mut wire = Wire::connect(address);
                wire.send(&request(
                    "POST",
                    CHAT,
                    &headers,
                    chat(&format!("up/{script}"), true).as_bytes(),
                ));
                let reply = wire.reply();
                told.push_str(&format!("{:?} {}\n", reply.head, reply.text()));
            }
        }
    }
    told
}

#[test]
fn no_secret_is_kept_or_told_anywhere() {
    let upstream = ScriptedUpstream::start();
    let admin = KeyText::generate_admin([77; 32]);
    let setup = Setup::of(&upstream.base_url()).and(&keys());
    let setup = setup.env("MAGPIE_ADMIN", "127.0.0.1:0").env("MAGPIE_ADMIN_TOKEN", admin.expose());
    let made = setup.run(&["keys", "new", "stored"]);
    let said = String::from_utf8(made.stdout.clone()).unwrap();
    let stored = said.split_whitespace().find_map(KeyText::parse);
    let stored = stored.unwrap_or_else(|| panic!("no key in {made:?}")).expose().to_owned();
    let mut magpie: Magpie = setup.start();
    let (good, expired, unknown) = (text(6), text(1), text(99));
    let told = ask_around(magpie.address, &[&good, &expired, &unknown, &stored, "mk-wrong"]);
    assert!(told.matches("status: 200").count() >= 2 * 4, "{told}");
    assert!(told.matches("status: 401").count() >= 3 * 4 * 5, "{told}");
    // Shipped to the database, journal and all.
    magpie.process.signal("TERM");
    assert!(magpie.process.wait(PATIENCE * 2).success());
    let folder = magpie.process.setup.folder().join("data");
    let mut kept = files(&folder);
    let names: Vec<&String> = kept.iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|name| name.ends_with("settings.db")), "{names:?}");
    assert!(names.iter().any(|name| name.ends_with("ledger.db")), "{names:?}");
    let output = magpie.process.stdout.so_far() + &magpie.process.stderr.so_far();
    kept.push(("what was said".to_owned(), output.into_bytes()));
    kept.push(("what was answered".to_owned(), told.into_bytes()));
    kept.push(("what keys new said".to_owned(), made.stderr));
    let pepper = std::fs::read(folder.join("secret")).unwrap();
    let secrets: [(&str, &[u8]); 7] = [
        ("a good key", good.as_bytes()),
        ("an expired key", expired.as_bytes()),
        ("an unknown key", unknown.as_bytes()),
        ("a stored key", stored.as_bytes()),
        ("the provider's key", PROVIDER_KEY.as_bytes()),
        ("the admin token", admin.expose().as_bytes()),
        ("the pepper", &pepper),
    ];
    for (what, secret) in secrets {
        for form in forms(secret) {
            for (place, bytes) in &kept {
                let found = bytes.windows(form.len()).any(|window| window == form);
                assert!(!found, "{what} is in {place} as {:?}", String::from_utf8_lossy(&form));
            }
        }
    }
    // What was looked for would have been found: the digest's last four are kept.
    assert!(kept.iter().any(|(_, bytes)| bytes.windows(6).any(|window| window == b"stored")));
}

#[test]
fn nobody_tries_admin_tokens_at_any_pace() {
    let magpie = Setup::file("{}").with_admin().start();
    for _ in 0..10 {
        assert_eq!(magpie.admin("me").status(), 200);
        magpie.admin_by("mat-not-this-one", "me").assert_error(401, "invalid_admin_token");
    }
    let reply = magpie.admin("me");
    reply.assert_error(429, "too_many_attempts");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
}
