//! A glance at a reply sees whether it ended, failed, or counted, in the shapes that providers
//! really send, and is blind to everything else.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::Usage;
use wire::reply::{Glance, Unreadable, error_text, glance};

use crate::corpus::samples;
use crate::reply_errors::mark;
use crate::strategies::{damage, object, value};

fn look(data: &str) -> Glance {
    glance(data.as_bytes(), &[]).unwrap_or_else(|_| panic!("unreadable: {data}"))
}

fn tokens(input: u64, output: u64) -> Option<Usage> {
    Some(Usage { input, output, ..Usage::default() })
}

#[test]
fn a_chunk_of_text_says_nothing_but_that_it_has_choices() {
    let chunk = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,
        "model":"gpt-4o","system_fingerprint":null,"choices":[{"index":0,"delta":{"content":
        "finish_reason usage error"},"logprobs":null,"finish_reason":null}],"usage":null}"#;
    let seen = look(chunk);
    let wanted = Glance {
        has_choices: true,
        has_choices_field: true,
        has_identity: true,
        choices: 1,
        text: seen.text.clone(),
        ..Glance::default()
    };
    assert_eq!(seen, wanted);
    assert_eq!(&chunk[seen.text.unwrap()], "\"finish_reason usage error\"");
}

#[test]
fn each_choice_finishes_for_itself() {
    for (choices, seen, finished) in [
        (r#"[{"index":0},{"index":2,"finish_reason":"stop"}]"#, 0b101, 0b100),
        (r#"[{"finish_reason":"stop"}]"#, 1, 1),
        (r#"[{"index":"x","finish_reason":"length"}]"#, 1, 1),
        (r#"[{"index":900,"finish_reason":"stop"}]"#, 1 << 63, 1 << 63),
    ] {
        let glance = look(&format!(r#"{{"choices":{choices}}}"#));
        assert_eq!((glance.choices, glance.finished_choices), (seen, finished), "{choices}");
    }
}

#[test]
fn an_error_of_nothing_but_nulls_is_none() {
    let quiet = r#"{"id":"ftjob-1","error":{"code":null,"message":null,"param":null}}"#;
    assert!(!look(quiet).error && look(quiet).has_identity);
    assert!(look(r#"{"error":{"code":null,"message":"no"}}"#).error);
}

#[test]
fn a_finish_reason_finishes_if_it_says_something() {
    for (reason, finished) in [
        ("null", false),
        (r#""""#, false),
        (r#""null""#, false),
        (r#""stop""#, true),
        (r#""length""#, true),
        (r#""tool_calls""#, true),
        (r#""content_filter""#, true),
        (r#""function_call""#, true),
    ] {
        let chunk =
            format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":{reason}}}]}}"#);
        assert_eq!(look(&chunk).finished, finished, "{reason}");
    }
}

#[test]
fn one_finished_choice_of_several_finishes() {
    let chunk =
        r#"{"choices":[{"index":1,"finish_reason":"stop"},{"index":0,"finish_reason":null}]}"#;
    assert!(look(chunk).finished);
}

#[test]
fn a_finish_reason_elsewhere_does_not_finish() {
    for chunk in [
        r#"{"finish_reason":"stop","choices":[{}]}"#,
        r#"{"choices":[{"delta":{"finish_reason":"stop"}}]}"#,
        r#"{"choices":[{"message":{"content":"\"finish_reason\":\"stop\""}}]}"#,
        r#"{"x":{"choices":[{"finish_reason":"stop"}]}}"#,
        r#"{"choices":[[{"finish_reason":"stop"}]]}"#,
    ] {
        assert!(!look(chunk).finished, "{chunk}");
    }
}

#[test]
fn usage_is_found_in_all_five_places() {
    let usage = r#"{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}"#;
    for (place, chunk) in [
        ("top", format!(r#"{{"choices":[],"usage":{usage}}}"#)),
        (
            "last content chunk",
            format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"stop"}}],"usage":{usage}}}"#),
        ),
        (
            "every chunk",
            format!(
                r#"{{"usage":{usage},"choices":[{{"delta":{{"content":"a"}},"finish_reason":null}}]}}"#
            ),
        ),
        (
            "choice",
            format!(r#"{{"choices":[{{"index":0,"finish_reason":"stop","usage":{usage}}}]}}"#),
        ),
        (
            "x_groq",
            format!(
                r#"{{"x_groq":{{"id":"req_1","usage":{usage}}},"choices":[{{"delta":{{}}}}]}}"#
            ),
        ),
    ] {
        assert_eq!(look(&chunk).usage, tokens(5, 2), "{place}");
    }
}

#[test]
fn usage_that_is_nothing_leaves_usage_from_elsewhere_alone() {
    let usage = r#"{"prompt_tokens":5,"completion_tokens":2}"#;
    for chunk in [
        format!(r#"{{"usage":null,"choices":[{{"usage":{usage}}}]}}"#),
        format!(r#"{{"choices":[{{"usage":{usage}}}],"usage":null}}"#),
        format!(r#"{{"usage":{usage},"x_groq":{{"id":"x"}},"choices":[{{"usage":null}}]}}"#),
        format!(r#"{{"x_groq":{{"usage":{usage}}},"usage":[]}}"#),
        format!(r#"{{"usage":{usage},"x_groq":null}}"#),
    ] {
        assert_eq!(look(&chunk).usage, tokens(5, 2), "{chunk}");
    }
    for nothing in ["null", "[]", "\"5\"", "5", "false"] {
        assert_eq!(look(&format!(r#"{{"usage":{nothing}}}"#)).usage, None, "{nothing}");
    }
}

#[test]
fn usage_deeper_down_is_not_the_usage_of_the_reply() {
    for chunk in [
        r#"{"choices":[{"delta":{"usage":{"prompt_tokens":5}}}]}"#,
        r#"{"response":{"usage":{"prompt_tokens":5}}}"#,
        r#"{"x_groq":{"x":{"usage":{"prompt_tokens":5}}}}"#,
    ] {
        assert_eq!(look(chunk).usage, None, "{chunk}");
    }
}

#[test]
fn the_extra_chunk_of_usage_is_the_one_with_choices_but_none_in_it() {
    let usage = r#""usage":{"prompt_tokens":5,"completion_tokens":2}"#;
    for (chunk, only) in [
        (format!(r#"{{"choices":[],{usage}}}"#), true),
        (format!(r#"{{{usage},"choices":[ ]}}"#), true),
        (format!(r#"{{"choices":null,{usage}}}"#), true),
        (format!(r"{{{usage}}}"), false),
        (format!(r#"{{"choices":[{{}}],{usage}}}"#), false),
        (r#"{"choices":[],"usage":null}"#.to_owned(), false),
        (r#"{"choices":[]}"#.to_owned(), false),
    ] {
        assert_eq!(look(&chunk).is_usage_only(), only, "{chunk}");
    }
}

#[test]
fn choices_may_be_null_absent_or_nonsense() {
    for (chunk, field, some) in [
        (r#"{"choices":null}"#, true, false),
        (r#"{"choices":[]}"#, true, false),
        ("{}", false, false),
        (r#"{"object":"embedding","data":[]}"#, false, false),
        (r#"{"choices":{}}"#, true, false),
        (r#"{"choices":{"0":{"finish_reason":"stop"}}}"#, true, false),
        (r#"{"choices":"none"}"#, true, false),
        (r#"{"choices":true}"#, true, false),
        (r#"{"choices":-1}"#, true, false),
        (r#"{"choices":1.5}"#, true, false),
        (r#"{"choices":18446744073709551615}"#, true, false),
        (r#"{"choices":[null]}"#, true, true),
        (r#"{"choices":["a",1,false,[[]],{"finish_reason":null}]}"#, true, true),
    ] {
        let wanted = Glance { has_choices_field: field, has_choices: some, ..Glance::default() };
        let told = look(chunk);
        let seen = Glance { has_identity: false, choices: 0, ..told };
        assert_eq!(seen, wanted, "{chunk}");
    }
}

#[test]
fn marks_do_not_hide_the_fields_of_the_dialect() {
    let marks = [mark("usage", None, None), mark("code", None, Some("200"))];
    let seen = glance(br#"{"code":200,"usage":{"prompt_tokens":1},"choices":[]}"#, &marks).unwrap();
    assert_eq!((seen.usage, seen.error), (tokens(1, 0), false));
}

#[test]
fn names_with_escapes_are_the_names_they_spell() {
    let chunk =
        r#"{"\u0063hoices":[{"finish\u005freason":"stop","us\u0061ge":{"prompt\u005ftokens":3}}]}"#;
    let seen = look(chunk);
    assert!(seen.finished && seen.has_choices);
    assert_eq!(seen.usage, tokens(3, 0));
    assert!(look(r#"{"\u0065rror":{"message":"m"}}"#).error_is_openai);
    let marks = [mark("错误", None, None)];
    assert!(glance(r#"{"\u9519\u8bef":1}"#.as_bytes(), &marks).unwrap().error);
}

#[test]
fn what_no_number_or_string_type_holds_does_not_disturb() {
    for chunk in [
        r#"{"created":1e400,"choices":[{"index":123456789012345678901234567890,"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"delta":{"content":"\ud83d"},"finish_reason":"stop"}],"x":"\udc00"}"#,
        r#"{"choices":[{"logprobs":{"content":[{"token":"\ud83d","logprob":-1e-400}]},"finish_reason":"stop"}]}"#,
        " \n{\"choices\" : [ { \"finish_reason\" : \"stop\" } ] }\r\n ",
    ] {
        let seen = look(chunk);
        assert!(seen.finished && seen.has_choices && !seen.error, "{chunk}");
    }
    let deep = format!(
        r#"{{"x":{}{},"choices":[{{"y":{}{}}}]}}"#,
        "[".repeat(100),
        "]".repeat(100),
        "[".repeat(100),
        "]".repeat(100)
    );
    assert!(look(&deep).has_choices);
}

#[test]
fn what_is_not_one_json_object_is_unreadable() {
    for data in [
        &b""[..],
        b" ",
        b"[DONE]",
        b"[]",
        b"[{\"error\":{\"message\":\"m\"}}]",
        b"null",
        b"\"text\"",
        b"<html>502 Bad Gateway</html>",
        b"{\"choices\":[{\"delta\":{\"content\":\"tor",
        b"{\"choices\":[]",
        b"{\"choices\":[]} {}",
        b"{\"choices\":[]}x",
        b"{\"choices\":[],}",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\xe4\xbd\"}",
        b"\xef\xbb\xbf{}",
        b"{\"a\":NaN}",
    ] {
        assert_eq!(glance(data, &[]), Err(Unreadable), "{:?}", String::from_utf8_lossy(data));
    }
}

#[test]
fn the_streams_of_the_corpus_end_and_count() {
    for sample in samples("openai_chat", "sse") {
        let name = sample.name.as_str();
        let seen: Vec<Glance> = wire::sse::events(&sample.bytes)
            .filter_map(|event| glance(&event.data?, &[]).ok())
            .collect();
        let finished = ["lf.sse", "crlf.sse", "cr.sse", "tool_calls.sse"].contains(&name);
        assert_eq!(seen.iter().any(|glance| glance.finished), finished, "{name}");
        let counted = seen.iter().find_map(|glance| glance.usage);
        assert_eq!(
            counted,
            if name.len() <= 8 && finished { tokens(5, 2) } else { None },
            "{name}"
        );
        let failed = ["error_in_stream.sse", "event_names.sse"].contains(&name);
        assert_eq!(seen.iter().any(|glance| glance.error_is_openai), failed, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_json_object_can_be_glanced_at(object in object()) {
        let text = object.text();
        let seen = glance(text.as_bytes(), &[]).unwrap();
        prop_assert_eq!(seen, Glance::default());
    }

    #[test]
    fn no_value_in_a_known_place_makes_a_reply_unreadable(value in value(), place in 0_usize..7) {
        let data = match place {
            0 => format!(r#"{{"usage":{value}}}"#),
            1 => format!(r#"{{"x_groq":{value}}}"#),
            2 => format!(r#"{{"x_groq":{{"usage":{value}}}}}"#),
            3 => format!(r#"{{"error":{value}}}"#),
            4 => format!(r#"{{"mark":{value},"outer":{{"inner":{value}}}}}"#),
            5 => format!(r#"{{"choices":[{{"finish_reason":{value},"usage":{value},"delta":{value}}}]}}"#),
            _ => format!(r#"{{"outer":{value}}}"#),
        };
        let marks = [mark("mark", None, None), mark("outer", Some("inner"), Some("0"))];
        prop_assert!(glance(data.as_bytes(), &marks).is_ok(), "{}", data);
    }

    #[test]
    fn nothing_makes_the_reader_panic(object in object(), damages in vec(damage(), 0..4)) {
        let mut data = format!(r#"{{"choices":[{0}],"usage":{0},"error":{0}}}"#, object.text()).into_bytes();
        damages.iter().for_each(|damage| damage.apply(&mut data));
        let readable = glance(&data, &[mark("model", Some("中"), None)]).is_ok();
        prop_assert!(!readable || std::str::from_utf8(&data).is_ok());
        let _ = error_text(&data);
    }
}
