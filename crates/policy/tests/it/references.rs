//! `${NAME}` and `${NAME:-text}` in values.

use policy::{Environment, load};

use crate::given::{environment, snapshot_in, told};

/// What `listen` reads as, written with this value.
fn read(value: &str, environment: &Environment) -> Result<String, Vec<String>> {
    let text = format!("listen: {value}\n");
    load(&text, environment)
        .map(|config| config.listen.unwrap().value)
        .map_err(|problems| told(&problems))
}

#[test]
fn references_are_read_in_plain_and_quoted_values() {
    let variables = environment(&[("NAME", "value"), ("EMPTY", ""), ("_a1", "x")]);
    for (written, expected) in [
        ("${NAME}", "value"),
        ("\"${NAME}\"", "value"),
        ("'${NAME}'", "value"),
        ("http://${NAME}:80/${NAME}", "http://value:80/value"),
        ("\"a ${NAME}, b\"", "a value, b"),
        ("${_a1}", "x"),
        ("${NAME:-text}", "value"),
        ("${MISSING:-text}", "text"),
        ("${MISSING:-http://a/b?c}", "http://a/b?c"),
        ("\"${MISSING:-}\"", ""),
        ("${EMPTY:-text}", "text"),
        ("\"${EMPTY}\"", ""),
        ("${MISSING:-${NAME}}", "value"),
        ("\"$${NAME}\"", "${NAME}"),
    ] {
        assert_eq!(read(written, &variables).as_deref(), Ok(expected), "{written}");
    }
}

#[test]
fn a_dollar_that_begins_no_reference_is_a_dollar() {
    let variables = environment(&[("NAME", "value"), ("word", "value")]);
    for text in ["$NAME", "pa$word", "a$", "$ 5", "$1", "$-", "x$y$z", "^$|a"] {
        for written in [format!("'{text}'"), format!("\"{text}\""), text.to_owned()] {
            assert_eq!(read(&written, &variables).as_deref(), Ok(text), "{written}");
        }
    }
    assert_eq!(read("$NAME-${NAME}", &variables).as_deref(), Ok("$NAME-value"));
}

#[test]
fn a_reference_to_nothing_is_a_problem() {
    for written in ["${MISSING}", "\"${MISSING}\"", "'a ${MISSING} b'", "${MISSING:?say why}"] {
        let found = read(written, &Environment::new()).unwrap_err();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("1:9 the environment variable MISSING is not set"),
            "{found:?}"
        );
    }
}

#[test]
fn a_reference_that_is_none_is_a_problem() {
    for written in ["\"${}\"", "\"${a b}\"", "\"${NAME\"", "\"${1A}\"", "\"${a-b.c!}\""] {
        let found = read(written, &environment(&[("a", "x")]));
        if written.contains("a-b") {
            assert_eq!(found.as_deref(), Ok("x"), "a fallback may hold anything");
            continue;
        }
        let found = found.unwrap_err();
        assert!(found[0].starts_with("1:9 `${` begins no reference"), "{found:?}");
    }
}

#[test]
fn what_a_variable_holds_is_text_and_never_structure() {
    let nasty = "x\nopen: true\n# ${NAME} $NAME \" ' { [ : ,";
    let variables = environment(&[("NASTY", nasty), ("NAME", "value")]);
    for written in ["${NASTY}", "\"${NASTY}\"", "'${NASTY}'"] {
        assert_eq!(read(written, &variables).as_deref(), Ok(nasty), "{written}");
    }
}

#[test]
fn numbers_and_truths_may_come_from_variables() {
    let variables = environment(&[("N", "3"), ("T", "true"), ("F", "json")]);
    let text = "workers: ${N}\nopen: ${T}\nlog: { format: \"${F}\" }\n";
    let config = load(text, &variables).unwrap();
    assert_eq!(config.workers.unwrap().value, 3);
    assert!(config.open);
    assert_eq!(config.log.format, policy::config::LogFormat::Json);
}

#[test]
fn comments_refer_to_nothing() {
    let text = "# ${MISSING}\nopen: true # ${MISSING} too\n";
    assert!(load(text, &Environment::new()).unwrap().open);
}

#[test]
fn keys_of_providers_come_from_variables_in_every_style() {
    for text in [
        "providers:\n  openai:\n    api_key: ${MY_KEY}\n",
        "providers:\n  openai: { api_key: \"${MY_KEY}\" }\n",
        "providers: { openai: { api_key: '${MY_KEY}' } }\n",
        "providers:\n  openai:\n    api_key: |-\n      ${MY_KEY}\n",
    ] {
        let snapshot = snapshot_in(text, &[("MY_KEY", "sk-from-env-1")]);
        let provider = snapshot.provider("openai").unwrap();
        let credential = provider.credential.as_ref().unwrap().expose();
        assert_eq!(credential, "sk-from-env-1", "{text}");
    }
}

#[test]
fn a_variable_that_is_missing_is_told_once_for_each_place() {
    let text = "providers:\n  a: { profile: openai, api_key: \"${K}\" }\n  b:\n    profile: openai\n    api_key: ${K}\n";
    let found = told(&load(text, &Environment::new()).unwrap_err());
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("2:34 ") && found[1].starts_with("5:14 "), "{found:?}");
}
