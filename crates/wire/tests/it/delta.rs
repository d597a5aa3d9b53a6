//! Chunks of a chat stream, taken apart.

use wire::delta::{Delta, delta};

fn read(choice: &str) -> Delta {
    delta(format!(r#"{{"id":"x","choices":[{choice}],"usage":null}}"#).as_bytes()).unwrap()
}

fn of(inner: &str) -> Delta {
    read(&format!(r#"{{"index":0,"delta":{inner},"finish_reason":null}}"#))
}

#[test]
fn text_is_found_where_it_stands() {
    let data = r#"{"choices":[{"delta":{"role":"assistant","content":"h\"\u00e9"}}]}"#.as_bytes();
    let read = delta(data).unwrap();
    assert_eq!(&data[read.content.clone().unwrap()], br#""h\"\u00e9""#);
    assert_eq!(
        &data[read.place.clone().unwrap()],
        r#"{"role":"assistant","content":"h\"\u00e9"}"#.as_bytes()
    );
    assert!(read.is_chunk && read.has_choice && read.has_role && read.has_text());
    assert!(!read.says_more && !read.finished && !read.reasons);
}

#[test]
fn what_only_names_the_role_says_nothing() {
    for inner in [
        "{}",
        r#"{"role":"assistant"}"#,
        r#"{"role":"assistant","content":null}"#,
        r#"{"role":"assistant","content":"","refusal":null,"tool_calls":[],"function_call":{},"reasoning_content":""}"#,
    ] {
        assert!(!of(inner).says_something(), "{inner}");
    }
}

#[test]
fn whatever_is_no_text_is_more() {
    for inner in [
        r#"{"tool_calls":[{"index":0}]}"#,
        r#"{"\u0074ool_calls":[{"index":0}]}"#,
        r#"{"function_call":{"name":"f"}}"#,
        r#"{"refusal":"no"}"#,
        r#"{"content":["x"]}"#,
        r#"{"content":{"a":1}}"#,
        r#"{"content":"a","content":"b"}"#,
        r#"{"audio":{"id":"x"}}"#,
    ] {
        assert!(of(inner).says_more, "{inner}");
    }
    for choice in [
        r#"{"index":1,"delta":{}}"#,
        r#"{"index":0,"delta":{}},{"index":0,"delta":{}}"#,
        r#"{"delta":{},"delta":{}}"#,
        r#"{"delta":{"content":"a"},"logprobs":{"content":[]}}"#,
        "null",
    ] {
        assert!(read(choice).says_more, "{choice}");
    }
    assert!(of(r#"{"reasoning_content":"hm"}"#).reasons);
    assert!(of(r#"{"reasoning_details":[{}]}"#).reasons);
    assert!(!of(r#"{"reasoning":null}"#).reasons);
}

#[test]
fn an_end_is_one_if_it_has_a_reason() {
    assert!(read(r#"{"delta":{},"finish_reason":"length"}"#).finished);
    for none in ["null", "\"\"", "\"null\""] {
        assert!(!read(&format!(r#"{{"delta":{{}},"finish_reason":{none}}}"#)).finished);
    }
}

#[test]
fn what_is_no_chunk_is_none_and_what_is_no_object_cannot_be_read() {
    assert!(!delta(br#"{"error":{"message":"x"}}"#).unwrap().is_chunk);
    let usage = delta(br#"{"choices":[],"usage":{}}"#).unwrap();
    assert!(usage.is_chunk && !usage.has_choice);
    for torn in ["", "[1]", "{", r#"{"choices":[{"delta":{"content":"x"#, "{} {}"] {
        assert!(delta(torn.as_bytes()).is_err(), "{torn}");
    }
    assert!(delta(b"{\"a\":\"\xff\"}").is_err());
}
