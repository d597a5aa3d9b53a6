//! Errors in replies: which reply is one, and what it says, in every provider's shape.

use wire::reply::{ErrorMark, ErrorText, Glance, error_text, glance};

fn look(data: &str) -> Glance {
    glance(data.as_bytes(), &[]).unwrap_or_else(|_| panic!("unreadable: {data}"))
}

pub(crate) fn mark(field: &str, inner: Option<&str>, ok: Option<&str>) -> ErrorMark {
    ErrorMark { field: field.into(), inner: inner.map(Into::into), ok: ok.map(Into::into) }
}

#[test]
fn an_error_is_one_if_it_says_something() {
    for (error, is_error, is_openai) in [
        (r#"{"message":"m","type":"t","param":null,"code":null}"#, true, true),
        (r#"{"message":""}"#, true, true),
        (r#""overloaded""#, true, false),
        ("true", true, false),
        ("503", true, false),
        (r#"["a"]"#, true, false),
        ("null", false, false),
        (r#""""#, false, false),
        ("{}", false, false),
        ("false", false, false),
    ] {
        for chunk in [
            format!(r#"{{"error":{error}}}"#),
            format!(r#"{{"choices":[{{"delta":{{}}}}],"error": {error} }}"#),
        ] {
            let seen = look(&chunk);
            assert_eq!((seen.error, seen.error_is_openai), (is_error, is_openai), "{chunk}");
        }
    }
    assert!(!look(r#"{"choices":[{"error":{"message":"m"}}],"x":{"error":1}}"#).error);
}

#[test]
fn baidu_marks_errors_with_a_code_at_the_top() {
    let marks = [mark("error_code", None, Some("0"))];
    let is_error = |data: &str| glance(data.as_bytes(), &marks).unwrap().error;
    assert!(is_error(r#"{"error_code":336003,"error_msg":"the max length","id":"as-1"}"#));
    assert!(is_error(r#"{"id":"x","error_code":"17"}"#));
    assert!(!is_error(r#"{"error_code":0,"choices":[]}"#));
    assert!(!is_error(r#"{"error_code":null}"#));
    assert!(!is_error(r#"{"choices":[{"error_code":17}]}"#));
    assert!(!look(r#"{"error_code":336003}"#).error, "only who has the mark looks for it");
    assert!(!glance(br#"{"error_code":17}"#, &marks).unwrap().error_is_openai);
}

#[test]
fn minimax_marks_errors_with_a_code_inside() {
    let marks = [mark("x", None, None), mark("base_resp", Some("status_code"), Some("0"))];
    let is_error = |data: &str| glance(data.as_bytes(), &marks).unwrap().error;
    assert!(is_error(
        r#"{"choices":null,"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#
    ));
    assert!(is_error(r#"{"base_resp":{"status_msg":"\ud83d","n":1e400,"status_code": 1002 }}"#));
    assert!(!is_error(r#"{"choices":[],"base_resp":{"status_code": 0 ,"status_msg":""}}"#));
    assert!(!is_error(r#"{"base_resp":{"status_code":null}}"#));
    for nothing in ["{}", "null", "[]", "\"1004\"", "1004"] {
        assert!(!is_error(&format!(r#"{{"base_resp":{nothing}}}"#)), "{nothing}");
    }
    assert!(is_error(r#"{"x":{}}"#), "a mark without an ok value is met by any but null");
    assert!(!is_error(r#"{"x":null}"#));
}

fn words(message: Option<&str>, code: Option<&str>) -> ErrorText {
    ErrorText { message: message.map(Into::into), code: code.map(Into::into), kinds: Vec::new() }
}

/// Without the kinds, which have a test of their own.
fn message_and_code(body: &[u8]) -> ErrorText {
    ErrorText { kinds: Vec::new(), ..error_text(body) }
}

#[test]
fn the_words_of_an_error_are_found_in_every_vendors_shape() {
    for (vendor, body, message, code) in [
        (
            "OpenAI",
            r#"{"error":{"message":"No such model","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
            "No such model",
            "model_not_found",
        ),
        (
            "OpenAI without code",
            r#"{"error":{"message":"m","type":"server_error","code":null}}"#,
            "m",
            "server_error",
        ),
        ("OpenRouter", r#"{"error":{"message":"m","code":402},"user_id":"u"}"#, "m", "402"),
        ("Zhipu", r#"{"error":{"code":"1301","message":"内容不安全"}}"#, "内容不安全", "1301"),
        (
            "Gemini",
            "[{\n  \"error\": {\n \"code\": 400, \"message\": \"Unknown name\", \"status\": \"INVALID_ARGUMENT\" } }\n]",
            "Unknown name",
            "400",
        ),
        (
            "Baidu",
            r#"{"error_code":17,"error_msg":"Open api daily request limit reached","id":1}"#,
            "Open api daily request limit reached",
            "17",
        ),
        (
            "MiniMax",
            r#"{"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#,
            "login fail",
            "1004",
        ),
        (
            "DashScope",
            r#"{"code":"InvalidApiKey","message":"Invalid API-key","request_id":"r"}"#,
            "Invalid API-key",
            "InvalidApiKey",
        ),
        (
            "SiliconFlow",
            r#"{"code":20012,"message":"Model does not exist","data":null}"#,
            "Model does not exist",
            "20012",
        ),
        ("msg", r#"{"code":500,"msg":"系统错误","success":false}"#, "系统错误", "500"),
    ] {
        assert_eq!(message_and_code(body.as_bytes()), words(Some(message), Some(code)), "{vendor}");
    }
}

#[test]
fn the_kinds_of_an_error_are_told_the_most_telling_first() {
    for (vendor, body, kinds) in [
        (
            "OpenAI",
            r#"{"error":{"message":"m","type":"invalid_request_error","code":"model_not_found"}}"#,
            &["invalid_request_error"][..],
        ),
        (
            "Gemini",
            r#"[{"error":{"code":400,"status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.Help"},{"reason":"API_KEY_INVALID"}]}}]"#,
            &["API_KEY_INVALID", "INVALID_ARGUMENT"],
        ),
        (
            "Azure",
            r#"{"error":{"code":"content_filter","type":null,"status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            &["ResponsibleAIPolicyViolation", "400"],
        ),
        (
            "Anthropic",
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            &["overloaded_error"],
        ),
        (
            "vLLM of old",
            r#"{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}"#,
            &["BadRequestError"],
        ),
        ("a text", r#"{"error":"m","type":"t"}"#, &["t"]),
        ("nothing", r#"{"error":{"type":"","status":null,"details":{"reason":"r"}}}"#, &[]),
        ("no JSON", "<html>", &[]),
    ] {
        assert_eq!(error_text(body.as_bytes()).kinds, kinds, "{vendor}");
    }
    let many = vec![r#"{"reason":""}"#; 16].join(",");
    let body = format!(r#"{{"error":{{"details":[{many},{{"reason":"late"}}]}}}}"#);
    assert!(error_text(body.as_bytes()).kinds.is_empty(), "only so many are looked at");
}

#[test]
fn an_error_may_have_a_message_only_or_nothing() {
    for (body, wanted) in [
        (r#"{"error":"model not found"}"#, words(Some("model not found"), None)),
        (r#"{"detail":"Not Found"}"#, words(Some("Not Found"), None)),
        (r#"{"errors":[{"message":"first"},{"message":"second"}]}"#, words(Some("first"), None)),
        (r#"{"error":{"message":""},"message":"outer"}"#, words(Some("outer"), None)),
        (r#"{"error":{"message":"inner"},"message":"outer"}"#, words(Some("inner"), None)),
        (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, ErrorText::default()),
        (r#"{"error":null,"code":null}"#, ErrorText::default()),
        ("{}", ErrorText::default()),
        ("", ErrorText::default()),
        ("<html></html>", ErrorText::default()),
        (r#"{"error":{"message":"tor"#, ErrorText::default()),
    ] {
        assert_eq!(error_text(body.as_bytes()), wanted, "{body}");
    }
    assert_eq!(error_text(b"{\"error\":\"\xff\"}"), ErrorText::default());
}
