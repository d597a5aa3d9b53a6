//! The envelope accepts what JSON is, held against `serde_json` on random text, and maps it right.

use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use wire::{Envelope, Kind, Problem};

use crate::corpus::Members;
use crate::strategies::{damage, object, space, value};

/// What [`Envelope::scan`] should say, by `serde_json`. `IgnoredAny` is the judge since it reads
/// nothing into numbers (`1e999` passes), surrogates (a lone `\ud800` passes) and depth (without
/// bound), as the envelope does not either. Where the two mean to differ is added here: UTF-8 is
/// checked everywhere, the value has to be an object, and 128 levels are the bound.
fn is_acceptable(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else {
        return false;
    };
    serde_json::from_str::<IgnoredAny>(text).is_ok()
        && text.trim_start().starts_with('{')
        && depth(text) <= 128
}

/// The deepest nesting of a valid JSON text.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The place of `offset` as an editor would show it, counted the simple way.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let lines: Vec<&str> = text[..offset].split('\n').collect();
    (lines.len(), lines[lines.len() - 1].chars().count() + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_json_object_is_accepted_and_its_members_are_found(object in object()) {
        let text = object.text();
        let envelope = Envelope::scan(text.as_bytes()).unwrap();
        prop_assert_eq!(envelope.len(), object.members.len());
        prop_assert_eq!(envelope.is_empty(), object.members.is_empty());
        for member in &object.members {
            prop_assert!(envelope.has(member.name));
            let same = object.members.iter().filter(|other| other.name == member.name).count();
            match envelope.get(member.name) {
                Ok(found) => {
                    prop_assert_eq!(same, 1);
                    prop_assert_eq!(found.unwrap().raw(), member.value.as_bytes());
                }
                Err(duplicate) => {
                    prop_assert!(same > 1);
                    prop_assert_eq!(&duplicate.name, member.name);
                }
            }
        }
    }

    #[test]
    fn any_json_value_is_accepted_if_it_is_an_object(value in value(), a in space(), b in space()) {
        let text = format!("{a}{value}{b}");
        let verdict = Envelope::scan(text.as_bytes());
        prop_assert_eq!(verdict.is_ok(), value.starts_with('{'));
        if let Err(fault) = verdict {
            prop_assert_eq!(fault.problem, Problem::NotAnObject);
            prop_assert_eq!(fault.offset, a.len());
        }
    }

    #[test]
    fn damaged_json_is_accepted_where_serde_json_accepts_it(
        object in object(), damages in vec(damage(), 1..4)
    ) {
        let mut body = object.text().into_bytes();
        damages.iter().for_each(|damage| damage.apply(&mut body));
        match Envelope::scan(&body) {
            Ok(envelope) => {
                prop_assert!(is_acceptable(&body), "accepted {:?}", String::from_utf8_lossy(&body));
                if let Ok(members) = Members::read(&body) {
                    prop_assert_eq!(envelope.len(), members.0.len());
                    for (name, value) in members.0 {
                        if let Ok(found) = envelope.get(&name) {
                            prop_assert_eq!(found.unwrap().raw(), value.as_bytes());
                        }
                    }
                }
            }
            Err(fault) => {
                prop_assert!(!is_acceptable(&body), "{} in {:?}", fault, String::from_utf8_lossy(&body));
                prop_assert!(fault.offset <= body.len());
                if let Ok(text) = std::str::from_utf8(&body) {
                    prop_assert_eq!((fault.line, fault.column), place(text, fault.offset));
                }
            }
        }
    }

    #[test]
    fn what_serde_json_makes_a_value_of_is_accepted(object in object(), damages in vec(damage(), 0..3)) {
        let mut body = object.text().into_bytes();
        damages.iter().for_each(|damage| damage.apply(&mut body));
        if let Ok(serde_json::Value::Object(_)) = serde_json::from_slice(&body) {
            prop_assert!(Envelope::scan(&body).is_ok());
        }
    }

    #[test]
    fn a_body_cut_short_is_said_to_end_too_early(object in object(), at in any::<prop::sample::Index>()) {
        let text = object.text();
        let whole = text.trim_end().len();
        let at = (0..=at.index(whole)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let problem = Envelope::scan(&text.as_bytes()[..at]).unwrap_err().problem;
        let opened = text[..at].contains('{');
        prop_assert_eq!(problem, if opened { Problem::Ended } else { Problem::Empty });
    }

    #[test]
    fn a_string_reads_as_serde_json_reads_it(text in crate::strategies::string()) {
        let body = format!(r#"{{"a":{text}}}"#);
        let envelope = Envelope::scan(body.as_bytes()).unwrap();
        let found = envelope.get("a").unwrap().unwrap();
        prop_assert_eq!(found.as_str().map(String::from), serde_json::from_str::<String>(&text).ok());
    }
}

#[test]
fn serde_json_makes_no_value_of_some_bodies_that_are_json() {
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    for (body, value_accepts) in [
        (r#"{"a":1e999}"#, false),
        (r#"{"a":"\ud800"}"#, false),
        (r#"{"\udc00":1}"#, false),
        (deep.as_str(), false),
        (r#"{"a":1}"#, true),
    ] {
        assert!(Envelope::scan(body.as_bytes()).is_ok(), "{body}");
        let value = serde_json::from_str::<serde_json::Value>(body);
        assert_eq!(value.is_ok(), value_accepts, "{body}");
    }
}

#[test]
fn values_tell_what_they_are() {
    let body = r#"{"n":null,"t":true,"f":false,"s":"a中\u0062","lone":"\ud800","e":"",
        "i":-12345678901234567890123,"x":1e400,"l":[ ],"L":[0],"o":{
        },"O":{"a":[]}}"#;
    let envelope = Envelope::scan(body.as_bytes()).unwrap();
    let get = |name| envelope.get(name).unwrap().unwrap();
    for (name, kind, noun) in [
        ("n", Kind::Null, "null"),
        ("t", Kind::Bool, "a boolean"),
        ("f", Kind::Bool, "a boolean"),
        ("s", Kind::String, "a string"),
        ("i", Kind::Number, "a number"),
        ("x", Kind::Number, "a number"),
        ("l", Kind::Array, "an array"),
        ("o", Kind::Object, "an object"),
    ] {
        assert_eq!(get(name).kind(), kind, "{name}");
        assert_eq!(get(name).kind().noun(), noun, "{name}");
    }
    assert_eq!(get("s").as_str().as_deref(), Some("a中b"));
    assert_eq!(get("e").as_str().as_deref(), Some(""));
    assert_eq!(get("lone").as_str(), None, "a lone surrogate is no text");
    assert_eq!(get("i").as_str(), None);
    assert_eq!(get("i").raw(), b"-12345678901234567890123");
    assert_eq!(
        ["t", "f", "n", "s"].map(|name| get(name).as_bool()),
        [Some(true), Some(false), None, None]
    );
    let empty = ["l", "L", "o", "O", "e", "n"].map(|name| get(name).is_empty());
    assert_eq!(empty, [true, false, true, false, false, false]);
}

#[test]
fn a_plain_string_is_borrowed_and_an_escaped_one_is_not() {
    let envelope = Envelope::scan(br#"{"a":"plain","b":"esc\u0061ped"}"#).unwrap();
    let text = |name| envelope.get(name).unwrap().unwrap().as_str().unwrap();
    assert!(matches!(text("a"), std::borrow::Cow::Borrowed("plain")));
    assert!(matches!(text("b"), std::borrow::Cow::Owned(text) if text == "escaped"));
}

#[test]
fn a_field_that_stands_twice_is_refused_in_whatever_spelling() {
    for body in [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","x":1,"mod\u0065l":"a"}"#,
        r#"{"\u006dodel":null,"mode\u006C":null}"#,
        r#"{"model":1,"model":1,"model":1}"#,
    ] {
        let envelope = Envelope::scan(body.as_bytes()).unwrap();
        assert_eq!(envelope.get("model").unwrap_err().name, "model", "{body}");
        assert!(envelope.has("model"));
        assert!(envelope.get("x").is_ok());
    }
    let one =
        Envelope::scan(br#"{"\u006dodel":"a","Model":1,"model ":2,"modell":3,"\ud800model":4}"#)
            .unwrap();
    assert_eq!(one.get("model").unwrap().unwrap().raw(), br#""a""#);
}

#[test]
fn names_inside_of_values_are_not_members() {
    let body = br#"{"a":{"model":1},"b":["model",{"model":2}],"c":"\"model\":3"}"#;
    let envelope = Envelope::scan(body).unwrap();
    assert!(!envelope.has("model"));
    assert!(envelope.get("model").unwrap().is_none());
    assert_eq!(envelope.body(), body);
}

#[test]
fn white_space_may_stand_between_any_two_tokens() {
    let tokens = [
        "{", r#""a""#, ":", "[", "1", ",", "{", r#""b""#, ":", "null", "}", "]", ",", r#""c""#,
        ":", "{", "}", "}",
    ];
    for space in [" ", "\t", "\n", "\r", "\r\n", " \t\n\r "] {
        let text = format!("{space}{}{space}", tokens.join(space));
        let envelope = Envelope::scan(text.as_bytes()).unwrap();
        assert_eq!(envelope.len(), 2);
        assert!(envelope.get("c").unwrap().unwrap().is_empty());
    }
}

/// `levels` objects or arrays inside each other, the outermost being the body.
fn nested(levels: usize, open: &str, close: &str) -> String {
    let inside = levels - 1;
    format!(r#"{{"a":{}1{}}}"#, open.repeat(inside), close.repeat(inside))
}

#[test]
fn the_bound_of_depth_is_128_levels() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), ("[1,true,", "]"), (r#"{"b":1,"a":"#, "}")]
    {
        for levels in [1, 2, 126, 127, 128] {
            let text = nested(levels, open, close);
            assert!(Envelope::scan(text.as_bytes()).is_ok(), "{levels} levels of {open}");
        }
        for levels in [129, 130, 1_000] {
            let text = nested(levels, open, close);
            let fault = Envelope::scan(text.as_bytes()).unwrap_err();
            assert_eq!(fault.problem, Problem::TooDeep(128), "{levels} levels of {open}");
        }
    }
    let empty = format!(r#"{{"a":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    assert!(Envelope::scan(empty.as_bytes()).is_ok(), "an empty array is a level too");
    let empty = format!(r#"{{"a":{}{}}}"#, "[".repeat(128), "]".repeat(128));
    let fault = Envelope::scan(empty.as_bytes()).unwrap_err();
    assert_eq!((fault.problem, fault.offset), (Problem::TooDeep(128), 5 + 127));
}

#[test]
fn a_bomb_of_brackets_is_refused_where_it_gets_too_deep() {
    for bracket in ["[", r#"{"a":"#] {
        let bomb = format!(r#"{{"a":{}"#, bracket.repeat(1_000_000));
        let fault = Envelope::scan(bomb.as_bytes()).unwrap_err();
        assert_eq!(fault.problem, Problem::TooDeep(128));
        assert_eq!(fault.offset, 5 + 127 * bracket.len());
    }
}

#[test]
fn depth_counts_levels_and_not_brackets() {
    let wide = format!(r#"{{"a":[{}0]}}"#, "[[]],{},".repeat(10_000));
    assert!(Envelope::scan(wide.as_bytes()).is_ok());
}

#[test]
fn ten_thousand_fields_are_the_bound_at_the_top_only() {
    let fields = |count: usize| -> String {
        let all: Vec<String> = (0..count).map(|place| format!("\"k{place}\":{place}")).collect();
        format!("{{{}}}", all.join(","))
    };
    let full = fields(10_000);
    let envelope = Envelope::scan(full.as_bytes()).unwrap();
    assert_eq!(envelope.len(), 10_000);
    assert_eq!(envelope.get("k9999").unwrap().unwrap().raw(), b"9999");
    let fault = Envelope::scan(fields(10_001).as_bytes()).unwrap_err();
    assert_eq!(fault.problem, Problem::TooManyFields(10_000));
    assert_eq!(&fields(10_001)[fault.offset..], r#""k10000":10000}"#);
    let inside = format!(r#"{{"a":{}}}"#, fields(10_001));
    assert!(Envelope::scan(inside.as_bytes()).is_ok());
}

#[test]
fn a_value_that_stands_elsewhere_is_a_whole_one() {
    for text in ["1", "-2.5e3", "\"a\\nb\"", "[1, {\"x\": null}]", "true", "null"] {
        let value = wire::Value::parse(text.as_bytes()).unwrap();
        assert_eq!(value.raw(), text.as_bytes());
    }
    for text in ["", "\"", "1 2", " 1", "[1", "tru", "{\"a\":}"] {
        assert!(wire::Value::parse(text.as_bytes()).is_none(), "{text}");
    }
    assert!(wire::Value::parse(b"\"\xff\"").is_none());
}
