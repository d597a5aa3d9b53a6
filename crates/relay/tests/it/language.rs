//! Hints in the language the client asks for, and the table of faults.

use relay::{Blame, Code, Fault, Language};

use crate::world::{World, chat, with_header};

/// Every code there is.
const CODES: [Code; 25] = [
    Code::InvalidJson,
    Code::InvalidField,
    Code::DuplicateField,
    Code::BodyTooLarge,
    Code::BodyTimeout,
    Code::BodyCut,
    Code::CompressedBody,
    Code::InvalidPath,
    Code::UnknownPath,
    Code::WrongMethod,
    Code::UnknownModel,
    Code::UnknownProvider,
    Code::NoProvider,
    Code::ForeignOrigin,
    Code::ForeignHost,
    Code::WebSocket,
    Code::Unreachable,
    Code::NoReply,
    Code::Truncated,
    Code::Malformed,
    Code::NotAStream,
    Code::ErrorInReply,
    Code::Redirect,
    Code::Timeout,
    Code::ShuttingDown,
];

#[test]
fn every_code_has_a_name_of_its_own_and_the_status_of_who_is_to_blame() {
    let mut names = std::collections::BTreeSet::new();
    for code in CODES {
        assert!(names.insert(code.name()), "{} stands twice", code.name());
        let status = code.status().as_u16();
        match code.blame() {
            Blame::Caller => assert!((400..500).contains(&status), "{code:?}"),
            Blame::Provider => assert!([502, 504].contains(&status), "{code:?}"),
            Blame::Magpie => assert_eq!(status, 503, "{code:?}"),
        }
    }
}

#[test]
fn every_fault_is_one_readable_object_and_one_event_in_both_languages() {
    for code in CODES {
        for language in [Language::En, Language::Zh] {
            let fault = Fault::new(code, "It \"broke\"\n你.").param("x\"y");
            let json: serde_json::Value = serde_json::from_str(&fault.to_json(language)).unwrap();
            let error = &json["error"];
            assert!(error["message"].as_str().unwrap().starts_with("It \"broke\"\n你."));
            assert_eq!(error["param"], "x\"y");
            assert_eq!(error["code"], code.name());
            let event = fault.to_event(language);
            let data = event.strip_prefix("data: ").unwrap();
            assert_eq!(data.find('\n'), Some(data.len() - 2), "one line: {event:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(data).unwrap(), json);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hints_come_in_the_language_the_client_asks_for() {
    for (accept, chinese) in [
        ("zh-CN,zh;q=0.9,en;q=0.8", true),
        ("ZH", true),
        ("en-US,en;q=0.9,zh;q=0.8", false),
        ("", false),
        ("*", false),
    ] {
        let world = World::lab([]);
        let request = with_header(chat("[]"), "accept-language", accept);
        let (_, error) = world.ask(request).await.error().await;
        let message = error["message"].as_str().unwrap();
        assert_eq!(message.contains("请发送一个 JSON 对象。"), chinese, "{accept}: {message}");
        assert_eq!(message.contains("Send one JSON object."), !chinese, "{message}");
        assert_eq!(error["code"], "invalid_json", "codes are for programs");
    }
}
