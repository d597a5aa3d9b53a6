//! What providers' error codes mean, by status, words and message.

use std::collections::BTreeMap;

use policy::health::{Cause, Causes};
use proptest::prelude::*;

use crate::given::{provider, snapshot, told};

/// The causes of a built-in provider.
fn causes(profile: &str) -> Causes {
    let text = format!(
        "providers:\n  one: {{ profile: {profile}, api_key: k, base_url: http://127.0.0.1:9/v1 }}\n"
    );
    provider(&snapshot(&text), "one").causes.clone()
}

fn of(profile: &str, status: u16, words: &[&str], message: &str) -> Cause {
    causes(profile).of(status, words, Some(message)).unwrap()
}

#[test]
fn a_status_decides_where_nothing_else_does() {
    let none = Causes::default();
    for status in 400..=599 {
        assert_eq!(none.of(status, &["what"], Some("ever")), Cause::of_status(status), "{status}");
        assert_eq!(none.of(status, &[], None), Cause::of_status(status), "{status}");
    }
}

#[test]
fn words_of_all_providers_say_more_than_their_status() {
    for (status, word, cause) in [
        (400, "context_length_exceeded", Cause::ContextTooLong),
        (429, "insufficient_quota", Cause::Billing),
        (429, "rate_limit_exceeded", Cause::Throttled),
        (429, "engine_overloaded_error", Cause::Transient),
        (404, "model_not_found", Cause::ModelMissing),
        (404, "DeploymentNotFound", Cause::ModelMissing),
        (400, "content_filter", Cause::ContentPolicy),
        (400, "API_KEY_INVALID", Cause::BadCredential),
        (502, "RESOURCE_EXHAUSTED", Cause::Throttled),
        (502, "overloaded_error", Cause::Transient),
        (400, "Content_Policy_Violation", Cause::ContentPolicy),
    ] {
        let none = Causes::default();
        assert_eq!(none.of(status, &["x", word], None), Some(cause), "{status} {word}");
    }
}

#[test]
fn words_that_stand_over_anything_count_only_where_the_status_is_our_own() {
    let none = Causes::default();
    for (word, cause) in [
        ("invalid_request_error", Cause::CallersFault),
        ("INVALID_ARGUMENT", Cause::CallersFault),
        ("api_error", Cause::Transient),
    ] {
        assert_eq!(none.of(502, &[word], None), Some(cause), "{word}");
        for status in [400, 401, 402, 404, 429, 500, 503] {
            let told = none.of(status, &[word], None);
            assert_eq!(told, Cause::of_status(status), "{status} {word}");
        }
    }
}

#[test]
fn a_message_says_what_no_code_does_at_its_statuses_alone() {
    let none = Causes::default();
    for (statuses, message, cause) in [
        (
            &[400, 413, 422][..],
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            Cause::ContextTooLong,
        ),
        (
            &[400, 413, 422],
            "The input (5003 tokens) is longer than the model's context length (4096 tokens).",
            Cause::ContextTooLong,
        ),
        (
            &[400, 413, 422],
            "request (9001 tokens) exceeds the available context size (8192 tokens), try increasing it",
            Cause::ContextTooLong,
        ),
        (
            &[400, 413, 422],
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]",
            Cause::ContextTooLong,
        ),
        (&[400, 413, 422], "prompt is too long: 2 tokens > 1 maximum", Cause::ContextTooLong),
        (&[400, 413, 422], "invalid params, context window exceeds limit", Cause::ContextTooLong),
        (
            &[400, 413, 422],
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            Cause::ContextTooLong,
        ),
        (&[413], "Request too large for model `m` on tokens per minute", Cause::ContextTooLong),
        (&[404], "The model `x` does not exist.", Cause::ModelMissing),
        (&[404], "model \"x\" not found, try pulling it first", Cause::ModelMissing),
        (&[400, 403], "Your credit balance is too low to access the API.", Cause::Billing),
        (&[403], "You've reached your usage limit for this billing cycle.", Cause::Billing),
        (&[403], "Key limit exceeded (monthly limit).", Cause::Billing),
    ] {
        for status in (400..=429).chain(500..=504) {
            let wanted =
                if statuses.contains(&status) { Some(cause) } else { Cause::of_status(status) };
            assert_eq!(none.of(status, &[], Some(message)), wanted, "{status} {message}");
        }
    }
    for message in ["max_tokens is too large", "404 page not found", "no route", ""] {
        for status in [400, 404, 413, 422] {
            assert_eq!(none.of(status, &[], Some(message)), Some(Cause::CallersFault), "{message}");
        }
    }
}

#[test]
fn providers_say_what_their_own_codes_mean() {
    for (profile, status, words, cause) in [
        ("xinghe", 400, &["tokens_too_long"][..], Cause::ContextTooLong),
        ("xinghe", 400, &["336103"], Cause::ContextTooLong),
        ("xinghe", 429, &["rpm_rate_limit_exceeded", "rate_limit_exceeded"], Cause::Throttled),
        ("qianfan", 403, &["unsafe_request"], Cause::ContentPolicy),
        ("qianfan", 401, &["invalid_iam_token"], Cause::BadCredential),
        ("qianfan", 429, &["17"], Cause::Billing),
        ("qwen", 400, &["Arrearage"], Cause::Billing),
        ("qwen", 400, &["data_inspection_failed"], Cause::ContentPolicy),
        ("qwen-intl", 400, &["DataInspectionFailed"], Cause::ContentPolicy),
        ("qwen", 429, &["insufficient_quota"], Cause::Throttled),
        ("qwen", 429, &["Throttling.RateQuota"], Cause::Throttled),
        ("glm", 400, &["1261"], Cause::ContextTooLong),
        ("glm", 400, &["1301"], Cause::ContentPolicy),
        ("glm", 429, &["1113"], Cause::Billing),
        ("glm", 429, &["1302"], Cause::Throttled),
        ("zai", 429, &["1305"], Cause::Transient),
        ("ark", 403, &["AccountOverdueError", "Forbidden"], Cause::Billing),
        ("ark", 429, &["SetLimitExceeded"], Cause::Billing),
        ("ark", 429, &["ServerOverloaded"], Cause::Transient),
        ("ark", 429, &["RateLimitExceeded.EndpointRPMExceeded"], Cause::Throttled),
        ("ark", 404, &["InvalidEndpointOrModel.NotFound"], Cause::ModelMissing),
        ("ark", 400, &["InputTextSensitiveContentDetected.Violence"], Cause::ContentPolicy),
        ("minimax", 402, &["1008"], Cause::Billing),
        ("minimax", 400, &["1026"], Cause::ContentPolicy),
        ("minimax-intl", 429, &["2056"], Cause::Billing),
        ("openrouter", 402, &["402"], Cause::Billing),
        ("groq", 498, &[], Cause::Transient),
        ("siliconflow", 403, &["30001"], Cause::Billing),
        ("spark", 400, &["10907"], Cause::ContextTooLong),
        ("stepfun", 451, &[], Cause::ContentPolicy),
        ("nvidia", 410, &[], Cause::ModelMissing),
        ("deepseek", 402, &["invalid_request_error"], Cause::Billing),
        ("openai", 401, &["invalid_api_key", "invalid_request_error"], Cause::BadCredential),
        ("azure", 400, &["content_filter"], Cause::ContentPolicy),
        ("moonshot", 429, &["exceeded_current_quota_error"], Cause::Billing),
    ] {
        assert_eq!(of(profile, status, words, "m"), cause, "{profile} {status} {words:?}");
    }
}

#[test]
fn the_file_adds_to_the_profile_and_comes_first() {
    let text = "
providers:
  lab:
    profile: qwen
    api_key: k
    causes:
      insufficient_quota: billing
      418: hard_down
      Busy.*: transient
      busy.quota*: billing
";
    let snapshot = snapshot(text);
    let causes = &provider(&snapshot, "lab").causes;
    let of = |status, word| causes.of(status, &[word], None).unwrap();
    assert_eq!(of(429, "insufficient_quota"), Cause::Billing);
    assert_eq!(of(400, "Arrearage"), Cause::Billing);
    assert_eq!(of(418, "teapot"), Cause::HardDown);
    assert_eq!(of(429, "busy.hour"), Cause::Transient);
    assert_eq!(of(400, "Busy.QuotaOfADay"), Cause::Billing);
    assert_eq!(of(429, "Busy"), Cause::Throttled);
}

#[test]
fn an_unknown_cause_in_the_file_is_told_with_its_place() {
    let text = "providers:\n  lab:\n    causes:\n      busy: tired\n";
    let problems = policy::load(text, &policy::Environment::new()).err().unwrap();
    let told = told(&problems).join("\n");
    assert!(told.contains("tired") && told.contains("context_too_long"), "{told}");
}

proptest! {
    #[test]
    fn any_words_and_messages_are_of_some_cause(
        status in 400u16..600,
        words in proptest::collection::vec(".{0,20}", 0..4),
        message in proptest::option::of(".{0,4000}"),
        own in proptest::collection::btree_map("[a-zé*]{0,4}", Just(::providers::Cause::Billing), 0..4),
    ) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let causes = Causes::new(&own, &BTreeMap::new());
        prop_assert!(causes.of(status, &words, message.as_deref()).is_some());
    }
}
