//! Bodies and headers as providers send them, and as nobody should.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

use std::sync::OnceLock;

use http::{HeaderName, HeaderValue};
use policy::{Environment, Snapshot};
use proptest::prelude::*;
use wire::reply::error_text;

use super::*;
use crate::ports::UploadFault;

/// Sunday, 22 November 2026, 15:55:12 UTC.
const NOW: u64 = 1_795_362_912_000;

/// A provider of a built-in profile.
fn provider(profile: &str) -> std::sync::Arc<Provider> {
    static PROFILES: OnceLock<Vec<(String, providers::Profile)>> = OnceLock::new();
    let profiles = PROFILES.get_or_init(|| providers::builtin().unwrap());
    let text = format!(
        "providers:\n  one: {{ profile: {profile}, api_key: k, base_url: http://one.test/v1 }}\n"
    );
    let environment = Environment::new();
    let config = policy::load(&text, &environment).ok().unwrap();
    let snapshot: Snapshot = policy::build(&config, profiles, &environment).ok().unwrap();
    snapshot.providers.iter().find(|known| &*known.id == "one").unwrap().clone()
}

fn headers(named: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    named.iter().map(pair).collect()
}

/// What a body makes of it.
fn cause(status: StatusCode, body: &[u8], provider: &Provider) -> Option<Cause> {
    of_reply(status, &error_text(body), provider)
}

fn wait_of(headers: &HeaderMap, body: &[u8], unix_ms: u64) -> Option<Duration> {
    let value = serde_json::from_slice(body).unwrap_or_default();
    wait(headers, &value, &error_text(body), unix_ms)
}

fn waits(named: &[(&str, &str)], body: &str) -> Option<u64> {
    let wait = wait_of(&headers(named), body.as_bytes(), NOW);
    wait.map(|wait| u64::try_from(wait.as_millis()).unwrap())
}

#[test]
fn failures_of_a_connection_have_their_cause() {
    use FailureKind::{Connect, Cut, Dns, NoReply, Protocol, Refused, Stale, Tls, Upload};
    for (kinds, cause) in [
        (&[Dns, Connect, Tls][..], Cause::HardDown),
        (&[Stale, NoReply, Cut, Protocol], Cause::Transient),
        (
            &[Upload, Refused(UploadFault::TooLarge), Refused(UploadFault::TwoModels)],
            Cause::CallersFault,
        ),
    ] {
        assert!(kinds.iter().all(|kind| of_failure(*kind) == cause), "{cause:?}");
    }
}

/// Provider, status, body, and what it means.
#[rustfmt::skip] // a table
const REPLIES: &[(&str, u16, &str, Cause)] = &[
    ("openai", 400, r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#, Cause::ContextTooLong),
    ("openai", 400, r#"{"error":{"message":"Unsupported parameter","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#, Cause::CallersFault),
    ("openai", 401, r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#, Cause::BadCredential),
    ("openai", 401, r#"{"error":{"message":"You didn't provide an API key.","type":"invalid_request_error","param":null,"code":null}}"#, Cause::BadCredential),
    ("openai", 404, r#"{"error":{"message":"The model `gpt-9` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#, Cause::ModelMissing),
    ("openai", 404, r#"{"error":{"message":"No such File object: file-1","type":"invalid_request_error","param":"id","code":null}}"#, Cause::CallersFault),
    ("openai", 429, r#"{"error":{"message":"Rate limit reached for gpt-4.1","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#, Cause::Throttled),
    ("openai", 429, r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"credit_balance_exhausted"}}"#, Cause::Billing),
    ("openai", 500, r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#, Cause::Transient),
    ("azure", 400, r#"{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#, Cause::ContentPolicy),
    ("azure", 404, r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#, Cause::ModelMissing),
    ("openai-compatible", 529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Cause::Transient),
    ("openai-compatible", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#, Cause::ContextTooLong),
    ("openai-compatible", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#, Cause::Billing),
    ("openai-compatible", 404, r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#, Cause::ModelMissing),
    ("gemini", 400, r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}]"#, Cause::BadCredential),
    ("gemini", 429, r#"[{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED"}}]"#, Cause::Throttled),
    ("gemini", 503, r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#, Cause::Transient),
    ("xinghe", 429, r#"{"error":{"code":"rpm_rate_limit_exceeded","message":"Rate limit reached for RPM","type":"rate_limit_exceeded"},"id":"as-1"}"#, Cause::Throttled),
    ("xinghe", 200, r#"{"error_code":336103,"error_msg":"the length of the prompt is too long"}"#, Cause::ContextTooLong),
    ("xinghe", 200, r#"{"error_code":18,"error_msg":"Open api qps request limit reached"}"#, Cause::Throttled),
    ("xinghe", 200, r#"{"error_code":336100,"error_msg":"server is overloaded"}"#, Cause::Transient),
    ("qianfan", 200, r#"{"error_code":110,"error_msg":"Access token invalid"}"#, Cause::BadCredential),
    ("qianfan", 400, r#"{"error":{"code":"tokens_too_long","message":"the total length is too long","type":"invalid_request_error"},"id":"as-1"}"#, Cause::ContextTooLong),
    ("qwen", 400, r#"{"error":{"code":"data_inspection_failed","param":null,"message":"Input data may contain inappropriate content.","type":"data_inspection_failed"},"id":"chatcmpl-1"}"#, Cause::ContentPolicy),
    ("qwen", 400, r#"{"error":{"code":"invalid_parameter_error","param":null,"message":"Range of input length should be [1, 98304]","type":"invalid_request_error"}}"#, Cause::ContextTooLong),
    ("qwen", 403, r#"{"error":{"message":"The free tier of the model has been exhausted.","type":"AllocationQuota.FreeTierOnly","param":null,"code":"AllocationQuota.FreeTierOnly"}}"#, Cause::Billing),
    ("qwen", 400, r#"{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing.","request_id":"r"}"#, Cause::Billing),
    ("glm", 429, r#"{"error":{"code":"1113","message":"您的账户已欠费，请充值后重试。"}}"#, Cause::Billing),
    ("glm", 429, r#"{"error":{"code":"1302","message":"您当前使用该API的并发数过高"}}"#, Cause::Throttled),
    ("glm", 400, r#"{"error":{"code":"1301","message":"系统检测到输入或生成内容可能包含不安全或敏感内容"}}"#, Cause::ContentPolicy),
    ("zai", 400, r#"{"error":{"code":"1261","message":"Prompt exceeds max length"}}"#, Cause::ContextTooLong),
    ("deepseek", 402, r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#, Cause::Billing),
    ("deepseek", 400, r#"{"error":{"message":"This model's maximum context length is 131072 tokens. However, you requested 150000","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#, Cause::ContextTooLong),
    ("moonshot", 429, r#"{"error":{"type":"engine_overloaded_error","message":"The engine is currently overloaded, please try again later"}}"#, Cause::Transient),
    ("moonshot", 429, r#"{"error":{"type":"exceeded_current_quota_error","message":"Your account is suspended"}}"#, Cause::Billing),
    ("moonshot", 403, r#"{"error":{"type":"permission_error","message":"You've reached your usage limit for this billing cycle."}}"#, Cause::Billing),
    ("moonshot", 404, r#"{"error":{"message":"Not found the model kimi-9 or Permission denied","type":"resource_not_found_error"}}"#, Cause::ModelMissing),
    ("ark", 403, r#"{"error":{"code":"AccountOverdueError","message":"The request failed because your account has an overdue balance.","param":"","type":"Forbidden"}}"#, Cause::Billing),
    ("ark", 429, r#"{"error":{"code":"RateLimitExceeded.EndpointTPMExceeded","message":"The Tokens Per Minute limit was exceeded.","param":"","type":"TooManyRequests"}}"#, Cause::Throttled),
    ("ark", 400, r#"{"error":{"code":"InputTextSensitiveContentDetected","message":"The input text may contain sensitive information.","param":"input","type":"BadRequest"}}"#, Cause::ContentPolicy),
    ("ark", 404, r#"{"error":{"code":"InvalidEndpointOrModel.NotFound","message":"The model or endpoint m does not exist.","param":"","type":"NotFound"}}"#, Cause::ModelMissing),
    ("minimax", 200, r#"{"choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#, Cause::Billing),
    ("minimax", 200, r#"{"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#, Cause::Throttled),
    ("minimax", 200, r#"{"base_resp":{"status_code":1027,"status_msg":"output new_sensitive"}}"#, Cause::ContentPolicy),
    ("minimax", 200, r#"{"base_resp":{"status_code":2013,"status_msg":"invalid params, context window exceeds limit"}}"#, Cause::ContextTooLong),
    ("openrouter", 200, r#"{"error":{"code":402,"message":"Insufficient credits"}}"#, Cause::Billing),
    ("openrouter", 200, r#"{"error":{"code":429,"message":"m is temporarily rate-limited upstream"}}"#, Cause::Throttled),
    ("openrouter", 403, r#"{"error":{"code":403,"message":"m requires moderation on OpenRouter. Your input was flagged for \"x\"."}}"#, Cause::ContentPolicy),
    ("openrouter", 403, r#"{"error":{"code":403,"message":"Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys"}}"#, Cause::Billing),
    ("groq", 413, r#"{"error":{"message":"Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9000","type":"tokens","code":"rate_limit_exceeded"}}"#, Cause::ContextTooLong),
    ("groq", 498, r#"{"error":{"message":"Flex tier capacity exceeded"}}"#, Cause::Transient),
    ("siliconflow", 403, r#"{"code":30001,"message":"Sorry, your account balance is insufficient","data":null}"#, Cause::Billing),
    ("spark", 200, r#"{"code":10907,"message":"tokens exceed"}"#, Cause::ContextTooLong),
    ("stepfun", 451, r#"{"error":{"message":"censored","type":"censorship_blocked"}}"#, Cause::ContentPolicy),
    ("vllm", 400, r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}"#, Cause::ContextTooLong),
    ("vllm", 404, r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}}"#, Cause::ModelMissing),
    ("ollama", 404, r#"{"error":{"message":"model \"x\" not found, try pulling it first","type":"api_error","param":null,"code":null}}"#, Cause::ModelMissing),
    ("llamacpp", 400, r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_prompt_tokens":1407,"n_ctx":256}}"#, Cause::ContextTooLong),
    ("llamacpp", 503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#, Cause::Transient),
    ("openai-compatible", 200, r#"{"error":{"message":"m","type":"invalid_request_error"}}"#, Cause::CallersFault),
    ("openai-compatible", 200, r#"{"error":"what"}"#, Cause::Transient),
    ("openai-compatible", 502, "<html>502 Bad Gateway</html>", Cause::Transient),
    ("openai-compatible", 429, "", Cause::Throttled),
];

#[test]
fn error_replies_have_the_cause_that_their_provider_means() {
    for (profile, status, body, meant) in REPLIES {
        let status = StatusCode::from_u16(*status).unwrap();
        let told = cause(status, body.as_bytes(), &provider(profile));
        assert_eq!(told, Some(*meant), "{profile} {status} {body}");
    }
}

#[test]
fn a_reply_that_is_no_error_has_no_cause() {
    let lab = provider("openai-compatible");
    assert_eq!(cause(StatusCode::FOUND, b"", &lab), None);
    let setback = |status| Setback::of_reply(status, &HeaderMap::new(), b"", &lab, NOW);
    assert_eq!(setback(StatusCode::NOT_MODIFIED), None);
    let throttled = Setback { cause: Cause::Throttled, wait: None };
    assert_eq!(setback(StatusCode::TOO_MANY_REQUESTS), Some(throttled));
}

#[test]
fn headers_say_when_to_come_again_in_every_dialect() {
    for (named, ms) in [
        (&[("retry-after", "17")][..], Some(17_000)),
        (&[("retry-after", "0")], Some(0)),
        (&[("retry-after", "1.5")], Some(1_500)),
        (&[("retry-after", "20s")], Some(20_000)),
        (&[("retry-after", "1e9")], Some(300_000)),
        (&[("retry-after", "99999999999999999999999")], Some(300_000)),
        (&[("retry-after", "-1")], None),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "inf")], None),
        (&[("retry-after", "NaN")], None),
        (&[("retry-after", "")], None),
        (&[("retry-after", "Sun, 22 Nov 2026 15:55:42 GMT")], Some(30_000)),
        (&[("retry-after", "Sun, 22 Nov 2026 15:55:02 GMT")], Some(0)),
        (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(0)),
        (&[("retry-after", "Tue, 31 Dec 2999 23:59:59 GMT")], Some(300_000)),
        (&[("retry-after-ms", "120"), ("retry-after", "1")], Some(120)),
        (&[("retry-after-ms", "x"), ("retry-after", "1")], Some(1_000)),
        (
            &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "4m0s")],
            Some(240_000),
        ),
        (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "20ms")], Some(20)),
        (
            &[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "7.66s")],
            Some(7_660),
        ),
        (&[("x-ratelimit-remaining-tokens", "9"), ("x-ratelimit-reset-tokens", "20s")], None),
        (
            &[
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "9s"),
            ],
            Some(9_000),
        ),
        (
            &[
                ("anthropic-ratelimit-tokens-remaining", "0"),
                ("anthropic-ratelimit-tokens-reset", "2026-11-22T15:56:12Z"),
            ],
            Some(60_000),
        ),
        (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "50")], Some(50_000)),
        (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795362922000")], Some(10_000)),
        (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795362922")], Some(10_000)),
        (&[("x-ratelimit-remaining", "0")], None),
        (&[("ratelimit-reset", "50")], None),
    ] {
        assert_eq!(waits(named, ""), ms, "{named:?}");
    }
}

#[test]
fn bodies_say_when_to_come_again() {
    let google = |delay: &str| {
        format!(
            r#"{{"error":{{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[{{"@type":"type.googleapis.com/google.rpc.Help"}},{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{delay}}}]}}}}"#
        )
    };
    let says = |message: &str| serde_json::json!({"error": {"message": message}}).to_string();
    for (body, ms) in [
        (google("\"12s\""), Some(12_000)),
        (google("\"12.345678s\""), Some(12_346)),
        (format!("[{}]", google("\"7s\"")), Some(7_000)),
        (google("12"), None),
        (google("\"s\""), None),
        (
            says("Rate limit reached. Limit: 3 / min. Please try again in 20s. Visit ..."),
            Some(20_000),
        ),
        (says("Please try again in 2m0s."), Some(120_000)),
        (says("Please try again in 6m0s."), Some(300_000)),
        (says("please try again in 7.66s, or upgrade"), Some(7_660)),
        (says("try again in 125ms"), Some(125)),
        (says("Please retry in 56.42777108s."), Some(56_428)),
        (says("Please retry after 26 seconds."), Some(26_000)),
        (says("Please retry after 2 minutes."), Some(120_000)),
        (says("Please try again in a while."), None),
        (says("try again in "), None),
        (says("try again later"), None),
        (String::from("<html>"), None),
    ] {
        assert_eq!(waits(&[], &body), ms, "{body}");
    }
    assert_eq!(waits(&[("retry-after", "3")], &says("try again in 9s")), Some(3_000));
    assert_eq!(waits(&[("retry-after", "x")], &says("try again in 9s")), Some(9_000));
    let far = format!("{}try again in 9s", " ".repeat(3_000));
    assert_eq!(waits(&[], &says(&far)), None, "only so much of a message is read");
}

proptest! {
    #[test]
    fn no_value_makes_it_wait_for_longer_than_is_believed(
        after in "[ -~]{0,70}",
        figures in "-?[0-9]{0,40}(\\.[0-9]{0,40})?(e[0-9]{1,4})?(ns|us|ms|s|m|h|[0-9]){0,3}",
        body in proptest::collection::vec(any::<u8>(), 0..200),
        message in ".{0,60}",
        now in any::<u64>(),
    ) {
        for value in [&after, &figures] {
            let headers = headers(&[
                ("retry-after", value),
                ("retry-after-ms", &figures),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", value),
            ]);
            let said = serde_json::json!({"error": {
                "message": format!("try again in {figures} {message}"),
                "details": [{"@type": "RetryInfo", "retryDelay": figures}],
            }});
            for body in [body.clone(), said.to_string().into_bytes()] {
                for headers in [&headers, &HeaderMap::new()] {
                    let told = wait_of(headers, &body, now).unwrap_or_default();
                    prop_assert!(told <= Duration::from_secs(300), "{told:?}");
                }
            }
        }
    }

    #[test]
    fn any_reply_of_an_error_has_a_cause(
        status in 400u16..600,
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        prop_assert!(cause(status, &body, &provider("openai-compatible")).is_some());
    }

    #[test]
    fn a_duration_is_read_as_it_was_written(minutes in 0u64..4, seconds in 0u64..60, ms in 0u64..1000) {
        let written = format!("{minutes}m{seconds}s{ms}ms");
        let told = waits(&[("retry-after", &written)], "");
        prop_assert_eq!(told, Some(minutes * 60_000 + seconds * 1_000 + ms));
    }
}
