//! What the envelope says of a body it refuses: what is wrong, and where.

use wire::{Envelope, Problem};

fn fault(body: impl AsRef<[u8]>) -> (Problem, usize, usize) {
    let body = body.as_ref();
    let Err(fault) = Envelope::scan(body) else {
        panic!("accepted {:?}", String::from_utf8_lossy(body));
    };
    (fault.problem, fault.line, fault.column)
}

#[test]
fn a_body_of_nothing_is_empty() {
    assert_eq!(fault(""), (Problem::Empty, 1, 1));
    assert_eq!(fault(" "), (Problem::Empty, 1, 2));
    assert_eq!(fault(" \n\t\n "), (Problem::Empty, 3, 2));
}

#[test]
fn a_body_that_is_not_utf8_is_refused_wherever_the_fault_stands() {
    assert_eq!(fault(b"\xff{}"), (Problem::NotUtf8, 1, 1));
    assert_eq!(fault(b"{\"a\":\"\xe4\xbd\xa0\xc3\x28\"}"), (Problem::NotUtf8, 1, 8));
    assert_eq!(fault(b"{\"a\":\n\"\xed\xa0\x80\"}"), (Problem::NotUtf8, 2, 2));
    assert_eq!(fault(b"{\"a\":\"\xe4\xbd"), (Problem::NotUtf8, 1, 7));
    assert_eq!(fault(b"{\"a\":1}\xc0\x80"), (Problem::NotUtf8, 1, 8));
}

#[test]
fn json_other_than_an_object_is_no_object() {
    for body in ["[]", "null", "1", "\"{}\"", "true", "[{\"model\":1}]", "x", "\0", "}"] {
        assert_eq!(fault(body), (Problem::NotAnObject, 1, 1), "{body:?}");
    }
}

#[test]
fn a_byte_order_mark_is_refused() {
    assert_eq!(fault("\u{feff}{}"), (Problem::NotAnObject, 1, 1));
    assert_eq!(fault(" \u{feff}{}"), (Problem::NotAnObject, 1, 2));
    assert_eq!(fault("{\u{feff}}"), (Problem::ExpectedKey, 1, 2));
    assert_eq!(fault(b"\xff\xfe{\0}\0"), (Problem::NotUtf8, 1, 1), "UTF-16");
}

#[test]
fn a_body_that_stops_in_the_middle_has_ended() {
    for body in [
        "{",
        "{ ",
        "{\"",
        "{\"a",
        "{\"a\\",
        "{\"a\\u00",
        "{\"a\"",
        "{\"a\" ",
        "{\"a\":",
        "{\"a\": ",
        "{\"a\":1",
        "{\"a\":-",
        "{\"a\":1.",
        "{\"a\":1e",
        "{\"a\":1e+",
        "{\"a\":t",
        "{\"a\":fals",
        "{\"a\":nul",
        "{\"a\":\"",
        "{\"a\":[",
        "{\"a\":[1",
        "{\"a\":[1,",
        "{\"a\":{",
        "{\"a\":{}",
        "{\"a\":1,",
        "{\"a\":1, ",
        "{\"a\":{\"b\"",
        "{\"a\":{\"b\":1,",
    ] {
        assert_eq!(fault(body).0, Problem::Ended, "{body}");
    }
}

#[test]
fn a_missing_token_is_named() {
    assert_eq!(fault(r#"{"a" 1}"#), (Problem::Expected(':'), 1, 6));
    assert_eq!(fault(r#"{"a"}"#), (Problem::Expected(':'), 1, 5));
    assert_eq!(fault(r#"{"a":{"b",1}}"#), (Problem::Expected(':'), 1, 10));
    assert_eq!(fault(r#"{"a":1 "b":2}"#), (Problem::ExpectedCommaOr('}'), 1, 8));
    assert_eq!(fault(r#"{"a":1]"#), (Problem::ExpectedCommaOr('}'), 1, 7));
    assert_eq!(fault(r#"{"a":[1 2]}"#), (Problem::ExpectedCommaOr(']'), 1, 9));
    assert_eq!(fault(r#"{"a":[1}}"#), (Problem::ExpectedCommaOr(']'), 1, 8));
    assert_eq!(fault(r#"{"a":{"b":1]}"#), (Problem::ExpectedCommaOr('}'), 1, 12));
    assert_eq!(fault(r#"{"a":1/*note*/}"#), (Problem::ExpectedCommaOr('}'), 1, 7));
    assert_eq!(fault(r#"{"a":"x"y"}"#), (Problem::ExpectedCommaOr('}'), 1, 9));
    assert_eq!(fault(r#"{"a":truex}"#), (Problem::ExpectedCommaOr('}'), 1, 10));
    assert_eq!(fault(r#"{"a":0x10}"#), (Problem::ExpectedCommaOr('}'), 1, 7));
}

#[test]
fn a_name_has_to_stand_in_double_quotes() {
    assert_eq!(fault("{a:1}"), (Problem::ExpectedKey, 1, 2));
    assert_eq!(fault("{'a':1}"), (Problem::ExpectedKey, 1, 2));
    assert_eq!(fault("{1:1}"), (Problem::ExpectedKey, 1, 2));
    assert_eq!(fault("{,}"), (Problem::ExpectedKey, 1, 2));
    assert_eq!(fault(r#"{"a":1,}"#), (Problem::ExpectedKey, 1, 8));
    assert_eq!(fault(r#"{"a":1,,"b":1}"#), (Problem::ExpectedKey, 1, 8));
    assert_eq!(fault(r#"{"a":{"b":1,}}"#), (Problem::ExpectedKey, 1, 13));
    assert_eq!(fault("{\u{a0}\"a\":1}"), (Problem::ExpectedKey, 1, 2), "not JSON's white space");
    assert_eq!(fault("{\x0c\"a\":1}"), (Problem::ExpectedKey, 1, 2), "not JSON's white space");
}

#[test]
fn what_begins_no_value_is_no_value() {
    for value in [
        "",
        "NaN",
        "Infinity",
        "True",
        "None",
        "nil",
        "nulL",
        "tru ",
        "undefined",
        "'x'",
        "+1",
        ".5",
        "/",
        "\\",
        "//",
        "\u{4f60}",
        "\0",
        ",",
        ":",
    ] {
        assert_eq!(fault(format!(r#"{{"a":{value}}}"#)), (Problem::NotAValue, 1, 6), "{value:?}");
    }
    assert_eq!(fault(r#"{"a":[1,]}"#), (Problem::NotAValue, 1, 9));
    assert_eq!(fault(r#"{"a":[,1]}"#), (Problem::NotAValue, 1, 7));
}

#[test]
fn numbers_are_those_of_json() {
    for (number, column) in [
        ("01", 7),
        ("-01", 8),
        ("00", 7),
        ("1.", 8),
        ("1.e5", 8),
        ("-", 7),
        ("-a", 7),
        ("--1", 7),
        ("1e", 8),
        ("1e+", 9),
        ("1E-x", 9),
        ("-.5", 7),
    ] {
        assert_eq!(
            fault(format!(r#"{{"a":{number}}}"#)),
            (Problem::BadNumber, 1, column),
            "{number}"
        );
    }
    for number in ["0", "-0", "0.0", "10", "-1.5e-7", "1E+400", "0e0", "9".repeat(500).as_str()] {
        assert!(Envelope::scan(format!(r#"{{"a":{number}}}"#).as_bytes()).is_ok(), "{number}");
    }
}

#[test]
fn escapes_are_those_of_json() {
    for (text, column) in [
        (r"\x41", 8),
        (r"\'", 8),
        (r"\0", 8),
        (r"\U0041", 8),
        (r"\u12g4", 11),
        (r"\u00é0", 11),
        (r"ok\n\q", 12),
    ] {
        assert_eq!(
            fault(format!(r#"{{"a":"{text}"}}"#)),
            (Problem::BadEscape, 1, column),
            "{text}"
        );
        assert_eq!(fault(format!(r#"{{"{text}":1}}"#)).0, Problem::BadEscape, "{text}");
    }
    assert_eq!(fault(r#"{"a":"\u12"}"#).0, Problem::BadEscape);
    assert_eq!(fault("{\"a\":\"\\\n\"}").0, Problem::BadEscape);
    for text in [r#"\"\\\/\b\f\n\r\t"#, r"\u0000\uFFFF\uabCD", r"\ud800"] {
        assert!(Envelope::scan(format!(r#"{{"a":"{text}"}}"#).as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn control_characters_in_strings_are_refused_and_all_others_are_not() {
    for code in 0..0x20_u8 {
        let control = char::from(code);
        let body = format!("{{\"a\":\"xy{control}z\"}}");
        assert_eq!(fault(&body).0, Problem::ControlCharacter, "{code:#x}");
        assert_eq!(Envelope::scan(body.as_bytes()).unwrap_err().offset, 8, "{code:#x}");
        assert_eq!(fault(format!("{{\"x{control}\":1}}")).0, Problem::ControlCharacter);
    }
    for fine in ['\u{20}', '\u{7f}', '\u{80}', '\u{2028}', '\u{ffff}', '\u{10ffff}'] {
        assert!(Envelope::scan(format!("{{\"a\":\"{fine}\"}}").as_bytes()).is_ok(), "{fine:?}");
    }
}

#[test]
fn a_string_without_its_closing_quote_is_blamed_on_its_line_end() {
    assert_eq!(fault("{\"a\":\"open\n}"), (Problem::ControlCharacter, 1, 11));
    assert_eq!(fault("{\"a\":\"open,\n\"b\":1}"), (Problem::ControlCharacter, 1, 12));
    assert_eq!(fault("{\"a\":\"open}"), (Problem::Ended, 1, 12));
}

#[test]
fn nothing_may_follow_the_object() {
    assert_eq!(fault("{} x"), (Problem::Trailing, 1, 4));
    assert_eq!(fault("{}{}"), (Problem::Trailing, 1, 3));
    assert_eq!(fault("{}\n}"), (Problem::Trailing, 2, 1));
    assert_eq!(fault("{},"), (Problem::Trailing, 1, 3));
    assert_eq!(fault("{}\0"), (Problem::Trailing, 1, 3));
    assert_eq!(fault("{}\u{feff}"), (Problem::Trailing, 1, 3));
    assert!(Envelope::scan(b"{} \r\n\t ").is_ok());
}

#[test]
fn columns_count_characters_and_not_bytes() {
    assert_eq!(fault("{\"模型\": 你}"), (Problem::NotAValue, 1, 8));
    let body = "{\n  \"模型\": \"通义千问\",\n  \"消息\": [\"你好🎉\" 1]\n}\n";
    assert_eq!(fault(body), (Problem::ExpectedCommaOr(']'), 3, 16));
    assert_eq!(Envelope::scan(body.as_bytes()).unwrap_err().offset, body.find(" 1]").unwrap() + 1);
}

#[test]
fn the_sentence_names_fault_and_place() {
    for (body, sentence) in [
        ("", "the body is empty at line 1, column 1"),
        ("[]", "the body is not a JSON object at line 1, column 1"),
        ("{\n\"a\"", "the JSON ends too early at line 2, column 4"),
        ("{\n\"a\" 1}", "expected `:` at line 2, column 5"),
        ("{\"a\":1;}", "expected `,` or `}` at line 1, column 7"),
        ("{a}", "expected a name in double quotes at line 1, column 2"),
        ("{\"a\":}", "expected a JSON value at line 1, column 6"),
        ("{\"a\":1.}", "not a JSON number at line 1, column 8"),
        ("{\"a\":\"\\x\"}", "not a JSON escape at line 1, column 8"),
        ("{\"\t\":1}", "a control character in a string has to be escaped at line 1, column 3"),
        ("{} {}", "unexpected text after the JSON object at line 1, column 4"),
    ] {
        assert_eq!(Envelope::scan(body.as_bytes()).unwrap_err().to_string(), sentence);
    }
    assert_eq!(Problem::NotUtf8.to_string(), "the body is not UTF-8");
    assert_eq!(Problem::TooDeep(128).to_string(), "nested deeper than 128 levels");
    assert_eq!(Problem::TooManyFields(10_000).to_string(), "more than 10000 fields");
}
