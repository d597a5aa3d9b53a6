//! Splicing does what was asked, and every other byte stays.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wire::splice::quoted;
use wire::{Edit, Envelope, splice};

use crate::corpus::Members;
use crate::strategies::{Object, known_name, object, value};

fn spliced(body: &str, edits: &[Edit<'_>]) -> String {
    let envelope = Envelope::scan(body.as_bytes()).unwrap();
    String::from_utf8(splice(&envelope, edits)).unwrap()
}

/// Random edits, each name once: `Some` sets, `None` removes.
fn plan() -> impl Strategy<Value = Vec<(&'static str, Option<String>)>> {
    let edit = (known_name(), prop::option::weighted(0.6, value()));
    vec(edit, 0..5).prop_map(|edits| {
        let mut seen: Vec<(&'static str, Option<String>)> = Vec::new();
        for (name, value) in edits {
            if seen.iter().all(|(other, _)| *other != name) {
                seen.push((name, value));
            }
        }
        seen
    })
}

fn edits(plan: &[(&'static str, Option<String>)]) -> Vec<Edit<'static>> {
    plan.iter()
        .map(|(name, value)| match value {
            Some(value) => Edit::set(*name, value.clone()),
            None => Edit::remove(*name),
        })
        .collect()
}

/// The members an object should have after the edits.
fn expected(object: &Object, plan: &[(&'static str, Option<String>)]) -> Members {
    let mut members = Vec::new();
    for member in &object.members {
        match plan.iter().find(|(name, _)| *name == member.name) {
            Some((_, None)) => {}
            Some((name, Some(value))) => members.push(((*name).to_owned(), value.clone())),
            None => members.push((member.name.to_owned(), member.value.clone())),
        }
    }
    for (name, value) in plan {
        let is_new = object.members.iter().all(|member| member.name != *name);
        if let (true, Some(value)) = (is_new, value) {
            members.push(((*name).to_owned(), value.clone()));
        }
    }
    Members(members)
}

/// Whether `parts` stand in `text` one behind the other.
fn stand_in_order<'a>(text: &str, parts: impl Iterator<Item = &'a str>) -> bool {
    let mut rest = text;
    parts.into_iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_result_is_the_edited_object(object in object(), plan in plan()) {
        let out = spliced(&object.text(), &edits(&plan));
        prop_assert_eq!(Members::read(out.as_bytes()).unwrap(), expected(&object, &plan), "{}", out);
        prop_assert!(Envelope::scan(out.as_bytes()).is_ok());
    }

    #[test]
    fn members_nobody_edits_keep_their_bytes_and_their_order(object in object(), plan in plan()) {
        let out = spliced(&object.text(), &edits(&plan));
        let untouched = object.members.iter()
            .filter(|member| plan.iter().all(|(name, _)| *name != member.name))
            .map(|member| format!("{}{}", member.head, member.value))
            .collect::<Vec<_>>();
        prop_assert!(stand_in_order(&out, untouched.iter().map(String::as_str)), "{}", out);
        prop_assert!(out.starts_with(&object.opening));
        prop_assert!(out.ends_with(&object.closing));
    }

    #[test]
    fn setting_changes_the_values_and_not_one_byte_more(object in object(), plan in plan()) {
        let plan: Vec<_> = plan.into_iter().filter(|(_, value)| value.is_some()).collect();
        let mut added: Vec<String> = Vec::new();
        for (name, value) in &plan {
            if object.members.iter().all(|member| member.name != *name) {
                added.push(format!("{}:{}", quoted(name), value.as_deref().unwrap()));
            }
        }
        let comma = if object.members.is_empty() || added.is_empty() { "" } else { "," };
        let value = |member: &crate::strategies::Member| {
            let set = plan.iter().find(|(name, _)| *name == member.name);
            set.map_or(&member.value, |(_, value)| value.as_ref().unwrap()).clone()
        };
        let wanted = object.text_with(value, &format!("{comma}{}", added.join(",")));
        prop_assert_eq!(spliced(&object.text(), &edits(&plan)), wanted);
    }

    #[test]
    fn removing_only_takes_bytes_away(object in object(), plan in plan()) {
        let plan: Vec<_> = plan.into_iter().map(|(name, _)| (name, None)).collect();
        let (text, doomed) = (object.text(), edits(&plan));
        let out = spliced(&text, &doomed);
        prop_assert!(stand_in_order(&text, out.split_inclusive(|_: char| true)), "{}", out);
        prop_assert_eq!(spliced(&out, &doomed), out.clone(), "a second removal finds nothing");
        if object.members.iter().all(|member| plan.iter().all(|(name, _)| *name != member.name)) {
            prop_assert_eq!(out, text, "there was nothing to remove");
        }
    }

    #[test]
    fn no_edits_change_nothing(object in object()) {
        prop_assert_eq!(spliced(&object.text(), &[]), object.text());
    }

    #[test]
    fn a_member_added_and_removed_again_leaves_no_trace(object in object(), value in value()) {
        let text = object.text();
        let longer = spliced(&text, &[Edit::set("brand new", value)]);
        prop_assert_ne!(&longer, &text);
        prop_assert_eq!(spliced(&longer, &[Edit::remove("brand new")]), text);
    }

    #[test]
    fn the_order_of_edits_only_orders_what_is_added(object in object(), plan in plan()) {
        let mut backwards = plan.clone();
        backwards.reverse();
        let sorted = |plan: &[(&'static str, Option<String>)]| {
            let out = spliced(&object.text(), &edits(plan));
            let mut members = Members::read(out.as_bytes()).unwrap().0;
            members.sort();
            members
        };
        prop_assert_eq!(sorted(&plan), sorted(&backwards));
    }

    #[test]
    fn serde_json_agrees_on_whole_values(
        members in vec((known_name(), any::<i32>()), 0..6), plan in plan(), pretty in any::<bool>()
    ) {
        let mut model: Map<String, Value> =
            members.iter().map(|(name, number)| ((*name).to_owned(), json!({"n": [number]}))).collect();
        let whole = Value::Object(model.clone());
        let text = if pretty { format!("{whole:#}") } else { whole.to_string() };
        let plan: Vec<_> = plan.into_iter().map(|(name, set)| (name, set.map(|_| "[ 1.5 ]".to_owned()))).collect();
        for (name, value) in &plan {
            match value {
                Some(_) => drop(model.insert((*name).to_owned(), json!([1.5]))),
                None => drop(model.shift_remove(*name)),
            }
        }
        let found: Value = serde_json::from_str(&spliced(&text, &edits(&plan))).unwrap();
        prop_assert_eq!(found.to_string(), Value::Object(model).to_string(), "order counts too");
    }
}

/// Every subset of the names gone, and every subset set at the same time: 3^4 plans.
#[test]
fn every_mix_of_kept_removed_and_set_members_is_right() {
    let names = ["a", "b", "c", "d"];
    let bodies = [
        r#"{"a":1,"b":2,"c":3,"d":4}"#,
        "\t{ \n\"a\" : 1 ,\r\n \"b\"\t:2\n,\"c\":\r3 , \"d\"  :  4 \n }\n ",
        "{\"a\":[ ]\n,\n\"b\":{ },\"c\":\"}\" ,\"d\":\",\"}",
        r#"{"x":0,"a":1,"b":2,"y":0,"c":3,"d":4,"z":0}"#,
        r#"{"a":1,"a":2,"b":1,"c":1,"b":2,"d":1,"a":3}"#,
    ];
    for body in bodies {
        let before = Members::read(body.as_bytes()).unwrap();
        for plan in 0..3_usize.pow(4) {
            let action = |place: u32| plan / 3_usize.pow(place) % 3;
            let actions: BTreeMap<&str, usize> =
                names.iter().zip(0..).map(|(name, place)| (*name, action(place))).collect();
            let edits: Vec<Edit<'_>> = actions
                .iter()
                .filter_map(|(name, action)| match action {
                    0 => None,
                    1 => Some(Edit::remove(*name)),
                    _ => Some(Edit::set(*name, "\"new\"")),
                })
                .collect();
            let mut wanted = before.clone();
            wanted.0.retain(|(name, _)| actions.get(name.as_str()) != Some(&1));
            for (name, value) in &mut wanted.0 {
                if actions.get(name.as_str()) == Some(&2) {
                    *value = "\"new\"".to_owned();
                }
            }
            let out = spliced(body, &edits);
            assert_eq!(Members::read(out.as_bytes()).unwrap(), wanted, "{actions:?} gave {out}");
        }
    }
}

#[test]
fn an_empty_object_gets_its_first_member_without_a_comma() {
    assert_eq!(spliced("{}", &[Edit::set("a", "1")]), r#"{"a":1}"#);
    assert_eq!(
        spliced(" { \n } ", &[Edit::set("a", "1"), Edit::set("b", "2")]),
        " {\"a\":1,\"b\":2 \n } "
    );
    assert_eq!(spliced("{}", &[Edit::remove("a")]), "{}");
    assert_eq!(spliced(r#"{"a":1}"#, &[Edit::remove("a"), Edit::set("b", "2")]), r#"{"b":2}"#);
    assert_eq!(
        spliced(r#"{"a":1,"a":2}"#, &[Edit::set("b", "2"), Edit::remove("a")]),
        r#"{"b":2}"#
    );
}

#[test]
fn each_removed_member_takes_one_comma_along() {
    let body = "{ \"a\": 1,\n  \"b\": 2,\n  \"c\": 3\n}";
    let without = |names: &[&'static str]| {
        let edits: Vec<Edit<'_>> = names.iter().map(|name| Edit::remove(*name)).collect();
        spliced(body, &edits)
    };
    assert_eq!(without(&["a"]), "{ \"b\": 2,\n  \"c\": 3\n}");
    assert_eq!(without(&["b"]), "{ \"a\": 1,\n  \"c\": 3\n}");
    assert_eq!(without(&["c"]), "{ \"a\": 1,\n  \"b\": 2\n}");
    assert_eq!(without(&["a", "b"]), "{ \"c\": 3\n}");
    assert_eq!(without(&["a", "c"]), "{ \"b\": 2\n}");
    assert_eq!(without(&["c", "b"]), "{ \"a\": 1\n}");
    assert_eq!(without(&["c", "a", "b"]), "{ \n}");
}

#[test]
fn members_are_found_in_any_spelling_and_the_spelling_stays() {
    let body = r#"{"mod\u0065l" : "a","x":1}"#;
    assert_eq!(spliced(body, &[Edit::set("model", "\"b\"")]), r#"{"mod\u0065l" : "b","x":1}"#);
    assert_eq!(spliced(body, &[Edit::remove("model")]), r#"{"x":1}"#);
}

#[test]
fn names_that_are_added_are_encoded() {
    let out = spliced("{}", &[Edit::set("a\"b\\c\n中\u{1}", "null")]);
    assert_eq!(out, "{\"a\\\"b\\\\c\\n中\\u0001\":null}");
    assert_eq!(quoted("</script>\u{7f}\u{2028}🎉"), "\"</script>\u{7f}\u{2028}🎉\"");
}

#[test]
fn a_member_that_stands_twice_is_set_at_both_places_and_removed_from_both() {
    let body = r#"{"seed":1,"x":0,"s\u0065ed":2,"seed":3}"#;
    assert_eq!(
        spliced(body, &[Edit::set("seed", "9")]),
        r#"{"seed":9,"x":0,"s\u0065ed":9,"seed":9}"#
    );
    assert_eq!(spliced(body, &[Edit::remove("seed")]), r#"{"x":0}"#);
}

#[test]
fn what_no_parser_would_write_back_the_same_survives() {
    let body = concat!(
        "{\"big\":123456789012345678901234567890,\"price\":1.10,\"zero\":-0,\"huge\":1e400,",
        "\"tiny\":1E-0400,\"cjk\":\"\\u4f60\\u597D\",\"slash\":\"a\\/b\",\"lone\":\"\\ud800\",",
        "\"model\":\"old\",\"ctl\":\"\u{7f}\u{2028}\",\r\n\t\"odd\" :\t[ 1 ,\n2 ] ,\"big\":2, \"\":{ } }\r\n"
    );
    let out = spliced(body, &[Edit::set("model", "\"new\"")]);
    assert_eq!(out, body.replace("\"old\"", "\"new\""));
    let out = spliced(body, &[Edit::remove("model")]);
    assert_eq!(out, body.replace(",\"model\":\"old\"", ""));
}

#[test]
fn a_value_set_may_be_longer_shorter_or_anything() {
    let long = quoted(&"x".repeat(100_000));
    for value in ["0", "{\n}", long.as_str(), "[[],{\"a\":\",\"}]"] {
        let out = spliced(r#"{"a":1,"b":"22","c":3}"#, &[Edit::set("b", value)]);
        assert_eq!(out, format!(r#"{{"a":1,"b":{value},"c":3}}"#));
    }
}
