//! What a client wrote and nobody edits arrives as it was written, down to the last digit.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use wire::{Edit, Envelope, splice};

use crate::corpus::{Members, Sample, samples};

fn requests() -> Vec<Sample> {
    samples("openai_chat/requests", "json")
}

fn spliced(body: &[u8], edits: &[Edit<'_>]) -> Vec<u8> {
    splice(&Envelope::scan(body).unwrap(), edits)
}

/// Name and digest of each member's raw text, in order.
fn digests(members: &Members) -> Vec<(String, u64)> {
    let digest = |value: &String| {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    };
    members.0.iter().map(|(name, value)| (name.clone(), digest(value))).collect()
}

/// The text that is the value of `model`, if there is one.
fn model(body: &[u8]) -> Option<String> {
    let envelope = Envelope::scan(body).unwrap();
    let value = envelope.get("model").unwrap()?;
    Some(String::from_utf8(value.raw().to_vec()).unwrap())
}

#[test]
fn the_corpus_is_there_and_is_json() {
    let all = requests();
    assert!(all.len() >= 25, "{}", all.len());
    for Sample { name, bytes } in &all {
        assert!(Envelope::scan(bytes).is_ok(), "{name}");
        assert!(Members::read(bytes).is_ok(), "{name}");
    }
    let has = |needle: &[u8]| all.iter().any(|sample| contains(&sample.bytes, needle));
    for needle in
        [&b"\r\n"[..], b"\\ud83d", b"1e400", b"123456789012345678901234567890", b"\\/", b"-0.0"]
    {
        assert!(has(needle), "{:?} is gone", String::from_utf8_lossy(needle));
    }
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn the_envelope_sees_every_member_of_the_corpus_as_it_is() {
    for Sample { name, bytes } in requests() {
        let envelope = Envelope::scan(&bytes).unwrap();
        let members = Members::read(&bytes).unwrap();
        assert_eq!(envelope.len(), members.0.len(), "{name}");
        for (field, value) in &members.0 {
            let Ok(found) = envelope.get(field) else {
                continue;
            };
            assert_eq!(found.unwrap().raw(), value.as_bytes(), "{name}: {field}");
        }
    }
}

#[test]
fn a_model_changed_and_changed_back_leaves_the_body_identical() {
    let mut changed = 0;
    for Sample { name, bytes } in requests() {
        let Some(before) = model(&bytes) else {
            continue;
        };
        for other in ["\"another/model-name:v1\"", "\"\"", "null"] {
            let there = spliced(&bytes, &[Edit::set("model", other)]);
            assert_eq!(model(&there).as_deref(), Some(other), "{name}");
            let back = spliced(&there, &[Edit::set("model", before.as_str())]);
            assert!(back == bytes, "{name} is not what it was");
        }
        changed += 1;
    }
    assert!(changed >= 25, "{changed}");
}

#[test]
fn a_field_added_and_removed_leaves_the_body_identical() {
    for Sample { name, bytes } in requests() {
        let there = spliced(&bytes, &[Edit::set("x-magpie", "{\"a\":[1]}")]);
        assert_eq!(there.len(), bytes.len() + if name == "empty_object.json" { 20 } else { 21 });
        let back = spliced(&there, &[Edit::remove("x-magpie")]);
        assert!(back == bytes, "{name} is not what it was");
    }
}

#[test]
fn members_that_are_not_edited_keep_their_digest() {
    let options = r#"{"include_usage":true}"#;
    for Sample { name, bytes } in requests() {
        let edits = [Edit::set("model", "\"upstream\""), Edit::set("stream_options", options)];
        let out = spliced(&bytes, &edits);
        let (before, after) = (Members::read(&bytes).unwrap(), Members::read(&out).unwrap());
        let edited = ["model", "stream_options"];
        assert_eq!(digests(&before.without(&edited)), digests(&after.without(&edited)), "{name}");
        let value = |field: &str| -> Vec<&str> {
            let named = after.0.iter().filter(|(name, _)| name == field);
            named.map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!(value("model"), ["\"upstream\""], "{name}");
        assert_eq!(value("stream_options"), [options], "{name}");
    }
}

#[test]
fn removing_members_one_by_one_keeps_the_digest_of_the_others() {
    for Sample { name, bytes } in requests() {
        let before = Members::read(&bytes).unwrap();
        for (field, _) in before.0.iter().take(20) {
            let out = spliced(&bytes, &[Edit::remove(field.as_str())]);
            let after =
                Members::read(&out).unwrap_or_else(|why| panic!("{name} without {field}: {why}"));
            assert_eq!(
                digests(&before.without(&[field])),
                digests(&after),
                "{name} without {field}"
            );
        }
    }
}

#[test]
fn a_cut_body_of_the_corpus_is_never_taken_for_a_whole_one() {
    for Sample { name, bytes } in requests() {
        let whole = bytes.trim_ascii_end().len();
        let step = (whole / 300).max(1);
        for cut in (0..whole).step_by(step).chain([whole - 1]) {
            assert!(Envelope::scan(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
        assert!(Envelope::scan(&bytes[..whole]).is_ok(), "{name}");
    }
}
