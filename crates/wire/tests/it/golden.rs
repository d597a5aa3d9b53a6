//! Errors as they go over the wire, byte for byte.

use serde_json::Value;
use wire::dialects::openai_chat::{DONE, ErrorBody};
use wire::sse::{Framer, events};

const PLAIN: ErrorBody<'_> = ErrorBody {
    message: "The model `x` does not exist.",
    kind: "invalid_request_error",
    param: Some("model"),
    code: Some("model_not_found"),
    upstream: None,
};

#[test]
fn an_error_has_the_four_fields_of_the_dialect_in_their_order() {
    let wanted = r#"{"error":{"message":"The model `x` does not exist.","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#;
    assert_eq!(PLAIN.to_json(), wanted);
    assert_eq!(PLAIN.to_event(), format!("data: {wanted}\n\n"));
}

#[test]
fn what_is_not_known_is_null_and_not_absent() {
    let error =
        ErrorBody { message: "", kind: "server_error", param: None, code: None, upstream: None };
    let wanted = r#"{"error":{"message":"","type":"server_error","param":null,"code":null}}"#;
    assert_eq!(error.to_json(), wanted);
    assert_eq!(error.to_event(), format!("data: {wanted}\n\n"));
}

#[test]
fn text_is_escaped_wherever_it_stands() {
    let nasty = "\"quoted\" \\ back\r\nnext\u{0}\tdata: x\n\n\u{2028}你好🎉</script>";
    let error = ErrorBody {
        message: nasty,
        kind: "k\"",
        param: Some("p\n"),
        code: Some(""),
        upstream: None,
    };
    let wanted = concat!(
        r#"{"error":{"message":"\"quoted\" \\ back\r\nnext\u0000\tdata: x\n\n"#,
        "\u{2028}你好🎉</script>",
        r#"","type":"k\"","param":"p\n","code":""}}"#
    );
    assert_eq!(error.to_json(), wanted);
    assert_eq!(error.to_event(), format!("data: {wanted}\n\n"));
    let read: Value = serde_json::from_str(&error.to_json()).unwrap();
    assert_eq!(read["error"]["message"], nasty);
}

#[test]
fn the_providers_own_error_rides_along_untouched() {
    let upstream = r#"{ "error_code":336003,"error_msg":"\u8d85\/x","n":1e400,"big":123456789012345678901234567890 }"#;
    let error = ErrorBody { param: None, code: None, upstream: Some(upstream), ..PLAIN };
    let wanted = format!(
        r#"{{"error":{{"message":"The model `x` does not exist.","type":"invalid_request_error","param":null,"code":null,"upstream":{upstream}}}}}"#
    );
    assert_eq!(error.to_json(), wanted);
    assert_eq!(error.to_event(), format!("data: {wanted}\n\n"));
}

#[test]
fn an_upstream_error_of_many_lines_stays_on_one_line_of_data() {
    let upstream = "{\n  \"code\": 17,\r\n  \"msg\": \"a\\nb\"\r}";
    let error = ErrorBody { upstream: Some(upstream), ..PLAIN };
    assert!(error.to_json().contains(upstream), "a body may hold line ends");
    let event = error.to_event();
    assert!(
        event.ends_with(",\"upstream\":{   \"code\": 17,    \"msg\": \"a\\nb\" }}}\n\n"),
        "{event}"
    );
    assert_eq!(event.matches(['\n', '\r']).count(), 2, "only the blank line at the end");
    let plain: Value = serde_json::from_str(&error.to_json()).unwrap();
    let seen: Vec<_> = events(event.as_bytes()).collect();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].name, b"");
    let read: Value = serde_json::from_slice(seen[0].data.as_deref().unwrap()).unwrap();
    assert_eq!(read, plain);
}

#[test]
fn an_error_event_is_whole_and_reads_as_an_error_of_the_dialect() {
    let event = PLAIN.to_event();
    assert_eq!(Framer::default().complete(event.as_bytes()), event.len());
    let data = events(event.as_bytes()).next().unwrap().data.unwrap().into_owned();
    let seen = wire::reply::glance(&data, &[]).unwrap();
    assert!(seen.error && seen.error_is_openai && !seen.finished);
    let words = wire::reply::error_text(&data);
    assert_eq!(words.message.as_deref(), Some(PLAIN.message));
    assert_eq!(words.code.as_deref(), PLAIN.code);
}

#[test]
fn the_end_of_a_stream_is_said_as_the_sdks_expect() {
    assert_eq!(DONE, b"[DONE]");
}
