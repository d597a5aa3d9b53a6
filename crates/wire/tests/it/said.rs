//! What answers say, in every form they come in.

use proptest::prelude::*;
use serde_json::json;
use wire::said::said;

fn told(value: &serde_json::Value) -> (String, Option<String>) {
    let data = value.to_string();
    let said = said(data.as_bytes()).unwrap();
    (said.text.concat(), said.finish.map(String::from))
}

#[test]
fn the_first_choice_of_any_answer_is_read() {
    for (value, text, finish) in [
        (
            json!({"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}),
            "hi",
            None,
        ),
        (json!({"choices":[{"delta":{"role":"assistant"}}]}), "", None),
        (
            json!({"choices":[{"message":{"content":"a \"b\"\n"},"finish_reason":"stop"}]}),
            "a \"b\"\n",
            Some("stop"),
        ),
        (
            json!({"choices":[{"text":"on","index":0,"finish_reason":"length"}]}),
            "on",
            Some("length"),
        ),
        (
            json!({"choices":[{"message":{"content":[{"type":"text","text":"a"},7,{"text":"b"},{"url":"c"}]}}]}),
            "ab",
            None,
        ),
        (
            json!({"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"function":
                {"name":"look","arguments":"{}"}},{"function":{"arguments":"!"}}]}}]}),
            "look{}!",
            None,
        ),
        (json!({"choices":[{"delta":{"reasoning_content":"hm","content":""}}]}), "", None),
        (json!({"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":"stop"}]}), "", None),
        (
            json!({"choices":[{"index":0,"text":"a"},{"index":1,"text":"b","finish_reason":"stop"}]}),
            "a",
            None,
        ),
        (json!({"choices":[{"text":"","finish_reason":""}]}), "", None),
        (json!({"choices":[]}), "", None),
        (json!({"choices":{"text":"x"}}), "", None),
        (json!({"error":{"message":"no"}}), "", None),
    ] {
        assert_eq!(told(&value), (text.to_owned(), finish.map(String::from)), "{value}");
    }
}

#[test]
fn what_is_no_object_is_unreadable() {
    for data in ["", "[]", "7", "{", "{\"choices\":[{]}", "[DONE]"] {
        assert!(said(data.as_bytes()).is_err(), "{data}");
    }
    assert!(said(b"{\"a\":\"\xff\"}").is_err());
    // A lone surrogate is no text.
    assert_eq!(said(br#"{"choices":[{"text":"\ud800"}]}"#).unwrap().text.len(), 0);
}

proptest! {
    #[test]
    fn any_text_comes_out_as_it_went_in(text in ".{0,200}", name in "[a-z_]{1,20}") {
        let delta = json!({"choices":[{"index":0,"delta":{"content":text},"finish_reason":name}]});
        prop_assert_eq!(told(&delta), (text, Some(name)));
    }

    #[test]
    fn nothing_makes_it_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = said(&data);
    }
}
